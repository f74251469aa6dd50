package release

import (
	"context"
	"fmt"
	"slices"

	"makeitso/internal/analysis"
	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/rollout"
)

// route is what the edge is to do for the service in the present state; a
// service without arms is to have no route.
func (k *keeper) route(ctx context.Context) (edge.Service, error) {
	state := k.rec.State
	s := edge.Service{Name: edgeName(k.c.environment, k.name)}
	var hosts, health []string
	for _, a := range state.Arms() {
		r, err := k.c.release(ctx, k.name, a.Release)
		if err != nil {
			return s, err
		}
		if a.Weight > 0 { // who only finishes what it has is asked nothing new
			hosts = append(hosts, r.Service.Hosts...)
			health = append(health, r.Service.Health)
		}
		arm := edge.Arm{Name: a.Release, Weight: a.Weight}
		for _, m := range slices.Concat(a.Members, a.Leaving) {
			if slot := k.rec.slot(m); slot != nil && slot.Started {
				arm.Instances = append(arm.Instances, edge.Instance{
					ID: slot.Instance.ID, Address: slot.Instance.Address, Draining: slices.Contains(a.Leaving, m)})
			}
		}
		s.Arms = append(s.Arms, arm)
	}
	slices.Sort(hosts)
	s.Hosts = slices.Compact(hosts)
	// The edge asks all instances of a service the same; where two releases
	// differ in what they answer, it is left to the keeper's own checks.
	if health = slices.Compact(health); len(health) == 1 {
		s.Health = health[0]
	}
	return s, nil
}

func (k *keeper) setRoute(ctx context.Context, s edge.Service) error {
	if len(s.Arms) == 0 {
		return k.c.edge.RemoveService(ctx, s.Name)
	}
	return k.c.edge.SetService(ctx, s)
}

// shift puts the present traffic in force. Where a coin is drawn, the counters
// just after it are what the evidence counts from: a request that came before
// may have drawn by another weight.
func (k *keeper) shift(ctx context.Context, number int) {
	if k.busy["shift"] {
		return
	}
	s, err := k.route(ctx)
	if err != nil {
		k.broken = err
		return
	}
	weight, coin := k.rec.State.Coin()
	var seen edge.Stats
	k.begin(ctx, "shift", func(ctx context.Context) error {
		if err := k.setRoute(ctx, s); err != nil {
			err = fmt.Errorf("change the traffic of %s: %w", k.name, err)
			k.hindered(ctx, err)
			return err
		}
		if !coin {
			return nil
		}
		var err error
		if seen, err = k.c.edge.Stats(ctx); err != nil {
			return fmt.Errorf("read the edge's counters: %w", err)
		}
		return nil
	}, func(ctx context.Context) {
		k.polled = k.now() // a look at the counters from before would not do
		if coin {
			k.countFrom(seen, number, weight)
		}
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
	s, err := k.route(ctx)
	if err != nil {
		k.broken = err
		return
	}
	// Named like shift: the two must not overtake one another.
	k.begin(ctx, "shift", func(ctx context.Context) error {
		if err := k.setRoute(ctx, s); err != nil {
			return fmt.Errorf("put the route of %s in force again: %w", k.name, err)
		}
		return nil
	}, func(context.Context) {})
}

// rule is how this rollout's canary is judged.
func (k *keeper) rule() analysis.Options {
	o := k.c.o.Analysis
	if o.Window == 0 {
		for _, step := range k.rec.State.Plan.Steps {
			o.Window += step.Watch
		}
	}
	return o
}

// countFrom sets the counters from which evidence is gathered.
func (k *keeper) countFrom(seen edge.Stats, route int, weight float64) {
	plan := k.rec.State.Plan
	if k.rec.Evidence == nil || k.rec.Evidence.New != plan.New.Release {
		k.rec.Evidence = &evidenceRecord{New: plan.New.Release, Test: analysis.New(k.rule()).State()}
	}
	e := k.rec.Evidence
	test := analysis.Resume(e.Test)
	test.SetWeight(weight)
	test.Tick(k.now())
	e.Test, e.Route = test.State(), route
	counts := seen.Services[edgeName(k.c.environment, k.name)]
	e.NewSeen, e.OldSeen = counts[plan.New.Release], counts[plan.Old.Release]
}

// poll looks at the edge's counters: for evidence, and for who has drained.
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
		if k.outstanding(rollout.Watch) {
			k.weigh(ctx, seen)
		}
		for _, c := range rollout.Commands(k.rec.State) {
			if slot := k.rec.slot(c.Member); c.Kind == rollout.Drain && (slot == nil || seen.InFlight[slot.Instance.ID] == 0) {
				k.apply(ctx, rollout.Event{Kind: rollout.Drained, Member: c.Member})
			}
		}
	})
}

