package stack_test

import (
	"errors"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/diag"
)

// TestParametersOfSystemsManager looks a value up that another stack has made:
// it is frozen in a change set, and looked up again by the next.
func TestParametersOfSystemsManager(t *testing.T) {
	const made = `Resources: {P: {Type: "AWS::SSM::Parameter", Properties: {Name: /db/size, Type: String, Value: VALUE}}}`
	for name, wants := range map[string]string{
		"parameter": `
Parameters: {Size: {Type: "AWS::SSM::Parameter::Value<String>", Default: /db/size}}
Resources: {Thing: {Type: Test::Thing, Properties: {Size: !Ref Size}}}
`,
		"dynamic reference": `Resources: {Thing: {Type: Test::Thing, Properties: {Size: "{{resolve:ssm:/db/size}}"}}}`,
	} {
		t.Run(name, func(t *testing.T) { lookedUp(t, made, wants) })
	}
	b := newBench(t)
	wants := func(reference string) changeset.Change {
		return changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(`Resources: {Thing: {Type: Test::Thing, Properties: {Size: "` + reference + `"}}}`)}
	}
	var list diag.List
	if _, err := b.engine.Plan(t.Context(), wants("{{resolve:ssm:/db/size:3}}")); !errors.As(err, &list) || !strings.Contains(err.Error(), "dynamic reference") {
		t.Errorf("a version that is not there answered %v", err)
	}
	b.platform.SetParameter("/db/size:3", "third")
	if err := b.applyChange(wants("{{resolve:ssm:/db/size:3}}")); err != nil || !strings.Contains(b.things(), "third") {
		t.Errorf("what exists: %s (%v)", b.things(), err)
	}
}

func lookedUp(t *testing.T, made, wants string) {
	b := newBench(t)
	var list diag.List
	if _, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(wants)}); !errors.As(err, &list) || !strings.Contains(err.Error(), "/db/size") {
		t.Errorf("without the parameter, plan answered %v", err)
	}
	b.mustApply("base", strings.Replace(made, "VALUE", "small", 1))
	cs := b.plan("app", wants, nil)
	b.mustApply("base", strings.Replace(made, "VALUE", "large", 1))
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Fatal(err)
	}
	if got := b.things(); !strings.Contains(got, `Thing{"Size":"small"}`) {
		t.Errorf("the value was not frozen: %s", got)
	}
	cs = b.plan("app", wants, nil)
	if len(cs.Changes) != 1 || cs.Changes[0].Details[0].ChangeSource != "DirectModification" {
		t.Errorf("the new value gives %+v", cs.Changes)
	}
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Fatal(err)
	}
	if got := b.things(); !strings.Contains(got, `Thing{"Size":"large"}`) {
		t.Errorf("the value was not looked up again: %s", got)
	}
}
