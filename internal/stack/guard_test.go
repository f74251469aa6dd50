package stack_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

func TestProtect(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", chain)
	if err := b.engine.Protect(t.Context(), "app", true); err != nil {
		t.Fatal(err)
	}
	if _, err := b.engine.PlanDelete(t.Context(), "app"); !fault.Is(err, fault.Denied) {
		t.Errorf("a plan to delete a protected stack answered %v", err)
	}
	if err := b.engine.Delete(t.Context(), "app", nil); !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), "TerminationProtection") {
		t.Errorf("delete of a protected stack answered %v", err)
	}
	b.mustApply("app", strings.Replace(chain, "one", "two", 1)) // the protection outlives an update
	if err := b.engine.Delete(t.Context(), "app", nil); !fault.Is(err, fault.Denied) {
		t.Errorf("after an update, delete answered %v", err)
	}
	if err := b.engine.Protect(t.Context(), "app", false); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Delete(t.Context(), "app", nil); err != nil {
		t.Error(err)
	}
	if err := b.engine.Protect(t.Context(), "app", true); !fault.Is(err, fault.NotFound) {
		t.Errorf("protecting what is gone answered %v", err)
	}
}

const guarded = `
Resources:
  Queue: {Type: "AWS::SQS::Queue", Properties: {QueueName: first, DelaySeconds: 1}}
  Other: {Type: "AWS::SQS::Queue", Properties: {QueueName: other, DelaySeconds: 1}}
  Thing: {Type: Test::Thing}
`

func TestStackPolicy(t *testing.T) {
	everything := `{"Effect":"Allow","Action":"Update:*","Principal":"*","Resource":"*"}`
	modify := func(s string) string {
		return strings.Replace(s, "first, DelaySeconds: 1", "first, DelaySeconds: 2", 1)
	}
	replace := func(s string) string { return strings.Replace(s, "first", "second", 1) }
	remove := func(s string) string { return strings.Replace(s, "  Thing: {Type: Test::Thing}\n", "", 1) }
	for name, c := range map[string]struct {
		statements string
		change     func(string) string
		denied     string
	}{
		"all":                {everything, replace, ""},
		"default is to deny": {`{"Effect":"Allow","Action":"Update:Modify","Principal":"*","Resource":"LogicalResourceId/Other"}`, modify, "[Update:Modify] for resource [LogicalResourceId/Queue]"},
		"deny wins":          {everything + `,{"Effect":"Deny","Action":["Update:Replace","Update:Delete"],"Principal":"*","Resource":"LogicalResourceId/Q*"}`, replace, "[Update:Replace]"},
		"modify alone":       {everything + `,{"Effect":"Deny","Action":["Update:Replace","Update:Delete"],"Principal":"*","Resource":"LogicalResourceId/Q*"}`, modify, ""},
		"by type": {everything + `,{"Effect":"Deny","Action":"Update:Delete","Principal":"*","Resource":"*","Condition":{"StringLike":{"ResourceType":["Test::*"]}}}`,
			remove, "[Update:Delete] for resource [LogicalResourceId/Thing]"},
		"by another type": {everything + `,{"Effect":"Deny","Action":"Update:*","Principal":"*","Resource":"*","Condition":{"StringEquals":{"ResourceType":"Test::*"}}}`, remove, ""},
		"not":             {everything + `,{"Effect":"Deny","NotAction":"Update:Modify","Principal":"*","NotResource":"LogicalResourceId/Thing"}`, remove, ""},
		"not, the others": {everything + `,{"Effect":"Deny","NotAction":"Update:Modify","Principal":"*","NotResource":"LogicalResourceId/Thing"}`, replace, "[Update:Replace]"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.mustApply("app", guarded)
			if err := b.engine.SetPolicy(t.Context(), "app", `{"Statement":[`+c.statements+`]}`); err != nil {
				t.Fatal(err)
			}
			change := changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(c.change(guarded))}
			_, err := b.engine.Plan(t.Context(), change)
			if denied := fault.Is(err, fault.Denied); denied != (c.denied != "") || denied && !strings.Contains(err.Error(), c.denied) {
				t.Errorf("answered %v, want %q denied", err, c.denied)
			}
			change.Policy = `{"Statement":[` + everything + `]}`
			if _, err := b.engine.Plan(t.Context(), change); err != nil {
				t.Errorf("with a policy of its own, the change answered %v", err)
			}
		})
	}
	b := newBench(t)
	b.mustApply("app", guarded)
	for _, wrong := range []string{"", "{}", `{"Statement":[{"Effect":"Maybe","Action":"Update:*","Principal":"*","Resource":"*"}]}`,
		`{"Statement":[{"Effect":"Allow","Action":"Update:Eat","Principal":"*","Resource":"*"}]}`, `{"Statement":[{"Effect":"Allow","Principal":"*","Resource":"*"}]}`} {
		if err := b.engine.SetPolicy(t.Context(), "app", wrong); !fault.Is(err, fault.Invalid) {
			t.Errorf("policy %s answered %v", wrong, err)
		}
	}
}

