package metric

import (
	"cmp"
	"fmt"
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
	// Series is what it watches.
	Series Series
	// Period is how long the time of one datapoint is.
	Period time.Duration
	// Unwatched says why the alarm is not evaluated, "" if it is.
	Unwatched string

	periods, toAlarm int // N and M of "M out of N"
	statistic        string
	threshold        float64
	compare          string
	missing          string // TreatMissingData
}

// comparing is what the service says of a comparison.
var comparing = map[string]string{
	"GreaterThanThreshold": "greater than", "GreaterThanOrEqualToThreshold": "greater than or equal to",
	"LessThanThreshold": "less than", "LessThanOrEqualToThreshold": "less than or equal to",
}

// ReadAlarm reads the properties of a metric alarm.
func ReadAlarm(properties map[string]any) (Alarm, error) {
	text := func(name string) string { s, _ := properties[name].(string); return s }
	a := Alarm{statistic: text("Statistic"), compare: text("ComparisonOperator"), missing: cmp.Or(text("TreatMissingData"), "missing")}
	var err error
	if a.periods, err = whole(properties, "EvaluationPeriods", 1, 1, 1440); err != nil {
		return a, err
	}
	if a.toAlarm, err = whole(properties, "DatapointsToAlarm", a.periods, 1, a.periods); err != nil {
		return a, err
	}
	seconds, err := whole(properties, "Period", 60, 10, 7*24*3600)
	if err != nil {
		return a, err
	}
	if seconds%60 != 0 && !slices.Contains([]int{10, 20, 30}, seconds) {
		return a, fault.New(fault.Invalid, "Period is %d; allowed are 10, 20, 30 and multiples of 60", seconds)
	}
	a.Period = time.Duration(seconds) * time.Second
	if allowed := []string{"breaching", "notBreaching", "ignore", "missing"}; !slices.Contains(allowed, a.missing) {
		return a, fault.New(fault.Invalid, "TreatMissingData is %q; allowed are %s", a.missing, strings.Join(allowed, ", "))
	}
	if allowed := []string{"", "SampleCount", "Average", "Sum", "Minimum", "Maximum"}; !slices.Contains(allowed, a.statistic) {
		return a, fault.New(fault.Invalid, "Statistic is %q; allowed are %s", a.statistic, strings.Join(allowed[1:], ", "))
	}
	if properties["Threshold"] != nil {
		var isNumber bool
		if a.threshold, isNumber = numberOf(properties["Threshold"]); !isNumber {
			return a, fault.New(fault.Invalid, "Threshold is %v, which is no number", properties["Threshold"])
		}
	}
	var dimensions []string
	for _, d := range dimensionsOf(properties["Dimensions"], "Name") {
		dimensions = append(dimensions, d[0]+"="+d[1])
	}
	a.Series = SeriesOf(text("Namespace"), text("MetricName"), dimensions...)
	switch {
	case properties["Metrics"] != nil:
		a.Unwatched = "metric math (Metrics) is not computed here"
	case properties["ExtendedStatistic"] != nil:
		a.Unwatched = "percentiles (ExtendedStatistic) are not computed here"
	case text("MetricName") == "" || text("Namespace") == "" || a.statistic == "":
		a.Unwatched = "it names no Namespace, MetricName and Statistic"
	case comparing[a.compare] == "" || properties["Threshold"] == nil:
		a.Unwatched = "it has no threshold to compare with"
	}
	return a, nil
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
func (a Alarm) Evaluate(now time.Time, points []Point, is State) Verdict {
	there := a.datapoints(now, points) // the newest first
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

// datapoints gives those periods of the window that have points, newest first.
func (a Alarm) datapoints(now time.Time, points []Point) []datapoint {
	from, to := a.Window(now)
	sums := map[int]Point{}
	for _, p := range points {
		if p.Time.Before(from) || !p.Time.Before(to) {
			continue
		}
		age := int((to.Sub(p.Time)-1)/a.Period) + 1
		sums[age] = sums[age].Join(p)
	}
	var all []datapoint
	for age, p := range sums {
		d := datapoint{at: to.Add(-time.Duration(age) * a.Period), value: a.value(p), age: age}
		d.breaching = a.breaches(d.value)
		all = append(all, d)
	}
	slices.SortFunc(all, func(x, y datapoint) int { return cmp.Compare(x.age, y.age) })
	return all
}

func (a Alarm) value(p Point) float64 {
	switch a.statistic {
	case "SampleCount":
		return p.Count
	case "Average":
		return p.Sum / p.Count
	case "Minimum":
		return p.Min
	case "Maximum":
		return p.Max
	}
	return p.Sum
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
