package cfnapi_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	cfn "github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
)

// TestTokens says that what is asked twice under one token is done once.
func TestTokens(t *testing.T) {
	b := newBench(t)
	create := &cfn.CreateStackInput{StackName: aws.String("app"), TemplateBody: aws.String(queue), ClientRequestToken: aws.String("t1")}
	one, err := b.client.CreateStack(b.ctx(), create)
	if err != nil {
		t.Fatal(err)
	}
	b.settled("app")
	two, err := b.client.CreateStack(b.ctx(), create)
	if err != nil || text(one.StackId) != text(two.StackId) {
		t.Errorf("created again: %v (%v), want %s", two, err, text(one.StackId))
	}
	_, err = b.client.CreateStack(b.ctx(), &cfn.CreateStackInput{StackName: aws.String("app"), TemplateBody: aws.String(queue), ClientRequestToken: aws.String("t2")})
	wantError(t, "created under another token", err, "AlreadyExistsException", "Stack [app] already exists")
	update := &cfn.UpdateStackInput{StackName: aws.String("app"), TemplateBody: aws.String(deployment.second), ClientRequestToken: aws.String("t2")}
	for range 2 {
		if _, err := b.client.UpdateStack(b.ctx(), update); err != nil {
			t.Fatal(err)
		}
		b.settled("app")
	}
	_, err = b.client.DeleteStack(b.ctx(), &cfn.DeleteStackInput{StackName: aws.String("app"), ClientRequestToken: aws.String("t2")})
	wantError(t, "a token given for something else", err, "TokenAlreadyExistsException", "was given for UpdateStack; give another")
	events, err := b.client.DescribeStackEvents(b.ctx(), &cfn.DescribeStackEventsInput{StackName: aws.String("app")})
	if err != nil {
		t.Fatal(err)
	}
	var tokens []string
	for _, ev := range events.StackEvents {
		tokens = append(tokens, text(ev.ClientRequestToken))
	}
	if n := len(tokens); text(events.StackEvents[0].ClientRequestToken) != "t2" || tokens[n-1] != "" {
		t.Errorf("the events, newest first, come from %q", tokens)
	}
}

// TestTokenOfAFailure says that a request that was refused can be made again
// under its token.
func TestTokenOfAFailure(t *testing.T) {
	b := newBench(t)
	b.platform.Fail("check", "Queue", fault.New(fault.Unavailable, "no queues today"))
	create := &cfn.CreateStackInput{StackName: aws.String("app"), TemplateBody: aws.String(queue), ClientRequestToken: aws.String("t1")}
	_, err := b.client.CreateStack(b.ctx(), create)
	wantError(t, "a creation that cannot begin", err, "ValidationError", "no queues today") // clients would try again, else
	b.platform.On("check", "Queue", nil)
	if _, err := b.client.CreateStack(b.ctx(), create); err != nil || b.settled("app") != stack.CreateComplete {
		t.Errorf("made again, it answers %v", err)
	}
}

// TestPages says that each answer ends where the next begins.
func TestPages(t *testing.T) {
	b := newBench(t)
	var many strings.Builder
	many.WriteString("Resources:\n")
	for i := range 150 {
		fmt.Fprintf(&many, "  R%03d: {Type: Test::Thing}\n", i)
	}
	many.WriteString("Outputs:\n")
	for i := range 150 {
		fmt.Fprintf(&many, "  O%03d: {Value: x, Export: {Name: e%03d}}\n", i, i)
	}
	b.created("old", queue)
	if _, err := b.client.DeleteStack(b.ctx(), &cfn.DeleteStackInput{StackName: aws.String("old")}); err != nil {
		t.Fatal(err)
	}
	b.settled("old")
	b.created("old", many.String()) // its events follow those of the former one

	var events []string
	pages := cfn.NewDescribeStackEventsPaginator(b.client, &cfn.DescribeStackEventsInput{StackName: aws.String("old")})
	count := 0
	for ; pages.HasMorePages(); count++ {
		page, err := pages.NextPage(b.ctx())
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range page.StackEvents {
			events = append(events, text(ev.EventId))
		}
	}
	if n := len(events); count != 5 || n != 2+3*150 || events[0][:19] != "old-CREATE_COMPLETE" || !strings.HasPrefix(events[n-1], "old-CREATE_IN_PROGRESS-") {
		t.Errorf("%d pages of events: %d, %s … %s", count, n, events[0], events[n-1])
	}
	slices.Sort(events)
	if n := len(events); len(slices.Compact(events)) != n {
		t.Error("events have the same id")
	}

	resources := cfn.NewListStackResourcesPaginator(b.client, &cfn.ListStackResourcesInput{StackName: aws.String("old")})
	names := []string{}
	for resources.HasMorePages() {
		page, err := resources.NextPage(b.ctx())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.StackResourceSummaries {
			names = append(names, text(r.LogicalResourceId))
		}
	}
	if len(names) != 150 || names[0] != "R000" || names[149] != "R149" || !slices.IsSorted(names) {
		t.Errorf("resources: %v", names)
	}
	exports := cfn.NewListExportsPaginator(b.client, &cfn.ListExportsInput{})
	count = 0
	for exports.HasMorePages() {
		page, err := exports.NextPage(b.ctx())
		if err != nil {
			t.Fatal(err)
		}
		count += len(page.Exports)
	}
	if count != 150 {
		t.Errorf("%d exports", count)
	}
}

