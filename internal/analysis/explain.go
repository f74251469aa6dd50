package analysis

import (
	"fmt"
	"strings"
	"time"

	"makeitso/internal/span"
)

// Arm is what was seen of one version.
type Arm struct {
	Requests int64 `json:"requests"`
	Bad      int64 `json:"bad"`
}

// Share is the part of the requests that went badly, 0 if there were none.
func (a Arm) Share() float64 {
	if a.Requests == 0 {
		return 0
	}
	return float64(a.Bad) / float64(a.Requests)
}

// String is the arm in words, e.g. “9 of 41 requests (22.0 %)”.
func (a Arm) String() string {
	return fmt.Sprintf("%d of %d requests (%.1f %%)", a.Bad, a.Requests, 100*a.Share())
}

// Rules have these names in an Explanation.
const (
	Rule5xx       = "5xx"            // the canary's 5xx against the old version's
	RuleLatency   = "latency"        // … its latencies
	RuleCeiling   = "ceiling"        // the canary's 5xx against Max5xx
	RuleGuard     = "shared ceiling" // the 5xx of both against Guard5xx
	RulePromotion = "promotion"      // evidence that the canary is not worse
	RuleSplit     = "split"          // evidence that the coin has another weight
)

// Finding is the evidence of one rule, and what it needs to decide alone.
type Finding struct {
	Rule     string  `json:"rule"`
	Evidence float64 `json:"evidence"`
	Limit    float64 `json:"limit"`
}

// relation writes the evidence against its limit.
func (f Finding) relation() string {
	sign := "<"
	if f.Evidence >= f.Limit {
		sign = "≥"
	}
	return fmt.Sprintf("evidence %.3g %s %.3g", f.Evidence, sign, f.Limit)
}

// Quantile is a quantile of the old version's latency, and the most that is
// allowed to the canary.
type Quantile struct {
	Level    float64       `json:"level"`
	Old      time.Duration `json:"old"`
	Allowed  time.Duration `json:"allowed"`
	Evidence float64       `json:"evidence"`
}

// Explanation is a judgement with the numbers it rests on.
type Explanation struct {
	Verdict Verdict `json:"verdict"`
	Finding         // of the rule that decided, or is nearest to it: 5xx and latency count together
	Canary  Rate    `json:"canary"`
	Old     Rate    `json:"old"`

	Difference Interval      `json:"difference"`
	Latency    []Quantile    `json:"latency"` // those that are known
	Findings   []Finding     `json:"findings"`
	Weight     float64       `json:"weight"`  // the canary's share by the coin, over all that was seen
	Counted    float64       `json:"counted"` // how many of its requests count, see Counted
	Baked      time.Duration `json:"baked"`
	Options    Options       `json:"options"`
}

// main is the finding that the verdict rests on.
func (t *Test) main() Finding {
	o, limit := t.s.Options, t.limit
	switch v := t.Verdict(); {
	case v == Split:
		return Finding{RuleSplit, t.splitEvidence(), splitLimit}
	case v == Promote:
		return Finding{RulePromotion, t.s.Promotion, 1 / o.AlphaPromotion}
	case v == Ceiling && t.evidence.guard >= limit:
		return Finding{RuleGuard, t.evidence.guard, limit}
	case v == Ceiling, o.Absolute != "":
		return Finding{RuleCeiling, t.evidence.ceiling, limit}
	case shareLatency*t.evidence.latency > share5xx*t.evidence.errors:
		return Finding{RuleLatency, t.Evidence(), limit}
	default:
		return Finding{Rule5xx, t.Evidence(), limit}
	}
}

// Explain gives the judgement so far. It is dearer than Verdict: tens of
// microseconds.
func (t *Test) Explain() Explanation {
	o, seen := t.s.Options, t.s.Seen()
	e := Explanation{
		Verdict: t.Verdict(), Finding: t.main(), Canary: rate(seen.Canary()), Old: rate(seen.Old()),
		Difference: t.difference(), Findings: t.findings(), Baked: t.s.Ticked.Sub(t.s.Began), Options: o, Counted: t.counted(),
	}
	for i, q := range levels() {
		if tail := t.s.Tails[i]; tail.Bound > 0 && o.compares() {
			e.Latency = append(e.Latency, Quantile{q, tail.Bound, tail.Allowed, tail.Capital.evidence()})
		}
	}
	if all := e.Canary.Requests + e.Old.Requests; all > 0 {
		for _, s := range t.s.Segments {
			e.Weight += s.Weight * float64(s.Counts.Canary().Requests+s.Counts.Old().Requests) / float64(all)
		}
	}
	return e
}

// findings lists the rules that are in force.
func (t *Test) findings() (all []Finding) {
	o, limit := t.s.Options, t.limit
	if o.Absolute == "" {
		all = append(all, Finding{Rule5xx, t.evidence.errors, limit / share5xx})
	}
	if o.compares() {
		if !o.IgnoreLatency {
			all = append(all, Finding{RuleLatency, t.evidence.latency, limit / shareLatency})
		}
		all = append(all, Finding{RuleSplit, t.splitEvidence(), splitLimit})
	}
	if o.Max5xx > 0 {
		all = append(all, Finding{RuleCeiling, t.evidence.ceiling, limit})
	}
	if o.Guard5xx > 0 {
		all = append(all, Finding{RuleGuard, t.evidence.guard, limit})
	}
	if !o.blocks() {
		all = append(all, Finding{RulePromotion, t.s.Promotion, 1 / o.AlphaPromotion})
	}
	return all
}

