package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
)

// bench is an engine on a platform in memory, and what it told.
type bench struct {
	t        *testing.T
	platform *stacktest.Platform
	store    record.Store
	engine   *stack.Engine
	events   []stack.Event
	files    map[string][]byte // templates of nested stacks
	tags     map[string]string // of the stacks
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, platform: stacktest.NewPlatform(), store: record.NewMemory()}
	b.engine = stack.New("local", b.platform, b.store, stack.Options{Holder: "test"})
	return b
}

func (b *bench) listen(e stack.Event) { b.events = append(b.events, e) }

func (b *bench) plan(name, template string, parameters map[string]string) *changeset.Set {
	b.t.Helper()
	cs, err := b.engine.Plan(b.t.Context(), changeset.Change{Stack: name, File: name + ".yaml", Template: []byte(template), Parameters: parameters, Files: b.files, Tags: b.tags})
	if err != nil {
		b.t.Fatalf("plan %s: %v", name, err)
	}
	return cs
}

func (b *bench) apply(name, template string) error {
	b.t.Helper()
	return b.engine.Apply(b.t.Context(), b.plan(name, template, nil), b.listen)
}

func (b *bench) mustApply(name, template string) {
	b.t.Helper()
	if err := b.apply(name, template); err != nil {
		b.t.Fatalf("apply %s: %v", name, err)
	}
}

