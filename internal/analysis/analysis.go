// Package analysis judges a canary by sequential statistics: betting
// e-processes on the arm that an independent coin drew for each request. It may
// be looked at after every request, and the chance that it ever condemns a
// canary that is not worse than allowed is bounded whatever the error rate
// does. It knows requests, arms and a clock handed to it; it must not know
// HTTP, where outcomes come from, or what is done about a verdict.
//
// Three duties are the caller's, and the bound rests on them: a coin with a
// known weight, the same for all, draws the arm of each request; SetWeight is
// called before the requests that drew by it; and requests are folded in the
// order in which they arrived, not in which they ended, since a canary that
// only fails faster would look guilty otherwise. Reorder brings them into that
// order.
package analysis

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Source says how requests come to an arm, and so which rules may judge them.
type Source string

const (
	// Coin draws an arm for every request: all rules hold.
	Coin Source = "coin"
	// ClientCoin draws an arm for every client, who counts once: all rules
	// hold, for clients.
	ClientCoin Source = "client coin"
	// NoCoin shares requests out in a way that is not known. Only 5xx are
	// compared, by a weaker rule, block by block between ticks; nothing is
	// promoted early.
	NoCoin Source = "no coin"
)

// Options are the parameters of a judgement; a zero field means its default.
type Options struct {
	Source Source `json:"source"` // default Coin
	// Absolute says why the canary is compared with nothing: it is a first
	// release, or the one before is itself unhealthy (see Unhealthy). The limit
	// Max5xx replaces the comparison, for good: it is decided before the canary
	// comes and stored with the State.
	Absolute string `json:"absolute,omitempty"`

	Rho     float64       `json:"rho"`     // tolerated ratio of the canary's rate to the old one's; default 1.1
	Delta   float64       `json:"delta"`   // tolerated rise, as a share of requests; default 0.001
	Alpha   float64       `json:"alpha"`   // bound on the chance of a false verdict in one rollout; default 0.01
	Reserve float64       `json:"reserve"` // part of the capital kept for faults that begin late; default 0.5
	Window  time.Duration `json:"window"`  // after it the verdict is due; the reserve lasts as long; default 10 min

	// IgnoreLatency leaves latency out.
	IgnoreLatency bool `json:"ignoreLatency,omitempty"`

	Slower float64       `json:"slower"` // tolerated relative rise of latency; default 0.25
	Slack  time.Duration `json:"slack"`  // … and beyond it; default 5 ms
	WarmUp int64         `json:"warmUp"` // the canary's requests before latency counts; default 200

	Margin         float64       `json:"margin"`         // what is promoted early is less than this worse; default 0.005
	AlphaPromotion float64       `json:"alphaPromotion"` // bound on the chance that it is not so; default 0.05
	MinBake        time.Duration `json:"minBake"`        // nothing is promoted before; default 30 s

	Max5xx   float64 `json:"max5xx"`   // limit on the canary's rate alone; 0 is none, and 0.05 if Absolute
	Guard5xx float64 `json:"guard5xx"` // limit on the rate of both together, against damage they share; 0 is none
}

// During gives the options for a rollout that is watched for so long in all, and
// for so long at least; what they say themselves stays, and so does the default.
func (o Options) During(all, least time.Duration) Options {
	orDefault(&o.Window, all)
	orDefault(&o.MinBake, least)
	return o
}

func (o Options) normalize() Options {
	orDefault(&o.Source, Coin)
	orDefault(&o.Rho, 1.1)
	orDefault(&o.Delta, 0.001)
	orDefault(&o.Alpha, 0.01)
	orDefault(&o.Reserve, 0.5)
	orDefault(&o.Window, 10*time.Minute)
	orDefault(&o.Slower, 0.25)
	orDefault(&o.Slack, 5*time.Millisecond)
	orDefault(&o.WarmUp, 200)
	orDefault(&o.Margin, 0.005)
	orDefault(&o.AlphaPromotion, 0.05)
	orDefault(&o.MinBake, 30*time.Second)
	if o.Absolute != "" {
		orDefault(&o.Max5xx, 0.05)
	}
	return o
}

