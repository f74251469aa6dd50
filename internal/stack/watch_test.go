package stack_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/lease"
	"makeitso/internal/pace"
	"makeitso/internal/record"
	"makeitso/internal/stack"
)

// watch has the engine watched until stop, and gives what was told.
func (b *bench) watch() (told *[]error, stop func()) {
	ctx, cancel := context.WithCancelCause(b.t.Context())
	told = new([]error)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.engine.Watch(ctx, func(err error) { *told = append(*told, err) })
	}()
	return told, func() { cancel(stack.ErrSuspend); <-ended }
}

// TestWatch has a change left half done, by a process that its store failed for
// a while and by one that died: who watches goes on with it, says once what
// keeps it from doing so, and ends when it shall.
func TestWatch(t *testing.T) {
	for name, dies := range map[string]bool{"the store fails": false, "another dies": true} {
		t.Run(name, func(t *testing.T) { testWatch(t, dies) })
	}
}

func testWatch(t *testing.T, dies bool) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		outage := &outage{Store: b.store}
		first := stack.New("local", b.platform, outage, stack.Options{Holder: "first"})
		b.engine = first
		if dies {
			first = stack.New("local", b.platform, outage, stack.Options{Holder: "first", Beat: time.Second})
			b.engine = stack.New("local", b.platform, b.store, stack.Options{Holder: "second", Beat: time.Second})
		}
		told, stop := b.watch()
		b.platform.On("create", "B", func(context.Context, stack.Request) error {
			outage.on.Store(true)
			return nil
		})
		if err := first.Apply(t.Context(), b.plan("app", chain, nil), nil); !fault.Is(err, fault.Unavailable) {
			t.Errorf("the apply whose store failed answered %v", err)
		}
		b.platform.On("create", "B", nil)
		time.Sleep(time.Minute) // of the bubble's clock: it tries often, and tells once
		outage.on.Store(false)
		time.Sleep(time.Minute) // it tries more and more seldom
		synctest.Wait()
		b.wantStatus("app", stack.CreateComplete)
		b.mustApply("app", chain)
		want := 1
		if dies { // its own store did not fail
			want = 0
		}
		if len(*told) != want {
			t.Errorf("told %d times, want %d", len(*told), want)
		}
		stop()
	})
}

// outage is a store that takes nothing while it is on.
type outage struct {
	record.Store
	on atomic.Bool
}

func (s *outage) Write(ctx context.Context, ops ...record.Op) error {
	if s.on.Load() {
		return fault.New(fault.Unavailable, "cut off")
	}
	return s.Store.Write(ctx, ops...)
}

func (s *outage) AppendWith(ctx context.Context, stream string, values [][]byte, ops ...record.Op) (int64, error) {
	if s.on.Load() {
		return 0, fault.New(fault.Unavailable, "cut off")
	}
	return s.Store.AppendWith(ctx, stream, values, ops...)
}

// broken is a store of which some operation fails once, or does what it says and
// loses the answer.
type broken struct {
	record.Store
	get    func(kind, key string) bool
	write  func(op record.Op) bool
	answer bool // alone is lost
}

var errCutOff = fault.New(fault.Unavailable, "cut off")

func (s *broken) Get(ctx context.Context, kind, key string) (record.Entry, error) {
	if s.get != nil && s.get(kind, key) {
		return record.Entry{}, errCutOff
	}
	return s.Store.Get(ctx, kind, key)
}

func (s *broken) Write(ctx context.Context, ops ...record.Op) error {
	fails := false
	for _, op := range ops {
		fails = fails || s.write != nil && s.write(op)
	}
	if fails && !s.answer {
		return errCutOff
	}
	if err := s.Store.Write(ctx, ops...); err != nil || !fails {
		return err
	}
	return errCutOff
}

// once gives a condition that holds the first time that it is met.
func once[T any](met func(T) bool) func(T) bool {
	done := false
	return func(v T) bool {
		if done || !met(v) {
			return false
		}
		done = true
		return true
	}
}

