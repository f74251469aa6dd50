package analysis

import "time"

// Mark is what was known at one time.
type Mark struct {
	Time     time.Time `json:"time"`
	Evidence float64   `json:"evidence"`
	Seen     Counts    `json:"seen"`
}

// Point is one point of a curve for a page.
type Point struct {
	Time     time.Time `json:"time"`
	Evidence float64   `json:"evidence"`
	Limit    float64   `json:"limit"`
	Canary   float64   `json:"canary"` // rates of bad answers since the point before
	Old      float64   `json:"old"`
}

// marks is how many are kept at most.
const marks = 120

// mark keeps the present, and the end once. When there are too many, every other
// one goes, and they come half as often from then on.
func (t *Test) mark(now time.Time) {
	all, seen, n := t.s.Marks, t.s.Seen(), len(t.s.Marks)
	if n > 0 && t.s.Decided != "" && all[n-1].Seen == seen {
		return
	}
	if n > 1 && t.s.Decided == "" && now.Sub(all[n-1].Time) < all[1].Time.Sub(all[0].Time) {
		return
	}
	if n == marks {
		for i := range marks / 2 {
			all[i] = all[2*i]
		}
		all = all[:marks/2]
	}
	t.s.Marks = append(all, Mark{Time: now, Evidence: t.main().Evidence, Seen: seen})
}

// Series is the evidence over time, at most some hundred points.
func (t *Test) Series() []Point {
	var points []Point
	var before Counts
	for _, m := range t.s.Marks {
		fresh := m.Seen.minus(before)
		points = append(points, Point{Time: m.Time, Evidence: m.Evidence, Limit: t.limit, Canary: fresh.Canary().Share(), Old: fresh.Old().Share()})
		before = m.Seen
	}
	return points
}