func orDefault[T comparable](value *T, standard T) {
	var zero T
	if *value == zero {
		*value = standard
	}
}

// compares says whether the canary is compared by a coin.
func (o Options) compares() bool { return o.Absolute == "" && o.Source != NoCoin }

// blocks says whether it is compared without one.
func (o Options) blocks() bool { return o.Absolute == "" && o.Source == NoCoin }

const (
	// Parts of the error budget of a rollout: a weighted sum of evidence is
	// evidence, so one alpha covers both.
	share5xx     = 0.8
	shareLatency = 0.2
	// memory is the time constant of the running average behind the centre.
	memory = 30 * time.Second
	// tickEvery is how often the centre and the reserve move. It must not
	// depend on outcomes, else the bets would no longer be fair.
	tickEvery = time.Second
)

// State is everything a Test has learned, to be stored and resumed.
type State struct {
	Options  Options   `json:"options"`
	Weight   float64   `json:"weight"`   // the canary's share in force, 0 before SetWeight
	Segments []Segment `json:"segments"` // what was seen, by weight
	Began    time.Time `json:"began"`    // the first Tick
	Ticked   time.Time `json:"ticked"`   // the last one that moved something
	Halved   time.Time `json:"halved"`   // when latencies were last halved
	Settled  Counts    `json:"settled"`  // what had been seen at the last tick
	Blocked  Counts    `json:"blocked"`  // … and at the end of the last block

	Center     float64 `json:"center"`     // running estimate of the old version's rate, fixed between ticks
	OldAverage float64 `json:"oldAverage"` // decayed count of the old version's requests
	BadAverage float64 `json:"badAverage"` // … and of its bad ones

	Errors    Capital   `json:"errors"`
	Tails     [3]Tail   `json:"tails"`
	Past      Histogram `json:"past"` // the old version's latencies
	Cold      int64     `json:"cold"` // requests that the canary has yet to warm up
	Ceiling   Capital   `json:"ceiling"`
	Guard     Capital   `json:"guard"`
	Promotion float64   `json:"promotion"` // evidence for it, as of the last tick

	Marks   []Mark  `json:"marks"`
	Decided Verdict `json:"decided,omitempty"` // a verdict that stands
}

// Seen is what was seen in all.
func (s *State) Seen() (n Counts) {
	for _, one := range s.Segments {
		n = n.plus(one.Counts)
	}
	return n
}

// Segment is what was seen while the canary had one weight, or by all of the
// same weight.
type Segment struct {
	Weight float64 `json:"weight"`
	Counts Counts  `json:"counts"`
}

// Request is one request, or one client of a ClientCoin.
type Request struct {
	Canary  bool          // the arm that the coin drew
	Bad     bool          // it had a 5xx, no answer in time, or no connection
	Latency time.Duration // 0 if it is not known
}

// Test is one judgement of one canary against the version before it. It is not
// safe for concurrent use.
type Test struct {
	s  State
	at int // the segment in force, -1 if nothing is to be learned yet

	compares               bool    // by a coin
	limit                  float64 // the evidence that condemns
	errors, ceiling, guard table
	tails                  [3]table
	edges                  edges
	evidence               struct{ errors, latency, ceiling, guard float64 }
}

// New begins a test. Comparison by a coin learns nothing before SetWeight.
func New(o Options) *Test {
	o = o.normalize()
	s := State{Options: o, Cold: o.WarmUp, Promotion: 1, Errors: begin(priorErrors(), o.Reserve)}
	for i := range s.Tails {
		s.Tails[i].Capital = begin(alike(len(stakesLatency())), o.Reserve)
	}
	// A ceiling has no reserve: a burst in a good hour is not above it. Where it
	// is the only rule it must find late faults as fast as the others do.
	reserve := 0.0
	if o.Absolute != "" {
		reserve = o.Reserve
	}
	s.Ceiling = begin(alike(len(stakesCeiling())), reserve)
	s.Guard = begin(alike(len(stakesCeiling())), 0)
	return Resume(s)
}

