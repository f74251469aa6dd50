package front

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// serve runs a server until the test ends, and gives it and its address.
func serve(t testing.TB, handler http.HandlerFunc, change func(*Server)) (*Server, string) {
	t.Helper()
	var open sync.WaitGroup
	s := &Server{
		Handler: handler, Base: t.Context(), HTTP2: func(conn net.Conn) { conn.Close(); open.Done() }, Count: open.Add,
		Refused: func(string, int, string) {}, Log: log.New(io.Discard, "", 0),
		HeaderBytes: 8 << 10, HeaderTime: time.Minute, IdleTime: time.Minute, WriteTime: time.Minute,
	}
	if change != nil {
		change(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != http.ErrServerClosed {
			t.Error(err)
		}
		open.Wait() // all that were counted have ended
	})
	return s, l.Addr().String()
}

// dial connects until the test ends.
func dial(t testing.TB, address string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn), bufio.NewReader(conn)
}

// say sends bytes and gives what comes back, without the dates, until the
// server closes.
func say(t testing.TB, address, text string) string {
	t.Helper()
	conn, in := dial(t, address)
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(in)
	if err != nil {
		t.Fatalf("after %q: %v", all, err)
	}
	var kept strings.Builder
	for line := range strings.Lines(string(all)) {
		if !strings.HasPrefix(line, "Date: ") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// TestAnswers has small handlers answer.
func TestAnswers(t *testing.T) {
	text := func(h http.Header) { h.Set("Content-Type", "a/b") }
	_, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch r.URL.Path {
		case "/read":
			body, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v %s", body, err, r.Trailer.Get("X"))
		case "/sized":
			text(h)
			h.Set("Content-Length", "2")
			io.WriteString(w, "ok")
		case "/short":
			text(h)
			h.Set("Content-Length", "3")
			io.WriteString(w, "ok")
		case "/long":
			text(h)
			h.Set("Content-Length", "1")
			io.WriteString(w, "o")
			if _, err := io.WriteString(w, "k"); err != http.ErrContentLength {
				t.Error(err)
			}
		case "/parts":
			text(h)
			h.Set("Trailer", "X")
			io.WriteString(w, "ab")
			w.(http.Flusher).Flush()
			h.Set("X", "1")
			h.Set("Late", "no")
			h.Set(http.TrailerPrefix+"Y", "2")
			io.WriteString(w, "cd")
		case "/none":
			h.Set("Content-Length", "7")
			w.WriteHeader(http.StatusNoContent)
		case "/same":
			text(h)
			w.WriteHeader(http.StatusNotModified)
			if _, err := io.WriteString(w, "x"); err != http.ErrBodyNotAllowed {
				t.Error(err)
			}
		case "/hint":
			h.Set("Link", "x")
			w.WriteHeader(http.StatusEarlyHints)
			h.Del("Link")
			text(h)
			w.WriteHeader(http.StatusTeapot)
		case "/split":
			text(h)
			h.Set("X", "a\r\nb")
			h.Set("X y", "c")
			h.Set("Transfer-Encoding", "identity")
		case "/panic":
			io.WriteString(w, "never seen")
			panic("on purpose")
		case "/bye":
			text(h)
			h.Set("Connection", "close")
		}
	}, nil)
	ask := func(path string) string { return "GET " + path + " HTTP/1.1\r\n" + host + "\r\n" }
	const plain, ok = "Content-Type: text/plain; charset=utf-8\r\n", "HTTP/1.1 200 OK\r\n"
	sized := ok + "Content-Type: a/b\r\nContent-Length: 2\r\n\r\nok"
	for request, want := range map[string]string{
		ask("/sized"):                 sized,
		ask("/sized") + ask("/none"):  sized + "HTTP/1.1 204 No Content\r\n\r\n",
		ask("/short") + ask("/sized"): ok + "Content-Type: a/b\r\nContent-Length: 3\r\n\r\nok", // and no other
		ask("/long"):                  ok + "Content-Type: a/b\r\nContent-Length: 1\r\n\r\no",
		ask("/parts"):                 ok + "Content-Type: a/b\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\nX: 1\r\nY: 2\r\n\r\n",
		"GET /parts HTTP/1.0\r\nConnection: keep-alive\r\n\r\n":   "HTTP/1.0 200 OK\r\nContent-Type: a/b\r\nTrailer: X\r\nConnection: close\r\n\r\nabcd",
		"GET /sized HTTP/1.0\r\nConnection: keep-alive\r\n\r\n":   "HTTP/1.0 200 OK\r\nContent-Type: a/b\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
		"GET /hint HTTP/1.0\r\n\r\n":                              "HTTP/1.0 418 I'm a teapot\r\nContent-Type: a/b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"HEAD /sized HTTP/1.1\r\n" + host + "\r\n" + ask("/none"): strings.TrimSuffix(sized, "ok") + "HTTP/1.1 204 No Content\r\n\r\n",
		"HEAD /read HTTP/1.1\r\n" + host + "\r\n":                 ok + plain + "Content-Length: 7\r\n\r\n",
		ask("/same"):                             "HTTP/1.1 304 Not Modified\r\n\r\n",
		ask("/hint"):                             "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 418 I'm a teapot\r\nContent-Type: a/b\r\nContent-Length: 0\r\n\r\n",
		ask("/split"):                            ok + "Content-Type: a/b\r\nX: a  b\r\nContent-Length: 0\r\n\r\n",
		ask("/panic") + ask("/sized"):            "",
		ask("/bye") + ask("/sized"):              ok + "Content-Type: a/b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\n" + host + "\r\n": ok + "Content-Length: 0\r\n\r\n",
		"POST /read HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nab" + ask("/sized"):                    ok + plain + "Content-Length: 9\r\n\r\nab <nil> " + sized,
		"POST /read HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: y\r\n\r\n": ok + plain + "Content-Length: 10\r\n\r\nab <nil> y",
		"POST /read HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nab":                                    ok + plain + "Content-Length: 18\r\nConnection: close\r\n\r\nab unexpected EOF ",
		"POST /sized HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabc" + ask("/sized"):                  sized + sized, // what was not read is thrown away
		"POST /sized HTTP/1.1\r\n" + host + "Content-Length: 300000\r\n\r\nabc":                             sized,
		"POST /read HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nab":            "HTTP/1.1 100 Continue\r\n\r\n" + ok + plain + "Content-Length: 9\r\n\r\nab <nil> ",
		"POST /sized HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n":             strings.Replace(sized, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1),
		"POST /sized HTTP/1.1\r\n" + host + "Expect: more\r\n\r\n":                                          "HTTP/1.1 417 Expectation Failed\r\n" + plain + "Connection: close\r\n\r\n417 Expectation Failed: only 100-continue can be expected\n",
		ask("/sized") + "GET / HTTP/1.1\n\n":                                                                sized + "HTTP/1.1 400 Bad Request\r\n" + plain + "Connection: close\r\n\r\n400 Bad Request: a line ends without a carriage return\n",
		"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 9<<10):                                                "HTTP/1.1 431 Request Header Fields Too Large\r\n" + plain + "Connection: close\r\n\r\n431 Request Header Fields Too Large: the header is too large\n",
	} {
		if got := say(t, address, request); sorted(got) != sorted(want) {
			t.Errorf("%.200q:\ngot  %q\nwant %q", request, got, want)
		}
	}
}

