package stack

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"makeitso/internal/changeset"
	"makeitso/internal/dag"
	"makeitso/internal/fault"
	"makeitso/internal/pace"
)

// Signal is what somebody tells of a resource that a stack waits for.
type Signal = pace.Signal

// box is where signals are kept; idle is told when somebody waits for one.
func (e *Engine) box(idle func()) pace.Box {
	return pace.Box{Store: e.store, Environment: e.environment, Idle: idle, Broken: func(err error) error { return halt{err} }}
}

// Receive takes a signal at the address of a wait condition's handle, which is
// what its Ref gives. It is kept for ever once this has answered nil, and counts
// also if nobody waits for it yet.
func (e *Engine) Receive(ctx context.Context, address string, s Signal) error {
	if err := s.Check(); err != nil {
		return err
	}
	return e.box(nil).Put(ctx, address, s)
}

// Signal takes a signal for a resource: of a wait condition or its handle at
// any time, of any other while its stack is being changed.
func (e *Engine) Signal(ctx context.Context, stack, logicalID string, signal Signal) error {
	s, err := e.Stack(ctx, stack)
	if err != nil {
		return err
	}
	r, err := e.resources.Get(ctx, e.resourceKey(stack, logicalID))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("read resource %s of stack %s: %w", logicalID, stack, err)
	}
	thing := r.Current
	if r.Step != nil && r.Step.Revision == s.Revision && r.Step.Next != nil {
		thing = r.Step.Next
	}
	if thing == nil {
		return fault.New(fault.NotFound, "Resource %s does not exist for stack %s", logicalID, stack).
			WithHint("see what does: makeitso events %s", stack)
	}
	address := signalledAt(*thing)
	if address == thing.Token && !strings.HasSuffix(s.Status, "IN_PROGRESS") {
		return fault.New(fault.Conflict, "Stack %s is in %s state and cannot be signaled", s.ID, s.Status).
			WithHint("signal %s while it is being made or changed", logicalID)
	}
	return e.Receive(ctx, address, signal)
}

// signalledAt names what the signals for a thing are collected under: the
// address of a handle, else the thing itself.
func signalledAt(p changeset.Physical) string {
	handle, _ := p.Properties["Handle"].(string)
	switch {
	case p.Type == pace.HandleType:
		return p.PhysicalID
	case p.Type == pace.ConditionType && handle != "":
		return handle
	}
	return p.Token
}

// gaveUp is o.failed for a wait, which may have been ended from outside.
func (o *operation) gaveUp(ctx context.Context, s resourceState, err error) error {
	if halted(err) {
		return err
	}
	if ctx.Err() != nil {
		what := "creation"
		if s.Step.Kind == stepUpdate {
			what = "update"
		}
		err = fault.New(outcome(context.Cause(ctx)), "Resource %s cancelled", what)
	}
	return o.failed(ctx, s, veiled(err, o.hidden))
}

// teller tells something about a resource whose status stays.
func (o *operation) teller(s resourceState) func(context.Context, string) error {
	return func(ctx context.Context, reason string) error {
		reason = changeset.ScrubText(reason, o.hidden())
		return o.tell(ctx, Event{LogicalID: s.LogicalID, PhysicalID: s.Step.Next.PhysicalID, Type: s.Step.Next.Type, Status: s.Status, Reason: reason})
	}
}

// await completes a new resource when its signals have come.
func (o *operation) await(ctx context.Context, s resourceState, result Result, p pace.Creation) error {
	kept, next := *s.Step, *s.Step.Next
	next.PhysicalID, kept.Next, s.Step = result.PhysicalID, &next, &kept
	if kept.Wait == nil {
		kept.Wait = &pace.Waiting{Until: now().Add(p.Timeout)}
		if err := o.keep(ctx, s); err != nil {
			return err
		}
		if err := o.teller(s)(ctx, creationInitiated); err != nil {
			return err
		}
	}
	return dag.Aside(func(ctx context.Context) error {
		heard := &pace.Heard{Address: signalledAt(next)}
		_, err := o.e.box(o.idle).Hear(ctx, heard, kept.Wait.Until, o.teller(s), func() bool { return p.Decided(&heard.Tally) })
		if err == nil {
			err = p.Judge(&heard.Tally)
		}
		if err == nil && next.Type == pace.ConditionType {
			result.Attributes = maps.Clone(orEmpty(result.Attributes))
			result.Attributes["Data"], err = heard.Data()
		}
		if err != nil {
			return o.gaveUp(ctx, s, err)
		}
		return o.complete(ctx, s, result)
	})
}
