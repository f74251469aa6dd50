package lease_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/lease"
	"makeitso/internal/record"
	"makeitso/internal/store"
	"makeitso/internal/testneed"
)

func table(s record.Store, holder string, beat time.Duration) *lease.Table {
	return lease.New(s, "stack", "local/", lease.Options{Holder: holder, Beat: beat})
}

func acquire(t *testing.T, tb *lease.Table, takeover bool) (context.Context, func() error) {
	t.Helper()
	h, err := tb.Acquire(t.Context(), "app", takeover)
	if err != nil {
		t.Fatal(err)
	}
	return h.Context, h.Release
}

// severed is a store that can be cut off from who uses it.
type severed struct {
	record.Store
	cut atomic.Bool
}

func (s *severed) Write(ctx context.Context, ops ...record.Op) error {
	if s.cut.Load() {
		return fault.New(fault.Unavailable, "cut off")
	}
	return s.Store.Write(ctx, ops...)
}

// stores are stores that two processes use.
var stores = map[string]func(*testing.T) (one, two record.Store){
	"memory": func(*testing.T) (record.Store, record.Store) { s := record.NewMemory(); return s, s },
	"PostgreSQL": func(t *testing.T) (record.Store, record.Store) {
		url := testneed.PostgresServer(t)
		open := func() record.Store {
			s, err := store.OpenPostgres(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			return s
		}
		return open(), open()
	},
}

// TestAwait has one holder wait for another, on a store that two processes use.
func TestAwait(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, two := open(t)
			first, second := table(one, "first", time.Minute), table(two, "second", time.Minute)
			_, release := acquire(t, first, false)
			if _, err := second.Acquire(t.Context(), "app", true); !fault.Is(err, fault.Conflict) {
				t.Errorf("a lease that is held was given: %v", err)
			}
			told := make(chan string, 2)
			done := make(chan error, 1)
			go func() {
				dead, err := second.Await(t.Context(), "app", func(l lease.Lease) { told <- l.Holder })
				if dead {
					err = errors.New("the holder was taken for dead")
				}
				done <- err
			}()
			if holder := <-told; holder != "first" {
				t.Errorf("told of %q", holder)
			}
			if err := release(); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			if len(told) > 0 {
				t.Error("told more than once")
			}
			_, release = acquire(t, second, false)
			ctx, cancel := context.WithCancelCause(t.Context())
			enough := errors.New("enough")
			if _, err := first.Await(ctx, "app", func(lease.Lease) { cancel(enough) }); !errors.Is(err, enough) {
				t.Errorf("a wait that was given up answered %v", err)
			}
			if err := release(); err != nil {
				t.Fatal(err)
			}
			if dead, err := first.Await(t.Context(), "app", func(lease.Lease) { t.Error("waited for nobody") }); dead || err != nil {
				t.Error(dead, err)
			}
		})
	}
}

// TestDeadHolder cuts a holder off: who waits learns of it when the lease runs
// out, and not before; the holder learns of it too.
func TestDeadHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := record.NewMemory()
		link := &severed{Store: memory}
		first, second := table(link, "first", time.Second), table(memory, "second", time.Second)
		begun := time.Now()
		held, release := acquire(t, first, false)
		died := make(chan time.Duration, 1)
		go func() {
			dead, err := second.Await(t.Context(), "app", nil)
			if !dead || err != nil {
				t.Errorf("await answered dead %v, %v", dead, err)
			}
			died <- time.Since(begun)
		}()
		time.Sleep(10500 * time.Millisecond) // of the bubble's clock
		if held.Err() != nil {
			t.Errorf("the lease was lost while it was renewed: %v", context.Cause(held))
		}
		link.cut.Store(true)
		if after := <-died; after < 13*time.Second || after > 14*time.Second {
			t.Errorf("the holder was taken for dead after %v, want 3 beats after the last renewal", after)
		}
		_, releaseSecond := acquire(t, second, true)
		<-held.Done()
		if !errors.Is(context.Cause(held), lease.ErrLost) {
			t.Errorf("the holder's context ended with %v", context.Cause(held))
		}
		link.cut.Store(false)
		if err := release(); err != nil {
			t.Error(err)
		}
		if _, err := first.Acquire(t.Context(), "app", true); !fault.Is(err, fault.Conflict) {
			t.Errorf("after the first holder gave back what was not its own, it was given: %v", err)
		}
		if err := releaseSecond(); err != nil {
			t.Error(err)
		}
	})
}

