package release

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

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
	if k.rec.Removing || !k.rec.idle() && (k.rec.ByHand || k.rec.State.Plan.New.Release == "") {
		return want, k.underWay()
	}
	if r, is := k.wantedAlready(all, want); is {
		return k.scaled(ctx, r, want)
	}
	alarms, err := k.c.alarms(ctx, want.Service)
	if err != nil {
		return want, err
	}
	k.rec.Releases++
	want.Number = k.rec.Releases
	want.ID = releaseID(k.name, want.Number)
	want.Environment, want.Created, want.Status = k.c.environment, k.now(), RollingOut
	if !k.rec.idle() {
		return want, k.replace(ctx, want)
	}
	return want, k.rollOut(ctx, want, alarms)
}

// wantedAlready finds the release that is what is wanted among those that are
// live or on their way to be.
func (k *keeper) wantedAlready(all []Release, want Release) (Release, bool) {
	id := k.rec.State.Live().Release
	if !k.rec.idle() {
		if !k.rec.State.Phase.Forward() {
			return Release{}, false
		}
		id = k.rec.State.Plan.New.Release
	}
	for _, r := range all {
		if r.ID == id && r.Artifact.Digest == want.Artifact.Digest && r.Service.sameShape(want.Service) && maps.Equal(r.Config, want.Config) {
			return r, k.rec.idle() && k.scales() || r.Service.Instances == want.Service.Instances
		}
	}
	return Release{}, false
}

// scales says whether the live version can have more or fewer instances as it is.
func (k *keeper) scales() bool {
	phase := k.rec.State.Phase
	return phase == rollout.Promoted || phase == rollout.RolledBack
}

// scaled gives a release that is live, or will be, the number of instances that
// is wanted. Those that stay are left alone.
func (k *keeper) scaled(ctx context.Context, r, want Release) (Release, error) {
	from, to := k.rec.State.Live().Instances, want.Service.Instances
	if !k.rec.idle() || from == to {
		r.Reason = fmt.Sprintf("nothing to do: %s with the same artifact and configuration is %s", r.ID, map[bool]string{true: "live", false: "on its way"}[k.rec.idle()])
		k.tell(r.ID, EventRelease, r.Reason)
		return r, nil
	}
	r.Service = want.Service
	if err := k.c.releases.Put(ctx, k.c.releaseKey(k.name, r.Number), r); err != nil {
		return r, fmt.Errorf("store release %s: %w", r.ID, err)
	}
	k.apply(ctx, rollout.Event{Kind: rollout.Scale, Instances: to})
	r.Reason = fmt.Sprintf("scaled from %d to %d instances", from, to)
	k.tell(r.ID, EventRelease, r.ID+" is "+r.Reason)
	return r, k.broken
}

// rollOut begins the rollout to a new release.
func (k *keeper) rollOut(ctx context.Context, to Release, alarms []alarmRecord) error {
	k.rec.ByHand = false
	version := rollout.Version{Release: to.ID, Instances: to.Service.Instances}
	return k.roll(ctx, to.Service.Strategy.Plan(k.rec.State.Live(), version), to, alarms...)
}

// replacedBy begins the reason of a release that gave way to a newer one.
const replacedBy = "replaced by "

// replace turns the rollout under way round, to begin another when it has ended.
// What was to come next does not come.
func (k *keeper) replace(ctx context.Context, next Release) error {
	if _, err := k.dropNext(ctx, func(Release) bool { return true }, replacedBy+next.ID+" before it began"); err != nil {
		return err
	}
	next.Reason = fmt.Sprintf("waits until %s is taken back", k.rec.State.Plan.New.Release)
	op, err := k.c.releases.PutOp(k.c.releaseKey(k.name, next.Number), next, record.Any)
	if err != nil {
		return err
	}
	k.rec.Next = next.ID
	k.tell(next.ID, EventRelease, next.ID+" "+next.Reason)
	before := k.rec.State
	k.rec.State = rollout.Next(before, rollout.Event{Kind: rollout.RollBack, At: k.now(), Reason: replacedBy + next.ID})
	k.commit(ctx, before, op)
	return k.broken
}

