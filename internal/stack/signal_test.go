package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/pace"
	"makeitso/internal/record"
	"makeitso/internal/stack"
)

// reasons gives the reasons of the events of one logical id that have one.
func (b *bench) reasons(id string) string {
	var all []string
	for _, e := range b.events {
		if e.LogicalID == id && e.Reason != "" {
			all = append(all, e.Reason)
		}
	}
	return strings.Join(all, "\n")
}

func (b *bench) wantReason(id, want string) {
	b.t.Helper()
	if got := b.reasons(id); !strings.Contains(got, want) {
		b.t.Errorf("reasons of %s:\n got %s\nwant %s among them", id, got, want)
	}
}

// signalOn has a resource signalled while it is being made.
func (b *bench) signalOn(action, id string, signals ...stack.Signal) {
	b.platform.On(action, id, func(ctx context.Context, r stack.Request) error {
		for _, s := range signals {
			if s.UniqueID == "" {
				s.UniqueID = r.PhysicalID
			}
			if err := b.engine.Signal(ctx, "app", id, s); err != nil {
				return err
			}
		}
		return nil
	})
}

func good(id string) stack.Signal {
	return stack.Signal{Status: pace.Success, UniqueID: id, Data: "of " + id}
}

func bad(id string) stack.Signal {
	return stack.Signal{Status: pace.Failure, UniqueID: id, Reason: "no disk"}
}

const instance = `
Resources:
  Server:
    Type: AWS::EC2::Instance
    CreationPolicy: {ResourceSignal: {Count: 2, Timeout: TIMEOUT}}
  After: {Type: Test::Thing, Properties: {Server: !Ref Server}}
`

func TestCreationPolicy(t *testing.T) {
	template := strings.Replace(instance, "TIMEOUT", "PT1H", 1)
	for _, c := range []struct {
		name    string
		signals []stack.Signal
		status  string
		reason  string
	}{
		{"all come", []stack.Signal{good("a"), good("a"), good("b")}, stack.CreateComplete, "Received SUCCESS signal with UniqueId b"},
		{"one fails", []stack.Signal{good("a"), bad("b")}, stack.RollbackComplete, "Received FAILURE signal with UniqueId b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.signalOn("create", "Server", c.signals...)
			err := b.apply("app", template)
			if fault.Is(err, fault.Failed) != (c.status == stack.RollbackComplete) {
				t.Errorf("apply answered %v", err)
			}
			b.wantStatus("app", c.status)
			b.wantReason("Server", c.reason)
			if err := b.engine.Signal(t.Context(), "app", "Server", good("late")); err == nil || !strings.Contains(err.Error(), "cannot be signaled") && !fault.Is(err, fault.NotFound) {
				t.Errorf("a signal after the end answered %v", err)
			}
		})
	}
}

func TestCreationPolicyRunsOut(t *testing.T) {
	b := newBench(t)
	b.signalOn("create", "Server", good("a"))
	if err := b.apply("app", strings.Replace(instance, "TIMEOUT", "PT0S", 1)); err == nil {
		t.Error("apply answered nil")
	}
	b.wantReason("Server", "Failed to receive 1 resource signal(s) within the specified duration")
	b.wantThings("")
}

func TestPoliciesAreJudgedByThePlan(t *testing.T) {
	for _, c := range []struct{ resource, want string }{
		{`{Type: AWS::EC2::Instance, CreationPolicy: {ResourceSignal: {Timeout: PT13H}}}`, "at most PT12H"},
		{`{Type: AWS::EC2::Instance, CreationPolicy: {ResourceSignal: {Count: many}}}`, "[/Resources/X/CreationPolicy/ResourceSignal/Count] is many"},
		{`{Type: AWS::CloudFormation::WaitCondition, Properties: {Handle: a}}`, "[/Resources/X/Properties/Timeout] is required and missing"},
		{`{Type: AWS::CloudFormation::WaitCondition, Properties: {Handle: a, Timeout: 43201}}`, "0 to 43200"},
		{`{Type: Test::Thing, CreationPolicy: {ResourceSignal: {Count: 1}}}`, "CreationPolicy has no effect on X"},
		{`{Type: Test::Thing, UpdatePolicy: {UseOnlineResharding: true}}`, "UpdatePolicy has no effect on X"},
		{`{Type: AWS::AutoScaling::AutoScalingGroup, Properties: {MinSize: 1, MaxSize: 1}, UpdatePolicy: {AutoScalingRollingUpdate: {WaitOnResourceSignals: yes, MaxBatchSize: 0}}}`, "MaxBatchSize] is 0"},
	} {
		b := newBench(t)
		cs, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte("Resources: {X: " + c.resource + "}")})
		text := ""
		if err != nil {
			text = err.Error()
		} else {
			for _, w := range cs.Warnings {
				text += w.String()
			}
		}
		if !strings.Contains(text, c.want) {
			t.Errorf("%s:\n got %s\nwant %s", c.resource, text, c.want)
		}
	}
}

