package edge

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"makeitso/internal/fault"
)

// TestMain fails if an edge that ended left a goroutine behind.
func TestMain(m *testing.M) {
	code := m.Run()
	left := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		all := make([]byte, 1<<20)
		all = all[:runtime.Stack(all, true)]
		if _, others, _ := strings.Cut(string(all), "\n\n"); !strings.Contains(others, "internal/edge") {
			os.Exit(code)
		} else {
			left = others
		}
	}
	fmt.Fprintf(os.Stderr, "goroutines are left behind:\n%s\n", left)
	os.Exit(1)
}

// running is an edge that a test started.
type running struct {
	*Client
	options Options
	address string // where it serves
	http    *http.Client
	stop    func() // ends it and waits
	wait    func() // waits until it has ended by itself
}

// start runs an edge until the test ends.
func start(t testing.TB, o Options) *running {
	t.Helper()
	dir := t.TempDir()
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Socket == "" {
		o.Socket = filepath.Join(dir, "s")
	}
	if o.Config == "" {
		o.Config = filepath.Join(dir, "edge.json")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Main(ctx, o) }()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	r := &running{Client: NewClient(o.Socket), options: o, http: &http.Client{Transport: transport}}
	r.wait = sync.OnceFunc(func() {
		transport.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Errorf("the edge ended with: %v", err)
		}
	})
	r.stop = func() { cancel(); r.wait() }
	t.Cleanup(r.stop)
	eventually(t, "the edge answers", func() bool {
		stats, err := r.Stats(t.Context())
		r.address = stats.Listen
		select {
		case err := <-done:
			t.Fatalf("the edge ended at once: %v", err)
		default:
		}
		return err == nil
	})
	return r
}

// eventually polls for what the outside gives no event for.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if is() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

func (r *running) configure(t testing.TB, c Config) {
	t.Helper()
	if err := r.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func (r *running) stats(t testing.TB) Stats {
	t.Helper()
	s, err := r.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// request makes a request for a host at the edge.
func (r *running) request(t testing.TB, method, host, path string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.address+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	return req
}

// do sends a request and reads the whole answer.
func (r *running) do(t testing.TB, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func (r *running) get(t testing.TB, host, path string) (*http.Response, string) {
	t.Helper()
	return r.do(t, r.request(t, "GET", host, path, nil))
}

// raw sends bytes and gives what comes back until the edge closes.
func (r *running) raw(t testing.TB, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("after %q: %v", answer, err)
	}
	return string(answer)
}

// backend serves a handler until the test ends and gives its address.
func backend(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// says answers every request with text.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

// breaks is an upstream that reads a request's header, writes text and closes.
func breaks(t testing.TB, text string) string {
	t.Helper()
	return serveConns(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			io.WriteString(conn, text)
		}
	})
}

// serveConns serves each connection in a goroutine until the test ends.
func serveConns(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}

// refused gives an address where nothing listens.
func refused(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

const apiHost = "api.shop.localhost"

// service1 makes a configuration of one service with one arm, an instance for
// each address.
func service1(version int64, addresses ...string) Config {
	a := Arm{Name: "v1", Weight: 1}
	for i, address := range addresses {
		a.Instances = append(a.Instances, Instance{ID: fmt.Sprintf("v1-%d", i), Address: address})
	}
	return Config{Version: version, Services: []Service{{Name: "local/api", Hosts: []string{apiHost}, Arms: []Arm{a}}}}
}

func TestRequestReachesServiceByHost(t *testing.T) {
	e := start(t, Options{})
	var seen *http.Request
	e.configure(t, service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Clone(context.Background())
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Mine", "yes")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "got %s", body)
	})))
	req := e.request(t, "POST", "API.shop.localhost.:9999", "/a%2Fb//c?x=1;y=%zz", strings.NewReader("hello"))
	req.Header.Set("X-Forwarded-For", "1.2.3.4")
	req.Header.Set("X-Request-Id", "abc-1")
	req.Header.Set("X-Hop", "no")
	req.Header.Set("Connection", "X-Hop")
	res, body := e.do(t, req)
	if res.StatusCode != http.StatusTeapot || body != "got hello" || res.Header.Get("X-Mine") != "yes" {
		t.Errorf("answer: %s %q %v", res.Status, body, res.Header)
	}
	if seen.RequestURI != "/a%2Fb//c?x=1;y=%zz" {
		t.Errorf("the upstream was asked for %q", seen.RequestURI)
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "API.shop.localhost.:9999",
		"X-Request-Id": "abc-1", "X-Hop": "",
	} {
		if got := strings.Join(seen.Header[name], "|"); got != want {
			t.Errorf("the upstream saw %s %q, want %q", name, got, want)
		}
	}
	if id := res.Header["X-Request-Id"]; len(id) != 1 || id[0] != "abc-1" {
		t.Errorf("the client saw X-Request-Id %q", id)
	}
	if res, _ := e.get(t, apiHost, "/"); len(res.Header.Get("X-Request-Id")) != 24 {
		t.Errorf("a request without an id was answered with %q", res.Header.Get("X-Request-Id"))
	}
}

func TestRestartedEdgeServesAsBefore(t *testing.T) {
	e := start(t, Options{})
	e.configure(t, service1(7, backend(t, says("still here"))))
	e.stop()
	if info, err := os.Stat(e.options.Config); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the saved configuration: %v %v", info, err)
	}
	if _, err := os.Stat(e.options.Socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if _, err := e.Stats(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("an edge that ended answers stats with %v", err)
	}
	again := start(t, e.options)
	if _, body := again.get(t, apiHost, "/"); body != "still here" {
		t.Errorf("got %q", body)
	}
	if v := again.stats(t).Version; v != 7 {
		t.Errorf("version is %d, want 7", v)
	}
	if info, err := os.Stat(again.options.Socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v", info, err)
	}
}