// TestUpdateGoesByWhatWas says what an update keeps that does not give all.
func TestUpdateGoesByWhatWas(t *testing.T) {
	b := newBench(t)
	b.platform.AddAlarm("arn:aws:cloudwatch:us-east-1:000000000000:alarm:errors")
	name := aws.String("app")
	_, err := b.client.CreateStack(b.ctx(), &cfn.CreateStackInput{StackName: name, TemplateBody: aws.String(queue),
		Parameters:                  []types.Parameter{{ParameterKey: aws.String("Secret"), ParameterValue: aws.String("swordfish")}},
		Tags:                        []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}},
		RollbackConfiguration:       &types.RollbackConfiguration{RollbackTriggers: []types.RollbackTrigger{{Arn: aws.String("arn:aws:cloudwatch:us-east-1:000000000000:alarm:errors"), Type: aws.String("AWS::CloudWatch::Alarm")}}},
		EnableTerminationProtection: aws.Bool(true), TimeoutInMinutes: aws.Int32(5),
		StackPolicyBody: aws.String(`{"Statement":[{"Effect":"Allow","Action":"Update:Modify","Principal":"*","Resource":"*"}]}`)})
	if err != nil {
		t.Fatal(err)
	}
	b.settled("app")
	update := func(in cfn.UpdateStackInput) error {
		in.StackName = name
		if _, err := b.client.UpdateStack(b.ctx(), &in); err != nil {
			return err
		}
		if status := b.settled("app"); status != stack.UpdateComplete {
			return fmt.Errorf("the stack is %s", status)
		}
		return nil
	}
	keeps := func(key string) types.Parameter {
		return types.Parameter{ParameterKey: &key, UsePreviousValue: aws.Bool(true)}
	}
	if err := update(cfn.UpdateStackInput{UsePreviousTemplate: aws.Bool(true), Parameters: []types.Parameter{keeps("Name"), keeps("Secret")},
		Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("b")}}}); err != nil {
		t.Fatal(err)
	}
	change, err := b.engine.Change(b.ctx(), "app")
	if err != nil || change.Parameters["Secret"] != "swordfish" || change.Parameters["Name"] != "first" || len(change.Rollback.ARNs) != 1 {
		t.Errorf("it was made by %+v (%v)", change.Parameters, err)
	}
	if err := update(cfn.UpdateStackInput{TemplateBody: aws.String(deployment.second)}); err != nil {
		t.Fatal(err)
	}
	out, err := b.client.DescribeStacks(b.ctx(), &cfn.DescribeStacksInput{StackName: name})
	if err != nil {
		t.Fatal(err)
	}
	s := out.Stacks[0]
	if text(s.Tags[0].Value) != "b" || len(s.RollbackConfiguration.RollbackTriggers) != 1 || !*s.EnableTerminationProtection || s.LastUpdatedTime == nil {
		t.Errorf("the stack is %+v", s)
	}
	rename := []types.Parameter{{ParameterKey: aws.String("Name"), ParameterValue: aws.String("second")}}
	wantError(t, "what its policy denies", update(cfn.UpdateStackInput{UsePreviousTemplate: aws.Bool(true), Parameters: rename}), "ValidationError", "Action denied by stack policy")
	everything := aws.String(`{"Statement":[{"Effect":"Allow","Action":"Update:*","Principal":"*","Resource":"*"}]}`)
	if err := update(cfn.UpdateStackInput{UsePreviousTemplate: aws.Bool(true), Parameters: rename, StackPolicyDuringUpdateBody: everything,
		RollbackConfiguration: &types.RollbackConfiguration{RollbackTriggers: []types.RollbackTrigger{}}, Tags: []types.Tag{}}); err != nil {
		t.Error(err)
	}
	if change, err = b.engine.Change(b.ctx(), "app"); err != nil || len(change.Rollback.ARNs)+len(change.Tags) != 0 {
		t.Errorf("emptied, it is made by %+v and %v (%v)", change.Rollback, change.Tags, err)
	}
	_, err = b.client.DeleteStack(b.ctx(), &cfn.DeleteStackInput{StackName: name})
	wantError(t, "a deletion", err, "ValidationError", "Stack [app] cannot be deleted while TerminationProtection is enabled")
	if _, err = b.client.UpdateTerminationProtection(b.ctx(), &cfn.UpdateTerminationProtectionInput{StackName: name, EnableTerminationProtection: aws.Bool(false)}); err != nil {
		t.Error(err)
	}
	if _, err := b.client.SetStackPolicy(b.ctx(), &cfn.SetStackPolicyInput{StackName: name, StackPolicyBody: everything}); err != nil {
		t.Error(err)
	}
	if p, err := b.client.GetStackPolicy(b.ctx(), &cfn.GetStackPolicyInput{StackName: name}); err != nil || text(p.StackPolicyBody) != *everything {
		t.Errorf("its policy is %v (%v)", p, err)
	}
	for what, parameters := range map[string]types.Parameter{
		"Cannot specify usePreviousValue as true for a parameter key not in the previous template":  keeps("Other"),
		"Invalid input for parameter key Name. Cannot specify usePreviousValue as true and a value": {ParameterKey: aws.String("Name"), ParameterValue: aws.String("x"), UsePreviousValue: aws.Bool(true)},
		"should either have a ParameterValue or UsePreviousValue":                                   {ParameterKey: aws.String("Name")},
		"Parameters: [Other] do not exist in the template":                                          {ParameterKey: aws.String("Other"), ParameterValue: aws.String("x")},
	} {
		wantError(t, "a wrong parameter", update(cfn.UpdateStackInput{UsePreviousTemplate: aws.Bool(true), Parameters: []types.Parameter{parameters}}), "ValidationError", what)
	}
}

