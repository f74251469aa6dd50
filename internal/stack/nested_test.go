package stack_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

const parent = `
Parameters: {Size: {Type: String, Default: small}}
Resources:
  First: {Type: "Test::Thing", Properties: {Value: SIZE}}
  Inner:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: parts/inner.yaml
      Parameters: {Of: !GetAtt First.Value, List: [a, b], Id: !Ref First}
  Last: {Type: "Test::Thing", Properties: {Name: !GetAtt Inner.Outputs.Name, Arn: !GetAtt Inner.Outputs.Arn}}
Outputs:
  Inner: {Value: !Ref Inner}
`

const inner = `
Parameters: {Of: {Type: String}, List: {Type: CommaDelimitedList}, Id: {Type: String}}
Resources:
  Queue: {Type: "AWS::SQS::Queue", Properties: {QueueName: QUEUE}}
  Thing: {Type: "Test::Thing", Properties: {Of: !Ref Of, Id: !Ref Id, Second: !Select [1, !Ref List], Arn: !GetAtt Queue.Arn}}
Outputs:
  Name: {Value: !GetAtt Queue.QueueName}
  Arn: {Value: !GetAtt Queue.Arn, Export: {Name: inner-arn}}
`

// family is a stack with a nested one, for a size and the name of a queue.
func family(size, queue string) changeset.Change {
	return changeset.Change{Stack: "app", File: "infra/app.yaml",
		Template: []byte(strings.ReplaceAll(parent, "SIZE", size)),
		Files:    map[string][]byte{"infra/parts/inner.yaml": []byte(strings.ReplaceAll(inner, "QUEUE", queue))}}
}

func (b *bench) planChange(c changeset.Change) *changeset.Set {
	b.t.Helper()
	cs, err := b.engine.Plan(b.t.Context(), c)
	if err != nil {
		b.t.Fatal(err)
	}
	return cs
}

func (b *bench) applyChange(c changeset.Change) error {
	b.t.Helper()
	return b.engine.Apply(b.t.Context(), b.planChange(c), b.listen)
}

// nested gives the one nested stack that exists.
func (b *bench) nested() stack.Stack {
	b.t.Helper()
	all, err := b.engine.Stacks(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(s stack.Stack) bool { return s.Root == "" })
	if len(all) != 1 {
		b.t.Fatalf("%d nested stacks exist", len(all))
	}
	return all[0]
}

func TestNestedPlan(t *testing.T) {
	b := newBench(t)
	var text strings.Builder
	if err := b.planChange(family("small", "one")).WriteText(&text); err != nil {
		t.Fatal(err)
	}
	want := `stack app in local: 4 to add
  +   First  Test::Thing
        Value: small
  +   Inner  AWS::CloudFormation::Stack
        Parameters: {"Id":(known after apply),"List":["a","b"],"Of":(known after apply)}
        TemplateURL: parts/inner.yaml
      nested stack Inner: 2 to add
        +   Queue  AWS::SQS::Queue
              QueueName: one
        +   Thing  Test::Thing
              Arn: (known after apply)
              Id: (known after apply)
              Of: (known after apply)
              Second: b
        outputs
        +   Arn: (known after apply)  (export inner-arn)
        +   Name: (known after apply)
  +   Last   Test::Thing
        Arn: (known after apply)
        Name: (known after apply)
  outputs
  +   Inner: (known after apply)
`
	if text.String() != want {
		t.Errorf("the plan is:\n%swant:\n%s", &text, want)
	}
}

