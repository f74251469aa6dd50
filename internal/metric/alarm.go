package metric

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/fault"
)

// State is the state of an alarm, in the service's words.
type State string

// The states of an alarm.
const (
	OK           State = "OK"
	On           State = "ALARM"
	Insufficient State = "INSUFFICIENT_DATA"
)

// States gives all there are.
func States() []State { return []State{OK, On, Insufficient} }

// Alarm is an AWS::CloudWatch::Alarm.
type Alarm struct {
	// Period is how long the time of one datapoint is.
	Period time.Duration
	// Unwatched says why the alarm is not evaluated, "" if it is.
	Unwatched string

	queries  map[string]*query // what it computes, by id
	returned *query            // the one that it is about

	periods, toAlarm int // N and M of "M out of N"
	threshold        float64
	compare          string
	missing          string // TreatMissingData
	significant      bool   // EvaluateLowSampleCountPercentile is ignore
}

// comparing is what the service says of a comparison.
var comparing = map[string]string{
	"GreaterThanThreshold": "greater than", "GreaterThanOrEqualToThreshold": "greater than or equal to",
	"LessThanThreshold": "less than", "LessThanOrEqualToThreshold": "less than or equal to",
}

// ReadAlarm reads the properties of a metric alarm.
func ReadAlarm(properties map[string]any) (Alarm, error) {
	text := func(name string) string { s, _ := properties[name].(string); return s }
	a := Alarm{compare: text("ComparisonOperator"), missing: cmp.Or(text("TreatMissingData"), "missing")}
	if err := refuseBands(properties, a.compare); err != nil {
		return a, err
	}
	var err error
	if a.periods, err = whole(properties, "EvaluationPeriods", 1, 1, 1440); err != nil {
		return a, err
	}
	if a.toAlarm, err = whole(properties, "DatapointsToAlarm", a.periods, 1, a.periods); err != nil {
		return a, err
	}
	if err := oneOf("TreatMissingData", a.missing, "breaching", "notBreaching", "ignore", "missing"); err != nil {
		return a, err
	}
	low := cmp.Or(text("EvaluateLowSampleCountPercentile"), "evaluate")
	if err := oneOf("EvaluateLowSampleCountPercentile", low, "evaluate", "ignore"); err != nil {
		return a, err
	}
	a.significant = low == "ignore"
	if properties["Threshold"] != nil {
		var isNumber bool
		if a.threshold, isNumber = numberOf(properties["Threshold"]); !isNumber {
			return a, fault.New(fault.Invalid, "Threshold is %v, which is no number", properties["Threshold"])
		}
	}
	if err := a.readWatched(properties); err != nil {
		return a, err
	}
	switch {
	case a.returned == nil:
		a.Unwatched = "it names no Namespace, MetricName and Statistic"
	case comparing[a.compare] == "" || properties["Threshold"] == nil:
		a.Unwatched = "it has no threshold to compare with"
	}
	return a, nil
}

// oneOf judges a word.
func oneOf(property, word string, allowed ...string) error {
	if !slices.Contains(allowed, word) {
		return fault.New(fault.Invalid, "%s is %q; allowed are %s", property, word, strings.Join(allowed, ", "))
	}
	return nil
}

// refuseBands refuses what would need a model of what is normal.
func refuseBands(properties map[string]any, compare string) error {
	bands := []string{"GreaterThanUpperThreshold", "LessThanLowerThreshold", "LessThanLowerOrGreaterThanUpperThreshold"}
	what := "ThresholdMetricId is given"
	switch {
	case slices.Contains(bands, compare):
		what = "ComparisonOperator is " + compare
	case properties["ThresholdMetricId"] == nil:
		return nil
	}
	return fault.New(fault.Unsupported, "%s, and bands of anomalies are not computed here", what).
		WithHint("compare with a Threshold: %s", strings.Join(slices.Sorted(maps.Keys(comparing)), ", "))
}

// readWatched reads what the alarm is about: Metrics, or one series.
func (a *Alarm) readWatched(properties map[string]any) (err error) {
	text := func(name string) string { s, _ := properties[name].(string); return s }
	if list, given := properties["Metrics"]; given {
		for _, other := range []string{"Namespace", "MetricName", "Dimensions", "Period", "Statistic", "ExtendedStatistic", "Unit"} {
			if properties[other] != nil {
				return fault.New(fault.Invalid, "%s cannot be given together with Metrics", other)
			}
		}
		items, _ := list.([]any)
		if a.returned, a.queries, err = readQueries(items); err == nil {
			a.Period, err = periodOf(a.queries)
		}
		return err
	}
	q := &query{series: seriesWith(text("Namespace"), text("MetricName"), properties["Dimensions"])}
	if a.Period, err = readPeriod(properties, 60); err != nil {
		return err
	}
	property, named := "Statistic", text("Statistic")
	if extended := text("ExtendedStatistic"); extended != "" {
		if property = "ExtendedStatistic"; named != "" {
			return fault.New(fault.Invalid, "ExtendedStatistic cannot be given together with Statistic")
		}
		named = extended
	}
	if named != "" {
		if q.statistic, err = readStatistic(property, named); err != nil {
			return err
		}
		if percentile := q.statistic.name == "percentile"; percentile != (property == "ExtendedStatistic") {
			return fault.New(fault.Invalid, "%s is %q; percentiles are given as ExtendedStatistic, all others as Statistic", property, named)
		}
	}
	if named == "" || text("MetricName") == "" || text("Namespace") == "" {
		return nil
	}
	q.formula = formula{aSeries, func(f *frame) []row { return f.known[q.id] }}
	a.returned, a.queries = q, map[string]*query{q.id: q}
	return nil
}

