package analysis

import (
	"math"
	"time"
)

// The histogram begins at half a millisecond; 256 buckets, each 4 % wider than
// the one before, reach to 11 s, beyond the time after which a request counts
// as bad.
const (
	buckets  = 256
	finest   = 500 * time.Microsecond
	widening = 1.04
	// perOctave is how many buckets double the latency.
	perOctave = math.Ln2 / 0.03922071315328133 // the logarithm of widening
	// halfLife is how long latencies are remembered: counts are halved so often.
	halfLife = time.Minute
)

// Histogram counts latencies in buckets of equal relative width.
type Histogram [buckets]float64

// edges are the longest latency of each bucket.
type edges [buckets]time.Duration

func newEdges() (e edges) {
	for i := range e {
		e[i] = time.Duration(float64(finest) * math.Pow(widening, float64(i)))
	}
	return e
}

// add counts a latency. The bits of a floating-point number, read as an
// integer, are its logarithm of base 2 to within 0.09, always too small: they
// lead to two buckets before the right one at most, faster than math.Log and,
// as all here, without a branch that no processor can guess.
func (h *Histogram) add(d time.Duration, e *edges) {
	at := 0
	if d > finest {
		bits := math.Float64bits(float64(d)*(1/float64(finest))) - math.Float64bits(1)
		at = min(int(float64(bits)*(perOctave/(1<<52)))+1, buckets-3)
		after := at
		if d > e[at] {
			after = at + 1
		}
		if d > e[at+1] {
			after = at + 2
		}
		at = after
	}
	h[at]++
}

// halve forgets; what is less than a thousandth of a request is nothing.
func (h *Histogram) halve() {
	for i := range h {
		if h[i] /= 2; h[i] < 1e-3 {
			h[i] = 0
		}
	}
}

// quantile gives the latency that a part q of them does not exceed, to the
// width of a bucket, and 0 as long as less than one lies beyond it.
func (h *Histogram) quantile(q float64, e *edges) time.Duration {
	total := 0.0
	for _, n := range h {
		total += n
	}
	if total*(1-q) < 1-1e-9 {
		return 0
	}
	sum := 0.0
	for i, n := range h {
		if sum += n; sum >= q*total {
			return e[i]
		}
	}
	return e[buckets-1]
}

// levels are the quantiles at which latencies are compared.
func levels() [3]float64 { return [3]float64{.5, .9, .99} }

// Tail is the comparison of latencies at one quantile.
type Tail struct {
	Capital Capital       `json:"capital"`
	Bound   time.Duration `json:"bound"` // the old version's quantile, fixed between ticks; 0 while it is not known
	Allowed time.Duration `json:"allowed"`
	Fresh   Counts        `json:"fresh"` // what came since the bets were settled; bad is beyond the bound
}

// countLatency notes the latency of one request that was answered well. What
// it is compared with was fixed at the last tick, from earlier requests.
// Nothing is bet before the canary has warmed up: cold caches pass.
func (t *Test) countLatency(canary bool, d time.Duration) {
	if t.s.Cold == 0 {
		for i := range t.s.Tails {
			tail := &t.s.Tails[i]
			bound := tail.Bound
			if canary {
				bound = tail.Allowed
			}
			tail.Fresh[outcome(canary, d > bound)%outcomes]++
		}
	}
	if !canary {
		t.s.Past.add(d, &t.edges)
	}
}

// settleLatency plays what came since the last time. Once a second is often
// enough: a slower canary is not found by a few requests.
func (t *Test) settleLatency() {
	for i := range t.s.Tails {
		tail := &t.s.Tails[i]
		if tail.Bound > 0 {
			tail.Capital.foldCounts(&t.tails[i], tail.Fresh)
		}
		tail.Fresh = Counts{}
	}
}

// Recall tells of a latency of the old version from before the canary came, so
// that the comparison need not wait until enough is known. Call it before the
// first Tick.
func (t *Test) Recall(d time.Duration) { t.s.Past.add(d, &t.edges) }

// learnLatency fixes the bounds until the next tick.
func (t *Test) learnLatency(now time.Time) {
	if t.s.Halved.IsZero() {
		t.s.Halved = now
	}
	for ; now.Sub(t.s.Halved) >= halfLife; t.s.Halved = t.s.Halved.Add(halfLife) {
		t.s.Past.halve()
	}
	for i, q := range levels() {
		tail := &t.s.Tails[i]
		tail.Bound = t.s.Past.quantile(q, &t.edges)
		tail.Allowed = time.Duration((1+t.s.Options.Slower)*float64(tail.Bound)) + t.s.Options.Slack
	}
}