// sorted puts the fields of headers in an order.
func sorted(text string) string {
	lines := strings.SplitAfter(text, "\r\n")
	for i := 0; i < len(lines); i++ {
		from := i
		for i < len(lines) && strings.Contains(lines[i], ": ") {
			i++
		}
		slices.Sort(lines[from:min(i, len(lines))])
	}
	return strings.Join(lines, "")
}

const get = "GET / HTTP/1.1\r\n" + host + "\r\n"

// read reads one answer.
func read(t testing.TB, in *bufio.Reader) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestLargePartsComeWhole(t *testing.T) {
	part := strings.Repeat("0123456789", 3000)
	_, address := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 50 {
			io.WriteString(w, part)
			io.WriteString(w, "-")
		}
	}, nil)
	conn, in := dial(t, address)
	for range 2 {
		io.WriteString(conn, get)
		if _, body := read(t, in); body != strings.Repeat(part+"-", 50) {
			t.Fatalf("%d bytes came", len(body))
		}
	}
}

// TestClientThatLeavesIsSeen while a handler waits for that, with a body and
// without one.
func TestClientThatLeavesIsSeen(t *testing.T) {
	seen := make(chan error)
	_, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			watched := make(chan struct{})
			defer context.AfterFunc(r.Context(), func() { close(watched) })() // before the body is read
			io.Copy(io.Discard, r.Body)
			seen <- nil
			<-watched
		} else {
			seen <- nil
			<-r.Context().Done()
		}
		seen <- r.Context().Err()
	}, nil)
	for _, request := range []string{get, "POST /body HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nab", get + "POST"} {
		conn, _ := dial(t, address)
		io.WriteString(conn, strings.TrimSuffix(request, "POST"))
		<-seen
		conn.Close()
		if err := <-seen; err != context.Canceled {
			t.Errorf("%q: %v", request, err)
		}
	}
}

