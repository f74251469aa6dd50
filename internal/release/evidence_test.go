package release

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/edge"
	"makeitso/internal/edge/outcome"
	"makeitso/internal/fault"
	"makeitso/internal/rollout"
)

// ask asks the service so often, one request after another.
func (w *world) ask(times int) {
	w.t.Helper()
	for range times {
		w.get()
	}
}

// weighed is what the stored evidence has seen of both arms.
func (l *life) weighed() (canary, old analysis.Arm) {
	l.t.Helper()
	rec, err := l.known(within(l.t), "api")
	if err != nil {
		l.t.Fatal(err)
	}
	if rec.Evidence == nil {
		return canary, old
	}
	seen := rec.Evidence.Test.Seen()
	return seen.Canary(), seen.Old()
}

func (w *world) canaryShown() {
	w.t.Helper()
	eventually(w.t, "a canary behind the edge", func() bool { s, _ := w.edge.routed(); return len(s.Arms) == 2 })
}

// Whenever a controller dies, and whatever comes while none lives, each request
// that drew the coin is weighed exactly once.
func TestEachOutcomeIsWeighedOnceThroughCrashes(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(canary(time.Hour), "one", "run-1")
	go func() {
		_, _ = c.Release(context.Background(), canary(time.Hour), Artifact{Digest: "two"}, nil, "run-2")
	}()
	w.canaryShown()
	before := w.edge.seen("api-1").Requests
	for round := range 3 {
		store := &mortal{Store: w.store, left: round, died: make(chan struct{})}
		c.stop()
		c = w.live(store, quick(w))
		w.ask(20)
		<-store.died
		c.stop()
		w.ask(20) // nobody looks
		c = w.live(w.store, quick(w))
		w.ask(20)
	}
	c.stop()
	c = w.live(w.store, quick(w))
	// Deciding stores the rest: nothing but this is waited for.
	c.awaitWeighed(w, before)
}

// awaitWeighed waits until the stored evidence has each request once: the canary's
// all, and the old arm's but the first so many.
func (l *life) awaitWeighed(w *world, before int64) {
	l.t.Helper()
	eventually(l.t, "all to be weighed", func() bool {
		canary, old := l.weighed()
		return canary.Requests == w.edge.seen("api-2").Requests && old.Requests == w.edge.seen("api-1").Requests-before
	})
	if canary, _ := l.weighed(); canary.Requests == 0 {
		l.t.Error("the canary was never asked")
	}
}

// The verdict falls with the outcome that brings it, not at a later look.
func TestVerdictFallsAtOnce(t *testing.T) {
	w := newWorld(t)
	o := quick(w)
	o.Poll, o.Limits.Drain = time.Hour, 10*time.Millisecond
	c := w.live(w.store, o)
	c.mustRelease(canary(time.Hour), "one", "run-1")
	ended := c.releasing(canary(time.Hour), "broken", "run-2")
	w.canaryShown()
	w.load(500 * time.Microsecond)
	if err := <-ended; !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "was rolled back: 5xx: canary ") {
		t.Errorf("got %v", err)
	}
}

// Outcomes that an edge has lost are told of; those that follow count.
func TestGapIsTold(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(canary(time.Hour), "one", "run-1")
	ended := c.releasing(canary(time.Hour), "broken", "run-2")
	w.canaryShown()
	eventually(t, "the outcomes to be followed", func() bool { rec, err := c.known(within(t), "api"); return err == nil && rec.Evidence != nil })
	c.stop()
	w.edge.forget()
	w.ask(5)
	c = w.live(w.store, quick(w))
	w.load(500 * time.Microsecond)
	eventually(t, "the rollback", func() bool {
		all, err := c.Releases(within(t), "api")
		return err == nil && all[0].Status == RolledBack
	})
	if text := w.events.text(); !strings.Contains(text, "trouble: the edge has lost outcomes of api before they were weighed; the others count") {
		t.Errorf("told:\n%s", text)
	}
	<-ended
}

// Without a verdict, a canary that is to be held stays at its last watched step
// until somebody decides, once.
func TestHeldWithoutAVerdict(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(canary(time.Millisecond), "one", "run-1")
	held := canary(30 * time.Millisecond)
	held.Judge.Hold = true
	ended := c.releasing(held, "two", "run-2")
	var status RolloutStatus
	eventually(t, "a pause", func() bool {
		all, err := c.Services(within(t))
		if err != nil || all[0].Rollout == nil {
			return false
		}
		status = *all[0].Rollout
		return status.Paused
	})
	if want := "held without a verdict: no data: the canary had 0 requests: too little traffic for a judgement"; !strings.Contains(status.Reason, want) || status.Step != status.Steps-1 {
		t.Errorf("at step %d of %d: %s", status.Step, status.Steps, status.Reason)
	}
	c.stop() // it stays so through a restart
	c = w.live(w.store, quick(w))
	if s, err := c.Steer(within(t), "api", WishResume); err != nil || s.Paused {
		t.Fatalf("resumed: %+v, %v", s, err)
	}
	eventually(t, "the promotion", func() bool {
		all, err := c.Releases(within(t), "api")
		return err == nil && all[0].Status == Live
	})
	<-ended
}