func (b *bench) status(name string) string {
	b.t.Helper()
	s, err := b.engine.Stack(b.t.Context(), name)
	if fault.Is(err, fault.NotFound) {
		return "gone"
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return s.Status
}

func (b *bench) wantStatus(name, want string) {
	b.t.Helper()
	if got := b.status(name); got != want {
		b.t.Errorf("stack %s is %s, want %s", name, got, want)
	}
}

// things gives what exists as "LogicalID{property:value …}".
func (b *bench) things() string {
	var all []string
	for _, t := range b.platform.Things() {
		raw, err := json.Marshal(t.Properties)
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, t.LogicalID+string(raw))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (b *bench) wantThings(want string) {
	b.t.Helper()
	if got := b.things(); got != want {
		b.t.Errorf("what exists:\n got %s\nwant %s", got, want)
	}
}

// transitions gives the events of one logical id as "STATUS STATUS …".
func (b *bench) transitions(id string) string {
	var all []string
	for _, e := range b.events {
		if e.LogicalID == id {
			all = append(all, e.Status)
		}
	}
	return strings.Join(all, " ")
}

func (b *bench) wantTransitions(id, want string) {
	b.t.Helper()
	if got := b.transitions(id); got != want {
		b.t.Errorf("events of %s:\n got %s\nwant %s", id, got, want)
	}
}

const chain = `
Resources:
  A: {Type: "Test::Thing", Properties: {Value: one}}
  B: {Type: "Test::Thing", Properties: {Value: !Sub "${A.Value}-b"}}
  C: {Type: "Test::Thing", Properties: {Value: !GetAtt B.Value}}
Outputs:
  Last: {Value: !GetAtt C.Value, Export: {Name: last}}
`

func TestCreateUpdateDelete(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", chain)
	b.wantStatus("app", stack.CreateComplete)
	b.wantThings(`A{"Value":"one"} B{"Value":"one-b"} C{"Value":"one-b"}`)
	b.wantTransitions("app", "CREATE_IN_PROGRESS CREATE_COMPLETE")
	b.wantTransitions("B", "CREATE_IN_PROGRESS CREATE_IN_PROGRESS CREATE_COMPLETE")
	outputs, err := b.engine.Outputs(t.Context(), "app")
	if err != nil || outputs["Last"] != "one-b" {
		t.Errorf("outputs are %v (%v), want Last one-b", outputs, err)
	}

	if cs := b.plan("app", chain, nil); !cs.Empty() || len(cs.Changes) != 0 {
		t.Errorf("a plan without change has %v", cs.Changes)
	}

	b.events = nil
	b.mustApply("app", strings.Replace(chain, "Value: one", "Value: two", 1))
	b.wantStatus("app", stack.UpdateComplete)
	b.wantThings(`A{"Value":"two"} B{"Value":"two-b"} C{"Value":"two-b"}`)
	b.wantTransitions("app", "UPDATE_IN_PROGRESS UPDATE_COMPLETE_CLEANUP_IN_PROGRESS UPDATE_COMPLETE")
	b.wantTransitions("C", "UPDATE_IN_PROGRESS UPDATE_COMPLETE")

	b.events = nil
	if err := b.engine.Delete(t.Context(), "app", b.listen); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", "gone")
	b.wantThings("")
	var deleted []string
	for _, e := range b.events {
		if e.Status == stack.DeleteComplete {
			deleted = append(deleted, e.LogicalID)
		}
	}
	if got := strings.Join(deleted, " "); got != "C B A app" {
		t.Errorf("deleted %s, want C B A app", got)
	}
	if exports, err := b.engine.Exports(t.Context()); err != nil || len(exports) != 0 {
		t.Errorf("exports left: %v (%v)", exports, err)
	}
	if _, err := b.engine.Outputs(t.Context(), "app"); !fault.Is(err, fault.NotFound) {
		t.Errorf("outputs of a deleted stack: %v, want fault.NotFound", err)
	}
	stored, err := b.engine.Events(t.Context(), "app", 0)
	if err != nil || len(stored) == 0 || stored[len(stored)-1].Number != int64(len(stored)) {
		t.Errorf("stored events: %d (%v)", len(stored), err)
	}
}

func TestParallelByDependency(t *testing.T) {
	b := newBench(t)
	var both []string
	started, release := b.platform.Block("create", "A")
	other, releaseOther := b.platform.Block("create", "B")
	done := make(chan error, 1)
	cs := b.plan("app", `
Resources:
  A: {Type: "Test::Thing"}
  B: {Type: "Test::Thing"}
  C: {Type: "Test::Thing", DependsOn: [A, B]}
`, nil)
	go func() { done <- b.engine.Apply(t.Context(), cs, nil) }()
	<-started
	<-other // A and B are under way together
	for _, c := range b.platform.Calls() {
		both = append(both, c.LogicalID)
	}
	if slices.Contains(both, "C") {
		t.Error("C was begun before what it depends on was done")
	}
	release()
	releaseOther()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if calls := b.platform.Calls(); calls[len(calls)-1].LogicalID != "C" || b.platform.Peak() != 2 {
		t.Errorf("calls %v, at most %d at once; want C last and 2 at once", calls, b.platform.Peak())
	}
}

func TestFailedCreateIsRolledBack(t *testing.T) {
	b := newBench(t)
	b.platform.Fail("create", "C", fault.New(fault.Unavailable, "no room").WithHint("make room"))
	err := b.apply("app", chain)
	if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "no room") || fault.HintOf(err) != "make room" {
		t.Errorf("apply answered %v (hint %q)", err, fault.HintOf(err))
	}
	b.wantStatus("app", stack.RollbackComplete)
	b.wantThings("")
	b.wantTransitions("app", "CREATE_IN_PROGRESS ROLLBACK_IN_PROGRESS ROLLBACK_COMPLETE")
	b.wantTransitions("C", "CREATE_IN_PROGRESS CREATE_FAILED DELETE_IN_PROGRESS DELETE_COMPLETE")
	b.platform.On("create", "C", nil)
	b.mustApply("app", chain)
	b.wantStatus("app", stack.CreateComplete)
}

const changed = `
Resources:
  A: {Type: "Test::Thing", Properties: {Value: two}}
  C: {Type: "Test::Thing", Properties: {Value: !GetAtt D.Value}}
  D: {Type: "Test::Thing", Properties: {Value: !GetAtt A.Value}}
Outputs:
  Last: {Value: !GetAtt C.Value, Export: {Name: last}}
`

func TestFailedUpdateIsRolledBack(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", chain)
	before := b.things()
	b.events = nil
	b.platform.On("update", "C", func(_ context.Context, r stack.Request) error {
		if r.Properties["Value"] == "two" {
			return errors.New("out of order")
		}
		return nil
	})
	if err := b.apply("app", changed); !fault.Is(err, fault.Failed) {
		t.Errorf("apply answered %v", err)
	}
	b.wantStatus("app", stack.UpdateRollbackComplete)
	b.wantThings(before)
	b.wantTransitions("app", "UPDATE_IN_PROGRESS UPDATE_ROLLBACK_IN_PROGRESS UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS UPDATE_ROLLBACK_COMPLETE")
	b.wantTransitions("A", "UPDATE_IN_PROGRESS UPDATE_COMPLETE UPDATE_IN_PROGRESS UPDATE_COMPLETE")
	b.wantTransitions("D", "CREATE_IN_PROGRESS CREATE_IN_PROGRESS CREATE_COMPLETE DELETE_IN_PROGRESS DELETE_COMPLETE")
	b.platform.On("update", "C", nil)
	b.mustApply("app", changed)
	b.wantThings(`A{"Value":"two"} C{"Value":"two"} D{"Value":"two"}`)
}

func TestCancelRollsBackAndSuspendDoesNot(t *testing.T) {
	for _, c := range []struct {
		name   string
		cause  error
		status string
	}{
		{"cancel", nil, stack.RollbackComplete},
		{"suspend", stack.ErrSuspend, stack.CreateInProgress},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			started, _ := b.platform.Block("create", "B")
			ctx, cancel := context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			cs := b.plan("app", chain, nil)
			go func() { done <- b.engine.Apply(ctx, cs, nil) }()
			<-started
			cancel(c.cause)
			if err := <-done; err == nil {
				t.Error("apply answered nothing")
			}
			b.wantStatus("app", c.status)
			b.platform.On("create", "B", nil)
			if err := b.engine.Resume(t.Context(), b.listen); err != nil {
				t.Fatal(err)
			}
			if c.cause == nil {
				b.wantThings("")
			} else {
				b.wantStatus("app", stack.CreateComplete)
			}
		})
	}
}

