package metric

import (
	"maps"
	"math"
	"slices"
)

// Spread says how many values lie in each band, by the band's number. A band is
// 4 % wide: as well as that a percentile is known.
type Spread map[int]float64

// Bands are numbered so that those of positive values are above zero: bandOf1 is
// the one that begins with 1, and bandsOf2 later comes that which begins with 2.
const (
	bandsOf2 = 16
	bandOf1  = 1 << 14
)

// Band gives the band of a value. That of a negative one is its counterpart's,
// below zero.
func Band(value float64) int {
	if value == 0 {
		return 0
	}
	n := max(1, bandOf1+int(math.Floor(math.Log2(math.Abs(value))*bandsOf2)))
	if value < 0 {
		return -n
	}
	return n
}

// Edges gives the values between which a band lies.
func Edges(band int) (low, high float64) {
	if band == 0 {
		return 0, 0
	}
	at := func(n int) float64 { return math.Exp2(float64(n-bandOf1) / bandsOf2) }
	if band < 0 {
		return -at(1 - band), -at(-band)
	}
	return at(band), at(band + 1)
}

// spread gives that of a point. One whose values are all the same needs none.
func (p Point) spread() Spread {
	if p.Spread == nil && p.Count > 0 && p.Min == p.Max {
		return Spread{Band(p.Min): p.Count}
	}
	return p.Spread
}

// joined gives the spread of the values of two points.
func (p Point) joined(other Point) Spread {
	if min(p.Min, other.Min) == max(p.Max, other.Max) {
		return nil
	}
	both := maps.Clone(p.spread())
	if both == nil {
		both = Spread{}
	}
	for band, n := range other.spread() {
		both[band] += n
	}
	return both
}

// percentile gives the value that so many of a hundred values do not exceed, no
// number if nothing is known of them.
func (p Point) percentile(of100 float64) float64 {
	spread := p.spread()
	sum := 0.0
	for _, n := range spread {
		sum += n
	}
	left := sum * of100 / 100
	for _, band := range slices.Sorted(maps.Keys(spread)) {
		n := spread[band]
		if left > n {
			left -= n
			continue
		}
		low, high := Edges(band)
		return min(max(low+(high-low)*left/n, p.Min), p.Max)
	}
	if sum > 0 { // the parts did not add up to the whole, as numbers do
		return p.Max
	}
	return math.NaN()
}
