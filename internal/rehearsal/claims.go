package rehearsal

import (
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

// counted is how many requests of the canary count, after the first cold ones.
func (c claims) counted(cold float64) float64 {
	n := 0.0
	for _, s := range c.steps {
		n += analysis.Counted(max(0, s.requests-cold), s.share)
		cold = max(0, cold-s.requests)
	}
	return n
}

// visible is the smallest rise of the share of errors that is claimed, 1 if none is.
func (c claims) visible(errors float64) float64 {
	return c.analysis.Visible(errors, c.counted(0), c.early)
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
		if rise > analysis.Discernible(1-level, c.counted(float64(c.analysis.WarmUp))) {
			return true
		}
	}
	return false
}
