package release

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/rollout"
	"makeitso/internal/source"
)

// judgedBy is a canary that is judged by another source than the edge.
func judgedBy(s source.Source, watch time.Duration) Service {
	out := canary(watch)
	out.Judge = Judge{Source: s, Options: analysis.Options{Source: analysis.NoCoin}}
	return out
}

var byStatus = source.Source{Log: source.Lines{Field: "status"}}

// reading is quick for sources too.
func reading(w *world) Options {
	o := quick(w)
	o.Read = 20 * time.Millisecond
	return o
}

// evidenceOf is the stored evidence.
func (l *life) evidenceOf() evidenceRecord {
	l.t.Helper()
	rec, err := l.known(within(l.t), "api")
	if err != nil {
		l.t.Fatal(err)
	}
	if rec.Evidence == nil {
		return evidenceRecord{}
	}
	return *rec.Evidence
}

// A canary whose instances log errors goes back by itself, and it is said where
// they were seen and what is guaranteed.
func TestCanaryJudgedByItsLogs(t *testing.T) {
	w := newWorld(t)
	w.instances.logs = t.TempDir()
	c := w.live(w.store, reading(w))
	c.mustRelease(judgedBy(byStatus, time.Hour), "one", "run-1")
	w.ask(5)
	ended := c.releasing(judgedBy(byStatus, time.Hour), "broken", "run-2")
	w.canaryShown()
	eventually(t, "by what it is judged", func() bool {
		all, err := c.Services(within(t))
		return err == nil && all[0].Rollout.Judged == "the logs of the instances, by the field status, without a coin"
	})
	w.load(500 * time.Microsecond)
	if err := <-ended; !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "was rolled back: 5xx: canary ") {
		t.Fatalf("got %v", err)
	}
	var r Report
	eventually(t, "the report", func() bool {
		var err error
		r, err = c.Report(within(t), "api", "api-2")
		return err == nil
	})
	text := r.Text()
	for _, want := range []string{
		"\n  source          the logs of the instances, by the field status\n", " outcomes, 0 lines that are none\n",
		"since no coin sends them; latency is not compared and nothing is promoted early",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if r.Judgement.Canary.Bad != r.Judgement.Canary.Requests || r.Judgement.Old.Bad > 0 {
		t.Errorf("judged by %+v", r.Judgement)
	}
	if told := w.events.text(); !strings.Contains(told, "watch: api-2 is judged by the logs of the instances, by the field status: at most 1 in 100 ") {
		t.Errorf("told:\n%s", told)
	}
}

// Whenever a controller dies, each line counts once.
func TestEachLineIsCountedOnceThroughCrashes(t *testing.T) {
	w := newWorld(t)
	w.instances.logs = t.TempDir()
	c := w.live(w.store, reading(w))
	c.mustRelease(judgedBy(byStatus, time.Hour), "one", "run-1")
	w.ask(7) // before
	go func() {
		_, _ = c.Release(context.Background(), judgedBy(byStatus, time.Hour), Artifact{Digest: "two"}, nil, "run-2")
	}()
	w.canaryShown()
	eventually(t, "the watch", func() bool { return c.evidenceOf().Coin })
	before := w.edge.seen("api-1").Requests
	for round := range 3 {
		store := &mortal{Store: w.store, left: round, died: make(chan struct{})}
		c.stop()
		c = w.live(store, reading(w))
		w.ask(20)
		<-store.died
		c.stop()
		w.ask(20) // nobody reads
		c = w.live(w.store, reading(w))
		w.ask(20)
	}
	c.awaitWeighed(w, before)
}

// A step does not end before the source was read once more.
func TestSourceIsReadWhenAStepEnds(t *testing.T) {
	w := newWorld(t)
	w.instances.logs = t.TempDir()
	o := reading(w)
	o.Read = time.Hour
	c := w.live(w.store, o)
	service := judgedBy(byStatus, 1500*time.Millisecond)
	service.Strategy.Shares = []float64{0.5}
	c.mustRelease(service, "one", "run-1")
	ended := c.releasing(service, "broken", "run-2")
	w.canaryShown()
	w.load(500 * time.Microsecond)
	if err := <-ended; !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "was rolled back: 5xx: canary ") {
		t.Errorf("got %v", err)
	}
}

