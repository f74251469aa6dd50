package release

import (
	"context"
	"errors"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/edge/outcome"
	"makeitso/internal/fault"
)

// edgePatience is how long one call of the edge may take: it answers in
// milliseconds, or it is away.
const edgePatience = 5 * time.Second

// patientEdge ends calls of an edge that hangs, so that a rollout can go on
// with its deadlines.
type patientEdge struct{ Edge }

func (e patientEdge) SetService(ctx context.Context, s edge.Service) error {
	ctx, cancel := context.WithTimeout(ctx, edgePatience)
	defer cancel()
	return e.Edge.SetService(ctx, s)
}

func (e patientEdge) RemoveService(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, edgePatience)
	defer cancel()
	return e.Edge.RemoveService(ctx, name)
}

func (e patientEdge) Stats(ctx context.Context) (edge.Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, edgePatience)
	defer cancel()
	return e.Edge.Stats(ctx)
}

// errRead ends a Watch that was only to tell what there is.
var errRead = errors.New("the outcomes are read")

// read gives the outcomes from a place on that are told at once, perhaps none.
func (e patientEdge) read(ctx context.Context, service string, from outcome.Cursor) (got outcome.Batch, err error) {
	ctx, cancel := context.WithTimeout(ctx, edgePatience)
	defer cancel()
	err = e.Watch(ctx, service, from, func(b outcome.Batch) error {
		if b.Away != "" {
			return fault.New(fault.Unavailable, "%s", b.Away)
		}
		got = b
		return errRead
	})
	if errors.Is(err, errRead) {
		err = nil
	}
	return got, err
}

// place is where the outcomes of a service end now.
func (e patientEdge) place(ctx context.Context, service string) (outcome.Cursor, error) {
	b, err := e.read(ctx, service, outcome.Cursor{})
	return b.Cursor, err
}

// lookBack is how many of the last outcomes tell how the live release is.
const lookBack = 1 << 14

// before gives the last outcomes of a service before a place, those that are not
// known yet left out.
func (e patientEdge) before(ctx context.Context, service string, end outcome.Cursor) (all []outcome.Outcome, err error) {
	from := outcome.Cursor{Stream: end.Stream, Next: end.Next - min(end.Next, lookBack)}
	for from.Next < end.Next {
		b, err := e.read(ctx, service, from)
		if err != nil || len(b.Outcomes) == 0 || b.Cursor.Stream != end.Stream {
			return all, err
		}
		all, from = append(all, b.Outcomes...), b.Cursor
	}
	return all, nil
}
