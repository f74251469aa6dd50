package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"makeitso/internal/lease"
	"makeitso/internal/record"
)

// journal does writes and appends the events that tell of them to the stack's
// stream, all in one write, so that records and events never disagree. It works
// after ctx was cancelled, since what was done must be known; but not once the
// lease is another's, since the records are that one's then.
func (o *operation) journal(ctx context.Context, ops []record.Op, events ...Event) error {
	if len(events) == 0 {
		return o.e.write(ctx, ops...)
	}
	raw := make([][]byte, len(events))
	for i := range events {
		events[i].Stack, events[i].Time = o.stack.Name, now()
		var err error
		if raw[i], err = json.Marshal(events[i]); err != nil {
			return fmt.Errorf("encode event: %w", err)
		}
	}
	return o.told.write(events, func() (last int64, err error) {
		err = lease.Fenced(ctx, func(fence []record.Op) error {
			last, err = o.e.store.AppendWith(context.WithoutCancel(ctx), o.e.stream(o.stack.Name), raw, append(fence, ops...)...)
			return err
		})
		return last, err
	})
}

// write does writes that no event tells of, on the terms of journal.
func (e *Engine) write(ctx context.Context, ops ...record.Op) error {
	return lease.Fenced(ctx, func(fence []record.Op) error {
		return e.store.Write(context.WithoutCancel(ctx), append(fence, ops...)...)
	})
}

// teller hands events to a listener, one at a time and in the stream's order,
// although many goroutines write at a time and are answered in any order.
type teller struct {
	listen func(Event) // nil for nobody

	mu      sync.Mutex
	writing int     // writes that were begun and are not answered
	last    int64   // the number of the last event handed over
	early   []Event // answered and not handed over, in order
}

// write appends events, which gives the number of the last of them, and hands
// over every event that nothing can come before any more: it is the next, or
// no write is under way and the numbers between belong to others.
func (t *teller) write(events []Event, appends func() (int64, error)) error {
	t.mu.Lock()
	t.writing++
	t.mu.Unlock()
	last, err := appends()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writing--
	if err == nil && t.listen != nil {
		for i := range events {
			events[i].Number = last - int64(len(events)-1-i)
		}
		t.early = append(t.early, events...)
		slices.SortFunc(t.early, func(a, b Event) int { return cmp.Compare(a.Number, b.Number) })
	}
	for len(t.early) > 0 && (t.writing == 0 || t.early[0].Number == t.last+1) {
		t.listen(t.early[0])
		t.last, t.early = t.early[0].Number, t.early[1:]
	}
	return err
}

// pass hands over an event of another stream.
func (t *teller) pass(ev Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listen(ev)
}
