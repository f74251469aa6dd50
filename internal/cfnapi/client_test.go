package cfnapi_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	cfn "github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"makeitso/internal/fault"
	"makeitso/internal/stack"
	"makeitso/internal/testneed"
)

// deployment is what the tests of clients go through.
var deployment = struct{ first, second, third string }{
	queue,
	strings.Replace(queue, "DelaySeconds: 1", "DelaySeconds: 2", 1),
	strings.Replace(queue, "Outputs:", "  Broken: {Type: AWS::SNS::Topic, DependsOn: Queue}\nOutputs:", 1),
}

// aws runs the command line of AWS, and gives what it printed.
func (b *bench) aws(dir string, args ...string) (string, error) {
	cmd := exec.Command(testneed.Program(b.t, "aws", "apt-get install awscli, or pip install awscli"), append([]string{"--endpoint-url", b.url, "cloudformation"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "AWS_ACCESS_KEY_ID="+accessKey, "AWS_SECRET_ACCESS_KEY="+secretKey, "AWS_DEFAULT_REGION=us-east-1",
		"AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true", "NO_PROXY=127.0.0.1", "AWS_MAX_ATTEMPTS=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestCommandLine deploys with the command line of AWS as it is: a stack is
// made, changed, not changed, fails to change and is rolled back, cannot be
// deleted, and goes without what is in the way.
func TestCommandLine(t *testing.T) {
	b, dir := newBench(t), t.TempDir()
	b.platform.Fail("create", "Broken", fault.New(fault.Failed, "no topic today"))
	deploy := func(template, want string, fails bool, args ...string) {
		t.Helper()
		file := filepath.Join(dir, "template.yaml")
		if err := os.WriteFile(file, []byte(template), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := b.aws(dir, append([]string{"deploy", "--stack-name", "app", "--template-file", file}, args...)...)
		if (err != nil) != fails || !strings.Contains(out, want) {
			t.Fatalf("deploy ended with %v, and not as %q:\n%s", err, want, out)
		}
	}
	status := func(want string) {
		t.Helper()
		out, err := b.aws(dir, "describe-stacks", "--stack-name", "app", "--query", "Stacks[0].StackStatus", "--output", "text")
		if err != nil || strings.TrimSpace(out) != want {
			t.Fatalf("the stack is %s (%v), want %s", out, err, want)
		}
	}
	deploy(deployment.first, "Successfully created/updated stack - app", false, "--parameter-overrides", "Name=second", "--tags", "team=a")
	status("CREATE_COMPLETE")
	deploy(deployment.second, "Successfully created/updated stack - app", false)
	status("UPDATE_COMPLETE")
	if got := b.things(); got != "Queue second 2" {
		t.Errorf("there is %q: the parameter's value should have stayed", got)
	}
	deploy(deployment.second, "No changes to deploy. Stack app is up to date", false, "--no-fail-on-empty-changeset")
	deploy(deployment.third, "Failed to create/update the stack", true)
	status("UPDATE_ROLLBACK_COMPLETE")
	out, err := b.aws(dir, "describe-stack-events", "--stack-name", "app", "--query", "StackEvents[?ResourceStatus=='CREATE_FAILED'].ResourceStatusReason", "--output", "text")
	if err != nil || !strings.Contains(out, "no topic today") {
		t.Errorf("the events do not tell why: %s (%v)", out, err)
	}
	b.platform.Fail("delete", "Queue", fault.New(fault.Failed, "the queue is held"))
	for _, c := range []struct{ args, want string }{
		{"list-exports --query Exports[].Value --output text", "second"},
		{"get-template --stack-name app --query TemplateBody --output text", "DelaySeconds: 2"},
		{"get-template-summary --stack-name app --query Parameters[].ParameterKey --output text", "Name\tSecret"},
		{"detect-stack-drift --stack-name app", "StackDriftDetectionId"},
		{"describe-stack-resource-drifts --stack-name app --query StackResourceDrifts[].ExpectedProperties --output text", `"QueueName":"second"`},
		{"delete-stack --stack-name app --retain-resources Queue", "fails: specify which resources to retain only when the stack is in the DELETE_FAILED state."},
		{"delete-stack --stack-name app", ""},
		{"wait stack-delete-complete --stack-name app", "fails: Waiter StackDeleteComplete failed"},
		{"delete-stack --stack-name app --retain-resources Queue", ""},
		{"wait stack-delete-complete --stack-name app", ""},
	} {
		want, fails := strings.CutPrefix(c.want, "fails: ")
		if out, err := b.aws(dir, strings.Fields(c.args)...); (err != nil) != fails || !strings.Contains(out, want) {
			t.Fatalf("aws cloudformation %s: %v\n%s", c.args, err, out)
		}
	}
	if got := b.things(); got != "Queue second 2" {
		t.Errorf("there is left %q", got)
	}
}

// things gives the queues that exist.
func (b *bench) things() string {
	var all []string
	for _, thing := range b.platform.Things() {
		name, _ := thing.Properties["QueueName"].(string)
		delay, _ := thing.Properties["DelaySeconds"].(string)
		all = append(all, thing.LogicalID+" "+name+" "+delay)
	}
	return strings.Join(all, ", ")
}

// TestSDK does the same with the SDK for Go and its waiters.
func TestSDK(t *testing.T) {
	b := newBench(t)
	b.platform.Fail("create", "Broken", fault.New(fault.Failed, "no topic today"))
	name := aws.String("app")
	describe := &cfn.DescribeStacksInput{StackName: name}
	made, err := b.client.CreateStack(b.ctx(), &cfn.CreateStackInput{StackName: name, TemplateBody: &deployment.first,
		Parameters: []types.Parameter{{ParameterKey: aws.String("Name"), ParameterValue: aws.String("second")}},
		Tags:       []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}}})
	if err != nil {
		t.Fatal(err)
	}
	creates := cfn.NewStackCreateCompleteWaiter(b.client, func(o *cfn.StackCreateCompleteWaiterOptions) { o.MinDelay, o.MaxDelay = soon, soon })
	out, err := creates.WaitForOutput(b.ctx(), describe, atMost)
	if err != nil {
		t.Fatal(err)
	}
	s := out.Stacks[0]
	if text(s.StackId) != text(made.StackId) || s.StackStatus != types.StackStatusCreateComplete || text(s.Description) != "one queue" || text(s.Outputs[0].OutputValue) != "second" ||
		text(s.Outputs[0].ExportName) != "queue-name" || text(s.Tags[0].Value) != "a" || s.CreationTime == nil || s.LastUpdatedTime != nil {
		t.Errorf("the stack is %+v", s)
	}
	if text(s.Parameters[0].ParameterValue) != "second" || text(s.Parameters[1].ParameterValue) != "****" {
		t.Errorf("its parameters are %s and %s", text(s.Parameters[0].ParameterValue), text(s.Parameters[1].ParameterValue))
	}
	updates := cfn.NewStackUpdateCompleteWaiter(b.client, func(o *cfn.StackUpdateCompleteWaiterOptions) { o.MinDelay, o.MaxDelay = soon, soon })
	update := func(template string) error {
		_, err := b.client.UpdateStack(b.ctx(), &cfn.UpdateStackInput{StackName: made.StackId, TemplateBody: &template,
			Parameters: []types.Parameter{{ParameterKey: aws.String("Name"), UsePreviousValue: aws.Bool(true)}}})
		if err != nil {
			return err
		}
		return updates.Wait(b.ctx(), describe, atMost)
	}
	if err := update(deployment.second); err != nil || b.things() != "Queue second 2" {
		t.Errorf("the update ended with %v and %q", err, b.things())
	}
	wantError(t, "an update that changes nothing", update(deployment.second), "ValidationError", "No updates are to be performed.")
	if err := update(deployment.third); err == nil || b.settled("app") != stack.UpdateRollbackComplete {
		t.Errorf("an update that fails ended with %v in %s", err, b.settled("app"))
	}
	if _, err := b.client.DeleteStack(b.ctx(), &cfn.DeleteStackInput{StackName: name}); err != nil {
		t.Fatal(err)
	}
	deletes := cfn.NewStackDeleteCompleteWaiter(b.client, func(o *cfn.StackDeleteCompleteWaiterOptions) { o.MinDelay, o.MaxDelay = soon, soon })
	if err := deletes.Wait(b.ctx(), describe, atMost); err != nil {
		t.Error(err)
	}
	if err := deletes.Wait(b.ctx(), &cfn.DescribeStacksInput{StackName: made.StackId}, atMost); err != nil { // a deleted one, by its id
		t.Error(err)
	}
	if _, err := b.client.DeleteStack(b.ctx(), &cfn.DeleteStackInput{StackName: name}); err != nil {
		t.Errorf("deleting what is gone answered %v", err)
	}
	b.created("app", queue)
	_, err = b.client.DescribeStacks(b.ctx(), &cfn.DescribeStacksInput{StackName: made.StackId})
	wantError(t, "a look at a stack whose name has another", err, "ValidationError", "Stack with id "+text(made.StackId)+" does not exist")
	b.close(stack.ErrSuspend) // nothing is told after this
	if told := strings.Join(b.told, ", "); !strings.Contains(told, "local Queue CREATE_COMPLETE, local app CREATE_COMPLETE") || !strings.Contains(told, "local app DELETE_COMPLETE") {
		t.Errorf("what was told is %s", told)
	}
	if len(b.failed) > 0 {
		t.Errorf("failures were told: %v", b.failed)
	}
}
