package stacktest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"testing"

	"makeitso/internal/stack"
)

// recorder is a test that notes what failed. The other methods are those of the
// real test.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Helper()                   {}
func (r *recorder) Failed() bool              { return len(r.failures) > 0 }
func (r *recorder) Logf(string, ...any)       {}
func (r *recorder) Errorf(f string, a ...any) { r.failures = append(r.failures, fmt.Sprintf(f, a...)) }
func (r *recorder) Fatal(a ...any)            { r.Fatalf("%s", fmt.Sprint(a...)) }
func (r *recorder) Fatalf(f string, a ...any) {
	r.Errorf(f, a...)
	runtime.Goexit()
}

// broken is a handler of which some methods are others.
type broken struct {
	stack.Handler
	check          func(context.Context, stack.Request) error
	create, update func(context.Context, stack.Request) (stack.Result, error)
	read           func(context.Context, stack.Request) (stack.Result, error)
	remove         func(context.Context, stack.Request) error
}

func (b broken) Check(ctx context.Context, r stack.Request) error {
	if b.check != nil {
		return b.check(ctx, r)
	}
	return b.Handler.Check(ctx, r)
}

func (b broken) Create(ctx context.Context, r stack.Request) (stack.Result, error) {
	if b.create != nil {
		return b.create(ctx, r)
	}
	return b.Handler.Create(ctx, r)
}

func (b broken) Update(ctx context.Context, r stack.Request) (stack.Result, error) {
	if b.update != nil {
		return b.update(ctx, r)
	}
	return b.Handler.Update(ctx, r)
}

func (b broken) Read(ctx context.Context, r stack.Request) (stack.Result, error) {
	if b.read != nil {
		return b.read(ctx, r)
	}
	return b.Handler.Read(ctx, r)
}

func (b broken) Delete(ctx context.Context, r stack.Request) error {
	if b.remove != nil {
		return b.remove(ctx, r)
	}
	return b.Handler.Delete(ctx, r)
}

// TestTheSuiteBites breaks each promise of a handler once, and sees it said.
func TestTheSuiteBites(t *testing.T) {
	wrong := errors.New("wrong")
	for _, test := range []struct {
		promise string
		fault   func(p *Platform, b *broken)
		want    string // in what the suite says
	}{
		{"nothing is broken", func(*Platform, *broken) {}, ""},
		{"invalid properties are refused", func(_ *Platform, b *broken) {
			b.check = func(context.Context, stack.Request) error { return nil }
		}, "Check of invalid properties"},
		{"create twice with one token makes one", func(_ *Platform, b *broken) {
			n := 0
			b.create = func(ctx context.Context, r stack.Request) (stack.Result, error) {
				if n++; n > 1 {
					r.Token += fmt.Sprint(n)
				}
				return b.Handler.Create(ctx, r)
			}
		}, "create again with the same token gave the physical id"},
		{"read after create equals what was asked", func(_ *Platform, b *broken) {
			b.read = func(ctx context.Context, r stack.Request) (stack.Result, error) {
				result, err := b.Handler.Read(ctx, r)
				result.Properties = maps.Clone(result.Properties)
				delete(result.Properties, "DelaySeconds")
				return result, err
			}
		}, "read after create gave other properties than were asked for"},
		{"update in place keeps the thing", func(_ *Platform, b *broken) {
			b.update = func(ctx context.Context, r stack.Request) (stack.Result, error) {
				result, err := b.Handler.Update(ctx, r)
				result.PhysicalID += "x"
				return result, err
			}
		}, "update in place gave the physical id"},
		{"update changes the properties", func(_ *Platform, b *broken) {
			b.update = func(ctx context.Context, r stack.Request) (stack.Result, error) {
				if _, err := b.Handler.Update(ctx, r); err != nil {
					return stack.Result{}, err
				}
				r.Properties = r.Previous
				return b.Handler.Update(ctx, r)
			}
		}, "read after update gave"},
		{"delete twice is fine", func(_ *Platform, b *broken) {
			n := 0
			b.remove = func(ctx context.Context, r stack.Request) error {
				if n++; n > 1 {
					return wrong
				}
				return b.Handler.Delete(ctx, r)
			}
		}, "delete what is gone: wrong"},
		{"delete removes it", func(_ *Platform, b *broken) {
			b.remove = func(context.Context, stack.Request) error { return nil }
		}, "read after delete"},
		{"not found is a typed answer", func(_ *Platform, b *broken) {
			b.read = func(ctx context.Context, r stack.Request) (stack.Result, error) {
				result, err := b.Handler.Read(ctx, r)
				if err != nil {
					err = wrong
				}
				return result, err
			}
		}, "got wrong, want fault.NotFound"},
		{"what can be set once only is honoured", func(_ *Platform, b *broken) {
			b.update = func(ctx context.Context, r stack.Request) (stack.Result, error) {
				r.Previous = nil
				return b.Handler.Update(ctx, r)
			}
		}, "update of FifoQueue, which is set once only"},
	} {
		p := NewPlatform()
		h, err := p.Handler("AWS::SQS::Queue")
		if err != nil {
			t.Fatal(err)
		}
		b := &broken{Handler: h}
		test.fault(p, b)
		said := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			run(said, b, Case{
				Request: stack.Request{Environment: "test", Stack: "app", LogicalID: "Queue", Type: "AWS::SQS::Queue", Token: "app-queue-1",
					Properties: map[string]any{"QueueName": "jobs", "DelaySeconds": "5"}},
				Update:  map[string]any{"QueueName": "jobs", "DelaySeconds": "6"},
				Invalid: map[string]any{"Invalid": "x"},
			})
		}()
		<-done
		all := strings.Join(said.failures, "\n")
		if test.want == "" && all != "" || !strings.Contains(all, test.want) {
			t.Errorf("%s: the suite says %q, want %q", test.promise, all, test.want)
		}
	}
}
