package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// shown gives all that is shown of a stack: its record, resources, events and
// the drift that was found last.
func (b *bench) shown(name string) string {
	b.t.Helper()
	s, err := b.engine.Stack(b.t.Context(), name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		b.t.Fatal(err)
	}
	resources, err := b.engine.Resources(b.t.Context(), name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		b.t.Fatal(err)
	}
	for i := range resources {
		resources[i].Attributes = nil // this platform tells all it is given
	}
	events, err := b.engine.Events(b.t.Context(), name, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	drift, err := b.store.List(b.t.Context(), "stack-drift", "local/"+name)
	if err != nil {
		b.t.Fatal(err)
	}
	raw, err := json.Marshal([]any{s, resources, events})
	if err != nil {
		b.t.Fatal(err)
	}
	all := string(raw)
	for _, d := range drift {
		all += string(d.Value)
	}
	return all
}

// wantNone says that a text holds none of the secrets.
func wantNone(t *testing.T, text string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("%s is shown in %s", secret, text)
		}
	}
}

// TestErrorsNameNoSecret has handlers say what they were given when they fail:
// nothing that is told or kept of it holds a secret, and its code and hint stay.
func TestErrorsNameNoSecret(t *testing.T) {
	const secrets = `{"Parameters":{"Word":{"Type":"CommaDelimitedList","NoEcho":true,"Default":"hunter2,hunter22"}},"Resources":{`
	const one = secrets + `"Thing":{"Type":"%s","Properties":{"MinSize":"1","MaxSize":"2","Word":{"Ref":"Word"},"Login":"{{resolve:secretsmanager:db}}","Kind":"%s"}%s}}}`
	const rolling = `,"UpdatePolicy":{"AutoScalingRollingUpdate":{"MinInstancesInService":"0"}}`
	before, after := fmt.Sprintf(one, "Test::Thing", "a", ""), fmt.Sprintf(one, "Test::Thing", "b", "")
	with := func(more string) string {
		return strings.TrimSuffix(after, "}}") + `,"Last":{"Type":"Test::Thing","DependsOn":"Thing"}` + more + "}}"
	}
	for name, test := range map[string]struct {
		action string // that fails
		before string
		do     func(b *bench) error
		quiet  bool // it is no error
	}{
		"check": {"check", "", func(b *bench) error {
			_, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app", Template: []byte(before)})
			return err
		}, false},
		"create": {"create", "", func(b *bench) error { return b.apply("app", before) }, false},
		"update": {"update", before, func(b *bench) error { return b.apply("app", after) }, false},
		"restore": {"create Last", before, func(b *bench) error {
			b.platform.On("create", "Last", func(context.Context, stack.Request) error { b.sayAll("update"); return errors.New("broken") })
			return b.apply("app", with(""))
		}, false},
		"delete":   {"delete", before, func(b *bench) error { return b.engine.Delete(t.Context(), "app", nil) }, false},
		"clean up": {"delete", before, func(b *bench) error { return b.apply("app", strings.Replace(before, `"Thing"`, `"Other"`, 1)) }, true},
		"read":     {"read", before, func(b *bench) error { _, err := b.settle(stack.ReportDrift); return err }, true},
		"repair": {"update", before, func(b *bench) error {
			b.platform.Change("Thing", map[string]any{"Kind": "c"})
			_, err := b.settle(stack.RepairDrift)
			return err
		}, false},
		"adopt": {"delete", before, func(b *bench) error {
			b.platform.Lose("Thing")
			_, err := b.settle(stack.AdoptDrift)
			return err
		}, false},
		"group": {"launch", fmt.Sprintf(strings.ReplaceAll(one, "Kind", "LaunchConfigurationName"), "AWS::AutoScaling::AutoScalingGroup", "a", rolling), func(b *bench) error {
			return b.apply("app", fmt.Sprintf(strings.ReplaceAll(one, "Kind", "LaunchConfigurationName"), "AWS::AutoScaling::AutoScalingGroup", "b", rolling))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.mustApply("base", `Resources: {S: {Type: "AWS::SecretsManager::Secret", Properties: {Name: db, SecretString: sesame}}}`)
			if test.before != "" {
				b.mustApply("app", test.before)
			}
			b.sayAll(test.action)
			err := test.do(b)
			if (err == nil) != test.quiet {
				t.Errorf("answered %v", err)
			}
			told := fmt.Sprint(err) + fault.HintOf(err) + b.shown("app")
			wantNone(t, told, "hunter2", "sesame")
			if !strings.Contains(told, "was given") || !strings.Contains(told, changeset.Masked) {
				t.Errorf("what the handler said is not told: %s", told)
			}
			if name == "check" && (!fault.Is(err, fault.Unavailable) || fault.HintOf(err) != "try without ****") {
				t.Errorf("answered %v of code %s with hint %s", err, fault.CodeOf(err), fault.HintOf(err))
			}
		})
	}
}

// sayAll has an action on Thing fail with all that it was given.
func (b *bench) sayAll(action string) {
	b.platform.On(action, "Thing", func(_ context.Context, r stack.Request) error {
		return fault.New(fault.Unavailable, "was given %v", r.Properties).WithHint("try without %v", r.Properties["Login"])
	})
}
