package rehearsal

import (
	"math"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/rollout"
)

// claims is what a configuration says by itself that it catches: whatever
// analysis could see, by its own words, in all the time that the canary is
// watched, at the rate given.
type claims struct {
	analysis analysis.Options
	steps    []watched
	early    bool // the evidence may end a watch
}

// watched is one step: how many requests the canary has, and its share.
type watched struct{ requests, share float64 }

func claimsOf(plan rollout.Plan, o analysis.Options, t Traffic) claims {
	c := claims{analysis: o}
	if o.Absolute != "" {
		return c // analysis says nothing then
	}
	for _, step := range plan.Steps {
		c.early = c.early || step.Bake > 0
		c.steps = append(c.steps, watched{t.rate() * step.Share * step.Watch.Seconds(), step.Share})
	}
	return c
}

// certainty is the square of how many standard deviations a rise must lie above
// chance to be found 19 times in 20: about 4.5 for the evidence, of which a half
// is kept in reserve, and 1.7 for 19 in 20.
const certainty = 40

// seen is the smallest rise of a share that the canary's requests, after the
// first cold ones, are enough for; more than 1 if they are too few for any.
// Analysis says 10/n of n requests (Explanation.Sensitivity), and that holds
// without a coin as well; it leaves out two things. Where the canary has much of
// the traffic there is less to compare it with: n counts by the old version's
// share. And a share that is not 0 varies by chance.
func (c claims) seen(share, cold float64) float64 {
	n := 0.0
	for _, s := range c.steps {
		n += max(0, s.requests-cold) * (1 - s.share)
		cold = max(0, cold-s.requests)
	}
	return math.Hypot(10/n, math.Sqrt(certainty*share*(1-share)/n))
}

// visible is the smallest rise of the share of errors that is claimed, beyond
// what is tolerated; 1 if none is.
func (c claims) visible(errors float64) float64 {
	o := c.analysis
	tolerated := min(1, o.Rho*errors+o.Delta)
	rise := tolerated - errors + c.seen(tolerated, 0)
	if c.early { // less may be promoted before it is seen
		rise = max(rise, o.Margin)
	}
	return min(1, rise) // JSON knows no infinity, and more than all cannot fail
}

// slower says whether latencies so many times as long are claimed to be seen,
// at one of the quantiles at least.
func (c claims) slower(t Traffic, times float64) bool {
	all := t.latencies()
	if len(all) == 0 || c.analysis.IgnoreLatency || c.analysis.Source == analysis.NoCoin {
		return false
	}
	for _, level := range []float64{.5, .9, .99} {
		old := all[min(len(all)-1, int(level*float64(len(all))))]
		allowed := time.Duration((1+c.analysis.Slower)*float64(old)) + c.analysis.Slack
		beyond := 0
		for _, one := range all {
			if time.Duration(times*float64(one)) > allowed {
				beyond++
			}
		}
		rise := float64(beyond)/float64(len(all)) - (1 - level)
		if rise > c.seen(1-level, float64(c.analysis.WarmUp)) {
			return true
		}
	}
	return false
}
