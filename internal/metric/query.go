package metric

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"makeitso/internal/fault"
)

// query is one thing that an alarm computes: a statistic of a series, or an
// expression over other queries.
type query struct {
	id         string
	series     Series
	statistic  statistic
	expression string
	period     time.Duration // 0 if it does not say
	returned   bool
	formula    formula
}

// statistic makes a number of the values of a period.
type statistic struct {
	name    string
	percent float64 // of a percentile
}

var (
	statistics = []string{"SampleCount", "Average", "Sum", "Minimum", "Maximum"}
	percentile = regexp.MustCompile(`^p(\d{1,2}(\.\d{1,10})?|100)$`)
)

// readStatistic reads the name of a statistic; percentiles are allowed if it
// names them.
func readStatistic(property, name string) (statistic, error) {
	if slices.Contains(statistics, name) {
		return statistic{name: name}, nil
	}
	if percentile.MatchString(name) {
		percent, _ := numberOf(name[1:])
		return statistic{name: "percentile", percent: percent}, nil
	}
	wrong := fault.New(fault.Invalid, "%s is %q; allowed are %s and percentiles such as p99.9", property, name, strings.Join(statistics, ", "))
	if begin, _, _ := strings.Cut(strings.ToLower(name), "("); slices.Contains([]string{"tm", "wm", "tc", "ts", "pr", "iqm"}, strings.TrimRight(begin, "0123456789.")) {
		wrong = fault.New(fault.Unsupported, "%s is %q, and trimmed statistics are not computed here", property, name).
			WithHint("use %s or a percentile such as p99.9", strings.Join(statistics, ", "))
	}
	return statistic{}, wrong
}

// of gives the statistic of a point.
func (s statistic) of(p Point) float64 {
	switch s.name {
	case "SampleCount":
		return p.Count
	case "Average":
		return p.Sum / p.Count
	case "Minimum":
		return p.Min
	case "Maximum":
		return p.Max
	case "percentile":
		return p.percentile(s.percent)
	}
	return p.Sum
}

// enough says whether a percentile of so many values says something, by the
// service's rule; any other statistic does.
func (s statistic) enough(count float64) bool {
	if s.name != "percentile" {
		return true
	}
	rest := min(s.percent, 100-s.percent) / 100
	return rest == 0 || count >= 10/rest
}

// maxQueries is how many queries an alarm may have, as with the service.
const maxQueries = 20

var validID = regexp.MustCompile(`^[a-z][A-Za-z0-9_]*$`)

// readQueries reads Metrics, and gives the query that the alarm is about with
// all that it needs, by their ids.
func readQueries(list []any) (returned *query, all map[string]*query, err error) {
	if len(list) == 0 || len(list) > maxQueries {
		return nil, nil, fault.New(fault.Invalid, "Metrics has %d items; allowed are 1 to %d", len(list), maxQueries)
	}
	all = map[string]*query{}
	var ordered []*query
	for i, item := range list {
		q, err := readQuery(item)
		if err != nil {
			return nil, nil, fault.Wrap(fault.CodeOf(err), err, "Metrics[%d]", i)
		}
		if all[q.id] != nil {
			return nil, nil, fault.New(fault.Invalid, "Metrics[%d] has the Id %q, which another one has", i, q.id)
		}
		if q.returned && returned != nil {
			returned = nil
			break
		}
		if all[q.id], ordered = q, append(ordered, q); q.returned {
			returned = q
		}
	}
	if returned == nil {
		return nil, nil, fault.New(fault.Invalid, "Exactly one element of the metrics list should return data.").
			WithHint("set ReturnData to false in all others: it is true where nothing is said")
	}
	b := builder{all: all, begun: map[string]bool{}}
	for _, q := range ordered {
		if q.expression == "" {
			b.metrics = append(b.metrics, q.id)
		}
	}
	for i, q := range ordered {
		if err := b.build(q); err != nil {
			return nil, nil, fault.Wrap(fault.CodeOf(err), err, "Metrics[%d].Expression", i)
		}
	}
	if returned.formula.shape != aSeries {
		return nil, nil, fault.New(fault.Invalid, "Metrics: %s gives %s; an alarm watches a series, with a value for each period", returned.id, returned.formula.shape).
			WithHint("combine with a function such as SUM(METRICS()), or make a series of a number with TIME_SERIES")
	}
	return returned, all, nil
}

