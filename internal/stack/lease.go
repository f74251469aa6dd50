package stack

import (
	"context"
	"errors"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/lease"
)

// acquire takes the lease of a stack; what is done with it goes by the context
// held. release must be called with how that ended, which it gives back: it
// leaves the lease to who goes on with what is half done, or gives it back.
func (e *Engine) acquire(ctx context.Context, name string, takeover bool) (held context.Context, release func(error) error, err error) {
	h, err := e.leases.Acquire(ctx, name, takeover)
	if err != nil {
		if !fault.Is(err, fault.Conflict) { // it may have been taken all the same
			e.noteLeft()
		}
		return nil, nil, err
	}
	return h.Context, func(ended error) error {
		if e.halfDone(ctx, name, ended) {
			h.Leave()
			e.noteLeft()
			stopped := fault.Wrap(fault.CodeOf(ended), ended, "stack %s was left half done", name)
			if fault.HintOf(ended) == "" {
				return stopped.WithHint("makeitso goes on with it by itself; look how it stands: makeitso status")
			}
			return stopped
		}
		err := h.Release()
		if err != nil {
			e.noteLeft()
		}
		return errors.Join(ended, err)
	}, nil
}

// halfDone says whether what was done with the lease of a stack, and ended with
// an error, is to be gone on with.
func (e *Engine) halfDone(ctx context.Context, name string, ended error) bool {
	if ended == nil || halted(ended) {
		return ended != nil
	}
	s, err := e.find(context.WithoutCancel(ctx), name)
	return err != nil || strings.HasSuffix(s.Status, "IN_PROGRESS")
}

// noteLeft wakes Watch.
func (e *Engine) noteLeft() {
	select {
	case e.left <- struct{}{}:
	default: // it was woken
	}
}

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

// suspension is the error of an operation that stops where it stands.
func suspension(ctx context.Context) error { return halt{context.Cause(ctx)} }

// suspended says whether an operation shall stop where it stands: it was asked
// to, its lease is another's, or what it must know of its store is not to be had.
func suspended(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, ErrSuspend) || errors.Is(cause, lease.ErrLost) || halted(cause)
}
