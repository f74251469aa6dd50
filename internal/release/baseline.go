package release

import (
	"cmp"
	"context"
	"fmt"

	"makeitso/internal/analysis"
	"makeitso/internal/edge/outcome"
	"makeitso/internal/rollout"
)

// rule is how this rollout's canary is judged. A fix of a live release that is
// itself unhealthy goes forward: it is compared with nothing, and held against a
// limit. That is decided once, before the canary comes, and stored with the
// evidence.
func (k *keeper) rule(o analysis.Options, before []outcome.Outcome) analysis.Options {
	if o == (analysis.Options{}) {
		o = k.c.o.Analysis
	}
	o = o.During(k.rec.State.Plan.Watched())
	old := k.rec.State.Plan.Old.Release
	var served []analysis.Answered
	for _, one := range before {
		if one.Arm == old {
			served = append(served, analysis.Answered{At: one.At, Bad: one.Bad})
		}
	}
	why := cmp.Or(k.unwell(), analysis.Unhealthy(analysis.Lately(served, k.now())))
	if o.Absolute == "" && why != "" {
		o.Absolute = old + " is itself unhealthy: " + why
	}
	return o
}

// limited says that a canary is held against a limit and why, "" if it is compared.
func limited(o analysis.Options) string {
	if o.Absolute == "" {
		return ""
	}
	return fmt.Sprintf("compared with nothing, since %s; its own rate of 5xx must stay below %s", o.Absolute, rollout.Percent(o.Max5xx))
}

// condemn acts on a verdict against the new version. Where it rests on a
// comparison with an old version that is itself unwell, that is no reason to go
// back to it: then it is only remarked, and condemn answers false.
func (k *keeper) condemn(ctx context.Context, e analysis.Explanation) bool {
	unwell := k.unwell()
	if unwell == "" || e.Verdict == analysis.Ceiling || e.Options.Absolute != "" {
		reason := e.String()
		if e.Options.Absolute != "" {
			reason += "; it was " + limited(e.Options)
		}
		k.apply(ctx, rollout.Event{Kind: rollout.RollBack, Reason: reason})
		return true
	}
	if k.rec.State.Remark == "" {
		old := k.rec.State.Plan.Old.Release
		k.apply(ctx, rollout.Event{Kind: rollout.Remark, Reason: fmt.Sprintf("no way back on account of the comparison (%s), since %s is itself unhealthy: %s", e, old, unwell)})
	}
	return false
}

// unwell says why the old version is itself unhealthy, "" if it is not.
func (k *keeper) unwell() string {
	old := k.rec.State.Plan.Old.Release
	for i := range k.rec.Slots {
		if s := &k.rec.Slots[i]; s.Release == old {
			if why := s.failing(k.now(), k.c.o); why != "" {
				return why
			}
		}
	}
	return ""
}
