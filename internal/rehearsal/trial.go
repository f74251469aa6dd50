package rehearsal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/rollout"
)

// trial is one rollout, as it ended.
type trial struct {
	back   bool // the old version is live
	took   time.Duration
	canary analysis.Arm
	why    string
}

// player plays one rollout. Instances start and stop, and traffic moves, in no
// time: what is rehearsed is the judgement.
type player struct {
	state  rollout.State
	test   *analysis.Test
	fault  Fault
	rng    *rand.Rand
	weight float64 // the canary's share in force
	coin   bool    // whether both are asked
	outage struct{ from, to time.Duration }
	canary analysis.Arm
}

func (s Setup) trial(ctx context.Context, plan rollout.Plan, f Fault, number uint64) (trial, error) {
	p := &player{test: analysis.New(s.Analysis), fault: f, rng: rand.New(rand.NewPCG(s.Seed, number))}
	p.outage.from = min(10*time.Second, plan.Steps[0].Watch/4) // while the canary is there for sure
	p.outage.to = p.outage.from + time.Minute
	if err := p.begin(plan); err != nil {
		return trial{}, err
	}
	traffic := s.Traffic.begin(p.rng)
	took := time.Duration(0)
	for ; !p.state.Phase.Final(); took += time.Second {
		if err := ctx.Err(); err != nil {
			return trial{}, err
		}
		if at, ended := p.second(traffic.next(), took); ended {
			took = at
			break
		}
	}
	out := trial{took: took, canary: p.canary, back: p.state.Phase != rollout.Promoted, why: p.state.Cause}
	if !out.back {
		out.why = "promoted; " + p.test.Explain().Sensitivity()
	}
	return out, nil
}

// begin has the old version live and the rollout at its first share.
func (p *player) begin(plan rollout.Plan) error {
	var err error
	for _, way := range []rollout.Plan{rollout.AllAtOnce(rollout.Version{}, plan.Old), plan} {
		if p.state, err = rollout.Begin(p.state, way, start); err != nil {
			return fmt.Errorf("rehearse: %w", err)
		}
		p.carryOut(start)
	}
	return nil
}

// apply tells the machine of an event, and does what it then wants.
func (p *player) apply(e rollout.Event) {
	p.state = rollout.Next(p.state, e)
	p.carryOut(e.At)
}

// carryOut does all that is outstanding but watching.
func (p *player) carryOut(now time.Time) {
	for {
		acted := false
		for _, c := range rollout.Commands(p.state) {
			if e, ok := answer(c); ok {
				e.At, acted = now, true
				p.state = rollout.Next(p.state, e)
				break
			}
		}
		if !acted {
			break
		}
	}
	weight, coin := p.state.Coin()
	if coin && weight != p.weight {
		p.test.SetWeight(weight)
		p.test.Tick(now)
	}
	p.weight, p.coin = weight, coin
}

// answer is the event that a command ends with where all goes well.
func answer(c rollout.Command) (rollout.Event, bool) {
	kinds := map[rollout.CommandKind]rollout.EventKind{
		rollout.Start: rollout.Healthy, rollout.Drain: rollout.Drained, rollout.Stop: rollout.Stopped,
		rollout.Shift: rollout.InForce, rollout.Verify: rollout.Verified, rollout.Hook: rollout.HookPassed,
	}
	kind, ok := kinds[c.Kind]
	return rollout.Event{Kind: kind, Member: c.Member, Route: c.Route, Phase: c.Phase, Step: c.Step}, ok
}

// second plays the requests of the second that begins at a time, in the order of
// their arrival; if the rollout goes back on account of one, it says when.
func (p *player) second(requests []request, from time.Duration) (time.Duration, bool) {
	for _, r := range requests {
		if p.fault.Silent {
			break
		}
		canary := p.rng.Float64() < p.weight
		outcome := p.harm(r, canary, from+r.at)
		if canary {
			p.canary.Requests++
			if outcome.Bad {
				p.canary.Bad++
			}
		}
		if p.coin && !p.test.Ended() {
			if p.test.Observe(outcome); p.test.Ended() && p.judge(from+r.at) {
				return from + r.at, true
			}
		}
	}
	at := from + time.Second
	p.test.Tick(start.Add(at))
	if p.judge(at) {
		return at, true
	}
	p.apply(rollout.Event{Kind: rollout.Tick, At: start.Add(at)})
	return at, false
}

// judge acts on the verdict, and says whether the rollout has gone back.
func (p *player) judge(at time.Duration) bool {
	switch v := p.test.Verdict(); {
	case v.Condemns():
		p.apply(rollout.Event{Kind: rollout.RollBack, At: start.Add(at), Reason: p.test.Explain().String()})
		return true
	case v == analysis.Promote:
		p.apply(rollout.Event{Kind: rollout.Advance, At: start.Add(at)})
	}
	return false
}

// harm puts the fault into what became of a request.
func (p *player) harm(r request, canary bool, at time.Duration) analysis.Request {
	out := analysis.Request{Canary: canary, Bad: r.bad, Latency: r.latency}
	switch f := p.fault; {
	case f.Outage && at >= p.outage.from && at < p.outage.to:
		out.Bad = out.Bad || p.rng.Float64() < 0.5
	case canary && f.Errors > 0:
		out.Bad = out.Bad || p.rng.Float64() < f.Errors
	case canary && f.Slower > 0:
		out.Latency = time.Duration(f.Slower * float64(out.Latency))
	}
	return out
}