func TestNestedLife(t *testing.T) {
	b := newBench(t)
	if err := b.applyChange(family("small", "one")); err != nil {
		t.Fatal(err)
	}
	s := b.nested()
	if s.Parent != "app" || s.Status != stack.CreateComplete || !strings.HasPrefix(s.Name, "app-Inner-") {
		t.Errorf("the nested stack is %+v", s)
	}
	if things := b.things(); !strings.Contains(things, `Last{"Arn":"`+s.Name+`-Queue-`) || !strings.Contains(things, `"Second":"b"`) {
		t.Errorf("what exists: %s", things)
	}
	if cs := b.planChange(family("small", "one")); !cs.Empty() {
		t.Errorf("without change it plans %s", cs.Summary())
	}

	// A change of the nested template alone: its queue is replaced, and the old
	// one goes after everything else.
	b.events = nil
	if err := b.applyChange(family("small", "two")); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.UpdateComplete)
	b.wantTransitions("Inner", "UPDATE_IN_PROGRESS UPDATE_COMPLETE")
	b.wantTransitions(s.Name, "UPDATE_IN_PROGRESS UPDATE_COMPLETE_CLEANUP_IN_PROGRESS UPDATE_COMPLETE")
	deleted := slices.IndexFunc(b.events, func(e stack.Event) bool { return e.LogicalID == "Queue" && e.Status == stack.DeleteInProgress })
	if last := slices.IndexFunc(b.events, func(e stack.Event) bool { return e.LogicalID == "Last" && e.Status == stack.UpdateComplete }); deleted < last {
		t.Errorf("the old queue goes at event %d, before the parent is updated at %d", deleted, last)
	}
	if things := b.things(); strings.Count(things, "Queue{") != 1 || !strings.Contains(things, `Last{"Arn":"`+s.Name+`-Queue-`) || !strings.Contains(things, `"Name":"two"`) {
		t.Errorf("what exists: %s", things)
	}
	if cs := b.planChange(family("small", "two")); !cs.Empty() {
		t.Errorf("without change it plans %s", cs.Summary())
	}

	for what, err := range map[string]error{
		"apply":   b.applyTo(s.Name),
		"delete":  b.engine.Delete(t.Context(), s.Name, nil),
		"protect": b.engine.Protect(t.Context(), s.Name, true),
	} {
		if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "is nested in app") {
			t.Errorf("%s of the nested stack answered %v", what, err)
		}
	}
	if err := b.engine.Delete(t.Context(), "app", nil); err != nil {
		t.Fatal(err)
	}
	if things := b.things(); things != "" {
		t.Errorf("after the delete there is %s", things)
	}
	b.wantStatus(s.Name, "gone")
}

func (b *bench) applyTo(name string) error {
	_, err := b.engine.Plan(b.t.Context(), changeset.Change{Stack: name, File: "x.yaml", Template: []byte(chain)})
	return err
}

// TestNestedGoesBack rolls a nested stack back with its parent: what was
// replaced in it is still there.
func TestNestedGoesBack(t *testing.T) {
	b := newBench(t)
	if err := b.applyChange(family("small", "one")); err != nil {
		t.Fatal(err)
	}
	before, s := b.platform.Things(), b.nested()
	b.platform.On("update", "Last", func(_ context.Context, r stack.Request) error {
		if r.Properties["Name"] == "two" {
			return errors.New("broken")
		}
		return nil
	})
	b.events = nil
	if err := b.applyChange(family("large", "two")); !fault.Is(err, fault.Failed) {
		t.Fatalf("answered %v", err)
	}
	b.wantStatus("app", stack.UpdateRollbackComplete)
	b.wantTransitions(s.Name, "UPDATE_IN_PROGRESS UPDATE_COMPLETE_CLEANUP_IN_PROGRESS UPDATE_ROLLBACK_IN_PROGRESS UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS UPDATE_ROLLBACK_COMPLETE")
	if after := b.platform.Things(); len(after) != len(before) || after[3].Token != before[3].Token {
		t.Errorf("what exists is\n%v, was\n%v", after, before)
	}
	outputs, err := b.engine.Outputs(t.Context(), s.Name)
	if err != nil || outputs["Name"] != "one" {
		t.Errorf("the nested stack's outputs are %v (%v)", outputs, err)
	}
	exports, err := b.engine.Exports(t.Context())
	if err != nil || len(exports) != 1 || exports[0].Value != outputs["Arn"] {
		t.Errorf("exports are %+v (%v)", exports, err)
	}
	b.platform.On("update", "Last", nil)
	again := b.planChange(family("large", "two"))
	if was := again.Nested["Inner"].Changes[0].BeforeContext["Properties"]; changeset.Show(was) != `{"QueueName":"one"}` {
		t.Errorf("the queue is said to have been %s", changeset.Show(was))
	}
	if err := b.engine.Apply(t.Context(), again, nil); err != nil {
		t.Error(err)
	}
	b.wantStatus(s.Name, stack.UpdateComplete)
}

