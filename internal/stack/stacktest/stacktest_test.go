package stacktest_test

import (
	"context"
	"errors"
	"testing"

	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
)

// TestPlatformPassesTheSuite runs the contract over the platform in memory.
func TestPlatformPassesTheSuite(t *testing.T) {
	p := stacktest.NewPlatform()
	h, err := p.Handler("AWS::SQS::Queue")
	if err != nil {
		t.Fatal(err)
	}
	stacktest.Handler(t, h, stacktest.Case{
		Name: "queue",
		Request: stack.Request{Environment: "test", Stack: "app", LogicalID: "Queue", Type: "AWS::SQS::Queue", Token: "app-queue-1",
			Properties: map[string]any{"QueueName": "jobs", "DelaySeconds": "5"}},
		Update:  map[string]any{"QueueName": "jobs", "DelaySeconds": "6"},
		Invalid: map[string]any{"Invalid": "x"},
		Count:   func() int { return len(p.Things()) },
	})
	if left := p.Things(); len(left) != 0 {
		t.Errorf("the suite left %v behind", left)
	}
}

func TestHooks(t *testing.T) {
	p := stacktest.NewPlatform()
	h, err := p.Handler("Test::Thing")
	if err != nil {
		t.Fatal(err)
	}
	r := stack.Request{LogicalID: "A", Type: "Test::Thing", Token: "a"}
	wrong := errors.New("wrong")
	p.Fail("create", "A", wrong)
	if _, err := h.Create(t.Context(), r); !errors.Is(err, wrong) {
		t.Errorf("a create that shall fail answered %v", err)
	}
	started, release := p.Block("create", "A")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := h.Create(ctx, r); done <- err }()
	<-started
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || len(p.Things()) != 0 {
		t.Errorf("a blocked create that was cancelled answered %v and left %v", err, p.Things())
	}
	release()
	if _, err := h.Create(t.Context(), r); err != nil || len(p.Things()) != 1 {
		t.Errorf("a released create answered %v and made %v", err, p.Things())
	}
	if _, err := p.Handler("Refused::Thing"); err == nil {
		t.Error("a refused type has a handler")
	}
}
