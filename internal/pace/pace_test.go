package pace_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"makeitso/internal/pace"
)

func TestISO(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "PT0S", 90 * time.Second: "PT1M30S", 10 * time.Minute: "PT10M", time.Hour: "PT1H", 90 * time.Minute: "PT1H30M"} {
		if got := pace.ISO(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}

// TestRolling plays rolling updates on a group that does what it is told, and
// writes each move: +n new ones, ?n waited for, -n gone.
func TestRolling(t *testing.T) {
	for _, c := range []struct {
		name                   string
		r                      pace.Rolling
		size, most, old, fresh int
		want                   string
	}{
		{"one by one", pace.Rolling{Batch: 1}, 3, 3, 3, 0, "-1>1 +1 ?1 -1>1 +1 ?1 -1>1 +1 ?1"},
		{"all at once", pace.Rolling{Batch: 9}, 3, 3, 3, 0, "-3>3 +3 ?3"},
		{"all stay in service", pace.Rolling{Batch: 1, InService: 3}, 3, 4, 3, 0, "+1 ?1 -1>1 +1 ?1 -1>1 +1 ?1 -1>0"},
		{"as many as the group may have", pace.Rolling{Batch: 5, InService: 3}, 3, 5, 3, 0, "+2 ?2 -2>1 +1 ?1 -1>0"},
		{"a group that grows", pace.Rolling{Batch: 2}, 4, 4, 2, 0, "+2 ?2 -2>2 +2 ?2"},
		{"a group that shrinks", pace.Rolling{Batch: 2}, 1, 4, 3, 0, "-2>1 +1 ?1 -1>0"},
		{"half done", pace.Rolling{Batch: 1}, 3, 3, 1, 2, "-1>1 +1 ?1"},
		{"nothing to do", pace.Rolling{Batch: 1}, 3, 3, 0, 3, ""},
		{"more in service than there are", pace.Rolling{Batch: 1, InService: 3}, 1, 4, 1, 0, "+1 ?1 -1>0"},
	} {
		s := pace.State{Size: c.size, Most: c.most, Fresh: c.fresh, Kept: c.fresh, Old: make([]string, c.old)}
		var moves []string
		for range 50 {
			m, err := c.r.Next(s)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			switch {
			case m.Await > 0:
				moves = append(moves, fmt.Sprintf("?%d", m.Await))
				s.Good += m.Await
			case m.Grow > 0:
				n := m.Grow - len(s.Old) - s.Fresh
				moves = append(moves, fmt.Sprintf("+%d", n))
				s.Fresh += n
			case len(m.Terminate) > 0:
				moves = append(moves, fmt.Sprintf("-%d>%d", len(m.Terminate), m.Replaced))
				s.Old = s.Old[len(m.Terminate):]
			}
			if have := len(s.Old) + s.Fresh; have < min(c.r.InService, c.size) || have > max(c.most, c.old) {
				t.Errorf("%s: there are %d instances after %v", c.name, have, moves)
			}
		}
		if got := strings.Join(moves, " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestRollingFails(t *testing.T) {
	r := pace.Rolling{Batch: 1, Signals: true, Percent: 50}
	s := pace.State{Size: 4, Most: 4, Old: make([]string, 1), Fresh: 3, Good: 1, Late: 2}
	if _, err := r.Next(s); err != nil {
		t.Errorf("half of the instances suffice, but: %v", err)
	}
	s.Late++
	if _, err := r.Next(s); err == nil || !strings.Contains(err.Error(), "Received 1 SUCCESS signal(s) out of 4.  Unable to satisfy 50%") {
		t.Errorf("the answer was %v", err)
	}
}

func TestTally(t *testing.T) {
	var tally pace.Tally
	for _, s := range []pace.Signal{{Status: pace.Success, UniqueID: "a", Data: "x"}, {Status: pace.Failure, UniqueID: "a"}, {Status: pace.Failure, UniqueID: "b"}, {Status: pace.Success, UniqueID: "b"}} {
		tally.Add(s)
	}
	if data, err := tally.Data(); err != nil || data != `{"a":"x"}` || tally.Count() != 2 {
		t.Errorf("counted are %d with %s (%v)", tally.Count(), data, err)
	}
	some := pace.Creation{Count: 3, Percent: 34, OfGroup: true}
	if some.Decided(&tally) || some.Judge(&tally) == nil {
		t.Error("one of three is taken for 34 %")
	}
	some.Percent = 33
	if !some.Decided(&tally) || some.Judge(&tally) != nil {
		t.Error("one of three is not taken for 33 %")
	}
}
