package analysis

import "math"

// Verdict is what the evidence says so far.
type Verdict string

const (
	Undecided    Verdict = "undecided"    // nothing speaks clearly, and there is time left
	NoData       Verdict = "no data"      // too few requests were seen for any judgement
	RollBack     Verdict = "roll back"    // the canary is worse than allowed
	Ceiling      Verdict = "ceiling"      // a limit was passed; that need not be the canary's fault
	Promote      Verdict = "promote"      // the canary is not worse by the margin or more
	Inconclusive Verdict = "inconclusive" // the time is over without evidence
	Split        Verdict = "the traffic split is not what was configured"
)

// Condemns says whether the canary is to go.
func (v Verdict) Condemns() bool { return v == RollBack || v == Ceiling }

// fewRequests is the number of requests below which even a canary that always
// fails might not have been condemned.
const fewRequests = 10

// splitLimit is the evidence that the share of the canary is not the weight: a
// chance of 1 in 10,000.
const splitLimit = 1e4

// Verdict judges the evidence so far. RollBack, Ceiling and Split stand once
// they are given.
func (t *Test) Verdict() Verdict {
	o := &t.s.Options
	baked := t.s.Ticked.Sub(t.s.Began)
	switch {
	case t.s.Decided != "":
		return t.s.Decided
	case t.scarce():
		return NoData
	case t.s.Promotion >= 1/o.AlphaPromotion && baked >= o.MinBake:
		return Promote
	case baked >= o.Window:
		return Inconclusive
	default:
		return Undecided
	}
}

// scarce says whether too few requests were seen: of the canary, or, where no
// coin sends some to both, of the version that it is compared with.
func (t *Test) scarce() bool {
	seen := t.s.Seen()
	return seen.Canary().Requests < fewRequests || t.s.Options.blocks() && seen.Old().Requests < fewRequests
}

// Ended says whether a verdict stands, so that nothing more is learned. It may
// be asked after each request.
func (t *Test) Ended() bool { return t.s.Decided != "" }

// Evidence is the capital won by betting that the canary is worse; it begins at
// 1, and a canary that is not worse raises it to x with a chance of at most 1/x.
func (t *Test) Evidence() float64 {
	return share5xx*t.evidence.errors + shareLatency*t.evidence.latency
}

// decide lets a verdict stand when a rule's evidence reaches its limit. Where
// the split is wrong a comparison means nothing.
func (t *Test) decide() {
	switch limit := t.limit; {
	case t.Evidence() >= limit && t.splitEvidence() >= splitLimit:
		t.s.Decided = Split
	case t.Evidence() >= limit:
		t.s.Decided = RollBack
	case t.evidence.ceiling >= limit, t.evidence.guard >= limit:
		t.s.Decided = Ceiling
	}
}

// splitEvidence tests the share of the canary against the weights: the ratio
// of a Beta mixture to the weight, by Lindon and Malek, and the product over
// all weights. It is 1 where no coin is drawn.
func (t *Test) splitEvidence() float64 {
	if !t.compares {
		return 1
	}
	log := 0.0
	for _, s := range t.s.Segments {
		canary, old := float64(s.Counts.Canary().Requests), float64(s.Counts.Old().Requests)
		a, b := 100*s.Weight, 100*(1-s.Weight)
		log += logBeta(a+canary, b+old) - logBeta(a, b) - canary*math.Log(s.Weight) - old*math.Log1p(-s.Weight)
	}
	return math.Exp(min(log, math.Log(tooRich)))
}

func logBeta(a, b float64) float64 {
	x, _ := math.Lgamma(a)
	y, _ := math.Lgamma(b)
	z, _ := math.Lgamma(a + b)
	return x + y - z
}

// promotion is the evidence that the canary is less than the margin worse than
// the old version, or below its limit where it is compared with nothing. It is
// 1 where no coin is drawn.
func (t *Test) promotion() float64 {
	o := t.s.Options
	margin, alone := o.Margin, o.Absolute != ""
	switch {
	case o.blocks():
		return 1
	case alone:
		margin = o.Max5xx
	}
	return t.over(alike(len(stakesPromotion())), func(w float64) table { return promotion(w, margin, alone) })
}

// over is the evidence of bettors whose tables depend on nothing but the
// weight: it follows from the counts.
func (t *Test) over(prior []float64, tableAt func(w float64) table) float64 {
	logs := make([]float64, len(prior))
	for _, s := range t.s.Segments {
		table := tableAt(s.Weight)
		for k := range logs {
			logs[k] += table.log(k, s.Counts)
		}
	}
	e := 0.0
	for k, log := range logs {
		e += prior[k] * math.Exp(min(log, math.Log(tooRich)))
	}
	return e
}
