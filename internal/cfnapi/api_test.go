package cfnapi_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	cfn "github.com/aws/aws-sdk-go-v2/service/cloudformation"

	"makeitso/internal/cfnapi"
	"makeitso/internal/stack"
)

// sent is a request that is not as clients send it.
type sent struct {
	body     string
	kind     string // Content-Type
	key      string
	secret   string
	at       time.Time
	service  string // of the scope of the signature
	unsigned bool

	authorization string // in place of the signature
}

// send sends it, and gives the status and the text of the answer.
func (b *bench) send(s sent) (int, string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.ctx(), http.MethodPost, b.url+"/", strings.NewReader(s.body))
	if err != nil {
		b.t.Fatal(err)
	}
	or := func(a, b string) string {
		if a == "" {
			return b
		}
		return a
	}
	r.Header.Set("Content-Type", or(s.kind, "application/x-www-form-urlencoded"))
	if s.at.IsZero() {
		s.at = time.Now()
	}
	sum := sha256.Sum256([]byte(s.body))
	keys := aws.Credentials{AccessKeyID: or(s.key, accessKey), SecretAccessKey: or(s.secret, secretKey)}
	if !s.unsigned {
		if err := v4.NewSigner().SignHTTP(b.ctx(), keys, r, hex.EncodeToString(sum[:]), or(s.service, "cloudformation"), "us-east-1", s.at); err != nil {
			b.t.Fatal(err)
		}
	}
	if s.authorization != "" {
		r.Header.Set("Authorization", s.authorization)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func action(name string, pairs ...string) string {
	form := url.Values{"Action": {name}, "Version": {"2010-05-15"}}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return form.Encode()
}

// TestBadRequests says that each is refused in the service's words, and told
// what to do.
func TestBadRequests(t *testing.T) {
	b := newBench(t)
	b.objects["s3://bucket/large.yaml"] = strings.Repeat("x", 1_000_001)
	for _, c := range []struct {
		name   string
		sent   sent
		status int
		code   string
		says   string
	}{
		{"unsigned", sent{body: action("ListStacks"), unsigned: true}, 403, "MissingAuthenticationToken", "makeitso credentials"},
		{"a key of nobody", sent{body: action("ListStacks"), key: "AKIA"}, 403, "InvalidClientTokenId", "makeitso credentials"},
		{"a wrong secret", sent{body: action("ListStacks"), secret: "guessed"}, 403, "SignatureDoesNotMatch", "Check your AWS Secret Access Key"},
		{"too old", sent{body: action("ListStacks"), at: time.Now().Add(-time.Hour)}, 400, "RequestExpired", "Set the clock"},
		{"no form", sent{body: `{"Action":"ListStacks"}`, kind: "application/json"}, 400, "MalformedInput", "send a form, application/x-www-form-urlencoded"},
		{"a broken form", sent{body: "Action=ListStacks&Version=%zz"}, 400, "MalformedQueryString", "syntax error"},
		{"XML", sent{body: `<ListStacks/>`, kind: "text/xml"}, 400, "MalformedInput", "the body is of type 'text/xml'"},
		{"no type", sent{body: "Action=ListStacks", kind: "a/b/c"}, 400, "MalformedInput", "send a form"},
		{"nothing", sent{}, 400, "MissingAction", "names no Action"},
		{"of tomorrow", sent{body: action("ListStacks"), at: time.Now().Add(24 * time.Hour)}, 400, "RequestExpired", "Set the clock"},
		{"for another service", sent{body: action("ListStacks"), service: "s3"}, 403, "SignatureDoesNotMatch", "Credential should be scoped to correct service"},
		{"a half signature", sent{body: action("ListStacks"), unsigned: true, authorization: "AWS4-HMAC-SHA256 Credential=" + accessKey}, 400, "IncompleteSignature", ""},
		{"an action in lower case", sent{body: action("listStacks")}, 400, "InvalidAction", "did you mean ListStacks?"},
		{"a parameter twice", sent{body: action("DescribeStacks", "StackName", "a") + "&StackName=b"}, 400, "MalformedQueryString", "the parameter StackName is given more than once"},
		{"a list with a gap", sent{body: action("ListStacks", "StackStatusFilter.member.1", "CREATE_COMPLETE", "StackStatusFilter.member.3", "DELETE_COMPLETE")}, 400, "MalformedQueryString", "the members of StackStatusFilter are not numbered from 1 without gaps: see StackStatusFilter.member.3"},
		{"a list from 0", sent{body: action("CreateStack", "StackName", "app", "Parameters.member.0.ParameterKey", "a")}, 400, "MalformedQueryString", "the members of Parameters are not numbered from 1"},
		{"a list for a text", sent{body: action("DescribeStacks", "StackName.member.1", "a")}, 400, "ValidationError", "the parameter StackName.member.1 is not known"},
		{"a page of nothing", sent{body: action("DescribeStackResourceDrifts", "StackName", "app", "MaxResults", "0")}, 400, "ValidationError", "Value '0' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"a page of too much", sent{body: action("DescribeStackResourceDrifts", "StackName", "app", "MaxResults", "101")}, 400, "ValidationError", "Value '101' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 100"},
		{"two mistakes", sent{body: action("DescribeStackResourceDrifts", "MaxResults", "101")}, 400, "ValidationError", "2 validation errors detected: Value null at 'stackName' failed to satisfy constraint: Member must not be null; Value '101'"},
		{"watched too long", sent{body: action("CreateStack", "StackName", "app", "RollbackConfiguration.MonitoringTimeInMinutes", "181")}, 400, "ValidationError", "Value '181' at 'rollbackConfiguration.monitoringTimeInMinutes' failed"},
		{"an empty token", sent{body: action("CreateStack", "StackName", "app", "ClientRequestToken", "")}, 400, "ValidationError", "Value '' at 'clientRequestToken' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"another mode", sent{body: action("DeleteStack", "StackName", "app", "DeletionMode", "GENTLE")}, 400, "ValidationError", "Member must satisfy enum value set: [STANDARD, FORCE_DELETE_STACK]"},
		{"no action", sent{body: "Version=2010-05-15"}, 400, "MissingAction", "names no Action"},
		{"an unknown action", sent{body: action("EstimateTemplateCost")}, 400, "InvalidAction", "Could not find operation EstimateTemplateCost for version 2010-05-15"},
		{"almost an action", sent{body: action("DescribeStack")}, 400, "InvalidAction", "did you mean DescribeStacks?"},
		{"another version", sent{body: "Action=ListStacks&Version=2009-01-01"}, 400, "InvalidAction", "the version here is 2010-05-15"},
		{"an unknown parameter", sent{body: action("ListStacks", "Color", "red")}, 400, "ValidationError", "the parameter Color is not known for this action here; leave it out"},
		{"a missing parameter", sent{body: action("DeleteStack")}, 400, "ValidationError", "Value null at 'stackName' failed to satisfy constraint: Member must not be null"},
		{"no boolean", sent{body: action("UpdateStack", "StackName", "app", "UsePreviousTemplate", "maybe")}, 400, "ValidationError", "Value 'maybe' at 'usePreviousTemplate'"},
		{"no number", sent{body: action("CreateStack", "StackName", "app", "TimeoutInMinutes", "soon")}, 400, "ValidationError", "Value 'soon' at 'timeoutInMinutes'"},
		{"a token of elsewhere", sent{body: action("ListStacks", "NextToken", "abc")}, 400, "ValidationError", "begin without one"},
		{"no template", sent{body: action("CreateStack", "StackName", "app")}, 400, "ValidationError", "Either Template URL or Template Body must be specified."},
		{"a broken template", sent{body: action("ValidateTemplate", "TemplateBody", "Resources: [")}, 400, "ValidationError", "TemplateBody:2:2: error: Template format error: YAML not well-formed."},
		{"another URL", sent{body: action("ValidateTemplate", "TemplateURL", "ftp://elsewhere/t.yaml")}, 400, "ValidationError", "TemplateURL must be a supported URL."},
		{"an object that is not there", sent{body: action("ValidateTemplate", "TemplateURL", "s3://bucket/t.yaml")}, 400, "ValidationError", "there is no s3://bucket/t.yaml"},
		{"a large template", sent{body: action("ValidateTemplate", "TemplateBody", strings.Repeat("x", 51_201))}, 400, "ValidationError", "xxx...' at 'templateBody' failed to satisfy constraint: Member must have length less than or equal to 51200; it has 51201: put it into a bucket"},
		{"a large template of a bucket", sent{body: action("ValidateTemplate", "TemplateURL", "s3://bucket/large.yaml")}, 400, "ValidationError", "Template may not exceed 1000000 bytes in size: s3://bucket/large.yaml has 1000001"},
		{"two megabytes", sent{body: action("ValidateTemplate", "TemplateBody", strings.Repeat("x", 2<<20))}, 413, "RequestEntityTooLarge", "put the template into a bucket of the environment and name it by TemplateURL"},
	} {
		status, text := b.send(c.sent)
		if status != c.status || !strings.Contains(text, "<Code>"+c.code+"</Code>") || !strings.Contains(text, "<Type>Sender</Type>") || !strings.Contains(text, strings.ReplaceAll(c.says, "'", "&#39;")) {
			t.Errorf("%s was answered %d %s, want %d %s saying %q", c.name, status, text, c.status, c.code, c.says)
		}
	}
	if len(b.failed) > 0 {
		t.Errorf("mistakes of clients were told as failures: %v", b.failed)
	}
	if status, text := b.send(sent{body: action("ListStacks"), key: broken}); status != 500 || !strings.Contains(text, "<Type>Receiver</Type><Code>InternalFailure</Code>") || len(b.failed) != 1 {
		t.Errorf("keys that cannot be read were answered %d %s, and told %v", status, text, b.failed)
	}
}

// TestTooLargeIsHeard says that a client hears why its request is refused that
// sends all of it before it listens.
func TestTooLargeIsHeard(t *testing.T) {
	b := newBench(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const size = 12 << 20
	if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", size); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Fatalf("it hears %v (%v)", answer, err)
	}
	answer.Body.Close()
}

// TestAnswersAreTheServices says how the service writes XML: lists that are
// empty are there, and an action without a result has metadata alone.
func TestAnswersAreTheServices(t *testing.T) {
	b := newBench(t)
	if _, text := b.send(sent{body: action("ListStacks")}); !strings.HasPrefix(text, `<ListStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><ListStacksResult><StackSummaries></StackSummaries></ListStacksResult><ResponseMetadata><RequestId>`) {
		t.Errorf("ListStacks is answered %s", text)
	}
	if _, text := b.send(sent{body: action("DeleteStack", "StackName", "none")}); !strings.HasPrefix(text, `<DeleteStackResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><ResponseMetadata>`) {
		t.Errorf("DeleteStack is answered %s", text)
	}
}

// TestKeysAreOfEnvironments says that a key opens its own environment alone.
func TestKeysAreOfEnvironments(t *testing.T) {
	b := newBench(t)
	b.created("app", queue)
	theirs := b.clientOf(otherKey, secretKey)
	_, err := theirs.DescribeStacks(b.ctx(), &cfn.DescribeStacksInput{StackName: aws.String("app")})
	wantError(t, "a look from another environment", err, "ValidationError", "Stack with id app does not exist")
	list, err := theirs.ListExports(b.ctx(), &cfn.ListExportsInput{})
	if err != nil || len(list.Exports) > 0 {
		t.Errorf("another environment exports %v (%v)", list, err)
	}
}

// TestClosing says that an operation stops where it stands when the server ends,
// and goes on with the next one.
func TestClosing(t *testing.T) {
	b := newBench(t)
	started, release := b.platform.Block("create", "Queue")
	defer release()
	if _, err := b.client.CreateStack(b.ctx(), &cfn.CreateStackInput{StackName: aws.String("app"), TemplateBody: aws.String(queue)}); err != nil {
		t.Fatal(err)
	}
	<-started
	b.close(stack.ErrSuspend)
	_, err := b.client.CreateStack(b.ctx(), &cfn.CreateStackInput{StackName: aws.String("late"), TemplateBody: aws.String(queue)})
	wantError(t, "a request to a server that ends", err, "ServiceUnavailable", "suspended")
	if s, err := b.engine.Stack(b.ctx(), "app"); err != nil || s.Status != stack.CreateInProgress {
		t.Errorf("the stack is %s (%v)", s.Status, err)
	}
	release()
	next := benchOn(t, b.platform, b.store, "next")
	if err := next.engine.Resume(b.ctx(), nil); err != nil {
		t.Fatal(err)
	}
	if status := next.settled("app"); status != stack.CreateComplete {
		t.Errorf("it became %s", status)
	}
}

// TestForget says that nothing of an environment is left, and all of another.
func TestForget(t *testing.T) {
	b := newBench(t)
	for _, client := range []*cfn.Client{b.client, b.clientOf(otherKey, secretKey)} {
		if _, err := client.CreateChangeSet(b.ctx(), &cfn.CreateChangeSetInput{StackName: aws.String("app"), ChangeSetName: aws.String("first"), ChangeSetType: "CREATE", TemplateBody: aws.String(queue)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := cfnapi.Forget(context.Background(), b.store, "local"); err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string]int{"api-changeset": 1, "api-review": 1} {
		if left, err := b.store.List(b.ctx(), kind, ""); err != nil || len(left) != want || !strings.HasPrefix(left[0].Key, "other/") {
			t.Errorf("of %s there is left %v (%v)", kind, left, err)
		}
	}
}
