package cfnapi_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	cfn "github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/smithy-go"

	"makeitso/internal/cfnapi"
	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
)

// Keys of the two environments of a bench.
const (
	accessKey, secretKey = "MISLOCAL", "of local"
	otherKey             = "MISOTHER"
	// broken is a key that cannot be looked up.
	broken = "MISBROKEN"
)

// bench is the API over engines on platforms in memory.
type bench struct {
	t        *testing.T
	platform *stacktest.Platform
	store    record.Store
	engine   *stack.Engine // of the environment local
	url      string
	client   *cfn.Client
	objects  map[string]string // of the buckets
	close    func(error)       // ends the server, for this reason
	strict   *strict           // looks at each answer

	mu     sync.Mutex
	told   []string // events observed
	failed []error
}

func newBench(t *testing.T) *bench {
	return benchOn(t, stacktest.NewPlatform(), record.NewMemory(), "test")
}

// benchOn is a bench on what another left behind.
func benchOn(t *testing.T, platform *stacktest.Platform, store record.Store, holder string) *bench {
	b := &bench{t: t, platform: platform, store: store, objects: map[string]string{}}
	b.engine = stack.New("local", platform, store, stack.Options{Holder: holder})
	local := cfnapi.Environment{Name: "local", Stacks: b.engine, Object: func(_ context.Context, location string) ([]byte, error) {
		if text, ok := b.objects[location]; ok {
			return []byte(text), nil
		}
		return nil, fault.New(fault.NotFound, "there is no %s", location)
	}}
	other := cfnapi.Environment{Name: "other", Stacks: stack.New("other", stacktest.NewPlatform(), store, stack.Options{Holder: holder})}
	closing, stop := context.WithCancelCause(context.WithoutCancel(t.Context()))
	var working sync.WaitGroup
	handler := cfnapi.Handler(cfnapi.Options{
		Environment: func(_ context.Context, key string) (cfnapi.Environment, string, error) {
			switch key {
			case accessKey:
				return local, secretKey, nil
			case otherKey:
				return other, secretKey, nil
			case broken:
				return cfnapi.Environment{}, "", errors.New("the keys cannot be read")
			}
			return cfnapi.Environment{}, "", nil
		},
		Store: store, Go: working.Go, Closing: closing,
		Observe: func(env string, ev stack.Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.told = append(b.told, env+" "+ev.LogicalID+" "+ev.Status)
		},
		Failed: func(action string, err error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.failed = append(b.failed, err)
		},
	})
	b.strict = &strict{t: t, of: handler, answered: map[string]int{}}
	server := httptest.NewServer(b.strict)
	b.close = func(cause error) { stop(cause); working.Wait() }
	t.Cleanup(func() { server.Close(); b.close(stack.ErrSuspend) })
	b.url = server.URL
	b.client = b.clientOf(accessKey, secretKey)
	return b
}

func (b *bench) clientOf(access, secret string) *cfn.Client {
	return cfn.New(cfn.Options{BaseEndpoint: &b.url, Region: "us-east-1", RetryMaxAttempts: 1, HTTPClient: &http.Client{Transport: oneRead{}},
		Credentials: credentials.NewStaticCredentialsProvider(access, secret, "")})
}

// oneRead sends bodies so that the SDK does not break off an answer that comes
// sooner than net/http has looked for the end of what it sent: the SDK closes the
// body then, whose WriteTo answers io.EOF from there on, which is an error. It
// tries again, if it may; these tests let nothing be tried again.
type oneRead struct{}

func (oneRead) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r = r.Clone(r.Context())
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return http.DefaultTransport.RoundTrip(r)
}

// soon is how long a waiter of the SDK waits between two looks, and for the end.
const (
	soon   = 5 * time.Millisecond
	atMost = 30 * time.Second
)

func (b *bench) ctx() context.Context { return b.t.Context() }

// created makes a stack and waits for it.
func (b *bench) created(name, template string) {
	b.t.Helper()
	if _, err := b.client.CreateStack(b.ctx(), &cfn.CreateStackInput{StackName: &name, TemplateBody: &template}); err != nil {
		b.t.Fatal(err)
	}
	b.settled(name)
}

// settled waits until nobody changes a stack, and gives its status.
func (b *bench) settled(name string) string {
	b.t.Helper()
	if err := b.engine.Await(b.ctx(), name, nil); err != nil {
		b.t.Fatal(err)
	}
	s, err := b.engine.Known(b.ctx(), name)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.Status
}

// wantError says that an action was refused with a code and a text.
func wantError(t *testing.T, what string, err error, code, text string) {
	t.Helper()
	var answer smithy.APIError
	if !errors.As(err, &answer) || answer.ErrorCode() != code || !strings.Contains(answer.ErrorMessage(), text) {
		t.Errorf("%s answered %v, want %s saying %q", what, err, code, text)
	}
}

func text(s *string) string { return aws.ToString(s) }

const queue = `
Description: one queue
Parameters:
  Name: {Type: String, Default: first}
  Secret: {Type: String, NoEcho: true, Default: hidden}
Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties: {QueueName: !Ref Name, DelaySeconds: 1}
Outputs:
  Name: {Value: !Ref Name, Export: {Name: queue-name}}
`