// readQuery reads one item of Metrics.
func readQuery(item any) (*query, error) {
	m, _ := item.(map[string]any)
	text := func(name string) string { s, _ := m[name].(string); return s }
	q := &query{id: text("Id"), expression: text("Expression"), returned: !isFalse(m["ReturnData"])}
	if !validID.MatchString(q.id) {
		return q, fault.New(fault.Invalid, "Id is %q; it begins with a small letter and has letters, digits and underscores", q.id)
	}
	if _, given := m["AccountId"]; given {
		return q, fault.New(fault.Unsupported, "AccountId is given, and metrics of other accounts are not known here")
	}
	stat, given := m["MetricStat"].(map[string]any)
	if given == (q.expression != "") {
		return q, fault.New(fault.Invalid, "one of Expression and MetricStat is wanted, and not both")
	}
	if !given {
		var err error
		q.period, err = readPeriod(m, 0)
		return q, err
	}
	metric, _ := stat["Metric"].(map[string]any)
	namespace, _ := metric["Namespace"].(string)
	name, _ := metric["MetricName"].(string)
	if namespace == "" || name == "" {
		return q, fault.New(fault.Invalid, "MetricStat.Metric names no Namespace and MetricName")
	}
	q.series = seriesWith(namespace, name, metric["Dimensions"])
	q.formula = formula{aSeries, func(f *frame) []row { return f.known[q.id] }}
	named, _ := stat["Stat"].(string)
	var err error
	if q.statistic, err = readStatistic("MetricStat.Stat", named); err == nil {
		q.period, err = readPeriod(stat, 60)
	}
	return q, err
}

// isFalse reads a false that may be written as text.
func isFalse(v any) bool { return fmt.Sprint(v) == "false" }

// seriesWith gives a series by a property with its dimensions.
func seriesWith(namespace, name string, dimensions any) Series {
	var all []string
	for _, d := range dimensionsOf(dimensions, "Name") {
		all = append(all, d[0]+"="+d[1])
	}
	return SeriesOf(namespace, name, all...)
}

// readPeriod reads the property Period, in seconds.
func readPeriod(properties map[string]any, fallback int) (time.Duration, error) {
	if _, given := properties["Period"]; !given {
		return time.Duration(fallback) * time.Second, nil
	}
	seconds, err := whole(properties, "Period", fallback, 10, 7*24*3600)
	if err == nil && seconds%60 != 0 && !slices.Contains([]int{10, 20, 30}, seconds) {
		err = fault.New(fault.Invalid, "Period is %d; allowed are 10, 20, 30 and multiples of 60", seconds)
	}
	return time.Duration(seconds) * time.Second, err
}

// periodOf gives the period of an alarm's queries: all have the same.
func periodOf(all map[string]*query) (time.Duration, error) {
	var first *query
	for _, q := range all {
		if q.period == 0 {
			continue
		}
		if first != nil && first.period != q.period {
			short, long := first, q
			if long.period < short.period {
				short, long = long, short
			}
			return 0, fault.New(fault.Unsupported, "Metrics: the Period of %s is %d and that of %s is %d; here all must have the same", short.id, int(short.period.Seconds()), long.id, int(long.period.Seconds()))
		}
		first = q
	}
	if first == nil {
		return time.Minute, nil
	}
	return cmp.Or(first.period, time.Minute), nil
}

// builder makes the formulas of expressions, those first that others refer to.
type builder struct {
	all     map[string]*query
	metrics []string
	begun   map[string]bool
}

func (b builder) build(q *query) (err error) {
	if q.formula.rows != nil {
		return nil
	}
	b.begun[q.id] = true
	q.formula, err = parseFormula(q.expression, b.refer, b.metrics)
	return err
}

func (b builder) refer(id string) (formula, error) {
	q := b.all[id]
	switch {
	case q == nil:
		return formula{}, fault.New(fault.Invalid, "nothing has the Id %q", id)
	case q.formula.rows == nil && b.begun[id]:
		return formula{}, fault.New(fault.Invalid, "%s leads back to itself", id)
	}
	err := b.build(q)
	return formula{q.formula.shape, func(f *frame) []row { return f.of(id) }}, err
}

// compute gives the values of what the alarm is about, the newest first. What is
// known of a series is given for each period by its age.
func (a Alarm) compute(periods func(*query) map[int]Point) row {
	f := &frame{periods: a.periods + evaluationRange, seconds: a.Period.Seconds(), known: map[string][]row{}, queries: a.queries}
	for id, q := range a.queries {
		if q.expression != "" {
			continue
		}
		values := f.fill(math.NaN())
		for age, p := range periods(q) {
			values[age] = q.statistic.of(p)
		}
		f.known[id] = []row{values}
	}
	return f.of(a.returned.id)[0]
}
