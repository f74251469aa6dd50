// Package analysis judges a canary by sequential statistics: a betting
// e-process on the arm that an independent coin drew for each request. It may
// be looked at after every request, and the chance that it ever condemns a
// canary that is not worse than allowed is bounded whatever the error rate
// does. It knows requests, arms and a clock handed to it; it must not know
// HTTP, where outcomes come from, or what is done about a verdict.
package analysis

import (
	"fmt"
	"math"
	"time"
)

// Options are the parameters of the 5xx rule; a zero field means its default.
type Options struct {
	Rho     float64       // tolerated ratio of the canary's rate to the old one's; default 1.1
	Delta   float64       // tolerated rise, as a share of requests; default 0.001
	Alpha   float64       // bound on the chance of a false verdict in one rollout; default 0.01
	Reserve float64       // part of the capital kept for faults that begin late; default 0.5
	Window  time.Duration // time over which the reserve is brought into play; default 10 min
}

func (o Options) normalize() Options {
	orDefault(&o.Rho, 1.1)
	orDefault(&o.Delta, 0.001)
	orDefault(&o.Alpha, 0.01)
	orDefault(&o.Reserve, 0.5)
	orDefault(&o.Window, 10*time.Minute)
	return o
}

func orDefault[T comparable](value *T, standard T) {
	var zero T
	if *value == zero {
		*value = standard
	}
}

const (
	bettors = 9
	// share5xx is the part of the rollout's error budget that the 5xx rule may
	// spend; the rest is kept for latency.
	share5xx = 0.8
	// memory is the time constant of the running average behind the centre.
	memory = 30 * time.Second
	// tickEvery is how often the centre and the reserve move. It must not
	// depend on outcomes, else the bets would no longer be fair.
	tickEvery = time.Second
	// ceilingOfWealth keeps a bettor's wealth finite when a batch of many bad
	// answers is folded at once; it lies far above any threshold.
	ceilingOfWealth = 1e300
)

// Each bettor bets that the canary fails so many times as often as the old
// version, with the part of the capital that stands below it.
var (
	ratios = [bettors]float64{1.3, 1.6, 2, 3, 5, 10, 30, 100, 1000}
	prior  = [bettors]float64{.08, .08, .08, .08, .09, .11, .16, .16, .16}
)

// The four outcomes of a request: its arm and whether it went badly.
const (
	canaryBad = iota
	canaryOK
	oldBad
	oldOK
	outcomes
)

// State is everything a Test has learned, to be stored and resumed.
type State struct {
	Weight  float64          `json:"weight"` // the canary's share in force, 0 before SetWeight
	Wealth  [bettors]float64 `json:"wealth"`
	Reserve float64          `json:"reserve"`
	Center  float64          `json:"center"` // running estimate of the old version's rate, fixed between ticks
	Ticked  time.Time        `json:"ticked"` // zero before the first Tick

	OldAverage float64 `json:"oldAverage"` // decayed count of the old version's requests
	BadAverage float64 `json:"badAverage"` // … and of its bad ones
	OldFresh   int64   `json:"oldFresh"`   // its requests since the last tick
	BadFresh   int64   `json:"badFresh"`

	Canary Arm `json:"canary"`
	Old    Arm `json:"old"`
}

// Arm is what was seen of one version.
type Arm struct {
	Requests int64 `json:"requests"`
	Bad      int64 `json:"bad"`
}

// Share is the part of the requests that went badly, 0 if there were none.
func (a Arm) Share() float64 {
	if a.Requests == 0 {
		return 0
	}
	return float64(a.Bad) / float64(a.Requests)
}

// Test is one judgement of one canary against the version before it. It is not
// safe for concurrent use.
type Test struct {
	o       Options
	s       State
	factors [outcomes][bettors]float64
}

// New begins a test. Nothing is learned before SetWeight.
func New(o Options) *Test {
	o = o.normalize()
	s := State{Reserve: o.Reserve}
	for k := range s.Wealth {
		s.Wealth[k] = prior[k] * (1 - o.Reserve)
	}
	return Resume(o, s)
}

// Resume goes on with a test whose State was stored.
func Resume(o Options, s State) *Test {
	t := &Test{o: o.normalize(), s: s}
	t.rebuild()
	return t
}

// State gives what the test has learned.
func (t *Test) State() State { return t.s }

// SetWeight says with which probability the coin draws the canary from now on;
// it must lie strictly between 0 and 1. Call it before the requests it concerns.
func (t *Test) SetWeight(w float64) {
	if !(w > 0 && w < 1) {
		panic(fmt.Sprintf("analysis: weight %v does not lie between 0 and 1", w))
	}
	if t.s.Weight == w {
		return
	}
	t.s.Weight = w
	t.rebuild()
}

