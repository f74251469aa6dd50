package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

// newTestEdge gives an edge in a folder of its own, whose program may be replaced.
func newTestEdge(t *testing.T) *edgeProcess {
	t.Helper()
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
	return e
}

// siteAt is a site whose origin is a path, at which nobody is.
func siteAt(path string) edge.Site {
	return edge.Site{Name: "a/site", Hosts: []string{"a.localhost"}, Behavior: edge.Behavior{
		Origin: "http://127.0.0.1:1/" + path, AccessKey: "a", SecretKey: "b", Region: "c",
	}}
}

// TestAnEdgeWhoseAnswerIsLost puts a configuration in force of which nobody
// hears: the next one is put in force all the same, also one that is as before.
func TestAnEdgeWhoseAnswerIsLost(t *testing.T) {
	e := newTestEdge(t)
	var gate tollgate
	set := func(path string) error { return e.SetSites(t.Context(), "a", []edge.Site{siteAt(path)}) }
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

// TestAnEdgeThatAMakeitsoKilledBeforeHasTold is told again, though what it is
// told is what the next makeitso has read.
func TestAnEdgeThatAMakeitsoKilledBeforeHasTold(t *testing.T) {
	before := newTestEdge(t)
	set := func(e *edgeProcess, path string) {
		t.Helper()
		if err := e.SetSites(t.Context(), "a", []edge.Site{siteAt(path)}); err != nil {
			t.Fatal(err)
		}
	}
	set(before, "one")
	next, err := newEdgeProcess(before.keeper, Options{State: filepath.Dir(before.folder), Self: before.self, Edge: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	set(before, "two") // which was under way as it was killed
	set(next, "one")
	kept, err := edge.LoadConfig(next.path("config.json"))
	if err != nil || len(kept.Sites) != 1 || kept.Sites[0].Origin != siteAt("one").Origin {
		t.Errorf("the edge serves %+v (%v)", kept.Sites, err)
	}
	if err := next.SetSites(t.Context(), "a", nil); err != nil {
		t.Error(err)
	}
}

// newerProgram makes the edge's program another one, newer than the one before.
func newerProgram(t *testing.T, e *edgeProcess) {
	t.Helper()
	program, err := os.ReadFile(e.self)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(e.self)
	if err != nil {
		t.Fatal(err)
	}
	next := e.self + "-next" // what runs cannot be written
	if filepath.Dir(next) != e.folder {
		next = filepath.Join(e.folder, "program")
	}
	if err := os.WriteFile(next, program, 0o700); err != nil {
		t.Fatal(err)
	}
	newer := before.ModTime().Add(time.Hour)
	if err := os.Chtimes(next, newer, newer); err != nil {
		t.Fatal(err)
	}
	e.self = next
}

// keptAlive keeps the edge alive until it is left alone or the test ends, and
// gives what it announces.
func keptAlive(t *testing.T, e *edgeProcess) (announced <-chan string, leave func()) {
	ctx, cancel := context.WithCancel(t.Context())
	said, done := make(chan string, 10), make(chan struct{})
	go func() {
		defer close(done)
		e.keepAlive(ctx, func(text string) { said <- text })
	}()
	leave = func() {
		cancel()
		<-done
	}
	t.Cleanup(leave)
	return said, leave
}

func mustAnnounce(t *testing.T, announced <-chan string, want string) {
	t.Helper()
	select {
	case got := <-announced:
		if got != want {
			t.Fatalf("it announces %q, not %q", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("it never announces %q", want)
	}
}

// drainingEdge gives an edge that was upgraded while a client stays at the one
// before, until it goes away.
func drainingEdge(t *testing.T) (e *edgeProcess, client net.Conn) {
	e = newTestEdge(t)
	if err := e.SetSites(t.Context(), "a", []edge.Site{siteAt("one")}); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", e.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	// It was taken from the socket when it is answered.
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	newerProgram(t, e)
	announced, leave := keptAlive(t, e)
	mustAnnounce(t, announced, "an edge of this program has taken over")
	leave()
	return e, conn
}

// TestAnEdgeThatEndsWhileAnotherDrains is started again: the one that drains
// takes no connections.
func TestAnEdgeThatEndsWhileAnotherDrains(t *testing.T) {
	e, _ := drainingEdge(t)
	announced, _ := keptAlive(t, e)
	now, err := e.client.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(now.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	mustAnnounce(t, announced, "the edge had ended; it was started again")
	if err := connectsTo(e.Address()); err != nil {
		t.Error(err)
	}
}

// TestUpgradeIsDoneWhenTheEarlierEdgeHasEnded has two upgrades with a client
// who stays at the first edge: the second waits until that is gone.
func TestUpgradeIsDoneWhenTheEarlierEdgeHasEnded(t *testing.T) {
	e, client := drainingEdge(t)
	before, err := e.client.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	newerProgram(t, e)
	did, earlier, err := e.Upgrade(t.Context())
	if did || err != nil || earlier == nil || earlier.PID == before.PID {
		t.Fatalf("beside the earlier edge: %v, %v; it waits for one: %v", did, err, earlier != nil)
	}
	announced, _ := keptAlive(t, e)
	mustAnnounce(t, announced, "an edge of this program takes over when the earlier one that drains has ended")
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	mustAnnounce(t, announced, "an edge of this program has taken over")
	if now, err := e.client.Stats(t.Context()); err != nil || now.PID == before.PID || earlier.Alive() {
		t.Errorf("process %d answers after %d (%v); the earlier one lives: %v", now.PID, before.PID, err, earlier.Alive())
	}
	if err := connectsTo(e.Address()); err != nil {
		t.Error(err)
	}
}

func connectsTo(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
