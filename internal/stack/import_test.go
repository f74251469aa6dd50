package stack_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

// leave makes a stack and deletes it, so that what it retains is left behind.
func (b *bench) leave(template string) {
	b.t.Helper()
	b.mustApply("left", template)
	if err := b.engine.Delete(b.t.Context(), "left", b.listen); err != nil {
		b.t.Fatalf("delete: %v", err)
	}
}

func (b *bench) planImport(name, template string, resources map[string]map[string]string) (*changeset.Set, error) {
	return b.engine.Plan(b.t.Context(), changeset.Change{Stack: name, File: name + ".yaml", Template: []byte(template), ResourcesToImport: resources})
}

func TestImport(t *testing.T) {
	b := newBench(t)
	b.leave(killLeft)
	b.wantTransitions("Left", "CREATE_IN_PROGRESS CREATE_IN_PROGRESS CREATE_COMPLETE DELETE_SKIPPED")
	if last := b.events[len(b.events)-2]; last.Status != stack.DeleteSkipped || last.PhysicalID == "" {
		t.Errorf("what was retained is told as %+v", last)
	}
	left := b.platform.Things()
	b.events = nil

	template := "Resources:\n" + killAdopted
	wanted := map[string]map[string]string{"First": {"": "left"}, "Second": {"BucketName": "right"}}
	cs, err := b.planImport("app", template, wanted)
	if err != nil {
		t.Fatal(err)
	}
	if cs.Action != changeset.Import || cs.Summary() != "2 to import" || cs.Changes[0].Action != "Import" || cs.Changes[0].PhysicalID != left[0].Token {
		t.Errorf("the change set is %s: %s, %+v", cs.Action, cs.Summary(), cs.Changes)
	}
	var text strings.Builder
	if err := cs.WriteText(&text); err != nil || !strings.Contains(text.String(), "<-  First   AWS::S3::Bucket  (imported as it is: "+left[0].Token+")") {
		t.Errorf("the change set is written as (%v)\n%s", err, &text)
	}
	if err := b.engine.Apply(t.Context(), cs, b.listen); err != nil {
		t.Fatal(err)
	}
	b.wantTransitions("app", "IMPORT_IN_PROGRESS IMPORT_COMPLETE")
	b.wantTransitions("First", "IMPORT_IN_PROGRESS IMPORT_COMPLETE")
	if now := b.platform.Things(); !reflect.DeepEqual(left, now) {
		t.Errorf("the import changed what it found: %v, was %v", now, left)
	}

	drift, err := b.engine.Drift(t.Context(), "app", stack.ReportDrift, nil)
	if err != nil || drift.Status != stack.Drifted || len(drift.Resources[0].Differences) != 1 || drift.Resources[1].Status != stack.InSync {
		t.Errorf("the drift after the import is %+v (%v)", drift, err)
	}
	if cs := b.plan("app", template, nil); !cs.Empty() {
		t.Errorf("after the import, the same template changes %v %v", cs.Changes, cs.Other)
	}
	if again := b.engine.Apply(t.Context(), cs, b.listen); again != nil {
		t.Errorf("the set applied again: %v", again)
	}
	// The stack's own from now on: changed, and deleted unless retained.
	b.mustApply("app", strings.NewReplacer("Kind: new", "Kind: newer", "DeletionPolicy: Retain,", "DeletionPolicy: Delete,").Replace(template))
	b.wantTransitions("First", "IMPORT_IN_PROGRESS IMPORT_COMPLETE UPDATE_IN_PROGRESS UPDATE_COMPLETE")
	if err := b.engine.Delete(t.Context(), "app", b.listen); err != nil {
		t.Fatal(err)
	}
	b.wantThings(`Right{"BucketName":"right"}`)
}

