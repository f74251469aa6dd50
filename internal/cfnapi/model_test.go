package cfnapi_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

// model is what the service says of its API, as the SDK for Python has it.
type model struct {
	Operations map[string]struct {
		Input  *struct{ Shape string }
		Output *struct{ Shape, ResultWrapper string }
	}
	Shapes map[string]shape
}

type shape struct {
	Type    string
	Members map[string]struct{ Shape string }
	Member  struct{ Shape string } // of a list
	Enum    []string
	Error   *struct{ Code string }
	Max     int // of a number, a length; 0 is none
}

// theModel reads the model, nil and why if there is none that is new enough.
// Clients read answers leniently, and would not tell of a wrong name.
var theModel = sync.OnceValues(func() (*model, error) {
	out, err := exec.Command("python3", "-c", "import botocore, os; print(os.path.dirname(botocore.__file__))").Output()
	if err != nil {
		return nil, fmt.Errorf("needs botocore (pip install botocore): %w", err)
	}
	f, err := os.Open(filepath.Join(strings.TrimSpace(string(out)), "data/cloudformation/2010-05-15/service-2.json.gz"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	unzip, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	var m model
	if err := json.NewDecoder(unzip).Decode(&m); err != nil {
		return nil, err
	}
	if _, new := m.Operations["DescribeEvents"]; !new {
		return nil, fault.New(fault.NotFound, "needs a newer botocore, with DescribeEvents (pip install --upgrade botocore)")
	}
	return &m, nil
})

// element is a part of an answer.
type element struct {
	XMLName xml.Name
	Inner   []element `xml:",any"`
	Text    string    `xml:",chardata"`
}

func (e element) child(name string) (element, bool) {
	at := slices.IndexFunc(e.Inner, func(c element) bool { return c.XMLName.Local == name })
	if at < 0 {
		return element{}, false
	}
	return e.Inner[at], true
}

// strict checks each answer of a handler against the model, if there is one.
type strict struct {
	t  *testing.T
	of http.Handler

	mu       sync.Mutex
	answered map[string]int // by action
}

func (s *strict) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m, err := theModel()
	if err != nil {
		s.of.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	s.of.ServeHTTP(answer, r)
	action, wrong := m.check(answer.Code, answer.Body.Bytes())
	for _, what := range wrong {
		s.t.Errorf("the answer to %s is not the service's: %s\n%s", action, what, answer.Body)
	}
	s.mu.Lock()
	s.answered[action]++
	s.mu.Unlock()
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()) // a client that has left cannot be told
}

// check gives the action that was answered, "" for an error, and what is wrong
// with the answer.
func (m *model) check(status int, body []byte) (action string, wrong []string) {
	var root element
	if err := xml.Unmarshal(body, &root); err != nil {
		return "", []string{err.Error()}
	}
	if status != http.StatusOK {
		return "", m.checkError(root)
	}
	action = strings.TrimSuffix(root.XMLName.Local, "Response")
	operation, known := m.Operations[action]
	result, has := root.child(action + "Result")
	switch metadata, _ := root.child("ResponseMetadata"); {
	case !known:
		return action, []string{"there is no such action"}
	case len(metadata.Inner) != 1 || metadata.Inner[0].XMLName.Local != "RequestId" || metadata.Inner[0].Text == "":
		return action, []string{"it has no RequestId"}
	case has != (operation.Output != nil):
		return action, []string{fmt.Sprintf("that it has a result is %v", has)}
	case !has:
		return action, nil
	}
	return action, m.checkShape(operation.Output.Shape, result, action)
}

// common are the codes that every service of the query protocol has.
var common = []string{"AccessDenied", "IncompleteSignature", "InternalFailure", "InvalidAction", "InvalidClientTokenId", "MalformedInput", "MalformedQueryString", "MissingAction",
	"MissingAuthenticationToken", "RequestEntityTooLarge", "RequestExpired", "RequestTimeout", "ServiceUnavailable", "SignatureDoesNotMatch", "ValidationError"}

func (m *model) checkError(root element) []string {
	problem, _ := root.child("Error")
	code, _ := problem.child("Code")
	known := slices.Contains(common, code.Text)
	for _, s := range m.Shapes {
		known = known || s.Error != nil && s.Error.Code == code.Text
	}
	if root.XMLName.Local != "ErrorResponse" || !known {
		return []string{fmt.Sprintf("%q is no code of the service", code.Text)}
	}
	return nil
}

func (m *model) checkShape(name string, e element, at string) (wrong []string) {
	s := m.Shapes[name]
	bad := func(format string, args ...any) { wrong = append(wrong, at+": "+fmt.Sprintf(format, args...)) }
	seen := map[string]bool{}
	for _, c := range e.Inner {
		inner, place := c.XMLName.Local, at+"/"+c.XMLName.Local
		member, known := s.Members[inner]
		switch {
		case s.Type == "list" && inner == "member":
			wrong = append(wrong, m.checkShape(s.Member.Shape, c, at+"[]")...)
		case s.Type == "structure" && known && !seen[inner]:
			wrong = append(wrong, m.checkShape(member.Shape, c, place)...)
		default:
			bad("%s cannot stand in a %s", inner, s.Type)
		}
		seen[inner] = true
	}
	switch text := e.Text; s.Type {
	case "integer":
		if _, err := strconv.Atoi(text); err != nil {
			bad("%q is no number", text)
		}
	case "boolean":
		if text != "true" && text != "false" {
			bad("%q is no boolean", text)
		}
	case "timestamp":
		if _, err := time.Parse(time.RFC3339, text); err != nil || !strings.HasSuffix(text, "Z") {
			bad("%q is no time", text)
		}
	case "string":
		if name == "ResourceStatus" { // the events of stacks have theirs
			s.Enum = slices.Concat(s.Enum, m.Shapes["StackStatus"].Enum)
		}
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, text) {
			bad("%q is not among %v", text, s.Enum)
		}
	}
	return wrong
}

