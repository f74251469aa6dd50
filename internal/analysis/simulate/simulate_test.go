package simulate

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"makeitso/internal/analysis"
)

func named(t *testing.T, worlds []World, part string) World {
	t.Helper()
	for _, w := range worlds {
		if strings.Contains(w.Name, part) {
			return w
		}
	}
	t.Fatalf("no world is called %q", part)
	return World{}
}

// The same seed gives the same rollout.
func TestSeeded(t *testing.T) {
	w := named(t, Troubles(), "bursts")
	w.Minutes = 2
	a, b, c := w.Play(1, analysis.Options{}, false), w.Play(1, analysis.Options{}, false), w.Play(2, analysis.Options{}, false)
	if !reflect.DeepEqual(a, b) {
		t.Errorf("got %v and %v", a, b)
	}
	if reflect.DeepEqual(a, c) {
		t.Errorf("another seed gives the same: %v", a)
	}
}

// What is played by numbers, after the verdict, is the same traffic as what is
// played one by one.
func TestTrafficGoesOnAfterTheVerdict(t *testing.T) {
	for _, w := range []World{named(t, Faults(), "+1 point"), named(t, Troubles(), "retry")} {
		w.Minutes = 10
		never := w.Play(1, analysis.Options{Alpha: 1e-250}, false)
		early := w.Play(1, analysis.Options{Alpha: 0.99}, false)
		if never.End.Verdict.Condemns() || !early.End.Verdict.Condemns() {
			t.Fatalf("%s: ends %v and %v", w.Name, never.End, early.End)
		}
		a, b := together(never.Minutes), together(early.Minutes)
		for i := range a {
			if x, y := float64(a[i]), float64(b[i]); math.Abs(x-y) > 5*math.Sqrt(x+y) {
				t.Errorf("%s: one by one %v, by numbers %v", w.Name, a, b)
			}
		}
	}
}

func TestEnds(t *testing.T) {
	dead := named(t, Faults(), "always fails").Play(3, analysis.Options{}, false)
	if e := dead.End; e.Verdict != analysis.RollBack || e.Bad != 3 || e.After > 2*time.Second || len(dead.Minutes) != 60 {
		t.Errorf("a dead canary: %+v, %d minutes", e, len(dead.Minutes))
	}
	if e := named(t, Troubles(), "true share").Play(3, analysis.Options{}, false).End; e.Verdict != analysis.Split {
		t.Errorf("a wrong share: %+v", e)
	}
	good := named(t, Equal(), "0.1 % errors, 100 req/s").Play(3, analysis.Options{}, true)
	if e := good.End; e.Verdict != analysis.Promote || len(good.Minutes) > 10 {
		t.Errorf("a good canary: %+v", e)
	}
}

// The rules of others, on minutes in which so many of a hundred canary requests,
// and of nine hundred others, went badly.
func TestRivals(t *testing.T) {
	minutes := func(bad ...int64) (out []analysis.Counts) {
		for i := range 60 {
			b := bad[min(i, len(bad)-1)]
			out = append(out, analysis.Counts{b, 100 - b, int64(i % 2), 900 - int64(i%2)})
		}
		return out
	}
	for _, c := range []struct {
		name    string
		minutes []analysis.Counts
		want    map[string]int
	}{
		{"good", minutes(0), nil},
		{"two of a hundred", minutes(2), map[string]int{
			"Flagger": 5, "Flagger long": 10, "AWS alarm": 2, "2 min > 1 %": 2, "Kayenta 50": 50, "Kayenta eager": 5, "PipeCD": 10, "no coin": 3}},
		{"all", minutes(100), map[string]int{
			"Flagger": 5, "Flagger long": 10, "Argo step": 1, "Argo background": 20, "AWS alarm": 2, "2 min > 1 %": 2, "2 min > 5 %": 2,
			"Kayenta 50": 50, "Kayenta eager": 5, "PipeCD": 10, "no coin": 1}},
		{"nobody asks", make([]analysis.Counts, 60), map[string]int{"Flagger": 5, "Flagger long": 10, "Argo step": 1, "Argo background": 20}},
	} {
		got := map[string]int{}
		for _, r := range append(Rivals(), WithoutCoin()) {
			if after := r.Judge(c.minutes); after > 0 {
				got[r.Name] = after
			}
		}
		if len(got)+len(c.want) > 0 && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: went back after %v, want %v", c.name, got, c.want)
		}
	}
}

// The rank test, against figures worked out by hand.
func TestRankTest(t *testing.T) {
	for _, c := range []struct {
		x, y    []float64
		correct bool
		want    float64
	}{
		{[]float64{4, 5, 6}, []float64{1, 2, 3}, false, 4.5 / math.Sqrt(9.0/12*7)},
		{[]float64{4, 5, 6}, []float64{1, 2, 3}, true, 4 / math.Sqrt(9.0/12*7)},
		{[]float64{1, 2, 3}, []float64{4, 5, 6}, true, -4 / math.Sqrt(9.0/12*7)},
		{[]float64{0, 0, 1}, []float64{0, 0, 0}, false, 1.5 / math.Sqrt(9.0/12*(7-120.0/30))},
		{[]float64{1, 1}, []float64{1, 1}, true, 0},
	} {
		if got := rankTest(c.x, c.y, c.correct); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%v and %v: got %v, want %v", c.x, c.y, got, c.want)
		}
	}
	// Hodges and Lehmann: the shift is the median of all differences.
	if got := shift([]float64{5, 7, 9}, []float64{1, 2, 3}, 0, false); math.Abs(got-5) > 1.01 {
		t.Errorf("the shift is %v, want about 5", got)
	}
}

func TestBinomial(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, p := range []float64{0, 0.001, 0.3, 0.9, 1} {
		const n, trials = 50, 20000
		sum, squares := 0.0, 0.0
		for range trials {
			x := float64(binomial(rng, n, p))
			sum, squares = sum+x, squares+x*x
		}
		mean := sum / trials
		variance := squares/trials - mean*mean
		if want := n * p; math.Abs(mean-want) > 5*math.Sqrt(n*p*(1-p)/trials)+1e-12 {
			t.Errorf("chance %v: mean %v, want %v", p, mean, want)
		}
		if want := n * p * (1 - p); math.Abs(variance-want) > 0.1*want+1e-12 {
			t.Errorf("chance %v: variance %v, want %v", p, variance, want)
		}
	}
}
