package release

import (
	"context"
	"fmt"
	"maps"

	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/rollout"
)

// release begins a rollout to what is wanted, or finds the one begun before
// with its key, or finds that it is live already. It runs on the loop.
func (k *keeper) release(ctx context.Context, want Release) (Release, error) {
	all, err := k.c.Releases(ctx, k.name)
	if err != nil {
		return want, err
	}
	for _, r := range all {
		if want.Key != "" && r.Key == want.Key {
			return r, nil
		}
	}
	if !k.rec.idle() || k.rec.Removing {
		return want, k.underWay()
	}
	live := k.rec.State.Live()
	for _, r := range all {
		if r.ID == live.Release && r.Artifact.Digest == want.Artifact.Digest && r.Service.sameShape(want.Service) && maps.Equal(r.Config, want.Config) {
			r.Reason = fmt.Sprintf("nothing to do: %s with the same artifact and configuration is live", r.ID)
			k.tell(r.ID, EventRelease, r.Reason)
			return r, nil
		}
	}
	k.rec.Releases++
	want.Number = k.rec.Releases
	want.ID = releaseID(k.name, want.Number)
	want.Environment, want.Created, want.Status = k.c.environment, k.now(), RollingOut
	k.rec.ByHand = false
	plan := rollout.Rolling(live, rollout.Version{Release: want.ID, Instances: want.Service.Instances})
	if len(want.Service.Canary) > 0 {
		plan = rollout.Canary(plan.Old, plan.New, want.Service.Canary, want.Service.Watch)
	}
	return want, k.roll(ctx, plan, want)
}

// roll begins a rollout to a release, which is stored with it.
func (k *keeper) roll(ctx context.Context, plan rollout.Plan, to Release) error {
	plan.Limits = k.c.o.Limits
	before := k.rec.State
	state, err := rollout.Begin(before, plan, k.now())
	if err != nil {
		return fault.Wrap(fault.Conflict, err, "service %s is not ready for a rollout", k.name).WithHint("try again in a moment")
	}
	k.rec.State, k.rec.Evidence = state, nil
	var ops []record.Op
	if to.ID != "" {
		to.Status, to.Reason = RollingOut, state.Reason
		op, err := k.c.releases.PutOp(k.c.releaseKey(k.name, to.Number), to, record.Any)
		if err != nil {
			return err
		}
		ops = append(ops, op)
		k.tell(to.ID, EventRelease, fmt.Sprintf("%s begins: image %.19s", to.ID, to.Artifact.Digest))
	}
	k.rec.allocate(k.c.environment)
	if err := k.save(ctx, ops...); err != nil {
		k.broken = err
		return err
	}
	k.report(before)
	return nil
}

func (k *keeper) underWay() error {
	return fault.New(fault.Conflict, "a rollout of %s is under way: %s", k.name, k.rec.State.Reason).
		WithHint("wait for its end, or stop it with `makeitso rollback %s`", k.name)
}

// rollback begins the way to an earlier release. It gives the release whose
// rollout decides, and the one that is to be live; moving is empty if that is so
// already. It runs on the loop.
func (k *keeper) rollback(ctx context.Context, to string) (moving, target Release, err error) {
	state := k.rec.State
	if !k.rec.idle() {
		if to != "" && to != state.Plan.Old.Release || state.Plan.New.Release == "" {
			return moving, target, k.underWay()
		}
		return k.abandon(ctx)
	}
	live := state.Live()
	if target, err = k.target(ctx, live.Release, to); err != nil || target.ID == live.Release {
		return moving, target, err
	}
	k.rec.ByHand = true
	plan := rollout.AllAtOnce(live, rollout.Version{Release: target.ID, Instances: target.Service.Instances})
	return target, target, k.roll(ctx, plan, target)
}

// abandon turns the rollout under way round.
func (k *keeper) abandon(ctx context.Context) (moving, target Release, err error) {
	plan := k.rec.State.Plan
	if moving, err = k.c.release(ctx, k.name, plan.New.Release); err != nil {
		return moving, target, err
	}
	if plan.Old.Release != "" {
		if target, err = k.c.release(ctx, k.name, plan.Old.Release); err != nil {
			return moving, target, err
		}
	}
	k.apply(ctx, rollout.Event{Kind: rollout.RollBack, Reason: "stopped by hand"})
	return moving, target, k.broken
}

