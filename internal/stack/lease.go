package stack

import (
	"context"
	"fmt"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/record"
)

// lease says who changes a stack.
type lease struct {
	Stack  string    `json:"stack"`
	Holder string    `json:"holder"`
	Since  time.Time `json:"since"`
}

// acquire takes the lease of a stack, or says who holds it. With takeover, a
// lease whose holder is dead is taken from it. release must be called; it
// gives the lease back.
func (e *Engine) acquire(ctx context.Context, stack string, takeover bool) (release func() error, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l, version, err := e.leases.GetVersion(ctx, e.key(stack))
	switch {
	case fault.Is(err, fault.NotFound):
		version = record.Absent
	case err != nil:
		return nil, fmt.Errorf("read the lease of stack %s: %w", stack, err)
	case !takeover || !e.dead(l):
		return nil, held(l)
	}
	mine := lease{Stack: stack, Holder: e.o.Holder, Since: now()}
	if err := e.leases.PutIf(ctx, e.key(stack), mine, version); fault.Is(err, fault.Conflict) {
		if l, err = e.leases.Get(ctx, e.key(stack)); err == nil {
			return nil, held(l)
		}
		return nil, fault.Wrap(fault.Conflict, err, "stack %s is being changed by another process", stack).WithHint("try again")
	} else if err != nil {
		return nil, fmt.Errorf("take the lease of stack %s: %w", stack, err)
	}
	e.held[stack] = true
	return func() error {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.held, stack)
		if err := e.leases.Delete(context.WithoutCancel(ctx), e.key(stack)); err != nil {
			return fmt.Errorf("give back the lease of stack %s: %w", stack, err)
		}
		return nil
	}, nil
}

// dead says whether the holder of a lease is gone. e.mu is held.
func (e *Engine) dead(l lease) bool {
	if l.Holder == e.o.Holder {
		return !e.held[l.Stack]
	}
	return !e.o.Alive(l.Holder)
}

func held(l lease) error {
	return fault.New(fault.Conflict, "stack %s is being changed by %s since %s", l.Stack, l.Holder, l.Since.Local().Format("15:04:05")).
		WithHint("wait until that has ended; if that process is gone, start makeitso again, which takes its place")
}