// queues has a type of the registry, so that properties ask for replacement.
const queues = `
Parameters:
  Name: {Type: String, Default: first}
Resources:
  Queue: {Type: "AWS::SQS::Queue", Properties: {QueueName: !Ref Name, DelaySeconds: 1}}
  Reader: {Type: "Test::Thing", Properties: {Queue: !Ref Queue}}
`

func TestReplacement(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", queues)
	b.events = nil
	cs := b.plan("app", queues, map[string]string{"Name": "second"})
	if c := cs.Changes[0]; c.LogicalID != "Queue" || c.Replacement != changeset.ReplaceTrue || c.PolicyAction != "ReplaceAndDelete" {
		t.Errorf("planned %+v", c)
	}
	if err := b.engine.Apply(t.Context(), cs, b.listen); err != nil {
		t.Fatal(err)
	}
	b.wantTransitions("Queue", "UPDATE_IN_PROGRESS UPDATE_IN_PROGRESS UPDATE_COMPLETE DELETE_IN_PROGRESS DELETE_COMPLETE")
	var order []string
	for _, c := range b.platform.Calls()[2:] {
		order = append(order, c.String())
	}
	if got := strings.Join(order, ", "); got != "create Queue, update Reader, delete Queue" {
		t.Errorf("calls: %s", got)
	}
	if things := b.platform.Things(); len(things) != 2 || things[1].Properties["Queue"] != things[0].Token {
		t.Errorf("the reader was not pointed at the new queue: %+v", things)
	}

	b.platform.Fail("update", "Reader", errors.New("will not"))
	old := b.platform.Things()[0].Token
	cs = b.plan("app", queues, map[string]string{"Name": "third"})
	if err := b.engine.Apply(t.Context(), cs, b.listen); !fault.Is(err, fault.Failed) {
		t.Errorf("apply answered %v", err)
	}
	b.wantStatus("app", stack.UpdateRollbackFailed) // the reader refuses to be put back, too
	b.platform.On("update", "Reader", nil)
	if err := b.engine.Resume(t.Context(), b.listen); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.UpdateRollbackComplete)
	if things := b.platform.Things(); len(things) != 2 || things[0].Token != old || things[1].Properties["Queue"] != old {
		t.Errorf("the old queue was not put back: %+v", things)
	}
}

