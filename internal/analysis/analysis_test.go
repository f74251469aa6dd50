package analysis

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func begin(w float64) *Test {
	t := New(Options{})
	t.SetWeight(w)
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
		test.Observe(r[0] == 'C', r[1] == '-')
		near(t, requests[:3*i+2], test.Evidence(), want[i], 1e-6)
	}
}

func TestGoldenSequence(t *testing.T) {
	test := begin(0.10)
	play(t, test, "C+ B- C- B+ C- C+ C- C-",
		0.997840, 0.735531, 1.205463, 1.205463, 3.580769, 3.566314, 17.923865, 114.867945)
	if v := test.Verdict(); v != Undecided {
		t.Errorf("verdict at 114.9: %s", v)
	}
	test.Tick(start.Add(time.Second))
	near(t, "evidence after the tick", test.Evidence(), 114.867945, 1e-6)
	near(t, "centre after the tick", test.State().Center, 1.0/22, 1e-12)
	play(t, test, "B+ C+ B- C-", 118.923828, 80.288502, 22.504391, 127.237303)
	if v := test.Verdict(); v != RollBack {
		t.Errorf("verdict at 127.2: %s", v)
	}
}

func TestGoldenFactors(t *testing.T) {
	test := begin(0.10)
	last, two := bettors-1, 2 // r = 1000 and r = 2
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"canary bad, r 1000", test.factors[canaryBad][last], 9.092629},
		{"canary ok, r 1000", test.factors[canaryOK][last], 0.99189927},
		{"old bad, r 1000", test.factors[oldBad][last], 0.009911},
		{"canary bad, r 2", test.factors[canaryBad][two], 1.743058},
		{"canary ok, r 2", test.factors[canaryOK][two], 0.99925620},
		{"old bad, r 2", test.factors[oldBad][two], 0.909091},
		{"old ok at centre 0", test.factors[oldOK][two], 1},
	} {
		near(t, c.name, c.got, c.want, 1e-6)
	}
}

// A dead canary needs three bad answers at 10 %.
func TestDeadCanary(t *testing.T) {
	test := begin(0.10)
	for i, want := range []float64{3.16, 19.1, 145.8} {
		test.Observe(true, true)
		if got := test.Evidence(); math.Abs(got-want) > 0.05 {
			t.Errorf("evidence after %d bad answers: got %.4f, want %.2f", i+1, got, want)
		}
	}
}

// Under the null no factor gains on average, whatever the weight, the centre
// and the old version's rate; at its border it neither gains nor loses.
func TestFactorsAreFair(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		o := Options{Rho: 1 + rng.Float64(), Delta: math.Pow(10, -4*rng.Float64()) / 10}
		test := Resume(o, State{Weight: 0.001 + 0.998*rng.Float64(), Center: rng.Float64() / 2})
		w := test.s.Weight
		pOld := rng.Float64() * (1 - o.Delta) / o.Rho
		border := o.Rho*pOld + o.Delta
		for k := range bettors {
			mean := func(pCanary float64) float64 {
				return w*(pCanary*test.factors[canaryBad][k]+(1-pCanary)*test.factors[canaryOK][k]) +
					(1-w)*(pOld*test.factors[oldBad][k]+(1-pOld)*test.factors[oldOK][k])
			}
			if m := mean(border); math.Abs(m-1) > 1e-9 {
				t.Fatalf("bettor %d at the border of the null: mean factor %.12f, want 1 (%+v, weight %v, old rate %v)", k, m, o, w, pOld)
			}
			if m := mean(border * rng.Float64()); m > 1+1e-9 {
				t.Fatalf("bettor %d gains %.12f under the null", k, m)
			}
			for i := range test.factors {
				if f := test.factors[i][k]; f <= 0 || f > 1/w+1e-9 && i == canaryBad {
					t.Fatalf("factor %d of bettor %d is %v at weight %v", i, k, f, w)
				}
			}
		}
	}
}

func TestBatchEqualsSingles(t *testing.T) {
	single, batch := begin(0.25), begin(0.25)
	now := start
	rng := rand.New(rand.NewPCG(3, 4))
	for range 40 {
		var n [outcomes]int64
		for range rng.IntN(200) {
			canary, bad := rng.Float64() < 0.25, rng.Float64() < 0.02
			single.Observe(canary, bad)
			switch {
			case canary && bad:
				n[canaryBad]++
			case canary:
				n[canaryOK]++
			case bad:
				n[oldBad]++
			default:
				n[oldOK]++
			}
		}
		batch.ObserveCounts(n[canaryOK], n[canaryBad], n[oldOK], n[oldBad])
		now = now.Add(time.Second)
		single.Tick(now)
		batch.Tick(now)
		near(t, "evidence", batch.Evidence(), single.Evidence(), 1e-9)
	}
	if single.State().Canary != batch.State().Canary || single.State().Old != batch.State().Old {
		t.Errorf("counts differ: %+v, %+v", single.Explain(), batch.Explain())
	}
}

