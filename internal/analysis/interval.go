package analysis

import (
	"fmt"
	"math"
)

// Rate is what was seen of one version, with the range in which its rate lies
// 19 times in 20. The range (Wilson's) is for reading; no verdict rests on it.
type Rate struct {
	Arm
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

func rate(a Arm) Rate {
	if a.Requests == 0 {
		return Rate{Arm: a, High: 1}
	}
	const z = 1.96
	n, p := float64(a.Requests), a.Share()
	middle := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	r := Rate{Arm: a, Low: max(0, middle-half), High: min(1, middle+half)}
	if a.Bad == 0 { // what is left of a difference of equal numbers is no rate
		r.Low = 0
	}
	if a.Bad == a.Requests {
		r.High = 1
	}
	return r
}

// Interval says how much worse the canary is, as a share of requests; negative
// is better. It may be looked at at any time: as long as the difference stays
// what it is, the interval misses it in at most 1 of 20 rollouts, ever.
type Interval struct {
	Low  float64 `json:"low"`  // -1 if nothing is known
	High float64 `json:"high"` // 1 if nothing is known
}

// margins are the differences that are tried, with both signs.
func margins() []float64 { return []float64{0, .001, .002, .005, .01, .02, .05, .1, .2} }

// difference asks the bettors on 5xx about each margin, from both ends; an end
// moves on as long as the margin is disproved.
func (t *Test) difference() Interval {
	const limit = 40 // 2 of 40 is 1 of 20
	out := Interval{Low: -1, High: 1}
	if !t.compares {
		return out
	}
	var all []float64
	for _, m := range margins() {
		all = append(all, m)
		if m > 0 {
			all = append([]float64{-m}, all...)
		}
	}
	disproved := func(bet func(w, margin float64) payoff, m float64) bool {
		return t.over(priorErrors(), func(w float64) table { return bet(w, m).table(stakes(w)) }) >= limit
	}
	atLeast := func(w, margin float64) payoff { return worse(w, 0, 1, margin) }
	for i := 0; i < len(all) && disproved(atLeast, all[i]); i++ {
		out.Low = all[i]
	}
	for i := len(all) - 1; i >= 0 && disproved(better, all[i]); i-- {
		out.High = all[i]
	}
	return out
}

// String is the interval in words, e.g. “the canary is between 5 and 20 points
// worse”.
func (i Interval) String() string {
	number := func(x float64) string { return fmt.Sprintf("%.3g", 100*math.Abs(x)) }
	points := func(x float64) string {
		if number(x) == "1" {
			return "1 point"
		}
		return number(x) + " points"
	}
	switch {
	case i.Low > 0 && i.High < 1:
		return fmt.Sprintf("the canary is between %s and %s worse", number(i.Low), points(i.High))
	case i.Low > 0:
		return fmt.Sprintf("the canary is at least %s worse", points(i.Low))
	case i.High < 0 && i.Low > -1:
		return fmt.Sprintf("the canary is between %s and %s better", number(i.High), points(i.Low))
	case i.High < 0:
		return fmt.Sprintf("the canary is at least %s better", points(i.High))
	case i.Low == -1 && i.High == 1:
		return "too little was seen to say how much better or worse the canary is"
	case i.Low == -1:
		return fmt.Sprintf("the canary is at most %s worse", points(i.High))
	case i.High == 1:
		return fmt.Sprintf("the canary is at most %s better", points(i.Low))
	default:
		return fmt.Sprintf("the canary is at most %s worse and at most %s better", points(i.High), points(i.Low))
	}
}