// TestWatchLostAnswer takes a lease in a write whose answer is lost: it is held
// by nobody who knows of it.
func TestWatchLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.engine = stack.New("local", b.platform, &broken{Store: b.store, answer: true,
			write: once(func(op record.Op) bool { return op.Kind == "stack-lease" })}, stack.Options{Holder: "first"})
		_, stop := b.watch()
		cs := b.plan("app", chain, nil)
		if err := b.engine.Apply(t.Context(), cs, nil); !fault.Is(err, fault.Unavailable) {
			t.Errorf("answered %v", err)
		}
		time.Sleep(time.Minute)
		if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
			t.Errorf("a minute later: %v", err)
		}
		stop()
	})
}

// TestWatchAfterContinue has a start that cannot take a lease for a moment.
func TestWatchAfterContinue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		out := &outage{Store: b.store}
		b.platform.On("create", "B", func(context.Context, stack.Request) error { out.on.Store(true); return nil })
		first := stack.New("local", b.platform, out, stack.Options{Holder: "first"})
		if err := first.Apply(t.Context(), b.plan("app", chain, nil), nil); !fault.Is(err, fault.Unavailable) {
			t.Errorf("answered %v", err)
		}
		b.platform.On("create", "B", nil)
		b.engine = stack.New("local", b.platform, &broken{Store: b.store,
			write: once(func(op record.Op) bool { return op.Kind == "stack-lease" })}, stack.Options{Holder: "second"})
		if err := b.engine.Continue(t.Context(), nil)(); !fault.Is(err, fault.Unavailable) {
			t.Errorf("continue answered %v", err)
		}
		_, stop := b.watch()
		time.Sleep(time.Minute)
		synctest.Wait()
		b.wantStatus("app", stack.CreateComplete)
		stop()
	})
}

// ending is the store of a process that is ended when it takes a lease.
type ending struct {
	record.Store
	end func()
}

func (s ending) Write(ctx context.Context, ops ...record.Op) error {
	if slices.ContainsFunc(ops, func(op record.Op) bool { return op.Kind == "stack-lease" }) {
		defer s.end()
	}
	return s.Store.Write(ctx, ops...)
}

func (s ending) Get(ctx context.Context, kind, key string) (record.Entry, error) {
	if ctx.Err() != nil {
		return record.Entry{}, ctx.Err()
	}
	return s.Store.Get(ctx, kind, key)
}

// TestContinueBrokenOff ends a process when it has just taken over the lease of a
// stack of which nothing is left to do: the next one finds the stack free.
func TestContinueBrokenOff(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", chain)
	if _, err := lease.New(b.store, "stack", "local/", lease.Options{Holder: "dead"}).Acquire(t.Context(), "app", false); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	next := stack.New("local", b.platform, ending{b.store, end}, stack.Options{Holder: "next"})
	if err := next.Continue(ctx, nil)(); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("continue answered %v", err)
	}
	if ctx.Err() == nil {
		t.Fatal("it has taken no lease")
	}
	if err := b.engine.Protect(t.Context(), "app", true); err != nil {
		t.Errorf("the stack is not free: %s", fault.Text(err))
	}
}

// TestWatchCleanUp has the store fail after an update was committed, while the
// nested stack is settled.
func TestWatchCleanUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		store := &broken{Store: b.store}
		b.engine = stack.New("local", b.platform, store, stack.Options{Holder: "first"})
		_, stop := b.watch()
		if err := b.applyChange(family("small", "one")); err != nil {
			t.Fatal(err)
		}
		cs := b.planChange(family("large", "two"))
		nested := once(func(key string) bool { return !strings.HasSuffix(key, "/app") })
		store.get = func(kind, key string) bool { return kind == "stack-change" && nested(key) }
		if err := b.engine.Apply(t.Context(), cs, nil); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "stack app was left half done") {
			t.Errorf("answered %v", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		b.wantStatus("app", stack.UpdateComplete)
		stop()
	})
}

