package server

import (
	"context"
	"fmt"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

// sweepEvery is how often is looked for what was kept long enough.
const sweepEvery = 24 * time.Hour

// sweep removes the events of stacks that were deleted long ago, now and each
// day, until ctx ends.
func (env *environment) sweep(ctx context.Context) {
	each := time.NewTicker(sweepEvery)
	defer each.Stop()
	for {
		if err := env.stacks.Sweep(ctx, time.Now().Add(-stack.Kept)); err != nil && ctx.Err() == nil {
			env.server.o.Announce(fmt.Sprintf("environment %s: old events cannot be removed: %s", env.name, fault.Text(err)))
		}
		select {
		case <-each.C:
		case <-ctx.Done():
			return
		}
	}
}
