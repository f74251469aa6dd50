package stack

import (
	"context"
	"errors"
	"fmt"

	"makeitso/internal/fault"
	"makeitso/internal/record"
)

// errUpdateCancelled is why an update's context ends when somebody asked for it.
var errUpdateCancelled = fault.New(fault.Canceled, "the update was cancelled")

// verdict says whether an update is cancelled or has come to its end: whatever
// is written first holds.
type verdict struct {
	Cancelled bool `json:"cancelled"`
}

func (e *Engine) verdictKey(s Stack) string { return fmt.Sprintf("%s/%d", e.key(s.Name), s.Revision) }

func (e *Engine) cancelStream(stack string) string { return "stack-cancel/" + e.key(stack) }

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
	key := e.verdictKey(s)
	op, err := e.verdicts.PutOp(key, verdict{Cancelled: true}, record.Absent)
	if err != nil {
		return err
	}
	_, err = e.store.AppendWith(ctx, e.cancelStream(name), op.Value, op)
	if err != nil && !fault.Is(err, fault.Conflict) {
		return fmt.Errorf("cancel the update of stack %s: %w", name, err)
	}
	if err != nil {
		if v, err := e.verdicts.Get(ctx, key); err == nil && v.Cancelled || err != nil && !fault.Is(err, fault.NotFound) {
			return err // asked for before
		}
		return late
	}
	again, err := e.find(ctx, name)
	if err != nil || again.Revision == s.Revision && unfinished(again) {
		return err
	}
	if _, err := e.verdicts.Get(ctx, key); !fault.Is(err, fault.NotFound) { // the update ended before it was written
		return errors.Join(late, err, e.verdicts.Delete(ctx, key))
	}
	return nil
}

// cancelled says whether the update that a stack is in was cancelled.
func (e *Engine) cancelled(ctx context.Context, s Stack) (bool, error) {
	v, err := e.verdicts.Get(ctx, e.verdictKey(s))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return false, halt{fmt.Errorf("look whether the update of stack %s was cancelled: %w", s.Name, err)}
	}
	return v.Cancelled, nil
}

// cancellable gives a context that ends with errUpdateCancelled when the update
// is cancelled. stop must be called.
func (o *operation) cancellable(ctx context.Context) (on context.Context, stop func()) {
	on, cancel := context.WithCancelCause(ctx)
	if o.stack.Status != UpdateInProgress {
		return on, func() { cancel(nil) }
	}
	s, done := o.stack, make(chan struct{})
	if was, err := o.e.cancelled(ctx, s); err != nil {
		cancel(err)
	} else if was { // asked for in a former life: nothing more may begin
		cancel(errUpdateCancelled)
	}
	go func() {
		defer close(done)
		cancel(o.e.untilCancelled(on, s))
	}()
	return on, func() { cancel(nil); <-done }
}

// untilCancelled waits until the update is cancelled or ctx ends, and says which.
func (e *Engine) untilCancelled(ctx context.Context, s Stack) error {
	for {
		last, err := e.store.Last(ctx, e.cancelStream(s.Name))
		if err != nil {
			return halt{fmt.Errorf("wait for the cancelling of stack %s: %w", s.Name, err)}
		}
		if was, err := e.cancelled(ctx, s); err != nil {
			return err
		} else if was {
			return errUpdateCancelled
		}
		if err := e.store.Wait(ctx, e.cancelStream(s.Name), last); err != nil {
			return halt{fmt.Errorf("wait for the cancelling of stack %s: %w", s.Name, err)}
		}
	}
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
