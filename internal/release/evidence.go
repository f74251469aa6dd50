package release

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/edge/outcome"
	"makeitso/internal/fault"
	"makeitso/internal/rollout"
	"makeitso/internal/source"
	"makeitso/internal/span"
)

// nowhere is the place of a stream that there is not yet: all of it is to come.
var nowhere = outcome.Cursor{Stream: "none"}

// judged says whether both versions share requests by a coin at some step of
// the rollout under way.
func (k *keeper) judged() bool {
	plan := k.rec.State.Plan
	return k.rec.State.Phase.Forward() && plan.Old.Release != "" && plan.New.Release != "" &&
		slices.ContainsFunc(plan.Steps, func(s rollout.Step) bool { return s.Share > 0 && s.Share < 1 })
}

// watched says whether a step is watched whose requests draw by the coin.
func (k *keeper) watched() bool {
	return k.rec.State.Phase == rollout.Watching && k.outstanding(rollout.Watch) && k.evidence() != nil
}

// evidence is what was learned of the new version, nil if nothing was.
func (k *keeper) evidence() *evidenceRecord {
	if e := k.rec.Evidence; e != nil && e.New == k.rec.State.Plan.New.Release {
		return e
	}
	return nil
}

// judgement is the test of the evidence.
func (k *keeper) judgement() *analysis.Test {
	if k.test == nil {
		k.test = analysis.Resume(k.rec.Evidence.Test)
	}
	return k.test
}

// weigh has the new version judged: it follows the outcomes of requests from
// before the first coin on, tells of what was learned, and ends watches.
func (k *keeper) weigh(ctx context.Context) {
	switch {
	case !k.judged():
		k.followNone()
		return
	case k.evidence() == nil:
		k.beginEvidence(ctx)
		return
	}
	if k.evidence().Source.Edge() {
		k.follow(ctx)
	} else {
		k.readSource(ctx)
	}
	if !k.watched() {
		return
	}
	if k.looked.Sub(k.saved) >= progressEvery && k.rec.State.Unseen.Since.IsZero() {
		k.judgement().Tick(k.looked)
		if k.conclude(ctx); k.broken != nil || !k.watched() {
			return
		}
		k.saved = k.looked
		k.saveOrBreak(ctx)
		k.tellProgress()
	}
	k.endWatch(ctx)
}

// beginEvidence notes the place from which outcomes count, and what the edge
// counted of the live release before, whatever the source: those were clients.
func (k *keeper) beginEvidence(ctx context.Context) {
	release := k.rec.State.Plan.New.Release
	arms := k.arms()
	var at outcome.Cursor
	var before []outcome.Outcome
	var judge Judge
	var read source.Reading
	var unread error
	k.begin(ctx, "find the outcomes for "+release, func(ctx context.Context) error {
		r, err := k.c.release(ctx, k.name, release)
		if err != nil {
			return err
		}
		judge = r.Service.Judge
		service := edgeName(k.c.environment, k.name)
		if at, err = k.c.edge.place(ctx, service); err == nil {
			before, err = k.c.edge.before(ctx, service, at)
		} else if fault.Is(err, fault.NotFound) {
			at, err = nowhere, nil
		}
		if err != nil {
			err = fmt.Errorf("ask the edge for the outcomes of %s: %w", k.name, err)
			k.post(ctx, func(context.Context) { k.unplaced = err })
			return err
		}
		if !judge.Source.Edge() {
			read, unread = k.readOnce(ctx, judge.Source, arms, source.Position{}, false)
		}
		return ctx.Err()
	}, func(ctx context.Context) {
		k.unplaced = nil
		if release != k.rec.State.Plan.New.Release || !k.judged() {
			return
		}
		k.test = analysis.New(k.rule(judge.Options, before))
		e := &evidenceRecord{New: release, Cursor: at, Source: judge.Source, Place: read.Position, Tally: read.Tally, Hold: judge.Hold}
		k.rec.Evidence, k.read = e, k.looked
		k.saveOrBreak(ctx)
		if why := limited(k.test.State().Options); why != "" {
			k.tell(release, EventWatch, release+" is "+why)
		}
		if !e.Source.Edge() {
			k.tell(release, EventWatch, fmt.Sprintf("%s is judged by %s: %s", release, e.Source, k.judgement().Explain().Guarantee()))
			k.unreadable(unread)
		}
	})
}