// TestWatchTakesNothing has the next request come while the one before is
// answered and its client looked at.
func TestWatchTakesNothing(t *testing.T) {
	wait := make(chan struct{})
	_, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		r.Context().Done()
		<-wait
		io.WriteString(w, r.URL.Path)
	}, nil)
	conn, in := dial(t, address)
	for i := range 20 {
		fmt.Fprintf(conn, "GET /%d HTTP/1.1\r\n", i)
		fmt.Fprintf(conn, host+"\r\n")
		if i > 0 {
			wait <- struct{}{}
		}
	}
	wait <- struct{}{}
	for i := range 20 {
		if _, body := read(t, in); body != fmt.Sprint("/", i) {
			t.Errorf("answer %d is %q", i, body)
		}
	}
}

func TestHijackedConnectionIsTheHandlers(t *testing.T) {
	s, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		r.Context().Done() // a watch must end
		w.Header().Set("Upgrade", "x")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		if _, err := w.Write([]byte("x")); err != http.ErrHijacked {
			t.Error(err)
		}
		line, err := rw.ReadString('\n')
		fmt.Fprintf(rw, "%s%v", line, err)
		rw.Flush()
	}, nil)
	if got, want := say(t, address, get+"hello\n"), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nhello\n<nil>"; got != want {
		t.Errorf("got %q", got)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestIdleConnectionHoldsNothing but itself.
func TestIdleConnectionHoldsNothing(t *testing.T) {
	s, address := serve(t, func(http.ResponseWriter, *http.Request) {}, nil)
	client, in := dial(t, address)
	io.WriteString(client, get)
	read(t, in)
	s.mu.Lock()
	var c *conn
	for c = range s.conns {
	}
	s.mu.Unlock()
	for c.state.Load() != isIdle { // a moment after the answer
		runtime.Gosched()
	}
	if c.desk != nil {
		t.Error("it kept its buffers")
	}
}

func TestTimes(t *testing.T) {
	cut := make(chan error, 1)
	_, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, err := w.Write(make([]byte, 64<<20))
			cut <- err
		}
	}, func(s *Server) {
		s.HeaderTime, s.IdleTime, s.WriteTime = 50*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
	})
	for _, text := range []string{"", "GET / HT", get, get + "GET / HTTP/1.1\r\nX", "GET /large HTTP/1.1\r\n" + host + "\r\n"} {
		conn, in := dial(t, address)
		io.WriteString(conn, text)
		if strings.Contains(text, "large") {
			if err := <-cut; !errors.Is(err, os.ErrDeadlineExceeded) { // for nobody read
				t.Error(err)
			}
			continue
		}
		if all, err := io.ReadAll(in); err == nil && strings.Count(string(all), "HTTP/1.1 200 OK") != strings.Count(text, "\r\n\r\n") {
			t.Errorf("after %q came %.200q", text, all)
		}
	}
	conn, in := dial(t, address) // a byte now and then is no progress
	go func() {
		for range 100 {
			if _, err := io.WriteString(conn, "x"); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	if all, _ := io.ReadAll(in); len(all) > 0 {
		t.Errorf("a header that does not end was answered %q", all)
	}
}

// TestDeadlineOfAPartIsNotThatOfTheEnd lets it pass before the handler is done.
func TestDeadlineOfAPartIsNotThatOfTheEnd(t *testing.T) {
	_, address := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		if err := http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0)); err != nil {
			t.Error(err)
		}
	}, nil)
	conn, in := dial(t, address)
	for range 2 {
		io.WriteString(conn, get)
		if _, body := read(t, in); body != "part" {
			t.Errorf("got %q", body)
		}
	}
}

