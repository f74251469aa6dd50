package stack_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/stack"
)

// base exports what its thing is, and the thing can be replaced.
func base(name string) string {
	return `
Resources:
  Queue: {Type: "AWS::SQS::Queue", Properties: {QueueName: ` + name + `}}
Outputs:
  Arn: {Value: !GetAtt Queue.Arn, Export: {Name: arn}}
  Name: {Value: !GetAtt Queue.QueueName, Export: {Name: name}}
`
}

const user = `
Resources:
  Reader: {Type: "Test::Thing", Properties: {Arn: !ImportValue arn}}
Outputs:
  Of: {Value: !GetAtt Reader.Arn, Export: {Name: of}}
`

const userOfUser = `
Resources:
  Last: {Type: "Test::Thing", Properties: {Of: !ImportValue of, Name: !ImportValue name}}
`

// planAll plans changes of several stacks.
func (b *bench) planAll(changes ...changeset.Change) ([]*changeset.Set, error) {
	wanted := map[string]changeset.Change{}
	var names []string
	for _, c := range changes {
		wanted[c.Stack], names = c, append(names, c.Stack)
	}
	return b.engine.PlanAll(b.t.Context(), names, func(name string, _ stack.OutputOf) (changeset.Change, error) { return wanted[name], nil })
}

// together plans and applies several stacks, given as name and template in
// turn, and gives the order in which the plan wants them.
func (b *bench) together(pairs ...string) (order string, err error) {
	b.t.Helper()
	var changes []changeset.Change
	for i := 0; i < len(pairs); i += 2 {
		changes = append(changes, changeset.Change{Stack: pairs[i], File: pairs[i] + ".yaml", Template: []byte(pairs[i+1])})
	}
	sets, err := b.planAll(changes...)
	if err != nil {
		return "", err
	}
	for _, cs := range sets {
		order += cs.Stack + " "
	}
	for _, cs := range sets {
		if err := b.engine.Apply(b.t.Context(), cs, b.listen); err != nil {
			return order, err
		}
	}
	return order, nil
}

func (b *bench) mustTogether(pairs ...string) string {
	b.t.Helper()
	order, err := b.together(pairs...)
	if err != nil {
		b.t.Fatal(err)
	}
	return order
}

// TestPlanAllOfNothing plans three stacks that import from one another and of
// which none exists yet.
func TestPlanAllOfNothing(t *testing.T) {
	b := newBench(t)
	changes := []changeset.Change{
		{Stack: "last", File: "last.yaml", Template: []byte(userOfUser)},
		{Stack: "user", File: "user.yaml", Template: []byte(user)},
		{Stack: "base", File: "base.yaml", Template: []byte(base("one"))},
	}
	sets, err := b.planAll(changes...)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, cs := range sets {
		if err := cs.WriteText(&text); err != nil {
			t.Fatal(err)
		}
	}
	want := `stack base in local: 1 to add
  +   Queue  AWS::SQS::Queue
        QueueName: one
  outputs
  +   Arn: (known after apply)  (export arn)
  +   Name: (known after apply)  (export name)
stack user in local: 1 to add
  +   Reader  Test::Thing
        Arn: (known after apply)
  outputs
  +   Of: (known after apply)  (export of)
stack last in local: 1 to add
  +   Last  Test::Thing
        Name: (known after apply)
        Of: (known after apply)
`
	if text.String() != want {
		t.Errorf("the plan is:\n%swant:\n%s", &text, want)
	}
	if err := b.engine.Apply(t.Context(), sets[1], nil); err == nil || !strings.Contains(err.Error(), "No export named arn found") {
		t.Errorf("applying the second before the first answered %v", err)
	}
	b.wantStatus("user", "gone")
	for _, cs := range sets {
		if err := b.engine.Apply(t.Context(), cs, b.listen); err != nil {
			t.Fatal(err)
		}
	}
	if last := b.things(); !strings.Contains(last, `Last{"Name":"one","Of":"base-Queue-`) {
		t.Errorf("what exists: %s", last)
	}
	// What was planned with the others and what is planned now is the same.
	sets, err = b.planAll(changes...)
	if err != nil {
		t.Fatal(err)
	}
	for _, cs := range sets {
		if !cs.Empty() {
			t.Errorf("a second plan of %s has %s", cs.Stack, cs.Summary())
		}
	}
}