func TestPolicies(t *testing.T) {
	b := newBench(t)
	text := strings.Replace(queues, `{Type: "AWS::SQS::Queue",`, `{Type: "AWS::SQS::Queue", UpdateReplacePolicy: Retain, DeletionPolicy: Retain,`, 1)
	b.mustApply("app", text)
	if err := b.engine.Apply(t.Context(), b.plan("app", text, map[string]string{"Name": "second"}), b.listen); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Delete(t.Context(), "app", b.listen); err != nil {
		t.Fatal(err)
	}
	b.wantThings(`Queue{"DelaySeconds":"1","QueueName":"first"} Queue{"DelaySeconds":"1","QueueName":"second"}`)
	if got := strings.Count(b.transitions("Queue"), stack.DeleteSkipped); got != 2 {
		t.Errorf("%d DELETE_SKIPPED events, want 2", got)
	}
}

func TestExportsAreGuarded(t *testing.T) {
	b := newBench(t)
	b.mustApply("base", chain)
	b.mustApply("app", `Resources: {X: {Type: "Test::Thing", Properties: {Value: !ImportValue last}}}`)
	b.wantThings(`A{"Value":"one"} B{"Value":"one-b"} C{"Value":"one-b"} X{"Value":"one-b"}`)
	for _, c := range []struct{ name, text, want string }{
		{"removed", `Resources: {A: {Type: "Test::Thing"}}`, "Export last cannot be deleted as it is in use by app"},
		{"changed", strings.Replace(chain, "Value: one", "Value: two", 1), "Export last cannot be updated as it is in use by app"},
	} {
		cs, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "base", Template: []byte(c.text)})
		if err == nil { // the value is known only when the change is under way
			err = b.engine.Apply(t.Context(), cs, b.listen)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: answered %v, want %s", c.name, err, c.want)
		}
	}
	if err := b.engine.Delete(t.Context(), "base", nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("delete of a stack in use answered %v, want fault.Conflict", err)
	}
	b.wantThings(`A{"Value":"one"} B{"Value":"one-b"} C{"Value":"one-b"} X{"Value":"one-b"}`)
	if err := b.engine.Delete(t.Context(), "app", nil); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Delete(t.Context(), "base", nil); err != nil {
		t.Errorf("delete after the importer is gone: %v", err)
	}
	_, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", Template: []byte(`Resources: {X: {Type: "Test::Thing", Properties: {Value: !ImportValue last}}}`)})
	if err == nil || !strings.Contains(err.Error(), "No export named last found") {
		t.Errorf("import of what is gone: %v", err)
	}
}

func TestASecondChangeIsRefused(t *testing.T) {
	b := newBench(t)
	started, release := b.platform.Block("create", "A")
	cs := b.plan("app", chain, nil)
	done := make(chan error, 1)
	go func() { done <- b.engine.Apply(t.Context(), cs, nil) }()
	<-started
	err := b.engine.Apply(t.Context(), cs, nil)
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "by test since") {
		t.Errorf("a second change answered %v", err)
	}
	if err := b.engine.Resume(t.Context(), nil); err != nil {
		t.Errorf("resume beside a change under way: %v", err)
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Errorf("applying the same set again answered %v, want its outcome again", err)
	}
	if n := len(b.platform.Calls()); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
}

func TestAStaleChangeSetIsRefused(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", chain)
	stale := b.plan("app", strings.Replace(chain, "Value: one", "Value: two", 1), nil)
	b.mustApply("app", strings.Replace(chain, "Value: one", "Value: three", 1))
	if err := b.engine.Apply(t.Context(), stale, nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("answered %v, want fault.Conflict", err)
	}
}

func TestChangeSetRoundTripsAsJSON(t *testing.T) {
	b := newBench(t)
	cs := b.plan("app", chain, nil)
	raw, err := json.Marshal(cs)
	if err != nil {
		t.Fatal(err)
	}
	var stored changeset.Set
	if err := json.Unmarshal(raw, &stored); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Apply(t.Context(), &stored, nil); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.CreateComplete)
}

