package analysis

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// started begins a test whose clock runs, with a weight if it is not 0.
func started(o Options, w float64) *Test {
	t := New(o)
	if w > 0 {
		t.SetWeight(w)
	}
	t.Tick(start)
	return t
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance*max(1, math.Abs(want)) || math.IsNaN(got) {
		t.Errorf("%s: got %.9g, want %.9g", what, got, want)
	}
}

// play folds requests written like "C+ B-": C canary, B old version, - bad.
func play(t *testing.T, test *Test, requests string, want ...float64) {
	t.Helper()
	for i, r := range strings.Fields(requests) {
		test.Observe(Request{Canary: r[0] == 'C', Bad: r[1] == '-'})
		near(t, requests[:3*i+2], test.evidence.errors, want[i], 1e-6)
	}
}

// world is traffic with a coin: every second so many requests, of which the
// arms fail with these rates and take so long. It ends when a verdict stands.
type world struct {
	rng       *rand.Rand
	weight    float64
	perSecond int
	rates     func(second int) (canary, old float64)
	latencies func(rng *rand.Rand, canary bool) time.Duration
	seconds   int
}

func (w world) play(test *Test) {
	for second := range w.seconds {
		canary, old := w.rates(second)
		for range w.perSecond {
			r := Request{Canary: w.rng.Float64() < w.weight}
			r.Bad = w.rng.Float64() < map[bool]float64{true: canary, false: old}[r.Canary]
			if w.latencies != nil {
				r.Latency = w.latencies(w.rng, r.Canary)
			}
			test.Observe(r)
		}
		test.Tick(start.Add(time.Duration(second+1) * time.Second))
		if test.State().Decided != "" {
			return
		}
	}
}

func steady(canary, old float64) func(int) (float64, float64) {
	return func(int) (float64, float64) { return canary, old }
}

// A dead canary needs three bad answers at 10 %, and so on.
func TestDeadCanary(t *testing.T) {
	for weight, bads := range map[float64]int{0.01: 2, 0.05: 3, 0.10: 3, 0.25: 5, 0.50: 10} {
		test := started(Options{}, weight)
		n := 0
		for ; test.Verdict() != RollBack && n < 100; n++ {
			test.Observe(Request{Canary: true, Bad: true})
		}
		if n != bads {
			t.Errorf("at %v a dead canary needs %d bad answers, want %d", weight, n, bads)
		}
	}
	test := started(Options{}, 0.10)
	for i, want := range []float64{3.16, 19.1, 145.8} {
		test.Observe(Request{Canary: true, Bad: true})
		if got := test.evidence.errors; math.Abs(got-want) > 0.05 {
			t.Errorf("evidence after %d bad answers: got %.4f, want %.2f", i+1, got, want)
		}
	}
	before := test.Explain()
	test.Observe(Request{})
	test.ObserveCounts(0, 0, 1000, 1000)
	test.Tick(start.Add(time.Hour))
	if after := test.Explain(); !reflect.DeepEqual(after, before) {
		t.Errorf("what condemned has changed: %v, before %v", after, before)
	}
}

// FuzzBatchEqualsSingles reads batches from pairs of bytes, a number and what is
// counted by it. Folded as counts they give the same as one by one.
func FuzzBatchEqualsSingles(f *testing.F) {
	f.Add([]byte{10, 0, 200, 3, 5, 1, 30, 2}, uint8(25))
	f.Add([]byte{255, 1, 255, 3, 255, 0}, uint8(1))
	f.Fuzz(func(t *testing.T, input []byte, share uint8) {
		o := Options{Max5xx: 0.1, Guard5xx: 0.2, Alpha: 1e-280} // nothing may be decided on the way
		weight := (float64(share) + 1) / 257
		single, batch := started(o, weight), started(o, weight)
		now := start
		for i := 0; i+1 < len(input); i += 2 {
			var n Counts
			n[input[i+1]%outcomes] = int64(input[i])
			n[input[i+1]/4%outcomes] += int64(input[i] / 3)
			for outcome, times := range n {
				for range times {
					single.Observe(Request{Canary: outcome == canaryBad || outcome == canaryOK, Bad: outcome == canaryBad || outcome == oldBad})
				}
			}
			batch.ObserveCounts(n[canaryOK], n[canaryBad], n[oldOK], n[oldBad])
			if single.State().Decided != "" || batch.State().Decided != "" {
				return
			}
			now = now.Add(time.Second)
			single.Tick(now)
			batch.Tick(now)
			for _, pair := range [][2]float64{
				{single.evidence.errors, batch.evidence.errors}, {single.evidence.ceiling, batch.evidence.ceiling},
				{single.evidence.guard, batch.evidence.guard}, {single.s.Promotion, batch.s.Promotion},
			} {
				near(t, "evidence of the batch", pair[1], pair[0], 1e-9)
			}
			if single.s.Seen() != batch.s.Seen() || single.s.Cold != batch.s.Cold {
				t.Fatalf("counts differ: %v, %v", single.s.Seen(), batch.s.Seen())
			}
		}
	})
}

