package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func ask(method string) *Request {
	return &Request{Method: method, URI: "/", Host: "x.localhost", Header: http.Header{}, Timeout: 10 * time.Second}
}

// take sends a request and reads the whole answer.
func take(t *testing.T, p *Pool, r *Request) (int, string) {
	t.Helper()
	res, err := p.Send(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	raw, err := io.ReadAll(res)
	if err != nil {
		t.Fatal(err)
	}
	return res.Status, string(raw)
}

// raw serves each connection by hand, until the test ends.
func raw(t *testing.T, serve func(in *bufio.Reader, conn net.Conn)) string {
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
				serve(bufio.NewReader(conn), conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}

func pool(t *testing.T, address string, o Options) *Pool {
	p := NewPool(address, o)
	t.Cleanup(p.Close)
	return p
}

func TestConnectionsAreUsedAgainAndEnd(t *testing.T) {
	var opened atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	p := pool(t, s.Listener.Addr().String(), Options{})
	for range 5 {
		r := ask("POST")
		r.Body, r.Length = strings.NewReader("body"), 4
		if status, got := take(t, p, r); status != 200 || got != "body" {
			t.Errorf("got %d %q", status, got)
		}
	}
	if n := opened.Load(); n != 1 || p.Open() != 1 {
		t.Errorf("%d connections were opened, %d are", n, p.Open())
	}
	for end := time.Now().Add(10 * time.Second); p.Open() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("an idle connection is not closed")
		}
	}
	take(t, p, ask("GET"))
	p.Close()
	if p.Open() != 0 {
		t.Error("a closed pool has a connection")
	}
}

func TestWhatAServerMayAndMayNot(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		check  func(status int, body string, err error) bool
	}{
		"hints first":                         {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", func(status int, body string, err error) bool { return status == 200 && body == "ok" && err == nil }},
		"hints only":                          {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 9), func(_ int, _ string, err error) bool { return err != nil && strings.Contains(err.Error(), "below 200") }},
		"to the end":                          {"HTTP/1.0 200 OK\r\n\r\nall of it", func(_ int, body string, err error) bool { return body == "all of it" && err == nil }},
		"both lengths, of which chunks count": {"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", func(_ int, body string, err error) bool { return body == "ok" && err == nil }},
		"two lengths":                         {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok", func(_ int, _ string, err error) bool { return err != nil }},
		"half a body":                         {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", func(_ int, _ string, err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		"large header":                        {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n", func(_ int, _ string, err error) bool { return errors.Is(err, errHeaderTooLarge) }},
		"more than told":                      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 No\r\n\r\n", func(_ int, body string, err error) bool { return body == "ok" && err == nil }},
	} {
		t.Run(name, func(t *testing.T) {
			p := pool(t, raw(t, func(in *bufio.Reader, conn net.Conn) {
				if _, err := http.ReadRequest(in); err == nil {
					io.WriteString(conn, c.answer)
				}
			}), Options{})
			var hints int
			r := ask("GET")
			r.Hint = func(status int, h http.Header) { hints++ }
			res, err := p.Send(t.Context(), r)
			status, body := 0, []byte(nil)
			if err == nil {
				status = res.Status
				body, err = io.ReadAll(res)
				res.Close()
			}
			if !c.check(status, string(body), err) {
				t.Errorf("got %d %q %v", status, body, err)
			}
			if strings.HasPrefix(name, "hints") && hints == 0 {
				t.Error("no hint was told")
			}
			if (err != nil || name == "to the end" || name == "more than told") && p.Open() != 0 {
				t.Error("a connection that is of no use is kept")
			}
		})
	}
}

func TestClosedKeptConnection(t *testing.T) {
	var asked atomic.Int64
	address := raw(t, func(in *bufio.Reader, conn net.Conn) {
		if _, err := http.ReadRequest(in); err != nil {
			return
		}
		asked.Add(1)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") // and closes
	})
	p := pool(t, address, Options{})
	for i := range 20 {
		if _, got := take(t, p, ask("GET")); got != "ok" {
			t.Fatalf("request %d: %q", i, got)
		}
	}
	if n := asked.Load(); n != 20 {
		t.Errorf("asked %d times", n)
	}
}

// A server that says nothing has the request: it is not sent again, as one is
// that meets the end of a kept connection.
func TestSilenceOnAKeptConnection(t *testing.T) {
	var asked atomic.Int64
	p := pool(t, raw(t, func(in *bufio.Reader, conn net.Conn) {
		for {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			if asked.Add(1) == 1 {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		}
	}), Options{})
	take(t, p, ask("GET"))
	r := ask("GET")
	r.Timeout = 50 * time.Millisecond
	if _, err := p.Send(t.Context(), r); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("got %v", err)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

func TestLimitOfRequests(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	t.Cleanup(s.Close)
	p := pool(t, s.Listener.Addr().String(), Options{MaxConns: 1})
	res, err := p.Send(t.Context(), ask("GET"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Send(t.Context(), ask("GET")); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
	res.Close()
	take(t, p, ask("GET"))
}

func TestSendEndsWithItsContext(t *testing.T) {
	hang := make(chan struct{})
	asked := make(chan struct{}, 1)
	p := pool(t, raw(t, func(in *bufio.Reader, _ net.Conn) {
		if _, err := http.ReadRequest(in); err == nil {
			asked <- struct{}{}
		}
		<-hang
	}), Options{})
	t.Cleanup(func() { close(hang) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := p.Send(ctx, ask("GET")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	r := ask("GET")
	r.Timeout = 50 * time.Millisecond
	if _, err := p.Send(t.Context(), r); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("got %v", err)
	}
	if p.Open() != 0 {
		t.Errorf("%d connections are open", p.Open())
	}
}

func TestLineEndsStayInTheirField(t *testing.T) {
	r := ask("GET")
	r.Header["X-A"] = []string{"a\r\nInjected: yes"}
	r.Header["Connection"] = []string{"X-Mine, close"}
	r.Header["X-Mine"] = []string{"hop"}
	if got := string(r.head(nil)); strings.Contains(got, "\nInjected") || strings.Contains(got, "X-Mine") || strings.Contains(got, "close") {
		t.Errorf("got %q", got)
	}
}

// TestRequestThatCannotBeRepeated goes on no connection that has been closed.
func TestRequestThatCannotBeRepeated(t *testing.T) {
	closed := make(chan struct{}, 1)
	p := pool(t, raw(t, func(in *bufio.Reader, conn net.Conn) {
		if _, err := http.ReadRequest(in); err == nil {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			conn.Close()
			closed <- struct{}{}
		}
	}), Options{})
	for range 20 {
		if _, got := take(t, p, ask("POST")); got != "ok" {
			t.Errorf("got %q", got)
		}
		<-closed
	}
}

// TestConnectionIsKeptForWhatCannotBeRepeated posts after a pause, over the
// connection there is: only then is it looked whether that still lives.
func TestConnectionIsKeptForWhatCannotBeRepeated(t *testing.T) {
	var conns atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	p := NewPool(s.Listener.Addr().String(), Options{})
	defer p.Close()
	take(t, p, ask(http.MethodPost))
	time.Sleep(2 * soon) // until what was set for the answer has passed
	take(t, p, ask(http.MethodPost))
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections were made for two requests", n)
	}
}