// TestNestedExportTaken has another stack import what a nested one exports anew
// before its parent's update fails: the roll back fails with the reason, and is
// continued when the other is gone.
func TestNestedExportTaken(t *testing.T) {
	b := newBench(t)
	if err := b.applyChange(family("small", "one")); err != nil {
		t.Fatal(err)
	}
	s := b.nested()
	b.platform.On("update", "Last", func(_ context.Context, r stack.Request) error {
		if r.Properties["Name"] != "two" {
			return nil
		}
		b.mustApply("other", `{Resources: {Uses: {Type: "Test::Thing", Properties: {Arn: !ImportValue inner-arn}}}}`)
		return errors.New("broken")
	})
	if err := b.applyChange(family("large", "two")); !fault.Is(err, fault.Failed) {
		t.Errorf("answered %v", err)
	}
	if things := b.things(); strings.Count(things, "Queue{") != 2 {
		t.Errorf("there is %s, want the queue too that the other uses", things)
	}
	for _, name := range []string{"app", s.Name} {
		b.wantStatus(name, stack.UpdateRollbackFailed)
		if s, err := b.engine.Stack(t.Context(), name); err != nil || !strings.Contains(s.Reason, "Export inner-arn cannot be updated as it is in use by other") {
			t.Errorf("the reason of %s is %q (%v)", name, s.Reason, err)
		}
	}
	if err := b.engine.ContinueRollback(t.Context(), "app", nil, nil); !fault.Is(err, fault.Failed) {
		t.Errorf("continued while it is in use: %v", err)
	}
	if err := b.engine.ContinueRollback(t.Context(), "app", []string{"Inner.Queue"}, nil); !strings.HasPrefix(fault.HintOf(err), "no resource of stack "+s.Name+" failed: ") {
		t.Errorf("skipping what did not fail: %v", err)
	}
	if err := b.engine.Delete(t.Context(), "other", nil); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.ContinueRollback(t.Context(), "app", nil, nil); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.UpdateRollbackComplete)
	outputs, err := b.engine.Outputs(t.Context(), s.Name)
	if err != nil || outputs["Name"] != "one" {
		t.Errorf("the nested stack's outputs are %v (%v)", outputs, err)
	}
	b.platform.On("update", "Last", nil)
	if err := b.applyChange(family("large", "two")); err != nil {
		t.Error(err)
	}
}

// TestNestedFails rolls the parent back when its nested stack fails.
func TestNestedFails(t *testing.T) {
	b := newBench(t)
	b.platform.Fail("create", "Thing", errors.New("broken"))
	err := b.applyChange(family("small", "one"))
	if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "was not successfully created") || !strings.Contains(err.Error(), "broken") {
		t.Errorf("answered %v", err)
	}
	b.wantStatus("app", stack.RollbackComplete)
	if things := b.things(); things != "" {
		t.Errorf("there is %s", things)
	}
	b.platform.On("create", "Thing", nil)
	if err := b.applyChange(family("small", "one")); err != nil {
		t.Fatal(err)
	}
}

// TestNestedSkip continues a roll back without a resource of a nested stack.
func TestNestedSkip(t *testing.T) {
	b := newBench(t)
	if err := b.applyChange(family("small", "one")); err != nil {
		t.Fatal(err)
	}
	b.platform.On("update", "Thing", func(_ context.Context, r stack.Request) error {
		if r.Properties["Of"] == "small" {
			return errors.New("cannot go back")
		}
		return nil
	})
	b.platform.Fail("update", "Last", errors.New("broken"))
	if err := b.applyChange(family("large", "two")); !fault.Is(err, fault.Failed) {
		t.Fatalf("answered %v", err)
	}
	b.wantStatus("app", stack.UpdateRollbackFailed)
	b.wantStatus(b.nested().Name, stack.UpdateRollbackFailed)
	for wrong, hint := range map[string]string{
		"Inner.Queue": "skip those alone that failed: Inner.Thing",
		"Thing":       "skip those alone that failed: Inner, Last",
		"Inner":       "skip those alone that failed: Inner.Thing", // else it could never be updated again
		"First.Thing": "",
	} {
		err := b.engine.ContinueRollback(t.Context(), "app", []string{wrong}, nil)
		if !fault.Is(err, fault.Invalid) || fault.HintOf(err) != hint {
			t.Errorf("to skip %s answered %v, hint %q, want %q", wrong, err, fault.HintOf(err), hint)
		}
	}
	b.platform.On("update", "Last", nil)
	if err := b.engine.ContinueRollback(t.Context(), "app", []string{"Inner.Thing"}, nil); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.UpdateRollbackComplete)
	b.wantStatus(b.nested().Name, stack.UpdateRollbackComplete)
}

