package analysis

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestReorder(t *testing.T) {
	r := NewReorder(10*time.Second, 3)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	var got []string
	take := func(now float64) {
		for {
			a, ok := r.Next(at(now))
			if !ok {
				return
			}
			got = append(got, fmt.Sprintf("%v: canary %v bad %v after %s at %v", now, a.Canary, a.Bad, a.Latency, a.Weight))
		}
	}
	first, _ := r.Arrive(at(0), false, 0.1)
	second, _ := r.Arrive(at(1), true, 0.1)
	third, _ := r.Arrive(at(2), false, 0.5)
	if _, ok := r.Arrive(at(2.5), true, 0.5); ok || r.Skipped() != 1 {
		t.Error("a fourth request found room")
	}
	r.End(second, at(3), true) // fails first, and must wait
	r.End(third, at(4), false)
	take(4)
	take(10)                    // the first has taken too long
	r.End(first, at(11), false) // … and ends when nobody waits for it any more
	r.End(99, at(11), false)
	take(11)
	fourth, ok := r.Arrive(at(12), true, 0.5)
	if !ok {
		t.Error("no room although all have gone")
	}
	r.End(first, at(12), true) // another has its place now
	r.End(fourth, at(23), false)
	r.End(fourth, at(24), true)
	take(24)
	want := []string{
		"10: canary false bad true after 10s at 0.1",
		"10: canary true bad true after 2s at 0.1",
		"10: canary false bad false after 2s at 0.5",
		"24: canary true bad true after 11s at 0.5",
	}
	if !slices.Equal(got, want) || r.Waiting() != 0 {
		t.Errorf("got %q, want %q; %d wait", got, want, r.Waiting())
	}
}

// In an outage of both a canary that fails after 1 s and an old version that
// fails after 30 s are alike, if what ended is folded in the order of arrival;
// in the order of the ends the canary is condemned.
func TestArrivalOrderSavesWhoFailsFaster(t *testing.T) {
	const seconds, perSecond = 180, 100
	run := func(seed uint64, ordered bool) Verdict {
		rng, test, order := seeded(seed), started(Options{}, 0.10), NewReorder(10*time.Second, 20*perSecond)
		type end struct {
			ticket      Ticket
			canary, bad bool
		}
		ends := make([][]end, seconds+31)
		for second := range seconds {
			now := start.Add(time.Duration(second) * time.Second)
			for range perSecond {
				canary := rng.Float64() < 0.10
				bad := second >= 60 && second < 120 || rng.Float64() < 0.001
				after := 0
				if bad {
					after = map[bool]int{true: 1, false: 30}[canary]
				}
				ticket, ok := order.Arrive(now, canary, 0.10)
				if !ok {
					t.Fatal("no room")
				}
				ends[second+after] = append(ends[second+after], end{ticket, canary, bad})
			}
			for _, e := range ends[second] {
				order.End(e.ticket, now, e.bad)
				if !ordered {
					test.Observe(Request{Canary: e.canary, Bad: e.bad})
				}
			}
			for {
				a, ok := order.Next(now)
				if !ok {
					break
				}
				if ordered {
					test.SetWeight(a.Weight)
					test.Observe(a.Request)
				}
			}
			test.Tick(now)
		}
		return test.Verdict()
	}
	for seed := range uint64(20) {
		if v := run(seed, true); v.Condemns() {
			t.Errorf("seed %d: in the order of arrival: %s", seed, v)
		}
	}
	if v := run(1, false); v != RollBack {
		t.Errorf("in the order of the ends: %s; the scene shows nothing", v)
	}
}
