package release

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/rollout"
)

func TestFirstRelease(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	r := c.mustRelease(api, "one", "run-1")
	if r.ID != "api-1" || r.Status != Live || r.Traffic != 1 {
		t.Errorf("got %+v", r)
	}
	if status, body := w.get(); status != 200 || body != "one one" {
		t.Errorf("got %d %q", status, body)
	}
	if got := w.instances.running(); got != "one one" {
		t.Errorf("running: %q", got)
	}
	all, err := c.Services(within(t))
	if err != nil || len(all) != 1 || all[0].Live != "api-1" || len(all[0].Instances) != 2 || all[0].Instances[0].State != "routed" || all[0].Artifact.Digest != "one" {
		t.Errorf("services: %+v, %v", all, err)
	}
}

func TestSameAgainDoesNothing(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(api, "one", "run-1")
	r := c.mustRelease(api, "one", "run-2")
	if r.ID != "api-1" || !strings.Contains(r.Reason, "nothing to do") || w.instances.starts != 2 {
		t.Errorf("got %s: %s, %d starts", r.ID, r.Reason, w.instances.starts)
	}
	more := api
	more.Instances = 3
	if r := c.mustRelease(more, "one", "run-3"); r.ID != "api-1" || w.instances.running() != "one one one" || w.instances.starts != 3 {
		t.Errorf("scaling up: %s, running %q, %d starts", r.ID, w.instances.running(), w.instances.starts)
	}
	if r := c.mustRelease(api, "one", "run-4"); r.ID != "api-1" || r.Reason != "scaled from 3 to 2 instances" || w.instances.running() != "one one" || w.instances.starts != 3 {
		t.Errorf("scaling down: %+v, running %q, %d starts", r, w.instances.running(), w.instances.starts)
	}
}

func TestRollingLosesNoRequest(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(api, "one", "run-1")
	end := w.load(200 * time.Microsecond)
	for n, digest := range []string{"two", "three", "four"} {
		if r := c.mustRelease(api, digest, digest); r.Number != n+2 {
			t.Errorf("release %s has number %d", digest, r.Number)
		}
	}
	if good, bad := end(); bad > 0 || good == 0 {
		t.Errorf("%d good and %d bad answers", good, bad)
	}
	if got := w.instances.running(); got != "four four" {
		t.Errorf("running: %q", got)
	}
	all, err := c.Releases(within(t), "api")
	if err != nil || len(all) != 4 || all[0].Status != Live || all[1].Status != Superseded || all[1].Traffic != 0 {
		t.Errorf("releases: %+v, %v", all, err)
	}
}

func canary(watch time.Duration) Service {
	s := api
	s.Strategy = rollout.Strategy{Kind: rollout.Canary, Shares: []float64{0.1, 0.5}, Watch: watch}
	return s
}

func TestGoodCanaryIsPromoted(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(canary(100*time.Millisecond), "one", "run-1")
	end := w.load(200 * time.Microsecond)
	r := c.mustRelease(canary(time.Second), "two", "run-2")
	if _, bad := end(); bad > 0 {
		t.Errorf("%d bad answers", bad)
	}
	if !strings.Contains(r.Reason, "the canary had ") || !strings.Contains(r.Reason, ", 0 bad") {
		t.Errorf("reason %q", r.Reason)
	}
	events := w.events.text()
	for _, want := range []string{"traffic: api-1 90 %, api-2 10 %", "traffic: api-1 50 %, api-2 50 %", "traffic: api-2 100 %", "watching api-2 at 10 % for 1s"} {
		if !strings.Contains(events, want) {
			t.Errorf("no event says %q in\n%s", want, events)
		}
	}
}

// A request counts once, with the weight by which its arm was drawn, though the
// edge's counters go on from step to step.
func TestEvidenceCountsEachRequestOnce(t *testing.T) {
	w := newWorld(t)
	o := quick(w)
	halfway := make(chan struct{})
	o.Observe = func(e Event) {
		if e.Message == "traffic: api-1 50 %, api-2 50 %" {
			close(halfway)
		}
	}
	c := w.live(w.store, o)
	c.mustRelease(canary(time.Millisecond), "one", "run-1")
	end := w.load(200 * time.Microsecond)
	go func() { <-halfway; end() }()
	c.mustRelease(canary(100*time.Millisecond), "two", "run-2")
	rec, err := c.known(within(t), "api")
	if err != nil {
		t.Fatal(err)
	}
	if got, most := rec.Evidence.Test.Seen().Canary().Requests, w.edge.seen("api-2").Requests; got == 0 || got > most {
		t.Errorf("%d requests of the canary were weighed, the edge sent it %d", got, most)
	}
}