func TestHugeBatchStaysFinite(t *testing.T) {
	test := started(Options{}, 0.10)
	test.ObserveCounts(0, 1e6, 0, 0)
	if e := test.Evidence(); math.IsNaN(e) || math.IsInf(e, 0) || !(test.Verdict() == Split) {
		t.Fatalf("evidence %v, verdict %s", e, test.Verdict()) // a million canary requests in a row are no coin
	}
	test = started(Options{}, 0.10)
	test.ObserveCounts(0, 0, 0, 1e9)
	test.ObserveCounts(0, 3, 0, 0)
	if e := test.Evidence(); math.IsNaN(e) || e < 0.4 || test.Verdict().Condemns() {
		t.Fatalf("evidence %v, verdict %s", e, test.Verdict())
	}
}

// After ten million requests wealth has neither overflowed nor become a number
// that is none, and what underflowed comes back from the reserve.
func TestManyRequests(t *testing.T) {
	if testing.Short() {
		t.Skip("ten million requests")
	}
	test := started(Options{Window: 100 * time.Hour}, 0.10)
	rng := rand.New(rand.NewPCG(5, 6))
	log, table := [most]float64{}, test.errors
	for k := range log {
		log[k] = math.Log(test.s.Errors.Wealth[k])
	}
	for i := range 10_000_000 {
		r := Request{Canary: rng.Float64() < 0.10, Bad: rng.Float64() < 0.2, Latency: time.Duration(rng.ExpFloat64() * float64(20*time.Millisecond))}
		test.Observe(r)
		if i < 20000 {
			for k := range log {
				log[k] += math.Log(table[outcome(r.Canary, r.Bad)][k])
			}
		}
		if i == 20000-1 {
			for k := range log { // the reference adds logarithms
				if want := math.Exp(log[k]); want > 1e-300 {
					near(t, "wealth over its reference", test.s.Errors.Wealth[k]/want, 1, 1e-9)
				}
			}
		}
	}
	if e := test.Evidence(); test.State().Decided != "" || math.IsNaN(e) || e > 100 || e < 0.5 {
		t.Fatalf("evidence %v, verdict %s", e, test.Verdict())
	}
	if test.s.Errors.Wealth[8] != 0 {
		t.Errorf("wealth of the boldest bettor is %v: the test does not test underflow", test.s.Errors.Wealth[8])
	}
	test.Tick(start.Add(10 * time.Hour))
	if w := test.s.Errors.Wealth[8]; !(w > 0) {
		t.Errorf("wealth after the reserve came into play: %v", w)
	}
	for n := 0; test.Verdict() != RollBack; n++ {
		if n > 200 {
			t.Fatalf("a dead canary is not found after all that: %v", test.Explain())
		}
		test.Observe(Request{Canary: true, Bad: true})
	}
}

func TestReserveMovesByTheClockOnly(t *testing.T) {
	test := started(Options{}, 0.10)
	test.Tick(start.Add(time.Second / 2))
	near(t, "reserve before a second has passed", test.State().Errors.Reserve, 0.5, 0)
	test.Tick(start.Add(time.Minute))
	near(t, "reserve after a tenth of the window", test.State().Errors.Reserve, 0.45, 1e-12)
	test.Tick(start.Add(time.Hour))
	near(t, "reserve at the end", test.State().Errors.Reserve, 0, 1e-12)
	near(t, "evidence", test.Evidence(), 1, 1e-12)
}

// The centre is a running average that forgets within about half a minute.
func TestCentreFollowsTheOldVersion(t *testing.T) {
	test := started(Options{}, 0.50)
	test.ObserveCounts(85, 5, 90, 10)
	test.SetWeight(0.40) // must not lose what came since the last tick
	test.Tick(start.Add(time.Second))
	near(t, "centre", test.State().Center, 10.0/(100+20), 1e-12)
	test.ObserveCounts(0, 0, 40, 0)
	test.Tick(start.Add(31 * time.Second))
	near(t, "centre half a minute later", test.State().Center, 10/math.E/(100/math.E+40+20), 1e-12)
	test = started(Options{Source: NoCoin}, 0)
	test.ObserveCounts(0, 0, 0, 1e6)
	test.Tick(start.Add(time.Second))
	near(t, "centre of an outage", test.State().Center, 0.5, 0)
}

