package release

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"makeitso/internal/fault"
)

// fakeAlarms are alarms that the test turns on and off.
type fakeAlarms struct {
	mu     sync.Mutex
	states map[string]string
	moved  chan struct{}
}

func newFakeAlarms() *fakeAlarms {
	return &fakeAlarms{states: map[string]string{"errors": "OK", "queue": "INSUFFICIENT_DATA"}, moved: make(chan struct{})}
}

func (f *fakeAlarms) set(name, state string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.states[name] = state; state == "" {
		delete(f.states, name)
	}
	close(f.moved)
	f.moved = make(chan struct{})
}

func (f *fakeAlarms) AwaitAlarm(ctx context.Context, name string, wanted func(string) bool) (string, string, error) {
	for {
		f.mu.Lock()
		state, moved := f.states[name], f.moved
		f.mu.Unlock()
		switch {
		case state == "":
			return "", "", fault.New(fault.NotFound, "environment local has no alarm %s", name).WithHint("its alarms are errors, queue")
		case wanted(state):
			return state, "too many", nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return "", "", context.Cause(ctx)
		}
	}
}

// alarmed is a canary of a service that alarms watch over.
func alarmed(names ...string) Service {
	s := canary(time.Hour)
	s.Alarms = names
	return s
}

// An alarm that goes off sends a rollout back, also after a restart; one that has
// insufficient data, or is not named, does not.
func TestAlarmSendsARolloutBack(t *testing.T) {
	for name, restart := range map[string]bool{"at once": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			alarms := newFakeAlarms()
			o := quick(w)
			o.Alarms = alarms
			c := w.live(w.store, o)
			c.mustRelease(alarmed("errors"), "one", "run-1")
			alarms.set("other", "ALARM")
			ended := c.releasing(alarmed("queue", "errors"), "two", "run-2")
			w.canaryShown()
			alarms.set("errors", "INSUFFICIENT_DATA")
			if restart {
				c.stop()
				<-ended
			}
			alarms.set("errors", "ALARM")
			if restart {
				c = w.live(w.store, o)
				ended = c.releasing(alarmed("queue", "errors"), "two", "run-2") // goes on with it
			}
			if err := <-ended; !fault.Is(err, fault.Failed) || err.Error() != "release api-2 was rolled back: alarm errors is in state ALARM: too many" {
				t.Errorf("ended with %v", err)
			}
			report := Report{}
			eventually(t, "the report", func() (ok bool) { report, ok = c.report("api-2"); return ok })
			if !strings.HasPrefix(report.Cause, "alarm errors is in state ALARM") || report.Back.Release != "api-1" {
				t.Errorf("the report says %+v", report)
			}
		})
	}
}

func (l *life) report(release string) (Report, bool) {
	r, err := l.Report(within(l.t), "api", release)
	return r, err == nil
}

// An alarm that is on already does not hold a fix up: it counts when it has been
// off, and that is told.
func TestAlarmThatWasOnBefore(t *testing.T) {
	const note = "alarm errors was in state ALARM before it began, and counts only when it has been off"
	w := newWorld(t)
	alarms := newFakeAlarms()
	o := quick(w)
	o.Alarms = alarms
	c := w.live(w.store, o)
	alarms.set("errors", "ALARM")
	if r := c.mustRelease(alarmed("errors"), "one", "run-1"); r.Reason != note {
		t.Errorf("the release says %q", r.Reason)
	}
	ended := c.releasing(alarmed("errors"), "two", "run-2")
	w.canaryShown()
	c.stop() // it is not new after a restart either
	<-ended
	c = w.live(w.store, o)
	ended = c.releasing(alarmed("errors"), "two", "run-2")
	noted := func() bool {
		all, err := c.Services(within(t))
		return err == nil && all[0].Rollout.Phase == "watching" && strings.Contains(all[0].Rollout.Reason, note)
	}
	eventually(t, "the status to say so", noted)
	alarms.set("errors", "OK")
	eventually(t, "it to count", func() bool { return !noted() })
	if text := w.events.text(); !strings.Contains(text, "alarm errors is in state OK, and counts from now on") {
		t.Errorf("told:\n%s", text)
	}
	alarms.set("errors", "ALARM")
	if err := <-ended; !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "alarm errors is in state ALARM") {
		t.Errorf("ended with %v", err)
	}
}

// What cannot be watched is refused before anything begins, and goes back where
// it goes away meanwhile.
func TestAlarmThatIsNotThere(t *testing.T) {
	w := newWorld(t)
	alarms := newFakeAlarms()
	o := quick(w)
	o.Alarms = alarms
	c := w.live(w.store, o)
	c.mustRelease(canary(time.Hour), "one", "run-1")
	_, err := c.Release(within(t), alarmed("errors", "erors"), Artifact{Digest: "two"}, nil, "run-2")
	if want := "service api cannot be watched by its alarms: environment local has no alarm erors"; !fault.Is(err, fault.NotFound) || err.Error() != want || fault.HintOf(err) != "its alarms are errors, queue" {
		t.Errorf("got %v, %q", err, fault.HintOf(err))
	}
	if all, err := c.Releases(within(t), "api"); err != nil || len(all) != 1 {
		t.Errorf("there are %d releases, %v", len(all), err)
	}
	ended := c.releasing(alarmed("errors"), "two", "run-3")
	w.canaryShown()
	alarms.set("errors", "")
	if err := <-ended; !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "an alarm that it is watched by is gone: environment local has no alarm errors") {
		t.Errorf("ended with %v", err)
	}
	c.stop()
	c = w.live(w.store, quick(w))
	if _, err := c.Release(within(t), alarmed("errors"), Artifact{Digest: "two"}, nil, "run-4"); !fault.Is(err, fault.Unsupported) {
		t.Errorf("where there are no alarms: %v", err)
	}
}

// A return by hand is not held up by alarms, nor does one that goes off when all
// is over do anything.
func TestAlarmsOfNoRollout(t *testing.T) {
	w := newWorld(t)
	alarms := newFakeAlarms()
	o := quick(w)
	o.Alarms = alarms
	c := w.live(w.store, o)
	s := alarmed("errors")
	s.Strategy.Watch = time.Millisecond
	c.mustRelease(s, "one", "run-1")
	c.mustRelease(s, "two", "run-2")
	alarms.set("errors", "ALARM")
	if r, err := c.Rollback(within(t), Return{Service: "api"}); err != nil || r.ID != "api-1" || r.Status != Live {
		t.Errorf("returned to %+v, %v", r, err)
	}
}