// target is the release to return to: the one named, or the last that was live
// before the live one.
func (k *keeper) target(ctx context.Context, live, to string) (Release, error) {
	if to != "" {
		return k.c.release(ctx, k.name, to)
	}
	all, err := k.c.Releases(ctx, k.name)
	if err != nil {
		return Release{}, err
	}
	seen := live == ""
	for _, r := range all {
		if seen && r.Status == Superseded {
			return r, nil
		}
		seen = seen || r.ID == live
	}
	return Release{}, fault.New(fault.NotFound, "service %s has no earlier release that was live", k.name).
		WithHint("`makeitso releases %s` lists them; name one with --to", k.name)
}

// remove has the service taken away. It runs on the loop.
func (k *keeper) remove(ctx context.Context) error {
	state := k.rec.State
	if k.rec.idle() && state.Live().Release == "" {
		return nil
	}
	k.rec.Removing = true
	switch {
	case k.rec.idle():
		return k.takeAway(ctx)
	case state.Plan.New.Release != "": // takeAway follows when that has ended
		k.apply(ctx, rollout.Event{Kind: rollout.RollBack, Reason: "the service is removed"})
	}
	k.saveOrBreak(ctx)
	return k.broken
}

// takeAway begins the rollout to nothing.
func (k *keeper) takeAway(ctx context.Context) error {
	k.rec.ByHand = false
	return k.roll(ctx, rollout.AllAtOnce(k.rec.State.Live(), rollout.Version{}), Release{})
}

// goOnRemoving takes the next step of a removal, if there is one.
func (k *keeper) goOnRemoving(ctx context.Context) {
	if !k.rec.Removing || !k.rec.idle() {
		return
	}
	if state := k.rec.State; state.Plan.New.Release != "" && state.Live().Release != "" {
		if err := k.takeAway(ctx); err != nil {
			k.broken = err
		}
		return
	}
	k.rec.Removing = false
	k.saveOrBreak(ctx)
}

// releaseOps brings the stored releases of a rollout up to its state.
func (k *keeper) releaseOps(ctx context.Context) ([]record.Op, error) {
	state := k.rec.State
	traffic := map[string]float64{}
	for _, a := range state.Arms() {
		traffic[a.Release] = a.Weight
	}
	var ops []record.Op
	for _, v := range []rollout.Version{state.Plan.New, state.Plan.Old} {
		if v.Release == "" {
			continue
		}
		r, err := k.c.release(ctx, k.name, v.Release)
		if err != nil {
			return nil, err
		}
		was := r
		if state.Route == state.InForce {
			r.Traffic = traffic[r.ID]
		}
		if v == state.Plan.New {
			r.Status, r.Reason = k.newStatus()
		} else {
			r.Status, r.Reason = k.oldStatus(r)
		}
		if r.Status == was.Status && r.Reason == was.Reason && r.Traffic == was.Traffic {
			continue
		}
		op, err := k.c.releases.PutOp(k.c.releaseKey(k.name, r.Number), r, record.Any)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// newStatus is where the release being rolled out stands.
func (k *keeper) newStatus() (ReleaseStatus, string) {
	state := k.rec.State
	switch state.Phase {
	case rollout.Promoted:
		return Live, k.sensitivity()
	case rollout.RolledBack:
		return RolledBack, state.Reason
	case rollout.RollbackFailed:
		return RollbackFailed, state.Reason
	case rollout.Failed:
		return Failed, state.Reason
	case rollout.Restoring, rollout.Verifying:
		return RollingBack, state.Cause + "; " + state.Reason
	}
	return RollingOut, state.Reason
}

// oldStatus is where the release before it stands.
func (k *keeper) oldStatus(r Release) (ReleaseStatus, string) {
	next := k.rec.State.Plan.New.Release
	switch {
	case k.rec.State.Phase != rollout.Promoted:
		return Live, r.Reason
	case next == "":
		return Superseded, "the service was removed"
	case k.rec.ByHand:
		return RolledBack, "returned to " + next + " by hand"
	}
	return Superseded, "replaced by " + next
}
