package release

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"makeitso/internal/edge/outcome"
	"makeitso/internal/fault"
	"makeitso/internal/source"
)

const unhealthyOne = "api-1 is itself unhealthy: 30 of 30 requests (100.0 %) went badly before the rollout"

// rolledFrom has a canary under way after a release that runs and has answered
// every request with a 500.
func rolledFrom(t *testing.T, s Service, digest string) (*world, *life, <-chan error) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(s, "broken", "run-1")
	w.served(30)
	ended := c.releasing(s, digest, "run-2")
	w.canaryShown()
	return w, c, ended
}

// served asks the service so often, and waits until the edge tells of it.
func (w *world) served(times int) {
	w.t.Helper()
	w.ask(times)
	w.edge.mu.Lock()
	stream := w.edge.streams["local/api"]
	w.edge.mu.Unlock()
	end := stream.End()
	eventually(w.t, "the edge to tell of it", func() bool {
		b, _, _ := stream.Read(outcome.Cursor{Stream: end.Stream, Next: end.Next - 1}, 1)
		return len(b.Outcomes) == 1
	})
}

// judged is by what a rollout is judged that is under way.
func (l *life) judged(release string) (by string) {
	l.t.Helper()
	eventually(l.t, "the rollout of "+release+" to be judged", func() bool {
		all, err := l.Services(within(l.t))
		if err != nil || len(all) != 1 || all[0].Rollout == nil || all[0].Rollout.Release != release {
			return false
		}
		by = all[0].Rollout.Judged
		return by != ""
	})
	return by
}

// A fix of a live release that answers with errors goes forward, and it is said
// by what it was judged; through a restart, and when the edge has forgotten it.
func TestFixOfABrokenReleaseGoesForward(t *testing.T) {
	w, c, ended := rolledFrom(t, canary(time.Hour), "two")
	want := "compared with nothing, since " + unhealthyOne + "; its own rate of 5xx must stay below 5 %"
	if got := c.judged("api-2"); got != "the edge, "+want {
		t.Errorf("judged by %s", got)
	}
	c.stop()
	<-ended
	w.edge.forget()
	c = w.live(w.store, quick(w))
	if got := c.judged("api-2"); got != "the edge, "+want {
		t.Errorf("after a restart it is judged by %s", got)
	}
	w.load(500 * time.Microsecond)
	if _, err := c.Steer(within(t), "api", WishPromote); err != nil {
		t.Fatal(err)
	}
	var r Release
	eventually(t, "the end", func() bool {
		var err error
		r, err = c.release(within(t), "api", "api-2")
		return err == nil && r.Status.Final()
	})
	if r.Status != Live || !strings.HasPrefix(r.Reason, want+"; ") {
		t.Errorf("%s is %s: %s", r.ID, r.Status, r.Reason)
	}
	if told := w.events.text(); strings.Count(told, "watch: api-2 is "+want) != 1 {
		t.Errorf("told:\n%s", told)
	}
}

// What is no fix is stopped by the limit, and the report says that nothing was
// compared.
func TestNoFixOfABrokenReleaseIsStopped(t *testing.T) {
	w, c, ended := rolledFrom(t, canary(time.Hour), "fifth")
	w.load(500 * time.Microsecond)
	if err := <-ended; !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "was rolled back: ceiling: canary ") || !strings.Contains(err.Error(), "it was compared with nothing, since "+unhealthyOne) {
		t.Fatalf("got %v", err)
	}
	var r Report
	eventually(t, "the report", func() bool {
		var err error
		r, err = c.Report(within(t), "api", "api-2")
		return err == nil
	})
	if text := r.Text(); !strings.Contains(text, "\n  live release    not compared, since "+unhealthyOne+"\n") {
		t.Errorf("reported:\n%s", text)
	}
}

// What the edge counted of the live release says how that is, whatever else its
// canary is judged by.
func TestBrokenReleaseBeforeOtherSources(t *testing.T) {
	w := newWorld(t)
	w.instances.logs = t.TempDir()
	c := w.live(w.store, reading(w))
	service := judgedBy(source.Source{Log: byStatus.Log}, time.Hour)
	c.mustRelease(service, "broken", "run-1")
	w.served(30)
	ended := c.releasing(service, "fifth", "run-2")
	w.canaryShown()
	if got := c.judged("api-2"); !strings.HasPrefix(got, "the logs of the instances, by the field status, compared with nothing, since "+unhealthyOne) {
		t.Errorf("judged by %s", got)
	}
	w.load(500 * time.Microsecond)
	if err := <-ended; !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "was rolled back: ceiling: canary ") {
		t.Errorf("got %v", err)
	}
}

// Few requests, or few bad ones, or bad ones of another release, are no reason to
// compare with nothing.
func TestHealthyReleaseIsComparedWith(t *testing.T) {
	for name, before := range map[string]func(*world, *life){
		"few requests": func(w *world, c *life) { c.mustRelease(canary(time.Millisecond), "broken", "run-1"); w.served(10) },
		"few bad":      func(w *world, c *life) { c.mustRelease(canary(time.Millisecond), "fifth", "run-1"); w.served(60) },
		"another's": func(w *world, c *life) {
			c.mustRelease(canary(time.Millisecond), "broken", "run-1")
			w.served(60)
			c.mustRelease(api, "one", "run-2")
			w.served(30)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := w.live(w.store, quick(w))
			before(w, c)
			all, err := c.Releases(within(t), "api")
			if err != nil {
				t.Fatal(err)
			}
			c.releasing(canary(time.Hour), "two", "run-3")
			if got := c.judged(releaseID("api", all[0].Number+1)); got != "the edge, by a coin for each request" {
				t.Errorf("judged by %s", got)
			}
		})
	}
}

// TestDecidedOnceThroughCrashes kills the controller at every write about the
// decision: it is made before the first coin, and never made anew.
func TestDecidedOnceThroughCrashes(t *testing.T) {
	for writes := range 6 {
		t.Run(fmt.Sprintf("after %d writes", writes), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.live(w.store, quick(w))
			c.mustRelease(canary(time.Hour), "broken", "run-1")
			w.served(30)
			c.stop()
			store := &mortal{Store: w.store, left: writes, died: make(chan struct{})}
			c = w.live(store, quick(w))
			ended := c.releasing(canary(time.Hour), "two", "run-2")
			select {
			case <-store.died:
			case <-ended:
			}
			c.stop()
			c = w.live(w.store, quick(w))
			c.releasing(canary(time.Hour), "two", "run-2")
			w.canaryShown()
			eventually(t, "requests to count", func() bool { w.ask(10); canary, _ := c.weighed(); return canary.Requests > 0 })
			if got := c.judged("api-2"); !strings.Contains(got, "api-1 is itself unhealthy: ") {
				t.Errorf("judged by %s", got)
			}
		})
	}
}
