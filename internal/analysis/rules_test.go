package analysis

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func seeded(n uint64) *rand.Rand { return rand.New(rand.NewPCG(n, n)) }

// An outage of both versions must condemn nobody, a release 10 % worse in it
// neither; the ceilings are not protected and say what they are.
func TestOutageOfBoth(t *testing.T) {
	outage := func(second int) (float64, float64) {
		if second >= 30 && second < 90 {
			return 0.33, 0.3
		}
		return 0.001, 0.001
	}
	for trial := range uint64(100) {
		test := started(Options{}, 0.10)
		world{rng: seeded(trial), weight: 0.10, perSecond: 100, seconds: 120, rates: outage}.play(test)
		if test.Verdict().Condemns() {
			t.Fatalf("trial %d: %s", trial, test.Explain())
		}
	}
	for o, want := range map[Options]string{
		{Max5xx: 0.05}:   "ceiling: canary ",
		{Guard5xx: 0.05}: "ceiling: both together ",
	} {
		test := started(o, 0.10)
		world{rng: seeded(1), weight: 0.10, perSecond: 100, seconds: 120, rates: outage}.play(test)
		if got := test.Explain().String(); test.Verdict() != Ceiling || !strings.HasPrefix(got, want) {
			t.Errorf("%+v: %s: %s, want %s…", o, test.Verdict(), got, want)
		}
	}
}

func TestLatency(t *testing.T) {
	exponential := func(canary, old time.Duration) func(*rand.Rand, bool) time.Duration {
		return func(rng *rand.Rand, isCanary bool) time.Duration {
			return time.Duration(rng.ExpFloat64() * float64(map[bool]time.Duration{true: canary, false: old}[isCanary]))
		}
	}
	tail := func(rng *rand.Rand, canary bool) time.Duration { // only one answer in twenty is slow
		if canary && rng.Float64() < 0.05 {
			return time.Second
		}
		return 20 * time.Millisecond
	}
	slightly := func(rng *rand.Rand, canary bool) time.Duration {
		d := time.Duration(rng.ExpFloat64() * float64(2*time.Millisecond))
		if canary {
			d += 4 * time.Millisecond
		}
		return d
	}
	coldStart := func() func(*rand.Rand, bool) time.Duration {
		n := 0
		return func(rng *rand.Rand, canary bool) time.Duration {
			if canary {
				if n++; n <= 200 {
					return time.Second
				}
			}
			return time.Duration(rng.ExpFloat64() * float64(50*time.Millisecond))
		}
	}
	for _, c := range []struct {
		name      string
		latencies func(*rand.Rand, bool) time.Duration
		want      bool
	}{
		{"the same", exponential(50*time.Millisecond, 50*time.Millisecond), false},
		{"20 % slower, which is allowed", exponential(60*time.Millisecond, 50*time.Millisecond), false},
		{"4 ms slower, which is allowed", slightly, false},
		{"faster", exponential(20*time.Millisecond, 50*time.Millisecond), false},
		{"twice as slow", exponential(100*time.Millisecond, 50*time.Millisecond), true},
		{"one in twenty is slow", tail, true},
		{"slow only while it is cold", coldStart(), false},
	} {
		test := New(Options{})
		test.SetWeight(0.10)
		for rng, i := seeded(77), 0; i < 2000; i++ {
			test.Recall(c.latencies(rng, false))
		}
		test.Tick(start)
		world{rng: seeded(3), weight: 0.10, perSecond: 100, seconds: 300, rates: steady(0.01, 0.01), latencies: c.latencies}.play(test)
		e := test.Explain()
		if got := e.Verdict == RollBack && e.Rule == RuleLatency; got != c.want || !c.want && e.Verdict.Condemns() {
			t.Errorf("%s: %s, %s", c.name, e.Verdict, e.Text())
		}
		if c.want && !strings.HasPrefix(e.String(), "latency: more than ") {
			t.Errorf("%s: %s", c.name, e)
		}
	}
}