// dropNext ends the release that was to come next, if there is one and it is
// the one meant.
func (k *keeper) dropNext(ctx context.Context, meant func(Release) bool, why string) (dropped bool, err error) {
	if k.rec.Next == "" {
		return false, nil
	}
	r, err := k.c.release(ctx, k.name, k.rec.Next)
	if err != nil || !meant(r) {
		return false, err
	}
	r.Status, r.Reason = RolledBack, why
	op, err := k.c.releases.PutOp(k.c.releaseKey(k.name, r.Number), r, record.Any)
	if err != nil {
		return false, err
	}
	k.rec.Next = ""
	return true, k.save(ctx, op)
}

// beginNext begins the rollout that waited for the one before to be taken back.
func (k *keeper) beginNext(ctx context.Context) {
	if k.rec.Next == "" || !k.rec.idle() || k.rec.Removing {
		return
	}
	r, err := k.c.release(ctx, k.name, k.rec.Next)
	var alarms []alarmRecord
	if err == nil {
		if alarms, err = k.c.alarms(ctx, r.Service); fault.Is(err, fault.NotFound) {
			err = nil // heed tells of it
		}
	}
	if err == nil {
		k.rec.Next = ""
		err = k.rollOut(ctx, r, alarms)
	}
	if err != nil {
		k.broken = err
	}
}

// steer gives a person's wish to the rollout under way. It runs on the loop.
func (k *keeper) steer(ctx context.Context, wish Wish) error {
	state := k.rec.State
	switch {
	case k.rec.idle() || !state.Phase.Forward() || state.Plan.New.Release == "":
		return k.noRollout()
	case wish == WishPause && state.Last():
		return fault.New(fault.Conflict, "%s is at its last step, which cannot be paused: %s", state.Plan.New.Release, state.Reason).
			WithHint("stop it with `makeitso rollout abort %s`", k.name)
	case wish == WishResume && state.Paused.IsZero():
		return fault.New(fault.Conflict, "%s is not paused: %s", state.Plan.New.Release, state.Reason)
	}
	k.apply(ctx, rollout.Event{Kind: rollout.EventKind(wish)})
	return k.broken
}

func (k *keeper) noRollout() error {
	return fault.New(fault.Conflict, "no release of %s is being rolled out", k.name).WithHint("`makeitso status` says how it stands")
}