// What came while one version had all requests moves the place on, and counts
// nowhere; nor is an instance asked for that was not started.
func TestCountTakesTheCoin(t *testing.T) {
	k := &keeper{c: New("local", nil, nil, record.NewMemory(), Options{}), unfollow: func() {}}
	at := time.Unix(1000, 0)
	plan := rollout.Plan{Old: rollout.Version{Release: "api-1"}, New: rollout.Version{Release: "api-2"}, Steps: []rollout.Step{{Share: 0.5}}}
	k.rec.State = rollout.State{Phase: rollout.Draining, Plan: plan, Places: []rollout.Place{
		{Member: rollout.Member{Release: "api-1"}, Status: rollout.Routed}, {Member: rollout.Member{Release: "api-2"}, Status: rollout.Routed},
	}}
	k.rec.Slots = []slotRecord{
		{Member: rollout.Member{Release: "api-1"}, Started: true, Instance: Instance{Address: "a", Log: "b"}},
		{Member: rollout.Member{Release: "api-2"}, Instance: Instance{ID: "not yet"}},
	}
	if got := fmt.Sprint(k.arms()); got != "[{api-1  [{a b}]} {api-2  []}]" {
		t.Errorf("the arms are %s", got)
	}
	k.rec.Evidence = &evidenceRecord{New: "api-2", Source: byStatus}
	k.test, k.read = analysis.New(analysis.Options{Source: analysis.NoCoin}), at
	got := source.Reading{Position: source.Position{Begun: true}, Tally: source.Tally{Counted: 3, Trouble: "x"}, Arms: map[string]source.Count{"api-1": {OK: 1}, "api-2": {OK: 1, Bad: 1}}}
	k.count(t.Context(), "api-2", got, nil)
	if e := k.rec.Evidence; !e.Place.Begun || e.Tally != (source.Tally{Trouble: "x"}) || k.test.Explain().Canary.Requests != 0 {
		t.Errorf("without a coin: %+v", e.Tally)
	}
	k.rec.State.Share = 0.5
	k.count(t.Context(), "api-2", got, nil)
	state := k.test.State()
	if seen := state.Seen(); k.rec.Evidence.Tally != got.Tally || seen.Canary().Bad != 1 || seen.Canary().Requests != 2 || seen.Old().Requests != 1 {
		t.Errorf("with it: %+v, %+v", k.rec.Evidence.Tally, seen)
	}
}

// No data is neither good nor bad: it is said why there is none, and who wants to
// decide then is asked.
func TestNoDataOfALog(t *testing.T) {
	w := newWorld(t)
	w.instances.logs = t.TempDir()
	c := w.live(w.store, reading(w))
	wrong := judgedBy(source.Source{Log: source.Lines{Field: "code"}}, 300*time.Millisecond)
	c.mustRelease(wrong, "one", "run-1")
	ended := c.releasing(wrong, "broken", "run-2")
	w.canaryShown()
	w.load(500 * time.Microsecond)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	all, err := c.Releases(within(t), "api")
	if err != nil {
		t.Fatal(err)
	}
	why := all[0].Reason
	for _, want := range []string{"no data: the canary had 0 requests", "; of the logs of the instances, by the field code: none of ", ` lines tells a status, at last "{\"msg\":\"answered\",\"status\":`} {
		if !strings.Contains(why, want) {
			t.Errorf("no %q in %q", want, why)
		}
	}
}

// countingHooks is a command that prints outcomes, or fails.
type countingHooks struct {
	mu    sync.Mutex
	fails error
	calls []Hook
}

func (f *countingHooks) Hook(_ context.Context, h Hook) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, h)
	if f.fails != nil {
		return f.fails
	}
	status := 200
	if slices.Contains(h.Env, "MAKEITSO_RELEASE=api-2") {
		status = 500
	}
	for range 50 {
		if _, err := fmt.Fprintln(h.Output, status); err != nil {
			return err
		}
	}
	return nil
}