// TestModel asks for every action of the service: those that are here answer
// as the model says, and the others are unknown.
func TestModel(t *testing.T) {
	m, err := theModel()
	if err != nil {
		t.Skip(err)
	}
	b := newBench(t)
	b.platform.Fail("create", "Broken", fault.New(fault.Failed, "no topic today"))
	b.platform.AddAlarm("arn:aws:cloudwatch:us-east-1:000000000000:alarm:errors")
	var last string
	ask := func(name string, pairs ...string) {
		t.Helper()
		status, text := b.send(sent{body: action(name, pairs...)})
		if last = text; status != http.StatusOK {
			t.Errorf("%s was answered %d %s", name, status, text)
		}
	}
	settle := func() { b.settled("app") }
	ask("CreateChangeSet", "StackName", "app", "ChangeSetName", "first", "ChangeSetType", "CREATE", "TemplateBody", queue, "NotificationARNs.member.1", topic, "Capabilities.member.1", "CAPABILITY_IAM",
		"Tags.member.1.Key", "team", "Tags.member.1.Value", "a", "RollbackConfiguration.MonitoringTimeInMinutes", "0",
		"RollbackConfiguration.RollbackTriggers.member.1.Arn", "arn:aws:cloudwatch:us-east-1:000000000000:alarm:errors", "RollbackConfiguration.RollbackTriggers.member.1.Type", "AWS::CloudWatch::Alarm")
	for _, name := range []string{"DescribeChangeSet", "DescribeChangeSetHooks", "GetTemplate", "DescribeEvents", "ExecuteChangeSet"} {
		ask(name, "StackName", "app", "ChangeSetName", "first")
	}
	settle()
	ask("ListChangeSets", "StackName", "app")
	ask("CreateStack", "StackName", "user", "TemplateBody", "Resources: {Thing: {Type: 'Test::Thing', Properties: {Of: !ImportValue queue-name}}}")
	b.settled("user")
	b.platform.Change("Queue", map[string]any{"QueueName": "first", "DelaySeconds": "8"})
	ask("DetectStackDrift", "StackName", "app")
	_, id, _ := strings.Cut(last, "<StackDriftDetectionId>")
	id, _, _ = strings.Cut(id, "<")
	ask("DescribeStackDriftDetectionStatus", "StackDriftDetectionId", id)
	ask("DetectStackResourceDrift", "StackName", "app", "LogicalResourceId", "Queue")
	ask("DescribeStackResource", "StackName", "app", "LogicalResourceId", "Queue")
	for _, name := range []string{"DescribeStackResourceDrifts", "DescribeStacks", "DescribeStackEvents", "DescribeEvents", "DescribeStackResources", "ListStackResources", "GetTemplate", "GetTemplateSummary", "GetStackPolicy"} {
		ask(name, "StackName", "app")
	}
	ask("DescribeStacks")
	ask("ListStacks")
	ask("ListExports")
	ask("ListImports", "ExportName", "queue-name")
	ask("ListTypes", "Visibility", "PUBLIC")
	ask("DescribeType", "Type", "RESOURCE", "TypeName", "AWS::SQS::Queue")
	ask("ValidateTemplate", "TemplateBody", "Transform: AWS::LanguageExtensions\n"+queue)
	ask("GetTemplateSummary", "TemplateBody", "Transform: AWS::LanguageExtensions\n"+queue+"  None: {Value: x}\n")
	ask("SetStackPolicy", "StackName", "app", "StackPolicyBody", `{"Statement":[{"Effect":"Allow","Action":"Update:*","Principal":"*","Resource":"*"}]}`)
	ask("UpdateTerminationProtection", "StackName", "app", "EnableTerminationProtection", "false")
	ask("UpdateStack", "StackName", "app", "TemplateBody", deployment.third, "DisableRollback", "true")
	settle()
	ask("DescribeEvents", "StackName", "app", "Filters.FailedEvents", "true")
	ask("RollbackStack", "StackName", "app")
	settle()
	b.restless(ask)
	ask("CreateChangeSet", "StackName", "app", "ChangeSetName", "never", "TemplateBody", deployment.second)
	ask("DeleteChangeSet", "StackName", "app", "ChangeSetName", "never")
	ask("DeleteStack", "StackName", "user")
	b.settled("user")
	ask("DeleteStack", "StackName", "app")
	settle()
	told, err := os.ReadFile("../../docs/cloudformation.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range m.Operations {
		status, text := b.send(sent{body: action(name)})
		here := status == http.StatusOK || !strings.Contains(text, "<Code>InvalidAction</Code>")
		if here != strings.Contains(string(told), "`"+name+"`") {
			t.Errorf("that there is %s is %v, and docs/cloudformation.md says otherwise", name, here)
		}
		if here && b.strict.answered[name] == 0 {
			t.Errorf("no answer to %s was looked at", name)
		}
		if !here && !strings.Contains(text, "Could not find operation "+name+" for version 2010-05-15") {
			t.Errorf("%s, which is not here, was answered %s", name, text)
		}
	}
}