// String is the judgement in one line, e.g. “5xx: canary 9 of 41 requests
// (22.0 %), live release 0 of 380 requests (0.0 %); evidence 148 ≥ 100”.
func (e Explanation) String() string {
	both := fmt.Sprintf("canary %s, live release %s", e.Canary.Arm, e.Old.Arm)
	if e.Options.Absolute != "" {
		both = fmt.Sprintf("canary %s", e.Canary.Arm)
	}
	switch {
	case e.Verdict == NoData:
		return fmt.Sprintf("%s: %s", NoData, e.Sensitivity())
	case e.Verdict == Split:
		all := e.Canary.Requests + e.Old.Requests
		return fmt.Sprintf("%s: the canary had %d of %d requests (%.1f %%) instead of %.1f %%; %s",
			Split, e.Canary.Requests, all, 100*float64(e.Canary.Requests)/float64(all), 100*e.Weight, e.relation())
	case e.Verdict == Inconclusive:
		return fmt.Sprintf("no evidence after %s: %s; %s", span.Text(e.Baked.Round(time.Second)), both, e.Sensitivity())
	case e.Verdict == Promote && e.Options.Absolute != "":
		return fmt.Sprintf("the rate of 5xx is below %s: %s; %s", percent(e.Options.Max5xx), both, e.relation())
	case e.Verdict == Promote:
		return fmt.Sprintf("not worse by %.3g points or more: %s; %s", 100*e.Options.Margin, both, e.relation())
	case e.Rule == RuleCeiling:
		return fmt.Sprintf("ceiling: canary %s, allowed are %s; %s", e.Canary.Arm, percent(e.Options.Max5xx), e.relation())
	case e.Rule == RuleGuard:
		return fmt.Sprintf("ceiling: both together %s, allowed are %s; %s", e.both(), percent(e.Options.Guard5xx), e.relation())
	case e.Rule == RuleLatency:
		return fmt.Sprintf("latency: %s; %s", e.slowest(), e.relation())
	default:
		return fmt.Sprintf("5xx: %s; %s", both, e.relation())
	}
}

func (e Explanation) both() Arm {
	return Arm{Requests: e.Canary.Requests + e.Old.Requests, Bad: e.Canary.Bad + e.Old.Bad}
}

// slowest tells of the quantile with the most evidence.
func (e Explanation) slowest() string {
	var worst Quantile
	for _, q := range e.Latency {
		if q.Evidence >= worst.Evidence {
			worst = q
		}
	}
	return fmt.Sprintf("more than %.3g %% of the canary's answers take over %s, the live release's p%.3g is %s",
		100*(1-worst.Level), short(worst.Allowed), 100*worst.Level, short(worst.Old))
}

func short(d time.Duration) string { return span.Text(d.Round(100 * time.Microsecond)) }

func percent(x float64) string { return fmt.Sprintf("%.3g %%", 100*x) }

// Text is the judgement with everything that it rests on, line by line.
func (e Explanation) Text() string {
	lines := []string{e.String(), "guarantee: " + e.Guarantee()}
	if e.Options.compares() {
		lines = append(lines, "difference: "+e.Difference.String()+" (19 times in 20)")
	}
	lines = append(lines, fmt.Sprintf("canary: %s, 19 times in 20 between %s and %s", e.Canary.Arm, percent(e.Canary.Low), percent(e.Canary.High)))
	if e.Options.Absolute == "" {
		lines = append(lines, fmt.Sprintf("live release: %s, 19 times in 20 between %s and %s", e.Old.Arm, percent(e.Old.Low), percent(e.Old.High)))
	}
	for _, q := range e.Latency {
		lines = append(lines, fmt.Sprintf("latency p%.3g: live release %s, canary allowed %s", 100*q.Level, short(q.Old), short(q.Allowed)))
	}
	for _, f := range e.Findings {
		lines = append(lines, f.Rule+": "+f.relation())
	}
	if e.Verdict == Undecided || e.Verdict == Promote {
		lines = append(lines, "sensitivity: "+e.Sensitivity())
	}
	return strings.Join(lines, "\n")
}

// Guarantee says what holds of the judgement, and on what it rests.
func (e Explanation) Guarantee() string {
	o := e.Options
	odds := fmt.Sprintf("at most 1 in %.4g", 1/o.Alpha)
	if o.Absolute != "" {
		return fmt.Sprintf("%s canaries whose rate of 5xx stays below %s is rolled back; nothing is compared because %s, so an outage that is not the canary's fault counts against it",
			odds, percent(o.Max5xx), o.Absolute)
	}
	allowed := fmt.Sprintf("%s canaries that fail at most %.3g times as often as the live release + %.3g points is rolled back",
		odds, o.Rho, 100*o.Delta)
	switch o.Source {
	case NoCoin:
		return allowed + ", but only if requests fail independently and both versions get alike ones, since no coin sends them; latency is not compared and nothing is promoted early"
	case ClientCoin:
		return allowed + ", whatever the traffic does, since an independent coin sends each client, who counts once"
	default:
		return allowed + ", whatever the traffic does, since an independent coin sends each request"
	}
}
