package stack

import (
	"context"
	"fmt"
	"time"

	"makeitso/internal/fault"
)

// Kept is how long the events of a stack are kept once it is deleted, as with the
// service.
const Kept = 90 * 24 * time.Hour

// Sweep removes the events of stacks that were deleted before a time, but for the
// last, which says so.
func (e *Engine) Sweep(ctx context.Context, before time.Time) error {
	all, err := e.AllKnown(ctx)
	if err != nil {
		return err
	}
	old := func(s Stack) bool { return s.Status == DeleteComplete && s.Updated.Before(before) }
	for _, s := range all {
		if !old(s) {
			continue
		}
		last, err := e.store.Last(ctx, e.stream(s.Name))
		if err != nil {
			return fmt.Errorf("read events of %s: %w", s.Name, err)
		}
		// What it is now decides: a new stack of that name would have had events
		// before it is found here as deleted.
		s, err = e.stacks.Get(ctx, e.key(s.Name))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return fmt.Errorf("read stack %s: %w", s.Name, err)
		}
		if err != nil || !old(s) {
			continue
		}
		if err := e.store.Trim(ctx, e.stream(s.Name), last); err != nil {
			return fmt.Errorf("remove events of %s: %w", s.Name, err)
		}
	}
	return nil
}