// follow has the outcomes told to the loop as they come.
func (k *keeper) follow(ctx context.Context) {
	e := k.evidence()
	name := "follow the outcomes for " + e.New
	if k.follows != name {
		k.followNone()
	}
	if k.busy[name] || k.looked.Before(k.retries[name].at) || k.judgement().Ended() {
		return
	}
	following, cancel := context.WithCancel(ctx)
	k.follows, k.unfollow = name, cancel
	release, from := e.New, e.Cursor
	k.begin(ctx, name, func(ctx context.Context) error {
		defer cancel()
		err := k.c.edge.Watch(following, edgeName(k.c.environment, k.name), from, func(b outcome.Batch) error {
			k.post(following, func(ctx context.Context) { k.fold(ctx, release, b) })
			return nil
		})
		if following.Err() != nil {
			return nil // nobody wants more
		}
		k.post(ctx, func(ctx context.Context) { k.see(ctx, release, err.Error()) })
		return fmt.Errorf("follow the outcomes of %s: %w", k.name, err)
	}, func(context.Context) {})
}

// see notes whether outcomes come, or why they do not ("" if they do). That they
// do not is neither good nor bad: a watch waits until they come again.
func (k *keeper) see(ctx context.Context, release, away string) {
	since := k.rec.State.Unseen.Since
	if (away == "") == since.IsZero() || k.rec.State.Plan.New.Release != release || !k.judged() {
		return
	}
	if away != "" {
		k.apply(ctx, rollout.Event{Kind: rollout.Blind, Reason: away})
		k.tell(release, EventTrouble, k.rec.State.Unseen.String())
		return
	}
	k.apply(ctx, rollout.Event{Kind: rollout.Seeing})
	k.tell(release, EventRollout, fmt.Sprintf("outcomes come again after %s: %s", span.Text(k.now().Sub(since).Round(time.Second/10)), k.rec.State.Reason))
}

// followNone has no more outcomes told.
func (k *keeper) followNone() {
	k.unfollow()
	k.follows = ""
}

// fold learns from outcomes and acts at once on what they say.
func (k *keeper) fold(ctx context.Context, release string, b outcome.Batch) {
	e := k.evidence()
	if e == nil || e.New != release || !k.judged() {
		return
	}
	if k.see(ctx, release, b.Away); b.Away != "" || k.broken != nil {
		return
	}
	if b.Gap && e.Cursor != nowhere {
		e.Gaps++
		e.Lost += b.Lost
		k.tell(release, EventTrouble, "the edge has lost outcomes of "+k.name+" before they were weighed"+lostText(b.Lost)+"; the others count")
	}
	for _, o := range b.Outcomes {
		k.observe(o)
	}
	e.Cursor = b.Cursor
	if k.conclude(ctx); k.broken == nil && k.watched() {
		k.endWatch(ctx)
	}
}

func lostText(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d)", n)
}

// observe folds one outcome, with the weight by which its arm was drawn. From
// before the first coin only the old version's latency is of use.
func (k *keeper) observe(o outcome.Outcome) {
	plan, e, test := k.rec.State.Plan, k.rec.Evidence, k.judgement()
	weight := o.Weight
	switch o.Arm {
	case plan.New.Release:
	case plan.Old.Release:
		weight = 1 - weight
	default:
		return // of an arm from before
	}
	// Both arms of a coin must give the very same weight.
	weight = math.Round(weight*1e9) / 1e9
	if weight <= 0 || weight >= 1 {
		if !e.Coin && o.Arm == plan.Old.Release && !o.Bad {
			test.Recall(o.Latency)
		}
		return
	}
	k.beginCoin(o.At)
	test.SetWeight(weight)
	test.Tick(o.At)
	test.Observe(analysis.Request{Canary: o.Arm == plan.New.Release, Bad: o.Bad, Latency: o.Latency})
}

// beginCoin starts the clock of the test when the first coin is drawn.
func (k *keeper) beginCoin(at time.Time) {
	if e := k.evidence(); e != nil && !e.Coin {
		e.Coin = true
		k.judgement().Tick(at)
	}
}

