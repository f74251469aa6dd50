package stack_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/pace"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
)

// with applies a template with the settings of a change.
func (b *bench) with(c changeset.Change) error {
	b.t.Helper()
	c.Stack, c.File = "app", "app.yaml"
	cs, err := b.engine.Plan(b.t.Context(), c)
	if err != nil {
		return err
	}
	return b.engine.Apply(b.t.Context(), cs, b.listen)
}

const alarm = "arn:aws:cloudwatch:us-east-1:000000000000:alarm:errors"

func TestLimitsAreChecked(t *testing.T) {
	for _, c := range []struct {
		change changeset.Change
		want   string
	}{
		{changeset.Change{DisableRollback: true, OnFailure: changeset.OnFailureDelete}, "Either DisableRollback or OnFailure can be specified, not both."},
		{changeset.Change{OnFailure: "PANIC"}, `OnFailure is "PANIC"; allowed are DO_NOTHING, ROLLBACK, DELETE`},
		{changeset.Change{Rollback: pace.Alarms{ARNs: []string{"arn:aws:sns:us-east-1:1:topic"}}}, "Rollback Trigger Type not supported"},
		{changeset.Change{Rollback: pace.Alarms{ARNs: []string{"arn:aws:cloudwatch:us-east-1:1:errors"}}}, "RelativeId of a Rollback Trigger's ARN is incorrect"},
		{changeset.Change{Rollback: pace.Alarms{Monitor: 4 * time.Hour}}, "watched for 4h;"},
		{changeset.Change{Rollback: pace.Alarms{ARNs: make([]string, 6)}}, "6 alarms"},
	} {
		c.change.Template = []byte(chain)
		if err := newBench(t).with(c.change); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v:\n got %v\nwant %s", c.change.Rollback, err, c.want)
		}
	}
}

func TestOnFailure(t *testing.T) {
	for onFailure, status := range map[string]string{
		"": stack.RollbackComplete, changeset.OnFailureRollback: stack.RollbackComplete, changeset.OnFailureNothing: stack.CreateFailed, changeset.OnFailureDelete: "gone",
	} {
		b := newBench(t)
		b.platform.Fail("create", "C", fault.New(fault.Failed, "broken"))
		if err := b.with(changeset.Change{Template: []byte(chain), OnFailure: onFailure}); !fault.Is(err, fault.Failed) {
			t.Errorf("%s: apply answered %v", onFailure, err)
		}
		b.wantStatus("app", status)
		if kept := b.things() != ""; kept != (onFailure == changeset.OnFailureNothing) {
			t.Errorf("%s: what exists is %q", onFailure, b.things())
		}
	}
	// An update that fails is rolled back all the same.
	b := newBench(t)
	b.mustApply("app", chain)
	b.platform.Fail("update", "B", fault.New(fault.Failed, "broken"))
	if err := b.with(changeset.Change{Template: []byte(strings.Replace(chain, "one", "two", 1)), OnFailure: changeset.OnFailureDelete}); err == nil {
		t.Error("apply answered nil")
	}
	b.wantStatus("app", stack.UpdateRollbackFailed)
}

func TestCreationTakesTooLong(t *testing.T) {
	b := newBench(t)
	err := b.with(changeset.Change{Template: []byte(strings.Replace(instance, "TIMEOUT", "PT1H", 1)), Timeout: 100 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "Stack creation time exceeded the specified timeout.") {
		t.Errorf("apply answered %v", err)
	}
	b.wantReason("app", "Stack creation time exceeded the specified timeout.")
	b.wantReason("Server", "Resource creation cancelled")
	b.wantStatus("app", stack.RollbackComplete)
}

func TestAlarmRollsBack(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", chain)
	goOff := b.platform.AddAlarm(alarm)
	b.platform.On("update", "C", func(context.Context, stack.Request) error { goOff(); return nil })
	update := changeset.Change{Template: []byte(strings.Replace(chain, "one", "two", 1)), Rollback: pace.Alarms{ARNs: []string{alarm}, Monitor: time.Hour}}
	if err := b.with(update); err == nil || !strings.Contains(err.Error(), "alarm "+alarm+" is in state ALARM") {
		t.Errorf("apply answered %v", err)
	}
	b.wantStatus("app", stack.UpdateRollbackComplete)
	b.wantThings(`A{"Value":"one"} B{"Value":"one-b"} C{"Value":"one-b"}`)
	update.Rollback.ARNs[0] += "-other"
	if err := b.with(update); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "rollback: there is no alarm") {
		t.Errorf("a missing alarm answered %v", err)
	}
	if s, err := b.engine.Stack(t.Context(), "app"); err != nil || s.Revision != 2 {
		t.Errorf("with a missing alarm something was begun: %+v (%v)", s, err)
	}
}

