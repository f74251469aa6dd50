package release

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/rollout"
)

// by is the service with another way to roll it out.
func by(s rollout.Strategy) Service {
	out := api
	out.Strategy = s
	return out
}

// releasing begins a release and gives the channel of its end.
func (l *life) releasing(s Service, digest, key string) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := l.Release(within(l.t), s, Artifact{Digest: digest}, nil, key)
		ended <- err
	}()
	return ended
}

func TestBlueGreen(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	blueGreen := by(rollout.Strategy{Kind: rollout.BlueGreen, Soak: time.Hour, Keep: time.Hour})
	c.mustRelease(blueGreen, "one", "run-1")
	end := w.load(500 * time.Microsecond)
	ended := c.releasing(blueGreen, "two", "run-2")
	eventually(t, "a preview of the new version", func() bool { _, ok := w.edge.service("local/preview/api"); return ok })
	preview, _ := w.edge.service("local/preview/api")
	if !slices.Equal(preview.Hosts, []string{"preview.api.localhost"}) || len(instancesOf(preview)) != 2 {
		t.Errorf("the preview is %+v", preview)
	}
	if s, _ := w.edge.routed(); len(s.Arms) != 1 || s.Arms[0].Name != "api-1" {
		t.Errorf("before the change the traffic goes to %+v", s.Arms)
	}
	if _, err := c.Steer(within(t), "api", WishPromote); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if _, ok := w.edge.service("local/preview/api"); ok {
		t.Error("the preview is still there")
	}
	if got := w.instances.running(); got != "one one two two" {
		t.Errorf("after the change %q run", got)
	}
	starts := w.instances.starts
	r, err := c.Rollback(within(t), Return{Service: "api"})
	if err != nil || r.ID != "api-1" || w.instances.starts != starts {
		t.Errorf("the way back: %+v, %v, %d instances started", r, err, w.instances.starts-starts)
	}
	if _, bad := end(); bad > 0 {
		t.Errorf("%d bad answers", bad)
	}
}

// TestAccessIsTheReleases changes what clients may ask with a release, which a
// rollback takes back.
func TestAccessIsTheReleases(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(api, "one", "run-1")
	narrow := canary(time.Hour)
	narrow.Access = Access{Limits: edge.Limits{BodyBytes: 10}, RequestTimeout: time.Second, Sticky: &edge.Sticky{Cookie: "arm"}, SlowStart: time.Minute, Paths: []string{"/api"}}
	at := func() Access {
		s, _ := w.edge.routed()
		return Access{s.Limits, s.RequestTimeout, s.Sticky, s.SlowStart, s.Paths}
	}
	ended := c.releasing(narrow, "one", "run-2") // the same artifact
	eventually(t, "a canary behind the edge", func() bool { s, _ := w.edge.routed(); return len(s.Arms) == 2 })
	if got := at(); !reflect.DeepEqual(got, narrow.Access) {
		t.Errorf("beside the old release it is %+v", got)
	}
	if _, err := c.Rollback(within(t), Return{Service: "api"}); err != nil {
		t.Fatal(err)
	}
	<-ended
	if got := at(); !reflect.DeepEqual(got, Access{}) {
		t.Errorf("after the way back it is %+v", got)
	}
}

