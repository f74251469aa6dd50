package server

import (
	"fmt"
	"testing"
	"time"

	"makeitso/internal/project"
)

func TestSchedule(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ago := func(minutes int) time.Time { return now.Add(-time.Duration(minutes) * time.Minute) }
	stacks := map[string]project.Drift{
		"often":  {Every: 10 * time.Minute, Then: "repair"},
		"seldom": {Every: 24 * time.Hour, Then: "report"},
	}
	for _, test := range []struct {
		name string
		last map[string]time.Time
		due  string
		next int // in minutes from now
	}{
		{"nothing exists", nil, "[]", 10},
		{"looked at lately", map[string]time.Time{"often": ago(4), "seldom": ago(4)}, "[]", 6},
		{"one is due", map[string]time.Time{"often": ago(10), "seldom": ago(10)}, "[{often repair}]", 0},
		{"missed while nobody was there", map[string]time.Time{"often": ago(3000), "seldom": ago(1439)}, "[{often repair}]", -2990},
		{"not in the file any more", map[string]time.Time{"other": ago(3000), "often": ago(1)}, "[]", 9},
	} {
		due, next := schedule(stacks, test.last, now)
		if got := fmt.Sprint(due); got != test.due || next.Sub(now) != time.Duration(test.next)*time.Minute {
			t.Errorf("%s: %s are due, the next in %s", test.name, got, next.Sub(now))
		}
	}
	if _, next := schedule(nil, nil, now); next.Sub(now) != project.DefaultDriftEvery {
		t.Errorf("without stacks, the next is in %s", next.Sub(now))
	}
}