// TestJointDigest plans a change again after the other was applied: with what
// it was planned with, it has the digest that was approved.
func TestJointDigest(t *testing.T) {
	b := newBench(t)
	changes := []changeset.Change{
		{Stack: "base", File: "base.yaml", Template: []byte(base("one"))},
		{Stack: "user", File: "user.yaml", Template: []byte(user)},
	}
	sets, err := b.planAll(changes...)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Apply(t.Context(), sets[0], nil); err != nil {
		t.Fatal(err)
	}
	again, err := b.engine.Plan(t.Context(), changes[1])
	if err != nil || again.Digest == sets[1].Digest {
		t.Errorf("planned alone, it has the digest %s, as before (%v)", again.Digest, err)
	}
	changes[1].Joint = sets[1].Change.Joint
	if again, err = b.engine.Plan(t.Context(), changes[1]); err != nil || again.Digest != sets[1].Digest {
		t.Errorf("planned as a part, it has another digest (%v)", err)
	}
}

// TestExportChangesInUse changes what an export names while another stack uses
// it: the old thing stays until that one has moved.
func TestExportChangesInUse(t *testing.T) {
	b := newBench(t)
	b.mustTogether("base", base("one"), "user", user)
	b.events = nil
	_, err := b.together("base", base("two"))
	if err == nil {
		t.Fatal("an export was changed under its user")
	}
	if !strings.Contains(err.Error(), "Export arn cannot be updated as it is in use by user") {
		t.Errorf("alone it answered %v", err)
	}
	if order := b.mustTogether("user", user, "base", base("two")); order != "base user " {
		t.Errorf("the order is %s", order)
	}
	b.wantStatus("base", stack.UpdateComplete)
	b.wantStatus("user", stack.UpdateComplete)
	// The old queue goes after the reader has moved, not before.
	var seen []string
	for _, e := range b.events {
		if e.LogicalID == "Reader" && e.Status == stack.UpdateComplete || e.LogicalID == "Queue" && e.Status == stack.DeleteInProgress {
			seen = append(seen, e.LogicalID)
		}
	}
	if got := strings.Join(seen, " "); got != "Queue Reader Queue" { // the first try alone rolled its own new queue back
		t.Errorf("order of deletes and moves is %q", got)
	}
	if n := strings.Count(b.things(), "Queue{"); n != 1 {
		t.Errorf("%d queues exist: %s", n, b.things())
	}
	if exports, err := b.engine.Exports(t.Context()); err != nil || exports[0].Held || exports[0].Leaving {
		t.Errorf("exports are %+v (%v)", exports, err)
	}
}

// TestExportUserFails keeps what a stack still uses that could not move, over
// further changes of the exporter, and lets it go when it has moved.
func TestExportUserFails(t *testing.T) {
	b := newBench(t)
	b.mustTogether("base", base("one"), "user", user)
	broken := errors.New("broken")
	b.platform.On("update", "Reader", func(context.Context, stack.Request) (err error) {
		err, broken = broken, nil // the first time alone, so that it can be rolled back
		return err
	})
	if _, err := b.together("base", base("two"), "user", user); !fault.Is(err, fault.Failed) {
		t.Fatalf("answered %v", err)
	}
	b.wantStatus("base", stack.UpdateComplete)
	b.wantStatus("user", stack.UpdateRollbackComplete)
	queues := func() int { return strings.Count(b.things(), "Queue{") }
	if queues() != 2 {
		t.Errorf("%d queues exist, want the old one too: %s", queues(), b.things())
	}
	b.platform.Fail("create", "More", errors.New("broken"))
	if err := b.apply("base", base("two")+"\n# more\n"); err != nil {
		t.Error(err)
	}
	more := strings.Replace(base("two"), "Resources:", "Resources:\n  More: {Type: Test::Thing}", 1)
	if err := b.apply("base", more); !fault.Is(err, fault.Failed) {
		t.Errorf("answered %v", err)
	}
	b.platform.On("create", "More", nil)
	b.mustApply("base", more)
	if queues() != 2 {
		t.Errorf("after a change, %d queues exist, want the old one still: %s", queues(), b.things())
	}
	b.mustApply("user", user)
	if queues() != 1 {
		t.Errorf("after the move, %d queues exist: %s", queues(), b.things())
	}
}

