// Package rehearsal plays the rollouts of a service in simulated time: the real
// machine of rollout by a service's own strategy and the real test of analysis,
// with traffic that was recorded or made, and with faults put into it. So it can
// be said of a configuration which faults it catches, when and at what cost,
// before one comes. It knows strategies, traffic and faults; it must not know
// where a configuration or a recording lies, or what is printed.
package rehearsal

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/rollout"
)

// Setup is what is rehearsed.
type Setup struct {
	Strategy  rollout.Strategy
	Instances int // of both versions
	Analysis  analysis.Options
	Traffic   Traffic
	Expect    []float64 // shares of errors that must be caught, beside what is claimed
	Seed      uint64
	Trials    int // of each fault
}

// Fault is what goes wrong.
type Fault struct {
	Name   string
	Errors float64 // share of the canary's requests that fail, beside those that fail anyway
	Slower float64 // so many times as long the canary's answers take; 0 is no change
	Silent bool    // nobody asks
	Outage bool    // for a minute, half of all requests to both versions fail
}

// Must is what has to become of a rollout with a fault.
type Must string

const (
	Caught Must = "caught" // it goes back
	Kept   Must = "kept"   // it does not, since the canary is not to blame
	Either Must = ""       // nothing is claimed
)

// Result is what became of the rollouts with one fault. Times and numbers are
// medians: of those that went back, or of all where none did.
type Result struct {
	Fault      string  `json:"fault"`
	Must       Must    `json:"must"`
	OK         bool    `json:"ok"`
	Trials     int     `json:"trials"`
	RolledBack int     `json:"rolledBack"`
	Seconds    float64 `json:"seconds"`  // from the canary's first share to the end
	Requests   int64   `json:"requests"` // that the canary was asked until then
	Bad        int64   `json:"bad"`      // answers of the canary
	Why        string  `json:"why"`      // how one of them ended
}

// Report is a whole rehearsal.
type Report struct {
	// Nothing says why nothing is compared, "" if it is. Then nothing is
	// claimed, and nothing but what must be caught is a Result.
	Nothing string `json:"nothing,omitempty"`
	// Guarantee is what holds of the judgement, "" where nothing is compared.
	Guarantee string  `json:"guarantee,omitempty"`
	Rate      float64 `json:"rate"`   // requests a second
	Errors    float64 `json:"errors"` // share of them that fail without a fault
	// Visible is the smallest rise of the share of errors that is claimed to be
	// seen, 1 and more if none is.
	Visible float64  `json:"visible"`
	Results []Result `json:"results"`
}

// OK says whether every result is what it must be.
func (r Report) OK() bool {
	for _, one := range r.Results {
		if !one.OK {
			return false
		}
	}
	return true
}

// Rehearse plays every fault. It ends early only with ctx.
func Rehearse(ctx context.Context, s Setup) (Report, error) {
	if err := s.Strategy.Validate(); err != nil {
		return Report{}, err
	}
	plan := s.Strategy.Plan(version(oldRelease, s.Instances), version(newRelease, s.Instances))
	s.Analysis = judged(s.Analysis, plan)
	out := Report{Nothing: nothing(s.Strategy), Rate: s.Traffic.rate(), Errors: s.Traffic.errors(), Visible: 1, Results: []Result{}}
	if out.Nothing != "" {
		for _, share := range s.Expect {
			out.Results = append(out.Results, Result{Fault: errorsOf(share).Name, Must: Caught, Why: out.Nothing})
		}
		return out, nil
	}
	out.Guarantee = analysis.New(s.Analysis).Explain().Guarantee()
	claims := claimsOf(plan, s.Analysis, s.Traffic)
	out.Visible = claims.visible(out.Errors)
	for _, fault := range s.faults() {
		result, err := s.play(ctx, plan, fault, s.must(fault, claims))
		if err != nil {
			return out, err
		}
		out.Results = append(out.Results, result)
	}
	return out, nil
}