// conclude acts on what the evidence says so far.
func (k *keeper) conclude(ctx context.Context) {
	test := k.judgement()
	switch v := test.Verdict(); {
	case v.Condemns():
		k.condemn(ctx, test.Explain())
	case v == analysis.Split && k.rec.State.Remark == "":
		k.unjudged(ctx, test.Explain())
	case v == analysis.Promote && k.watched():
		k.apply(ctx, rollout.Event{Kind: rollout.Advance})
	}
}

// unjudged tells that requests are not shared out as they should be. No verdict
// is given then: what is watched stays at its step, for a person to decide.
func (k *keeper) unjudged(ctx context.Context, e analysis.Explanation) {
	k.hold(ctx, "no judgement, since "+e.String(), k.stepWatched())
}

// stepWatched says whether the present step is there to be watched.
func (k *keeper) stepWatched() bool {
	state := k.rec.State
	return state.Plan.Steps[state.Step].Watch > 0
}

// hold notes why there is no verdict, and keeps the rollout at its step, once:
// who lets it go on has decided.
func (k *keeper) hold(ctx context.Context, why string, stay bool) {
	if !stay || k.rec.Evidence.Held || !k.rec.State.Paused.IsZero() {
		k.apply(ctx, rollout.Event{Kind: rollout.Remark, Reason: why})
		return
	}
	k.rec.Evidence.Held = true
	k.apply(ctx, rollout.Event{Kind: rollout.Pause, Reason: why})
	k.tell(k.rec.Evidence.New, EventRollout, k.rec.State.Reason)
}

// endWatch ends the watch of a step whose time is over, when everything has
// been weighed that arrived in it.
func (k *keeper) endWatch(ctx context.Context) {
	now, due := k.now(), k.rec.State.Due()
	if due.IsZero() || now.Before(due) {
		k.goal = nil
		return
	}
	e := k.evidence()
	switch {
	case k.judgement().Ended(): // nothing more is weighed
	case !e.Source.Edge():
		if k.read.Before(due) {
			return // it is read once more
		}
	case k.goal == nil:
		var at outcome.Cursor
		k.begin(ctx, "find the end of the watch", func(ctx context.Context) (err error) {
			at, err = k.c.edge.place(ctx, edgeName(k.c.environment, k.name))
			return err
		}, func(ctx context.Context) {
			k.goal = &at
		})
		return
	case k.goal.Stream != e.Cursor.Stream || e.Cursor.Next < k.goal.Next:
		return // they come
	}
	k.goal = nil
	k.judgement().Tick(now)
	verdict := k.judgement().Verdict()
	state := k.rec.State
	last := state.Step+1 >= len(state.Plan.Steps) || state.Plan.Steps[state.Step+1].Watch == 0
	if e.Hold && last && !e.Held && state.Paused.IsZero() && k.stepWatched() && verdict != analysis.Promote {
		k.hold(ctx, "held without a verdict: "+k.found(), true)
		return
	}
	k.apply(ctx, rollout.Event{Kind: rollout.Tick})
}

// tellProgress tells how the evidence stands, unless that was told last.
func (k *keeper) tellProgress() {
	weight, _ := k.rec.State.Coin()
	e, release := k.judgement().Explain(), k.rec.State.Plan.New.Release
	text := fmt.Sprintf("canary %s at %s: %d requests, %d bad; evidence %.3g of %.3g",
		release, rollout.Percent(weight), e.Canary.Requests, e.Canary.Bad, e.Evidence, e.Limit)
	if e.Difference.Low > -1 || e.Difference.High < 1 {
		text += "; " + e.Difference.String()
	}
	if text != k.progress {
		k.progress = text
		k.tell(release, EventWatch, text)
	}
}

// sensitivity says what a watch that found nothing could have found.
func (k *keeper) sensitivity() string {
	watched := slices.ContainsFunc(k.rec.State.Plan.Steps, func(s rollout.Step) bool { return s.Watch > 0 })
	if k.evidence() == nil || !watched {
		return ""
	}
	return joined(limited(k.judgement().State().Options), k.found())
}

// found says how far a judgement without a verdict came. That there is no data
// says nothing of the canary, good or bad, and is said as that.
func (k *keeper) found() string {
	e := k.judgement().Explain()
	if e.Verdict == analysis.NoData {
		return joined(e.String(), k.rec.Evidence.missing())
	}
	return joined(e.Sensitivity(), k.rec.Evidence.missing())
}