// rebuild computes the growth factors for the weight and centre in force.
func (t *Test) rebuild() {
	if t.s.Weight == 0 {
		for i := range t.factors {
			for k := range t.factors[i] {
				t.factors[i][k] = 1
			}
		}
		return
	}
	w, b, rho, delta := t.s.Weight, t.s.Center, t.o.Rho, t.o.Delta
	largest := math.Inf(1)
	if b < 1 {
		largest = (1 - w) / (rho * (1 - b))
	}
	if lost := delta + rho*b; lost > 0 {
		largest = min(largest, w/lost)
	}
	for k, r := range ratios {
		f := w * (r - 1) / (1 + w*(r-1))
		bet := f * largest
		t.factors[canaryBad][k] = 1 + bet*(1-delta-rho*b)/w
		t.factors[canaryOK][k] = 1 - bet*(delta+rho*b)/w
		t.factors[oldBad][k] = 1 - bet*rho*(1-b)/(1-w)
		t.factors[oldOK][k] = 1 + bet*rho*b/(1-w)
	}
}

// Observe folds one request.
func (t *Test) Observe(canary, bad bool) {
	outcome := t.count(canary, bad)
	for k := range t.s.Wealth {
		t.s.Wealth[k] = min(t.s.Wealth[k]*t.factors[outcome][k], ceilingOfWealth)
	}
}

func (t *Test) count(canary, bad bool) int {
	switch {
	case canary && bad:
		t.tally(1, 1, 0, 0)
		return canaryBad
	case canary:
		t.tally(1, 0, 0, 0)
		return canaryOK
	case bad:
		t.tally(0, 0, 1, 1)
		return oldBad
	default:
		t.tally(0, 0, 1, 0)
		return oldOK
	}
}

func (t *Test) tally(canary, canaryBad, old, oldBad int64) {
	t.s.Canary.Requests += canary
	t.s.Canary.Bad += canaryBad
	t.s.Old.Requests += old
	t.s.Old.Bad += oldBad
	t.s.OldFresh += old
	t.s.BadFresh += oldBad
}

// ObserveCounts folds a batch of requests that had the weight in force and came
// since the last Tick. Their order does not matter, since the factors commute;
// the cost does not depend on their number.
func (t *Test) ObserveCounts(canaryOKs, canaryBads, oldOKs, oldBads int64) {
	counts := [outcomes]int64{canaryBad: canaryBads, canaryOK: canaryOKs, oldBad: oldBads, oldOK: oldOKs}
	t.tally(canaryOKs+canaryBads, canaryBads, oldOKs+oldBads, oldBads)
	for k, wealth := range t.s.Wealth {
		if wealth == 0 {
			continue // underflow; only the reserve can bring this bettor back
		}
		// The sum of logarithms keeps huge gains and losses of one batch from
		// overflowing before they cancel.
		log := math.Log(wealth)
		for i, n := range counts {
			if n > 0 {
				log += float64(n) * math.Log(t.factors[i][k])
			}
		}
		t.s.Wealth[k] = math.Exp(min(log, math.Log(ceilingOfWealth)))
	}
}

// Tick tells the time. Once a second it brings a part of the reserve into play
// and moves the centre. The first call only starts the clock.
func (t *Test) Tick(now time.Time) {
	if t.s.Ticked.IsZero() {
		t.s.Ticked = now
		return
	}
	passed := now.Sub(t.s.Ticked)
	if passed < tickEvery {
		return
	}
	t.s.Ticked = now
	moved := min(t.s.Reserve, t.o.Reserve*passed.Seconds()/t.o.Window.Seconds())
	t.s.Reserve -= moved
	for k := range t.s.Wealth {
		t.s.Wealth[k] += moved * prior[k]
	}
	keep := math.Exp(-passed.Seconds() / memory.Seconds())
	t.s.OldAverage = t.s.OldAverage*keep + float64(t.s.OldFresh)
	t.s.BadAverage = t.s.BadAverage*keep + float64(t.s.BadFresh)
	t.s.OldFresh, t.s.BadFresh = 0, 0
	t.s.Center = min(0.5, t.s.BadAverage/(t.s.OldAverage+20))
	t.rebuild()
}

// Evidence is the capital won by betting that the canary is worse; it begins at
// 1, and a canary that is not worse raises it to x with a chance of at most 1/x.
func (t *Test) Evidence() float64 {
	e := t.s.Reserve
	for _, wealth := range t.s.Wealth {
		e += wealth
	}
	return e
}

// Threshold is the evidence that condemns.
func (t *Test) Threshold() float64 { return 1 / (t.o.Alpha * share5xx) }
