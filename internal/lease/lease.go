// Package lease says who changes a thing: one holder at a time, until it gives
// the lease back or is dead, and whether its work is to go back. It knows the
// store of records, and must not know what is held.
package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/record"
)

// ErrLost is why the context of a holder ends whose lease is another's, or may
// be: it could not be renewed in time.
var ErrLost = errors.New("the lease was lost")

// Options are what a Table may be told.
type Options struct {
	// Holder names this process; it must differ from that of every other.
	Holder string
	// Alive says whether another holder still runs, of leases that are not
	// renewed. The default takes every other holder for dead, which is right
	// where only one process at a time may use the store.
	Alive func(holder string) bool
	// Beat is how often a lease that is held is renewed, 0 is never. The holder
	// of one that was not renewed for three times as long is dead.
	Beat time.Duration
}

// beats is how many renewals may fail before a holder is taken for dead.
const beats = 3

// Lease is who holds a thing.
type Lease struct {
	Holder string    `json:"holder"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // zero if it is not renewed
}

// String gives "HOLDER since TIME".
func (l Lease) String() string { return l.Holder + " since " + l.Since.Local().Format(time.TimeOnly) }

// Table is the leases of things of one kind. It is safe for concurrent use.
type Table struct {
	kind, prefix string
	store        record.Store
	leases       record.Collection[Lease]
	terms        record.Collection[Lease] // see Hold.take
	o            Options

	mu   sync.Mutex
	held map[string]bool // by this table, now
	left chan struct{}   // closed and replaced when this table leaves one
}

// New makes the table of things called kind, such as "stack", whose records
// have keys that begin with prefix.
func New(store record.Store, kind, prefix string, o Options) *Table {
	if o.Alive == nil {
		o.Alive = func(string) bool { return false }
	}
	return &Table{kind: kind, prefix: prefix, store: store, leases: record.Of[Lease](store, kind+"-lease"), terms: record.Of[Lease](store, kind+"-lease-term"), o: o, held: map[string]bool{}, left: make(chan struct{})}
}

// Left gives the names of the things whose holder is dead.
func (t *Table) Left(ctx context.Context) ([]string, error) {
	t.mu.Lock() // before the list: what this table gives back meanwhile would seem left
	defer t.mu.Unlock()
	entries, err := t.store.List(ctx, t.kind+"-lease", t.prefix)
	if err != nil {
		return nil, fmt.Errorf("list leases: %w", err)
	}
	var names []string
	for _, e := range entries {
		var l Lease
		if err := json.Unmarshal(e.Value, &l); err != nil {
			return nil, fmt.Errorf("decode the lease %s: %w", e.Key, err)
		}
		if name := strings.TrimPrefix(e.Key, t.prefix); t.dead(name, l) {
			names = append(names, name)
		}
	}
	return names, nil
}

// Acquire takes the lease of a thing, or refuses with fault.Conflict and says
// who holds it. With takeover, a lease whose holder is dead is taken from it.
// The Hold must be ended with Release or Leave.
func (t *Table) Acquire(ctx context.Context, name string, takeover bool) (*Hold, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, version, err := t.leases.GetVersion(ctx, t.prefix+name)
	switch {
	case fault.Is(err, fault.NotFound):
		version = record.Absent
	case err != nil:
		return nil, fmt.Errorf("read the lease of %s %s: %w", t.kind, name, err)
	case !takeover || !t.dead(name, l):
		return nil, t.refusal(name, l)
	}
	h := &Hold{t: t, name: name, lease: Lease{Holder: t.o.Holder, Since: now(), Until: t.until()}, version: max(version, 0) + 1}
	if err := h.take(ctx, version); fault.Is(err, fault.Conflict) {
		if l, err = t.leases.Get(ctx, t.prefix+name); err == nil {
			return nil, t.refusal(name, l)
		}
		return nil, fault.Wrap(fault.Conflict, err, "%s %s is being changed by another process", t.kind, name).WithHint("try again")
	} else if err != nil {
		return nil, fmt.Errorf("take the lease of %s %s: %w", t.kind, name, err)
	}
	t.held[name] = true
	h.keep(ctx)
	return h, nil
}

// until is when a lease that is taken or renewed now runs out.
func (t *Table) until() time.Time {
	if t.o.Beat == 0 {
		return time.Time{}
	}
	return now().Add(beats * t.o.Beat)
}

// dead says whether the holder of a lease is gone. t.mu is held.
func (t *Table) dead(name string, l Lease) bool {
	switch {
	case l.Holder == t.o.Holder:
		return !t.held[name]
	case !l.Until.IsZero():
		return now().After(l.Until)
	}
	return !t.o.Alive(l.Holder)
}

func (t *Table) refusal(name string, l Lease) error {
	return fault.New(fault.Conflict, "%s %s is being changed by %s", t.kind, name, l).
		WithHint("wait until that has ended: apply --wait does, and goes on with it if that process is gone")
}

// Await waits until nobody holds the lease of a thing, or its holder is dead.
// told, unless nil, is called once with who does if it must wait.
func (t *Table) Await(ctx context.Context, name string, told func(Lease)) (dead bool, err error) {
	for {
		last, err := t.store.Last(ctx, t.stream(name))
		if err != nil {
			return false, fmt.Errorf("wait for %s %s: %w", t.kind, name, err)
		}
		l, err := t.leases.Get(ctx, t.prefix+name)
		if fault.Is(err, fault.NotFound) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read the lease of %s %s: %w", t.kind, name, err)
		}
		t.mu.Lock()
		dead, left := t.dead(name, l), t.left
		t.mu.Unlock()
		if dead {
			return true, nil
		}
		if told != nil {
			told(l)
			told = nil
		}
		if err := t.untilGiven(ctx, name, last, l.Until, left); err != nil {
			return false, err
		}
	}
}

// untilGiven waits until a lease is given back, runs out, or may have been left.
func (t *Table) untilGiven(ctx context.Context, name string, last int64, end time.Time, left <-chan struct{}) error {
	waiting, stop := context.WithCancel(ctx)
	if !end.IsZero() {
		waiting, stop = context.WithDeadline(ctx, end.Add(time.Millisecond)) // past it, not at it
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	watching.Go(func() {
		select {
		case <-left:
			stop()
		case <-waiting.Done():
		}
	})
	err := t.store.Wait(waiting, t.stream(name), last)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case waiting.Err() != nil:
		return nil
	}
	return err
}

// stream is where it is told that a lease was given back.
func (t *Table) stream(name string) string { return t.kind + "-lease/" + t.prefix + name }

// Hold is a lease in the hands of its holder.
type Hold struct {
	// Context is for what is done with the lease. It ends with ErrLost if the
	// lease is lost; see Fenced.
	Context context.Context

	t       *Table
	name    string
	lease   Lease
	version int64     // of the record; only renew and, after it, Release use it
	fence   record.Op // holds for as long as nobody else was given the lease
	end     func()    // ends Context; with t.mu held
}

// take writes the lease, whose record has a version by now, and its term. The
// term of a thing is a record that changes whenever somebody is given its
// lease, and at no other time; it stays when the lease is given back.
func (h *Hold) take(ctx context.Context, version int64) error {
	key := h.t.prefix + h.name
	_, term, err := h.t.terms.GetVersion(ctx, key)
	if fault.Is(err, fault.NotFound) {
		term, err = record.Absent, nil
	}
	if err != nil {
		return err
	}
	mine, err := h.t.leases.PutOp(key, h.lease, version)
	if err != nil {
		return err
	}
	began, err := h.t.terms.PutOp(key, h.lease, term)
	if err != nil {
		return err
	}
	h.fence = record.Op{Kind: began.Kind, Key: key, If: max(term, 0) + 1, Keep: true}
	return h.t.store.Write(ctx, mine, began)
}

type holdKey struct{}

// Fenced does a write as the holder of the lease that ctx is the Context of, if
// it is of one. The write must have the fence among its ops, so that it fails
// once somebody else was given the lease; then, and if ctx has ended with
// ErrLost, the answer is ErrLost.
func Fenced(ctx context.Context, write func(fence []record.Op) error) error {
	h, holds := ctx.Value(holdKey{}).(*Hold)
	if !holds {
		return write(nil)
	}
	if errors.Is(context.Cause(ctx), ErrLost) {
		return ErrLost
	}
	err := write([]record.Op{h.fence})
	if !fault.Is(err, fault.Conflict) {
		return err
	}
	_, term, failed := h.t.terms.GetVersion(context.WithoutCancel(ctx), h.fence.Key)
	if failed == nil && term != h.fence.If {
		return ErrLost
	}
	return errors.Join(err, failed)
}

// keep renews the lease until it is ended.
func (h *Hold) keep(ctx context.Context) {
	held, cancel := context.WithCancelCause(context.WithValue(ctx, holdKey{}, h))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		if h.t.o.Beat > 0 {
			h.renew(context.WithoutCancel(ctx), stop, cancel)
		}
	}()
	h.Context = held
	h.end = func() {
		close(stop)
		<-done
		cancel(nil)
		delete(h.t.held, h.name)
	}
}

// renew renews the lease with every beat. If that does not succeed in time,
// others take the holder for dead, so that it must do nothing more.
func (h *Hold) renew(ctx context.Context, stop <-chan struct{}, cancel context.CancelCauseFunc) {
	beat := time.NewTicker(h.t.o.Beat)
	defer beat.Stop()
	for {
		select {
		case <-stop:
			return
		case <-beat.C:
		}
		next := h.lease
		next.Until = h.t.until()
		trying, end := context.WithTimeout(ctx, h.t.o.Beat)
		err := h.t.leases.PutIf(trying, h.t.prefix+h.name, next, h.version)
		end()
		switch {
		case err == nil:
			h.lease, h.version = next, h.version+1
		case fault.Is(err, fault.Conflict) || now().Add(h.t.o.Beat).After(h.lease.Until): // the next beat would be too late
			cancel(errors.Join(ErrLost, err))
			return
		}
	}
}

// Leave leaves the lease as that of a dead holder: what was to be done with it
// is not done, and nobody shall change the thing before somebody takes it over.
func (h *Hold) Leave() {
	h.t.mu.Lock()
	defer h.t.mu.Unlock()
	h.end()
	close(h.t.left)
	h.t.left = make(chan struct{})
}

// Release gives the lease back, unless it is another's by now.
func (h *Hold) Release() error {
	h.t.mu.Lock()
	defer h.t.mu.Unlock()
	h.end()
	raw, err := json.Marshal(h.lease)
	if err != nil {
		return err
	}
	op := h.t.leases.DeleteOp(h.t.prefix + h.name)
	op.If = h.version
	_, err = h.t.store.AppendWith(context.WithoutCancel(h.Context), h.t.stream(h.name), [][]byte{raw}, op)
	if err != nil && !fault.Is(err, fault.Conflict) {
		return fmt.Errorf("give back the lease of %s %s: %w", h.t.kind, h.name, err)
	}
	return nil
}

// now is the time written in records, in a form that a record gives back unchanged.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