// TestAlarmUnreadable watches an alarm that cannot be read for a while: that says
// nothing of the change, which stops where it stands and is gone on with.
func TestAlarmUnreadable(t *testing.T) {
	b := newBench(t)
	goOff := b.platform.AddAlarm(alarm)
	b.engine = stack.New("local", blind{b.platform}, b.store, stack.Options{Holder: "test"})
	c := changeset.Change{Template: []byte(chain), Rollback: pace.Alarms{ARNs: []string{alarm}, Monitor: time.Hour}}
	if err := b.with(c); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "watch alarm "+alarm) {
		t.Errorf("apply answered %v", err)
	}
	b.wantStatus("app", stack.CreateInProgress)
	b.engine = stack.New("local", b.platform, b.store, stack.Options{Holder: "second"})
	wait := b.engine.Continue(t.Context(), nil)
	b.wantStatus("app", stack.CreateInProgress)
	goOff()
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.RollbackComplete)
}

// blind is a platform whose alarms cannot be read.
type blind struct{ *stacktest.Platform }

func (blind) WaitAlarm(context.Context, string) error { return fault.New(fault.Unavailable, "dark") }

// over is a platform that stands over another one.
type over struct{ stack.Platform }

func (o over) Beneath() stack.Platform { return o.Platform }

// TestLayersHideNothing asks for what only the platform beneath offers.
func TestLayersHideNothing(t *testing.T) {
	b := newBench(t)
	b.platform.AddAlarm(alarm)
	c := changeset.Change{Stack: "app", Template: []byte(chain), Rollback: pace.Alarms{ARNs: []string{alarm}}}
	for name, platform := range map[string]stack.Platform{"layer": over{over{b.platform}}, "wall": struct{ stack.Platform }{b.platform}} {
		b.engine = stack.New("local", platform, b.store, stack.Options{Holder: "test"})
		if _, err := b.engine.Plan(t.Context(), c); (err == nil) != (name == "layer") {
			t.Errorf("%s: a plan answered %v", name, err)
		}
	}
}

// TestMonitoringGoesOnAfterRestart stops a process that watches the alarms.
func TestMonitoringGoesOnAfterRestart(t *testing.T) {
	b := newBench(t)
	goOff := b.platform.AddAlarm(alarm)
	cs, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(chain), Rollback: pace.Alarms{ARNs: []string{alarm}, Monitor: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	err = b.engine.Apply(ctx, cs, func(e stack.Event) {
		if e.LogicalID == "C" && e.Status == stack.CreateComplete {
			stop(stack.ErrSuspend)
		}
	})
	if err == nil {
		t.Fatal("a suspended apply answered nil")
	}
	b.engine = stack.New("local", b.platform, b.store, stack.Options{Holder: "second"})
	wait := b.engine.Continue(t.Context(), b.listen)
	s, err := b.engine.Stack(t.Context(), "app")
	if err != nil || s.Status != stack.CreateInProgress || time.Until(s.Monitored) <= 0 {
		t.Errorf("the stack is %s, watched until %v (%v)", s.Status, s.Monitored, err)
	}
	goOff()
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.RollbackComplete)
	b.wantThings("")
}
