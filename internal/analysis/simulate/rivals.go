package simulate

import (
	"cmp"
	"math"
	"slices"
	"time"

	"makeitso/internal/analysis"
)

// Rule is a rule that looks at whole minutes: it gives after how many the
// canary goes back, 0 for never.
type Rule struct {
	Name  string
	Judge func(minutes []analysis.Counts) int
}

// Rivals lists the rules of other tools, by their documents, each with the
// canary's share unchanged: a check of a success rate that failed often enough
// (Flagger, Argo Rollouts), an alarm on the sum of errors (the sample of AWS
// CodeDeploy), a threshold after a fixed watch, and rank tests on the rates of
// minutes (Kayenta, PipeCD).
func Rivals() []Rule {
	return []Rule{
		{"Flagger", flagger(5, 5)},
		{"Flagger long", flagger(10, 25)},
		{"Argo step", argo(1, 5, 0)},
		{"Argo background", argo(5, 8, 3)},
		{"AWS alarm", alarm},
		{"2 min > 1 %", watch(0.01)},
		{"2 min > 5 %", watch(0.05)},
		{"Kayenta 50", kayenta(50, 50)},
		{"Kayenta eager", kayenta(5, 60)},
		{"PipeCD", pipecd},
	}
}

// WithoutCoin is the rule of analysis for sources that draw no coin, on counts
// of minutes.
func WithoutCoin() Rule {
	return Rule{"no coin", func(minutes []analysis.Counts) int {
		test := analysis.New(analysis.Options{Source: analysis.NoCoin})
		test.Tick(start)
		for i, n := range minutes {
			canary, old := n.Canary(), n.Old()
			test.ObserveCounts(canary.Requests-canary.Bad, canary.Bad, old.Requests-old.Bad, old.Bad)
			if test.Tick(start.Add(time.Duration(i+1) * time.Minute)); test.Verdict().Condemns() {
				return i + 1
			}
		}
		return 0
	}}
}

// together adds minutes up.
func together(minutes []analysis.Counts) (all analysis.Counts) {
	for _, m := range minutes {
		for i := range m {
			all[i] += m[i]
		}
	}
	return all
}

// flagger checks each minute for 99 % of success. A failed check only holds the
// weight; so many in all go back, and so many good ones promote. No traffic is
// a failure.
func flagger(threshold, steps int) func([]analysis.Counts) int {
	return func(minutes []analysis.Counts) int {
		failed, passed := 0, 0
		for i, m := range minutes {
			if a := m.Canary(); a.Requests == 0 || 1-a.Share() < 0.99 {
				failed++
			} else {
				passed++
			}
			if failed >= threshold {
				return i + 1
			}
			if passed >= steps {
				return 0
			}
		}
		return 0
	}
}

// argo measures every interval for 95 % of success, and fails when more
// measurements than allowed did.
func argo(interval, count, allowed int) func([]analysis.Counts) int {
	return func(minutes []analysis.Counts) int {
		failed := 0
		for i := range count {
			a := together(minutes[i*interval : (i+1)*interval]).Canary()
			if a.Requests == 0 || 1-a.Share() < 0.95 {
				failed++
			}
			if failed > allowed {
				return (i + 1) * interval
			}
		}
		return 0
	}
}

// alarm goes back when two minutes in a row had an error, within five.
func alarm(minutes []analysis.Counts) int {
	for i := 1; i < 5; i++ {
		if minutes[i-1].Canary().Bad > 0 && minutes[i].Canary().Bad > 0 {
			return i + 1
		}
	}
	return 0
}

func watch(most float64) func([]analysis.Counts) int {
	return func(minutes []analysis.Counts) int {
		if together(minutes[:2]).Canary().Share() > most {
			return 2
		}
		return 0
	}
}

// percents gives the rates of an arm, in percent, of the minutes in which it
// was asked.
func percents(minutes []analysis.Counts, arm func(analysis.Counts) analysis.Arm) (out []float64) {
	for _, m := range minutes {
		if a := arm(m); a.Requests > 0 {
			out = append(out, 100*a.Share())
		}
	}
	return out
}

// kayenta judges all points so far, every so many minutes: high if the lower
// end of a 98 % interval of the shift lies above a quarter of its estimate.
func kayenta(every, last int) func([]analysis.Counts) int {
	return func(minutes []analysis.Counts) int {
		for n := every; n <= last; n += every {
			canary, old := percents(minutes[:n], analysis.Counts.Canary), percents(minutes[:n], analysis.Counts.Old)
			if len(canary) == 0 || len(old) == 0 || mean(canary) <= mean(old) {
				continue
			}
			const quantile = 2.3263 // of the normal distribution, 1 % above
			low, estimate := shift(canary, old, quantile, true), shift(canary, old, 0, false)
			if low > max(0.25*math.Abs(estimate), exactness) {
				return n
			}
		}
		return 0
	}
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// exactness is that of Kayenta's solver, in points of a percent; a shift below
// it is none.
const exactness = 1e-4

// shift finds by how much x lies above y, so that after it the rank test would
// give z.
func shift(x, y []float64, z float64, correct bool) float64 {
	low, high := slices.Min(x)-slices.Max(y), slices.Max(x)-slices.Min(y)
	moved := make([]float64, len(x))
	above := func(d float64) bool {
		for i, v := range x {
			moved[i] = v - d
		}
		return rankTest(moved, y, correct) > z
	}
	if !above(low) {
		return low
	}
	for high-low > exactness {
		if middle := (low + high) / 2; above(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return (low + high) / 2
}

// pipecd tests the points of each five minutes of thirty, and fails when more
// than one test found the canary above at 5 %.
func pipecd(minutes []analysis.Counts) int {
	failures := 0
	for n := 5; n <= 30; n += 5 {
		canary, old := percents(minutes[n-5:n], analysis.Counts.Canary), percents(minutes[n-5:n], analysis.Counts.Old)
		if len(canary) > 0 && len(old) > 0 && rankTest(canary, old, false) >= 1.6449 {
			failures++
		}
		if failures > 1 {
			return n
		}
	}
	return 0
}

// rankTest is the normal score of Mann and Whitney's test, with ties, and with
// half a rank taken off if it is to be corrected.
func rankTest(x, y []float64, correct bool) float64 {
	type point struct {
		value float64
		ofX   bool
	}
	all := make([]point, 0, len(x)+len(y))
	for _, v := range x {
		all = append(all, point{v, true})
	}
	for _, v := range y {
		all = append(all, point{v, false})
	}
	slices.SortFunc(all, func(a, b point) int { return cmp.Compare(a.value, b.value) })
	ranks, ties := 0.0, 0.0
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].value == all[i].value {
			j++
		}
		for _, p := range all[i:j] {
			if p.ofX {
				ranks += float64(i+j+1) / 2
			}
		}
		t := float64(j - i)
		ties += t*t*t - t
		i = j
	}
	nx, ny := float64(len(x)), float64(len(y))
	n := nx + ny
	over := ranks - nx*(nx+1)/2 - nx*ny/2
	if correct {
		over -= math.Copysign(math.Min(0.5, math.Abs(over)), over)
	}
	variance := nx * ny / 12 * (n + 1 - ties/(n*(n-1)))
	if variance <= 0 {
		return 0
	}
	return over / math.Sqrt(variance)
}
