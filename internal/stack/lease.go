package stack

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"makeitso/internal/lease"
)

// acquire takes the lease of a stack; what is done with it goes by the context
// held. release must be called with how that ended, which it gives back: it
// leaves the lease to who goes on with what is half done, or gives it back.
func (e *Engine) acquire(ctx context.Context, name string, takeover bool) (held context.Context, release func(error) error, err error) {
	h, err := e.leases.Acquire(ctx, name, takeover)
	if err != nil {
		return nil, nil, err
	}
	return h.Context, func(ended error) error {
		if halted(ended) {
			h.Leave()
			e.noteLeft()
			return ended
		}
		err := h.Release()
		if err != nil {
			e.noteLeft()
		}
		return errors.Join(ended, err)
	}, nil
}

// noteLeft wakes Watch.
func (e *Engine) noteLeft() {
	select {
	case e.left <- struct{}{}:
	default: // it was woken
	}
}

// watchPause is how long Watch waits after a change was left, mostly because
// the store failed, before it goes on with it.
const watchPause = 5 * time.Second

// Watch goes on, until ctx ends, with every change that is left half done: by
// this process, which its store failed, or by another, which died with the
// lease. failed is told what keeps it from doing so, once for each reason that
// it meets in a row; it tries again.
func (e *Engine) Watch(ctx context.Context, failed func(error)) {
	var busy sync.WaitGroup
	defer busy.Wait()
	var mu sync.Mutex
	var last string
	answer := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if err == nil || ctx.Err() != nil {
			last = ""
			return
		}
		e.noteLeft()
		if err.Error() != last {
			last = err.Error()
			failed(err)
		}
	}
	for e.awaitLeft(ctx) {
		names, err := e.leases.Left(ctx)
		if err != nil {
			answer(err)
			continue
		}
		for _, name := range names {
			busy.Go(func() { answer(errors.Join(e.resume(ctx, name, nil, nil), e.letAllGo(ctx, nil))) })
		}
	}
}

// awaitLeft waits until something may have been left half done; false is that
// ctx has ended. That another process died is seen with a beat of the leases.
func (e *Engine) awaitLeft(ctx context.Context) bool {
	var beat <-chan time.Time
	if e.o.Beat > 0 {
		ticker := time.NewTicker(e.o.Beat)
		defer ticker.Stop()
		beat = ticker.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-beat:
		return true
	case <-e.left:
	}
	pause := time.NewTimer(watchPause)
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-pause.C:
		return true
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

// suspended says whether an operation shall stop where it stands: it was asked
// to, its lease is another's, or what it must know of its store is not to be had.
func suspended(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, ErrSuspend) || errors.Is(cause, lease.ErrLost) || halted(cause)
}
