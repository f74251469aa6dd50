package release

import (
	"slices"
	"strings"
	"testing"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/rollout"
)

// reported waits for the last report on a service that has text in its cause.
func (l *life) reported(cause string) (r Report) {
	l.t.Helper()
	eventually(l.t, "a report: "+cause, func() bool {
		var err error
		r, err = l.Report(within(l.t), "api", "")
		return err == nil && strings.Contains(r.Cause, cause)
	})
	return r
}

// Why a service went back is the last thing that happened to it: also where a
// person put an older release back, in place of a live one or of a rollout.
func TestReportOfAReturnByHand(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(api, "one", "run-1")
	if _, err := c.Release(within(t), api, Artifact{Digest: "exits"}, nil, "run-2"); !fault.Is(err, fault.Failed) {
		t.Fatal(err)
	}
	c.reported("exit status 3")
	c.mustRelease(api, "three", "run-3")
	if _, err := c.Rollback(within(t), Return{Service: "api", By: "ann"}); err != nil {
		t.Fatal(err)
	}
	r := c.reported("rolled back from api-3 to api-1 by hand, by ann")
	eventually(t, "it to be filled in", func() bool { r = c.reported("by ann"); return r.Back.Digest != "" })
	text := r.Text()
	for _, want := range []string{"api-3 of local went back at ", "  rolled back from api-3 to api-1 by hand, by ann\n", "put back\n  api-1 with 2 instances, image one\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if of, err := c.Report(within(t), "api", "api-3"); err != nil || of.Cause != r.Cause {
		t.Errorf("of the release that was left: %+v, %v", of, err)
	}
	if left, err := c.release(within(t), "api", "api-3"); err != nil || left.Reason != "returned to api-1 by hand, by ann" {
		t.Errorf("it is %s: %s, %v", left.Status, left.Reason, err)
	}

	ended := c.releasing(canary(time.Hour), "four", "run-4")
	c.judged("api-4")
	if _, err := c.Rollback(within(t), Return{Service: "api", By: "bob"}); err != nil {
		t.Fatal(err)
	}
	<-ended
	if r := c.reported("stopped by hand, by bob"); r.Release != "api-4" || r.Back.Release != "api-1" {
		t.Errorf("reported: %+v", r)
	}
}

// A service whose first release failed is shown with the reason until it is
// removed or has a better one.
func TestFirstReleaseThatFailedIsShown(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	services := func() []Status {
		t.Helper()
		all, err := c.Services(within(t))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	fail := func(key string) {
		t.Helper()
		if _, err := c.Release(within(t), api, Artifact{Digest: "exits"}, nil, key); !fault.Is(err, fault.Failed) {
			t.Fatal(err)
		}
		all := services()
		if len(all) != 1 || all[0].Live != "" || all[0].Rollout == nil || all[0].Rollout.Phase != string(rollout.Failed) || !strings.Contains(all[0].Rollout.Reason, "exit status 3") {
			t.Fatalf("shown is %+v", all)
		}
	}
	fail("run-1")
	if err := c.Remove(within(t), "api"); err != nil {
		t.Fatal(err)
	}
	if all := services(); len(all) > 0 {
		t.Errorf("after its removal there is %+v", all)
	}
	fail("run-2")
	c.mustRelease(api, "one", "run-3")
	if status, _ := w.get(); status != 200 || services()[0].Live != "api-3" {
		t.Errorf("it answers %d, and is %+v", status, services())
	}
}

// What blue/green shows before it takes traffic is no part of it yet.
func TestPreviewIsNotRouted(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	blueGreen := by(rollout.Strategy{Kind: rollout.BlueGreen, Soak: time.Hour})
	c.mustRelease(blueGreen, "one", "run-1")
	ended := c.releasing(blueGreen, "two", "run-2")
	eventually(t, "a preview", func() bool { _, ok := w.edge.service("local/preview/api"); return ok })
	states := func() (all []string) {
		s, err := c.Services(within(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range s[0].Instances {
			all = append(all, i.Release+" "+i.State)
		}
		return all
	}
	if got := states(); !slices.Equal(got, []string{"api-1 routed", "api-1 routed", "api-2 preview", "api-2 preview"}) {
		t.Errorf("in the soak: %q", got)
	}
	if _, err := c.Steer(within(t), "api", WishPromote); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := states(); !slices.Equal(got, []string{"api-2 routed", "api-2 routed"}) {
		t.Errorf("after it: %q", got)
	}
}