func TestImportRefusals(t *testing.T) {
	b := newBench(t)
	b.leave(killLeft)
	b.mustApply("base", `{"Resources":{"Mine":{"Type":"AWS::S3::Bucket","Properties":{"BucketName":"mine"}}}}`)
	b.mustApply("app", `{"Resources":{"Old":{"Type":"AWS::S3::Bucket","Properties":{"BucketName":"old"}}}}`)
	base, err := b.engine.Stack(t.Context(), "base")
	if err != nil {
		t.Fatal(err)
	}
	const old = `  Old: {Type: "AWS::S3::Bucket", Properties: {BucketName: old}}` + "\n"
	kept := func(name string) string {
		return `  New: {Type: "AWS::S3::Bucket", DeletionPolicy: Retain, Properties: {BucketName: ` + name + `}}` + "\n"
	}
	named := map[string]map[string]string{"New": {"BucketName": "left"}}
	for _, c := range []struct {
		name, resources string
		wanted          map[string]map[string]string
		message         string
	}{
		{"a resource that is not in the template", old, named, "The logical resource ids [New] provided in ResourceToImport do not exist in the template."},
		{"another identifier", old + kept("left"), map[string]map[string]string{"New": {"Arn": "left"}}, "Invalid resource identifier for resource type AWS::S3::Bucket. Expected [BucketName]"},
		{"half of an identifier", old + `  New: {Type: "AWS::EC2::Route", DeletionPolicy: Retain, Properties: {RouteTableId: a}}` + "\n", map[string]map[string]string{"New": {"": "a"}},
			"Invalid resource identifier for resource type AWS::EC2::Route. Expected [RouteTableId, CidrBlock]"},
		{"a resource of the stack", old + kept("left"), map[string]map[string]string{"Old": {"": "left"}}, "Resources [Old] passed in ResourceToImport are already in a stack and cannot be imported."},
		{"no policy", old + strings.Replace(kept("left"), "DeletionPolicy: Retain,", "", 1), named, "The following resources to import [New] must have DeletionPolicy attribute specified in the template."},
		{"a new resource besides", old + kept("left") + "  More: {Type: Test::Thing}\n", named, "Resources [More] is missing from ResourceToImport list"},
		{"a change besides", strings.Replace(old, "old}", "old, AccessControl: Private}", 1) + kept("left"), named,
			"You have modified resources [Old] in your template that are not being imported. Update, create or delete operations cannot be executed during import operations."},
		{"a removal besides", kept("left"), named, "You have modified resources [Old] in your template that are not being imported."},
		{"an output besides", old + kept("left") + "Outputs:\n  X: {Value: x}\n", named, "As part of the import operation, you cannot modify or add [Outputs]"},
		{"what does not exist", old + kept("gone"), map[string]map[string]string{"New": {"": "gone"}}, "resource New (AWS::S3::Bucket) to import with BucketName=gone was not found"},
		{"what another stack has", old + kept("mine"), map[string]map[string]string{"New": {"": "mine"}}, "already exists in stack " + base.ID},
		{"another name in the template", old + kept("right"), named, "resource New to import is left, but the template says BucketName right"},
		{"a type that cannot be imported", old + `  New: {Type: "AWS::IAM::Role", DeletionPolicy: Retain, Properties: {AssumeRolePolicyDocument: {}}}` + "\n", map[string]map[string]string{"New": {"": "x"}},
			"resource New cannot be imported: type AWS::IAM::Role does not support it on this platform"},
		{"one thing twice", old + kept("left") + strings.Replace(kept("left"), "New", "Twin", 1), map[string]map[string]string{"New": {"": "left"}, "Twin": {"": "left"}}, "already exists in stack "},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := b.planImport("app", "Resources:\n"+c.resources, c.wanted); err == nil || !strings.Contains(err.Error(), c.message) {
				t.Errorf("got %v, want %s", err, c.message)
			}
		})
	}
}