func TestHugeBatchStaysFinite(t *testing.T) {
	test := begin(0.10)
	test.ObserveCounts(0, 1e6, 0, 0)
	if e := test.Evidence(); math.IsNaN(e) || math.IsInf(e, 0) || test.Verdict() != RollBack {
		t.Fatalf("evidence %v, verdict %s", e, test.Verdict())
	}
	test = begin(0.10)
	test.ObserveCounts(0, 0, 0, 1e9)
	test.ObserveCounts(0, 3, 0, 0)
	if e := test.Evidence(); math.IsNaN(e) || e < 0.5 || test.Verdict() != Undecided {
		t.Fatalf("evidence %v, verdict %s", e, test.Verdict())
	}
}

// An outage of both versions must condemn nobody.
func TestOutageOfBoth(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for trial := range 100 {
		test, now := begin(0.10), start
		for second := range 120 {
			rate := 0.001
			if second >= 30 && second < 90 {
				rate = 0.3
			}
			for range 100 {
				test.Observe(rng.Float64() < 0.10, rng.Float64() < rate)
				if test.Verdict() == RollBack {
					t.Fatalf("trial %d, second %d: %s", trial, second, test.Explain())
				}
			}
			now = now.Add(time.Second)
			test.Tick(now)
		}
	}
}

func TestReserveMovesByTheClockOnly(t *testing.T) {
	test := begin(0.10)
	test.Tick(start.Add(time.Second / 2))
	near(t, "reserve before a second has passed", test.State().Reserve, 0.5, 0)
	test.Tick(start.Add(time.Minute))
	near(t, "reserve after a tenth of the window", test.State().Reserve, 0.45, 1e-12)
	test.Tick(start.Add(time.Hour))
	near(t, "reserve at the end", test.State().Reserve, 0, 1e-12)
	near(t, "evidence", test.Evidence(), 1, 1e-12)
}

// The centre is a running average that forgets within about half a minute.
func TestCentreFollowsTheOldVersion(t *testing.T) {
	test := begin(0.10)
	test.ObserveCounts(50, 50, 90, 10)
	test.Tick(start.Add(time.Second))
	near(t, "centre", test.State().Center, 10.0/(100+20), 1e-12)
	test.ObserveCounts(0, 0, 40, 0)
	test.Tick(start.Add(31 * time.Second))
	near(t, "centre half a minute later", test.State().Center, 10/math.E/(100/math.E+40+20), 1e-12)
	test.ObserveCounts(0, 0, 0, 1e6)
	test.Tick(start.Add(32 * time.Second))
	near(t, "centre of an outage", test.State().Center, 0.5, 0)
}

func TestResume(t *testing.T) {
	test := begin(0.10)
	test.ObserveCounts(30, 1, 300, 2)
	test.Tick(start.Add(time.Second))
	raw, err := json.Marshal(test.State())
	if err != nil {
		t.Fatal(err)
	}
	var s State
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	resumed := Resume(Options{}, s)
	for range 5 {
		test.Observe(true, true)
		resumed.Observe(true, true)
	}
	near(t, "evidence", resumed.Evidence(), test.Evidence(), 0)
}

func TestNothingIsLearnedWithoutAWeight(t *testing.T) {
	test := New(Options{})
	test.Observe(true, true)
	test.ObserveCounts(0, 100, 0, 0)
	near(t, "evidence", test.Evidence(), 1, 1e-9)
}

func TestExplain(t *testing.T) {
	test := begin(0.10)
	test.ObserveCounts(32, 9, 380, 0)
	got := test.Explain().String()
	if !strings.HasPrefix(got, "5xx: canary 9 of 41 requests (22.0 %), live release 0 of 380 requests (0.0 %); evidence ") || !strings.HasSuffix(got, " ≥ 125") {
		t.Errorf("got %q", got)
	}
	if got := New(Options{}).Explain().Sensitivity(); !strings.Contains(got, "too little traffic") {
		t.Errorf("got %q", got)
	}
}

func TestObserveDoesNotAllocate(t *testing.T) {
	test := begin(0.10)
	if n := testing.AllocsPerRun(1000, func() { test.Observe(false, false); _ = test.Verdict() }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	test := begin(0.10)
	b.ReportAllocs()
	for b.Loop() {
		test.Observe(false, false)
		_ = test.Verdict()
	}
}