const topic = "arn:aws:sns:us-east-1:000000000000:events"

// TestNoted says that what clients say to others than this machine is kept and
// shown, and that a change of the topics is one.
func TestNoted(t *testing.T) {
	b := newBench(t)
	const template = "Resources: {Thing: {Type: Test::Thing, Properties: {Topics: !Ref AWS::NotificationARNs}}}"
	in := cfn.CreateChangeSetInput{ChangeSetName: aws.String("first"), ChangeSetType: "CREATE", TemplateBody: aws.String(template), RoleARN: aws.String("arn:aws:iam::000000000000:role/deploy"),
		NotificationARNs: []string{topic}, Capabilities: []types.Capability{"CAPABILITY_IAM"}}
	set, err := b.changeSet(in)
	if err != nil {
		t.Fatal(err)
	}
	if d := b.described(text(set.Id)); !slices.Equal(d.NotificationARNs, in.NotificationARNs) || !slices.Equal(d.Capabilities, in.Capabilities) {
		t.Errorf("the change set is %+v", d)
	}
	if err := b.execute(text(set.Id)); err != nil {
		t.Fatal(err)
	}
	shows := func(topics ...string) {
		t.Helper()
		b.settled("app")
		out, err := b.client.DescribeStacks(b.ctx(), &cfn.DescribeStacksInput{StackName: aws.String("app")})
		if err != nil {
			t.Fatal(err)
		}
		if s := out.Stacks[0]; !slices.Equal(s.NotificationARNs, topics) || text(s.RoleARN) != text(in.RoleARN) {
			t.Errorf("the stack is %+v, want topics %v", s, topics)
		}
		if got := b.platform.Things()[0].Properties["Topics"]; fmt.Sprint(got) != fmt.Sprint(topics) {
			t.Errorf("the template is told of topics %v, want %v", got, topics)
		}
	}
	shows(topic)
	update := func(in cfn.UpdateStackInput) error {
		in.StackName, in.TemplateBody = aws.String("app"), aws.String(template)
		_, err := b.client.UpdateStack(b.ctx(), &in)
		return err
	}
	wantError(t, "an update that says nothing of topics", update(cfn.UpdateStackInput{}), "ValidationError", "No updates are to be performed.")
	if err := update(cfn.UpdateStackInput{NotificationARNs: []string{topic + ".fifo"}}); err != nil {
		t.Fatal(err)
	}
	shows(topic + ".fifo")
	if err := update(cfn.UpdateStackInput{NotificationARNs: []string{}}); err != nil {
		t.Fatal(err)
	}
	shows()
}

// TestTopicsAlone says that a change of the topics alone is one.
func TestTopicsAlone(t *testing.T) {
	b := newBench(t)
	b.created("app", queue)
	if _, err := b.client.UpdateStack(b.ctx(), &cfn.UpdateStackInput{StackName: aws.String("app"), UsePreviousTemplate: aws.Bool(true), NotificationARNs: []string{topic}}); err != nil {
		t.Fatal(err)
	}
	if status := b.settled("app"); status != stack.UpdateComplete {
		t.Errorf("the stack is %s", status)
	}
}

// TestSecretsStayHidden says that neither drift nor a processed template shows
// what a parameter with NoEcho gives.
func TestSecretsStayHidden(t *testing.T) {
	b := newBench(t)
	b.platform.SetMacro("tell", func(request map[string]any) map[string]any {
		fragment := request["fragment"].(map[string]any)
		fragment["Metadata"] = request["templateParameterValues"]
		return map[string]any{"requestId": request["requestId"], "status": "success", "fragment": fragment}
	})
	b.created("macros", "Resources: {Tell: {Type: 'AWS::CloudFormation::Macro', Properties: {Name: Tell, FunctionName: tell}}}")
	app := aws.String("app")
	secret := strings.Replace(queue, "DelaySeconds: 1", "DelaySeconds: !Ref Secret", 1)
	_, err := b.client.CreateStack(b.ctx(), &cfn.CreateStackInput{StackName: app, TemplateBody: aws.String("Transform: Tell\n" + secret), Capabilities: []types.Capability{"CAPABILITY_AUTO_EXPAND"},
		Parameters: []types.Parameter{{ParameterKey: aws.String("Secret"), ParameterValue: aws.String("swordfish")}}})
	if err != nil {
		t.Fatal(err)
	}
	b.settled("app")
	processed, err := b.client.GetTemplate(b.ctx(), &cfn.GetTemplateInput{StackName: app, TemplateStage: "Processed"})
	if err != nil || strings.Contains(text(processed.TemplateBody), "swordfish") || !strings.Contains(text(processed.TemplateBody), `"Secret":"****"`) {
		t.Errorf("the processed template is %s (%v)", text(processed.TemplateBody), err)
	}
	b.platform.Change("Queue", map[string]any{"QueueName": "first", "DelaySeconds": "swordfish2"})
	drift, err := b.client.DetectStackResourceDrift(b.ctx(), &cfn.DetectStackResourceDriftInput{StackName: app, LogicalResourceId: aws.String("Queue")})
	if err != nil {
		t.Fatal(err)
	}
	const masked = `{"DelaySeconds":"****","QueueName":"first"}`
	if d := drift.StackResourceDrift; text(d.ExpectedProperties) != masked || text(d.ActualProperties) != masked {
		t.Errorf("it was to be %s and is %s", text(d.ExpectedProperties), text(d.ActualProperties))
	}
}

