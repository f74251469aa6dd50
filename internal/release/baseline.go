package release

import (
	"context"
	"fmt"

	"makeitso/internal/analysis"
	"makeitso/internal/rollout"
)

// condemn acts on a verdict against the new version. Where it rests on a
// comparison with an old version that is itself unwell, that is no reason to go
// back to it: then it is only remarked, and condemn answers false.
func (k *keeper) condemn(ctx context.Context, e analysis.Explanation) bool {
	unwell := k.unwell()
	if unwell == "" || e.Verdict == analysis.Ceiling || e.Options.Absolute != "" {
		reason := e.String()
		if e.Options.Absolute != "" {
			reason += "; it was compared with nothing, since " + e.Options.Absolute
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