// roll begins a rollout to a release, which is stored with it, watched by alarms.
func (k *keeper) roll(ctx context.Context, plan rollout.Plan, to Release, alarms ...alarmRecord) error {
	plan.Limits = k.c.o.Limits
	before := k.rec.State
	state, err := rollout.Begin(before, plan, k.now())
	if err != nil {
		return fault.Wrap(fault.Conflict, err, "service %s is not ready for a rollout", k.name).WithHint("try again in a moment")
	}
	k.rec.State, k.rec.Evidence, k.rec.Alarms, k.test, k.goal = state, nil, alarms, nil, nil
	var ops []record.Op
	if to.ID != "" {
		to.Status, to.Reason = RollingOut, joined(state.Reason, k.rec.alarmNote())
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
	if note := k.rec.alarmNote(); note != "" {
		k.tell(to.ID, EventRollout, note)
	}
	return nil
}

func (k *keeper) underWay() error {
	return fault.New(fault.Conflict, "a rollout of %s is under way: %s", k.name, k.rec.State.Reason).
		WithHint("wait for its end, or stop it with `makeitso rollback %s`", k.name)
}

// rollback begins the way to an earlier release. It gives the release whose
// rollout decides, and the one that is to be live; moving is empty if that is so
// already. It runs on the loop.
func (k *keeper) rollback(ctx context.Context, want Return) (moving, target Release, err error) {
	state := k.rec.State
	if !k.rec.idle() {
		if want.To != "" && want.To != state.Plan.Old.Release || state.Plan.New.Release == "" {
			return moving, target, k.underWay()
		}
		if _, err := k.dropNext(ctx, func(Release) bool { return true }, "stopped "+byHand(want.By)); err != nil {
			return moving, target, err
		}
		return k.abandon(ctx, want.By)
	}
	if want.Only {
		return moving, target, k.noRollout()
	}
	live := state.Live()
	if target, err = k.target(ctx, live.Release, want.To); err != nil || target.ID == live.Release {
		return moving, target, err
	}
	passed, err := k.passes(ctx, target, want.Force)
	if err != nil {
		return moving, target, err
	}
	k.rec.ByHand, k.rec.By = true, want.By
	plan := rollout.AllAtOnce(live, rollout.Version{Release: target.ID, Instances: target.Service.Instances})
	if err := k.roll(ctx, plan, target); err != nil || passed == "" {
		return target, target, err
	}
	k.apply(ctx, rollout.Event{Kind: rollout.Remark, Reason: passed})
	return target, target, k.broken
}

// passes says which migrations a return to a release leaves behind. One that
// cannot be taken back forbids it, unless it is forced.
func (k *keeper) passes(ctx context.Context, target Release, force bool) (string, error) {
	all, err := k.c.Releases(ctx, k.name)
	if err != nil {
		return "", err
	}
	var texts []string
	for _, r := range all {
		if r.Number <= target.Number {
			break
		}
		for _, m := range r.Artifact.Migrations {
			if !m.Reversible && !force {
				return "", fault.New(fault.Conflict, "%s came with the migration %s, which is forward-only: %s may not work with the data as it is", r.ID, m.Name, target.ID).
					WithHint("correct the fault and release forward, or go back all the same: makeitso rollback %s --to %s --force", k.name, target.ID)
			}
			texts = append(texts, fmt.Sprintf("the migration %s of %s", m, r.ID))
		}
	}
	return strings.Join(texts, "; "), nil
}

// abandon turns the rollout under way round, as a person wants it.
func (k *keeper) abandon(ctx context.Context, by string) (moving, target Release, err error) {
	plan := k.rec.State.Plan
	if moving, err = k.c.release(ctx, k.name, plan.New.Release); err != nil {
		return moving, target, err
	}
	if plan.Old.Release != "" {
		if target, err = k.c.release(ctx, k.name, plan.Old.Release); err != nil {
			return moving, target, err
		}
	}
	k.apply(ctx, rollout.Event{Kind: rollout.RollBack, Reason: "stopped " + byHand(by)})
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
	return Release{}, fault.New(fault.NotFound, "service %s has no earlier release that was live and did not go back", k.name).
		WithHint("`makeitso releases %s` lists them; name one with --to", k.name)
}

// remove has the service taken away. It runs on the loop.
func (k *keeper) remove(ctx context.Context) error {
	state := k.rec.State
	if k.rec.removed() {
		return nil
	}
	if _, err := k.dropNext(ctx, func(Release) bool { return true }, "the service is removed"); err != nil {
		return err
	}
	k.rec.Removing = true
	switch {
	case k.rec.idle() && state.Live().Release != "":
		return k.takeAway(ctx)
	case !k.rec.idle() && state.Plan.New.Release != "": // takeAway follows when that has ended
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
	if state := k.rec.State; !k.rec.removed() && state.Live().Release == "" { // its first release failed
		k.rec.State = rollout.State{Route: state.Route, InForce: state.InForce}
		k.rec.allocate(k.c.environment)
	}
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
			r.Status, r.Reason = k.newStatus(r)
			r.Lack = state.Lack
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
func (k *keeper) newStatus(r Release) (ReleaseStatus, string) {
	state := k.rec.State
	switch state.Phase {
	case rollout.Promoted:
		return Live, joined(k.sensitivity(), state.Remark, k.rec.alarmNote())
	case rollout.RolledBack:
		return RolledBack, joined(state.Reason, r.leftBehind())
	case rollout.RollbackFailed:
		return RollbackFailed, joined(state.Reason, r.leftBehind())
	case rollout.Failed:
		return Failed, state.Reason
	case rollout.Restoring, rollout.Verifying:
		return RollingBack, state.Cause + "; " + state.Reason
	}
	return RollingOut, joined(state.Reason, k.rec.alarmNote())
}

// leftBehind says which migrations of a release stay when it is given up.
func (r Release) leftBehind() string {
	var texts []string
	for _, m := range r.Artifact.Migrations {
		texts = append(texts, fmt.Sprintf("the migration %s", m))
	}
	return strings.Join(texts, "; ")
}

// joined puts together what is said of a release.
func joined(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), "; ")
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
		return RolledBack, "returned to " + next + " " + byHand(k.rec.By)
	}
	return Superseded, replacedBy + next
}
