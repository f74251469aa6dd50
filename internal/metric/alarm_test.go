package metric

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// noon is when alarms are judged: half a minute after the last whole one.
var noon = time.Date(2026, 1, 2, 12, 0, 30, 0, time.UTC)

// pointsOf reads a row of datapoints, the oldest first, each a minute: X
// breaches 5, 0 does not, and - is none.
func pointsOf(row string) []Point {
	var all []Point
	marks := strings.Fields(row)
	for i, mark := range marks {
		at := noon.Truncate(time.Minute).Add(-time.Duration(len(marks)-i) * time.Minute)
		switch mark {
		case "X":
			all = append(all, Point{Time: at}.Add(4), Point{Time: at.Add(50 * time.Second)}.Add(2))
		case "0":
			all = append(all, Point{Time: at}.Add(5))
		}
	}
	return all
}

// points gives the points of the series that tests watch.
func points(all []Point) map[Series][]Point { return map[Series][]Point{SeriesOf("s", "n"): all} }

// TestEvaluate has the rows of the service's own table of missing data.
func TestEvaluate(t *testing.T) {
	const kept = State("kept")
	for _, c := range []struct {
		row            string
		of, toAlarm    int
		missing        State
		ignore         State
		breaching, not State
	}{
		{"0 - X - X", 3, 3, OK, OK, OK, OK},
		{"0 - - - -", 3, 3, OK, OK, OK, OK},
		{"- - - - -", 3, 3, Insufficient, kept, On, OK},
		{"0 X X - X", 3, 3, On, On, On, On},
		{"- - X - -", 3, 3, On, kept, On, OK},
		{"- - - - X", 3, 3, kept, kept, On, OK},

		{"0 - X - X", 3, 2, On, On, On, On},
		{"0 0 X 0 X", 3, 2, On, On, On, On},
		{"0 - X - -", 3, 2, OK, OK, On, OK},
		{"- - - - 0", 3, 2, OK, OK, On, OK},
		{"- - - X -", 3, 2, On, kept, On, OK},

		{"- - X", 1, 1, On, On, On, On},
		{"X - -", 1, 1, On, On, On, On}, // no newer one is known
		{"X X 0", 1, 1, OK, OK, OK, OK},
		{"X - - -", 1, 1, Insufficient, kept, On, OK}, // out of what is looked at
	} {
		for missing, want := range map[string]State{"missing": c.missing, "ignore": c.ignore, "breaching": c.breaching, "notBreaching": c.not} {
			if c.row == "0 - - - -" && missing == "breaching" {
				want = OK // one known good one of three leaves two
			}
			a, err := ReadAlarm(map[string]any{
				"Namespace": "s", "MetricName": "n", "Statistic": "Sum", "Threshold": 5, "ComparisonOperator": "GreaterThanThreshold",
				"EvaluationPeriods": c.of, "DatapointsToAlarm": c.toAlarm, "TreatMissingData": missing,
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := a.Evaluate(noon, points(pointsOf(c.row)), kept); got.State != want {
				t.Errorf("%s, %d of %d, %s: %s (%s), want %s", c.row, c.toAlarm, c.of, missing, got.State, got.Reason, want)
			}
		}
	}
}

func TestReason(t *testing.T) {
	for _, c := range []struct{ row, missing, statistic, compare, want string }{
		{"0 X", "missing", "Sum", "GreaterThanThreshold", "Threshold Crossed: 1 out of the last 2 datapoints [6.0 (02/01/26 11:59:00)] was greater than the threshold (5.0) (minimum 1 datapoint for OK -> ALARM transition)."},
		{"0 0", "missing", "Sum", "GreaterThanThreshold", "Threshold Crossed: 2 out of the last 2 datapoints [5.0 (02/01/26 11:59:00), 5.0 (02/01/26 11:58:00)] were not greater than the threshold (5.0) (minimum 2 datapoints for ALARM -> OK transition)."},
		{"X X", "missing", "Average", "LessThanOrEqualToThreshold", "Threshold Crossed: 2 out of the last 2 datapoints [3.0 (02/01/26 11:59:00), 3.0 (02/01/26 11:58:00)] were less than or equal to the threshold (5.0) (minimum 1 datapoint for OK -> ALARM transition)."},
		{"X X", "missing", "SampleCount", "LessThanThreshold", "[2.0 (02/01/26 11:59:00), 2.0 (02/01/26 11:58:00)] were less than the"},
		{"X X", "missing", "Maximum", "GreaterThanOrEqualToThreshold", "[4.0 (02/01/26 11:59:00), 4.0 (02/01/26 11:58:00)] were not greater than or equal to the"},
		{"X X", "missing", "Minimum", "GreaterThanOrEqualToThreshold", "[2.0 (02/01/26 11:59:00)"},
		{"- -", "missing", "Sum", "GreaterThanThreshold", "Insufficient Data: 2 datapoints were unknown."},
		{"- -", "breaching", "Sum", "GreaterThanThreshold", "Threshold Crossed: no datapoints were received for 2 periods and 2 missing datapoints were treated as [Breaching]."},
		{"0 -", "notBreaching", "Sum", "GreaterThanThreshold", "Threshold Crossed: 1 datapoint was received for 2 periods and 1 missing datapoint was treated as [NonBreaching]."},
	} {
		a, err := ReadAlarm(map[string]any{
			"Namespace": "s", "MetricName": "n", "Statistic": c.statistic, "Threshold": "5", "ComparisonOperator": c.compare,
			"EvaluationPeriods": "2", "DatapointsToAlarm": 1, "TreatMissingData": c.missing,
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Evaluate(noon, points(pointsOf(c.row)), OK).Reason; !strings.Contains(got, c.want) {
			t.Errorf("%s: %s; want %s", c.row, got, c.want)
		}
	}
}

func TestReadAlarm(t *testing.T) {
	base := map[string]any{"Namespace": "s", "MetricName": "n", "Statistic": "Sum", "Threshold": 1, "ComparisonOperator": "GreaterThanThreshold", "EvaluationPeriods": 1}
	for _, c := range []struct {
		property        string
		value           any
		unwatched, fail string
	}{
		{"Dimensions", []any{map[string]any{"Name": "a", "Value": "b"}}, "", ""},
		{"Metrics", []any{}, "", "Namespace cannot be given together with Metrics"},
		{"ExtendedStatistic", "p90", "", "ExtendedStatistic cannot be given together with Statistic"},
		{"ThresholdMetricId", "band", "", "ThresholdMetricId is given, and bands of anomalies are not computed here"},
		{"EvaluateLowSampleCountPercentile", "never", "", `EvaluateLowSampleCountPercentile is "never"`},
		{"Statistic", "p90", "", `Statistic is "p90"; percentiles are given as ExtendedStatistic`},
		{"MetricName", nil, "names no Namespace", ""},
		{"ComparisonOperator", "GreaterThanUpperThreshold", "", "bands of anomalies"},
		{"ComparisonOperator", nil, "no threshold", ""},
		{"Threshold", nil, "no threshold", ""},
		{"Threshold", "much", "", "Threshold is much"},
		{"Period", 45, "", "Period is 45"},
		{"Period", 5, "", "Period is 5"},
		{"EvaluationPeriods", 0, "", "EvaluationPeriods is 0"},
		{"DatapointsToAlarm", 2, "", "DatapointsToAlarm is 2"},
		{"TreatMissingData", "never", "", `TreatMissingData is "never"`},
		{"Statistic", "Median", "", `Statistic is "Median"`},
	} {
		properties := map[string]any{}
		for k, v := range base {
			properties[k] = v
		}
		properties[c.property] = c.value
		a, err := ReadAlarm(properties)
		switch {
		case c.fail == "" && err != nil, c.fail != "" && (err == nil || !strings.Contains(err.Error(), c.fail)):
			t.Errorf("%s %v: %v; want %q", c.property, c.value, err, c.fail)
		case err == nil && (a.Unwatched == "") != (c.unwatched == ""), !strings.Contains(a.Unwatched, c.unwatched):
			t.Errorf("%s %v: unwatched %q; want %q", c.property, c.value, a.Unwatched, c.unwatched)
		case c.property == "Dimensions" && !slices.Equal(a.Series(), []Series{SeriesOf("s", "n", "a=b")}):
			t.Errorf("the series are %s", a.Series())
		}
	}
}

// TestHighResolution judges every ten seconds.
func TestHighResolution(t *testing.T) {
	a, err := ReadAlarm(map[string]any{
		"Namespace": "s", "MetricName": "n", "Statistic": "Sum", "Threshold": 0, "ComparisonOperator": "GreaterThanThreshold", "EvaluationPeriods": 1, "Period": 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	one := points([]Point{Point{Time: noon}.Add(1)})
	if got := a.Evaluate(noon.Add(9*time.Second), one, OK).State; got != Insufficient {
		t.Errorf("before the time of its point is over, it is %s", got)
	}
	if got := a.Evaluate(noon.Add(10*time.Second), one, OK).State; got != On {
		t.Errorf("after it, it is %s", got)
	}
}

func TestRule(t *testing.T) {
	states := map[string]State{"a": On, "b": OK, "c d": Insufficient}
	for text, want := range map[string]bool{
		"ALARM(a)": true, "ALARM(b)": false, `OK("b") AND NOT ALARM('b')`: true, "TRUE": true, "FALSE OR NOT FALSE": true,
		`ALARM("c d") OR INSUFFICIENT_DATA("c d")`: true, "ALARM(a) AND (ALARM(b) OR OK(b)) AND NOT (FALSE)": true,
		"ALARM(b) AND ALARM(a) OR TRUE": true, "NOT NOT ALARM(b)": false, "alarm(a) and not ok(a)": true,
	} {
		r, err := ParseRule(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := r.Holds(func(name string) State { return states[name] }); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if r, err := ParseRule("ALARM(a) AND (OK(b) OR NOT ALARM(\"c d\"))"); err != nil || strings.Join(r.Names(), ",") != "a,b,c d" {
		t.Errorf("names are %v (%v)", r.Names(), err)
	}
	for text, want := range map[string]string{
		"": "ends where ALARM(…)", "ALARM": "ends where a ( is wanted", "ALARM(a": "ends where a ) is wanted", "ALARM()": "the name of an alarm",
		"ALARM(a) OK(b)": `AND or OR is wanted in place of "OK(b)"`, "(TRUE": "AND, OR or a )", `OK("a)`: "a closing quote", "MAYBE(a)": "in place of",
		strings.Repeat("(", 60) + "TRUE": "fewer parentheses",
	} {
		if _, err := ParseRule(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}

func FuzzRule(f *testing.F) {
	f.Add(`ALARM("a") AND NOT (OK(b) OR FALSE)`)
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := ParseRule(text); err == nil {
			r.Holds(func(string) State { return OK })
		}
	})
}