// Answers of 5xx are left out of latency: a canary that fails slowly is not
// slow.
func TestBadAnswersHaveNoLatency(t *testing.T) {
	test := busy(seeded(4))
	before := test.State()
	for range 500 {
		test.Observe(Request{Bad: true, Latency: time.Second})
	}
	if after := test.State(); before.Past != after.Past || after.Tails[0].Fresh != before.Tails[0].Fresh {
		t.Error("a bad answer was counted")
	}
}

func TestHistogram(t *testing.T) {
	e := newEdges()
	if top := e[buckets-1]; top < 10*time.Second {
		t.Errorf("the last bucket ends at %s, before the deadline of a request", top)
	}
	rng := seeded(5)
	for range 100_000 {
		d := time.Duration(math.Exp(rng.Float64()*25) * 10)
		var h Histogram
		h.add(d, &e)
		for i, n := range h {
			if n == 1 && (i > 0 && d <= e[i-1] || i < buckets-1 && d > e[i]) {
				t.Fatalf("%s lies in bucket %d, from %s to %s", d, i, e[max(0, i-1)], e[i])
			}
		}
	}
	var h Histogram
	for i := range 1000 {
		h.add(time.Duration(i+1)*time.Millisecond, &e)
	}
	for _, q := range levels() {
		if got, want := float64(h.quantile(q, &e)), q*float64(time.Second); got < want || got > want*1.05 {
			t.Errorf("quantile %v: got %v, want %v and at most 4 %% more", q, got, want)
		}
	}
	for range 4 {
		h.halve()
	}
	if got := h.quantile(0.99, &e); got != 0 {
		t.Errorf("the 99th percentile of some sixty latencies is %s, want none", got)
	}
	if got := h.quantile(0.9, &e); got < 900*time.Millisecond {
		t.Errorf("the 90th percentile after halving is %s", got)
	}
}

// The promise of the margin: a canary without errors is promoted after 824
// requests at half a point, and not before the bake.
func TestPromotion(t *testing.T) {
	for margin, want := range map[float64]int64{0.005: 824, 0.01: 411} {
		test := started(Options{Margin: margin}, 0.10)
		var n int64
		for ; test.promotion() < 20; n++ {
			test.ObserveCounts(1, 0, 9, 0)
		}
		if n != want {
			t.Errorf("at margin %v: promoted after %d canary requests, want %d", margin, n, want)
		}
		test.Tick(start.Add(29 * time.Second))
		if v := test.Verdict(); v != Undecided {
			t.Errorf("before the bake is over: %s", v)
		}
		test.Tick(start.Add(30 * time.Second))
		if e := test.Explain(); e.Verdict != Promote || !strings.HasPrefix(e.String(), "not worse by ") {
			t.Errorf("after it: %s", e)
		}
	}
	// At most 5 % of those that are worse by the margin are promoted early.
	promoted := 0
	for trial := range uint64(200) {
		test := started(Options{Alpha: 1e-9}, 0.10)
		w := world{rng: seeded(trial), weight: 0.10, perSecond: 100, seconds: 1, rates: steady(0.006, 0.001)}
		for second := range 300 {
			w.play(test)
			test.Tick(start.Add(time.Duration(second+2) * time.Second))
			if test.Verdict() == Promote {
				promoted++
				break
			}
		}
	}
	if promoted > 16 {
		t.Errorf("%d of 200 canaries that are worse by the margin were promoted", promoted)
	}
}

func TestSplit(t *testing.T) {
	for trial := range uint64(50) {
		honest, wrong := started(Options{}, 0.10), started(Options{}, 0.10)
		world{rng: seeded(trial), weight: 0.10, perSecond: 100, seconds: 60, rates: steady(0.05, 0.05)}.play(honest)
		honest.SetWeight(0.50)
		world{rng: seeded(trial + 1000), weight: 0.50, perSecond: 100, seconds: 60, rates: steady(0.05, 0.05)}.play(honest)
		if honest.Verdict() == Split || honest.Verdict().Condemns() {
			t.Fatalf("trial %d: %s", trial, honest.Explain())
		}
		world{rng: seeded(trial), weight: 0.12, perSecond: 100, seconds: 600, rates: steady(0.05, 0.05)}.play(wrong)
		if e := wrong.Explain(); e.Verdict != Split || !strings.HasPrefix(e.String(), "the traffic split is not what was configured: the canary had ") {
			t.Fatalf("trial %d: %s", trial, e)
		} else if got := e.Sensitivity(); !strings.HasPrefix(got, "nothing would have been seen, since the traffic split ") {
			t.Fatalf("got %q", got)
		}
	}
	// A canary that gets everything is condemned by nobody, however it fails.
	test := started(Options{}, 0.10)
	for range 20 {
		test.Observe(Request{Canary: true})
	}
	for range 3 {
		test.Observe(Request{Canary: true, Bad: true})
	}
	if v := test.Verdict(); v != Split {
		t.Errorf("23 canary requests in a row at 10 %%: %s", v)
	}
}