// TestShutdown closes connections without a request at once, and lets requests
// finish.
func TestShutdown(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	s, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			return
		}
		close(arrived)
		<-release
	}, nil)
	idle, idleIn := dial(t, address)
	io.WriteString(idle, get)
	read(t, idleIn)
	_, newIn := dial(t, address)
	busy, busyIn := dial(t, address)
	io.WriteString(busy, "GET /slow HTTP/1.1\r\n"+host+"\r\n")
	<-arrived
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(t.Context()) }()
	for name, in := range map[string]*bufio.Reader{"idle": idleIn, "new": newIn} {
		if _, err := in.ReadByte(); err == nil {
			t.Errorf("the %s connection is open", name)
		}
	}
	select {
	case err := <-ended:
		t.Errorf("it ended with a request under way: %v", err)
	default:
	}
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(short); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	if res, _ := read(t, busyIn); !res.Close {
		t.Error("the client is not told that the connection ends")
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestHTTP2IsHandedOver with all that was read.
func TestHTTP2IsHandedOver(t *testing.T) {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	got := make(chan string, 1)
	s, address := serve(t, nil, func(s *Server) {
		before := s.HTTP2
		s.HTTP2 = func(conn net.Conn) {
			text := make([]byte, len(preface)+4)
			io.ReadFull(conn, text)
			got <- string(text)
			before(conn)
		}
	})
	conn, _ := dial(t, address)
	io.WriteString(conn, preface[:20])
	io.WriteString(conn, preface[20:]+"more")
	if text := <-got; text != preface+"more" {
		t.Errorf("got %q", text)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// failing is a listener that fails some times before it listens.
type failing struct {
	net.Listener
	errs []error
}

func (f *failing) Accept() (net.Conn, error) {
	if len(f.errs) == 0 {
		return f.Listener.Accept()
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, &net.OpError{Op: "accept", Err: err}
}

func TestTooManyFilesIsNoReasonToGiveUp(t *testing.T) {
	s, _ := serve(t, func(http.ResponseWriter, *http.Request) {}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- s.Serve(&failing{l, []error{os.NewSyscallError("accept4", syscall.EMFILE), os.ErrDeadlineExceeded}})
	}()
	conn, in := dial(t, l.Addr().String())
	io.WriteString(conn, get)
	read(t, in)
	l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestOverTLS looks at a client between its requests, and sends parts of many
// sizes.
func TestOverTLS(t *testing.T) {
	secure := httptest.NewTLSServer(nil)
	t.Cleanup(secure.Close)
	s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		r.Context().Done()
		body, err := io.ReadAll(r.Body)
		if err != nil || r.TLS == nil {
			t.Errorf("%v over %v", err, r.TLS)
		}
		for part := range slices.Chunk(body, 3000) {
			w.Write(part)
		}
		w.Write(body)
	}, nil)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: secure.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	client := secure.Client()
	defer client.CloseIdleConnections()
	for n := range 12 {
		body := strings.Repeat("0123456", 1<<n)
		kind := []io.Reader{strings.NewReader(body), struct{ io.Reader }{strings.NewReader(body)}}[n%2]
		reused := false
		trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }}
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "POST", "https://"+l.Addr().String(), kind)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(got) != body+body || reused != (n > 0) {
			t.Errorf("%d bytes came back for %d, %v, on a used connection: %t", len(got), len(body), err, reused)
		}
	}
	l.Close()
	<-ended
}