func TestSecretsAreMasked(t *testing.T) {
	b := newBench(t)
	text := `
Parameters: {Password: {Type: String, NoEcho: true}}
Resources:
  Db: {Type: "Test::Thing", Properties: {Url: !Sub "postgres://u:${Password}@h"}}
  Copy: {Type: "Test::Thing", Properties: {Url: !GetAtt Db.Url}}
Outputs: {Url: {Value: !GetAtt Db.Url}}
`
	cs := b.plan("app", text, map[string]string{"Password": "hunter2"})
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Fatal(err)
	}
	b.wantThings(`Copy{"Url":"postgres://u:hunter2@h"} Db{"Url":"postgres://u:hunter2@h"}`)
	cs = b.plan("app", text, map[string]string{"Password": "hunter3"})
	var shown strings.Builder
	if err := cs.WriteText(&shown); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(cs.Public())
	if err != nil {
		t.Fatal(err)
	}
	if all := shown.String() + string(raw); strings.Contains(all, "hunter") || !strings.Contains(all, "u:****@h") {
		t.Errorf("shown:\n%s\n%s", shown.String(), raw)
	}
	if len(cs.Changes) != 2 {
		t.Errorf("a changed secret gives %d changes, want 2", len(cs.Changes))
	}
}

// TestMove gives a resource another logical id.
func TestMove(t *testing.T) {
	const before = `Resources: {A: {Type: Test::Thing, Properties: {Value: x}}, B: {Type: Test::Thing, Properties: {Of: !Ref A}}}`
	renamed := strings.NewReplacer("{A:", "{C:", "Ref A", "Ref C").Replace(before)
	said := strings.Replace(renamed, "{C: {", "{C: {Metadata: {makeitso: {movedFrom: A}}, ", 1)
	b := newBench(t)
	b.mustApply("app", before)
	token := b.platform.Things()[0].Token

	cs := b.plan("app", renamed, nil)
	if len(cs.Warnings) != 1 || !strings.Contains(cs.Warnings[0].Hint, "movedFrom: A") {
		t.Errorf("the move was not offered: %v", cs.Warnings)
	}
	cs = b.plan("app", said, nil)
	if cs.Empty() || len(cs.Changes) != 0 || len(cs.Warnings) != 0 || !slices.Contains(cs.Other, "A is C now") {
		t.Errorf("a move alone gives %+v, others %v, warnings %v", cs.Changes, cs.Other, cs.Warnings)
	}
	if err := b.engine.Apply(t.Context(), cs, b.listen); err != nil {
		t.Fatal(err)
	}
	if calls := b.platform.Calls(); len(calls) != 2 {
		t.Errorf("a move alone called %v", calls)
	}
	resources, err := b.engine.Resources(t.Context(), "app")
	if err != nil || len(resources) != 2 || resources[1].LogicalID != "C" || resources[1].Token != token {
		t.Errorf("after the move: %+v (%v)", resources, err)
	}
	if cs := b.plan("app", said, nil); !cs.Empty() {
		t.Errorf("the move again gives %+v, others %v", cs.Changes, cs.Other)
	}
	b.platform.Fail("create", "More", errors.New("broken"))
	further := strings.NewReplacer("{C:", "{D:", "movedFrom: A", "movedFrom: C", "Ref C", "Ref D", "Value: x", "Value: y", "B: {", "More: {Type: Test::Thing, DependsOn: B}, B: {").Replace(said)
	if err := b.apply("app", further); !fault.Is(err, fault.Failed) {
		t.Errorf("a move with something that fails answered %v", err)
	}
	resources, err = b.engine.Resources(t.Context(), "app")
	if err != nil || len(resources) != 2 || resources[1].LogicalID != "C" || resources[1].Token != token || resources[1].Attributes["Value"] != "x" {
		t.Errorf("the move was not taken back: %+v (%v)", resources, err)
	}
	for _, wrong := range []string{
		`Resources: {C: {Type: Test::Thing}, D: {Type: Test::Thing, Metadata: {makeitso: {movedFrom: C}}}}`,
		`Resources: {D: {Type: Test::Other, Metadata: {makeitso: {movedFrom: C}}}}`,
		`Resources: {D: {Type: Test::Thing, Metadata: {makeitso: {movedFrom: C}}}, E: {Type: Test::Thing, Metadata: {makeitso: {movedFrom: C}}}}`,
	} {
		var list diag.List
		if _, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(wrong)}); !errors.As(err, &list) {
			t.Errorf("%s answered %v", wrong, err)
		}
	}
}

