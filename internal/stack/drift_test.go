package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/registry"
	"makeitso/internal/stack"
)

const drifting = `
Parameters: {Secret: {Type: String, NoEcho: true, Default: hunter22}}
Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties: {DelaySeconds: 5, FifoQueue: true, QueueName: jobs.fifo, RedrivePolicy: {maxReceiveCount: 3, target: x}}
  Cluster:
    Type: AWS::ElastiCache::ReplicationGroup
    Properties: {ReplicationGroupDescription: cache, AuthToken: !Ref Secret}
  Plain: {Type: Test::Thing, Properties: {Password: !Ref Secret}}
`

func (b *bench) drift(name string) map[string]stack.ResourceDrift {
	b.t.Helper()
	d, err := b.engine.Drift(b.t.Context(), name, stack.ReportDrift, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	byID := map[string]stack.ResourceDrift{"": {Status: d.Status}}
	for _, r := range d.Resources {
		byID[r.LogicalID] = r
	}
	return byID
}

func TestDrift(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", drifting)
	for id, r := range b.drift("app") {
		if r.Status != stack.InSync {
			t.Errorf("undisturbed, %q is %+v", id, r)
		}
	}

	// Written otherwise, but the same; not set; not to be read back.
	b.platform.Change("Queue", map[string]any{"DelaySeconds": 5.0, "FifoQueue": "True", "QueueName": "jobs.fifo", "KmsMasterKeyId": "default",
		"RedrivePolicy": `{"target": "x", "maxReceiveCount": "3"}`})
	b.platform.Change("Cluster", map[string]any{"ReplicationGroupDescription": "cache"})
	if d := b.drift("app"); d[""].Status != stack.InSync {
		t.Errorf("what means the same has drifted: %+v", d)
	}

	b.platform.Change("Queue", map[string]any{"DelaySeconds": "6", "FifoQueue": "true", "RedrivePolicy": map[string]any{"maxReceiveCount": "3", "target": "x", "more": "y"}})
	b.platform.Change("Plain", map[string]any{"Password": "hunter22x"})
	b.platform.Lose("Cluster")
	d := b.drift("app")
	want := []registry.Difference{
		{Type: "NOT_EQUAL", Path: "/DelaySeconds", Expected: "5", Actual: "6"},
		{Type: "REMOVE", Path: "/QueueName", Expected: "jobs.fifo"},
		{Type: "ADD", Path: "/RedrivePolicy/more", Actual: "y"},
	}
	if got := d["Queue"]; got.Status != stack.Modified || !reflect.DeepEqual(got.Differences, want) {
		t.Errorf("the queue is %+v", got)
	}
	if d[""].Status != stack.Drifted || d["Cluster"].Status != stack.Deleted {
		t.Errorf("a lost resource gives %+v", d)
	}
	if got := d["Plain"].Differences; len(got) != 1 || got[0].Expected != changeset.Masked || strings.Contains(got[0].Actual.(string), "hunter22") {
		t.Errorf("secrets are shown: %+v", got)
	}

	b.platform.Fail("read", "Queue", errors.New("no answer"))
	if got := b.drift("app")["Queue"]; got.Status != stack.Unknown || got.Reason != "no answer" {
		t.Errorf("what cannot be read is %+v", got)
	}
}

const secretive = `
Parameters:
  List: {Type: CommaDelimitedList, NoEcho: true, Default: "first-item,second-item"}
  Short: {Type: String, NoEcho: true, Default: q7z}
  Word: {Type: String, NoEcho: true, Default: hunter22}
Resources:
  Thing:
    Type: Test::Thing
    Properties:
      List: !Ref List
      Joined: !Join [";", [!Select [0, !Ref List], plain]]
      Short: !Ref Short
      Coded: {Fn::Base64: !Sub "word ${Word}"}
      Inside: !Join ["", ["Basic ", {Fn::Base64: !Ref Word}]]
      Deep: {"a/b": !Ref Word, Open: stays}
      Open: {Plain: said}
`

// TestDriftHidesSecrets looks at a resource whose secrets are others by now:
// neither those that it was given nor those that it has are kept or shown.
func TestDriftHidesSecrets(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", secretive)
	made := b.platform.Things()[0].Properties
	rotated := map[string]any{"List": []any{"rotated-one", "second-item"}, "Joined": "rotated-two;plain", "Short": "rotated-three", "Coded": "rotated-four",
		"Inside": "rotated-five", "Deep": map[string]any{"a/b": "rotated-six", "Open": "opened", "new": "rotated-seven"}, "Open": map[string]any{"Plain": "other", "more": "found"}}
	secrets := []string{"rotated", "first-item", "second-item", "q7z", "hunter22", made["Coded"].(string), strings.TrimPrefix(made["Inside"].(string), "Basic ")}
	b.platform.Change("Thing", rotated)
	b.drift("app")
	shown := b.shown("app")
	wantNone(t, shown, secrets...)
	for _, want := range []string{`"path":"/List/0","expected":"****","actual":"****"`, `"path":"/Joined","expected":"****;plain","actual":"****"`,
		`"path":"/Deep/Open","expected":"stays","actual":"opened"`, `"path":"/Open/Plain","expected":"said","actual":"other"`, `"path":"/Open/more","actual":"found"`} {
		if !strings.Contains(shown, want) {
			t.Errorf("%s is not shown", want)
		}
	}
	if d, err := b.settle(stack.RepairDrift); err != nil || d.Status != stack.InSync || !reflect.DeepEqual(b.platform.Things()[0].Properties, made) {
		t.Errorf("repaired, it is %v (%+v, %v)", b.platform.Things()[0].Properties, d, err)
	}
	b.platform.Change("Thing", rotated)
	if d, err := b.settle(stack.AdoptDrift); err != nil || d.Status != stack.InSync {
		t.Errorf("adopted, it is %+v, %v", d, err)
	}
	public, err := json.Marshal(b.plan("app", secretive, nil).Public())
	if err != nil || !strings.Contains(string(public), `"BeforeValue":{"Plain":"other","more":"found"}`) {
		t.Errorf("the plan after an adoption is %s (%v)", public, err)
	}
	wantNone(t, string(public)+b.shown("app"), secrets...)
	b.mustApply("app", secretive)
	b.wantPlanEmpty(secretive)
}

// TestAdoptedNames takes over a property whose name has letters of paths in it.
func TestAdoptedNames(t *testing.T) {
	const odd = `Resources: {Thing: {Type: Test::Thing, Properties: {"a/~b": one}}}`
	b := newBench(t)
	b.mustApply("app", odd)
	b.platform.Change("Thing", map[string]any{"a/~b": "two"})
	if _, err := b.settle(stack.AdoptDrift); err != nil {
		t.Fatal(err)
	}
	cs := b.plan("app", odd, nil)
	if got := cs.Changes[0].Details[0].Target; got.BeforeValue != "two" || got.AfterValue != "one" {
		t.Errorf("the change is %+v", got)
	}
}

func TestDriftOfWhatIsNotThere(t *testing.T) {
	b := newBench(t)
	if _, err := b.engine.Drift(t.Context(), "app", stack.ReportDrift, nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
	b.mustApply("app", chain)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.engine.Drift(ctx, "app", stack.ReportDrift, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled, it answered %v", err)
	}
}

// settle has a policy act on what has drifted of app.
func (b *bench) settle(policy stack.DriftPolicy) (stack.StackDrift, error) {
	b.t.Helper()
	return b.engine.Drift(b.t.Context(), "app", policy, b.listen)
}

const settled = `
Parameters: {Secret: {Type: String, NoEcho: true, Default: hunter22}}
Resources:
  Queue: {Type: "AWS::SQS::Queue", Properties: {QueueName: jobs, DelaySeconds: 5}}
  Reader: {Type: "Test::Thing", Properties: {Queue: !Ref Queue, Password: !Ref Secret}}
`

func TestDriftIsToldWhenItChanges(t *testing.T) {
	var told []string
	b := newBench(t)
	b.engine = stack.New("local", b.platform, b.store, stack.Options{Holder: "test", Drifted: func(d stack.StackDrift) {
		told = append(told, d.Stack+" "+d.Status+" "+d.String())
	}})
	b.mustApply("app", settled)
	last := func() stack.StackDrift {
		t.Helper()
		s, err := b.engine.Stack(t.Context(), "app")
		if err != nil {
			t.Fatal(err)
		}
		d, err := b.engine.LastDrift(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := last(); d.Status != stack.NotChecked {
		t.Errorf("before the first look, the drift is %+v", d)
	}
	b.drift("app")
	b.platform.Change("Queue", map[string]any{"QueueName": "jobs", "DelaySeconds": "6"})
	b.drift("app")
	b.drift("app")
	b.platform.Lose("Reader")
	b.drift("app")
	if d := last(); d.Status != stack.Drifted || d.Time.IsZero() || d.String() != "Queue MODIFIED, Reader DELETED" {
		t.Errorf("the drift kept is %+v", d)
	}
	if _, err := b.settle(stack.RepairDrift); err != nil {
		t.Fatal(err)
	}
	want := []string{"app DRIFTED Queue MODIFIED", "app DRIFTED Queue MODIFIED, Reader DELETED", "app IN_SYNC "}
	if !reflect.DeepEqual(told, want) {
		t.Errorf("told were %q", told)
	}
	events, err := b.engine.Events(t.Context(), "app", 0)
	if err != nil {
		t.Fatal(err)
	}
	if e := events[len(events)-1]; e.Status != stack.InSync || e.LogicalID != "app" {
		t.Errorf("the last event is %+v", e)
	}
	b.mustApply("app", strings.Replace(settled, "DelaySeconds: 5", "DelaySeconds: 7", 1))
	if d := last(); d.Status != stack.NotChecked {
		t.Errorf("after a change, the drift is %+v", d)
	}
}

func TestDriftIsRepaired(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", settled)
	before := fmt.Sprint(b.platform.Things())
	b.platform.Change("Queue", map[string]any{"QueueName": "jobs", "DelaySeconds": "6"})
	b.platform.Lose("Reader")
	var was map[string]any
	b.platform.On("update", "Queue", func(_ context.Context, r stack.Request) error { was = r.Previous; return nil })
	d, err := b.settle(stack.RepairDrift)
	if err != nil || d.Status != stack.InSync {
		t.Fatalf("got %+v, %v", d, err)
	}
	if after := fmt.Sprint(b.platform.Things()); after != before {
		t.Errorf("after the repair %s exist, want %s", after, before)
	}
	if want := map[string]any{"QueueName": "jobs", "DelaySeconds": "6"}; !reflect.DeepEqual(was, want) {
		t.Errorf("the update was told of %v, want %v", was, want)
	}
	b.wantTransitions("Queue", "CREATE_IN_PROGRESS CREATE_IN_PROGRESS CREATE_COMPLETE UPDATE_IN_PROGRESS UPDATE_COMPLETE")
	calls := len(b.platform.Calls())
	if d, err := b.settle(stack.RepairDrift); err != nil || d.Status != stack.InSync || len(b.platform.Calls()) != calls {
		t.Errorf("a repair of what is well did something (%+v, %v)", d, err)
	}
	b.wantPlanEmpty(settled)
}

func TestRepairThatFailsIsToldOnce(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", settled)
	b.platform.Change("Queue", map[string]any{"QueueName": "jobs", "DelaySeconds": "6"})
	b.platform.Fail("update", "Queue", fault.New(fault.Unsupported, "a queue keeps its delay"))
	for range 3 {
		d, err := b.settle(stack.RepairDrift)
		if !fault.Is(err, fault.Unsupported) || !strings.Contains(fault.HintOf(err), "makeitso drift app --adopt") || d.Status != stack.Drifted {
			t.Errorf("got %+v, %v (%s)", d, err, fault.HintOf(err))
		}
	}
	b.wantTransitions("Queue", "CREATE_IN_PROGRESS CREATE_IN_PROGRESS CREATE_COMPLETE UPDATE_IN_PROGRESS UPDATE_FAILED")
	b.platform.On("update", "Queue", nil)
	if d, err := b.settle(stack.RepairDrift); err != nil || d.Status != stack.InSync {
		t.Errorf("when it can be repaired, got %+v, %v", d, err)
	}
}

func TestDriftIsAdopted(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", settled)
	b.platform.Change("Queue", map[string]any{"QueueName": "jobs", "DelaySeconds": 6.0})
	b.platform.Lose("Reader")
	d, err := b.settle(stack.AdoptDrift)
	if err != nil || d.Status != stack.InSync || len(d.Resources) != 1 {
		t.Fatalf("got %+v, %v", d, err)
	}
	cs := b.plan("app", settled, nil)
	if len(cs.Changes) != 2 || cs.Changes[0].Action != changeset.Modify || cs.Changes[1].Action != changeset.Add {
		t.Fatalf("the next plan is %+v", cs.Changes)
	}
	if target := cs.Changes[0].Details[0].Target; target.Path != "/Properties/DelaySeconds" || target.BeforeValue != "6" || target.AfterValue != "5" {
		t.Errorf("the queue's change is %+v", target)
	}
	b.mustApply("app", settled)
	b.wantPlanEmpty(settled)
	if d := b.drift("app"); d[""].Status != stack.InSync || len(d) != 3 {
		t.Errorf("after the next apply, the drift is %+v", d)
	}
}

// wantPlanEmpty says that the template would change nothing of app.
func (b *bench) wantPlanEmpty(template string) {
	b.t.Helper()
	if cs := b.plan("app", template, nil); !cs.Empty() {
		b.t.Errorf("the plan is %+v", cs.Changes)
	}
}

func TestDriftIsLeftToAChangeUnderWay(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", settled)
	b.platform.Change("Queue", map[string]any{"QueueName": "jobs"})
	started, release := b.platform.Block("update", "Queue")
	defer release()
	done := make(chan error, 1)
	go func() { done <- b.apply("app", strings.Replace(settled, "DelaySeconds: 5", "DelaySeconds: 7", 1)) }()
	<-started
	if _, err := b.settle(stack.RepairDrift); !fault.Is(err, fault.Conflict) {
		t.Errorf("during a change, it answered %v", err)
	}
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// One that begins between the look and the answer takes the look's worth.
	b.platform.On("read", "Queue", func(context.Context, stack.Request) error {
		b.platform.On("read", "Queue", nil)
		return b.apply("app", settled)
	})
	if d, err := b.settle(stack.ReportDrift); !fault.Is(err, fault.Conflict) {
		t.Errorf("a change meanwhile gives %+v, %v", d, err)
	}
}

func TestTwoRepairOnce(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", settled)
	b.platform.Change("Queue", map[string]any{"QueueName": "jobs"})
	other := stack.New("local", b.platform, b.store, stack.Options{Holder: "other", Alive: func(string) bool { return true }})
	started, release := b.platform.Block("update", "Queue")
	defer release()
	done := make(chan error, 1)
	go func() { _, err := b.settle(stack.RepairDrift); done <- err }()
	<-started
	if _, err := other.Drift(t.Context(), "app", stack.RepairDrift, nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("the second answered %v", err)
	}
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if calls := b.platform.Calls(); fmt.Sprint(calls) != "[create Queue create Reader update Queue]" {
		t.Errorf("the calls were %v", calls)
	}
}

func TestNotComparedForDrift(t *testing.T) {
	b := newBench(t)
	b.platform.SetParameter("/name", "first")
	b.files = map[string][]byte{"a.yaml": []byte("Resources: {Thing: {Type: Test::Thing}}")}
	b.mustApply("app", `
Resources:
  Queue: {Type: "AWS::SQS::Queue", Properties: {QueueName: "{{resolve:ssm:/name}}", KmsMasterKeyId: a}}
  Nested: {Type: "AWS::CloudFormation::Stack", Properties: {TemplateURL: a.yaml}}
`)
	b.platform.Change("Queue", map[string]any{"QueueName": "second", "KmsMasterKeyId": "a"})
	d := b.drift("app")
	if d["Queue"].Status != stack.InSync {
		t.Errorf("a dynamic reference is compared: %+v", d["Queue"])
	}
	if d["Nested"].Status != stack.NotChecked {
		t.Errorf("a nested stack is %+v", d["Nested"])
	}
}