// TestNestedOpen applies a nested stack in which conditions go by what the
// parent makes.
func TestNestedOpen(t *testing.T) {
	b := newBench(t)
	c := family("small", "one")
	c.Files["infra/parts/inner.yaml"] = []byte(strings.Replace(string(c.Files["infra/parts/inner.yaml"]), "Resources:", `Conditions: {Small: !Equals [!Ref Of, small]}
Resources:
  Only: {Type: "Test::Thing", Condition: Small}`, 1))
	cs := b.planChange(c)
	if nested := cs.Nested["Inner"]; nested == nil || len(nested.Open) != 1 || nested.Open[0] != "Of" {
		t.Fatalf("the nested set is %+v", cs.Nested["Inner"])
	}
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Fatal(err)
	}
	if things := b.things(); !strings.Contains(things, "Only") {
		t.Errorf("there is %s", things)
	}
}

// TestNestedMistakes names what is wrong and where.
func TestNestedMistakes(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*changeset.Change)
		want   string
	}{
		"no file":        {func(c *changeset.Change) { c.Files = nil }, "infra/app.yaml:5:3: error: nested stack Inner: there is no template infra/parts/inner.yaml"},
		"mistake inside": {func(c *changeset.Change) { c.Files["infra/parts/inner.yaml"] = []byte("Resources: {A: {Typ: X}}") }, "infra/parts/inner.yaml:1:"},
		"parameter": {func(c *changeset.Change) {
			c.Template = []byte(strings.ReplaceAll(string(c.Template), "List: [a, b],", ""))
		}, "Parameters: [List] must have values"},
		"itself": {func(c *changeset.Change) {
			c.Files["infra/parts/inner.yaml"] = []byte("Resources: {A: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: inner.yaml}}}")
			c.Template = []byte("Resources: {A: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: parts/inner.yaml}}}")
		}, "stacks are nested more than 10 deep"},
		"output": {func(c *changeset.Change) {
			c.Template = []byte(strings.ReplaceAll(string(c.Template), "Outputs.Name", "Outputs.Nam"))
		}, "does not support attribute {Outputs.Nam}"},
		"location": {func(c *changeset.Change) {
			c.Template = []byte(strings.ReplaceAll(string(c.Template), "parts/inner.yaml", "ftp://x/y"))
		}, "TemplateURL must be a supported URL."},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			c := family("small", "one")
			test.change(&c)
			if _, err := b.engine.Plan(t.Context(), c); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("answered %v, want %s", err, test.want)
			}
		})
	}
}

// TestNestedFromBucket takes a template from where the platform has it.
func TestNestedFromBucket(t *testing.T) {
	b := newBench(t)
	b.platform.SetFragment("s3://templates/a/inner.yaml", strings.ReplaceAll(inner, "QUEUE", "one"))
	c := family("small", "one")
	c.Files = nil
	c.Template = []byte(strings.ReplaceAll(string(c.Template), "parts/inner.yaml", "https://templates.s3.eu-west-1.amazonaws.com/a/inner.yaml"))
	cs := b.planChange(c)
	b.platform.SetFragment("s3://templates/a/inner.yaml", "changed since")
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Fatal(err)
	}
	if b.nested().Status != stack.CreateComplete {
		t.Errorf("the nested stack is %s", b.nested().Status)
	}
}