// TestOutputsOfAMove shows what an output was that names a moved resource.
func TestOutputsOfAMove(t *testing.T) {
	const before = `
Resources: {A: {Type: Test::Thing, Properties: {Value: x}}}
Outputs: {Name: {Value: !Sub "${A}-${A.Value}"}, Gone: {Value: !GetAtt A.Value}}
`
	b := newBench(t)
	b.mustApply("app", before)
	id := b.platform.Things()[0].Token
	cs := b.plan("app", `
Resources: {C: {Metadata: {makeitso: {movedFrom: A}}, Type: Test::Thing, Properties: {Value: x}}}
Outputs: {Name: {Value: !Sub "${C}-${C.Value}-more"}}
`, nil)
	want := []changeset.OutputChange{
		{Action: changeset.Modify, Name: "Name", Before: id + "-x", After: id + "-x-more"},
		{Action: changeset.Remove, Name: "Gone", Before: "x"},
	}
	if !slices.Equal(cs.Outputs, want) {
		t.Errorf("the outputs change: %+v", cs.Outputs)
	}
}

// TestDeletesFirst replaces a resource of which there can be only one.
func TestDeletesFirst(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", attachment("one"))
	b.events = nil
	b.mustApply("app", attachment("two"))
	b.wantTransitions("Gate", "UPDATE_IN_PROGRESS DELETE_IN_PROGRESS DELETE_COMPLETE UPDATE_IN_PROGRESS UPDATE_COMPLETE")
	var calls []string
	for _, c := range b.platform.Calls()[2:] {
		calls = append(calls, c.String())
	}
	if got, want := strings.Join(calls, ", "), "delete Gate, create Gate, update Last"; got != want {
		t.Errorf("calls: got %s, want %s", got, want)
	}
	before := b.things()
	b.platform.Fail("create", "More", errors.New("broken"))
	if err := b.apply("app", attachment("three")+"  More: {Type: Test::Thing, DependsOn: Last}\n"); err == nil {
		t.Fatal("the update did not fail")
	}
	b.wantStatus("app", stack.UpdateRollbackComplete)
	b.wantThings(before)
}

func TestMistakesComeAllAtOnce(t *testing.T) {
	b := newBench(t)
	_, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "t.yaml", Template: []byte(`
Resources:
  Q: {Type: "AWS::SNS::Topic", Properties: {DisplayName: !GetAtt P.Arm}}
  P: {Type: "AWS::SQS::Queue"}
  R: {Type: "Refused::Thing"}
  S: {Type: "AWS::SNS::Subscription", Properties: {Protocl: x, TopicArn: y}}
`)})
	var list diag.List
	if !errors.As(err, &list) || len(list) != 3 {
		t.Fatalf("got %v", err)
	}
	for i, want := range []string{
		`t.yaml:3:58: error: Resource type AWS::SQS::Queue does not support attribute {Arm}.`,
		`t.yaml:5:13: error: Template format error: Unrecognized resource types: [Refused::Thing]`,
		`t.yaml:6:3: error: Property validation failure: [The property {/Protocol} is required]; is Protocl meant to be Protocol?`,
	} {
		if !strings.HasPrefix(list[i].String(), want) {
			t.Errorf("got  %s\nwant %s", list[i], want)
		}
	}
	b.platform.Fail("check", "P", fault.New(fault.Unavailable, "no queue server").WithHint("apt-get install it"))
	_, err = b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "t.yaml", Template: []byte(`Resources: {P: {Type: "AWS::SQS::Queue"}}`)})
	if !fault.Is(err, fault.Unavailable) || !strings.HasPrefix(err.Error(), "t.yaml:1:13: resource P (AWS::SQS::Queue): no queue server") || fault.HintOf(err) != "apt-get install it" {
		t.Errorf("a refused check came back as %v", err)
	}
}

