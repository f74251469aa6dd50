package release

import (
	"context"
	"time"

	"makeitso/internal/edge"
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
