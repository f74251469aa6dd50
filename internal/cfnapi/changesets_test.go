package cfnapi_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	cfn "github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

func (b *bench) changeSet(in cfn.CreateChangeSetInput) (*cfn.CreateChangeSetOutput, error) {
	if in.StackName == nil {
		in.StackName = aws.String("app")
	}
	return b.client.CreateChangeSet(b.ctx(), &in)
}

func (b *bench) mustChangeSet(name string, typ types.ChangeSetType, template string) *cfn.CreateChangeSetOutput {
	b.t.Helper()
	made, err := b.changeSet(cfn.CreateChangeSetInput{ChangeSetName: &name, ChangeSetType: typ, TemplateBody: &template})
	if err != nil {
		b.t.Fatal(err)
	}
	return made
}

// described gives a change set with its values.
func (b *bench) described(id string) *cfn.DescribeChangeSetOutput {
	b.t.Helper()
	d, err := b.client.DescribeChangeSet(b.ctx(), &cfn.DescribeChangeSetInput{ChangeSetName: &id, IncludePropertyValues: aws.Bool(true)})
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

func (b *bench) execute(id string) error {
	_, err := b.client.ExecuteChangeSet(b.ctx(), &cfn.ExecuteChangeSetInput{ChangeSetName: &id})
	return err
}

func (b *bench) stackStatus(name string) types.StackStatus {
	b.t.Helper()
	out, err := b.client.DescribeStacks(b.ctx(), &cfn.DescribeStacksInput{StackName: &name})
	if err != nil {
		b.t.Fatal(err)
	}
	return out.Stacks[0].StackStatus
}

// TestReview goes through the life of a stack that begins as change sets.
func TestReview(t *testing.T) {
	b := newBench(t)
	first := b.mustChangeSet("first", "CREATE", queue)
	if got := b.stackStatus("app"); got != types.StackStatusReviewInProgress {
		t.Errorf("the stack is %s", got)
	}
	d := b.described(text(first.Id))
	change := d.Changes[0].ResourceChange
	if d.Status != "CREATE_COMPLETE" || d.ExecutionStatus != "AVAILABLE" || text(d.StackId) != text(first.StackId) || change.Action != "Add" ||
		text(change.LogicalResourceId) != "Queue" || text(change.AfterContext) != `{"Properties":{"DelaySeconds":"1","QueueName":"first"}}` ||
		text(d.Parameters[1].ParameterValue) != "****" {
		t.Errorf("the change set is %+v, its change %+v", d, change)
	}
	events, err := b.client.DescribeStackEvents(b.ctx(), &cfn.DescribeStackEventsInput{StackName: first.StackId})
	if err != nil || len(events.StackEvents) != 1 || events.StackEvents[0].ResourceStatus != "REVIEW_IN_PROGRESS" {
		t.Errorf("its events are %v (%v)", events, err)
	}
	_, err = b.client.GetTemplateSummary(b.ctx(), &cfn.GetTemplateSummaryInput{StackName: aws.String("app")})
	wantError(t, "a summary of it", err, "ValidationError", "GetTemplateSummary cannot be called on REVIEW_IN_PROGRESS stacks.")
	_, err = b.client.UpdateStack(b.ctx(), &cfn.UpdateStackInput{StackName: aws.String("app"), TemplateBody: aws.String(queue)})
	wantError(t, "an update of it", err, "ValidationError", "is in REVIEW_IN_PROGRESS state and can not be updated.")
	_, err = b.client.CreateStack(b.ctx(), &cfn.CreateStackInput{StackName: aws.String("app"), TemplateBody: aws.String(queue)})
	wantError(t, "making it twice", err, "AlreadyExistsException", "Stack [app] already exists")

	second := b.mustChangeSet("second", "CREATE", strings.Replace(queue, "DelaySeconds: 1", "DelaySeconds: 7", 1))
	if text(second.StackId) != text(first.StackId) {
		t.Errorf("the second is for %s", text(second.StackId))
	}
	if err := b.execute(text(second.Id)); err != nil {
		t.Fatal(err)
	}
	if status := b.settled("app"); status != stack.CreateComplete || b.things() != "Queue first 7" {
		t.Errorf("executed, it is %s and there is %q", status, b.things())
	}
	wantError(t, "the other, executed", b.execute(text(first.Id)), "ChangeSetNotFound", "does not exist")
	if d := b.described(text(second.Id)); d.ExecutionStatus != "EXECUTE_COMPLETE" {
		t.Errorf("the executed one is %s", d.ExecutionStatus)
	}
	wantError(t, "executing it twice", b.execute(text(second.Id)), "InvalidChangeSetStatus", "cannot be executed in its current execution status of [EXECUTE_COMPLETE]")

	if _, err := b.client.DeleteStack(b.ctx(), &cfn.DeleteStackInput{StackName: aws.String("app")}); err != nil {
		t.Fatal(err)
	}
	b.settled("app")
	third := b.mustChangeSet("third", "CREATE", queue) // of the same name, and another stack
	if text(third.StackId) == text(first.StackId) || b.stackStatus("app") != "REVIEW_IN_PROGRESS" {
		t.Errorf("the next stack is %s in %s", text(third.StackId), b.stackStatus("app"))
	}
	if got := b.stackStatus(text(first.StackId)); got != "DELETE_COMPLETE" {
		t.Errorf("the former, by its id, is %s", got)
	}
	if _, err := b.client.DeleteStack(b.ctx(), &cfn.DeleteStackInput{StackName: aws.String("app")}); err != nil {
		t.Fatal(err)
	}
	_, err = b.client.DescribeStacks(b.ctx(), &cfn.DescribeStacksInput{StackName: aws.String("app")})
	wantError(t, "a look at a stack deleted in review", err, "ValidationError", "Stack with id app does not exist")
	for _, kind := range []string{"api-changeset", "api-review"} {
		if left, err := b.store.List(b.ctx(), kind, ""); err != nil || len(left) > 0 {
			t.Errorf("of %s there is left %v (%v)", kind, left, err)
		}
	}
}

// TestChangeSetsOfAStack is about what becomes of change sets.
func TestChangeSetsOfAStack(t *testing.T) {
	b := newBench(t)
	b.created("app", queue)
	none := b.mustChangeSet("none", "UPDATE", queue)
	d := b.described(text(none.Id))
	if d.Status != "FAILED" || d.ExecutionStatus != "UNAVAILABLE" || text(d.StatusReason) != "The submitted information didn't contain changes. Submit different information to create a change set." {
		t.Errorf("one without changes is %s, %s: %s", d.Status, d.ExecutionStatus, text(d.StatusReason))
	}
	wantError(t, "executing it", b.execute(text(none.Id)), "InvalidChangeSetStatus", "cannot be executed in its current status of [FAILED]")

	b.mustChangeSet("looked-at", "", "Transform: AWS::LanguageExtensions\n"+deployment.second) // whoever executes it has seen what it becomes

	slow := b.mustChangeSet("slow", "", strings.Replace(queue, "DelaySeconds: 1", "DelaySeconds: 9", 1))
	target := b.described(text(slow.Id)).Changes[0].ResourceChange.Details[0].Target
	if text(target.BeforeValue) != "1" || text(target.AfterValue) != "9" || text(target.Path) != "/Properties/DelaySeconds" || target.RequiresRecreation != "Never" {
		t.Errorf("its change is %+v", target)
	}
	_, err := b.changeSet(cfn.CreateChangeSetInput{ChangeSetName: aws.String("slow"), TemplateBody: aws.String(queue)})
	wantError(t, "another of its name", err, "AlreadyExistsException", "ChangeSet [slow] already exists")
	_, err = b.changeSet(cfn.CreateChangeSetInput{ChangeSetName: aws.String("x"), ChangeSetType: "CREATE", TemplateBody: aws.String(queue)})
	wantError(t, "one of type CREATE", err, "ValidationError", "Stack [app] already exists and cannot be created again with the changeSet [x].")
	_, err = b.changeSet(cfn.CreateChangeSetInput{StackName: aws.String("gone"), ChangeSetName: aws.String("x"), TemplateBody: aws.String(queue)})
	wantError(t, "one for no stack", err, "ValidationError", "Stack [gone] does not exist")
	_, err = b.changeSet(cfn.CreateChangeSetInput{ChangeSetName: aws.String("a b"), TemplateBody: aws.String(queue)})
	wantError(t, "a name that is none", err, "ValidationError", "Value 'a b' at 'changeSetName'")
	_, err = b.client.DescribeChangeSet(b.ctx(), &cfn.DescribeChangeSetInput{ChangeSetName: aws.String("slow")})
	wantError(t, "a name without a stack", err, "ValidationError", "StackName must be specified if ChangeSetName is not specified as an ARN.")

	update := strings.Replace(queue, "DelaySeconds: 1", "DelaySeconds: 3", 1)
	if _, err := b.client.UpdateStack(b.ctx(), &cfn.UpdateStackInput{StackName: aws.String("app"), TemplateBody: &update}); err != nil {
		t.Fatal(err)
	}
	b.settled("app")
	if d := b.described(text(slow.Id)); d.ExecutionStatus != "OBSOLETE" {
		t.Errorf("after an update, it is %s", d.ExecutionStatus)
	}
	wantError(t, "executing it then", b.execute(text(slow.Id)), "InvalidChangeSetStatus", "[OBSOLETE]")
	list, err := b.client.ListChangeSets(b.ctx(), &cfn.ListChangeSetsInput{StackName: aws.String("app")})
	if err != nil || len(list.Summaries) != 3 || text(list.Summaries[1].ChangeSetName) != "none" || list.Summaries[2].ExecutionStatus != "OBSOLETE" {
		t.Errorf("the change sets are %+v (%v)", list, err)
	}
	for range 2 { // as it shall be, also if it is gone
		if _, err := b.client.DeleteChangeSet(b.ctx(), &cfn.DeleteChangeSetInput{StackName: aws.String("app"), ChangeSetName: aws.String("slow")}); err != nil {
			t.Error(err)
		}
	}
	_, err = b.client.DescribeChangeSet(b.ctx(), &cfn.DescribeChangeSetInput{ChangeSetName: slow.Id})
	var missing *types.ChangeSetNotFoundException
	if !errors.As(err, &missing) {
		t.Errorf("after its deletion it answers %v", err)
	}
}

// TestExecuteFails says what is told of an execution that fails, is under way,
// or is asked for twice.
func TestExecuteFails(t *testing.T) {
	b := newBench(t)
	b.created("app", queue)
	started, release := b.platform.Block("create", "Broken")
	defer release()
	set := b.mustChangeSet("bad", "UPDATE", deployment.third)
	ask := &cfn.ExecuteChangeSetInput{ChangeSetName: set.Id, ClientRequestToken: aws.String("t1"), DisableRollback: aws.Bool(true)}
	if _, err := b.client.ExecuteChangeSet(b.ctx(), ask); err != nil {
		t.Fatal(err)
	}
	<-started
	if d := b.described(text(set.Id)); d.ExecutionStatus != "EXECUTE_IN_PROGRESS" {
		t.Errorf("under way, it is %s", d.ExecutionStatus)
	}
	if _, err := b.client.ExecuteChangeSet(b.ctx(), ask); err != nil {
		t.Errorf("asked for again under its token, it answers %v", err)
	}
	wantError(t, "executing it under no token", b.execute(text(set.Id)), "InvalidChangeSetStatus", "[EXECUTE_IN_PROGRESS]")
	_, err := b.client.DeleteChangeSet(b.ctx(), &cfn.DeleteChangeSetInput{ChangeSetName: set.Id})
	wantError(t, "deleting it", err, "InvalidChangeSetStatus", "cannot be deleted while it is executed")
	b.platform.Fail("create", "Broken", fault.New(fault.Failed, "no topic today"))
	if _, err := b.client.CancelUpdateStack(b.ctx(), &cfn.CancelUpdateStackInput{StackName: aws.String("app")}); err != nil {
		t.Fatal(err)
	}
	if status := b.settled("app"); status != stack.UpdateRollbackComplete {
		t.Errorf("cancelled, the stack is %s", status)
	}
	if d := b.described(text(set.Id)); d.ExecutionStatus != "EXECUTE_FAILED" {
		t.Errorf("after that, it is %s", d.ExecutionStatus)
	}

	// left as it is, and then rolled back
	again := b.mustChangeSet("again", "UPDATE", deployment.third)
	if _, err := b.client.ExecuteChangeSet(b.ctx(), &cfn.ExecuteChangeSetInput{ChangeSetName: again.Id, DisableRollback: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	if status := b.settled("app"); status != stack.UpdateFailed {
		t.Errorf("without a roll back, the stack is %s", status)
	}
	if _, err := b.client.RollbackStack(b.ctx(), &cfn.RollbackStackInput{StackName: aws.String("app")}); err != nil {
		t.Fatal(err)
	}
	if status := b.settled("app"); status != stack.UpdateRollbackComplete {
		t.Errorf("rolled back, the stack is %s", status)
	}
	_, err = b.client.ContinueUpdateRollback(b.ctx(), &cfn.ContinueUpdateRollbackInput{StackName: aws.String("app")})
	wantError(t, "going on with a roll back that ended", err, "ValidationError", "cannot be continued: it is in UPDATE_ROLLBACK_COMPLETE state")
}

// TestExecuteAfterACrash says that an execution that was noted and not begun can
// be asked for again.
func TestExecuteAfterACrash(t *testing.T) {
	b := newBench(t)
	set := b.mustChangeSet("first", "CREATE", queue)
	b.close(stack.ErrSuspend)
	ask := &cfn.ExecuteChangeSetInput{ChangeSetName: set.Id, ClientRequestToken: aws.String("t1")}
	_, err := b.client.ExecuteChangeSet(b.ctx(), ask)
	wantError(t, "an execution that cannot begin", err, "ServiceUnavailable", "")
	if noted, err := b.store.List(b.ctx(), "api-request", ""); err != nil || len(noted) != 1 || !strings.Contains(string(noted[0].Value), `"token":"t1"`) {
		t.Fatalf("it is not noted: %v (%v)", noted, err)
	}
	next := benchOn(t, b.platform, b.store, "next")
	if d := next.described(text(set.Id)); d.ExecutionStatus != "AVAILABLE" {
		t.Errorf("it is %s", d.ExecutionStatus)
	}
	if _, err := next.client.ExecuteChangeSet(b.ctx(), ask); err != nil {
		t.Fatal(err)
	}
	if status := next.settled("app"); status != stack.CreateComplete {
		t.Errorf("the stack is %s", status)
	}
}

// TestChangeSetToken says that the same request makes one change set.
func TestChangeSetToken(t *testing.T) {
	b := newBench(t)
	in := cfn.CreateChangeSetInput{ChangeSetName: aws.String("first"), ChangeSetType: "CREATE", TemplateBody: aws.String(queue), ClientToken: aws.String("t1")}
	one, err := b.changeSet(in)
	if err != nil {
		t.Fatal(err)
	}
	two, err := b.changeSet(in)
	if err != nil || text(one.Id) != text(two.Id) {
		t.Errorf("twice asked for: %v and %v (%v)", one, two, err)
	}
}

// TestImport takes in what exists.
func TestImport(t *testing.T) {
	b := newBench(t)
	const kept = `
Resources:
  Log: {Type: "AWS::Logs::LogGroup", DeletionPolicy: Retain, Properties: {LogGroupName: first}}
`
	b.created("old", kept)
	if _, err := b.client.DeleteStack(b.ctx(), &cfn.DeleteStackInput{StackName: aws.String("old")}); err != nil {
		t.Fatal(err)
	}
	b.settled("old")
	in := cfn.CreateChangeSetInput{ChangeSetName: aws.String("in"), ChangeSetType: "IMPORT", TemplateBody: aws.String(kept),
		ResourcesToImport: []types.ResourceToImport{{LogicalResourceId: aws.String("Log"), ResourceType: aws.String("AWS::Logs::LogGroup"), ResourceIdentifier: map[string]string{"LogGroupName": "first"}}}}
	wrong := in
	wrong.ResourcesToImport = nil
	_, err := b.changeSet(wrong)
	wantError(t, "an import of nothing", err, "ValidationError", "You must specify ResourcesToImport")
	set, err := b.changeSet(in)
	if err != nil {
		t.Fatal(err)
	}
	if change := b.described(text(set.Id)).Changes[0].ResourceChange; change.Action != "Import" {
		t.Errorf("the change is %+v", change)
	}
	if err := b.execute(text(set.Id)); err != nil {
		t.Fatal(err)
	}
	if status := b.settled("app"); status != stack.ImportComplete {
		t.Errorf("the stack is %s", status)
	}
}

// TestReviewIsOver says that a stack in review is none any more when somebody
// else has made one of its name, also after that is gone.
func TestReviewIsOver(t *testing.T) {
	b := newBench(t)
	set := b.mustChangeSet("first", "CREATE", queue)
	cs, err := b.engine.Plan(b.ctx(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(queue), Parameters: map[string]string{"Name": "theirs"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Apply(b.ctx(), cs, nil); err != nil {
		t.Fatal(err)
	}
	if d := b.described(text(set.Id)); d.ExecutionStatus != "OBSOLETE" || b.stackStatus("app") != "CREATE_COMPLETE" {
		t.Errorf("the change set is %s and the stack %s", d.ExecutionStatus, b.stackStatus("app"))
	}
	if err := b.engine.Delete(b.ctx(), "app", nil); err != nil {
		t.Fatal(err)
	}
	_, err = b.client.DescribeStacks(b.ctx(), &cfn.DescribeStacksInput{StackName: aws.String("app")})
	wantError(t, "a look after that", err, "ValidationError", "Stack with id app does not exist")
	list, err := b.client.ListStacks(b.ctx(), &cfn.ListStacksInput{})
	if err != nil || len(list.StackSummaries) != 1 || list.StackSummaries[0].StackStatus != "DELETE_COMPLETE" || list.StackSummaries[0].DeletionTime == nil {
		t.Errorf("the stacks are %+v (%v)", list, err)
	}
	_, err = b.client.ListChangeSets(b.ctx(), &cfn.ListChangeSetsInput{StackName: aws.String("app")})
	wantError(t, "its change sets", err, "ValidationError", "Stack [app] does not exist")
}
