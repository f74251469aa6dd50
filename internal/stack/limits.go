package stack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/dag"
	"makeitso/internal/fault"
	"makeitso/internal/pace"
	"makeitso/internal/policy"
	"makeitso/internal/record"
)

// AlarmStore is a Platform that has alarms.
type AlarmStore interface {
	// HasAlarm returns nil if there is such an alarm, else fault.NotFound.
	HasAlarm(ctx context.Context, arn string) error
	// WaitAlarm returns nil as soon as an alarm is in state ALARM,
	// fault.NotFound if there is no such alarm, or ctx's error.
	WaitAlarm(ctx context.Context, arn string) error
}

// checkLimits says what is wrong with how a change is to end.
func (e *Engine) checkLimits(ctx context.Context, c changeset.Change) error {
	if err := checkTags(c.Stack, c.Tags); err != nil {
		return err
	}
	if c.DisableRollback && c.OnFailure != "" {
		return fault.New(fault.Invalid, "Either DisableRollback or OnFailure can be specified, not both.").
			WithHint("leave out --no-rollback, or on-failure (in makeitso.yaml, or as --on-failure)")
	}
	if allowed := []string{"", changeset.OnFailureNothing, changeset.OnFailureRollback, changeset.OnFailureDelete}; !slices.Contains(allowed, c.OnFailure) {
		return fault.New(fault.Invalid, "OnFailure is %q; allowed are %s", c.OnFailure, strings.Join(allowed[1:], ", "))
	}
	if c.Guard.Policy != "" {
		if _, err := policy.Parse(c.Guard.Policy); err != nil {
			return err
		}
	}
	return e.checkAlarms(ctx, c.Rollback)
}

// checkAlarms says which alarms cannot be watched. What an ARN will be that
// another stack of the plan makes is judged when that was applied.
func (e *Engine) checkAlarms(ctx context.Context, a pace.Alarms) error {
	a.ARNs = slices.DeleteFunc(slices.Clone(a.ARNs), func(arn string) bool { return strings.Contains(arn, changeset.KnownAfterApply) })
	alarms, able := offered[AlarmStore](e.platform)
	if err := a.Check(able); err != nil {
		return err
	}
	for _, arn := range a.ARNs {
		if err := alarms.HasAlarm(ctx, arn); err != nil {
			return fault.Wrap(fault.CodeOf(err), err, "rollback")
		}
	}
	return nil
}

// errTimeout is why a creation that takes too long is given up.
var errTimeout = fault.New(fault.Failed, "Stack creation time exceeded the specified timeout.")

// errAlarm is why a change is given up when an alarm has gone off.
type errAlarm struct{ error }

// limited makes the resources as the template says and commits, if that is
// done in time and no alarm goes off.
func (o *operation) limited(ctx context.Context) error {
	c := o.set.Change
	within, stop := context.WithCancelCause(ctx)
	if o.set.Action == changeset.Create && c.Timeout > 0 {
		var cancel context.CancelFunc
		within, cancel = context.WithDeadlineCause(within, o.stack.Created.Add(c.Timeout), errTimeout)
		defer cancel()
	}
	var watches sync.WaitGroup
	defer watches.Wait()
	defer stop(nil)
	alarms, _ := offered[AlarmStore](o.e.platform) // the plan has looked whether there are any
	for _, arn := range c.Rollback.ARNs {
		watches.Go(func() {
			switch err := alarms.WaitAlarm(within, arn); { // stop does nothing, if within has ended
			case err == nil:
				stop(errAlarm{fault.New(fault.Failed, "alarm %s is in state ALARM", arn)})
			case fault.Is(err, fault.NotFound):
				stop(errAlarm{err})
			default: // that it cannot be read says nothing of the change
				stop(halt{fmt.Errorf("watch alarm %s: %w", arn, err)})
			}
		})
	}
	err := dag.Walk(within, o.after.Graph, o.e.o.Parallel, o.forward)
	if err == nil {
		err = o.monitor(within)
	}
	if err == nil {
		err = o.commit(within)
	}
	var alarm errAlarm
	if cause := context.Cause(within); err != nil && !halted(err) && (cause == errTimeout || errors.As(cause, &alarm)) {
		return cause
	}
	return err
}

// monitor watches the alarms for a time after all was made. When that ends is
// stored, so that a crash does not begin it anew.
func (o *operation) monitor(ctx context.Context) error {
	if o.set.Change.Rollback.Monitor == 0 || len(o.set.Change.Rollback.ARNs) == 0 {
		return nil
	}
	if o.stack.Monitored.IsZero() {
		o.mu.Lock()
		o.stack.Monitored = now().Add(o.set.Change.Rollback.Monitor)
		s := o.stack
		o.mu.Unlock()
		op, err := o.e.stacks.PutOp(o.e.key(s.Name), s, record.Any)
		if err == nil {
			err = o.journal(ctx, []record.Op{op})
		}
		if err != nil {
			return halt{fmt.Errorf("store stack %s: %w", s.Name, err)}
		}
	}
	if o.idle != nil {
		o.idle()
	}
	over := time.NewTimer(time.Until(o.stack.Monitored))
	defer over.Stop()
	select {
	case <-over.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// discard deletes what a creation that failed has made, and the stack.
func (o *operation) discard(ctx context.Context, cause error) error {
	on, done := stubborn(ctx)
	defer done()
	if err := o.vanish(on, o.unwanted(), o.stack.Reason); err != nil {
		return err
	}
	return discarded(o.stack, cause)
}

func discarded(s Stack, cause error) error {
	return hinted(fault.Wrap(outcome(cause), cause, "stack %s could not be created and was deleted (%s)", s.Name, s.Status), cause,
		"see what happened: makeitso events "+s.Name)
}