// TestFenced has a lease taken over from a holder that does not know of it yet,
// as one whose process stood still: nothing that it writes is done any more.
func TestFenced(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, two := open(t)
			things := record.Of[string](one, "thing")
			write := func(ctx context.Context, value string) error {
				return lease.Fenced(ctx, func(fence []record.Op) error {
					op, err := things.PutOp("it", value, record.Any)
					if err != nil {
						return err
					}
					return one.Write(context.WithoutCancel(ctx), append(fence, op)...)
				})
			}
			// The second process takes every other holder for dead.
			held, release := acquire(t, table(one, "first", 0), false)
			if err := write(held, "first"); err != nil {
				t.Fatal(err)
			}
			taken, releaseSecond := acquire(t, table(two, "second", 0), true)
			if err := write(held, "late"); !errors.Is(err, lease.ErrLost) {
				t.Errorf("a write after the lease was taken over: %v, want ErrLost", err)
			}
			if err := releaseSecond(); err != nil {
				t.Fatal(err)
			}
			if err := write(held, "late"); !errors.Is(err, lease.ErrLost) {
				t.Errorf("a write after who took the lease over has given it back: %v, want ErrLost", err)
			}
			again, releaseAgain := acquire(t, table(one, "first", 0), false)
			if err := write(again, "again"); err != nil {
				t.Errorf("a write with the lease taken anew: %v", err)
			}
			if err := write(taken, "late"); !errors.Is(err, lease.ErrLost) {
				t.Errorf("a write of who has given the lease back, after another took it: %v, want ErrLost", err)
			}
			stale := lease.Fenced(again, func(fence []record.Op) error {
				op, err := things.PutOp("it", "late", 7)
				if err != nil {
					return err
				}
				return one.Write(again, append(fence, op)...)
			})
			if !fault.Is(stale, fault.Conflict) || errors.Is(stale, lease.ErrLost) {
				t.Errorf("a condition of its own that does not hold: %v, want a conflict that is no lost lease", stale)
			}
			if got, err := things.Get(t.Context(), "it"); got != "again" {
				t.Errorf("what is stored is %q, %v", got, err)
			}
			if err := errors.Join(releaseAgain(), release()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLeft leaves a lease: nobody is given it who does not take it over.
func TestLeft(t *testing.T) {
	memory := record.NewMemory()
	tb := table(memory, "first", 0)
	h, err := tb.Acquire(t.Context(), "app", false)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := tb.Left(t.Context()); len(left) > 0 || err != nil {
		t.Errorf("left while it is held: %v, %v", left, err)
	}
	h.Leave()
	if h.Context.Err() == nil {
		t.Error("its context goes on after it was left")
	}
	if left, err := tb.Left(t.Context()); len(left) != 1 || left[0] != "app" || err != nil {
		t.Errorf("left is %v, %v; want [app]", left, err)
	}
	if _, err := tb.Acquire(t.Context(), "app", false); !fault.Is(err, fault.Conflict) {
		t.Errorf("it was given to somebody who does not take it over: %v", err)
	}
	_, release := acquire(t, tb, true)
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if left, err := tb.Left(t.Context()); len(left) > 0 || err != nil {
		t.Errorf("left after it was given back: %v, %v", left, err)
	}
}

// TestTakenOver changes a lease under its holder, as one does that took it for
// dead by another clock: it must stop at its next beat.
func TestTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := record.NewMemory()
		held, release := acquire(t, table(memory, "first", time.Second), false)
		if err := record.Of[lease.Lease](memory, "stack-lease").Put(t.Context(), "local/app", lease.Lease{Holder: "second"}); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		<-held.Done()
		if after := time.Since(begun); !errors.Is(context.Cause(held), lease.ErrLost) || after != time.Second {
			t.Errorf("the holder's context ended with %v after %v", context.Cause(held), after)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
	})
}

func TestVerdicts(t *testing.T) {
	memory := record.NewMemory()
	v := lease.NewVerdicts(memory, "stack")
	end := func(key string) error {
		op, err := v.EndOp(key)
		if err != nil {
			t.Fatal(err)
		}
		return memory.Write(t.Context(), op)
	}
	woken := make(chan error, 1)
	go func() { woken <- v.Await(t.Context(), "one") }()
	for range 2 {
		if certain, err := v.Cancel(t.Context(), "one"); !certain || err != nil {
			t.Errorf("cancel answered %v, %v", certain, err)
		}
	}
	if err := <-woken; err != nil {
		t.Error(err)
	}
	if err := end("one"); !fault.Is(err, fault.Conflict) {
		t.Errorf("the end of what was cancelled answered %v", err)
	}
	if missed, err := v.Withdraw(t.Context(), "one"); !missed || err != nil {
		t.Errorf("withdraw answered %v, %v", missed, err)
	}
	if missed, err := v.Withdraw(t.Context(), "one"); missed || err != nil {
		t.Errorf("withdraw again answered %v, %v", missed, err)
	}
	if err := end("two"); err != nil {
		t.Fatal(err)
	}
	if certain, err := v.Cancel(t.Context(), "two"); certain || err != nil {
		t.Errorf("cancel after the end answered %v, %v", certain, err)
	}
}

// listing is a store that tells when it has listed.
type listing struct {
	record.Store
	listed func()
}

func (s *listing) List(ctx context.Context, kind, prefix string) ([]record.Entry, error) {
	entries, err := s.Store.List(ctx, kind, prefix)
	s.listed()
	return entries, err
}

// TestLeftWhileGivenBack gives a lease back while somebody looks for what was
// left: it was not.
func TestLeftWhileGivenBack(t *testing.T) {
	s := &listing{Store: record.NewMemory()}
	tb := table(s, "first", 0)
	_, release := acquire(t, tb, false)
	released := make(chan error, 1)
	s.listed = func() {
		go func() { released <- release() }()
		select {
		case err := <-released: // it did not wait for the look
			released <- err
		case <-time.After(50 * time.Millisecond):
		}
	}
	if left, err := tb.Left(t.Context()); len(left) > 0 || err != nil {
		t.Errorf("left is %v, %v", left, err)
	}
	if err := <-released; err != nil {
		t.Error(err)
	}
}