// Without a coin the same faults are found, by the weaker rule, and the text
// says what it rests on.
func TestNoCoin(t *testing.T) {
	for _, c := range []struct {
		canary, old float64
		want        bool
	}{{1, 0.001, true}, {0.2, 0.001, true}, {0.05, 0, true}, {0.001, 0.001, false}, {0.01, 0.01, false}, {0.011, 0.01, false}, {0.3, 0.3, false}, {1, 1, false}} {
		test := started(Options{Source: NoCoin}, 0)
		world{rng: seeded(6), weight: 0.10, perSecond: 100, seconds: 300, rates: steady(c.canary, c.old)}.play(test)
		if e := test.Explain(); (e.Verdict == RollBack) != c.want || e.Verdict.Condemns() != c.want {
			t.Errorf("rates %v and %v: %s", c.canary, c.old, e)
		}
	}
	test := started(Options{Source: NoCoin}, 0)
	test.ObserveCounts(0, 50, 0, 0)
	test.Tick(start.Add(time.Minute))
	if e := test.Explain(); e.String() != "no data: the live release had 0 requests: too little to compare the canary with" {
		t.Errorf("only the canary was asked: %s", e)
	}
	test.ObserveCounts(0, 0, 100, 0)
	test.Tick(start.Add(2 * time.Minute))
	if e := test.Explain(); e.Verdict != RollBack || !strings.Contains(e.Guarantee(), "no coin sends them") {
		t.Errorf("then both: %s; %s", e, e.Guarantee())
	}
}

// A canary that is compared with nothing is held against a limit, and judged
// well by it.
func TestAbsolute(t *testing.T) {
	if why := Unhealthy(Arm{Requests: 50, Bad: 24}); why != "" {
		t.Errorf("24 of 50 is unhealthy: %s", why)
	}
	why := Unhealthy(Arm{Requests: 50, Bad: 43})
	if why != "43 of 50 requests (86.0 %) went badly before the rollout" {
		t.Errorf("got %q", why)
	}
	for rate, want := range map[float64]Verdict{0: Promote, 0.01: Promote, 0.2: Ceiling, 1: Ceiling} {
		test := started(Options{Absolute: why}, 0.10)
		world{rng: seeded(7), weight: 0.10, perSecond: 100, seconds: 120, rates: steady(rate, 0.9)}.play(test)
		e := test.Explain()
		if e.Verdict != want || !strings.Contains(e.Guarantee(), why) || strings.Contains(e.Text(), "live release: ") {
			t.Errorf("rate %v: %s, want %s\n%s", rate, e.Verdict, want, e.Text())
		}
	}
	first := started(Options{Absolute: "it is the first release"}, 1)
	for range 20 {
		first.Observe(Request{Canary: true, Bad: true})
	}
	if e := first.Explain(); e.Verdict != Ceiling || !strings.HasPrefix(e.String(), "ceiling: canary ") {
		t.Errorf("a first release that always fails: %s", e)
	}
}

// A late fault is found after a long time of health too.
func TestLateFault(t *testing.T) {
	for _, o := range []Options{{}, {Source: NoCoin}, {Absolute: "it is the first release"}} {
		test := started(o, 0.10)
		late := func(second int) (float64, float64) {
			if second < 300 {
				return 0.001, 0.001
			}
			return 0.2, 0.001
		}
		world{rng: seeded(8), weight: 0.10, perSecond: 100, seconds: 330, rates: late}.play(test)
		if e := test.Explain(); !e.Verdict.Condemns() {
			t.Errorf("%+v: not found within 30 s: %s", o, e)
		}
	}
}

