package analysis

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// What is said to have been visible is found 19 times in 20: also where the
// canary has much of the traffic, the live version fails too, nothing is
// compared, or no coin is drawn.
func TestSensitivityHolds(t *testing.T) {
	const trials = 60
	for _, o := range []Options{{}, {Absolute: "it is the first"}, {Source: NoCoin}} {
		for _, share := range []float64{0.1, 0.5, 0.75} {
			for _, errors := range []float64{0, 0.01, 0.05, 0.2} {
				o.Window, o.IgnoreLatency = time.Minute, true
				quiet := world{rng: seeded(99), weight: share, perSecond: 100, seconds: 60, rates: steady(errors, errors)}
				weight := share
				if o.Source == NoCoin {
					weight = 0
				}
				limit := o.normalize().Max5xx
				if o.Absolute != "" && errors > limit {
					continue // above the limit already
				}
				test := started(o, weight)
				quiet.play(test)
				e := test.Explain()
				var visible float64
				if n, err := fmt.Sscanf(e.Sensitivity()[strings.Index(e.Sensitivity(), "about "):], "about %g", &visible); n != 1 {
					t.Fatalf("%+v at %v: %s, %v", o, share, e.Sensitivity(), err)
				}
				bad := visible / 100
				if o.Absolute == "" {
					bad += errors
				}
				missed := 0
				for trial := range uint64(trials) {
					test := started(o, weight)
					world{rng: seeded(trial), weight: share, perSecond: 100, seconds: 60, rates: steady(bad, errors)}.play(test)
					if !test.Verdict().Condemns() {
						missed++
					}
				}
				if missed > 8 { // 3 are expected at most, and 8 are three standard deviations more
					t.Errorf("%q %q at %v over %v: %d of %d canaries with %v were missed: %s", o.Source, o.Absolute, share, errors, missed, trials, bad, e.Sensitivity())
				}
			}
		}
	}
}

// The formula in numbers: 10/n where nothing fails and little is shared, and more
// with a larger share, failures of the live version, and a margin.
func TestVisible(t *testing.T) {
	o := Options{}.normalize()
	o.Delta = 0
	for _, c := range []struct {
		requests, share, errors float64
		early                   bool
		want                    float64
	}{
		{1000, 0, 0, false, 0.01},
		{1000, 0.5, 0, false, 0.02},
		{1000, 0, 0.05, false, 0.005 + math.Hypot(0.01, math.Sqrt(40*0.055*0.945/1000))},
		{100000, 0, 0, true, o.Margin},
		{1000, 0, 0, true, 0.01},
		{0, 0.1, 0.01, false, 1},
		{5, 0.1, 0, false, 1},
	} {
		near(t, fmt.Sprintf("%+v", c), o.Visible(c.errors, Counted(c.requests, c.share), c.early), c.want, 1e-12)
	}
}