// TestExportChangesUnderCleanup has a third stack begin to import while what the
// export named before is being let go: that the export was changed fails nobody,
// and the next change settles it.
func TestExportChangesUnderCleanup(t *testing.T) {
	b := newBench(t)
	b.mustTogether("base", base("one"), "user", user)
	meddling := &meddling{Store: b.store}
	b.engine = stack.New("local", b.platform, meddling, stack.Options{Holder: "test"})
	b.platform.On("delete", "Queue", func(context.Context, stack.Request) error {
		meddling.before = func() {
			b.mustApply("third", `{Resources: {Third: {Type: "Test::Thing", Properties: {Arn: !ImportValue arn}}}}`)
		}
		return nil
	})
	b.mustTogether("base", base("two"), "user", user)
	if meddling.before != nil {
		t.Fatal("nothing was let go")
	}
	b.wantStatus("base", stack.UpdateComplete)
	if n := strings.Count(b.things(), "Queue{"); n != 1 {
		t.Errorf("%d queues exist: %s", n, b.things())
	}
	b.mustApply("user", strings.Replace(user, "Resources:", "Resources:\n  More: {Type: \"Test::Thing\"}", 1))
	exports, err := b.engine.Exports(t.Context())
	if err != nil || exports[0].Name != "arn" || exports[0].Held || fmt.Sprint(exports[0].Importers) != "[third user]" {
		t.Errorf("exports are %+v (%v)", exports, err)
	}
}

// meddling is a store before whose next write of an export something happens.
type meddling struct {
	record.Store
	before func()
}

func (s *meddling) AppendWith(ctx context.Context, stream string, values [][]byte, ops ...record.Op) (int64, error) {
	if do := s.before; do != nil && slices.ContainsFunc(ops, func(op record.Op) bool { return op.Kind == "stack-export" }) {
		s.before = nil
		do()
	}
	return s.Store.AppendWith(ctx, stream, values, ops...)
}

// TestExportLeavesInUse drops an export and its resource while the stack that
// uses it moves to another export of the same plan: in CloudFormation neither
// can go first.
func TestExportLeavesInUse(t *testing.T) {
	b := newBench(t)
	b.mustTogether("base", base("one"), "user", user)
	other := `
Resources:
  Topic: {Type: "AWS::SNS::Topic", Properties: {TopicName: topic}}
Outputs:
  Topic: {Value: !Ref Topic, Export: {Name: topic}}
`
	moved := strings.Replace(user, "!ImportValue arn", "!ImportValue topic", 1)
	if order := b.mustTogether("user", moved, "base", other); order != "base user " {
		t.Errorf("the order is %s", order)
	}
	if things := b.things(); strings.Contains(things, "Queue{") || !strings.Contains(things, `Reader{"Arn":"base-Topic-`) {
		t.Errorf("what exists: %s", things)
	}
	exports, err := b.engine.Exports(t.Context())
	if err != nil || len(exports) != 2 || exports[1].Name != "topic" {
		t.Errorf("exports are %+v (%v)", exports, err)
	}
}

// TestPlanAllCircle refuses stacks that import from each other.
func TestPlanAllCircle(t *testing.T) {
	b := newBench(t)
	side := func(mine, theirs string) string {
		return `{"Resources":{"X":{"Type":"Test::Thing","Properties":{"V":{"Fn::ImportValue":"` + theirs + `"}}}},"Outputs":{"O":{"Value":{"Ref":"X"},"Export":{"Name":"` + mine + `"}}}}`
	}
	_, err := b.together("a", side("a", "b"), "b", side("b", "a"))
	if !fault.Is(err, fault.Invalid) || !strings.HasPrefix(err.Error(), "stacks take from each other: a → b → a") {
		t.Errorf("answered %v", err)
	}
}

