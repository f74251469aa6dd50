package analysis

import (
	"fmt"
	"math"
)

// certainty is the square of how many standard deviations a rise must lie above
// chance to be found 19 times in 20: about 4.5 for the evidence, of which a half
// is kept in reserve, and 1.7 for 19 in 20.
const certainty = 40

// Counted is how many of a canary's requests count for a comparison, where it
// has that share of the traffic: with much of it, there is less to compare with.
func Counted(requests, share float64) float64 { return requests * (1 - share) }

// Discernible is the smallest rise of a share that n counted requests are enough
// for, 19 times in 20: about 10/n where nothing varies by chance, and more where
// the share is not 0. Beyond 1 they are too few for any.
func Discernible(share, n float64) float64 {
	return math.Hypot(10/n, math.Sqrt(certainty*share*(1-share)/n))
}

// Visible is the smallest rise of the share of errors above the old version's
// that n counted requests show, beyond what is tolerated; 1 where they show none.
// Where the evidence may end a watch early, less than the margin may be promoted
// before it is seen.
func (o Options) Visible(errors, n float64, early bool) float64 {
	tolerated := min(1, o.Rho*errors+o.Delta)
	rise := tolerated - errors + Discernible(tolerated, n)
	if early {
		rise = max(rise, o.Margin)
	}
	return min(1, rise) // JSON knows no infinity, and more than all cannot fail
}

// counted is how many of the canary's requests count, over all weights.
func (t *Test) counted() float64 {
	n := 0.0
	for _, s := range t.s.Segments {
		canary, share := float64(s.Counts.Canary().Requests), s.Weight
		switch all := canary + float64(s.Counts.Old().Requests); {
		case t.s.Options.Absolute != "":
			share = 0 // there is nothing to compare it with
		case t.s.Options.Source == NoCoin && all > 0:
			share = canary / all
		}
		n += Counted(canary, share)
	}
	return n
}

// Sensitivity says what a judgement without a verdict could have seen: the rise
// that would have been found 19 times in 20.
func (e Explanation) Sensitivity() string {
	if e.Verdict == Split {
		return "nothing would have been seen, since " + e.String()
	}
	if e.Canary.Requests >= fewRequests && e.Options.blocks() && e.Old.Requests < fewRequests {
		return fmt.Sprintf("the live release had %d requests: too little to compare the canary with", e.Old.Requests)
	}
	what, visible := "rise", e.Options.Visible(e.Old.Share(), e.Counted, e.Verdict == Promote)
	unit, most := "points", 1-e.Old.Share()
	if limit := e.Options.Max5xx; e.Options.Absolute != "" {
		what, visible = "rate of 5xx", limit+Discernible(limit, e.Counted)
		unit, most = "%", 1
	}
	if e.Canary.Requests < fewRequests || visible >= most {
		return fmt.Sprintf("the canary had %d requests: too little traffic for a judgement", e.Canary.Requests)
	}
	return fmt.Sprintf("the canary had %d requests, %d bad: a %s of more than about %.2g %s would have been seen",
		e.Canary.Requests, e.Canary.Bad, what, 100*visible, unit)
}
