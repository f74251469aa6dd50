// Package metric is what CloudWatch computes: which lines a filter's pattern
// matches and what it counts of them, in which state an alarm is by the points
// of its metrics and by expressions over them, and what a composite alarm's rule
// says. It only computes; it must not know files, stores, clocks or resources.
package metric

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/fault"
)

// Resolution is how long the time of one Point is.
const Resolution = 10 * time.Second

// Point is what was measured in the time that begins at Time.
type Point struct {
	Time  time.Time `json:"time"`
	Count float64   `json:"count"`
	Sum   float64   `json:"sum"`
	Min   float64   `json:"min"`
	Max   float64   `json:"max"`
	// Spread tells where between Min and Max the values lie, for percentiles; nil
	// where they are all the same.
	Spread Spread `json:"spread,omitempty"`
}

// Add gives the point with one more value.
func (p Point) Add(value float64) Point {
	return p.Join(Point{Count: 1, Sum: value, Min: value, Max: value})
}

// Join gives the point with all values of both.
func (p Point) Join(other Point) Point {
	if p.Count == 0 {
		other.Time = p.Time
		return other
	}
	p.Spread = p.joined(other)
	p.Count, p.Sum = p.Count+other.Count, p.Sum+other.Sum
	p.Min, p.Max = min(p.Min, other.Min), max(p.Max, other.Max)
	return p
}

// Series names a metric with its dimensions. Its text tells it from others.
type Series string

// SeriesOf gives the series of a metric; dimensions are "Name=Value".
func SeriesOf(namespace, name string, dimensions ...string) Series {
	parts := slices.Concat([]string{namespace, name}, slices.Sorted(slices.Values(dimensions)))
	for i := range parts {
		parts[i] = strconv.Quote(parts[i])
	}
	return Series(strings.Join(parts, " "))
}

// In says whether a series is of a namespace.
func (s Series) In(namespace string) bool {
	return strings.HasPrefix(string(s), strconv.Quote(namespace)+" ")
}

// numberOf gives a number that a template may write as text.
func numberOf(v any) (float64, bool) {
	n, err := strconv.ParseFloat(fmt.Sprint(v), 64)
	return n, err == nil && v != nil && !math.IsNaN(n) && !math.IsInf(n, 0)
}

// whole gives a whole number of a property that lies within bounds, or the
// fallback where it is not given.
func whole(properties map[string]any, name string, fallback, least, most int) (int, error) {
	v, given := properties[name]
	if !given {
		return fallback, nil
	}
	n, ok := numberOf(v)
	if !ok || n != float64(int(n)) || int(n) < least || int(n) > most {
		return 0, fault.New(fault.Invalid, "%s is %v; allowed are whole numbers from %d to %d", name, v, least, most)
	}
	return int(n), nil
}

// dimensionsOf reads a list of dimensions, in whose items key names the name.
func dimensionsOf(v any, key string) [][2]string {
	list, _ := v.([]any)
	var all [][2]string
	for _, item := range list {
		m, _ := item.(map[string]any)
		name, _ := m[key].(string)
		value, _ := m["Value"].(string)
		all = append(all, [2]string{name, value})
	}
	slices.SortFunc(all, func(a, b [2]string) int { return cmp.Compare(a[0], b[0]) })
	return all
}