// TestRetain deletes a stack that cannot be deleted, without what stands in the
// way.
func TestRetain(t *testing.T) {
	for name, in := range map[string]cfn.DeleteStackInput{"by its name": {RetainResources: []string{"Queue"}}, "by force": {DeletionMode: types.DeletionModeForceDeleteStack}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			in.StackName = aws.String("app")
			b.platform.Fail("delete", "Queue", fault.New(fault.Failed, "the queue is held"))
			b.created("app", queue)
			_, err := b.client.DeleteStack(b.ctx(), &in)
			wantError(t, "leaving something of a stack that is well", err, "ValidationError", "specify which resources to retain only when the stack is in the DELETE_FAILED state.")
			if _, err := b.client.DeleteStack(b.ctx(), &cfn.DeleteStackInput{StackName: aws.String("app")}); err != nil {
				t.Fatal(err)
			}
			deletes := cfn.NewStackDeleteCompleteWaiter(b.client, func(o *cfn.StackDeleteCompleteWaiterOptions) { o.MinDelay, o.MaxDelay = soon, soon })
			describe := &cfn.DescribeStacksInput{StackName: aws.String("app")}
			if err := deletes.Wait(b.ctx(), describe, atMost); err == nil || b.stackStatus("app") != types.StackStatusDeleteFailed {
				t.Fatalf("the deletion ended with %v in %s", err, b.stackStatus("app"))
			}
			_, err = b.client.DeleteStack(b.ctx(), &cfn.DeleteStackInput{StackName: aws.String("app"), RetainResources: []string{"None"}})
			wantError(t, "leaving what is not there", err, "ValidationError", "The specified resources to retain must be in a valid state.")
			if _, err := b.client.DeleteStack(b.ctx(), &in); err != nil {
				t.Fatal(err)
			}
			if err := deletes.Wait(b.ctx(), describe, atMost); err != nil {
				t.Fatal(err)
			}
			if got := b.things(); got != "Queue first 1" {
				t.Errorf("there is left %q", got)
			}
		})
	}
	b := newBench(t)
	b.mustChangeSet("first", "CREATE", queue)
	_, err := b.client.DeleteStack(b.ctx(), &cfn.DeleteStackInput{StackName: aws.String("app"), RetainResources: []string{"Queue"}})
	wantError(t, "leaving something of a stack in review", err, "ValidationError", "only when the stack is in the DELETE_FAILED state.")
}

// TestRefused says what a stack is not made of.
func TestRefused(t *testing.T) {
	b := newBench(t)
	b.objects["s3://templates/role.yaml"] = "Resources: {Role: {Type: 'AWS::IAM::Role', Properties: {RoleName: r, AssumeRolePolicyDocument: {}}}}"
	b.platform.SetFragment("s3://templates/role.yaml", b.objects["s3://templates/role.yaml"]) // the engine reads nested ones
	role := aws.String("Resources: {Role: {Type: 'AWS::IAM::Role', Properties: {AssumeRolePolicyDocument: {}}}}")
	const insufficient = "InsufficientCapabilitiesException"
	for _, c := range []struct {
		in         cfn.CreateStackInput
		code, says string
	}{
		{cfn.CreateStackInput{TemplateBody: role}, insufficient, "Requires capabilities : [CAPABILITY_IAM]"},
		{cfn.CreateStackInput{TemplateURL: aws.String("https://templates.s3.amazonaws.com/role.yaml"), Capabilities: []types.Capability{"CAPABILITY_IAM"}}, insufficient, "Requires capabilities : [CAPABILITY_NAMED_IAM]"},
		{cfn.CreateStackInput{TemplateBody: aws.String("Transform: AWS::LanguageExtensions\n" + queue)}, insufficient, "Requires capabilities : [CAPABILITY_AUTO_EXPAND]"},
		{cfn.CreateStackInput{TemplateBody: aws.String("Resources: {Part: {Type: 'AWS::CloudFormation::Stack', Properties: {TemplateURL: 's3://templates/role.yaml'}}}")}, insufficient, "[CAPABILITY_NAMED_IAM]"},
		{cfn.CreateStackInput{TemplateBody: aws.String(queue), Capabilities: []types.Capability{"CAPABILITY_ALL"}}, "ValidationError", "Member must satisfy enum value set"},
		{cfn.CreateStackInput{TemplateBody: role, ResourceTypes: []string{"AWS::SQS::*"}}, "ValidationError", "Resource type AWS::IAM::Role is not allowed by parameter ResourceTypes [AWS::SQS::*]"},
		{cfn.CreateStackInput{TemplateBody: role, NotificationARNs: []string{"arn"}}, "ValidationError", `NotificationARNs: "arn" is not the ARN of a topic; give arn:aws:sns:REGION:ACCOUNT:TOPIC`},
		{cfn.CreateStackInput{TemplateBody: role, NotificationARNs: slices.Repeat([]string{topic}, 6)}, "ValidationError", "at 'notificationARNs' failed to satisfy constraint: Member must have length less than or equal to 5"},
		{cfn.CreateStackInput{TemplateBody: role, RoleARN: aws.String("somebody-who-deploys")}, "ValidationError", "Role somebody-who-deploys is invalid or cannot be assumed"},
		{cfn.CreateStackInput{TemplateBody: role, TemplateURL: aws.String("s3://a/b")}, "ValidationError", "only one of TemplateBody and TemplateURL"},
		{cfn.CreateStackInput{TemplateBody: aws.String(queue), DisableRollback: aws.Bool(true), OnFailure: "DELETE"}, "ValidationError", "Either DisableRollback or OnFailure can be specified, not both."},
		{cfn.CreateStackInput{TemplateBody: aws.String(queue), RetainExceptOnCreate: aws.Bool(true)}, "ValidationError", "RetainExceptOnCreate is not there"},
		{cfn.CreateStackInput{TemplateBody: aws.String(queue), TimeoutInMinutes: aws.Int32(0)}, "ValidationError", "Value '0' at 'timeoutInMinutes'"},
		{cfn.CreateStackInput{TemplateBody: aws.String(queue), StackPolicyBody: aws.String("{}")}, "ValidationError", "Error validating stack policy: Invalid stack policy"},
		{cfn.CreateStackInput{TemplateBody: aws.String(queue), RollbackConfiguration: &types.RollbackConfiguration{RollbackTriggers: []types.RollbackTrigger{{Arn: aws.String("a"), Type: aws.String("AWS::SNS::Topic")}}}}, "ValidationError", "Rollback Trigger Type not supported"},
		{cfn.CreateStackInput{TemplateBody: aws.String("Resources: {Q: {Type: 'Refused::Type'}}")}, "ValidationError", "Refused::Type"},
		{cfn.CreateStackInput{StackName: aws.String("a/b"), TemplateBody: aws.String(queue)}, "ValidationError", "Value 'a/b' at 'stackName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*"},
	} {
		if c.in.StackName == nil {
			c.in.StackName = aws.String("app")
		}
		c.in.ClientRequestToken = aws.String("t")
		_, err := b.client.CreateStack(b.ctx(), &c.in)
		wantError(t, "a creation", err, c.code, c.says)
	}
	in := &cfn.CreateStackInput{StackName: aws.String("app"), TemplateURL: aws.String("http://127.0.0.1:9000/templates/role.yaml?versionId=1"), Capabilities: []types.Capability{"CAPABILITY_NAMED_IAM"}}
	if _, err := b.client.CreateStack(b.ctx(), in); err != nil || b.settled("app") != stack.CreateComplete {
		t.Errorf("with what it asks for, it answers %v", err)
	}
}

