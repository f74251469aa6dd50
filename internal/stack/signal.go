package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/pace"
)

// Signal is what somebody tells of a resource that a stack waits for.
type Signal = pace.Signal

// Receive takes a signal at the address of a wait condition's handle, which is
// what its Ref gives. It is kept for ever once this has answered nil, and counts
// also if nobody waits for it yet.
func (e *Engine) Receive(ctx context.Context, address string, s Signal) error {
	if err := s.Check(); err != nil {
		return err
	}
	raw, err := json.Marshal(s)
	if err == nil {
		_, err = e.store.Append(ctx, e.signals(address), raw)
	}
	if err != nil {
		return fmt.Errorf("store a signal: %w", err)
	}
	return nil
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
func signalledAt(p Physical) string {
	handle, _ := p.Properties["Handle"].(string)
	switch {
	case p.Type == pace.HandleType:
		return p.PhysicalID
	case p.Type == pace.ConditionType && handle != "":
		return handle
	}
	return p.Token
}

func (e *Engine) signals(address string) string { return "signal/" + e.environment + "/" + address }

// signals is those that have come for one address, as far as they were read.
type signals struct {
	pace.Tally
	address string
	last    int64
}

// read adds what has come since, and gives the signals that are new.
func (h *signals) read(ctx context.Context, e *Engine) (news []Signal, err error) {
	for {
		items, err := e.store.Read(ctx, e.signals(h.address), h.last, eventsAtOnce)
		if err != nil {
			return nil, halt{fmt.Errorf("read signals: %w", err)}
		}
		for _, item := range items {
			var s Signal
			if err := json.Unmarshal(item.Value, &s); err != nil {
				return nil, halt{fmt.Errorf("decode signal %d: %w", item.Number, err)}
			}
			if h.last = item.Number; h.Add(s) {
				news = append(news, s)
			}
		}
		if len(items) < eventsAtOnce {
			return news, nil
		}
	}
}

// errLate is why a wait ends at its deadline.
var errLate = errors.New("the time is over")

// hear waits until enough signals have come for a thing, or its step's time is
// over, which late then says. Each signal is told as it comes.
func (o *operation) hear(ctx context.Context, s resourceState, heard *signals, enough func() bool) (late bool, err error) {
	limited, cancel := context.WithDeadlineCause(ctx, s.Step.Wait.Until, errLate)
	defer cancel()
	for {
		news, err := heard.read(context.WithoutCancel(ctx), o.e)
		if err != nil {
			return false, err
		}
		for _, signal := range news {
			if err := o.tellReason(ctx, s, fmt.Sprintf("Received %s signal with UniqueId %s", signal.Status, signal.UniqueID)); err != nil {
				return false, err
			}
		}
		if enough() {
			return false, nil
		}
		if err := o.e.store.Wait(limited, o.e.signals(heard.address), heard.last); err != nil {
			return context.Cause(limited) == errLate, o.ended(ctx, s, limited, err)
		}
	}
}

// aside is what remains of a step that waits for something outside of the
// stack. A walk goes on with others meanwhile; see walk.
type aside func(context.Context) error

func (aside) Error() string { return "it waits" }

// aside makes a step wait beside the others.
func (o *operation) aside(rest aside) error {
	if o.idle != nil {
		o.idle()
	}
	return rest
}

// errAside is why what waits is given up when something else has failed.
var errAside = errors.New("another resource failed")

// ended gives why a wait ended early: nil for its own deadline.
func (o *operation) ended(ctx context.Context, s resourceState, limited context.Context, err error) error {
	what := "creation"
	if s.Step.Kind == stepUpdate {
		what = "update"
	}
	switch {
	case ctx.Err() != nil:
		return fault.New(outcome(context.Cause(ctx)), "Resource %s cancelled", what)
	case context.Cause(limited) == errLate:
		return nil
	}
	return halt{fmt.Errorf("wait for signals: %w", err)}
}

// tellReason tells something about a resource whose status stays.
func (o *operation) tellReason(ctx context.Context, s resourceState, reason string) error {
	return o.tell(ctx, Event{LogicalID: s.LogicalID, PhysicalID: s.Step.Next.PhysicalID, Type: s.Step.Next.Type, Status: s.Status, Reason: reason})
}

// waiting is how far a step has come in waiting for signals. It is stored
// before the wait, so that a crash takes none of its time away.
type waiting struct {
	After int64     `json:"after,omitempty"` // signals up to that number were for an earlier step
	Until time.Time `json:"until,omitzero"`
	// Kept and Late are those of pace.Group: new instances that no signal is
	// awaited of, and those whose time was over.
	Kept int `json:"kept,omitempty"`
	Late int `json:"late,omitempty"`
	// Back says that a rolling update is one of the roll back.
	Back bool `json:"back,omitempty"`
}

// await completes a new resource when its signals have come. Others may use the
// slot of the walk meanwhile.
func (o *operation) await(ctx context.Context, s resourceState, result Result, p pace.Creation) error {
	kept, next := *s.Step, *s.Step.Next
	next.PhysicalID, kept.Next, s.Step = result.PhysicalID, &next, &kept
	if kept.Wait == nil {
		kept.Wait = &waiting{Until: now().Add(p.Timeout)}
		if err := o.keep(ctx, s); err != nil {
			return err
		}
		if err := o.tellReason(ctx, s, creationInitiated); err != nil {
			return err
		}
	}
	return o.aside(func(ctx context.Context) error {
		heard := &signals{address: signalledAt(next)}
		_, err := o.hear(ctx, s, heard, func() bool { return p.Decided(&heard.Tally) })
		if err == nil {
			err = p.Judge(&heard.Tally)
		}
		if err == nil && next.Type == pace.ConditionType {
			result.Attributes = maps.Clone(orEmpty(result.Attributes))
			result.Attributes["Data"], err = heard.Data()
		}
		if halted(err) {
			return err
		}
		if err != nil {
			return o.failed(ctx, s, err)
		}
		return o.complete(ctx, s, result)
	})
}