func TestDrainingWaitsForRequests(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	one := api
	one.Instances = 1
	c.mustRelease(one, "one", "run-1")
	slow := make(chan string, 1)
	go func() {
		answer, err := http.Get(w.edge.server.URL + "/slow")
		if err != nil {
			slow <- err.Error()
			return
		}
		answer.Body.Close()
		slow <- answer.Status
	}()
	eventually(t, "the slow request to be under way", func() bool { return w.edge.busy() == 1 })
	c.mustRelease(one, "two", "run-2")
	if got := <-slow; got != "200 OK" {
		t.Errorf("the request that was under way got %s", got)
	}
}

// An instance that does not end in time does not hold up the rollout, and is
// not forgotten.
func TestInstanceThatDoesNotEnd(t *testing.T) {
	w := newWorld(t)
	o := quick(w)
	o.Limits.Stop = 20 * time.Millisecond
	c := w.live(w.store, o)
	c.mustRelease(api, "one", "run-1")
	w.instances.setStuck(true)
	c.mustRelease(api, "two", "run-2")
	if got := w.instances.running(); got != "one one two two" {
		t.Errorf("running: %q", got)
	}
	if !strings.Contains(w.events.text(), "the process does not end; trying again in") {
		t.Errorf("no event tells of it:\n%s", w.events.text())
	}
	w.instances.setStuck(false)
	eventually(t, "the old instances to end", func() bool { return w.instances.running() == "two two" })
}

func TestCanaryWithoutTrafficSaysSo(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(canary(time.Millisecond), "one", "run-1")
	if r := c.mustRelease(canary(10*time.Millisecond), "two", "run-2"); !strings.Contains(r.Reason, "too little traffic") {
		t.Errorf("reason %q", r.Reason)
	}
}

func TestBadCanaryIsRolledBack(t *testing.T) {
	for _, artifact := range []string{"broken", "fifth"} {
		t.Run(artifact, func(t *testing.T) {
			w := newWorld(t)
			c := w.live(w.store, quick(w))
			c.mustRelease(canary(time.Minute), "one", "run-1")
			end := w.load(500 * time.Microsecond)
			_, err := c.Release(within(t), canary(time.Minute), Artifact{Digest: artifact}, nil, "run-2")
			if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "release api-2 was rolled back: 5xx: canary ") || !strings.Contains(err.Error(), " ≥ 100") {
				t.Fatalf("got %v", err)
			}
			if _, bad := end(); bad == 0 || bad > 100 {
				t.Errorf("%d bad answers were given", bad)
			}
			if events := w.events.text(); !strings.Contains(events, "rollout: going back: 5xx: canary ") || !strings.Contains(events, "release: api-2 was rolled back, api-1 is live: 5xx") {
				t.Errorf("events:\n%s", events)
			}
			if status, body := w.get(); status != 200 || body != "one one" || w.instances.running() != "one one" {
				t.Errorf("after the rollback: %d %q, running %q", status, body, w.instances.running())
			}
			all, err := c.Releases(within(t), "api")
			if err != nil || all[0].Status != RolledBack || all[1].Status != Live || all[1].Traffic != 1 {
				t.Errorf("releases: %+v, %v", all, err)
			}
		})
	}
}

