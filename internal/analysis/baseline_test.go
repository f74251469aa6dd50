package analysis

import (
	"slices"
	"testing"
	"time"
)

func TestLately(t *testing.T) {
	now := time.Unix(10_000, 0)
	served := func(n int, ago time.Duration, bad bool) []Answered {
		return slices.Repeat([]Answered{{At: now.Add(-ago), Bad: bad}}, n)
	}
	for _, c := range []struct {
		name   string
		served []Answered
		want   Arm
	}{
		{"nothing", nil, Arm{}},
		{"all of the last minute", served(50, 10*time.Second, true), Arm{50, 50}},
		{"well again for half a minute", slices.Concat(served(500, 90*time.Second, true), served(30, 30*time.Second, false)), Arm{30, 0}},
		{"ill since half a minute", slices.Concat(served(500, 90*time.Second, false), served(30, 30*time.Second, true)), Arm{30, 30}},
		{"few lately, so the ones before count", slices.Concat(served(500, 5*time.Minute, true), served(4, time.Second, false)), Arm{20, 16}},
		{"long ago", served(500, 11*time.Minute, true), Arm{}},
	} {
		if got := Lately(c.served, now); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