// TestPlanAllParameter takes a parameter as known after apply that another
// stack of the plan will give, and a condition that goes by it.
func TestPlanAllParameter(t *testing.T) {
	b := newBench(t)
	change := changeset.Change{Stack: "app", File: "app.yaml", Parameters: map[string]string{"Address": "at " + changeset.KnownAfterApply}, Template: []byte(`
Parameters: {Address: {Type: String, MinLength: 100}}
Resources: {A: {Type: "Test::Thing", Properties: {Value: !Ref Address}}}
`)}
	sets, err := b.planAll(change)
	if err != nil {
		t.Fatal(err)
	}
	if v := sets[0].Changes[0].AfterContext["Properties"]; changeset.Show(v) != `{"Value":(known after apply)}` {
		t.Errorf("planned %v", changeset.Show(v))
	}
	change.Joint, change.Parameters = sets[0].Change.Joint, map[string]string{"Address": strings.Repeat("x", 100)}
	cs, err := b.engine.Plan(t.Context(), change)
	if err != nil || cs.Digest != sets[0].Digest {
		t.Fatalf("with the value, the digest is another (%v)", err)
	}
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil || !strings.Contains(b.things(), "xxx") {
		t.Errorf("what exists: %s (%v)", b.things(), err)
	}

	change = changeset.Change{Stack: "open", File: "open.yaml", Parameters: map[string]string{"Mode": changeset.KnownAfterApply}, Template: []byte(`
Parameters: {Mode: {Type: String}}
Conditions: {Big: !Equals [!Ref Mode, big]}
Resources: {B: {Type: "Test::Thing", Condition: Big}, C: {Type: "Test::Thing"}}
`)}
	if sets, err = b.planAll(change); err != nil {
		t.Fatal(err)
	}
	if got := sets[0].Summary(); got != "depends on parameters that are known after apply: Mode" || sets[0].Empty() {
		t.Errorf("the summary is %q", got)
	}
	change.Joint, change.Parameters = sets[0].Change.Joint, map[string]string{"Mode": "big"}
	if cs, err = b.engine.Plan(t.Context(), change); err != nil || cs.Digest != sets[0].Digest {
		t.Fatalf("with the value, the digest is another (%v)", err)
	}
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil || !strings.Contains(b.things(), "B") {
		t.Errorf("what exists: %s (%v)", b.things(), err)
	}
}

// TestPlanAllOutputs gives a stack what another one of the plan will put out.
func TestPlanAllOutputs(t *testing.T) {
	b := newBench(t)
	takes := `
Parameters: {Arn: {Type: String}, Name: {Type: String}}
Resources: {A: {Type: "Test::Thing", Properties: {Arn: !Ref Arn, Name: !Ref Name}}}
`
	queue, output := "one", "Name"
	wanted := func(name string, will stack.OutputOf) (changeset.Change, error) {
		if name == "base" {
			return changeset.Change{Stack: name, File: "base.yaml", Template: []byte(base(queue))}, nil
		}
		c := changeset.Change{Stack: name, File: "user.yaml", Template: []byte(takes), Parameters: map[string]string{}}
		for parameter, output := range map[string]string{"Arn": "Arn", "Name": output} {
			value, planned, err := will("base", output)
			if err != nil || !planned {
				return c, err
			}
			c.Parameters[parameter] = value
		}
		return c, nil
	}
	sets, err := b.engine.PlanAll(t.Context(), []string{"user", "base"}, wanted)
	if err != nil {
		t.Fatal(err)
	}
	if sets[0].Stack != "base" || strings.Join(sets[1].Change.Joint.Parameters, " ") != "Arn Name" {
		t.Errorf("first is %s, the second takes %v as unknown", sets[0].Stack, sets[1].Change.Joint.Parameters)
	}
	if err := b.engine.Apply(t.Context(), sets[0], nil); err != nil {
		t.Fatal(err)
	}
	// The second is wanted anew, with what the first has put out.
	if sets, err = b.engine.PlanAll(t.Context(), []string{"user", "base"}, wanted); err != nil {
		t.Fatal(err)
	}
	if got := sets[1].Change.Parameters["Name"]; got != "one" || len(sets[1].Change.Joint.Parameters) != 0 || !sets[0].Empty() {
		t.Errorf("the second is given %q, %v are unknown", got, sets[1].Change.Joint.Parameters)
	}
	output = "Nam"
	if _, err = b.engine.PlanAll(t.Context(), []string{"user", "base"}, wanted); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), `stack base will have no output "Nam"`) {
		t.Errorf("answered %v", err)
	}
}

// TestNobodyImportsFromWhatIsDeleted begins to import from a stack while it is
// being deleted.
func TestNobodyImportsFromWhatIsDeleted(t *testing.T) {
	b := newBench(t)
	b.mustApply("base", base("one"))
	cs := b.plan("user", user, nil)
	started, release := b.platform.Block("delete", "Queue")
	done := make(chan error, 1)
	go func() { done <- b.engine.Delete(t.Context(), "base", nil) }()
	<-started
	if err := b.engine.Apply(t.Context(), cs, nil); err == nil || !strings.Contains(err.Error(), "No export named arn found") {
		t.Errorf("the import answered %v", err)
	}
	release()
	if err := <-done; err != nil {
		t.Errorf("the delete answered %v", err)
	}
	b.wantStatus("base", "gone")
	b.wantStatus("user", "gone")
}
