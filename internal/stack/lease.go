package stack

import (
	"context"
	"errors"
	"strings"

	"makeitso/internal/lease"
)

// Await waits until nobody changes a stack, and tells once who does if it must
// wait. What a holder that is dead, or could not go on, has left half done is
// gone on with first.
func (e *Engine) Await(ctx context.Context, name string, told func(holder string)) error {
	for {
		dead, err := e.leases.Await(ctx, name, func(l lease.Lease) {
			if told != nil {
				told(l.String())
			}
			told = nil
		})
		if err != nil {
			return err
		}
		s, err := e.find(ctx, name)
		if err != nil || !dead && !strings.HasSuffix(s.Status, "IN_PROGRESS") {
			return err
		}
		if err := e.resume(ctx, name, nil, nil); err != nil {
			return err
		}
	}
}

// suspended says whether an operation shall stop where it stands: it was asked
// to, its lease is another's, or what it must know of its store is not to be had.
func suspended(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, ErrSuspend) || errors.Is(cause, lease.ErrLost) || halted(cause)
}