// TestRolledBack says that a stack whose creation failed has to be deleted.
func TestRolledBack(t *testing.T) {
	b := newBench(t)
	b.platform.Fail("create", "Queue", fault.New(fault.Failed, "no queue today"))
	b.created("app", queue)
	if status := b.settled("app"); status != stack.RollbackComplete {
		t.Fatalf("it is %s", status)
	}
	_, err := b.client.UpdateStack(b.ctx(), &cfn.UpdateStackInput{StackName: aws.String("app"), TemplateBody: aws.String(queue)})
	wantError(t, "an update", err, "ValidationError", "is in ROLLBACK_COMPLETE state and can not be updated.")
	_, err = b.changeSet(cfn.CreateChangeSetInput{ChangeSetName: aws.String("x"), TemplateBody: aws.String(queue)})
	wantError(t, "a change set", err, "ValidationError", "is in ROLLBACK_COMPLETE state and can not be updated.")
	_, err = b.client.CreateStack(b.ctx(), &cfn.CreateStackInput{StackName: aws.String("app"), TemplateBody: aws.String(queue)})
	wantError(t, "another creation", err, "AlreadyExistsException", "Stack [app] already exists")
	_, err = b.client.GetTemplate(b.ctx(), &cfn.GetTemplateInput{StackName: aws.String("app")})
	wantError(t, "its template", err, "ValidationError", "has no template; delete it, and create it again")
}

// watched is a store that tells what is waited for.
type watched struct {
	record.Store
	waits chan string
}

func (w watched) Wait(ctx context.Context, stream string, after int64) error {
	w.waits <- stream
	return w.Store.Wait(ctx, stream, after)
}

// TestALookWaits says that a look at a stack waits for the end of what is under
// way, and not for long.
func TestALookWaits(t *testing.T) {
	store := watched{record.NewMemory(), make(chan string, 10)}
	b := benchOn(t, stacktest.NewPlatform(), store, "test")
	started, release := b.platform.Block("create", "Queue")
	defer release()
	if _, err := b.client.CreateStack(b.ctx(), &cfn.CreateStackInput{StackName: aws.String("app"), TemplateBody: aws.String(queue)}); err != nil {
		t.Fatal(err)
	}
	<-started
	if got := b.stackStatus("app"); got != types.StackStatusCreateInProgress {
		t.Errorf("while it is made, it is %s", got)
	}
	release()
	b.settled("app")
	started, release = b.platform.Block("delete", "Queue")
	defer release()
	if _, err := b.client.DeleteStack(b.ctx(), &cfn.DeleteStackInput{StackName: aws.String("app")}); err != nil {
		t.Fatal(err)
	}
	<-started
	for len(store.waits) > 0 { // of the look before
		<-store.waits
	}
	looks := make(chan error)
	go func() {
		_, err := b.client.DescribeStacks(b.ctx(), &cfn.DescribeStacksInput{StackName: aws.String("app")})
		looks <- err
	}()
	if stream := <-store.waits; stream != "stack/local/app" {
		t.Errorf("it waits for %s", stream)
	}
	release()
	wantError(t, "a look until it was gone", <-looks, "ValidationError", "Stack with id app does not exist")
}