// Series gives the series that the alarm is computed from.
func (a Alarm) Series() []Series {
	found := map[Series]bool{}
	for _, q := range a.queries {
		if q.series != "" {
			found[q.series] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// evaluationRange is how many datapoints more than EvaluationPeriods are looked
// at, to judge by older ones where newer are missing.
const evaluationRange = 2

// Window gives the time whose points decide about the state at now. It ends
// with the last whole minute, or the last whole 10 seconds if the alarm's
// period is shorter than a minute, so that no datapoint is judged half.
func (a Alarm) Window(now time.Time) (from, to time.Time) {
	to = now.UTC().Truncate(a.Every())
	return to.Add(-time.Duration(a.periods+evaluationRange) * a.Period), to
}

// Every is how often the alarm is evaluated.
func (a Alarm) Every() time.Duration {
	if a.Period < time.Minute {
		return Resolution
	}
	return time.Minute
}

// Verdict is the state that an alarm shall have, and why.
type Verdict struct {
	State  State
	Reason string
}

// datapoint is what the statistic is for one period.
type datapoint struct {
	at        time.Time
	value     float64
	breaching bool
	age       int // in periods, from 1
}

// Evaluate judges an alarm at now by the points of its window; is is the state
// it has.
func (a Alarm) Evaluate(now time.Time, points map[Series][]Point, is State) Verdict {
	there, enough := a.datapoints(now, points) // the newest first
	if !enough {
		return Verdict{State: is}
	}
	there = there[:min(len(there), a.periods)]
	missing := a.periods - len(there)
	breaching, oldest := 0, 0
	for _, d := range there {
		if d.breaching {
			breaching, oldest = breaching+1, d.age
		}
	}
	filled := missing
	if a.missing != "breaching" {
		filled = 0
	}
	switch {
	case len(there) == 0 && a.missing == "ignore":
		return Verdict{State: is}
	case len(there) == 0 && a.missing == "missing":
		return Verdict{Insufficient, fmt.Sprintf("Insufficient Data: %s unknown.", plural(a.periods, "datapoint was", "datapoints were"))}
	case breaching+filled >= a.toAlarm:
		return Verdict{On, a.reason(there, missing, true)}
	case missing > 0 && breaching == len(there) && a.missing == "missing":
		// All that is known breaches, but too little is known. It is enough if
		// it is old enough: what came after it is unknown or breaches too.
		if oldest >= a.toAlarm {
			return Verdict{On, a.reason(there, missing, true)}
		}
		return Verdict{State: is}
	case missing > 0 && breaching == len(there) && a.missing == "ignore":
		return Verdict{State: is}
	}
	return Verdict{OK, a.reason(there, missing, false)}
}

// datapoints gives those periods of the window that have a value, newest first,
// and whether all of them are made of enough samples.
func (a Alarm) datapoints(now time.Time, points map[Series][]Point) (all []datapoint, enough bool) {
	_, to := a.Window(now)
	enough = true
	values := a.compute(func(q *query) map[int]Point {
		periods := a.perPeriod(now, points[q.series])
		for age, p := range periods {
			if a.significant && age < a.periods && !q.statistic.enough(p.Count) {
				enough = false
			}
		}
		return periods
	})
	for age, value := range values {
		if !math.IsNaN(value) {
			all = append(all, datapoint{at: to.Add(-time.Duration(age+1) * a.Period), value: value, age: age + 1, breaching: a.breaches(value)})
		}
	}
	return all, enough
}

// perPeriod joins the points of each period of the window, by their age from 0.
func (a Alarm) perPeriod(now time.Time, points []Point) map[int]Point {
	from, to := a.Window(now)
	sums := map[int]Point{}
	for _, p := range points {
		if !p.Time.Before(from) && p.Time.Before(to) {
			age := int((to.Sub(p.Time) - 1) / a.Period)
			sums[age] = sums[age].Join(p)
		}
	}
	return sums
}

func (a Alarm) breaches(value float64) bool {
	switch a.compare {
	case "GreaterThanThreshold":
		return value > a.threshold
	case "GreaterThanOrEqualToThreshold":
		return value >= a.threshold
	case "LessThanThreshold":
		return value < a.threshold
	}
	return value <= a.threshold
}

// reason says in the service's words why an alarm is on, or not.
func (a Alarm) reason(there []datapoint, missing int, on bool) string {
	treated := map[string]string{"breaching": "Breaching", "notBreaching": "NonBreaching"}[a.missing]
	if missing > 0 && treated != "" {
		received := plural(len(there), "datapoint was", "datapoints were")
		if len(there) == 0 {
			received = "no datapoints were"
		}
		return fmt.Sprintf("Threshold Crossed: %s received for %s and %s treated as [%s].", received,
			plural(a.periods, "period", "periods"), plural(missing, "missing datapoint was", "missing datapoints were"), treated)
	}
	var such []string
	for _, d := range there {
		if d.breaching == on {
			such = append(such, fmt.Sprintf("%s (%s)", decimal(d.value), d.at.Format("02/01/06 15:04:05")))
		}
	}
	needed, verb, change := a.toAlarm, "was", "OK -> ALARM"
	if !on {
		needed, verb, change = a.periods-a.toAlarm+1, "was not", "ALARM -> OK"
	}
	if len(such) > 1 {
		verb = strings.Replace(verb, "was", "were", 1)
	}
	return fmt.Sprintf("Threshold Crossed: %d out of the last %d datapoints [%s] %s %s the threshold (%s) (minimum %s for %s transition).",
		len(such), len(there), strings.Join(such, ", "), verb, comparing[a.compare], decimal(a.threshold), plural(needed, "datapoint", "datapoints"), change)
}

// plural gives a number with the word for it.
func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// decimal writes a number as the service does: 5 is 5.0.
func decimal(n float64) string {
	text := strconv.FormatFloat(n, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}