// Whoever stores a test after every few requests and resumes it learns to the
// last bit what one learns who never stops.
func TestResumeEqualsNoBreak(t *testing.T) {
	for _, o := range []Options{{Max5xx: 0.2, Guard5xx: 0.3}, {Source: NoCoin}, {Absolute: "it is the first release"}} {
		rng := rand.New(rand.NewPCG(7, 8))
		whole, broken := started(o, 0.10), started(o, 0.10)
		now := start
		for i := range 3000 {
			if i == 1500 {
				whole.SetWeight(0.50)
				broken.SetWeight(0.50)
			}
			r := Request{Canary: rng.Float64() < whole.s.Weight, Bad: rng.Float64() < 0.01, Latency: time.Duration(rng.ExpFloat64() * float64(30*time.Millisecond))}
			whole.Observe(r)
			broken.Observe(r)
			now = now.Add(time.Duration(rng.IntN(100)) * time.Millisecond)
			whole.Tick(now)
			broken.Tick(now)
			if i%7 == 0 {
				broken = restored(t, broken)
			}
		}
		if !reflect.DeepEqual(whole.State(), broken.State()) {
			t.Errorf("%+v: states differ:\n%+v\n%+v", o, whole.State(), broken.State())
		}
		if a, b := whole.Explain(), broken.Explain(); !reflect.DeepEqual(a, b) {
			t.Errorf("explanations differ:\n%v\n%v", a, b)
		}
	}
}

func restored(t *testing.T, test *Test) *Test {
	t.Helper()
	raw, err := json.Marshal(test.State())
	if err != nil {
		t.Fatal(err)
	}
	var s State
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	if len(raw) > 40_000 {
		t.Errorf("a state takes %d bytes", len(raw))
	}
	return Resume(s)
}

// What State gives is not changed by what is learned later.
func TestStateIsACopy(t *testing.T) {
	test := started(Options{Max5xx: 0.5}, 0.10)
	before := test.State()
	raw, _ := json.Marshal(before)
	world{rng: rand.New(rand.NewPCG(9, 9)), weight: 0.1, perSecond: 50, seconds: 5, rates: steady(0.01, 0.01)}.play(test)
	if after, _ := json.Marshal(before); string(after) != string(raw) {
		t.Errorf("the state changed from\n%s\nto\n%s", raw, after)
	}
}

func TestNothingIsLearnedWithoutAWeight(t *testing.T) {
	test := Resume(State{}) // nothing known: begins with the defaults
	test.Observe(Request{Canary: true, Bad: true})
	test.ObserveCounts(0, 100, 0, 0)
	near(t, "evidence", test.Evidence(), 1, 1e-9)
	for _, w := range []float64{0, 1, -1, math.NaN()} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("weight %v was taken", w)
				}
			}()
			test.SetWeight(w)
		}()
	}
}

func TestObserveDoesNotAllocate(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	test := busy(rng)
	if n := testing.AllocsPerRun(1000, func() { test.Observe(Request{Canary: rng.Float64() < 0.1, Latency: 20 * time.Millisecond}) }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

// busy is a test in which every rule is in force.
func busy(rng *rand.Rand) *Test {
	test := New(Options{Max5xx: 0.5, Guard5xx: 0.5})
	test.SetWeight(0.10)
	for range 10000 {
		test.Recall(time.Duration(rng.ExpFloat64() * float64(20*time.Millisecond)))
	}
	test.Tick(start)
	for range 3000 {
		test.Observe(Request{Canary: rng.Float64() < 0.10, Latency: time.Duration(rng.ExpFloat64() * float64(20*time.Millisecond))})
	}
	test.Tick(start.Add(time.Second))
	return test
}

func BenchmarkObserve(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	var latencies [1024]time.Duration
	for i := range latencies {
		latencies[i] = time.Duration(rng.ExpFloat64() * float64(20*time.Millisecond))
	}
	plain := New(Options{})
	plain.SetWeight(0.10)
	for name, test := range map[string]*Test{"5xx": plain, "all": busy(rng)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				// No coin could keep its share so exactly: no verdict may end what is measured.
				r := Request{Canary: i%10 == 0, Bad: i%997 == 0}
				if name == "all" {
					r.Latency = latencies[i%len(latencies)]
				}
				test.Observe(r)
				if i++; i%1000 == 0 {
					test.Tick(start.Add(time.Duration(i/1000+1) * time.Second))
				}
			}
			if test.State().Decided != "" {
				b.Fatalf("decided, so what was measured is no fold: %v", test.Explain())
			}
		})
	}
}