// TestLooks reads resources, exports, templates and drift.
func TestLooks(t *testing.T) {
	b := newBench(t)
	b.created("app", queue)
	b.created("user", "Resources: {Thing: {Type: 'Test::Thing', Properties: {Of: !ImportValue queue-name}}}")
	app := aws.String("app")
	one, err := b.client.DescribeStackResource(b.ctx(), &cfn.DescribeStackResourceInput{StackName: app, LogicalResourceId: aws.String("Queue")})
	if err != nil {
		t.Fatal(err)
	}
	r := one.StackResourceDetail
	if text(r.ResourceType) != "AWS::SQS::Queue" || r.ResourceStatus != "CREATE_COMPLETE" || r.LastUpdatedTimestamp == nil || text(r.PhysicalResourceId) == "" || text(r.StackName) != "app" {
		t.Errorf("the resource is %+v", r)
	}
	_, err = b.client.DescribeStackResource(b.ctx(), &cfn.DescribeStackResourceInput{StackName: app, LogicalResourceId: aws.String("None")})
	wantError(t, "one that is not there", err, "ValidationError", "Resource None does not exist for stack app")
	all, err := b.client.DescribeStackResources(b.ctx(), &cfn.DescribeStackResourcesInput{PhysicalResourceId: r.PhysicalResourceId})
	if err != nil || len(all.StackResources) != 1 || text(all.StackResources[0].StackName) != "app" || all.StackResources[0].Timestamp == nil {
		t.Errorf("by its physical id: %+v (%v)", all, err)
	}
	_, err = b.client.DescribeStackResources(b.ctx(), &cfn.DescribeStackResourcesInput{PhysicalResourceId: aws.String("none")})
	wantError(t, "by another physical id", err, "ValidationError", "Stack for none does not exist")

	imports, err := b.client.ListImports(b.ctx(), &cfn.ListImportsInput{ExportName: aws.String("queue-name")})
	if err != nil || !slices.Equal(imports.Imports, []string{"user"}) {
		t.Errorf("imports: %v (%v)", imports, err)
	}
	_, err = b.client.ListImports(b.ctx(), &cfn.ListImportsInput{ExportName: aws.String("none")})
	wantError(t, "imports of nothing", err, "ValidationError", "Export 'none' is not imported by any stack.")
	_, err = b.client.DeleteStack(b.ctx(), &cfn.DeleteStackInput{StackName: app})
	wantError(t, "deleting what is used", err, "ValidationError", "Export queue-name cannot be deleted as it is in use by user")

	template, err := b.client.GetTemplate(b.ctx(), &cfn.GetTemplateInput{StackName: app})
	if err != nil || text(template.TemplateBody) != queue || len(template.StagesAvailable) != 2 {
		t.Errorf("the template is %v (%v)", template, err)
	}
	summary, err := b.client.GetTemplateSummary(b.ctx(), &cfn.GetTemplateSummaryInput{TemplateBody: aws.String("Transform: AWS::LanguageExtensions\n" + queue)})
	if err != nil || !slices.Equal(summary.ResourceTypes, []string{"AWS::SQS::Queue"}) || !slices.Equal(summary.DeclaredTransforms, []string{"AWS::LanguageExtensions"}) ||
		summary.Capabilities[0] != "CAPABILITY_AUTO_EXPAND" || text(summary.Parameters[0].DefaultValue) != "first" || !*summary.Parameters[1].NoEcho {
		t.Errorf("the summary is %+v (%v)", summary, err)
	}
	summary, err = b.client.GetTemplateSummary(b.ctx(), &cfn.GetTemplateSummaryInput{TemplateBody: aws.String("Resources: {A: {Type: 'AWS::S3::Bucket'}, B: {Type: 'Refused::Type'}, C: {Type: 'AWS::S3::Bucket'}}")})
	if err != nil || len(summary.ResourceIdentifierSummaries) != 1 || !slices.Equal(summary.Warnings.UnrecognizedResourceTypes, []string{"Refused::Type"}) {
		t.Fatalf("the summary is %+v (%v)", summary, err)
	}
	if of := summary.ResourceIdentifierSummaries[0]; text(of.ResourceType) != "AWS::S3::Bucket" || !slices.Equal(of.LogicalResourceIds, []string{"A", "C"}) || !slices.Equal(of.ResourceIdentifiers, []string{"BucketName"}) {
		t.Errorf("resources are imported by %+v", of)
	}
	valid, err := b.client.ValidateTemplate(b.ctx(), &cfn.ValidateTemplateInput{TemplateBody: aws.String(queue)})
	if err != nil || text(valid.Description) != "one queue" || text(valid.Parameters[0].ParameterKey) != "Name" {
		t.Errorf("validation gives %+v (%v)", valid, err)
	}

	b.objects["s3://templates/wide.yaml"] = queue + strings.Repeat("# more than a request takes\n", 30_000)
	if valid, err = b.client.ValidateTemplate(b.ctx(), &cfn.ValidateTemplateInput{TemplateURL: aws.String("s3://templates/wide.yaml")}); err != nil || text(valid.Description) != "one queue" {
		t.Errorf("validation of a large one gives %+v (%v)", valid, err)
	}

	b.platform.Change("Queue", map[string]any{"QueueName": "first", "DelaySeconds": "8"})
	look, err := b.client.DetectStackDrift(b.ctx(), &cfn.DetectStackDriftInput{StackName: app})
	if err != nil {
		t.Fatal(err)
	}
	status, err := b.client.DescribeStackDriftDetectionStatus(b.ctx(), &cfn.DescribeStackDriftDetectionStatusInput{StackDriftDetectionId: look.StackDriftDetectionId})
	if err != nil || status.DetectionStatus != "DETECTION_COMPLETE" || status.StackDriftStatus != "DRIFTED" || *status.DriftedStackResourceCount != 1 {
		t.Errorf("the look found %+v (%v)", status, err)
	}
	drifts, err := b.client.DescribeStackResourceDrifts(b.ctx(), &cfn.DescribeStackResourceDriftsInput{StackName: app, StackResourceDriftStatusFilters: []types.StackResourceDriftStatus{"MODIFIED"}})
	if err != nil || len(drifts.StackResourceDrifts) != 1 {
		t.Fatalf("the drifts are %+v (%v)", drifts, err)
	}
	if d := drifts.StackResourceDrifts[0]; text(d.ExpectedProperties) != `{"DelaySeconds":"1","QueueName":"first"}` || text(d.ActualProperties) != `{"DelaySeconds":"8","QueueName":"first"}` {
		t.Errorf("it was to be %s and is %s", text(d.ExpectedProperties), text(d.ActualProperties))
	}
	if d := drifts.StackResourceDrifts[0].PropertyDifferences[0]; text(d.PropertyPath) != "/DelaySeconds" || text(d.ExpectedValue) != "1" || text(d.ActualValue) != "8" || d.DifferenceType != "NOT_EQUAL" {
		t.Errorf("the difference is %+v", d)
	}
	alone, err := b.client.DetectStackResourceDrift(b.ctx(), &cfn.DetectStackResourceDriftInput{StackName: app, LogicalResourceId: aws.String("Queue")})
	if err != nil || alone.StackResourceDrift.StackResourceDriftStatus != "MODIFIED" {
		t.Errorf("of one resource: %+v (%v)", alone, err)
	}
	stacks, err := b.client.ListStacks(b.ctx(), &cfn.ListStacksInput{StackStatusFilter: []types.StackStatus{"CREATE_COMPLETE"}})
	if err != nil || len(stacks.StackSummaries) != 2 || stacks.StackSummaries[0].DriftInformation.StackDriftStatus != "DRIFTED" {
		t.Errorf("the stacks are %+v (%v)", stacks, err)
	}
}

