package stack_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/stack"
)

// TestAwait waits for a change of another process, which dies on the way: its
// change is gone on with, and the stack is then free.
func TestAwait(t *testing.T) {
	for name, dead := range map[string]bool{"a process that dies": true, "a process that cannot write": false} {
		t.Run(name, func(t *testing.T) { testAwait(t, dead) })
	}
}

func testAwait(t *testing.T, dead bool) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		dying := stack.New("local", b.platform, deadStore{b.store, time.Now().Add(10 * time.Second), dead}, stack.Options{Holder: "first", Beat: time.Second})
		b.engine = stack.New("local", b.platform, b.store, stack.Options{Holder: "second", Beat: time.Second})
		cs := b.plan("app", chain, nil)
		started, _ := b.platform.Block("create", "B")
		done := make(chan error, 1)
		go func() { done <- dying.Apply(t.Context(), cs, nil) }()
		<-started
		var told []string
		waited := make(chan error, 1)
		begun := time.Now()
		go func() {
			waited <- b.engine.Await(t.Context(), "app", func(holder string) { told = append(told, holder) })
		}()
		if err := b.engine.Apply(t.Context(), cs, nil); !fault.Is(err, fault.Conflict) {
			t.Errorf("a change beside another holder's answered %v", err)
		}
		if err := <-done; err == nil {
			t.Error("the apply that lost its lease succeeded")
		}
		b.platform.On("create", "B", nil)
		if err := <-waited; err != nil {
			t.Error(err)
		}
		if after := time.Since(begun); len(told) != 1 || after < 12*time.Second || after > 14*time.Second {
			t.Errorf("waited %v, told %v", after, told)
		}
		b.wantStatus("app", stack.CreateComplete)
		b.mustApply("app", chain)
	})
}

// deadStore takes nothing any more from a moment on.
type deadStore struct {
	record.Store
	end  time.Time
	dead bool // else it can still give its lease back
}

func (s deadStore) Write(ctx context.Context, ops ...record.Op) error {
	if time.Now().After(s.end) {
		return fault.New(fault.Unavailable, "cut off")
	}
	return s.Store.Write(ctx, ops...)
}

func (s deadStore) AppendWith(ctx context.Context, stream string, values [][]byte, ops ...record.Op) (int64, error) {
	if ofLease := strings.Contains(stream, "lease/"); (s.dead || !ofLease) && time.Now().After(s.end) {
		return 0, fault.New(fault.Unavailable, "cut off")
	}
	return s.Store.AppendWith(ctx, stream, values, ops...)
}

func (s deadStore) Append(ctx context.Context, stream string, values ...[]byte) (int64, error) {
	return s.AppendWith(ctx, stream, values)
}

// TestLostLeaseWritesNothing has a process lose its lease while a handler works
// that cannot be stopped: what it answers is not written over what another has
// made of the stack since, whether it knows of the loss or not.
func TestLostLeaseWritesNothing(t *testing.T) {
	for name, beat := range map[string]time.Duration{"it knows": time.Second, "it does not know": 0} {
		t.Run(name, func(t *testing.T) { testLostLease(t, beat) })
	}
}

func testLostLease(t *testing.T, beat time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		first := stack.New("local", b.platform, unrenewed{b.store}, stack.Options{Holder: "first", Beat: beat})
		b.engine = stack.New("local", b.platform, b.store, stack.Options{Holder: "second", Beat: beat})
		started, answer := make(chan struct{}), make(chan struct{})
		b.platform.On("create", "C", func(context.Context, stack.Request) error {
			close(started)
			<-answer
			return nil
		})
		done := make(chan error, 1)
		cs := b.plan("app", chain, nil)
		go func() { done <- first.Apply(t.Context(), cs, nil) }()
		<-started
		b.platform.On("create", "C", nil)
		if err := b.engine.Await(t.Context(), "app", func(string) {}); err != nil {
			t.Fatal(err)
		}
		b.wantStatus("app", stack.CreateComplete)
		if err := b.engine.Delete(t.Context(), "app", nil); err != nil {
			t.Fatal(err)
		}
		close(answer)
		if err := <-done; err == nil {
			t.Error("the apply that lost its lease succeeded")
		}
		if left, err := b.store.List(t.Context(), "stack-resource", ""); err != nil || len(left) != 0 {
			t.Errorf("records are left of a stack that is gone: %v (%v)", left, err)
		}
	})
}

// unrenewed is a store in which no lease can be renewed.
type unrenewed struct{ record.Store }

func (s unrenewed) Write(ctx context.Context, ops ...record.Op) error {
	for _, op := range ops {
		if op.Kind == "stack-lease" && op.If > 0 {
			return fault.New(fault.Unavailable, "cut off")
		}
	}
	return s.Store.Write(ctx, ops...)
}