// Requests that are not shared out by the configured coin give no verdict, and
// nothing is promoted without a person.
func TestWrongSplitIsHeld(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(canary(time.Millisecond), "one", "run-1")
	ended := c.releasing(canary(time.Hour), "two", "run-2")
	w.canaryShown()
	w.edge.skew("api-2")
	w.load(200 * time.Microsecond)
	eventually(t, "a pause", func() bool {
		all, err := c.Services(within(t))
		return err == nil && all[0].Rollout.Paused && strings.Contains(all[0].Rollout.Reason, "no judgement, since the traffic split is not what was configured")
	})
	if _, err := c.Steer(within(t), "api", WishPromote); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A step does not end before what arrived in it was weighed: here one request
// hangs until its deadline, and is bad.
func TestWatchEndsWhenAllIsWeighed(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(canary(time.Millisecond), "one", "run-1")
	ended := c.releasing(canary(50*time.Millisecond), "two", "run-2")
	w.canaryShown()
	w.edge.begin("api-2") // it never ends
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if canary, _ := c.weighed(); canary.Bad != 1 {
		t.Errorf("the canary has %+v", canary)
	}
}

// The weight of an arm and that of the other are one coin, however they are
// rounded; what draws no coin only teaches the old version's latency.
func TestObserveTakesTheCoin(t *testing.T) {
	k := &keeper{c: &Controller{o: Options{}.normalize()}}
	k.rec.State = rollout.State{Phase: rollout.Watching, Plan: rollout.Plan{Old: rollout.Version{Release: "api-1"}, New: rollout.Version{Release: "api-2"}}}
	k.rec.Evidence = &evidenceRecord{New: "api-2"}
	k.test = analysis.New(analysis.Options{})
	at := time.Unix(1000, 0)
	past := func() float64 {
		sum := 0.0
		for _, n := range k.test.State().Past {
			sum += n
		}
		return sum
	}
	k.observe(outcome.Outcome{Arm: "api-1", Weight: 1, At: at, Latency: time.Millisecond})
	if past() != 1 || len(k.test.State().Segments) != 0 {
		t.Errorf("before the coin: %+v, %v", k.test.State().Segments, past())
	}
	k.observe(outcome.Outcome{Arm: "api-1", Weight: 0.9, At: at})
	k.observe(outcome.Outcome{Arm: "api-2", Weight: 0.1, At: at, Bad: true})
	k.observe(outcome.Outcome{Arm: "api-0", Weight: 0.5, At: at})
	k.observe(outcome.Outcome{Arm: "api-1", Weight: 1, At: at, Latency: time.Millisecond})
	s := k.test.State().Segments
	if len(s) != 1 || s[0].Weight != 0.1 || fmt.Sprint(s[0].Counts.Canary(), s[0].Counts.Old()) != "1 of 1 requests (100.0 %) 0 of 1 requests (0.0 %)" || past() != 1 {
		t.Errorf("got %+v, %v", s, past())
	}
}

// A watch without requests does not repeat itself.
func TestProgressIsToldWhenThereIsSome(t *testing.T) {
	var told []string
	k := &keeper{c: &Controller{o: Options{Observe: func(e Event) { told = append(told, e.Message) }}.normalize()}}
	k.rec.State = rollout.State{Phase: rollout.Watching, Plan: rollout.Plan{Old: rollout.Version{Release: "api-1"}, New: rollout.Version{Release: "api-2"}}}
	k.rec.Evidence = &evidenceRecord{New: "api-2"}
	k.test = analysis.New(analysis.Options{})
	for range 2 {
		for range 3 {
			k.tellProgress()
		}
		k.observe(outcome.Outcome{Arm: "api-2", Weight: 0.1, At: time.Unix(1000, 0)})
	}
	if len(told) != 2 || !strings.Contains(told[0], ": 0 requests") || !strings.Contains(told[1], ": 1 requests") {
		t.Errorf("told %q", told)
	}
}

// An edge that goes away in the middle of a watch is told of at once. The watch
// neither ends nor goes back for it, also through a restart, and when the edge is
// back each request that it served meanwhile counts.
func TestEdgeGoesAwayInAWatch(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(canary(time.Hour), "one", "run-1")
	watched := canary(20 * time.Millisecond)
	watched.Judge.Hold = true // the end of the watch is to be seen
	before := w.edge.seen("api-1").Requests
	w.edge.onShift = func(s edge.Service) {
		if len(s.Arms) == 2 { // with the first coin
			w.edge.setDownLocked(true)
			w.edge.onShift = nil
		}
	}
	c.releasing(watched, "two", "run-2")
	reason := func(holds func(RolloutStatus) bool) func() bool {
		return func() bool {
			all, err := c.Services(within(t))
			return err == nil && all[0].Rollout != nil && holds(*all[0].Rollout)
		}
	}
	unseen := func(s RolloutStatus) bool {
		return s.Phase == "watching" && strings.Contains(s.Reason, "no data: no outcomes since ") && strings.Contains(s.Reason, ": the edge does not answer; the watch of api-2 at 10 % goes on when it answers")
	}
	eventually(t, "the status to say so", reason(unseen))
	if text := w.events.text(); !strings.Contains(text, "trouble: no data: no outcomes since ") {
		t.Errorf("told:\n%s", text)
	}
	w.ask(40) // it serves, and tells nothing
	c.stop()
	c = w.live(w.store, quick(w))
	eventually(t, "the status to say so still", reason(unseen))
	w.edge.setDown(false)
	eventually(t, "the end of the watch", reason(func(s RolloutStatus) bool { return s.Paused && strings.Contains(s.Reason, "held without a verdict") }))
	canary, old := c.weighed()
	if want := w.edge.seen("api-2").Requests; canary.Requests != want || old.Requests != w.edge.seen("api-1").Requests-before {
		t.Errorf("weighed are %s and %s", canary, old)
	}
	if text := w.events.text(); !strings.Contains(text, "outcomes come again after ") || strings.Contains(text, "has lost outcomes") {
		t.Errorf("told:\n%s", text)
	}
}