// TestEvents tells failures apart, and the operations that they are in.
func TestEvents(t *testing.T) {
	b := newBench(t)
	b.platform.Fail("create", "Broken", fault.New(fault.Failed, "no topic today"))
	b.created("app", deployment.third)
	app := aws.String("app")
	all, err := b.client.DescribeEvents(b.ctx(), &cfn.DescribeEventsInput{StackName: app})
	if err != nil {
		t.Fatal(err)
	}
	if last := all.OperationEvents[0]; last.EventType != "STACK_EVENT" || last.OperationType != "ROLLBACK" || last.OperationStatus != "SUCCEEDED" || last.ResourceStatus != "" {
		t.Errorf("the last event is %+v", last)
	}
	if first := all.OperationEvents[len(all.OperationEvents)-1]; first.OperationType != "CREATE_STACK" || first.OperationStatus != "IN_PROGRESS" {
		t.Errorf("the first event is %+v", first)
	}
	failed, err := b.client.DescribeEvents(b.ctx(), &cfn.DescribeEventsInput{StackName: app, Filters: &types.EventFilter{FailedEvents: aws.Bool(true)}})
	if err != nil || len(failed.OperationEvents) != 1 || failed.OperationEvents[0].EventType != "PROVISIONING_ERROR" || !strings.Contains(text(failed.OperationEvents[0].ResourceStatusReason), "no topic today") {
		t.Errorf("the failures are %+v (%v)", failed, err)
	}
	_, err = b.client.DescribeEvents(b.ctx(), &cfn.DescribeEventsInput{})
	wantError(t, "events of nothing", err, "ValidationError", "One of ChangeSetName, OperationId or StackName must be specified")
	_, err = b.client.DescribeEvents(b.ctx(), &cfn.DescribeEventsInput{StackName: app, ChangeSetName: aws.String("none")})
	wantError(t, "events of a change set that is not there", err, "ChangeSetNotFound", "ChangeSet [none] does not exist")
}

// TestTypes tells which types there are.
func TestTypes(t *testing.T) {
	b := newBench(t)
	in := &cfn.ListTypesInput{Visibility: "PUBLIC", Type: "RESOURCE", Filters: &types.TypeFilters{TypeNamePrefix: aws.String("AWS::SQS::")}, MaxResults: aws.Int32(1)}
	var names []string
	for pages := cfn.NewListTypesPaginator(b.client, in); pages.HasMorePages(); {
		page, err := pages.NextPage(b.ctx())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.TypeSummaries {
			names = append(names, text(s.TypeName))
		}
	}
	if !slices.Contains(names, "AWS::SQS::Queue") || !slices.IsSorted(names) || len(names) > 5 {
		t.Errorf("the types are %v", names)
	}
	private, err := b.client.ListTypes(b.ctx(), &cfn.ListTypesInput{})
	if err != nil || len(private.TypeSummaries) > 0 {
		t.Errorf("there are private types: %v (%v)", private, err)
	}
	queue, err := b.client.DescribeType(b.ctx(), &cfn.DescribeTypeInput{Type: "RESOURCE", TypeName: aws.String("AWS::SQS::Queue")})
	if err != nil || text(queue.Arn) != "arn:aws:cloudformation:us-east-1::type/resource/AWS-SQS-Queue" || queue.Visibility != "PUBLIC" {
		t.Fatalf("a type is %+v (%v)", queue, err)
	}
	again, err := b.client.DescribeType(b.ctx(), &cfn.DescribeTypeInput{Arn: queue.Arn})
	if err != nil || text(again.TypeName) != "AWS::SQS::Queue" {
		t.Errorf("by its ARN it is %+v (%v)", again, err)
	}
	_, err = b.client.DescribeType(b.ctx(), &cfn.DescribeTypeInput{Type: "RESOURCE", TypeName: aws.String("AWS::SQS::Nothing")})
	wantError(t, "a type that is none", err, "TypeNotFoundException", "The type 'AWS::SQS::Nothing' cannot be found")
	_, err = b.client.DescribeType(b.ctx(), &cfn.DescribeTypeInput{Type: "RESOURCE"})
	wantError(t, "no type", err, "ValidationError", "Either Arn, or Type and TypeName must be specified")
}