var byCommand = source.Source{Command: source.Command{Run: "./count", Lines: source.Lines{Pattern: "^(?P<status>...)$"}}}

func TestCanaryJudgedByACommand(t *testing.T) {
	w := newWorld(t)
	hooks := &countingHooks{}
	o := reading(w)
	o.Hooks = hooks
	c := w.live(w.store, o)
	service := judgedBy(byCommand, time.Hour)
	service.Commands.Folder, service.Commands.Log = "/folder", "/log"
	if _, err := c.Release(within(t), service, Artifact{Digest: "one", Commit: "c0ffee"}, nil, "run-1"); err != nil {
		t.Fatal(err)
	}
	if err := <-c.releasing(service, "two", "run-2"); !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "was rolled back: 5xx: canary ") {
		t.Fatalf("got %v", err)
	}
	h := hooks.calls[0]
	if h.ID != "local/api-2, outcomes" || h.Command != "./count" || h.Folder != "/folder" || h.Log != "/log" || h.Again ||
		!slices.Contains(h.Env, "MAKEITSO_RELEASE=api-1") || !slices.Contains(h.Env, "MAKEITSO_COMMIT=c0ffee") || !slices.Contains(h.Env, "MAKEITSO_SERVICE=api") || !slices.Contains(h.Env, "MAKEITSO_ENVIRONMENT=local") {
		t.Errorf("ran %+v", h)
	}
}

// That a source cannot be read is told once, and is why there is no data. One
// that is held waits for somebody.
func TestSourceThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	o := reading(w)
	o.Hooks = &countingHooks{fails: errors.New("exit status 3: no journal")}
	c := w.live(w.store, o)
	service := judgedBy(byCommand, 2500*time.Millisecond)
	service.Judge.Hold = true
	c.mustRelease(service, "one", "run-1")
	ended := c.releasing(service, "two", "run-2")
	var status RolloutStatus
	eventually(t, "a pause", func() bool {
		all, err := c.Services(within(t))
		if err == nil && all[0].Rollout != nil {
			status = *all[0].Rollout
		}
		return status.Paused
	})
	why := `of what "./count" prints, by the pattern "^(?P<status>...)$": the command "./count" for api-1: exit status 3: no journal`
	if want := "held without a verdict: no data: the canary had 0 requests: too little traffic for a judgement; " + why; !strings.Contains(status.Reason, want) {
		t.Errorf("paused: %s", status.Reason)
	}
	if n := strings.Count(w.events.text(), "trouble: the outcomes of api cannot be read: "); n != 1 {
		t.Errorf("told %d times:\n%s", n, w.events.text())
	}
	if _, err := c.Steer(within(t), "api", WishPromote); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What a Prometheus does not answer at first is read from when it does.
func TestCanaryJudgedByPrometheus(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	asked, grown := 0, 1000
	p := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if asked++; asked < 5 {
			http.Error(rw, "starting", http.StatusServiceUnavailable)
			return
		}
		grown += 50
		bad := 0
		if strings.Contains(r.PostFormValue("query"), "api-2") {
			bad = grown
		}
		fmt.Fprintf(rw, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"makeitso_query":"total"},"value":[1,"%d"]},{"metric":{"makeitso_query":"errors"},"value":[1,"%d"]}]}}`, grown, bad)
	}))
	defer p.Close()
	c := w.live(w.store, reading(w))
	service := judgedBy(source.Source{Prometheus: source.Prometheus{URL: p.URL, Errors: `e{v="$release"}`, Total: `a{v="$release"}`}}, time.Hour)
	c.mustRelease(service, "one", "run-1")
	if err := <-c.releasing(service, "two", "run-2"); !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "was rolled back: 5xx: canary ") {
		t.Fatalf("got %v", err)
	}
	if told := w.events.text(); !strings.Contains(told, "answers 503 Service Unavailable, and not as Prometheus does: starting (give url as ") {
		t.Errorf("told:\n%s", told)
	}
}