// TestWatchImporter has the store fail while the imports of a change are noted,
// and again while that is taken back: nobody uses the exports in the end.
func TestWatchImporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.mustApply("base", `{Resources: {A: {Type: "Test::Thing", Properties: {Value: a}}}, Outputs: {One: {Value: !GetAtt A.Value, Export: {Name: one}}, Two: {Value: !GetAtt A.Value, Export: {Name: two}}}}`)
		cs := b.plan("user", `{Resources: {B: {Type: "Test::Thing", Properties: {One: !ImportValue one, Two: !ImportValue two}}}}`, nil)
		notes := 0
		b.engine = stack.New("local", b.platform, &broken{Store: b.store, write: func(op record.Op) bool {
			if op.Kind == "stack-export" {
				notes++
			}
			return op.Kind == "stack-export" && (notes == 2 || notes == 3)
		}}, stack.Options{Holder: "test"})
		_, stop := b.watch()
		if err := b.engine.Apply(t.Context(), cs, nil); !fault.Is(err, fault.Unavailable) {
			t.Errorf("answered %v", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := b.engine.Delete(t.Context(), "base", nil); err != nil {
			t.Errorf("a minute later: %v", err)
		}
		stop()
	})
}

// TestWatchTiresAndRepeatsNothing leaves a change that does not go on: it is
// tried more and more seldom, and its true reason is told once.
func TestWatchTiresAndRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.platform.AddAlarm(alarm)
		b.engine = stack.New("local", blind{b.platform}, b.store, stack.Options{Holder: "test"})
		told, stop := b.watch()
		b.platform.On("create", "A", func(ctx context.Context, _ stack.Request) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Minute):
				return nil
			}
		})
		c := changeset.Change{Template: []byte(chain), Rollback: pace.Alarms{ARNs: []string{alarm}, Monitor: time.Hour}}
		if err := b.with(c); err == nil || !strings.Contains(err.Error(), "stack app was left half done: watch alarm "+alarm) {
			t.Errorf("answered %v", err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		events, err := b.engine.Events(t.Context(), "app", 0)
		if err != nil || len(events) > 30 || len(*told) != 1 || !strings.Contains((*told)[0].Error(), "watch alarm "+alarm) {
			t.Errorf("in an hour, %d events (%v), told %v", len(events), err, *told)
		}
		stop()
	})
}

// TestWatchTellsOfEach leaves two stacks in one outage: each is told of once.
func TestWatchTellsOfEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		out := &outage{Store: b.store}
		b.engine = stack.New("local", b.platform, out, stack.Options{Holder: "first"})
		told, stop := b.watch()
		sets := []*changeset.Set{b.plan("app", chain, nil), b.plan("net", chain, nil)}
		var begun atomic.Int32
		both, ended := make(chan struct{}), make(chan error, len(sets))
		b.platform.On("create", "B", func(context.Context, stack.Request) error {
			if begun.Add(1) == 2 {
				out.on.Store(true)
				close(both)
			}
			<-both
			return nil
		})
		for _, cs := range sets {
			go func() { ended <- b.engine.Apply(t.Context(), cs, nil) }()
		}
		for range sets {
			if err := <-ended; !fault.Is(err, fault.Unavailable) {
				t.Errorf("answered %v", err)
			}
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(*told) != 2 {
			t.Errorf("told %d times in ten minutes: %v", len(*told), *told)
		}
		stop()
	})
}

// TestAwaitIsWoken has somebody wait already when a holder leaves its lease.
func TestAwaitIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		out := &outage{Store: b.store}
		b.engine = stack.New("local", b.platform, out, stack.Options{Holder: "first"})
		started, release := make(chan struct{}), make(chan struct{})
		b.platform.On("create", "B", func(context.Context, stack.Request) error { close(started); <-release; return nil })
		ended, waited := make(chan error, 1), make(chan error, 1)
		cs := b.plan("app", chain, nil)
		go func() { ended <- b.engine.Apply(t.Context(), cs, nil) }()
		<-started
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		go func() { waited <- b.engine.Await(ctx, "app", nil) }()
		synctest.Wait()
		out.on.Store(true)
		close(release)
		if err := <-ended; !fault.Is(err, fault.Unavailable) {
			t.Errorf("the apply answered %v", err)
		}
		if err := <-waited; !fault.Is(err, fault.Unavailable) {
			t.Errorf("who waited was told %v, want that the store does not take it", err)
		}
	})
}
