package analysis

import "fmt"

// Verdict is what the evidence says so far.
type Verdict string

const (
	Undecided Verdict = "undecided" // nothing speaks clearly against the canary
	RollBack  Verdict = "roll back" // the canary is worse than allowed
)

// Verdict judges the evidence so far.
func (t *Test) Verdict() Verdict {
	if t.Evidence() >= t.Threshold() {
		return RollBack
	}
	return Undecided
}

// Explanation is a judgement with the numbers it rests on.
type Explanation struct {
	Verdict   Verdict `json:"verdict"`
	Canary    Arm     `json:"canary"`
	Old       Arm     `json:"old"`
	Evidence  float64 `json:"evidence"`
	Threshold float64 `json:"threshold"`
}

// Explain gives the judgement so far.
func (t *Test) Explain() Explanation {
	return Explanation{Verdict: t.Verdict(), Canary: t.s.Canary, Old: t.s.Old, Evidence: t.Evidence(), Threshold: t.Threshold()}
}

// String is the judgement in one line, e.g. “5xx: canary 9 of 41 requests
// (22.0 %), live release 0 of 380 (0.0 %); evidence 148 ≥ 125”.
func (e Explanation) String() string {
	sign := "<"
	if e.Verdict == RollBack {
		sign = "≥"
	}
	return fmt.Sprintf("5xx: canary %s, live release %s; evidence %.3g %s %.3g", e.Canary, e.Old, e.Evidence, sign, e.Threshold)
}

// String is the arm in words, e.g. “9 of 41 requests (22.0 %)”.
func (a Arm) String() string {
	return fmt.Sprintf("%d of %d requests (%.1f %%)", a.Bad, a.Requests, 100*a.Share())
}

// fewRequests is the number of canary requests below which even a canary that
// always fails might not have been condemned.
const fewRequests = 10

// Sensitivity says what an undecided test could have seen: after n requests
// without evidence a rise of about 10/n would have been found 19 times in 20.
func (e Explanation) Sensitivity() string {
	n := e.Canary.Requests
	if n < fewRequests {
		return fmt.Sprintf("the canary had %d requests: too little traffic for a judgement", n)
	}
	return fmt.Sprintf("the canary had %d requests, %d bad: a rise of more than about %.2g points would have been seen",
		n, e.Canary.Bad, min(100, 1000/float64(n)))
}
