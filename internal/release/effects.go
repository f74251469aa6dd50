package release

import (
	"context"
	"fmt"
	"slices"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/rollout"
)

// route is what the edge is to do for the service in the present state, and
// where what takes no traffic yet is to be seen; a service without hosts is to
// have no route. One whose instances are all gone keeps its hosts: who asks is
// told that it is not there now, not that there is no such service.
func (k *keeper) route(ctx context.Context) (s, preview edge.Service, err error) {
	state := k.rec.State
	s.Name, preview.Name = edgeName(k.c.environment, k.name), previewName(k.c.environment, k.name)
	shown := state.Previewed()
	var hosts, health []string
	access := (*Access)(nil)
	if bereft := state.Bereft(); bereft != "" {
		r, err := k.c.release(ctx, k.name, bereft)
		if err != nil {
			return s, preview, err
		}
		hosts, access = r.Service.Hosts, &r.Service.Access
	}
	for _, a := range state.Arms() {
		r, err := k.c.release(ctx, k.name, a.Release)
		if err != nil {
			return s, preview, err
		}
		if a.Weight > 0 { // who only finishes what it has is asked nothing new
			hosts = append(hosts, r.Service.Hosts...)
			health = append(health, r.Service.Health)
			// Of two releases the newer one says what may be asked: an older one
			// that cannot take it is on its way out.
			if access == nil || a.Release == state.Plan.New.Release {
				access = &r.Service.Access
			}
		}
		arm := edge.Arm{Name: a.Release, Weight: a.Weight, Protocol: r.Service.Protocol}
		for _, m := range slices.Concat(a.Members, a.Leaving) {
			if slot := k.rec.slot(m); slot != nil && slot.Started {
				arm.Instances = append(arm.Instances, edge.Instance{
					ID: slot.Instance.ID, Address: slot.Instance.Address, Draining: slices.Contains(a.Leaving, m)})
			}
		}
		if a.Weight == 0 && a.Release == state.Plan.New.Release && len(shown) > 0 {
			arm.Weight = 1
			preview.Arms, preview.Health = []edge.Arm{arm}, r.Service.Health
			r.Service.Access.give(&preview)
			for _, host := range r.Service.Hosts {
				preview.Hosts = append(preview.Hosts, "preview."+host)
			}
			continue
		}
		s.Arms = append(s.Arms, arm)
	}
	if access != nil {
		access.give(&s)
	}
	s.Hosts = slices.Compact(slices.Sorted(slices.Values(hosts)))
	// The edge asks all instances of a service the same; where two releases
	// differ in what they answer, it is left to the keeper's own checks.
	if health = slices.Compact(health); len(health) == 1 {
		s.Health = health[0]
	}
	return s, preview, nil
}

// give says to the edge what clients may ask.
func (a Access) give(s *edge.Service) {
	s.Limits, s.RequestTimeout, s.Sticky, s.SlowStart, s.Paths = a.Limits, a.RequestTimeout, a.Sticky, a.SlowStart, a.Paths
}

// setRoute changes the route, in an order in which no instance is in both
// services at once.
func (k *keeper) setRoute(ctx context.Context, s, preview edge.Service, previewed bool) error {
	if previewed && len(preview.Arms) == 0 {
		if err := k.c.edge.RemoveService(ctx, preview.Name); err != nil {
			return err
		}
	}
	if len(s.Hosts) == 0 {
		return k.c.edge.RemoveService(ctx, s.Name)
	}
	if err := k.c.edge.SetService(ctx, s); err != nil || len(preview.Arms) == 0 {
		return err
	}
	return k.c.edge.SetService(ctx, preview)
}

// previews notes, before the edge is told of it, that a preview is shown, and
// says whether one may be.
func (k *keeper) previews(ctx context.Context, preview edge.Service) bool {
	if len(preview.Arms) > 0 && !k.rec.Preview {
		k.rec.Preview = true
		k.saveOrBreak(ctx)
	}
	return k.rec.Preview
}

