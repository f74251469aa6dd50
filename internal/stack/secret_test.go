package stack_test

import (
	"encoding/json"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

// TestSecrets hands a resource what a secret holds, and keeps it out of
// everything that is stored or shown.
func TestSecrets(t *testing.T) {
	b := newBench(t)
	b.mustApply("base", `Resources: {S: {Type: "AWS::SecretsManager::Secret", Properties: {Name: db, SecretString: '{"user":"ann","pin":1234}'}}}`)
	wants := func(reference string) string {
		return `Resources: {Thing: {Type: Test::Thing, Properties: {Login: "as {{resolve:secretsmanager:` + reference + `}}"}}}`
	}
	cs := b.plan("app", wants("db:SecretString:user"), nil)
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Fatal(err)
	}
	if got := b.things(); !strings.Contains(got, `Thing{"Login":"as ann"}`) {
		t.Errorf("what exists: %s", got)
	}
	if raw, err := json.Marshal(cs); err != nil || strings.Contains(string(raw), "ann") {
		t.Errorf("the change set holds the secret: %s (%v)", raw, err)
	}
	for _, kind := range []string{"stack-source", "stack-resource", "stack-change"} {
		entries, err := b.store.List(t.Context(), kind, "local/app")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			text := strings.ReplaceAll(string(e.Value), `"attributes":{"Login":"as ann"}`, "") // this platform tells all it is given
			if strings.Contains(text, "ann") {
				t.Errorf("%s holds the secret: %s", kind, e.Value)
			}
		}
	}
	if cs := b.plan("app", wants("db:SecretString:user"), nil); !cs.Empty() {
		t.Errorf("without change it plans %s", cs.Summary())
	}
	b.mustApply("app", wants("db:SecretString:pin"))
	if got := b.things(); !strings.Contains(got, `Thing{"Login":"as 1234"}`) {
		t.Errorf("what exists: %s", got)
	}
	b.mustApply("app", wants("db"))
	if got := b.things(); !strings.Contains(got, `\"user\":\"ann\"`) {
		t.Errorf("what exists: %s", got)
	}
	for reference, want := range map[string]string{
		"none":                            "Secrets Manager can't find the specified secret: none",
		"db:SecretString:city":            "secret db has no key city",
		"db:SecretString:user:AWSPENDING": "its current version alone",
	} {
		_, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "other", File: "other.yaml", Template: []byte(wants(reference))})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s answered %v", reference, err)
		}
	}
	// A secret that goes while it is needed fails the change, which goes back.
	cs = b.plan("late", wants("db"), nil)
	if err := b.engine.Delete(t.Context(), "base", nil); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Apply(t.Context(), cs, nil); !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "can't find the specified secret") {
		t.Errorf("answered %v", err)
	}
	b.wantStatus("late", stack.RollbackComplete)
}
