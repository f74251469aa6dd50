package stack_test

import (
	"errors"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

// undeletable makes a stack with a resource that cannot be deleted, and tries it.
func undeletable(t *testing.T, template, id string) *bench {
	t.Helper()
	b := newBench(t)
	b.files = nestedFiles()
	b.mustApply("app", template)
	b.platform.Fail("delete", id, errors.New("held"))
	if err := b.engine.Delete(t.Context(), "app", nil); !fault.Is(err, fault.Failed) || !strings.Contains(fault.HintOf(err), "--retain-resources") {
		t.Fatalf("the delete answered %v", err)
	}
	b.wantStatus("app", stack.DeleteFailed)
	return b
}

// TestDeleteLeaving says that a stack goes without what cannot be deleted, and
// what depends on it does not stay because of it.
func TestDeleteLeaving(t *testing.T) {
	for name, leave := range map[string]changeset.Leave{"by its name": {Resources: []string{"B"}}, "because it fails": {Failing: true}} {
		t.Run(name, func(t *testing.T) {
			b := undeletable(t, chain, "B")
			if err := b.engine.DeleteLeaving(t.Context(), "app", leave, b.listen); err != nil {
				t.Fatal(err)
			}
			b.wantStatus("app", "gone")
			if got := b.platform.Things(); len(got) != 1 || got[0].LogicalID != "B" {
				t.Errorf("there is left %+v", got)
			}
			skipped := ""
			for _, ev := range b.events {
				if ev.Status == stack.DeleteSkipped {
					skipped += ev.LogicalID + " " + ev.Reason
				}
			}
			if want := "B " + map[bool]string{true: "held"}[leave.Failing]; skipped != want {
				t.Errorf("it was told that %q was left, want %q", skipped, want)
			}
			b.mustApply("app", chain) // its name is free
		})
	}
}

// TestPlanOfWhatIsLeft says that a plan names what a delete before could not delete.
func TestPlanOfWhatIsLeft(t *testing.T) {
	for template, id := range map[string]string{chain: "B", nesting("small", "one"): "Inner"} {
		b := undeletable(t, template, map[string]string{"B": "B", "Inner": "Thing"}[id])
		cs, err := b.engine.PlanDelete(t.Context(), "app")
		if err != nil || len(cs.Changes) != 1 || cs.Changes[0].LogicalID != id || cs.Changes[0].PolicyAction != "Delete" {
			t.Errorf("the plan without %s is %+v (%v)", id, cs.Changes, err)
		}
		if inner := cs.Nested["Inner"]; id == "Inner" && (inner == nil || len(inner.Changes) != 1) {
			t.Errorf("of the nested stack it removes %+v", inner)
		}
	}
}

// TestLeavingInANestedStack says that what fails is left in nested stacks too.
func TestLeavingInANestedStack(t *testing.T) {
	b := undeletable(t, nesting("small", "one"), "Thing")
	err := b.engine.DeleteLeaving(t.Context(), "app", changeset.Leave{Resources: []string{"Inner"}}, nil)
	if !fault.Is(err, fault.Unsupported) || !strings.Contains(fault.HintOf(err), "FORCE_DELETE_STACK") {
		t.Errorf("leaving a stack whole answered %v", err)
	}
	if err := b.engine.DeleteLeaving(t.Context(), "app", changeset.Leave{Failing: true}, nil); err != nil {
		t.Fatal(err)
	}
	if got := b.platform.Things(); len(got) != 1 || got[0].LogicalID != "Thing" {
		t.Errorf("there is left %+v", got)
	}
	if left, err := b.engine.Stacks(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("the stacks left are %+v (%v)", left, err)
	}
}

// TestWhatIsNotLeft says when a delete may leave nothing.
func TestWhatIsNotLeft(t *testing.T) {
	b := undeletable(t, chain, "B")
	b.mustApply("well", "Resources: {B: {Type: Test::Thing}}")
	const gone = "The specified resources to retain must be in a valid state. Do not specify resources that are in the DELETE_COMPLETE state."
	for _, c := range []struct {
		stack string
		leave changeset.Leave
		says  string
	}{
		{"well", changeset.Leave{Resources: []string{"B"}}, "Invalid operation on stack [arn:aws:cloudformation:us-east-1:000000000000:stack/well/"},
		{"well", changeset.Leave{Failing: true}, "When you delete a stack, specify which resources to retain only when the stack is in the DELETE_FAILED state."},
		{"app", changeset.Leave{Resources: []string{"C"}}, gone},
		{"app", changeset.Leave{Resources: []string{"B", "None"}}, gone},
	} {
		if err := b.engine.DeleteLeaving(t.Context(), c.stack, c.leave, nil); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("leaving %+v of %s answered %v", c.leave, c.stack, err)
		}
	}
	b.wantStatus("well", stack.CreateComplete)
	b.wantStatus("app", stack.DeleteFailed)
}
