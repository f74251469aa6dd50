package stack_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/pace"
	"makeitso/internal/stack"
)

func (b *bench) wantInstances(want string) {
	b.t.Helper()
	if got := b.platform.Instances("Group"); got != want {
		b.t.Errorf("instances are %q, want %q", got, want)
	}
}

func TestRollingUpdate(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", group("one", 3))
	b.wantInstances("i-1:one i-2:one i-3:one")
	b.events = nil
	b.signalAll()
	b.mustApply("app", group("two", 3))
	b.wantInstances("i-4:two i-5:two i-6:two")
	want := strings.Split(`Rolling update initiated. Terminating 3 obsolete instance(s) in batches of 1, while keeping at least 2 instance(s) in service. Waiting on resource signals with a timeout of PT1H when new instances are added to the autoscaling group.
Temporarily setting autoscaling group MinSize and DesiredCapacity to 3.
Terminating instance(s) [i-1]; replacing with 1 new instance(s).
Successfully terminated instance(s) [i-1] (Progress 33%).
New instance(s) added to autoscaling group - Waiting on 1 resource signal(s) with a timeout of PT1H.
Received SUCCESS signal with UniqueId i-4
Terminating instance(s) [i-2]; replacing with 1 new instance(s).
Successfully terminated instance(s) [i-2] (Progress 67%).
New instance(s) added to autoscaling group - Waiting on 1 resource signal(s) with a timeout of PT1H.
Received SUCCESS signal with UniqueId i-5
Terminating instance(s) [i-3]; replacing with 1 new instance(s).
Successfully terminated instance(s) [i-3] (Progress 100%).
New instance(s) added to autoscaling group - Waiting on 1 resource signal(s) with a timeout of PT1H.
Received SUCCESS signal with UniqueId i-6`, "\n")
	if got := b.reasons("Group"); got != strings.Join(want, "\n") {
		t.Errorf("events of the group:\n%s", got)
	}
	b.wantStatus("app", stack.UpdateComplete)
}

// TestRollingUpdateIsRolledBack replaces one instance, whose successor says
// that it is not well: the roll back goes by the policy there was before.
func TestRollingUpdateIsRolledBack(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", strings.Replace(group("one", 3), "WaitOnResourceSignals: true, PauseTime: PT1H", "MaxBatchSize: 3", 1))
	b.events = nil
	b.signalOn("launch", "Group", stack.Signal{Status: pace.Failure})
	if err := b.apply("app", group("two", 3)); !fault.Is(err, fault.Failed) {
		t.Errorf("apply answered %v", err)
	}
	b.wantStatus("app", stack.UpdateRollbackComplete)
	b.wantInstances("i-2:one i-3:one i-5:one")
	b.wantReason("Group", "Received 0 SUCCESS signal(s) out of 3.  Unable to satisfy 100% MinSuccessfulInstancesPercent requirement")
	b.wantReason("Group", "Terminating 1 obsolete instance(s) in batches of 3, while keeping at least 2 instance(s) in service.\n")
}

func TestRollingUpdateWithoutSignals(t *testing.T) {
	b := newBench(t)
	const silent = "WaitOnResourceSignals: true, PauseTime: PT1H"
	// Time that is over counts as a failure, of which there may be some.
	b.mustApply("app", group("one", 3))
	b.mustApply("app", strings.Replace(group("two", 3), silent, "WaitOnResourceSignals: true, PauseTime: PT0S, MinSuccessfulInstancesPercent: 0", 1))
	b.wantReason("Group", "Failed to receive 1 resource signal(s) for the current batch.  Each resource signal timeout is counted as a FAILURE.")
	b.mustApply("app", strings.Replace(group("three", 3), silent, "MaxBatchSize: 2", 1))
	b.wantInstances("i-7:three i-8:three i-9:three")
	err := b.apply("app", strings.Replace(group("four", 3), "MinInstancesInService: 2", "MinInstancesInService: 4", 1))
	if err == nil || !strings.Contains(err.Error(), "MinInstancesInService must be less than") {
		t.Errorf("apply answered %v", err)
	}
}