// TestSnapshot removes and replaces what has a policy of Snapshot.
func TestSnapshot(t *testing.T) {
	const before = `
Resources:
  Gone: {Type: "Snapshot::Disk", DeletionPolicy: Snapshot}
  Changed: {Type: "Snapshot::Disk", UpdateReplacePolicy: Snapshot, DeletionPolicy: Retain}
  Plain: {Type: Test::Thing, DeletionPolicy: Snapshot}
  Database: {Type: "AWS::RDS::DBInstance"}
  Given: {Type: "AWS::RDS::DBInstance", DeletionPolicy: Delete}
  Member: {Type: "AWS::RDS::DBInstance", Properties: {DBClusterIdentifier: other}}
`
	const after = `
Resources:
  Changed: {Type: Test::Thing}
`
	b := newBench(t)
	b.mustApply("app", before)
	actions := map[string]string{}
	for _, c := range b.plan("app", after, nil).Changes {
		actions[c.LogicalID] = c.PolicyAction
	}
	want := map[string]string{
		"Gone": "Snapshot", "Changed": "ReplaceAndSnapshot", "Plain": "Delete", "Database": "Snapshot", "Given": "Delete", "Member": "Delete",
	}
	if !maps.Equal(actions, want) {
		t.Errorf("planned %v; want %v", actions, want)
	}
	b.platform.Fail("snapshot", "Gone", errors.New("disk full"))
	b.mustApply("app", after)
	if things := b.things(); !strings.Contains(things, "Gone") || strings.Contains(things, "Plain") {
		t.Errorf("without its snapshot the disk went, or the rest stayed: %s", things)
	}
	b.platform.On("snapshot", "Gone", nil)
	b.events = nil
	if err := b.engine.Delete(t.Context(), "app", b.listen); err != nil {
		t.Fatal(err)
	}
	b.wantThings("")
	kept := map[string]bool{}
	for _, e := range b.events {
		kept[e.LogicalID+": "+e.Reason] = e.Status == stack.DeleteComplete
	}
	if !kept["Gone: snapshot kept: snapshot of Gone"] {
		t.Errorf("the snapshot was not told: %v", kept)
	}
	snapshots := map[string]int{}
	for _, c := range b.platform.Calls() {
		if c.Action == "snapshot" && c.LogicalID != "Gone" {
			snapshots[c.LogicalID]++
		}
	}
	if !maps.Equal(snapshots, map[string]int{"Changed": 1, "Database": 1}) {
		t.Errorf("snapshots %v; want one of what was replaced, and of a database without a policy", snapshots)
	}
}

// TestWarnings plans what a handler has something to tell of.
func TestWarnings(t *testing.T) {
	b := newBench(t)
	const template = `
Parameters: {Secret: {Type: String, NoEcho: true, Default: hidden}}
Resources:
  Loud: {Type: "Warned::Thing", Properties: {Says: !Sub "restarts with ${Secret}"}}
`
	cs := b.plan("app", template, nil)
	if len(cs.Warnings) != 1 || cs.Warnings[0].Severity != diag.Warning || cs.Warnings[0].Summary != "Loud: it says restarts with ****" {
		t.Errorf("warnings %v", cs.Warnings)
	}
	var text strings.Builder
	if err := cs.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "warning: Loud: it says") {
		t.Errorf("a reader is not warned:\n%s", text.String())
	}
	digest := cs.Digest
	cs.Warnings = nil
	if err := cs.Seal(); err != nil || cs.Digest != digest {
		t.Errorf("an approval is for other warnings only: %v", err)
	}
}