func TestDeleteThatFailsCanBeDoneAgain(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", chain)
	b.platform.Fail("delete", "B", errors.New("held"))
	cs, err := b.engine.PlanDelete(t.Context(), "app")
	if err != nil || len(cs.Changes) != 3 {
		t.Fatalf("plan of the delete: %v, %v", cs, err)
	}
	if err := b.engine.Apply(t.Context(), cs, b.listen); !fault.Is(err, fault.Failed) {
		t.Errorf("answered %v", err)
	}
	b.wantStatus("app", stack.DeleteFailed)
	b.platform.On("delete", "B", nil)
	if err := b.engine.Delete(t.Context(), "app", b.listen); err != nil {
		t.Fatal(err)
	}
	b.wantThings("")
}

func TestOnlyADeadHoldersLeaseIsTakenOver(t *testing.T) {
	b := newBench(t)
	started, _ := b.platform.Block("create", "B")
	ctx, cancel := context.WithCancelCause(t.Context())
	cs := b.plan("app", chain, nil)
	done := make(chan error, 1)
	go func() { done <- b.engine.Apply(ctx, cs, nil) }()
	<-started
	alive := true
	other := stack.New("local", b.platform, b.store, stack.Options{Holder: "other", Alive: func(holder string) bool { return alive && holder == "test" }})
	if err := other.Resume(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.CreateInProgress)
	if err := other.Apply(t.Context(), cs, nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("a change beside another holder's answered %v", err)
	}
	// The first process is gone in the middle of the create of B.
	alive = false
	b.platform.On("create", "B", nil)
	if err := other.Apply(t.Context(), cs, nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("a change beside a dead holder's answered %v, want a refusal until Resume", err)
	}
	if err := other.Resume(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.CreateComplete)
	cancel(stack.ErrSuspend)
	<-done
}

func TestAChangeOfDependenciesAloneIsKept(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", `Resources: {A: {Type: "Test::Thing"}, B: {Type: "Test::Thing"}}`)
	b.mustApply("app", `Resources: {A: {Type: "Test::Thing", DependsOn: B}, B: {Type: "Test::Thing"}}`)
	if n := len(b.platform.Calls()); n != 2 {
		t.Errorf("%d calls, want the 2 creates alone", n)
	}
	if err := b.engine.Delete(t.Context(), "app", nil); err != nil {
		t.Fatal(err)
	}
	if calls := b.platform.Calls(); calls[2].LogicalID != "A" || calls[3].LogicalID != "B" {
		t.Errorf("deleted in the order %v, want A before B", calls[2:])
	}
}

func TestAConditionalReplacementIsTheHandlersChoice(t *testing.T) {
	text := `Resources: {Cache: {Type: "AWS::ElastiCache::CacheCluster", Properties: {CacheNodeType: a, NumCacheNodes: 1, Engine: redis, PreferredAvailabilityZones: [%s]}}}`
	for _, inPlace := range []bool{true, false} {
		b := newBench(t)
		b.mustApply("app", fmt.Sprintf(text, "a"))
		old := b.platform.Things()[0].Token
		if !inPlace {
			b.platform.Fail("update", "Cache", fault.New(fault.Unsupported, "zones cannot move"))
		}
		b.mustApply("app", fmt.Sprintf(text, "b"))
		things := b.platform.Things()
		if len(things) != 1 || (things[0].Token == old) != inPlace {
			t.Errorf("in place %v: %v exist, the old token is %s", inPlace, things, old)
		}
	}
}

// record reads a record behind the engine's back.
func (b *bench) record(kind, key string, into any) {
	b.t.Helper()
	e, err := b.store.Get(b.t.Context(), kind, key)
	if err == nil {
		err = json.Unmarshal(e.Value, into)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
