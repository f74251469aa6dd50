package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"makeitso/internal/edge/outcome"
	"makeitso/internal/fault"
)

var errEnough = errors.New("enough")

// watched gathers outcomes until there are n.
func (r *running) watched(t testing.TB, from outcome.Cursor, n int, begun func()) (all []outcome.Outcome, end outcome.Cursor) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	first := true
	err := r.Watch(ctx, "local/api", from, func(b outcome.Batch) error {
		if b.Gap {
			t.Errorf("a gap of %d", b.Lost)
		}
		if first && begun != nil {
			begun()
		}
		first = false
		all, end = append(all, b.Outcomes...), b.Cursor
		if len(all) >= n {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("after %d of %d outcomes: %v", len(all), n, err)
	}
	return all, end
}

func TestOutcomesAreToldInOrderOfArrival(t *testing.T) {
	e := start(t, Options{})
	hold, held := make(chan struct{}), make(chan struct{})
	e.configure(t, twoArms(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(held)
			<-hold
		}
		fmt.Fprint(w, "ok")
	}), backend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }), 1e-12))
	var slow sync.WaitGroup
	all, end := e.watched(t, outcome.Cursor{}, 3, func() {
		slow.Go(func() { e.get(t, apiHost, "/slow") })
		<-held
		e.get(t, apiHost, "/")
		e.configure(t, twoArms(2, refused(t), backend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }), 1-1e-12))
		e.get(t, apiHost, "/")
		close(hold) // the first is the last to be complete
	})
	slow.Wait()
	for i, want := range []outcome.Outcome{{Arm: "old", Status: 200}, {Arm: "old", Status: 200}, {Arm: "canary", Status: 503, Bad: true}} {
		got := all[i]
		if got.Arm != want.Arm || got.Status != want.Status || got.Bad != want.Bad || got.Weight < 0.999 || got.Latency <= 0 || got.At.IsZero() {
			t.Errorf("outcome %d is %+v", i, got)
		}
	}
	if !all[0].At.Before(all[1].At) || all[0].Latency < all[1].Latency {
		t.Errorf("not in order of arrival: %+v", all)
	}
	// Who comes again goes on where he was, without loss.
	for range 5 {
		e.get(t, apiHost, "/")
	}
	if more, _ := e.watched(t, end, 5, nil); len(more) != 5 {
		t.Errorf("%d outcomes after a new connection", len(more))
	}
}

func TestOutcomeIsFixedAtTheDeadline(t *testing.T) {
	e := start(t, Options{})
	release := make(chan struct{})
	c := service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush() // answered, but not complete
		<-release
	}))
	c.Services[0].RequestTimeout = 50 * time.Millisecond
	e.configure(t, c)
	var open sync.WaitGroup
	all, _ := e.watched(t, outcome.Cursor{}, 1, func() { open.Go(func() { e.get(t, apiHost, "/") }) })
	if all[0].Bad || all[0].Status != 200 || all[0].Latency < 50*time.Millisecond {
		t.Errorf("the outcome is %+v", all[0])
	}
	close(release)
	open.Wait()
}

func TestWatchOfWhatIsNotThere(t *testing.T) {
	e := start(t, Options{})
	tell := func(outcome.Batch) error { return nil }
	if err := e.Watch(t.Context(), "nothing", outcome.Cursor{}, tell); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
	// A service that goes away while it is watched is not there any more either.
	e.configure(t, service1(1, backend(t, says("x"))))
	err := e.Watch(t.Context(), "local/api", outcome.Cursor{}, func(outcome.Batch) error {
		e.configure(t, Config{Version: 2})
		return nil
	})
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
}

func TestStickyClientDrawsOnce(t *testing.T) {
	e := start(t, Options{})
	c := twoArms(1, backend(t, says("old")), backend(t, says("canary")), 0.5)
	c.Services[0].Sticky = &Sticky{Cookie: "arm", TTL: time.Hour}
	e.configure(t, c)
	const clients, each = 40, 3
	seen := map[string]int{}
	for range clients {
		cookie, first := "", ""
		for i := range each {
			req := e.request(t, "GET", apiHost, "/", nil)
			req.Header.Set("Cookie", cookie)
			res, body := e.do(t, req)
			if set := res.Header.Get("Set-Cookie"); (set != "") != (i == 0) {
				t.Errorf("request %d sets the cookie %q", i, set)
			} else if i == 0 {
				cookie, first = strings.Split(set, ";")[0], body
				if !strings.Contains(set, "HttpOnly") || !strings.Contains(set, "Max-Age=3600") {
					t.Errorf("the cookie is %q", set)
				}
			}
			if body != first {
				t.Errorf("request %d went to %s after %s", i, body, first)
			}
		}
		seen[first]++
	}
	checkBinomial(t, "canary", clients, seen["canary"], 0.5)
	e.awaitCounts(t, "canary", Counts{Requests: int64(seen["canary"])})
	e.awaitCounts(t, "old", Counts{Requests: int64(seen["old"])})
	// A cookie of an arm that is no more draws anew.
	c.Version, c.Services[0].Arms = 2, c.Services[0].Arms[:1]
	e.configure(t, c)
	req := e.request(t, "GET", apiHost, "/", nil)
	req.Header.Set("Cookie", "arm=gone")
	if res, body := e.do(t, req); body != "old" || res.Header.Get("Set-Cookie") == "" {
		t.Errorf("got %q %v", body, res.Header)
	}
}

// That the edge does not answer is told once, and what comes after that it does.
func TestWatchTellsThatTheEdgeIsAway(t *testing.T) {
	e := start(t, Options{})
	e.configure(t, service1(1, backend(t, says("x"))))
	var told []string
	err := e.Watch(t.Context(), "local/api", outcome.Cursor{}, func(b outcome.Batch) error {
		switch told = append(told, b.Away); len(told) {
		case 1:
			e.stop()
		case 2:
			start(t, e.options)
		case 3:
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) || told[0] != "" || !strings.HasPrefix(told[1], "the edge does not answer at ") || told[2] != "" {
		t.Errorf("told %q, then %v", told, err)
	}
}

// An edge that hangs, as a stopped process does, is told like one that is gone;
// one that only has nothing to tell is not.
func TestWatchTellsThatTheEdgeHangs(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	e.configure(t, service1(1, backend(t, says("x"))))
	signs := 0
	if _, err := e.watchOnce(t.Context(), "local/api", &outcome.Cursor{}, func(b outcome.Batch) error {
		if signs++; signs == 5 { // it is silent for too long else
			return errEnough
		}
		return nil
	}); !errors.Is(err, errEnough) {
		t.Errorf("an edge without requests gave %d signs of life, then %v", signs, err)
	}

	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	hanging := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := asked.Add(1); n != 2 { // the second is not answered at all
			fmt.Fprintf(w, `{"cursor":{"stream":"a","next":%d}}`+"\n", n)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})}
	go hanging.Serve(l)
	defer hanging.Close()
	var told []string
	err = NewClient(socket).Watch(t.Context(), "local/api", outcome.Cursor{}, func(b outcome.Batch) error {
		if told = append(told, b.Away); len(told) == 3 {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) || told[0] != "" || !strings.HasSuffix(told[1], "and does not answer") || told[2] != "" {
		t.Errorf("told %q, then %v", told, err)
	}
}
