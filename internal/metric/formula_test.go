package metric

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"makeitso/internal/fault"
)

// metricStat is an item of Metrics that is a series of the namespace s.
func metricStat(id, name string) map[string]any {
	return map[string]any{"Id": id, "ReturnData": false, "MetricStat": map[string]any{
		"Stat": "Sum", "Period": 60, "Metric": map[string]any{"Namespace": "s", "MetricName": name},
	}}
}

// mathAlarm is on if what the last query gives is more than 5.
func mathAlarm(queries ...map[string]any) (Alarm, error) {
	var list []any
	for i, q := range queries {
		if i == len(queries)-1 {
			q = maps.Clone(q)
			q["ReturnData"] = "true"
		}
		list = append(list, q)
	}
	return ReadAlarm(map[string]any{"Metrics": list, "Threshold": 5, "ComparisonOperator": "GreaterThanThreshold", "EvaluationPeriods": 3})
}

func mathOf(id, text string) map[string]any {
	return map[string]any{"Id": id, "Expression": text, "ReturnData": "false"}
}

// TestMath computes from two series, the oldest value first; the last is that of
// 11:59.
func TestMath(t *testing.T) {
	m1, m2 := []string{"2", "4", "-", "8", "10"}, []string{"1", "-", "3", "4", "0"}
	points := map[Series][]Point{}
	for name, row := range map[string][]string{"one": m1, "two": m2} {
		for i, text := range row {
			if value, isNumber := numberOf(text); isNumber {
				at := noon.Truncate(time.Minute).Add(time.Duration(i-len(row)) * time.Minute)
				points[SeriesOf("s", name)] = append(points[SeriesOf("s", name)], Point{Time: at}.Add(value))
			}
		}
	}
	for text, want := range map[string]string{
		"m1":                             "2 4 - 8 10",
		"m1 + m2":                        "3 - - 12 10",
		"m1 - m2 * 2":                    "0 - - 0 10",
		"m1 / m2":                        "2 - - 2 -",
		"(m1 - 1)*2":                     "2 6 - 14 18",
		"2 ^ 3 ^ 2 + m1 * 0":             "512 512 - 512 512",
		"-2 ^ 2 + m1 * 0":                "-4 -4 - -4 -4",
		"1.5e+1 - m1 - 1":                "12 10 - 6 4",
		"m1 > 4":                         "0 0 - 1 1",
		"m1 >= 4 AND m1 != 8":            "0 1 - 0 1",
		"m1<4||m1==8 && m2 <= 4":         "1 - - 1 0",
		"m1 < 4 OR m1 > 9":               "1 0 - 0 1",
		"SUM(METRICS())":                 "3 4 3 12 10",
		"AVG([m1, m2, 0])":               "1 2 1.5 4 3.3333333333333335",
		`MAX(METRICS("1"))`:              "2 4 - 8 10",
		"MIN(METRICS() * 2)":             "2 8 6 8 0",
		"MIN(10 - METRICS())":            "8 6 7 2 0",
		"m1 - MIN(m1)":                   "0 2 - 6 8",
		"m1 / SUM(m1) * 24":              "2 4 - 8 10",
		"m1 - AVG(m1)":                   "-4 -2 - 2 4",
		"m1 - MAX(m1)":                   "-8 -6 - -2 0",
		"ABS(m1 - 6)":                    "4 2 - 2 4",
		"CEIL(m1 / 4)":                   "1 1 - 2 3",
		"FLOOR(m1 / 4)":                  "0 1 - 2 2",
		"FILL(m1, 0)":                    "2 4 0 8 10",
		"FILL(m1, m2)":                   "2 4 3 8 10",
		"FILL(m1, REPEAT)":               "2 4 4 8 10",
		"FILL(m1, LINEAR)":               "2 4 6 8 10",
		"FILL(m2 + m1 / m1, LINEAR)":     "2 3 4 5 1",
		"SUM(FILL(METRICS(), 1))":        "3 5 4 12 10",
		"RATE(m1) * 60":                  "- 2 - 2 2",
		"DIFF(m1)":                       "- 2 - 4 2",
		"m1 / PERIOD(m1) * 60":           "2 4 - 8 10",
		"IF(m1 > 4, 10)":                 "- - - 10 10",
		"IF(m2 > 1, m1, 0 - 1)":          "-1 - - 8 -1",
		"IF(1, m1, m2)":                  "2 4 - 8 10",
		"e1 + 1":                         "3 5 - 9 11",
		"TIME_SERIES(7)":                 "7 7 7 7 7",
		`SUM([m1,SUM(METRICS("none"))])`: "2 4 - 8 10",
	} {
		a, err := mathAlarm(metricStat("m1", "one"), metricStat("m2", "two"), mathOf("e1", "e2 * 2"), mathOf("e2", "m1 / 2"), mathOf("e0", text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []string
		for _, v := range a.compute(func(q *query) map[int]Point { return a.perPeriod(noon, points[q.series]) }) {
			mark := fmt.Sprint(v)
			if math.IsNaN(v) {
				mark = "-"
			}
			got = append([]string{mark}, got...)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", text, strings.Join(got, " "), want)
		}
	}
}

// TestMathMistakes is what templates get wrong, and where they are told so.
func TestMathMistakes(t *testing.T) {
	one := metricStat("m1", "one")
	for text, want := range map[string]string{
		"":                           "one of Expression and MetricStat is wanted",
		"m1 +":                       "Metrics[1].Expression: it ends where a number, an id, a function or a ( is wanted",
		"m1 + )":                     `at 6 a number, an id, a function or a ( is wanted in place of ")"`,
		"(m1":                        "it ends where an operator or a ) is wanted",
		"m1 m1":                      `at 4 an operator or the end is wanted in place of "m1"`,
		"m1 ORm1":                    `at 4 an operator or the end is wanted in place of "ORm1"`,
		"1.2.3 + m1":                 `at 1 a number is wanted in place of "1.2.3 + m1"`,
		"m1 + m3":                    `at 6: nothing has the Id "m3"`,
		"e + m1":                     "at 1: e leads back to itself",
		"[m1":                        "it ends where an operator, a comma or a ] is wanted",
		"SUM([[m1]])":                "at 5 a list lies within a list",
		"METRICS() + METRICS()":      "at 11 + joins two lists of series",
		"METRICS()":                  "Metrics: e gives a list of series; an alarm watches a series",
		"SUM(m1)":                    "Metrics: e gives a number",
		"ABS(m1, m1)":                "at 1 ABS has 2 arguments; it takes 1",
		"IF(m1)":                     "at 1 IF has 1 argument; it takes 2 to 3",
		"m1 + IF(METRICS(), m1)":     "at 6 IF is given a list of series; allowed is a series",
		"m1 * PERIOD(METRICS())":     "PERIOD is given a list of series",
		"TIME_SERIES(m1)":            "TIME_SERIES is given a series; allowed is a number",
		"FILL(m1)":                   `an operator or a comma is wanted in place of ")"`,
		"FILL(m1, REPEAT":            "it ends where a ) is wanted",
		"FILL(m1, METRICS())":        "FILL is given a list of series; allowed is a series",
		"METRICS(m)":                 `at 9 a ) is wanted`,
		`METRICS("m)`:                "it ends where a closing quote is wanted",
		"m1 + STDDEV(m1)":            "at 6 STDDEV is no function that is computed here",
		"ANOMALY_DETECTION_BAND(m1)": "at 1 ANOMALY_DETECTION_BAND is no function that is computed here",
		strings.Repeat("(", 60):      "a shallower expression is wanted",
		strings.Repeat("-", 60):      "a shallower expression is wanted",
		strings.Repeat("1+", 1025):   "it has 2050 characters; allowed are 2048",
	} {
		_, err := mathAlarm(one, mathOf("e", text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
		if unknown := strings.Contains(want, "no function"); unknown != fault.Is(err, fault.Unsupported) || unknown && !strings.Contains(fault.HintOf(err), "use ABS, AVG") {
			t.Errorf("%s: %s %q", text, fault.CodeOf(err), fault.HintOf(err))
		}
	}
	with := func(name string, value any) map[string]any {
		q := metricStat("m2", "two")
		q[name] = value
		return q
	}
	stat := func(name string, value any) map[string]any {
		q := metricStat("m2", "two")
		q["MetricStat"].(map[string]any)[name] = value
		return q
	}
	for want, queries := range map[string][]map[string]any{
		"Metrics has 0 items":                      nil,
		"Metrics has 21 items":                     slices.Repeat([]map[string]any{one}, 21),
		`Metrics[0]: Id is "M"`:                    {mathOf("M", "1")},
		`Metrics[1] has the Id "m1"`:               {one, metricStat("m1", "two")},
		"Exactly one element of the metrics list":  {with("ReturnData", true), one},
		"Metrics[0]: AccountId is given":           {with("AccountId", "1")},
		"Metrics[0]: one of Expression and":        {with("Expression", "1")},
		"names no Namespace and MetricName":        {stat("Metric", nil)},
		`MetricStat.Stat is "Median"; allowed are`: {stat("Stat", "Median")},
		`MetricStat.Stat is "tm90", and trimmed`:   {stat("Stat", "tm90")},
		`MetricStat.Stat is "TM(10%:90%)", and`:    {stat("Stat", "TM(10%:90%)")},
		"Metrics[0]: Period is 45":                 {stat("Period", 45)},
		"Metrics: the Period of m1 is 60 and that of m2 is 300; here all must have the same": {one, stat("Period", 300)},
	} {
		if _, err := mathAlarm(queries...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

// TestMathAlarm judges by an expression, with the words of any other alarm.
func TestMathAlarm(t *testing.T) {
	a, err := mathAlarm(metricStat("m1", "n"), mathOf("e", "m1 * 2"))
	if err != nil {
		t.Fatal(err)
	}
	got := a.Evaluate(noon, points(pointsOf("X X X")), OK)
	if want := "[12.0 (02/01/26 11:59:00), 12.0 (02/01/26 11:58:00), 12.0 (02/01/26 11:57:00)] were greater than the threshold (5.0)"; got.State != On || !strings.Contains(got.Reason, want) {
		t.Errorf("%+v", got)
	}
}

// TestPercentile judges by percentiles of values that were counted one by one.
func TestPercentile(t *testing.T) {
	var all []Point
	for i := range 1000 { // 1 to 1000, in two points of one minute
		at := noon.Truncate(time.Minute).Add(time.Duration(-10-i%2*20) * time.Second)
		if i < 2 {
			all = append(all, Point{Time: at})
		}
		all[i%2] = all[i%2].Add(float64(i + 1))
	}
	for name, want := range map[string]float64{"p0": 1, "p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "p100": 1000} {
		a := percentileAlarm(t, name, "")
		got, _ := a.datapoints(noon, points(all))
		if len(got) != 1 || math.Abs(got[0].value-want) > want*0.03 {
			t.Errorf("%s: %+v, want about %v", name, got, want)
		}
	}
	if got := all[0].Join(all[1]).percentile(50); math.Abs(got-500) > 15 {
		t.Errorf("of both, %v", got)
	}
	mixed := Point{}.Add(-4).Add(-2).Add(0).Add(0).Add(8)
	for percent, want := range map[float64]float64{0: -4, 40: -2, 60: 0, 80: 0, 100: 8} {
		if got := mixed.percentile(percent); math.Abs(got-want) > math.Abs(want)*0.05 {
			t.Errorf("%v of negative values: %v, want about %v", percent, got, want)
		}
	}
	if got := (Point{Count: 3, Min: 1, Max: 2}).percentile(50); !math.IsNaN(got) {
		t.Errorf("of what has no spread, %v", got)
	}
	for low, want := range map[string]State{"ignore": OK, "evaluate": On, "": On} {
		if got := percentileAlarm(t, "p99", low).Evaluate(noon, points(all[:1]), OK).State; got != want {
			t.Errorf("500 samples, %s: %s, want %s", low, got, want)
		}
		if got := percentileAlarm(t, "p99", low).Evaluate(noon, points(all), OK).State; got != On {
			t.Errorf("1000 samples, %s: %s", low, got)
		}
	}
}

func percentileAlarm(t *testing.T, name, low string) Alarm {
	t.Helper()
	properties := map[string]any{"Namespace": "s", "MetricName": "n", "ExtendedStatistic": name, "Threshold": 5, "ComparisonOperator": "GreaterThanThreshold", "EvaluationPeriods": 1}
	if low != "" {
		properties["EvaluateLowSampleCountPercentile"] = low
	}
	a, err := ReadAlarm(properties)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestBands finds each value between the edges of its band.
func TestBands(t *testing.T) {
	for _, value := range []float64{0, 1, -1, 1.5, 0.001, -0.001, 12345, 1e300, -1e300, 1e-300} {
		low, high := Edges(Band(value))
		if near := math.Abs(value) * 1e-9; low-near > value || value > high+near {
			t.Errorf("%v lies in the band from %v to %v", value, low, high)
		}
	}
}

func FuzzFormula(f *testing.F) {
	for _, text := range []string{"m1 + 2 * -m1 ^ 2", "IF(m1 > 3 AND m1 < 5, FILL(m1, REPEAT))", "SUM(METRICS()) / PERIOD(m1)", `MAX([m1, 2, RATE(m1)])`} {
		f.Add(text)
	}
	one := metricStat("m1", "n")
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := mathAlarm(one, mathOf("e", text)); err == nil {
			a.Evaluate(noon, points(pointsOf("X 0 - X")), OK)
		}
	})
}