// TestBounds says that what the service bounds is bounded here.
func TestBounds(t *testing.T) {
	m, err := theModel()
	if err != nil {
		t.Skip(err)
	}
	b := newBench(t)
	tried := 0
	for name, operation := range m.Operations {
		if operation.Input == nil {
			continue
		}
		for member, of := range m.Shapes[operation.Input.Shape].Members {
			var pairs []string
			switch s := m.Shapes[of.Shape]; {
			case s.Max == 0 || s.Max > 1<<20:
				continue
			case s.Type == "integer":
				pairs = []string{member, strconv.Itoa(s.Max + 1)}
			case s.Type == "string":
				pairs = []string{member, strings.Repeat("a", s.Max+1)}
			case s.Type == "list":
				for i := range s.Max + 1 {
					pairs = append(pairs, fmt.Sprintf("%s.member.%d", member, i+1), "a")
				}
			}
			_, text := b.send(sent{body: action(name, pairs...)})
			if strings.Contains(text, "<Code>InvalidAction</Code>") || strings.Contains(text, "is not known for this action here") {
				continue
			}
			tried++
			if !strings.Contains(text, "at &#39;"+strings.ToLower(member[:1])+member[1:]+"&#39; failed to satisfy constraint: Member must have ") {
				t.Errorf("%s with %s above its bound was answered %s", name, member, text)
			}
		}
	}
	if tried < 30 {
		t.Errorf("only %d bounds were tried", tried)
	}
}

// restless has an update cancelled, and a roll back that fails gone on with.
func (b *bench) restless(ask func(string, ...string)) {
	b.t.Helper()
	started, release := b.platform.Block("update", "Queue")
	ask("UpdateStack", "StackName", "app", "TemplateBody", deployment.second)
	<-started
	ask("SignalResource", "StackName", "app", "LogicalResourceId", "Queue", "UniqueId", "a", "Status", "SUCCESS")
	ask("CancelUpdateStack", "StackName", "app")
	release()
	b.settled("app")
	updates := 0
	b.platform.On("update", "Queue", func(context.Context, stack.Request) error {
		if updates++; updates > 1 {
			return fault.New(fault.Failed, "no way back")
		}
		return nil
	})
	ask("UpdateStack", "StackName", "app", "TemplateBody", strings.Replace(deployment.third, "DelaySeconds: 1", "DelaySeconds: 2", 1))
	if status := b.settled("app"); status != stack.UpdateRollbackFailed {
		b.t.Fatalf("a roll back that fails ended in %s", status)
	}
	b.platform.On("update", "Queue", nil)
	ask("ContinueUpdateRollback", "StackName", "app")
	b.settled("app")
}
