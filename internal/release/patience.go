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

// errPlaced ends a Watch that was only to tell where its outcomes end.
var errPlaced = errors.New("the place is known")

// place is where the outcomes of a service end now.
func (e patientEdge) place(ctx context.Context, service string) (at outcome.Cursor, err error) {
	ctx, cancel := context.WithTimeout(ctx, edgePatience)
	defer cancel()
	err = e.Watch(ctx, service, outcome.Cursor{}, func(b outcome.Batch) error {
		if b.Away != "" {
			return fault.New(fault.Unavailable, "%s", b.Away)
		}
		at = b.Cursor
		return errPlaced
	})
	if errors.Is(err, errPlaced) {
		err = nil
	}
	return at, err
}