// TestTemplateStages gives templates as they are written, and as their transforms
// leave them.
func TestTemplateStages(t *testing.T) {
	b := newBench(t)
	const loop = `
Transform: AWS::LanguageExtensions
Resources:
  Fn::ForEach::Queues: [Name, [a, b], {"Queue${Name}": {Type: AWS::SQS::Queue, Properties: {QueueName: !Ref Name}}}]
`
	const processed = `{"Resources":{"Queuea":{"Type":"AWS::SQS::Queue","Properties":{"QueueName":"a"}},"Queueb":{"Type":"AWS::SQS::Queue","Properties":{"QueueName":"b"}}}}`
	get := func(what string, in cfn.GetTemplateInput, want string) {
		t.Helper()
		out, err := b.client.GetTemplate(b.ctx(), &in)
		if err != nil || text(out.TemplateBody) != want || !slices.Equal(out.StagesAvailable, []types.TemplateStage{"Original", "Processed"}) {
			t.Errorf("%s is %+v (%v), want %s", what, out, err, want)
		}
	}
	set := b.mustChangeSet("first", "CREATE", loop)
	get("the template of a change set", cfn.GetTemplateInput{ChangeSetName: set.Id}, loop)
	get("that one, processed", cfn.GetTemplateInput{ChangeSetName: set.Id, TemplateStage: "Processed"}, processed)
	if err := b.execute(text(set.Id)); err != nil {
		t.Fatal(err)
	}
	b.settled("app")
	app := aws.String("app")
	get("the template of a stack", cfn.GetTemplateInput{StackName: app}, loop)
	get("that one, processed", cfn.GetTemplateInput{StackName: app, TemplateStage: "Processed"}, processed)
	b.created("plain", queue)
	get("a template without transforms, processed", cfn.GetTemplateInput{StackName: aws.String("plain"), TemplateStage: "Processed"}, queue)
	_, err := b.client.GetTemplate(b.ctx(), &cfn.GetTemplateInput{StackName: app, TemplateStage: "Half"})
	wantError(t, "a stage that is none", err, "ValidationError", "Member must satisfy enum value set: [Original, Processed]")
}

// TestNestedStacks says whose a nested stack is.
func TestNestedStacks(t *testing.T) {
	b := newBench(t)
	b.platform.SetFragment("s3://templates/part.yaml", queue)
	b.created("app", "Resources: {Part: {Type: '"+changeset.NestedType+"', Properties: {TemplateURL: 'https://s3.amazonaws.com/templates/part.yaml', NotificationARNs: ["+topic+"]}}}")
	out, err := b.client.DescribeStacks(b.ctx(), &cfn.DescribeStacksInput{})
	if err != nil || len(out.Stacks) != 2 {
		t.Fatalf("the stacks are %+v (%v)", out, err)
	}
	app, part := out.Stacks[0], out.Stacks[1]
	if text(part.ParentId) != text(app.StackId) || text(part.RootId) != text(app.StackId) || app.RootId != nil || !slices.Equal(part.NotificationARNs, []string{topic}) {
		t.Errorf("the nested stack is %+v", part)
	}
}

// TestSignal has a resource that waits for a signal hear it.
func TestSignal(t *testing.T) {
	b := newBench(t)
	const waits = `
Resources:
  Server: {Type: "AWS::EC2::Instance", CreationPolicy: {ResourceSignal: {Count: 1, Timeout: PT5M}}}
`
	if _, err := b.client.CreateStack(b.ctx(), &cfn.CreateStackInput{StackName: aws.String("app"), TemplateBody: aws.String(waits)}); err != nil {
		t.Fatal(err)
	}
	signal := &cfn.SignalResourceInput{StackName: aws.String("app"), LogicalResourceId: aws.String("Nobody"), UniqueId: aws.String("a"), Status: "SUCCESS"}
	_, err := b.client.SignalResource(b.ctx(), signal)
	wantError(t, "a signal for nobody", err, "ValidationError", "Resource Nobody does not exist for stack app")
	signal.LogicalResourceId = aws.String("Server")
	for err = fault.New(fault.NotFound, "not yet"); err != nil && b.ctx().Err() == nil; { // it is made when its stack is begun
		_, err = b.client.SignalResource(b.ctx(), signal)
	}
	if status := b.settled("app"); status != stack.CreateComplete {
		t.Errorf("the stack is %s", status)
	}
}