func TestReleaseThatDoesNotComeUp(t *testing.T) {
	for artifact, want := range map[string]string{
		"sick":    "did not become healthy within 1s: GET /healthz answers 503 Service Unavailable",
		"exits":   "exit status 3",
		"deaf":    "did not become healthy within 1s: nothing listens on 127.0.0.1:1, the port that the program was given as PORT",
		"missing": "it cannot be started: artifact missing is not stored here",
	} {
		t.Run(artifact, func(t *testing.T) {
			w := newWorld(t)
			o := quick(w)
			o.Limits.Start = time.Second
			c := w.live(w.store, o)
			_, err := c.Release(within(t), api, Artifact{Digest: artifact}, nil, "first")
			if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), want) || !strings.Contains(fault.HintOf(err), "`makeitso why api-1`") || w.instances.running() != "" {
				t.Errorf("as first release: %v, running %q", err, w.instances.running())
			}
			c.mustRelease(api, "one", "second")
			end := w.load(500 * time.Microsecond)
			_, err = c.Release(within(t), api, Artifact{Digest: artifact}, nil, "third")
			if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), want) || !strings.Contains(fault.HintOf(err), "`makeitso why api-3`") || w.instances.running() != "one one" {
				t.Errorf("as later release: %v, running %q", err, w.instances.running())
			}
			if _, bad := end(); bad > 0 {
				t.Errorf("%d bad answers", bad)
			}
			if status, body := w.get(); status != 200 || body != "one one" {
				t.Errorf("got %d %q", status, body)
			}
		})
	}
}

func TestLostInstanceIsReplaced(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(api, "one", "run-1")
	first := w.instances.list()
	first[0].end("killed")
	first[1].sick.Store(true)
	eventually(t, "two other instances behind the edge", func() bool {
		s, _ := w.edge.routed()
		if len(s.Arms) != 1 || len(s.Arms[0].Instances) != 2 {
			return false
		}
		for _, i := range s.Arms[0].Instances {
			if i.ID == first[0].id || i.ID == first[1].id {
				return false
			}
		}
		return w.instances.running() == "one one"
	})
	if listening(first[1].instance().Address) {
		t.Error("the instance that failed its health check still runs")
	}
	all, err := c.Services(within(t))
	if err != nil {
		t.Fatal(err)
	}
	reasons := all[0].Instances[0].Reason + "; " + all[0].Instances[1].Reason
	if all[0].Instances[0].Restarts != 1 || !strings.Contains(reasons, "killed") || !strings.Contains(reasons, "its health check failed 3 times") {
		t.Errorf("status: %+v", all[0].Instances)
	}
}

// A service without instances is known still, and has one again.
func TestAllInstancesLost(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(api, "one", "run-1")
	w.instances.setArtifact("one", "sick")
	for _, i := range w.instances.list() {
		i.end("killed")
	}
	eventually(t, "hosts without instances", func() bool {
		s, ok := w.edge.routed()
		return ok && len(s.Arms) == 0 && slices.Equal(s.Hosts, api.Hosts)
	})
	w.instances.setArtifact("one", "one")
	for _, i := range w.instances.list() {
		i.end("killed")
	}
	eventually(t, "both instances behind the edge", func() bool {
		s, _ := w.edge.routed()
		return len(s.Arms) == 1 && len(s.Arms[0].Instances) == 2
	})
}

// What happens while makeitso is away is put right when it comes back.
func TestAdoption(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(api, "one", "run-1")
	end := w.load(500 * time.Microsecond)
	c.stop()
	again := w.live(w.store, quick(w))
	if r := again.mustRelease(api, "one", "run-1"); r.ID != "api-1" || w.instances.starts != 2 {
		t.Errorf("the same key gives %s, %d starts", r.ID, w.instances.starts)
	}
	if _, bad := end(); bad > 0 {
		t.Errorf("%d bad answers", bad)
	}
	again.stop()
	if got := w.instances.running(); got != "one one" {
		t.Errorf("running without makeitso: %q", got)
	}
	w.instances.list()[0].end("the machine ran out of memory")
	if err := w.edge.RemoveService(t.Context(), "local/api"); err != nil {
		t.Fatal(err)
	}
	w.live(w.store, quick(w))
	eventually(t, "two instances behind the edge", func() bool {
		s, _ := w.edge.routed()
		return len(s.Arms) == 1 && len(s.Arms[0].Instances) == 2 && w.instances.running() == "one one"
	})
	eventually(t, "an event that gives the reason", func() bool {
		return strings.Contains(w.events.text(), "ended: the machine ran out of memory")
	})
}