// shift puts the present traffic in force. Where a coin is drawn, the place in
// the edge's outcomes from which they count is known before.
func (k *keeper) shift(ctx context.Context, number int) {
	_, coin := k.rec.State.Coin()
	if k.busy["shift"] {
		return
	}
	if coin && k.judged() && k.evidence() == nil {
		if k.unplaced != nil {
			k.apply(ctx, rollout.Event{Kind: rollout.Hindered, Reason: k.unplaced.Error()})
		}
		return
	}
	s, preview, err := k.route(ctx)
	if err != nil {
		k.broken = err
		return
	}
	previewed := k.previews(ctx, preview)
	k.begin(ctx, "shift", func(ctx context.Context) error {
		if err := k.setRoute(ctx, s, preview, previewed); err != nil {
			err = fmt.Errorf("change the traffic of %s: %w", k.name, err)
			k.hindered(ctx, err)
			return err
		}
		return nil
	}, func(ctx context.Context) {
		k.polled = k.now() // a look at the counters from before would not do
		if coin {
			k.beginCoin(k.now())
		}
		k.rec.Preview = len(preview.Arms) > 0
		k.apply(ctx, rollout.Event{Kind: rollout.InForce, Route: number})
	})
}

// hindered tells the machine why the traffic cannot be changed. What the edge
// refuses as wrong, or because its port is another's, it will refuse again:
// there the rollout turns round at once.
func (k *keeper) hindered(ctx context.Context, err error) {
	k.post(ctx, func(ctx context.Context) {
		k.apply(ctx, rollout.Event{Kind: rollout.Hindered, Reason: err.Error()})
		if fault.Is(err, fault.Invalid) || fault.Is(err, fault.Conflict) {
			k.apply(ctx, rollout.Event{Kind: rollout.RollBack, Reason: err.Error()})
		}
	})
}

// reassert puts the route in force again that an edge may have forgotten.
func (k *keeper) reassert(ctx context.Context) {
	if state := k.rec.State; state.Route == 0 || state.Route != state.InForce {
		return // nothing was ever in force, or shift is outstanding
	}
	s, preview, err := k.route(ctx)
	if err != nil {
		k.broken = err
		return
	}
	previewed := k.previews(ctx, preview)
	// Named like shift: the two must not overtake one another.
	k.begin(ctx, "shift", func(ctx context.Context) error {
		if err := k.setRoute(ctx, s, preview, previewed); err != nil {
			return fmt.Errorf("put the route of %s in force again: %w", k.name, err)
		}
		return nil
	}, func(context.Context) {})
}

// poll looks at the edge's counters for who has drained.
func (k *keeper) poll(ctx context.Context) {
	if k.busy["poll"] {
		return
	}
	k.polled = k.now()
	route := k.rec.State.InForce
	var seen edge.Stats
	k.begin(ctx, "poll", func(ctx context.Context) error {
		var err error
		if seen, err = k.c.edge.Stats(ctx); err != nil {
			return fmt.Errorf("read the edge's counters: %w", err)
		}
		return nil
	}, func(ctx context.Context) {
		if state := k.rec.State; state.InForce != route || state.Route != route {
			return // the traffic changed meanwhile
		}
		for _, c := range rollout.Commands(k.rec.State) {
			if slot := k.rec.slot(c.Member); c.Kind == rollout.Drain && (slot == nil || seen.InFlight[slot.Instance.ID] == 0) {
				k.apply(ctx, rollout.Event{Kind: rollout.Drained, Member: c.Member})
			}
		}
	})
}

// verify asks every instance of the old version, and the edge about them.
func (k *keeper) verify(ctx context.Context) {
	old := k.rec.State.Plan.Old.Release
	var instances []Instance
	for _, p := range k.rec.State.Places {
		if slot := k.rec.slot(p.Member); slot != nil && p.Release == old {
			instances = append(instances, slot.Instance)
		}
	}
	k.begin(ctx, "verify", func(ctx context.Context) error {
		err := k.answers(ctx, old, instances)
		if err != nil {
			k.post(ctx, func(ctx context.Context) {
				k.apply(ctx, rollout.Event{Kind: rollout.Hindered, Reason: err.Error()})
			})
		}
		return err
	}, func(ctx context.Context) {
		k.apply(ctx, rollout.Event{Kind: rollout.Verified})
	})
}

// answers says why instances of a release do not answer, or not at the edge, nil
// if they do.
func (k *keeper) answers(ctx context.Context, release string, instances []Instance) error {
	r, err := k.c.release(ctx, k.name, release)
	if err != nil {
		return err
	}
	for _, i := range instances {
		if err := k.c.probe(ctx, i.Address, r.Service); err != nil {
			return fmt.Errorf("ask instance %s of %s: %w", i.ID, release, err)
		}
	}
	seen, err := k.c.edge.Stats(ctx)
	if err != nil {
		return fmt.Errorf("ask the edge about %s: %w", release, err)
	}
	for _, i := range instances {
		if why, ok := seen.Unhealthy[i.ID]; ok {
			return fault.New(fault.Unavailable, "the edge finds instance %s of %s unhealthy: %s", i.ID, release, why)
		}
	}
	return nil
}
