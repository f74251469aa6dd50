package stack_test

import (
	"context"
	"strings"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/stack"
)

func wantLate(t *testing.T, err error) {
	t.Helper()
	if !fault.Is(err, fault.Conflict) || err.Error() != "CancelUpdateStack cannot be called from current stack status" {
		t.Errorf("cancel answered %v", err)
	}
}

const cancelBefore = `
Resources:
  A: {Type: "Test::Thing", Properties: {Value: one}}
  B: {Type: "Test::Thing", Properties: {Value: !GetAtt A.Value}}
`

const cancelAfter = `
Resources:
  A: {Type: "Test::Thing", Properties: {Value: two}}
  B: {Type: "Test::Thing", Properties: {Value: !GetAtt A.Value}}
  C: {Type: "Test::Thing", Properties: {Value: !GetAtt B.Value}}
`

// TestCancelUpdate cancels an update through another engine than the one that
// makes it, as another process would.
func TestCancelUpdate(t *testing.T) {
	for _, c := range []struct{ name, action, id, transitions string }{
		{"while one is updated", "update", "B", "UPDATE_IN_PROGRESS UPDATE_FAILED UPDATE_IN_PROGRESS UPDATE_COMPLETE"},
		{"while one is created", "create", "C", "CREATE_IN_PROGRESS CREATE_FAILED DELETE_IN_PROGRESS DELETE_COMPLETE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.mustApply("app", cancelBefore)
			wantLate(t, b.engine.CancelUpdate(t.Context(), "app"))
			cs := b.plan("app", cancelAfter, nil)
			cs.Change.DisableRollback = false
			started, cancelled := make(chan struct{}), make(chan struct{})
			b.platform.On(c.action, c.id, func(ctx context.Context, _ stack.Request) error {
				close(started)
				<-cancelled // twice: the roll back begins after that
				<-ctx.Done()
				return context.Cause(ctx)
			})
			b.events = nil
			done := make(chan error, 1)
			go func() { done <- b.engine.Apply(t.Context(), cs, b.listen) }()
			<-started
			other := stack.New("local", b.platform, b.store, stack.Options{Holder: "other"})
			for range 2 {
				if err := other.CancelUpdate(t.Context(), "app"); err != nil {
					t.Fatalf("cancel: %v", err)
				}
			}
			b.platform.On(c.action, c.id, nil)
			close(cancelled)
			if err := <-done; !fault.Is(err, fault.Canceled) {
				t.Errorf("the cancelled update answered %v", err)
			}
			b.wantStatus("app", stack.UpdateRollbackComplete)
			b.wantThings(`A{"Value":"one"} B{"Value":"one"}`)
			b.wantTransitions(c.id, c.transitions)
			for _, e := range b.events {
				switch {
				case e.Status == stack.UpdateRollbackInProgress && e.Reason != "User Initiated":
					t.Errorf("the roll back is told with the reason %q", e.Reason)
				case e.Status == stack.UpdateFailed && e.Reason != "Resource update cancelled", e.Status == stack.CreateFailed && e.Reason != "Resource creation cancelled":
					t.Errorf("%s is told with the reason %q", e.LogicalID, e.Reason)
				}
			}
			wantLate(t, other.CancelUpdate(t.Context(), "app"))
			b.mustApply("app", cancelAfter)
			b.wantThings(`A{"Value":"two"} B{"Value":"two"} C{"Value":"two"}`)
		})
	}
}

// TestCancelOutlivesItsProcess asks for a cancel that the process which updates
// never hears of: the one that takes its place begins nothing more.
func TestCancelOutlivesItsProcess(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", cancelBefore)
	cs := b.plan("app", cancelAfter, nil)
	started, release := b.platform.Block("update", "A")
	ctx, suspend := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	deaf := stack.New("local", b.platform, deafStore{b.store}, stack.Options{Holder: "first"})
	go func() { done <- deaf.Apply(ctx, cs, nil) }()
	<-started
	if err := b.engine.CancelUpdate(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	suspend(stack.ErrSuspend)
	<-done
	release()
	b.platform.On("update", "B", func(_ context.Context, r stack.Request) error {
		t.Errorf("B was begun with %v", r.Properties)
		return nil
	})
	if err := b.engine.Resume(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.UpdateRollbackComplete)
	b.wantThings(`A{"Value":"one"} B{"Value":"one"}`)
}

// deafStore never wakes who waits.
type deafStore struct{ record.Store }

func (deafStore) Wait(ctx context.Context, _ string, _ int64) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestCancelOrCommit cancels at the last moment, when the update writes that it
// is complete: one of the two holds, and both sides know which.
func TestCancelOrCommit(t *testing.T) {
	for _, first := range []string{"cancel", "commit"} {
		t.Run(first+" first", func(t *testing.T) {
			b := newBench(t)
			b.mustApply("app", cancelBefore)
			cs := b.plan("app", cancelAfter, nil)
			var cancelled error
			store := &lastMoment{Store: b.store, first: first, cancel: func() {
				cancelled = b.engine.CancelUpdate(context.Background(), "app")
			}}
			late := stack.New("local", b.platform, store, stack.Options{Holder: "late"})
			applied := late.Apply(t.Context(), cs, nil)
			if first == "cancel" {
				if cancelled != nil || !fault.Is(applied, fault.Canceled) {
					t.Errorf("cancelled %v, applied %v", cancelled, applied)
				}
				b.wantStatus("app", stack.UpdateRollbackComplete)
				return
			}
			wantLate(t, cancelled)
			if applied != nil {
				t.Errorf("applied %v", applied)
			}
			b.wantStatus("app", stack.UpdateComplete)
		})
	}
}

// lastMoment cancels before or after the write by which an update is complete.
type lastMoment struct {
	record.Store
	first  string
	cancel func()
}

func (s *lastMoment) AppendWith(ctx context.Context, stream string, values [][]byte, ops ...record.Op) (int64, error) {
	commits := false
	for _, op := range ops {
		commits = commits || op.Kind == "stack-verdict" && op.Value != nil
	}
	switch {
	case commits && s.first == "cancel":
		s.cancel()
	case commits:
		defer s.cancel()
	}
	return s.Store.AppendWith(ctx, stream, values, ops...)
}

// TestStoreFailsWhileWatching loses the store for a moment while an update is
// watched for a cancel: the update stays where it is and goes on.
func TestStoreFailsWhileWatching(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", cancelBefore)
	cs := b.plan("app", cancelAfter, nil)
	started := make(chan struct{})
	b.platform.On("update", "A", func(ctx context.Context, _ stack.Request) error {
		close(started)
		<-ctx.Done()
		return ctx.Err() // as what waits for a program does
	})
	store := &brokenWait{Store: b.store, when: started}
	broken := stack.New("local", b.platform, store, stack.Options{Holder: "first"})
	if err := broken.Apply(t.Context(), cs, nil); err == nil || !strings.Contains(err.Error(), "lost") {
		t.Errorf("answered %v", err)
	}
	b.wantStatus("app", stack.UpdateInProgress)
	b.platform.On("update", "A", nil)
	if err := b.engine.Resume(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("app", stack.UpdateComplete)
}

// brokenWait fails whoever waits, as soon as something has happened.
type brokenWait struct {
	record.Store
	when <-chan struct{}
}

func (s *brokenWait) Wait(ctx context.Context, _ string, _ int64) error {
	select {
	case <-s.when:
		return fault.New(fault.Unavailable, "the store is lost")
	case <-ctx.Done():
		return ctx.Err()
	}
}
