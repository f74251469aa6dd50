package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/analysis/simulate"
)

// The targets for the judgement of canaries.
const (
	rolloutsForTargets = 200 // at least, where a share is a target
	maxFalseShare      = 0.01
	maxOutageShare     = 0.005
	maxBadDead         = 4
	maxBadTwenty       = 6
	maxAnalysis        = 50 * time.Nanosecond
)

// canary counts false alarms and delays over simulated rollouts, under our rule
// and those of other tools. The figure of another simulation of our rule stands
// behind ours.
func (b *bench) canary(ctx context.Context) error {
	b.add(analysisCost())
	for _, w := range simulate.Equal() {
		if err := b.falseAlarms(ctx, w, maxFalseShare); err != nil {
			return err
		}
	}
	for _, w := range simulate.Troubles() {
		if err := b.falseAlarms(ctx, w, maxOutageShare); err != nil {
			return err
		}
	}
	for _, w := range simulate.Faults() {
		if err := b.delays(ctx, w); err != nil {
			return err
		}
	}
	return b.promotions(ctx)
}

// rollouts plays a world so often, on all processors.
func rollouts(ctx context.Context, w simulate.World, times int, early bool) ([]simulate.Rollout, error) {
	all := make([]simulate.Rollout, times)
	var group sync.WaitGroup
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for i := next.Add(1) - 1; i < int64(times) && ctx.Err() == nil; i = next.Add(1) - 1 {
				all[i] = w.Play(uint64(i), analysis.Options{}, early)
			}
		})
	}
	group.Wait()
	return all, ctx.Err()
}

// others says what the rules of others do with the rollouts: the share that
// went back, and the median of minutes if it is told as well.
func others(all []simulate.Rollout, minutes bool) string {
	var out []string
	for _, rule := range append(simulate.Rivals(), simulate.WithoutCoin()) {
		var after []int
		for _, r := range all {
			if n := rule.Judge(r.Minutes); n > 0 {
				after = append(after, n)
			}
		}
		one := fmt.Sprintf("%s %.3g %%", rule.Name, 100*float64(len(after))/float64(len(all)))
		if minutes && len(after) > 0 {
			one += fmt.Sprintf(" %d s", 60*median(after))
		}
		out = append(out, one)
	}
	return strings.Join(out, ", ")
}

// falseAlarms counts canaries that went back though they are not worse than
// allowed. The equal versions at 1 % and the outage have targets.
func (b *bench) falseAlarms(ctx context.Context, w simulate.World, most float64) error {
	target := w.Name == "equal, 1 % errors, 100 req/s" || w.Name == "outage of both: 30 % for 60 s"
	times := b.trials
	if target {
		times = max(times, rolloutsForTargets)
	}
	all, err := rollouts(ctx, w, times, false)
	if err != nil {
		return err
	}
	condemned, refused := 0, 0
	for _, r := range all {
		switch {
		case r.End.Verdict.Condemns():
			condemned++
		case r.End.Verdict == analysis.Split:
			refused++
		}
	}
	figure := fmt.Sprintf("%d of %d went back", condemned, times)
	if refused > 0 {
		figure += fmt.Sprintf(", %d refused for their split", refused)
	}
	r := row{what: "canary, " + w.Name, figure: fmt.Sprintf("%s (%s)", figure, w.Figure), other: others(all, false)}
	if target {
		r.target = fmt.Sprintf("≤ %.3g %%", 100*most)
		r.met = float64(condemned) <= most*float64(times)
	}
	b.add(r)
	return nil
}

// delays says how fast a canary goes back that is worse.
func (b *bench) delays(ctx context.Context, w simulate.World) error {
	all, err := rollouts(ctx, w, b.trials, false)
	if err != nil {
		return err
	}
	var after []time.Duration
	var bad []int64
	for _, r := range all {
		if r.End.Verdict.Condemns() {
			after, bad = append(after, r.End.After), append(bad, r.End.Bad)
		}
	}
	r := row{what: "canary, " + w.Name, figure: "0 %", other: others(all, true)}
	if len(after) > 0 {
		r.figure = fmt.Sprintf("%.3g %%, %.1f s, %d bad (%s)", 100*float64(len(after))/float64(len(all)), median(after).Seconds(), median(bad), w.Figure)
	}
	most, ok := map[string]int64{"canary always fails": maxBadDead, "0.1 %, canary +20 points": maxBadTwenty}[w.Name]
	if ok {
		r.target = fmt.Sprintf("≤ %d bad", most)
		r.met = len(after) == len(all) && median(bad) <= most
	}
	b.add(r)
	return nil
}

// promotions says how fast a good canary is promoted early, and how often one
// that is worse by the margin is.
func (b *bench) promotions(ctx context.Context) error {
	good, bad := simulate.Equal()[1], simulate.Faults()[0]
	for _, c := range []struct {
		world  simulate.World
		figure string
	}{{good, "100 %, 247 s"}, {bad, "2.8 %, 503 s"}} {
		all, err := rollouts(ctx, c.world, b.trials, true)
		if err != nil {
			return err
		}
		var after []time.Duration
		for _, r := range all {
			if r.End.Verdict == analysis.Promote {
				after = append(after, r.End.After)
			}
		}
		figure := fmt.Sprintf("%.3g %%", 100*float64(len(after))/float64(len(all)))
		if len(after) > 0 {
			figure += fmt.Sprintf(", 19 of 20 within %.0f s", simulate.Quantile(after, 0.95).Seconds())
		}
		b.add(row{what: "canary promoted early, " + c.world.Name, figure: fmt.Sprintf("%s (%s)", figure, c.figure)})
	}
	return nil
}

// analysisCost takes the processor time of a request in which all rules are in
// force, of the fastest of many rounds: that of the clock would be that of the
// neighbours too.
func analysisCost() row {
	const rounds, requests = 200, 1 << 15
	rng := rand.New(rand.NewPCG(1, 1))
	latency := func() time.Duration { return time.Duration(rng.ExpFloat64() * float64(20*time.Millisecond)) }
	test := analysis.New(analysis.Options{Max5xx: 0.5, Guard5xx: 0.5})
	test.SetWeight(simulate.Share)
	for range 1000 {
		test.Recall(latency())
	}
	begin := time.Unix(0, 0)
	test.Tick(begin)
	seen := make([]analysis.Request, requests)
	for i := range seen {
		seen[i] = analysis.Request{Canary: i%10 == 0, Bad: rng.Float64() < 0.001, Latency: latency()}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	best := time.Hour
	for round := range rounds {
		used := processorTime()
		for _, r := range seen {
			test.Observe(r)
		}
		best = min(best, processorTime()-used)
		test.Tick(begin.Add(time.Duration(round+1) * time.Second))
	}
	runtime.ReadMemStats(&after)
	each, allocations := best/requests, (after.Mallocs-before.Mallocs)/(rounds*requests)
	return row{
		what: "canary, analysis of a request", figure: fmt.Sprintf("%s, %d allocations", each, allocations),
		target: fmt.Sprintf("≤ %s, 0", maxAnalysis), met: each <= maxAnalysis && allocations == 0 && !test.Ended(),
	}
}

// processorTime is what this process has used. Only the sum of both parts is
// exact.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(fmt.Sprintf("ask for the processor time: %v", err)) // it cannot fail for oneself
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