// Resume goes on with a test whose State was stored, with the Options that it
// began with. A State of which nothing is known begins anew, with defaults.
func Resume(s State) *Test {
	if s.Options.Source == "" {
		return New(s.Options)
	}
	t := &Test{s: s.clone(), edges: newEdges()}
	o := s.Options
	t.compares, t.limit = o.compares(), 1/o.Alpha
	t.ceiling = above(o.Max5xx, true, false).table(stakesCeiling())
	t.guard = above(o.Guard5xx, true, true).table(stakesCeiling())
	t.choose()
	t.recount()
	return t
}

// clone shares nothing with s that a Test changes.
func (s State) clone() State {
	s.Segments, s.Marks = slices.Clone(s.Segments), slices.Clone(s.Marks)
	capitals := []*Capital{&s.Errors, &s.Ceiling, &s.Guard}
	for i := range s.Tails {
		capitals = append(capitals, &s.Tails[i].Capital)
	}
	for _, c := range capitals {
		c.Wealth = slices.Clone(c.Wealth)
	}
	return s
}

// State gives what the test has learned.
func (t *Test) State() State { return t.s.clone() }

// SetWeight says with which probability the coin draws the canary from now on;
// it must lie strictly between 0 and 1, but may be 1 where the canary is
// compared with nothing. Call it before the requests it concerns. What is
// stored grows with the number of different weights.
func (t *Test) SetWeight(w float64) {
	if !(w > 0 && w < 1) && !(w == 1 && t.s.Options.Absolute != "") {
		panic(fmt.Sprintf("analysis: weight %v does not lie between 0 and 1", w))
	}
	if t.s.Weight != w {
		t.settleLatency()
		t.s.Weight = w
		t.choose()
	}
}

// choose finds the segment of the weight in force, and the tables for it.
func (t *Test) choose() {
	if t.at = -1; t.s.Weight == 0 && t.compares {
		return
	}
	t.at = slices.IndexFunc(t.s.Segments, func(s Segment) bool { return s.Weight == t.s.Weight })
	if t.at < 0 {
		t.at = len(t.s.Segments)
		t.s.Segments = append(t.s.Segments, Segment{Weight: t.s.Weight})
	}
	if t.compares {
		for i, q := range levels() {
			t.tails[i] = slower(t.s.Weight, q).table(stakesLatency())
		}
		t.center()
	}
}

// center makes the table of the rule for 5xx, for the weight and the centre in
// force.
func (t *Test) center() {
	w, o := t.s.Weight, t.s.Options
	t.errors = worse(w, t.s.Center, o.Rho, o.Delta).table(stakes(w))
}

// recount gives the evidence of each rule anew.
func (t *Test) recount() {
	t.evidence.errors, t.evidence.latency = t.s.Errors.evidence(), 0
	for i := range t.s.Tails {
		t.evidence.latency += t.s.Tails[i].Capital.evidence()
	}
	t.evidence.latency /= float64(len(t.s.Tails))
	t.evidence.ceiling, t.evidence.guard = t.s.Ceiling.evidence(), t.s.Guard.evidence()
}

// Observe folds one request. After a verdict that stands it does nothing.
func (t *Test) Observe(r Request) {
	if t.at < 0 || t.s.Decided != "" {
		return
	}
	o, outcome := &t.s.Options, outcome(r.Canary, r.Bad)
	t.s.Segments[t.at].Counts[outcome]++
	if t.compares {
		t.evidence.errors = t.s.Errors.fold(&t.errors, outcome)
		if !r.Bad && r.Latency > 0 && !o.IgnoreLatency {
			t.countLatency(r.Canary, r.Latency)
		}
	}
	if r.Canary {
		t.s.Cold = max(0, t.s.Cold-1)
		if o.Max5xx > 0 {
			t.evidence.ceiling = t.s.Ceiling.fold(&t.ceiling, outcome)
		}
	}
	if o.Guard5xx > 0 {
		t.evidence.guard = t.s.Guard.fold(&t.guard, outcome)
	}
	t.decide()
}

