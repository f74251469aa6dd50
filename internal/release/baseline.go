package release

import (
	"context"
	"fmt"

	"makeitso/internal/rollout"
)

// promotes is the verdict that allows a canary's next step.
const promotes = "promote"

// condemn acts on a comparison that speaks against the new version. Where the
// old one is itself unwell that is no reason to go back to it: then it is only
// remarked, and condemn answers false.
func (k *keeper) condemn(ctx context.Context, verdict string) bool {
	unwell := k.unwell()
	if unwell == "" {
		k.apply(ctx, rollout.Event{Kind: rollout.RollBack, Reason: verdict})
		return true
	}
	if k.rec.State.Remark == "" {
		old := k.rec.State.Plan.Old.Release
		k.apply(ctx, rollout.Event{Kind: rollout.Remark, Reason: fmt.Sprintf("no way back on account of the comparison (%s), since %s is itself unhealthy: %s", verdict, old, unwell)})
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