const condition = `
Resources:
  Handle: {Type: AWS::CloudFormation::WaitConditionHandle}
  Machine: {Type: Test::Thing, Properties: {Tell: !Ref Handle}}
  Condition: {Type: AWS::CloudFormation::WaitCondition, DependsOn: Machine, Properties: {Handle: !Ref Handle, Timeout: TIMEOUT, Count: 2}}
Outputs:
  Data: {Value: !GetAtt Condition.Data}
`

func TestWaitCondition(t *testing.T) {
	for _, c := range []struct {
		name, timeout string
		signals       []stack.Signal
		reason        string
	}{
		{"complete", "600", []stack.Signal{good("a"), good("b")}, ""},
		{"failed", "600", []stack.Signal{good("a"), bad("b")}, "WaitCondition received failed message: 'no disk' for uniqueId: b"},
		{"late", "0", []stack.Signal{good("a")}, "WaitCondition timed out. Received 1 conditions when expecting 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.platform.On("create", "Machine", func(ctx context.Context, r stack.Request) error {
				for _, s := range c.signals { // before the condition begins to wait
					if err := b.engine.Receive(ctx, r.Properties["Tell"].(string), s); err != nil {
						return err
					}
				}
				return nil
			})
			err := b.apply("app", strings.Replace(condition, "TIMEOUT", c.timeout, 1))
			if c.reason != "" {
				b.wantReason("Condition", c.reason)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			outputs, err := b.engine.Outputs(t.Context(), "app")
			if want := `{"a":"of a","b":"of b"}`; err != nil || outputs["Data"] != want {
				t.Errorf("Data is %s (%v), want %s", outputs["Data"], err, want)
			}
			longer := strings.Replace(condition, "TIMEOUT", "601", 1)
			if _, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(longer)}); err == nil || !strings.Contains(err.Error(), "Update to resource type AWS::CloudFormation::WaitCondition is not supported") {
				t.Errorf("a change of a condition answered %v", err)
			}
			// A signal of a condition goes to its handle.
			if err := b.engine.Signal(t.Context(), "app", "Condition", good("c")); err != nil {
				t.Error(err)
			}
			if err := b.engine.Receive(t.Context(), "x", stack.Signal{Status: "MAYBE", UniqueID: "x"}); !fault.Is(err, fault.Invalid) {
				t.Errorf("a wrong signal answered %v", err)
			}
		})
	}
}

// TestWaitingTakesNoSlot makes something after what waits, with one slot: it is
// what signals.
func TestWaitingTakesNoSlot(t *testing.T) {
	b := newBench(t)
	b.engine = stack.New("local", b.platform, b.store, stack.Options{Holder: "test", Parallel: 1})
	b.platform.On("create", "Zig", func(ctx context.Context, _ stack.Request) error {
		return b.engine.Signal(ctx, "app", "Ahead", good("a"))
	})
	b.mustApply("app", `
Resources:
  Ahead: {Type: AWS::EC2::Instance, CreationPolicy: {ResourceSignal: {Timeout: PT1H}}}
  Zig: {Type: Test::Thing}
`)
	b.wantTransitions("Ahead", "CREATE_IN_PROGRESS CREATE_IN_PROGRESS CREATE_IN_PROGRESS CREATE_COMPLETE")
}