// TestProtocolIsTheReleases has a release whose instances speak HTTP/2 alone: they
// are asked for their health by it, beside those of a release that does not,
// and a rollback takes it back.
func TestProtocolIsTheReleases(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(api, "one", "run-1")
	next := canary(time.Hour)
	next.Protocol = "h2c"
	ended := c.releasing(next, "h2c", "run-2")
	eventually(t, "a canary behind the edge", func() bool { s, _ := w.edge.routed(); return len(s.Arms) == 2 })
	protocols := func() string {
		s, _ := w.edge.routed()
		var all []string
		for _, a := range s.Arms {
			if a.Weight > 0 {
				all = append(all, a.Name+" "+a.Protocol)
			}
		}
		slices.Sort(all)
		return strings.Join(all, ", ")
	}
	if got := protocols(); got != "api-1 , api-2 h2c" {
		t.Errorf("the edge is told %q", got)
	}
	if _, err := c.Rollback(within(t), Return{Service: "api"}); err != nil {
		t.Fatal(err)
	}
	<-ended
	if got := protocols(); got != "api-1 " {
		t.Errorf("after the way back the edge is told %q", got)
	}
	_, stop, err := c.Serve(within(t), next, "h2c", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(within(t)); err != nil {
		t.Error(err)
	}
}

func TestKeptVersionEndsAfterItsTime(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	blueGreen := by(rollout.Strategy{Kind: rollout.BlueGreen, Keep: 50 * time.Millisecond})
	c.mustRelease(blueGreen, "one", "run-1")
	c.mustRelease(blueGreen, "two", "run-2")
	eventually(t, "the old version to end", func() bool { return w.instances.running() == "two two" })
}

// A release that comes while another is on its way replaces it; the stable one
// keeps its traffic.
func TestReleaseOverARollout(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(canary(time.Minute), "one", "run-1")
	end := w.load(500 * time.Microsecond)
	ended := c.releasing(canary(time.Minute), "two", "run-2")
	eventually(t, "a canary behind the edge", func() bool { s, _ := w.edge.routed(); return len(s.Arms) == 2 })
	again := c.releasing(canary(time.Minute), "two", "run-3")
	eventually(t, "the same release to be joined", func() bool {
		return strings.Contains(w.events.text(), "nothing to do: api-2 with the same artifact and configuration is on its way")
	})
	if r := c.mustRelease(canary(50*time.Millisecond), "three", "run-4"); r.ID != "api-3" || r.Status != Live {
		t.Errorf("the newer release: %+v", r)
	}
	for _, older := range []<-chan error{ended, again} {
		if err := <-older; !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "release api-2 was rolled back: replaced by api-3") {
			t.Errorf("the older release: %v", err)
		}
	}
	if _, bad := end(); bad > 0 {
		t.Errorf("%d bad answers", bad)
	}
	if got := w.instances.running(); got != "three three" {
		t.Errorf("running: %q", got)
	}
}

// A release that waits for its turn gives way to a newer one, and goes with the
// one that is stopped by hand.
func TestReleaseThatWaitsGivesWay(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(canary(time.Minute), "one", "run-1")
	first := c.releasing(canary(time.Minute), "two", "run-2")
	eventually(t, "a canary behind the edge", func() bool { s, _ := w.edge.routed(); return len(s.Arms) == 2 })
	w.instances.setStuck(true) // the way back does not end yet
	second := c.releasing(api, "three", "run-3")
	eventually(t, "the second to wait", func() bool { return strings.Contains(w.events.text(), "api-3 waits until api-2 is taken back") })
	third := c.releasing(api, "four", "run-4")
	if err := <-second; !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "replaced by api-4 before it began") {
		t.Errorf("the second: %v", err)
	}
	if err := c.Abandon(within(t), "api", "run-4"); err != nil {
		t.Fatal(err)
	}
	if err := <-third; !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "stopped by hand") {
		t.Errorf("the third: %v", err)
	}
	w.instances.setStuck(false)
	if err := <-first; !fault.Is(err, fault.Failed) {
		t.Errorf("the first: %v", err)
	}
	eventually(t, "the old version alone", func() bool { return w.instances.running() == "one one" })
}

