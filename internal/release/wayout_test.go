package release

import (
	"strings"
	"testing"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/rollout"
)

// What is proposed when a way back fails fits what it failed for.
func TestWayOutFitsTheCause(t *testing.T) {
	refused := by(rollout.Strategy{Kind: rollout.AtOnce})
	refused.Commands.After = "fail"
	for _, c := range []struct {
		name         string
		breaks       func(*world) // when all requests go to the new release
		reason, hint string
	}{
		{"the image is gone", func(w *world) { w.instances.lose("one") },
			"to become healthy, at most 1m: it cannot be started: artifact one is not stored here",
			"the release before does not come up, and makeitso goes on trying; `makeitso rollback api --to RELEASE` chooses one that comes up and whose image is still there (`makeitso releases api`)"},
		{"the edge's port is taken", func(w *world) {
			w.edge.refuse(fault.New(fault.Conflict, "the edge cannot listen on 127.0.0.1:80: the port is in use"))
		},
			"waiting for the traffic to change, at most 30s: change the traffic of api: the edge cannot listen on 127.0.0.1:80: the port is in use",
			"put right what the edge says, or why it does not answer: makeitso goes on trying, and another release would not help"},
		{"the edge is away", func(w *world) { w.edge.refuse(errEdgeDown) },
			"waiting for the traffic to change, at most 30s: change the traffic of api: the edge does not answer",
			"put right what the edge says, or why it does not answer: "},
		{"it does not answer", func(w *world) { w.edge.ill("the edge was refused") },
			"waiting for api-1 to answer, at most 700ms: the edge finds instance local.api-1.",
			"the release before has its traffic again and does not answer as it should; `makeitso rollback api --to RELEASE`"},
		{"one does not end in time", func(w *world) { w.instances.setStuck(true) },
			"to end, at most 30s", "the release before has its traffic again; makeitso goes on ending what is left of this one, see `makeitso status`"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			o := quick(w)
			o.Limits.Rollback = 700 * time.Millisecond
			o.Hooks = &fakeHooks{do: map[string]func(){"fail": func() { c.breaks(w) }}}
			l := w.live(w.store, o)
			l.mustRelease(api, "one", "run-1")
			_, err := l.Release(within(t), refused, Artifact{Digest: "two"}, nil, "run-2")
			if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "could not be rolled back: ") || !strings.Contains(err.Error(), c.reason) || !strings.HasPrefix(fault.HintOf(err), c.hint) {
				t.Errorf("got %s", fault.Text(err))
			}
		})
	}
	if old := (Release{Service: api, Status: RollbackFailed}).failure(); !strings.HasPrefix(fault.HintOf(old), "see `makeitso status`") {
		t.Errorf("of one from before: %s", fault.Text(old))
	}
}
