package stack_test

import (
	"testing"
	"time"

	"makeitso/internal/stack"
)

// TestSweep keeps the events of stacks that exist, and those of a stack that was
// deleted for as long as they shall be.
func TestSweep(t *testing.T) {
	const one = `Resources: {A: {Type: Test::Thing, Properties: {Value: "1"}}}`
	b := newBench(t)
	for _, name := range []string{"app", "gone", "again"} {
		b.mustApply(name, one)
	}
	for _, name := range []string{"gone", "again"} {
		if err := b.engine.Delete(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	b.mustApply("again", one)
	count := func(name string) int {
		t.Helper()
		events, err := b.engine.Events(t.Context(), name, 0)
		if err != nil {
			t.Fatal(err)
		}
		return len(events)
	}
	kept := map[string]int{"app": count("app"), "gone": count("gone"), "again": count("again")}
	sweep := func(before time.Time, gone int) {
		t.Helper()
		if err := b.engine.Sweep(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		if count("app") != kept["app"] || count("again") != kept["again"] || count("gone") != gone {
			t.Errorf("events are %d %d %d; want %d %d %d", count("app"), count("again"), count("gone"), kept["app"], kept["again"], gone)
		}
	}
	sweep(time.Now().Add(-time.Hour), kept["gone"])
	sweep(time.Now().Add(time.Hour), 1)
	sweep(time.Now().Add(time.Hour), 1)
	newest, err := b.engine.EventsBefore(t.Context(), "gone", 0, 5)
	if err != nil || len(newest) != 1 || newest[0].Status != stack.DeleteComplete || newest[0].Number != int64(kept["gone"]) {
		t.Errorf("what is left is %+v (%v)", newest, err)
	}
	if older, err := b.engine.EventsBefore(t.Context(), "gone", newest[0].Number, 5); err != nil || len(older) != 0 {
		t.Errorf("before it is %+v (%v)", older, err)
	}
	b.mustApply("gone", one)
	if got := count("gone"); got != 1+kept["app"] {
		t.Errorf("made again, it has %d events; want %d", got, 1+kept["app"])
	}
}