// ObserveCounts folds a batch of requests that had the weight in force and came
// since the last Tick, their latencies unknown. Their order does not matter,
// and the cost does not depend on their number; the evidence is looked at once,
// at the end.
func (t *Test) ObserveCounts(canaryOKs, canaryBads, oldOKs, oldBads int64) {
	if t.at < 0 || t.s.Decided != "" {
		return
	}
	o := &t.s.Options
	n := Counts{canaryBad: canaryBads, canaryOK: canaryOKs, oldBad: oldBads, oldOK: oldOKs}
	t.s.Segments[t.at].Counts = t.s.Segments[t.at].Counts.plus(n)
	if t.compares {
		t.evidence.errors = t.s.Errors.foldCounts(&t.errors, n)
	}
	t.s.Cold = max(0, t.s.Cold-n.Canary().Requests)
	if o.Max5xx > 0 {
		t.evidence.ceiling = t.s.Ceiling.foldCounts(&t.ceiling, n)
	}
	if o.Guard5xx > 0 {
		t.evidence.guard = t.s.Guard.foldCounts(&t.guard, n)
	}
	t.decide()
}

// Tick tells the time. Once a second it brings a part of the reserves into
// play, moves the centre, fixes the bounds of latency and looks at what need
// not be looked at after each request. The first call starts the clock.
func (t *Test) Tick(now time.Time) {
	if t.s.Began.IsZero() {
		t.s.Began, t.s.Ticked = now, now
		t.learnLatency(now)
		return
	}
	passed := now.Sub(t.s.Ticked)
	if t.s.Decided != "" {
		t.mark(now)
		return
	}
	if passed < tickEvery {
		return
	}
	t.s.Ticked = now
	seen := t.s.Seen()
	t.settleLatency()
	t.endBlock(seen)
	t.feed(t.s.Options.Reserve * passed.Seconds() / t.s.Options.Window.Seconds())
	t.learnErrors(passed, seen.minus(t.s.Settled).Old())
	t.s.Settled = seen
	t.learnLatency(now)
	t.recount()
	t.s.Promotion = t.promotion()
	t.decide()
	if t.s.Decided == "" && t.splitEvidence() >= splitLimit {
		t.s.Decided = Split
	}
	t.mark(now)
}

// feed moves a part of each reserve.
func (t *Test) feed(part float64) {
	t.s.Errors.feed(priorErrors(), part)
	for i := range t.s.Tails {
		t.s.Tails[i].Capital.feed(alike(len(stakesLatency())), part)
	}
	t.s.Ceiling.feed(alike(len(stakesCeiling())), part)
	t.s.Guard.feed(alike(len(stakesCeiling())), part)
}

// learnErrors moves the centre by what the old version did since the last tick.
func (t *Test) learnErrors(passed time.Duration, old Arm) {
	keep := math.Exp(-passed.Seconds() / memory.Seconds())
	t.s.OldAverage = t.s.OldAverage*keep + float64(old.Requests)
	t.s.BadAverage = t.s.BadAverage*keep + float64(old.Bad)
	t.s.Center = min(0.5, t.s.BadAverage/(t.s.OldAverage+20))
	if t.at >= 0 && t.compares {
		t.center()
	}
}

// endBlock folds what came since the last block by the rule that needs no coin.
// A block in which only one arm was asked goes on.
func (t *Test) endBlock(seen Counts) {
	n := seen.minus(t.s.Blocked)
	if !t.s.Options.blocks() || n.Canary().Requests == 0 || n.Old().Requests == 0 {
		return
	}
	t.s.Blocked = seen
	// The old version's rate is guessed from the blocks before. It must not be
	// 0, else its first bad answer would ruin everybody.
	old := min(0.5, (t.s.BadAverage+0.02)/(t.s.OldAverage+20))
	t.s.Errors.foldBlock(n, old, t.s.Options.Rho, t.s.Options.Delta)
}