// weigh folds what the edge has counted since the last look, and acts on the
// verdict.
func (k *keeper) weigh(ctx context.Context, seen edge.Stats) {
	state := k.rec.State
	weight, _ := state.Coin()
	e := k.rec.Evidence
	counts := seen.Services[edgeName(k.c.environment, k.name)]
	newer, older := counts[state.Plan.New.Release], counts[state.Plan.Old.Release]
	if e == nil || e.Route != state.InForce || newer.Requests < e.NewSeen.Requests || older.Requests < e.OldSeen.Requests {
		k.countFrom(seen, state.InForce, weight) // another edge, which counts from the beginning
		return
	}
	test := analysis.Resume(e.Test)
	n, o := minus(newer, e.NewSeen), minus(older, e.OldSeen)
	test.ObserveCounts(n.Requests-n.Bad, n.Bad, o.Requests-o.Bad, o.Bad)
	explained := test.Explain()
	test.Tick(k.now())
	e.Test, e.NewSeen, e.OldSeen = test.State(), newer, older
	if explained.Verdict.Condemns() {
		k.apply(ctx, rollout.Event{Kind: rollout.RollBack, Reason: explained.String()})
		return
	}
	if k.now().Sub(k.saved) >= progressEvery {
		k.saved = k.now()
		k.saveOrBreak(ctx)
		k.tell(state.Plan.New.Release, EventWatch, fmt.Sprintf("canary %s at %s: %d requests, %d bad; evidence %.3g of %.3g",
			state.Plan.New.Release, rollout.Percent(weight), explained.Canary.Requests, explained.Canary.Bad, explained.Evidence, explained.Limit))
	}
	if due := state.Due(); !due.IsZero() && !k.now().Before(due) {
		k.apply(ctx, rollout.Event{Kind: rollout.Tick})
	}
}

func minus(a, b edge.Counts) edge.Counts {
	return edge.Counts{Requests: a.Requests - b.Requests, Bad: a.Bad - b.Bad}
}

// sensitivity says what a watch that found nothing could have found.
func (k *keeper) sensitivity() string {
	e := k.rec.Evidence
	watched := slices.ContainsFunc(k.rec.State.Plan.Steps, func(s rollout.Step) bool { return s.Watch > 0 })
	if e == nil || e.New != k.rec.State.Plan.New.Release || !watched {
		return ""
	}
	return analysis.Resume(e.Test).Explain().Sensitivity()
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
		r, err := k.c.release(ctx, k.name, old)
		if err != nil {
			return err
		}
		for _, i := range instances {
			if err := k.c.probe(ctx, i.Address, r.Service.Health); err != nil {
				return fmt.Errorf("ask instance %s of %s: %w", i.ID, old, err)
			}
		}
		seen, err := k.c.edge.Stats(ctx)
		if err != nil {
			return fmt.Errorf("ask the edge about %s: %w", old, err)
		}
		for _, i := range instances {
			if why, ok := seen.Unhealthy[i.ID]; ok {
				return fault.New(fault.Unavailable, "the edge finds instance %s of %s unhealthy: %s", i.ID, old, why)
			}
		}
		return nil
	}, func(ctx context.Context) {
		k.apply(ctx, rollout.Event{Kind: rollout.Verified})
	})
}