func TestBackoff(t *testing.T) {
	var got []string
	for failures := range 10 {
		got = append(got, backoff(failures, 200*time.Millisecond, 30*time.Second).String())
	}
	if s := strings.Join(got, " "); s != "200ms 400ms 800ms 1.6s 3.2s 6.4s 12.8s 25.6s 30s 30s" {
		t.Errorf("got %s", s)
	}
	now := time.Now()
	slot := slotRecord{Failures: 5, Healthy: now.Add(-time.Minute)}
	slot.vacate(now, "killed", Options{}.normalize())
	if slot.Failures != 1 || !slot.NotUntil.Equal(now.Add(200*time.Millisecond)) {
		t.Errorf("after a healthy minute: %+v", slot)
	}
	slot.Healthy = now.Add(-time.Second)
	slot.vacate(now, "killed", Options{}.normalize())
	if slot.Failures != 2 || !slot.NotUntil.Equal(now.Add(400*time.Millisecond)) || slot.Restarts != 2 {
		t.Errorf("after a healthy second: %+v", slot)
	}
}

func TestRollbackByHand(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(api, "one", "run-1")
	c.mustRelease(api, "two", "run-2")
	c.mustRelease(api, "three", "run-3")
	end := w.load(500 * time.Microsecond)
	for _, step := range []struct{ to, live, body string }{{"", "api-2", "two two"}, {"", "api-1", "one one"}, {"api-3", "api-3", "three three"}} {
		r, err := c.Rollback(within(t), Return{Service: "api", To: step.to})
		if err != nil || r.ID != step.live || r.Status != Live {
			t.Fatalf("rollback to %q: %+v, %v", step.to, r, err)
		}
		if _, body := w.get(); body != step.body {
			t.Errorf("after the rollback to %q: %q", step.to, body)
		}
	}
	if _, bad := end(); bad > 0 {
		t.Errorf("%d bad answers", bad)
	}
	if r, err := c.Report(within(t), "api", "api-2"); err != nil || r.Cause != "rolled back from api-2 to api-1 by hand" {
		t.Errorf("why: %+v, %v", r, err)
	}
	if _, err := c.Rollback(within(t), Return{Service: "api", To: "api-9"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("to a release that never was: %v", err)
	}
	if _, err := c.Rollback(within(t), Return{Service: "web"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("of a service that never was: %v", err)
	}
}

func TestRollbackStopsTheRolloutUnderWay(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(canary(time.Minute), "one", "run-1")
	ended := make(chan error, 1)
	go func() {
		_, err := c.Release(within(t), canary(time.Minute), Artifact{Digest: "two"}, nil, "run-2")
		ended <- err
	}()
	eventually(t, "a canary behind the edge", func() bool { s, _ := w.edge.routed(); return len(s.Arms) == 2 })
	r, err := c.Rollback(within(t), Return{Service: "api"})
	if err != nil || r.ID != "api-1" || r.Status != Live {
		t.Errorf("got %+v, %v", r, err)
	}
	if err := <-ended; !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "stopped by hand") {
		t.Errorf("the release says %v", err)
	}
	if got := w.instances.running(); got != "one one" {
		t.Errorf("running: %q", got)
	}
}

func TestAbandonStopsOnlyTheRolloutOfItsKey(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	if err := c.Abandon(within(t), "api", "run-1"); err != nil {
		t.Errorf("of a service that never was: %v", err)
	}
	c.mustRelease(canary(time.Minute), "one", "run-1")
	ended := make(chan error, 1)
	go func() {
		_, err := c.Release(within(t), canary(time.Minute), Artifact{Digest: "two"}, nil, "run-2")
		ended <- err
	}()
	eventually(t, "a canary behind the edge", func() bool { s, _ := w.edge.routed(); return len(s.Arms) == 2 })
	if err := c.Abandon(within(t), "api", "run-1"); err != nil {
		t.Errorf("of a rollout that has ended: %v", err)
	}
	if s, _ := w.edge.routed(); len(s.Arms) != 2 {
		t.Errorf("the rollout of another key was stopped: %+v", s)
	}
	if err := c.Abandon(within(t), "api", "run-2"); err != nil {
		t.Error(err)
	}
	if err := <-ended; !fault.Is(err, fault.Failed) {
		t.Errorf("the release says %v", err)
	}
	if got := w.instances.running(); got != "one one" {
		t.Errorf("running: %q", got)
	}
	if err := c.Abandon(within(t), "api", "run-2"); err != nil || w.instances.running() != "one one" {
		t.Errorf("once more: %v, running %q", err, w.instances.running())
	}
}

func TestRemove(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	if err := c.Remove(within(t), "api"); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
	c.mustRelease(canary(time.Minute), "one", "run-1")
	go func() { _, _ = c.Release(within(t), canary(time.Minute), Artifact{Digest: "two"}, nil, "run-2") }()
	eventually(t, "a canary behind the edge", func() bool { s, _ := w.edge.routed(); return len(s.Arms) == 2 })
	for range 2 {
		if err := c.Remove(within(t), "api"); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := w.edge.routed(); ok || w.instances.running() != "" {
		t.Errorf("after removal: routed %v, running %q", ok, w.instances.running())
	}
	if all, err := c.Services(within(t)); err != nil || len(all) != 0 {
		t.Errorf("services: %+v, %v", all, err)
	}
	if r := c.mustRelease(api, "one", "run-3"); r.ID != "api-3" {
		t.Errorf("the next release is %s", r.ID)
	}
}

func TestEdgeThatIsAway(t *testing.T) {
	w := newWorld(t)
	o := quick(w)
	o.Limits.Route, o.Limits.Rollback = 300*time.Millisecond, 500*time.Millisecond
	c := w.live(w.store, o)
	c.mustRelease(api, "one", "run-1")
	w.edge.setDown(true)
	_, err := c.Release(within(t), api, Artifact{Digest: "two"}, nil, "run-2")
	if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "could not be rolled back: the traffic could not be changed within 300ms: ask the edge for the outcomes of api: the edge does not answer") || fault.HintOf(err) == "" {
		t.Fatalf("got %s", fault.Text(err))
	}
	if !strings.Contains(w.instances.running(), "one one") {
		t.Errorf("the old version is gone: %q", w.instances.running())
	}
	w.edge.setDown(false)
	eventually(t, "the old version alone", func() bool { return w.instances.running() == "one one" })
	c.mustRelease(api, "three", "run-3")
}

func TestRouteThatIsRefused(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(api, "one", "run-1")
	taken := api
	taken.Hosts = []string{"taken.localhost"}
	_, err := c.Release(within(t), taken, Artifact{Digest: "one"}, nil, "run-2")
	if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "release api-2 was rolled back: change the traffic of api: host taken.localhost is given to another service") {
		t.Errorf("got %v", err)
	}
	if s, _ := w.edge.routed(); len(s.Hosts) != 1 || s.Hosts[0] != "api.localhost" || w.instances.running() != "one one" {
		t.Errorf("routed %v, running %q", s.Hosts, w.instances.running())
	}
}