// TestImportRolledBack has an import fail halfway: what it found is as it was,
// and can be imported again.
func TestImportRolledBack(t *testing.T) {
	b := newBench(t)
	b.leave(killLeft)
	left := b.things()
	wanted := map[string]map[string]string{"First": {"": "left"}, "Second": {"": "right"}}
	cs, err := b.planImport("app", "Resources:\n"+killAdopted, wanted)
	if err != nil {
		t.Fatal(err)
	}
	b.platform.Fail("read", "Second", errors.New("broken"))
	b.events = nil
	if err := b.engine.Apply(t.Context(), cs, b.listen); !fault.Is(err, fault.Failed) {
		t.Errorf("an import that fails answered %v", err)
	}
	b.wantTransitions("app", "IMPORT_IN_PROGRESS IMPORT_ROLLBACK_IN_PROGRESS IMPORT_ROLLBACK_COMPLETE")
	b.wantTransitions("First", "IMPORT_IN_PROGRESS IMPORT_COMPLETE IMPORT_ROLLBACK_IN_PROGRESS IMPORT_ROLLBACK_COMPLETE")
	b.wantTransitions("Second", "IMPORT_IN_PROGRESS IMPORT_FAILED IMPORT_ROLLBACK_IN_PROGRESS IMPORT_ROLLBACK_COMPLETE")
	b.wantThings(left)
	b.platform.On("read", "Second", nil)
	if cs, err = b.planImport("app", "Resources:\n"+killAdopted, wanted); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Apply(t.Context(), cs, b.listen); err != nil {
		t.Error(err)
	}
	b.wantStatus("app", stack.ImportComplete)
}

// TestImportRace has two stacks take one thing at the same time: the second has
// looked whose it is before the first took it.
func TestImportRace(t *testing.T) {
	b := newBench(t)
	b.leave(killLeft)
	plan := func(name, id string) *changeset.Set {
		cs, err := b.planImport(name, strings.Replace("Resources:\n"+strings.SplitAfter(killAdopted, "\n")[1], "First", id, 1), map[string]map[string]string{id: {"": "left"}})
		if err != nil {
			t.Fatal(err)
		}
		return cs
	}
	one, two := plan("one", "First"), plan("two", "Other")
	started, release := b.platform.Block("find", "Other")
	done := make(chan error, 1)
	go func() { done <- b.engine.Apply(t.Context(), two, nil) }()
	<-started
	if err := b.engine.Apply(t.Context(), one, nil); err != nil {
		t.Errorf("the first import answered %v", err)
	}
	release()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "already exists in stack") {
		t.Errorf("the second import answered %v", err)
	}
	b.wantStatus("two", stack.ImportRollbackComplete)
	b.wantThings(`Left{"BucketName":"left","Kind":"old"} Right{"BucketName":"right"}`)
}

func TestImportExisting(t *testing.T) {
	b := newBench(t)
	b.leave(killLeft)
	template := "Resources:\n  Fresh: {Type: \"AWS::S3::Bucket\", Properties: {BucketName: fresh}}\n" + strings.ReplaceAll(killAdopted, "BucketName: right", "BucketName: !Sub \"${AWS::StackName}-x\"") +
		"Outputs:\n  Name: {Value: !GetAtt First.BucketName}\n"
	change := changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(template), ImportExisting: true}
	cs, err := b.engine.Plan(t.Context(), change)
	if err != nil {
		t.Fatal(err)
	}
	if cs.Action != changeset.Create || cs.Summary() != "1 to import, 2 to add" || cs.Outputs[0].After != "left" {
		t.Errorf("the change set is %s: %s, outputs %v", cs.Action, cs.Summary(), cs.Outputs)
	}
	if err := b.engine.Apply(t.Context(), cs, b.listen); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.CreateComplete)

	b.leave(strings.ReplaceAll(killLeft, ": left,", ": third,"))
	change.Stack, change.Template = "two", []byte("Resources:\n  Third: {Type: \"AWS::S3::Bucket\", Properties: {BucketName: third}}\n")
	if _, err := b.engine.Plan(t.Context(), change); err == nil || !strings.Contains(err.Error(), "The affected resources are Third ({BucketName=third})") {
		t.Errorf("adopting without a policy of Retain answered %v", err)
	}
}