// TestNestedStackWaits lets a nested stack wait for its parent, with one slot,
// over a restart.
func TestNestedStackWaits(t *testing.T) {
	b := newBench(t)
	options := stack.Options{Holder: "test", Parallel: 1}
	b.engine = stack.New("local", b.platform, b.store, options)
	cs := b.planChange(changeset.Change{Stack: "app", File: "app.yaml", OnFailure: changeset.OnFailureDelete, Timeout: time.Hour,
		Template: []byte(`Resources: {Inner: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: inner.yaml, TimeoutInMinutes: 5}}, Zig: {Type: Test::Thing}}`),
		Files:    map[string][]byte{"inner.yaml": []byte(strings.Replace(instance, "TIMEOUT", "PT1H", 1))}})
	if nested := cs.Nested["Inner"].Change; nested.Timeout != 5*time.Minute || nested.DisableRollback {
		t.Errorf("the nested stack has %+v", nested)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	b.platform.On("create", "Zig", func(ctx context.Context, _ stack.Request) error {
		stop(stack.ErrSuspend) // that the nested stack waits does not keep this from being made
		return context.Cause(ctx)
	})
	if err := b.engine.Apply(ctx, cs, nil); err == nil {
		t.Fatal("a suspended apply answered nil")
	}
	b.platform.On("create", "Zig", nil)
	b.engine = stack.New("local", b.platform, b.store, options)
	wait := b.engine.Continue(t.Context(), b.listen)
	inner := b.nested().Name
	for _, id := range []string{"a", "b"} {
		if err := b.engine.Signal(t.Context(), inner, "Server", good(id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.CreateComplete)
	b.wantStatus(inner, stack.CreateComplete)
}

// TestWaitIsGivenUp fails another resource while one waits.
func TestWaitIsGivenUp(t *testing.T) {
	b := newBench(t)
	b.platform.Fail("create", "Zig", fault.New(fault.Failed, "broken"))
	err := b.apply("app", `
Resources:
  Ahead: {Type: AWS::EC2::Instance, CreationPolicy: {ResourceSignal: {Timeout: PT1H}}}
  Zig: {Type: Test::Thing}
`)
	if !fault.Is(err, fault.Failed) {
		t.Errorf("apply answered %v", err)
	}
	b.wantReason("Ahead", "Resource creation cancelled")
	b.wantStatus("app", stack.RollbackComplete)
}

// TestWaitGoesOnAfterRestart stops a process that waits. The next one has the
// same deadline, counts what came meanwhile, and says when it waits.
func TestWaitGoesOnAfterRestart(t *testing.T) {
	b := newBench(t)
	ctx, stop := context.WithCancelCause(t.Context())
	cs := b.plan("app", strings.Replace(instance, "TIMEOUT", "PT1H", 1), nil)
	err := b.engine.Apply(ctx, cs, func(e stack.Event) {
		if e.Reason == "Resource creation Initiated" {
			stop(fmt.Errorf("makeitso is stopping: %w", stack.ErrSuspend))
		}
	})
	if err == nil {
		t.Fatal("a suspended apply answered nil")
	}
	before := b.until("Server")
	if time.Until(before) < 59*time.Minute {
		t.Errorf("the wait ends at %v", before)
	}
	before = before.Add(-30 * time.Minute) // as if half of it were over
	b.setUntil("Server", before)
	if err := b.engine.Signal(t.Context(), "app", "Server", good("a")); err != nil {
		t.Fatal(err)
	}
	b.engine = stack.New("local", b.platform, b.store, stack.Options{Holder: "second"})
	wait := b.engine.Continue(t.Context(), b.listen)
	b.wantStatus("app", stack.CreateInProgress)
	if after := b.until("Server"); !after.Equal(before) {
		t.Errorf("the wait ends at %v after a restart, was %v", after, before)
	}
	if err := b.engine.Signal(t.Context(), "app", "Server", good("b")); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Await(t.Context(), "app", nil); err != nil {
		t.Fatal(err)
	}
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.CreateComplete)
	b.wantThings(`After{"Server":"` + b.platform.Things()[1].Token + `"} Server{}`)
}

// until gives when the wait of a resource ends.
func (b *bench) until(id string) time.Time {
	b.t.Helper()
	var r struct {
		Step struct{ Wait struct{ Until time.Time } }
	}
	b.record("stack-resource", "local/app/"+id, &r)
	return r.Step.Wait.Until
}

// setUntil sets when the wait of a resource ends.
func (b *bench) setUntil(id string, until time.Time) {
	b.t.Helper()
	key := "local/app/" + id
	var r map[string]any
	b.record("stack-resource", key, &r)
	r["step"].(map[string]any)["wait"].(map[string]any)["until"] = until
	raw, err := json.Marshal(r)
	if err == nil {
		err = b.store.Write(b.t.Context(), record.Op{Kind: "stack-resource", Key: key, Value: raw})
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
