package stack_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

// TestKnown says what is told of stacks that are no more.
func TestKnown(t *testing.T) {
	b := newBench(t)
	if _, err := b.engine.Known(t.Context(), "app"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a stack that never was answered %v", err)
	}
	b.mustApply("app", chain)
	if err := b.engine.Delete(t.Context(), "app", nil); err != nil {
		t.Fatal(err)
	}
	if s, err := b.engine.Known(t.Context(), "app"); err != nil || s.Status != stack.DeleteComplete {
		t.Errorf("a deleted stack is %+v (%v)", s, err)
	}
	if all, err := b.engine.AllKnown(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("all known are %v (%v)", all, err)
	}
	if all, err := b.engine.Stacks(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("those that exist are %v (%v)", all, err)
	}
}

// TestChange says what a stack was asked to be last.
func TestChange(t *testing.T) {
	b := newBench(t)
	asked := func(want string) {
		t.Helper()
		c, err := b.engine.Change(t.Context(), "app")
		if err != nil || string(c.Template) != want {
			t.Errorf("it was asked to be %q (%v), want %q", c.Template, err, want)
		}
	}
	asked("")
	b.mustApply("app", chain)
	asked(chain)
	next := strings.Replace(chain, "one", "two", 1)
	once := errors.New("not now")
	b.platform.On("update", "A", func(context.Context, stack.Request) error {
		defer func() { once = nil }() // the roll back succeeds
		asked(next)
		return once
	})
	if err := b.apply("app", next); err == nil {
		t.Fatal("the update did not fail")
	}
	asked(chain)
	if err := b.engine.Delete(t.Context(), "app", nil); err != nil {
		t.Fatal(err)
	}
	asked("")
}

// TestEventsBefore reads events from the newest on.
func TestEventsBefore(t *testing.T) {
	b := newBench(t)
	if events, err := b.engine.EventsBefore(t.Context(), "app", 0, 10); err != nil || len(events) > 0 {
		t.Errorf("of no stack: %v (%v)", events, err)
	}
	b.mustApply("app", chain)
	all, err := b.engine.Events(t.Context(), "app", 0)
	if err != nil {
		t.Fatal(err)
	}
	before, at := int64(0), len(all)
	for at > 0 {
		events, err := b.engine.EventsBefore(t.Context(), "app", before, 3)
		if err != nil || len(events) != min(3, at) {
			t.Fatalf("before %d: %v (%v)", before, events, err)
		}
		for _, ev := range events {
			if at--; ev != all[at] {
				t.Errorf("event %d is %+v, want %+v", at, ev, all[at])
			}
		}
		before = events[len(events)-1].Number
	}
	if err := b.engine.AwaitEvent(t.Context(), "app", int64(len(all)-1)); err != nil {
		t.Error(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.engine.AwaitEvent(over, "app", int64(len(all))); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for what does not come answered %v", err)
	}
	if events, err := b.engine.EventsBefore(t.Context(), "app", before, 3); err != nil || len(events) > 0 {
		t.Errorf("before the first: %v (%v)", events, err)
	}
}

// TestGuardFromTheBeginning has a stack guarded by the write that begins it.
func TestGuardFromTheBeginning(t *testing.T) {
	b := newBench(t)
	policy := `{"Statement":[{"Effect":"Deny","Action":"Update:*","Principal":"*","Resource":"*"}]}`
	change := changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(chain), Guard: changeset.Guard{Protect: true, Policy: policy}}
	cs, err := b.engine.Plan(t.Context(), change)
	if err != nil {
		t.Fatal(err)
	}
	b.platform.On("create", "", func(ctx context.Context, _ stack.Request) error {
		if s, err := b.engine.Stack(ctx, "app"); err != nil || !s.Protected || s.Policy != policy {
			t.Errorf("at its beginning, the stack is %+v (%v)", s, err)
		}
		return nil
	})
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Fatal(err)
	}
	change.Template, change.Guard = []byte(strings.Replace(chain, "one", "two", 1)), changeset.Guard{}
	if _, err := b.engine.Plan(t.Context(), change); !fault.Is(err, fault.Denied) {
		t.Errorf("an update answered %v", err)
	}
	change.Guard.Policy = "{}"
	if _, err := b.engine.Plan(t.Context(), change); err == nil || !strings.Contains(err.Error(), "Invalid stack policy") {
		t.Errorf("a policy that is none answered %v", err)
	}
}

func TestBucketAddress(t *testing.T) {
	for address, want := range map[string]string{
		"s3://bucket/a/b.yaml":                               "s3://bucket/a/b.yaml",
		"https://bucket.s3.amazonaws.com/a/b.yaml":           "s3://bucket/a/b.yaml",
		"https://s3.eu-west-1.amazonaws.com/bucket/a/b.yaml": "s3://bucket/a/b.yaml",
		"http://127.0.0.1:9000/bucket/a/b.yaml":              "s3://bucket/a/b.yaml",
		"http://s3.localhost:9000/bucket/b.yaml":             "s3://bucket/b.yaml",
		"http://my.bucket.s3.localhost:9000/b.yaml":          "s3://my.bucket/b.yaml",
		"http://elsewhere:9000/bucket/b.yaml":                "",
		"http://127.0.0.1:9000/bucket":                       "",
		"https://bucket.s3.example.com/b.yaml":               "",
		"http://127.0.0.1.example.com:9000/bucket/b.yaml":    "",
	} {
		if got, known := stack.BucketAddress(address); got != want || known != (want != "") {
			t.Errorf("%s is %q (%v), want %q", address, got, known, want)
		}
	}
}
