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
	held, release, err := tb.Acquire(t.Context(), "app", takeover)
	if err != nil {
		t.Fatal(err)
	}
	return held, release
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

// TestAwait has one holder wait for another, on a store that two processes use.
func TestAwait(t *testing.T) {
	for name, open := range map[string]func(*testing.T) (one, two record.Store){
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
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, two := open(t)
			first, second := table(one, "first", time.Minute), table(two, "second", time.Minute)
			_, release := acquire(t, first, false)
			if _, _, err := second.Acquire(t.Context(), "app", true); !fault.Is(err, fault.Conflict) {
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
		if names, err := second.Names(t.Context()); err != nil || len(names) != 1 || names[0] != "app" {
			t.Errorf("after the first holder gave back what was not its own: %v, %v", names, err)
		}
		if err := releaseSecond(); err != nil {
			t.Error(err)
		}
	})
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