// The interval has the true difference in it 19 times in 20, whenever it is
// looked at, and becomes narrow.
func TestInterval(t *testing.T) {
	for _, c := range []struct{ canary, old, atLeast, atMost float64 }{
		{0.001, 0.001, -0.01, 0.005}, {0.08, 0.001, 0.02, 0.2}, {0.02, 0.02, -0.02, 0.02}, {0.001, 0.3, -1, -0.1}, {1, 0, 0.2, 1},
	} {
		missed := 0
		for trial := range uint64(40) {
			test := started(Options{Alpha: 1e-200}, 0.10)
			wrong := false
			for minute := range 10 {
				world{rng: seeded(100*trial + uint64(minute)), weight: 0.10, perSecond: 6000, seconds: 1, rates: steady(c.canary, c.old)}.play(test)
				i := test.Explain().Difference
				wrong = wrong || i.Low >= c.canary-c.old || i.High <= c.canary-c.old && i.High < 1
			}
			if wrong {
				missed++
			}
			if i := test.Explain().Difference; trial == 0 && (i.Low < c.atLeast || i.High > c.atMost) {
				t.Errorf("rates %v and %v: %s, want between %v and %v", c.canary, c.old, i, c.atLeast, c.atMost)
			}
		}
		if missed > 5 {
			t.Errorf("rates %v and %v: %d of 40 intervals were wrong at some time", c.canary, c.old, missed)
		}
	}
}

func TestRateOfNoneAndAll(t *testing.T) {
	for n := int64(1); n < 300; n++ {
		if r := rate(Arm{Requests: n}); r.Low != 0 || r.High <= 0 || r.High >= 1 {
			t.Errorf("0 of %d: between %g and %g", n, r.Low, r.High)
		}
		if r := rate(Arm{Requests: n, Bad: n}); r.High != 1 || r.Low <= 0 || r.Low >= 1 {
			t.Errorf("%d of %d: between %g and %g", n, n, r.Low, r.High)
		}
	}
}

func TestIntervalInWords(t *testing.T) {
	for i, want := range map[Interval]string{
		{-1, 1}:        "too little was seen to say how much better or worse the canary is",
		{0.05, 0.2}:    "the canary is between 5 and 20 points worse",
		{0.05, 1}:      "the canary is at least 5 points worse",
		{-0.2, -0.01}:  "the canary is between 1 and 20 points better",
		{-1, -0.01}:    "the canary is at least 1 point better",
		{-0.01, 0.005}: "the canary is at most 0.5 points worse and at most 1 point better",
		{-1, 0.005}:    "the canary is at most 0.5 points worse",
		{-0.01, 1}:     "the canary is at most 1 point better",
	} {
		if got := i.String(); got != want {
			t.Errorf("%v: got %q, want %q", i, got, want)
		}
	}
}

func TestVerdictsOfTime(t *testing.T) {
	test := started(Options{}, 0.10)
	if e := test.Explain(); e.Verdict != NoData || e.String() != "no data: the canary had 0 requests: too little traffic for a judgement" {
		t.Errorf("got %s: %s", e.Verdict, e)
	}
	test.ObserveCounts(600, 2, 5400, 20)
	test.Tick(start.Add(10*time.Minute - time.Second))
	if v := test.Verdict(); v != Undecided {
		t.Errorf("before the end: %s", v)
	}
	test.Tick(start.Add(10 * time.Minute))
	want := "no evidence after 10m: canary 2 of 602 requests (0.3 %), live release 20 of 5420 requests (0.4 %); " +
		"the canary had 602 requests, 2 bad: a rise of more than about 2.8 points would have been seen"
	if e := test.Explain(); e.Verdict != Inconclusive || e.String() != want {
		t.Errorf("at the end: %s: %s", e.Verdict, e)
	}
}