// nothing says why the strategy compares nothing, "" if it does.
func nothing(s rollout.Strategy) string {
	switch {
	case s.Kind == "" || s.Kind == rollout.Rolling:
		return "nothing is compared for a time of its own by the strategy rolling"
	case s.Kind != rollout.Canary:
		return fmt.Sprintf("nothing is compared by the strategy %s", s.Kind)
	case s.Watch == 0:
		return "nothing is compared, since no step is watched"
	}
	return ""
}

// judged is how a release judges the rollout of a plan: its options with the
// time of the whole way, unless they say another.
func judged(o analysis.Options, plan rollout.Plan) analysis.Options {
	return analysis.New(o.During(plan.Watched())).State().Options
}

func errorsOf(share float64) Fault {
	return Fault{Name: fmt.Sprintf("%.4g %% errors", 100*share), Errors: share}
}

// faults lists what is tried: the usual ones and what is expected.
func (s Setup) faults() []Fault {
	shares := []float64{0.02, 0.05, 0.20, 1}
	shares = append(shares, s.Expect...)
	slices.Sort(shares)
	var all []Fault
	for _, share := range slices.Compact(shares) {
		all = append(all, errorsOf(share))
	}
	if s.Traffic.timed() {
		all = append(all, Fault{Name: "doubled latency", Slower: 2})
	}
	return append(all, Fault{Name: "no traffic", Silent: true}, Fault{Name: "outage of both", Outage: true}, Fault{Name: "equal versions"})
}

// must says what has to become of a fault.
func (s Setup) must(f Fault, c claims) Must {
	switch {
	case f.Silent:
		return Either
	case f.Slower > 0:
		if c.slower(s.Traffic, f.Slower) {
			return Caught
		}
		return Either
	case f.Errors == 0:
		return Kept
	}
	errors := s.Traffic.errors()
	if slices.Contains(s.Expect, f.Errors) || f.Errors*(1-errors) >= c.visible(errors) {
		return Caught
	}
	return Either
}

// play plays the rollouts with one fault.
func (s Setup) play(ctx context.Context, plan rollout.Plan, f Fault, must Must) (Result, error) {
	var back, through []trial
	for n := range s.Trials {
		one, err := s.trial(ctx, plan, f, uint64(n))
		if err != nil {
			return Result{}, err
		}
		if one.back {
			back = append(back, one)
		} else {
			through = append(through, one)
		}
	}
	out := Result{Fault: f.Name, Must: must, OK: true, Trials: s.Trials, RolledBack: len(back)}
	switch must {
	case Caught: // analysis says so for 19 times in 20
		out.OK = len(through) <= atMost(s.Trials, 0.05)
	case Kept:
		out.OK = len(back) <= atMost(s.Trials, s.Analysis.Alpha)
	}
	told := back
	if len(back) == 0 {
		told = through
	}
	if len(told) > 0 {
		out.Why = told[0].why
		out.Seconds = median(told, func(t trial) float64 { return t.took.Seconds() })
		out.Requests = median(told, func(t trial) int64 { return t.canary.Requests })
		out.Bad = median(told, func(t trial) int64 { return t.canary.Bad })
	}
	return out, nil
}

// atMost is how often of n times something that has the chance p may happen
// before chance does not explain it: three standard deviations.
func atMost(n int, p float64) int {
	mean := float64(n) * p
	return int(mean + 3*math.Sqrt(mean*(1-p)))
}

func median[T float64 | int64](all []trial, of func(trial) T) T {
	values := make([]T, len(all))
	for i, one := range all {
		values[i] = of(one)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// The releases of a rehearsal.
const (
	oldRelease = "old"
	newRelease = "canary"
)

func version(release string, instances int) rollout.Version {
	return rollout.Version{Release: release, Instances: max(1, instances)}
}

// start is when all rollouts begin.
var start = time.Unix(0, 0).UTC()
