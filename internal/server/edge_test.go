package server

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"makeitso/internal/edge"
	"makeitso/internal/process"
)

// tollgate stands before the socket of an edge: it counts configurations, and
// the answer to one it may lose.
type tollgate struct {
	configured atomic.Int64
	lose       atomic.Bool
}

// before opens the gate to a socket, and gives its own.
func (g *tollgate) before(t *testing.T, socket string) string {
	t.Helper()
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "edge"})
	forward.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	forward.ModifyResponse = func(res *http.Response) error {
		if res.Request.Method != http.MethodPut {
			return nil
		}
		g.configured.Add(1)
		if g.lose.Swap(false) {
			panic(http.ErrAbortHandler)
		}
		return nil
	}
	gate := filepath.Join(filepath.Dir(socket), "gate.sock")
	l, err := net.Listen("unix", gate)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: forward}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return gate
}

// TestAnEdgeWhoseAnswerIsLost puts a configuration in force of which nobody
// hears: the next one is put in force all the same, also one that is as before.
func TestAnEdgeWhoseAnswerIsLost(t *testing.T) {
	state, err := os.MkdirTemp("", "edge") // short, for the sake of the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	keeper := process.New(filepath.Join(state, "processes"), process.Options{Command: []string{self, "internal", "exec"}})
	t.Cleanup(keeper.Close)
	e, err := newEdgeProcess(keeper, Options{State: state, Self: self, Edge: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.client = edge.NewClient(e.path("edge.sock"))
		if err := e.SetSites(context.Background(), "a", nil); err != nil {
			t.Error(err)
		}
		if err := e.StopIfIdle(context.Background()); err != nil {
			t.Error(err)
		}
	})
	var gate tollgate
	set := func(path string) error {
		return e.SetSites(t.Context(), "a", []edge.Site{{
			Name: "a/site", Hosts: []string{"a.localhost"}, Behavior: edge.Behavior{Origin: "http://127.0.0.1:1/" + path, AccessKey: "a", SecretKey: "b", Region: "c"},
		}})
	}
	if err := set("one"); err != nil {
		t.Fatal(err)
	}
	e.client = edge.NewClient(gate.before(t, e.path("edge.sock")))
	mustServe := func(when, path string, configured int64) {
		t.Helper()
		kept, err := edge.LoadConfig(e.path("config.json"))
		if err != nil || len(kept.Sites) != 1 || kept.Sites[0].Origin != "http://127.0.0.1:1/"+path {
			t.Errorf("%s, the edge serves %+v (%v); want %s", when, kept.Sites, err, path)
		}
		if n := gate.configured.Swap(0); n != configured {
			t.Errorf("%s, the edge was told %d times; want %d", when, n, configured)
		}
	}
	if err := set("one"); err != nil {
		t.Fatal(err)
	}
	mustServe("told what it knows", "one", 0)

	for _, next := range []string{"three", "one"} { // another one, and the one that was thought to be in force
		if err := set("one"); err != nil {
			t.Fatal(err)
		}
		gate.configured.Store(0)
		gate.lose.Store(true)
		if err := set("two"); err == nil {
			t.Fatal("the answer was not lost")
		}
		mustServe("with its answer lost", "two", 1)
		if err := set(next); err != nil {
			t.Errorf("after a lost answer: %v", err)
		}
		mustServe("after a lost answer", next, 2) // the first is refused
	}
}
