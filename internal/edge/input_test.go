package edge

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestHeaderWithoutEndIsCutOff has an instance that sends a gigabyte of header, of
// which no more is taken than a header may have.
func TestHeaderWithoutEndIsCutOff(t *testing.T) {
	for name, part := range map[string]string{
		"lines":        "X-More: " + strings.Repeat("x", 1000) + "\r\n",
		"one line":     strings.Repeat("x", 1010),
		"folded lines": " " + strings.Repeat("x", 1000) + "\r\n",
		"empty values": strings.Repeat("X:\r\n", 200),
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, Options{})
			var sent atomic.Int64
			e.configure(t, service1(1, serveConns(t, func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
					return
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-First: x\r\n")
				for range 1 << 20 {
					n, err := io.WriteString(conn, part)
					if sent.Add(int64(n)); err != nil {
						return
					}
				}
			})))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if res, _ := e.get(t, apiHost, "/"); res.StatusCode != 502 {
				t.Errorf("got %s", res.Status)
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
				t.Errorf("%d bytes of memory were taken", n)
			}
			eventually(t, "the instance is told", func() bool { return e.counts(t, "v1").Bad == 1 })
			if n := sent.Load(); n > 64<<20 { // what the sockets' buffers take
				t.Errorf("%d bytes of header were taken", n)
			}
		})
	}
}

// askLarge asks for /large by a connection of which the test reads as it likes.
func (r *running) askLarge(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /large HTTP/1.1\r\nHost: %s\r\n\r\n", apiHost)
	return conn
}

// TestClientThatTakesNothing holds up only itself, and is nobody's fault.
func TestClientThatTakesNothing(t *testing.T) {
	e := start(t, Options{})
	c := service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			part := make([]byte, 1<<20)
			for range 64 {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
		}
	}))
	c.Services[0].Limits.ClientTimeout = 100 * time.Millisecond
	e.configure(t, c)
	conn := e.askLarge(t)
	one := make([]byte, 1)
	if _, err := io.ReadFull(conn, one); err != nil { // and no more
		t.Fatal(err)
	}
	if res, _ := e.get(t, apiHost, "/"); res.StatusCode != 200 {
		t.Errorf("another client got %s", res.Status)
	}
	eventually(t, "it is cut off", func() bool { return e.stats(t).InFlight["v1-0"] == 0 })
	e.awaitCounts(t, "v1", Counts{Requests: 2})
}

// TestClientThatTakesAByteAtATime takes too little to be waited for: it is cut
// off, which the log says, and the others are answered meanwhile.
func TestClientThatTakesAByteAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	e := start(t, Options{Log: path})
	const size = 64 << 20 // more than the sockets' buffers take
	c := service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			for part := make([]byte, 1<<20); ; {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
		}
	}))
	c.Services[0].Limits.ClientTimeout = 200 * time.Millisecond
	e.configure(t, c)
	conn := e.askLarge(t)
	taken := 0
	eventually(t, "it is cut off", func() bool {
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		taken++
		if res, _ := e.get(t, apiHost, "/"); res.StatusCode != 200 {
			t.Errorf("another client got %s", res.Status)
		}
		return taken > 1 && e.stats(t).InFlight["v1-0"] == 0
	})
	if rest, err := io.Copy(io.Discard, conn); rest > size/2 {
		t.Errorf("%d bytes were sent all the same (%v)", rest, err)
	}
	if bad := e.counts(t, "v1").Bad; bad != 0 {
		t.Errorf("%d are counted bad", bad)
	}
	e.stop()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var l entry
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if l.Path == "/large" && !strings.Contains(l.Error, "i/o timeout") {
			t.Errorf("the log says %s", line)
		}
	}
}

// TestClientThatSendsAByteAtATime is waited for as long as something comes. A
// small body is waited for before an instance is asked, and of a large one the
// instance gets each byte; the others are answered meanwhile.
func TestClientThatSendsAByteAtATime(t *testing.T) {
	for name, size := range map[string]int64{"small": 5, "large": smallBody + 1} {
		t.Run(name, func(t *testing.T) {
			e := start(t, Options{})
			got := make(chan byte, 5)
			c := service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost {
					return
				}
				one := make([]byte, 1)
				for range 5 {
					if _, err := io.ReadFull(r.Body, one); err != nil {
						return
					}
					got <- one[0]
				}
				rest, err := io.Copy(io.Discard, r.Body)
				fmt.Fprint(w, 5+rest, err)
			}))
			c.Services[0].Limits.Requests = 2
			e.configure(t, c)
			conn, err := net.Dial("tcp", e.address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", apiHost, size)
			for n := range byte(5) {
				if res, _ := e.get(t, apiHost, "/"); res.StatusCode != 200 {
					t.Errorf("before byte %d another client got %s", n, res.Status)
				}
				if held := e.stats(t).InFlight["v1-0"]; name == "small" && held != 0 {
					t.Errorf("before byte %d an instance is held", n)
				}
				if _, err := conn.Write([]byte{'1' + n}); err != nil {
					t.Fatal(err)
				}
				if name == "large" && <-got != '1'+n {
					t.Errorf("byte %d is another one", n)
				}
			}
			if _, err := conn.Write(make([]byte, size-5)); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(res.Body); err != nil || string(body) != fmt.Sprint(size, nil) {
				t.Errorf("got %s %q %v", res.Status, body, err)
			}
		})
	}
}