func TestSteering(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	for _, wish := range []Wish{WishPause, WishPromote} {
		if _, err := c.Steer(within(t), "api", wish); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s of a service that never was: %v", wish, err)
		}
	}
	c.mustRelease(canary(100*time.Millisecond), "one", "run-1")
	for _, wish := range []Wish{WishPause, WishResume, WishPromote} {
		if _, err := c.Steer(within(t), "api", wish); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s where nothing is under way: %v", wish, err)
		}
	}
	if _, err := c.Rollback(within(t), Return{Service: "api", Only: true}); !fault.Is(err, fault.Conflict) {
		t.Errorf("abort where nothing is under way: %v", err)
	}
	ended := c.releasing(canary(time.Hour), "two", "run-2")
	eventually(t, "a canary behind the edge", func() bool { s, _ := w.edge.routed(); return len(s.Arms) == 2 })
	if s, err := c.Steer(within(t), "api", WishPause); err != nil || !s.Paused {
		t.Errorf("paused: %+v, %v", s, err)
	}
	if s, err := c.Steer(within(t), "api", WishResume); err != nil || s.Paused {
		t.Errorf("resumed: %+v, %v", s, err)
	}
	if _, err := c.Steer(within(t), "api", WishResume); !fault.Is(err, fault.Conflict) {
		t.Errorf("resumed twice: %v", err)
	}
	if _, err := c.Steer(within(t), "api", WishPromote); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil || w.instances.running() != "two two" {
		t.Errorf("promoted: %v, running %q", err, w.instances.running())
	}
	ended = c.releasing(canary(time.Hour), "three", "run-3")
	eventually(t, "another canary", func() bool {
		s, _ := w.edge.routed()
		return slices.ContainsFunc(s.Arms, func(a edge.Arm) bool { return a.Name == "api-3" })
	})
	if r, err := c.Rollback(within(t), Return{Service: "api", Only: true}); err != nil || r.ID != "api-2" {
		t.Errorf("aborted: %+v, %v", r, err)
	}
	if err := <-ended; !fault.Is(err, fault.Failed) {
		t.Errorf("the aborted release: %v", err)
	}
}

// fakeHooks are commands that do what they are named.
type fakeHooks struct {
	do    map[string]func() // what else a command does
	mu    sync.Mutex
	calls []Hook
}