func TestServe(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	address, stop, err := c.Serve(within(t), api, "one", map[string]string{"A": "test"})
	if err != nil || !listening(address) {
		t.Fatalf("address %q, %v", address, err)
	}
	if err := stop(within(t)); err != nil || listening(address) {
		t.Errorf("after stop: %v, listening %v", err, listening(address))
	}
	if _, _, err := c.Serve(within(t), api, "exits", nil); !fault.Is(err, fault.Failed) || w.instances.running() != "" {
		t.Errorf("of one that exits: %v, running %q", err, w.instances.running())
	}
	address, _, err = c.Serve(within(t), api, "one", nil)
	if err != nil {
		t.Fatal(err)
	}
	c.stop()
	w.live(w.store, quick(w))
	eventually(t, "the leftover of the crash to end", func() bool { return !listening(address) })
}

func TestBadServices(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	for _, shares := range [][]float64{{0}, {1}, {-0.1}, {0.5, 0.1}, {10}} {
		s := api
		s.Strategy = rollout.Strategy{Kind: rollout.Canary, Shares: shares}
		if _, err := c.Release(within(t), s, Artifact{Digest: "one"}, nil, "k"); !fault.Is(err, fault.Invalid) {
			t.Errorf("canary %v: %v", shares, err)
		}
	}
	if _, err := c.Release(within(t), Service{}, Artifact{}, nil, "k"); !fault.Is(err, fault.Invalid) {
		t.Errorf("no name: %v", err)
	}
}