func TestReplacingUpdate(t *testing.T) {
	b := newBench(t)
	replacing := func(launch string) string {
		return strings.Replace(group(launch, 1), "AutoScalingRollingUpdate: {MinInstancesInService: 2, WaitOnResourceSignals: true, PauseTime: PT1H, SuspendProcesses: [AZRebalance]}",
			"AutoScalingReplacingUpdate: {WillReplace: true}", 1)
	}
	b.mustApply("app", replacing("one"))
	was := b.platform.Things()[0].Token
	cs := b.plan("app", replacing("two"), nil)
	if cs.Changes[0].Replacement != changeset.ReplaceTrue {
		t.Errorf("the plan says Replacement %s", cs.Changes[0].Replacement)
	}
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Fatal(err)
	}
	if is := b.platform.Things()[0].Token; is == was {
		t.Error("the group was not replaced")
	}
	b.wantInstances("i-1:two")
	if cs := b.plan("app", strings.Replace(replacing("two"), "MaxSize: 2", "MaxSize: 5", 1), nil); cs.Changes[0].Replacement != changeset.ReplaceFalse {
		t.Error("another size replaces the group")
	}
}

// TestGroupSizesAreLeft changes a group that was scaled meanwhile.
func TestGroupSizesAreLeft(t *testing.T) {
	scheduled := func(launch, most string) string {
		return strings.Replace(strings.Replace(group(launch, 1), "AutoScalingRollingUpdate:", "AutoScalingScheduledAction: {IgnoreUnmodifiedGroupSizeProperties: true}\n      AutoScalingRollingUpdate:", 1), "MaxSize: 2", "MaxSize: "+most, 1)
	}
	b := newBench(t)
	b.signalAll()
	b.mustApply("app", scheduled("one", "5"))
	b.platform.Change("Group", map[string]any{"MinSize": "3", "MaxSize": "4", "LaunchConfigurationName": "one"})
	b.mustApply("app", scheduled("one", "6"))
	if got := b.things(); !strings.Contains(got, `"MaxSize":"6","MinSize":"3"`) {
		t.Errorf("the group is %s", got)
	}
}

// TestPoliciesInAChangeSet says that another policy alone is no update.
func TestPoliciesInAChangeSet(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", group("one", 1))
	other := strings.Replace(group("one", 1), "PT1H", "PT5M", 1)
	if cs := b.plan("app", other, nil); !cs.Empty() {
		t.Errorf("another policy alone gives %+v", cs.Changes)
	}
	cs := b.plan("app", strings.Replace(other, "one", "two", 1), nil)
	if !slices.Equal(cs.Changes[0].Scope, []string{"Properties", "UpdatePolicy"}) {
		t.Errorf("the scope is %v", cs.Changes[0].Scope)
	}
}

// TestRollingUpdateIsSuspended stops a process in the middle of a batch.
func TestRollingUpdateIsSuspended(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", group("one", 2))
	ctx, stop := context.WithCancelCause(t.Context())
	cs := b.plan("app", group("two", 2), nil)
	b.platform.On("launch", "Group", func(context.Context, stack.Request) error { stop(stack.ErrSuspend); return nil })
	if err := b.engine.Apply(ctx, cs, nil); err == nil {
		t.Fatal("a suspended apply answered nil")
	}
	b.signalAll()
	if err := b.engine.Signal(t.Context(), "app", "Group", good("i-3")); err != nil {
		t.Fatal(err)
	}
	b.engine = stack.New("local", b.platform, b.store, stack.Options{Holder: "second"})
	if err := b.engine.Resume(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.UpdateComplete)
	for _, i := range strings.Fields(b.platform.Instances("Group")) {
		if !strings.HasSuffix(i, ":two") {
			t.Errorf("instances are %s", b.platform.Instances("Group"))
		}
	}
}

// TestRollBackIsSuspended stops a process while a roll back waits for a new
// instance: the next one waits for it too.
func TestRollBackIsSuspended(t *testing.T) {
	b := newBench(t)
	without := func(launch string) string {
		return strings.Replace(group(launch, 2), "MinInstancesInService: 2", "MinInstancesInService: 0", 1)
	}
	b.mustApply("app", without("one"))
	ctx, stop := context.WithCancelCause(t.Context())
	launched := 0
	b.platform.On("launch", "Group", func(ctx context.Context, r stack.Request) error {
		if launched++; launched == 1 {
			return b.engine.Signal(ctx, "app", "Group", bad(r.PhysicalID))
		}
		stop(stack.ErrSuspend)
		return nil
	})
	if err := b.engine.Apply(ctx, b.plan("app", without("two"), nil), nil); err == nil {
		t.Fatal("a suspended apply answered nil")
	}
	b.engine = stack.New("local", b.platform, b.store, stack.Options{Holder: "second"})
	wait := b.engine.Continue(t.Context(), b.listen)
	b.wantStatus("app", stack.UpdateRollbackInProgress)
	if err := b.engine.Signal(t.Context(), "app", "Group", good("well")); err != nil {
		t.Fatal(err)
	}
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.UpdateRollbackComplete)
}
