package metric

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"makeitso/internal/fault"
)

// functions are those of metric math that are computed here.
var functions = []string{"ABS", "AVG", "CEIL", "DIFF", "FILL", "FLOOR", "IF", "MAX", "METRICS", "MIN", "PERIOD", "RATE", "SUM", "TIME_SERIES"}

// arguments are what a function is called with, and where.
type arguments struct {
	name  string
	at    int
	given []formula
}

// want judges how many there are and the largest shape of each.
func (a arguments) want(least int, largest ...shape) error {
	if len(a.given) < least || len(a.given) > len(largest) {
		allowed := fmt.Sprint(least)
		if least < len(largest) {
			allowed = fmt.Sprintf("%d to %d", least, len(largest))
		}
		return fault.New(fault.Invalid, "at %d %s has %s; it takes %s", a.at+1, a.name, plural(len(a.given), "argument", "arguments"), allowed)
	}
	for i, f := range a.given {
		if f.shape > largest[i] {
			return fault.New(fault.Invalid, "at %d %s is given %s; allowed is %s", a.at+1, a.name, f.shape, largest[i])
		}
	}
	return nil
}

// call reads the arguments of a function, whose ( was read, and gives what it
// makes of them.
func (s *formulaScanner) call(at int, name string) (formula, error) {
	switch name {
	case "METRICS":
		return s.allMetrics()
	case "FILL":
		return s.filled(at)
	}
	if !slices.Contains(functions, name) {
		return formula{}, fault.New(fault.Unsupported, "at %d %s is no function that is computed here", at+1, name).
			WithHint("use %s", strings.Join(functions, ", "))
	}
	given, err := s.items(")")
	if err != nil {
		return formula{}, err
	}
	return arguments{name, at, given}.apply()
}

// apply gives what a function makes of its arguments.
func (a arguments) apply() (formula, error) {
	switch a.name {
	case "ABS":
		return a.each(math.Abs)
	case "CEIL":
		return a.each(math.Ceil)
	case "FLOOR":
		return a.each(math.Floor)
	case "SUM":
		return a.reduce(func(sum, _ float64) float64 { return sum })
	case "AVG":
		return a.reduce(func(sum, n float64) float64 { return sum / n })
	case "MIN":
		return a.extreme(func(a, b float64) float64 { return min(a, b) })
	case "MAX":
		return a.extreme(func(a, b float64) float64 { return max(a, b) })
	case "RATE":
		return a.changes(func(change, seconds float64) float64 { return change / seconds })
	case "DIFF":
		return a.changes(func(change, _ float64) float64 { return change })
	case "PERIOD":
		if err := a.want(1, aSeries); err != nil {
			return formula{}, err
		}
		return formula{aNumber, func(f *frame) []row { return []row{f.fill(f.seconds)} }}, nil
	case "TIME_SERIES":
		if err := a.want(1, aNumber); err != nil {
			return formula{}, err
		}
		return formula{aSeries, a.given[0].rows}, nil
	}
	return a.choose()
}

func (a arguments) each(make func(float64) float64) (formula, error) {
	if err := a.want(1, aList); err != nil {
		return formula{}, err
	}
	return each(a.given[0], make), nil
}

// over gives what comes of all values of a series, or, of a list, for each
// period what comes of all its series.
func (a arguments) over(of func(values []float64) float64) (formula, error) {
	if err := a.want(1, aList); err != nil {
		return formula{}, err
	}
	from := a.given[0]
	there := func(values []float64) float64 {
		if values = slices.DeleteFunc(values, math.IsNaN); len(values) == 0 {
			return math.NaN()
		}
		return of(values)
	}
	if from.shape < aList {
		return formula{aNumber, func(f *frame) []row { return []row{f.fill(there(slices.Clone(from.rows(f)[0])))} }}, nil
	}
	return formula{aSeries, func(f *frame) []row {
		rows, result := from.rows(f), f.fill(0)
		for at := range result {
			values := make([]float64, len(rows))
			for i := range rows {
				values[i] = rows[i][at]
			}
			result[at] = there(values)
		}
		return []row{result}
	}}, nil
}

// reduce is over, by the sum of the values and how many they are.
func (a arguments) reduce(of func(sum, n float64) float64) (formula, error) {
	return a.over(func(values []float64) float64 {
		sum := 0.0
		for _, v := range values {
			sum += v
		}
		return of(sum, float64(len(values)))
	})
}

// extreme is over, two values at a time.
func (a arguments) extreme(of func(a, b float64) float64) (formula, error) {
	return a.over(func(values []float64) float64 {
		for _, v := range values[1:] {
			values[0] = of(values[0], v)
		}
		return values[0]
	})
}