func TestExplain(t *testing.T) {
	test := started(Options{}, 0.10)
	test.ObserveCounts(32, 9, 380, 0)
	e := test.Explain()
	if got := e.String(); !strings.HasPrefix(got, "5xx: canary 9 of 41 requests (22.0 %), live release 0 of 380 requests (0.0 %); evidence ") || !strings.HasSuffix(got, " ≥ 100") {
		t.Errorf("got %q", got)
	}
	for _, want := range []string{
		"guarantee: at most 1 in 100 canaries that fail at most 1.1 times as often as the live release + 0.1 points is rolled back, whatever the traffic does",
		"difference: the canary is at least 5 points worse (19 times in 20)", "19 times in 20 between 12 % and 36.7 %", "\nsplit: evidence ", "\npromotion: evidence ",
	} {
		if !strings.Contains(e.Text(), want) {
			t.Errorf("%q is missing in\n%s", want, e.Text())
		}
	}
	near(t, "share by the coin", e.Weight, 0.1, 1e-12)
}

// The curve is bounded, spans the whole time, and ends with the verdict.
func TestSeries(t *testing.T) {
	test := started(Options{Window: time.Hour}, 0.10)
	world{rng: seeded(9), weight: 0.10, perSecond: 20, seconds: 1500, rates: steady(0.05, 0.05)}.play(test)
	points := test.Series()
	if n := len(points); n < marks/3 || n > marks {
		t.Fatalf("%d points", n)
	}
	if first, last := points[0].Time, points[len(points)-1].Time; first.Sub(start) > time.Second || start.Add(1480*time.Second).After(last) {
		t.Errorf("from %s to %s", first.Sub(start), last.Sub(start))
	}
	for i := 2; i < len(points); i++ {
		if a, b := points[i-1].Time.Sub(points[i-2].Time), points[i].Time.Sub(points[i-1].Time); a != b {
			t.Fatalf("points are %s and %s apart", a, b)
		}
		if p := points[i]; p.Limit != 100 || p.Evidence <= 0 || p.Old <= 0 || p.Old > 0.2 {
			t.Fatalf("point %+v", p)
		}
	}
	for range 30 {
		test.Observe(Request{Canary: true, Bad: true})
	}
	for i := range 3 {
		test.Tick(start.Add(1500*time.Second + time.Duration(i+1)*100*time.Millisecond))
	}
	after := test.Series()
	if last := after[len(after)-1]; len(after) != len(points)+1 && len(after) != marks/2+1 || last.Evidence < last.Limit || last.Canary < 0.3 {
		t.Errorf("%d points after %d; the last is %+v, of %s", len(after), len(points), last, test.Explain())
	}
}

// A change of the weight does not change what earlier latencies mean.
func TestLatencyIsSettledByItsWeight(t *testing.T) {
	changed := busy(seeded(10))
	settled := Resume(changed.State())
	for range 100 {
		for _, test := range []*Test{changed, settled} {
			test.Observe(Request{Canary: true, Latency: time.Second})
			test.Observe(Request{Latency: 20 * time.Millisecond})
		}
	}
	settled.settleLatency()
	changed.SetWeight(0.50)
	changed.settleLatency()
	for i := range changed.s.Tails {
		got, want := changed.s.Tails[i].Capital.evidence(), settled.s.Tails[i].Capital.evidence()
		near(t, "evidence of latency over that by the weight of the time", got/want, 1, 1e-12)
	}
}

// Latency that is left out neither condemns nor is told of.
func TestLatencyLeftOut(t *testing.T) {
	test := New(Options{IgnoreLatency: true, WarmUp: 1})
	test.SetWeight(0.5)
	at := time.Unix(0, 0)
	for i := range 5000 {
		test.Tick(at.Add(time.Duration(i) * 10 * time.Millisecond))
		test.Observe(Request{Canary: i%2 == 0, Latency: time.Duration(1+99*(1-i%2)) * 10 * time.Millisecond})
	}
	e := test.Explain()
	if e.Verdict.Condemns() || len(e.Latency) > 0 || slices.ContainsFunc(e.Findings, func(f Finding) bool { return f.Rule == RuleLatency }) {
		t.Errorf("got %+v", e)
	}
}