func TestContinueRollback(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", chain)
	if err := b.engine.ContinueRollback(t.Context(), "app", nil, nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("continuing nothing answered %v", err)
	}
	b.platform.Fail("update", "C", errors.New("will not"))
	if err := b.apply("app", strings.Replace(chain, "one", "two", 1)); err == nil {
		t.Fatal("the update did not fail")
	}
	b.wantStatus("app", stack.UpdateRollbackFailed)
	if err := b.engine.ContinueRollback(t.Context(), "app", nil, b.listen); !fault.Is(err, fault.Failed) {
		t.Errorf("while the cause is there, it answered %v", err)
	}
	if err := b.engine.ContinueRollback(t.Context(), "app", []string{"A"}, b.listen); !fault.Is(err, fault.Invalid) || fault.HintOf(err) != "skip those alone that failed: C" {
		t.Errorf("skipping what did not fail answered %v", err)
	}
	b.wantStatus("app", stack.UpdateRollbackFailed)
	b.events = nil
	if err := b.engine.ContinueRollback(t.Context(), "app", []string{"C"}, b.listen); err != nil {
		t.Error(err)
	}
	b.wantStatus("app", stack.UpdateRollbackComplete)
	b.wantTransitions("C", "UPDATE_COMPLETE")
	b.wantThings(`A{"Value":"one"} B{"Value":"one-b"} C{"Value":"one-b"}`)
	b.platform.On("update", "C", nil)
	b.mustApply("app", strings.Replace(chain, "one", "three", 1))
	b.wantThings(`A{"Value":"three"} B{"Value":"three-b"} C{"Value":"three-b"}`)
}

// TestDisableRollback leaves what failed as it is, until it is rolled back.
func TestDisableRollback(t *testing.T) {
	b := newBench(t)
	attempt := func(template string) error {
		cs, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(template), DisableRollback: true})
		if err != nil {
			t.Fatal(err)
		}
		err = b.engine.Apply(t.Context(), cs, nil)
		if again := b.engine.Apply(t.Context(), cs, nil); (again == nil) != (err == nil) {
			t.Errorf("applied again, it answered %v, first %v", again, err)
		}
		return err
	}
	b.platform.Fail("create", "C", errors.New("broken"))
	if err := attempt(chain); !fault.Is(err, fault.Failed) {
		t.Errorf("a create that fails answered %v", err)
	}
	b.wantStatus("app", stack.CreateFailed)
	b.wantThings(`A{"Value":"one"} B{"Value":"one-b"}`)
	if err := b.engine.Resume(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.CreateFailed) // nothing goes on by itself
	if _, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(chain)}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a plan of it answered %v", err)
	}
	if err := b.engine.Rollback(t.Context(), "app", nil); err != nil {
		t.Error(err)
	}
	b.wantStatus("app", stack.RollbackComplete)
	b.wantThings("")

	b.platform.On("create", "C", nil)
	if err := attempt(chain); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Rollback(t.Context(), "app", nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("rolling back what did not fail answered %v", err)
	}
	b.platform.Fail("create", "D", errors.New("broken"))
	if err := attempt(strings.Replace(chain, "one", "two", 1) + "\nMetadata: {}\n"); err != nil {
		t.Fatal(err)
	}
	if err := attempt(strings.Replace(strings.Replace(chain, "one", "three", 1), "Outputs:", "  D: {Type: Test::Thing, DependsOn: C}\nOutputs:", 1)); err == nil {
		t.Fatal("the update did not fail")
	}
	b.wantStatus("app", stack.UpdateFailed)
	b.wantThings(`A{"Value":"three"} B{"Value":"three-b"} C{"Value":"three-b"}`)
	if err := b.engine.Rollback(t.Context(), "app", nil); err != nil {
		t.Error(err)
	}
	b.wantStatus("app", stack.UpdateRollbackComplete)
	b.wantThings(`A{"Value":"two"} B{"Value":"two-b"} C{"Value":"two-b"}`)
	b.platform.On("create", "D", nil)
	b.mustApply("app", chain)
}

// TestProtectedOverANewBegin keeps what was said of a stack whose creation was
// rolled back when it is created again.
func TestProtectedOverANewBegin(t *testing.T) {
	b := newBench(t)
	b.platform.Fail("create", "C", errors.New("broken"))
	if err := b.apply("app", chain); err == nil {
		t.Fatal("it did not fail")
	}
	const policy = `{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "Update:*", "Resource": "*"}]}`
	if err := errors.Join(b.engine.Protect(t.Context(), "app", true), b.engine.SetPolicy(t.Context(), "app", policy)); err != nil {
		t.Fatal(err)
	}
	b.platform.On("create", "C", nil)
	b.mustApply("app", chain)
	if s, err := b.engine.Stack(t.Context(), "app"); err != nil || !s.Protected || s.Policy != policy {
		t.Errorf("the stack is %+v (%v)", s, err)
	}
}