// changes gives what is made of each value's difference to the one before it.
func (a arguments) changes(of func(change, seconds float64) float64) (formula, error) {
	if err := a.want(1, aList); err != nil {
		return formula{}, err
	}
	return a.rowwise(func(f *frame, from row) row {
		result, before := f.fill(math.NaN()), -1
		for at := len(from) - 1; at >= 0; at-- { // the oldest first
			if math.IsNaN(from[at]) {
				continue
			}
			if before >= 0 {
				result[at] = of(from[at]-from[before], float64(before-at)*f.seconds)
			}
			before = at
		}
		return result
	}), nil
}

// rowwise gives a formula that makes one row of each of the first argument's.
func (a arguments) rowwise(of func(*frame, row) row) formula {
	from := a.given[0]
	return formula{from.shape, func(f *frame) []row {
		rows := slices.Clone(from.rows(f))
		for i := range rows {
			rows[i] = of(f, rows[i])
		}
		return rows
	}}
}

// choose is IF(condition, then, else): where the condition is missing there is
// no value, and without an else none where it does not hold.
func (a arguments) choose() (formula, error) {
	if err := a.want(2, aSeries, aSeries, aSeries); err != nil {
		return formula{}, err
	}
	if len(a.given) == 2 {
		a.given = append(a.given, constant(math.NaN()))
	}
	largest := max(a.given[0].shape, a.given[1].shape, a.given[2].shape)
	return formula{largest, func(f *frame) []row {
		when, yes, no := a.given[0].rows(f)[0], a.given[1].rows(f)[0], a.given[2].rows(f)[0]
		result := f.fill(math.NaN())
		for at, holds := range when {
			switch {
			case math.IsNaN(holds):
			case holds != 0:
				result[at] = yes[at]
			default:
				result[at] = no[at]
			}
		}
		return []row{result}
	}}, nil
}

// allMetrics reads the rest of METRICS() or METRICS("part of an id").
func (s *formulaScanner) allMetrics() (formula, error) {
	part := ""
	if s.space(); s.at < len(s.text) && (s.text[s.at] == '"' || s.text[s.at] == '\'') {
		var err error
		if part, err = s.quoted(s.text[s.at]); err != nil {
			return formula{}, s.wrong("a closing quote")
		}
	}
	if !s.take(")") {
		return formula{}, s.wrong("a )")
	}
	ids := slices.DeleteFunc(slices.Clone(s.metrics), func(id string) bool { return !strings.Contains(id, part) })
	return formula{aList, func(f *frame) []row {
		all := make([]row, len(ids))
		for i, id := range ids {
			all[i] = f.of(id)[0]
		}
		return all
	}}, nil
}

// filled reads the rest of FILL(series, value), where the value may be REPEAT or
// LINEAR.
func (s *formulaScanner) filled(at int) (formula, error) {
	what, err := s.binary(0)
	if err != nil {
		return what, err
	}
	if !s.take(",") {
		return what, s.wrong("an operator or a comma")
	}
	for _, way := range []string{"REPEAT", "LINEAR"} {
		if s.take(way) {
			if !s.take(")") {
				return what, s.wrong("a )")
			}
			a := arguments{"FILL", at, []formula{what}}
			return a.rowwise(func(_ *frame, from row) row { return bridged(from, way == "LINEAR") }), a.want(1, aList)
		}
	}
	with, err := s.binary(0)
	if err == nil && !s.take(")") {
		err = s.wrong("an operator or a )")
	}
	if err != nil {
		return what, err
	}
	a := arguments{"FILL", at, []formula{what, with}}
	return a.rowwise(func(f *frame, from row) row {
		result, instead := slices.Clone(from), with.rows(f)[0]
		for at, v := range result {
			if math.IsNaN(v) {
				result[at] = instead[at]
			}
		}
		return result
	}), a.want(2, aList, aSeries)
}

// bridged gives a row whose gaps have the value before them, or lie on the line
// between the values on both sides. What no such value is known for stays
// missing.
func bridged(from row, straight bool) row {
	result, before := slices.Clone(from), -1
	for at := len(from) - 1; at >= 0; at-- { // the oldest first
		switch {
		case !math.IsNaN(from[at]):
			for gap := before - 1; straight && gap > at; gap-- {
				part := float64(before-gap) / float64(before-at)
				result[gap] = from[before] + (from[at]-from[before])*part
			}
			before = at
		case before >= 0 && !straight:
			result[at] = from[before]
		}
	}
	return result
}