func TestClientThatSendsNothing(t *testing.T) {
	e := start(t, Options{})
	c := service1(1, backend(t, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	c.Services[0].Limits.ClientTimeout = 100 * time.Millisecond
	e.configure(t, c)
	head := "POST / HTTP/1.1\r\nHost: " + apiHost + "\r\n"
	for _, body := range []string{"Content-Length: 10\r\n\r\nhalf", "Content-Length: 100000\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"} {
		if answer := e.raw(t, head+body); !strings.HasPrefix(answer, "HTTP/1.1 400") {
			t.Errorf("%q: got %.100q", body, answer)
		}
	}
	eventually(t, "nothing is in flight", func() bool { return e.stats(t).InFlight["v1-0"] == 0 })
	if bad := e.counts(t, "v1").Bad; bad != 0 {
		t.Errorf("%d are counted bad", bad)
	}
}

func TestSecondRequestOfAConnectionIsLookedAtToo(t *testing.T) {
	e := start(t, Options{})
	e.configure(t, service1(1, backend(t, says("x"))))
	conn, err := net.Dial("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	chunked := "POST / HTTP/1.1\r\nHost: " + apiHost + "\r\nTransfer-Encoding: chunked\r\n%s\r\n0\r\n\r\n"
	for i, want := range []int{200, 200, 400} {
		fmt.Fprintf(conn, chunked, map[int]string{200: "", 400: "Content-Length: 5\r\n"}[want])
		res, err := http.ReadResponse(in, nil)
		if err != nil || res.StatusCode != want {
			t.Fatalf("request %d: %v %v", i, res, err)
		}
		io.Copy(io.Discard, res.Body)
	}
	hidden := "GET / HTTP/1.1\r\nHost: " + apiHost + "\r\n\r\n" + fmt.Sprintf(chunked, "Content-Length: 5\r\n")
	if answer := e.raw(t, hidden); !strings.Contains(answer, "HTTP/1.1 400") {
		t.Errorf("behind another: %q", answer)
	}
}

func TestUpgradeToHTTP2IsNotHandedOn(t *testing.T) {
	e := start(t, Options{})
	e.configure(t, service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("Upgrade")) })))
	answer := e.raw(t, "GET / HTTP/1.1\r\nHost: "+apiHost+"\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 200") || strings.Contains(answer, "h2c") {
		t.Errorf("got %q", answer)
	}
}

func TestLimits(t *testing.T) {
	e := start(t, Options{})
	hold, held := make(chan struct{}), make(chan struct{})
	c := service1(1, backend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			close(held)
			<-hold
		}
		io.Copy(io.Discard, r.Body)
	}))
	c.Services[0].Limits = Limits{HeaderBytes: 1000, BodyBytes: 20000, Requests: 1}
	e.configure(t, c)
	body := func(n int) io.Reader { return strings.NewReader(strings.Repeat("b", n)) }
	for name, want := range map[string]struct {
		header int
		body   io.Reader
		status int
	}{
		"all is well":             {10, body(20000), 200},
		"large header":            {2000, nil, 431},
		"large body":              {10, body(20001), 413},
		"large, length unknown":   {10, struct{ io.Reader }{body(30000)}, 413},
		"as large as may be, too": {10, struct{ io.Reader }{body(20000)}, 200},
	} {
		req := e.request(t, "POST", apiHost, "/", want.body)
		req.Header.Set("X-Large", strings.Repeat("h", want.header))
		if res, _ := e.do(t, req); res.StatusCode != want.status {
			t.Errorf("%s: got %s", name, res.Status)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.get(t, apiHost, "/hold")
	}()
	<-held
	if res, text := e.get(t, apiHost, "/"); res.StatusCode != 503 || !strings.Contains(text, "as many requests as it may") {
		t.Errorf("a second request: %s", res.Status)
	}
	close(hold)
	<-done
	if bad := e.counts(t, "v1").Bad; bad != 0 {
		t.Errorf("%d are counted bad", bad)
	}
}

func TestServicesShareAHostByPath(t *testing.T) {
	e := start(t, Options{})
	c := Config{Version: 1}
	for name, paths := range map[string][]string{"all": nil, "api": {"/api", "/rpc/"}, "users": {"/api/users"}} {
		c.Services = append(c.Services, Service{Name: name, Hosts: []string{apiHost}, Paths: paths,
			Arms: []Arm{{Name: "v1", Weight: 1, Instances: []Instance{{ID: name, Address: backend(t, says(name))}}}}})
	}
	e.configure(t, c)
	for path, want := range map[string]string{"/": "all", "/api": "api", "/api/x": "api", "/apis": "all", "/api/users/1": "users", "/rpc/x": "api", "/rpc": "api"} {
		if _, body := e.get(t, apiHost, path); body != want {
			t.Errorf("%s is answered by %q, want %q", path, body, want)
		}
	}
	c.Version, c.Services[0].Paths = 2, []string{"/api"}
	c.Services[1].Paths = []string{"/api"}
	if err := e.Configure(t.Context(), c); err == nil || !strings.Contains(err.Error(), `host "api.shop.localhost/api" is given to`) {
		t.Errorf("got %v", err)
	}
}

// TestRefusedRequestIsLogged though it is of no service.
func TestRefusedRequestIsLogged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	e := start(t, Options{Log: path})
	if answer := e.raw(t, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 400") {
		t.Errorf("got %q", answer)
	}
	e.stop()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var line entry
	if err := json.Unmarshal(raw, &line); err != nil || line.Status != 400 || line.Error == "" || !strings.HasPrefix(line.Remote, "127.0.0.1:") {
		t.Errorf("%v: %s", err, raw)
	}
}