func (f *fakeHooks) Hook(ctx context.Context, h Hook) error {
	f.mu.Lock()
	f.calls = append(f.calls, h)
	f.mu.Unlock()
	if do := f.do[h.Command]; do != nil {
		do()
	}
	switch h.Command {
	case "fail":
		return errors.New("exit status 1")
	case "hang":
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

func (f *fakeHooks) seen() []Hook {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func withCommands(before, after string) Service {
	s := canary(10 * time.Millisecond)
	s.Commands = Commands{Before: before, After: after}
	return s
}

func TestHooks(t *testing.T) {
	w := newWorld(t)
	o, hooks := quick(w), &fakeHooks{}
	o.Hooks = hooks
	o.Limits.Hook = 100 * time.Millisecond
	c := w.live(w.store, o)
	c.mustRelease(withCommands("ask", "look"), "one", "run-1")
	c.mustRelease(withCommands("ask", "look"), "two", "run-2")
	var got []string
	for _, h := range hooks.seen() {
		got = append(got, h.Command)
		if !slices.ContainsFunc(h.Env, func(v string) bool { return strings.HasPrefix(v, "MAKEITSO_CANARY_URL=http://127.0.0.1:") }) {
			t.Errorf("%s is told %q", h.ID, h.Env)
		}
	}
	if s := strings.Join(got, " "); s != "ask look ask look ask look ask look" {
		t.Errorf("commands: %s", s)
	}
	third := hooks.seen()[2].Env
	for _, want := range []string{"MAKEITSO_RELEASE=api-2", "MAKEITSO_STEP=1", "MAKEITSO_STEPS=3", "MAKEITSO_TRAFFIC=10"} {
		if !slices.Contains(third, want) {
			t.Errorf("no %s in %q", want, third)
		}
	}
	for _, bad := range []struct{ before, after, want string }{
		{"fail", "", "before the traffic: exit status 1"},
		{"", "fail", "after the traffic: exit status 1"},
		{"hang", "", "the command before the traffic did not end within 100ms"},
	} {
		key := fmt.Sprint(bad)
		_, err := c.Release(within(t), withCommands(bad.before, bad.after), Artifact{Digest: "three"}, nil, key)
		if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if got := w.instances.running(); got != "two two" {
		t.Errorf("running: %q", got)
	}
}

func TestHookIsRunAgainAfterACrash(t *testing.T) {
	w := newWorld(t)
	o, hooks := quick(w), &fakeHooks{}
	o.Hooks = hooks
	c := w.live(w.store, o)
	c.mustRelease(api, "one", "run-1")
	ended := c.releasing(withCommands("hang", ""), "two", "run-2")
	eventually(t, "the command to run", func() bool { return len(hooks.seen()) == 1 })
	c.stop()
	<-ended
	again := w.live(w.store, o)
	eventually(t, "the command to run again", func() bool { return len(hooks.seen()) == 2 })
	if calls := hooks.seen(); calls[0].Again || !calls[1].Again || calls[0].ID != calls[1].ID {
		t.Errorf("calls: %+v", calls)
	}
	if !strings.Contains(w.events.text(), "makeitso was interrupted in the command of the rollout: it is run again") {
		t.Errorf("nobody is told:\n%s", w.events.text())
	}
	if _, err := again.Rollback(within(t), Return{Service: "api"}); err != nil {
		t.Error(err)
	}
}

// loseTwice ends every instance of one, and those in their place.
func (l *life) loseTwice(w *world) {
	l.t.Helper()
	for n := range 2 {
		for _, i := range w.instances.list() {
			if i.artifact == "one" {
				i.end("out of memory")
			}
		}
		eventually(l.t, "other instances behind the edge", func() bool {
			all, err := l.Services(within(l.t))
			return err == nil && !slices.ContainsFunc(all[0].Instances, func(i InstanceStatus) bool {
				return i.Release == "api-1" && (i.State != "routed" || i.Restarts != n+1)
			})
		})
	}
}

// A release whose predecessor turns out to be broken goes forward, though it is
// worse by comparison.
func TestBrokenBaselineIsNoReasonToGoBack(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(canary(time.Minute), "one", "run-1")
	ended := c.releasing(canary(time.Minute), "fifth", "run-2")
	eventually(t, "a canary behind the edge", func() bool { s, _ := w.edge.routed(); return len(s.Arms) == 2 })
	c.loseTwice(w)
	end := w.load(500 * time.Microsecond)
	eventually(t, "the comparison to speak against it", func() bool {
		all, err := c.Services(within(t))
		return err == nil && strings.Contains(all[0].Rollout.Reason, "no way back on account of the comparison (")
	})
	if _, err := c.Steer(within(t), "api", WishPromote); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	end()
	all, err := c.Releases(within(t), "api")
	if err != nil || all[0].Status != Live || !strings.Contains(all[0].Reason, "since api-1 is itself unhealthy: instance api-1/") {
		t.Errorf("got %+v, %v", all[0], err)
	}
}

// What comes after a version that was broken before is not compared with it; a
// limit stops what is bad itself.
func TestAfterABrokenBaselineALimitCounts(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(canary(time.Minute), "one", "run-1")
	c.loseTwice(w)
	w.load(500 * time.Microsecond)
	_, err := c.Release(within(t), canary(time.Minute), Artifact{Digest: "broken"}, nil, "run-2")
	if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "api-1 is itself unhealthy: instance api-1/") {
		t.Errorf("got %v", err)
	}
}

// The evidence ends a watch that lasts an hour at most.
func TestEvidencePromotes(t *testing.T) {
	w := newWorld(t)
	o := quick(w)
	o.Analysis.Margin, o.Analysis.MinBake = 0.3, time.Millisecond
	c := w.live(w.store, o)
	c.mustRelease(api, "one", "run-1")
	w.load(500 * time.Microsecond)
	auto := by(rollout.Strategy{Kind: rollout.Canary, Shares: []float64{0.3, 0.6}, Bake: time.Millisecond, Watch: time.Hour})
	if r := c.mustRelease(auto, "two", "run-2"); r.Status != Live {
		t.Errorf("got %+v", r)
	}
}

func TestOldReleasesAndTheirImagesGo(t *testing.T) {
	w := newWorld(t)
	o := quick(w)
	var mu sync.Mutex
	var forgotten []string
	o.Forget = func(_ context.Context, digest string) error {
		mu.Lock()
		defer mu.Unlock()
		forgotten = append(forgotten, digest)
		return nil
	}
	o.Limits.Start = 200 * time.Millisecond
	c := w.live(w.store, o)
	few := api
	few.Keep = 2
	for _, digest := range []string{"one", "two", "three", "sick", "exits"} {
		if _, err := c.Release(within(t), few, Artifact{Digest: digest}, nil, digest); err != nil && digest != "sick" && digest != "exits" {
			t.Fatal(err)
		}
	}
	all, err := c.Releases(within(t), "api")
	var ids []string
	for _, r := range all {
		ids = append(ids, r.ID)
	}
	// The newest two, the live one, and the last good one before it.
	if got := strings.Join(ids, " "); err != nil || got != "api-5 api-4 api-3 api-2" {
		t.Errorf("kept: %s, %v", got, err)
	}
	eventually(t, "the image of the first to be given up", func() bool { mu.Lock(); defer mu.Unlock(); return slices.Equal(forgotten, []string{"one"}) })
	for digest, want := range map[string]bool{"one": false, "two": true} {
		if used, err := Uses(within(t), w.store, digest); err != nil || used != want {
			t.Errorf("%s is used: %v, %v", digest, used, err)
		}
	}
	if r, err := c.Rollback(within(t), Return{Service: "api"}); err != nil || r.ID != "api-2" {
		t.Errorf("rollback: %+v, %v", r, err)
	}
}

func TestMigrationsHoldARollbackUp(t *testing.T) {
	w := newWorld(t)
	c := w.live(w.store, quick(w))
	c.mustRelease(api, "one", "run-1")
	with := func(digest string, m Migration) {
		t.Helper()
		if _, err := c.Release(within(t), api, Artifact{Digest: digest, Migrations: []Migration{m}}, nil, digest); err != nil {
			t.Fatal(err)
		}
	}
	with("two", Migration{Name: "split", Reversible: false})
	with("three", Migration{Name: "index", Reversible: true, Undo: "./undo"})
	if r, err := c.Rollback(within(t), Return{Service: "api"}); err != nil || r.ID != "api-2" || !strings.Contains(r.Reason, "the migration index stays until its undo is run: ./undo of api-3") {
		t.Errorf("past a reversible one: %+v, %v", r, err)
	}
	_, err := c.Rollback(within(t), Return{Service: "api", To: "api-1"})
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "api-2 came with the migration split, which is forward-only") || !strings.Contains(fault.HintOf(err), "--force") {
		t.Errorf("past one that is forward-only: %s", fault.Text(err))
	}
	if r, err := c.Rollback(within(t), Return{Service: "api", To: "api-1", Force: true}); err != nil || r.ID != "api-1" {
		t.Errorf("forced: %+v, %v", r, err)
	}
	_, err = c.Release(within(t), api, Artifact{Digest: "exits", Migrations: []Migration{{Name: "drop"}}}, nil, "run-5")
	if !fault.Is(err, fault.Failed) || !strings.HasSuffix(err.Error(), "; the migration drop (forward-only) stays") {
		t.Errorf("taken back by itself: %v", err)
	}
}

// More instances of a release that do not come up are told of; those there are
// go on.
func TestScalingThatFails(t *testing.T) {
	w := newWorld(t)
	o := quick(w)
	o.Limits.Start = 300 * time.Millisecond
	c := w.live(w.store, o)
	c.mustRelease(api, "one", "run-1")
	w.instances.setArtifact("one", "sick")
	more := api
	more.Instances = 3
	_, err := c.Release(within(t), more, Artifact{Digest: "one"}, map[string]string{"A": "one"}, "run-2")
	if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "release api-1 is live, but not all its instances are up after 300ms: instance api-1/2: ") {
		t.Errorf("got %v", err)
	}
	if status, _ := w.get(); status != 200 {
		t.Errorf("the service answers %d", status)
	}
}
