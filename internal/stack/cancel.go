package stack

import (
	"context"
	"fmt"

	"makeitso/internal/fault"
)

// errUpdateCancelled is why an update's context ends when somebody asked for it.
var errUpdateCancelled = fault.New(fault.Canceled, "the update was cancelled")

// verdictKey is where the verdict about a stack's present operation is.
func (e *Engine) verdictKey(s Stack) string { return fmt.Sprintf("%s/%d", e.key(s.Name), s.Revision) }

// CancelUpdate has an update under way roll back, in whatever process it runs.
// It returns when that is certain, and does not wait for the roll back.
func (e *Engine) CancelUpdate(ctx context.Context, name string) error {
	s, err := e.Stack(ctx, name)
	if err != nil {
		return err
	}
	if err := whole(s); err != nil {
		return err
	}
	late := fault.New(fault.Conflict, "CancelUpdateStack cannot be called from current stack status").
		WithHint("only an update under way (%s) can be cancelled; see what stack %s does: makeitso events %s", UpdateInProgress, name, name)
	if s.Status != UpdateInProgress {
		return late
	}
	if certain, err := e.verdicts.Cancel(ctx, e.verdictKey(s)); err != nil {
		return fmt.Errorf("cancel the update of stack %s: %w", name, err)
	} else if !certain {
		return late
	}
	again, err := e.find(ctx, name)
	if err != nil || again.Revision == s.Revision && unfinished(again) {
		return err
	}
	if missed, err := e.verdicts.Withdraw(ctx, e.verdictKey(s)); err != nil || !missed {
		return err
	}
	return late // the update had ended before it was written
}

// cancellable gives a context that ends with errUpdateCancelled when the update
// is cancelled. stop must be called.
func (o *operation) cancellable(ctx context.Context) (on context.Context, stop func()) {
	on, cancel := context.WithCancelCause(ctx)
	if o.stack.Status != UpdateInProgress {
		return on, func() { cancel(nil) }
	}
	key, done := o.e.verdictKey(o.stack), make(chan struct{})
	if was, err := o.e.verdicts.Cancelled(ctx, key); err != nil {
		cancel(halt{err})
	} else if was { // asked for in a former life: nothing more may begin
		cancel(errUpdateCancelled)
	}
	go func() {
		defer close(done)
		if err := o.e.verdicts.Await(on, key); err != nil {
			cancel(halt{err})
		}
		cancel(errUpdateCancelled)
	}()
	return on, func() { cancel(nil); <-done }
}

// cancelReason is what the service says of a resource whose change was cut
// short by a cancelling, else the error's own text.
func cancelReason(ctx context.Context, kind stepKind, cause error) string {
	switch {
	case context.Cause(ctx) != error(errUpdateCancelled):
		return cause.Error()
	case kind == stepCreate:
		return "Resource creation cancelled"
	}
	return "Resource update cancelled"
}
