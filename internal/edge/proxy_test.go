package edge

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// twoArms makes a configuration of one service with two arms of one instance.
func twoArms(version int64, old, canary string, weight float64) Config {
	return Config{Version: version, Services: []Service{{Name: "local/api", Hosts: []string{apiHost}, Arms: []Arm{
		{Name: "old", Weight: 1 - weight, Instances: []Instance{{ID: "old-0", Address: old}}},
		{Name: "canary", Weight: weight, Instances: []Instance{{ID: "canary-0", Address: canary}}},
	}}}}
}

func (r *running) counts(t testing.TB, arm string) Counts {
	t.Helper()
	return r.stats(t).Services["local/api"][arm]
}

// awaitCounts waits until the outcomes of an arm are fixed, which the client
// may see a moment before the edge counts them.
func (r *running) awaitCounts(t testing.TB, arm string, want Counts) {
	t.Helper()
	eventually(t, fmt.Sprintf("arm %s has %+v", arm, want), func() bool { return r.counts(t, arm) == want })
}

func TestStreamsBothWays(t *testing.T) {
	e := start(t, Options{})
	e.configure(t, service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		if err := c.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		if r.URL.Path == "/early" { // the header alone, before anything came
			c.Flush()
		}
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "echo %s\n", lines.Text())
			c.Flush()
		}
	})))
	for _, path := range []string{"/", "/early"} {
		body, send := io.Pipe()
		req := e.request(t, "POST", apiHost, path, body)
		answered := make(chan *http.Response, 1)
		go func() {
			res, err := e.http.Do(req)
			if err != nil {
				t.Error(err)
			}
			answered <- res
		}()
		if path == "/" {
			fmt.Fprintln(send, "zero")
		}
		res := <-answered
		if res == nil {
			return
		}
		got := bufio.NewScanner(res.Body)
		if path == "/" && (!got.Scan() || got.Text() != "echo zero") {
			t.Fatalf("first line: %q %v", got.Text(), got.Err())
		}
		for _, word := range []string{"one", "two"} { // each before the next is sent
			fmt.Fprintln(send, word)
			if !got.Scan() || got.Text() != "echo "+word {
				t.Fatalf("%s: after %q came %q %v", path, word, got.Text(), got.Err())
			}
		}
		send.Close()
		if got.Scan() || got.Err() != nil {
			t.Errorf("at the end came %q %v", got.Text(), got.Err())
		}
		res.Body.Close()
	}
}

func TestServerSentEventsAreNotHeldBack(t *testing.T) {
	e := start(t, Options{})
	next := make(chan string)
	e.configure(t, service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for text := range next {
			fmt.Fprintf(w, "data: %s\n\n", text)
			w.(http.Flusher).Flush()
		}
	})))
	res, err := e.http.Do(e.request(t, "GET", apiHost, "/events", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	for i := range 3 {
		next <- fmt.Sprint(i)
		line, err := in.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d: %q %v", i, line, err)
		}
		in.ReadString('\n')
	}
	if n := e.stats(t).InFlight["v1-0"]; n != 1 {
		t.Errorf("in flight is %d during a stream, want 1", n)
	}
	close(next)
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		t.Errorf("at the end came %q %v", rest, err)
	}
	e.awaitCounts(t, "v1", Counts{Requests: 1})
}

func TestBodyOfKnownLengthIsNotHeldBack(t *testing.T) {
	e := start(t, Options{})
	more := make(chan struct{})
	e.configure(t, service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "6")
		for _, text := range []string{"", "one", "two"} {
			io.WriteString(w, text)
			w.(http.Flusher).Flush()
			<-more
		}
	})))
	done := make(chan *http.Response, 1)
	go func() {
		res, err := e.http.Do(e.request(t, "GET", apiHost, "/", nil))
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()
	var res *http.Response
	select {
	case res = <-done: // the header comes before the body
	case <-time.After(30 * time.Second):
		t.Error("the header is held back")
		close(more)
		return
	}
	defer res.Body.Close()
	for _, want := range []string{"one", "two"} {
		more <- struct{}{}
		got := make([]byte, 3)
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
			t.Errorf("got %q %v, want %q", got, err, want)
		}
	}
	more <- struct{}{}
}

func TestUpgradedConnectionOutlivesConfigurations(t *testing.T) {
	e := start(t, Options{})
	echo := backend(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
		rw.Flush()
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			rw.WriteString("echo " + line)
			rw.Flush()
		}
	})
	e.configure(t, service1(1, echo))
	conn, err := net.Dial("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	in := bufio.NewReader(conn)
	fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", apiHost)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("answer: %v %v", res, err)
	}
	say := func(word string) {
		fmt.Fprintln(conn, word)
		if line, err := in.ReadString('\n'); err != nil || line != "echo "+word+"\n" {
			t.Fatalf("after %q came %q %v", word, line, err)
		}
	}
	say("one")
	e.configure(t, service1(2, backend(t, says("another"))))
	say("two")
	leaving := Config{Version: 3}
	e.configure(t, leaving)
	say("three")
	if n := e.stats(t).InFlight["v1-0"]; n != 1 {
		t.Errorf("in flight is %d for an instance that left with an open connection, want 1", n)
	}
	conn.Close()
	eventually(t, "nothing is in flight", func() bool { return len(e.stats(t).InFlight) == 0 })
}

func TestDeadInstanceIsRetriedAndCountedBad(t *testing.T) {
	e := start(t, Options{})
	// Without health checks only failing requests show that the canary is dead.
	e.configure(t, twoArms(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	}), refused(t), 0.5))
	const n = 100
	for i := range n {
		want := fmt.Sprint("body ", i)
		if res, got := e.do(t, e.request(t, "POST", apiHost, "/", strings.NewReader(want))); res.StatusCode != 200 || got != want {
			t.Fatalf("request %d: %s %q", i, res.Status, got)
		}
	}
	s := e.stats(t)
	old, canary := s.Services["local/api"]["old"], s.Services["local/api"]["canary"]
	if canary.Requests < 20 || canary.Bad != canary.Requests || old.Bad != 0 {
		t.Errorf("old %+v, canary %+v", old, canary)
	}
	// What no coin chose is not counted: the retry of a canary's failure had
	// only the old arm left.
	if old.Requests+canary.Requests != n {
		t.Errorf("counted %d and %d, together they are not %d", old.Requests, canary.Requests, n)
	}
	if reason := s.Unhealthy["canary-0"]; !strings.Contains(reason, "refused") {
		t.Errorf("unhealthy: %v", s.Unhealthy)
	}
}

func TestBrokenUpstreams(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	cases := []struct {
		name, address, method string
		status                int // 0: the answer is cut off
	}{
		{"closes without an answer", breaks(t, ""), "GET", 502},
		{"half a header", breaks(t, "HTTP/1.1 200 OK\r\nContent-Le"), "POST", 502},
		{"not HTTP", breaks(t, "220 mail.example ESMTP\r\n"), "GET", 502},
		{"1 MB of header", breaks(t, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n"), "GET", 502},
		{"half a body", breaks(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), "GET", 0},
		{"half a chunk", breaks(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf"), "GET", 0},
		{"hangs", serveConns(t, func(net.Conn) { <-hang }), "GET", 504},
		{"hangs with a body", serveConns(t, func(net.Conn) { <-hang }), "POST", 504},
		{"says 500", backend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }), "GET", 500},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := start(t, Options{})
			config := service1(1, c.address)
			config.Services[0].RequestTimeout = 200 * time.Millisecond
			e.configure(t, config)
			var body io.Reader
			if c.method == "POST" {
				body = strings.NewReader(strings.Repeat("x", 1<<20))
			}
			res, err := e.http.Do(e.request(t, c.method, apiHost, "/", body))
			if err == nil {
				_, err = io.ReadAll(res.Body)
				res.Body.Close()
			}
			switch {
			case c.status == 0 && err == nil:
				t.Errorf("the client did not see that the answer was cut off: %s", res.Status)
			case c.status != 0 && (err != nil || res.StatusCode != c.status):
				t.Errorf("got %v %v, want %d", res, err, c.status)
			}
			e.awaitCounts(t, "v1", Counts{Requests: 1, Bad: 1})
			if n := e.stats(t).InFlight["v1-0"]; n != 0 {
				t.Errorf("in flight is %d", n)
			}
		})
	}
}

func TestBrokenConnectionIsRetriedOnlyWhereThatIsSafe(t *testing.T) {
	e := start(t, Options{})
	var asked atomic.Int64
	broken := serveConns(t, func(conn net.Conn) {
		asked.Add(1)
		http.ReadRequest(bufio.NewReader(conn))
	})
	e.configure(t, twoArms(1, backend(t, says("fine")), broken, 1-1e-9))
	if res, body := e.get(t, apiHost, "/"); body != "fine" {
		t.Errorf("GET: %s %q", res.Status, body)
	}
	if n := asked.Load(); n != 1 {
		t.Fatalf("the broken instance was asked %d times by GET", n)
	}
	for _, body := range []string{"order", ""} {
		before := asked.Load()
		res, _ := e.do(t, e.request(t, "POST", apiHost, "/", strings.NewReader(body)))
		if n := asked.Load() - before; res.StatusCode != 502 || n != 1 {
			t.Errorf("POST %q: %s after %d tries; it may have been done and is not done again", body, res.Status, n)
		}
	}
}

func TestRequestThatEndsInstancesEndsTwoAtMost(t *testing.T) {
	e := start(t, Options{})
	var ended atomic.Int64
	var addresses []string
	for range 5 {
		addresses = append(addresses, serveConns(t, func(conn net.Conn) {
			ended.Add(1)
			http.ReadRequest(bufio.NewReader(conn))
		}))
	}
	e.configure(t, service1(1, addresses...))
	if res, _ := e.get(t, apiHost, "/"); res.StatusCode != http.StatusBadGateway || ended.Load() != 2 {
		t.Errorf("%s after %d instances, want 502 after 2", res.Status, ended.Load())
	}
}

func TestKeptConnectionThatTheInstanceClosedIsNoFailure(t *testing.T) {
	e := start(t, Options{})
	// Each connection answers two requests as if it stayed open, then closes.
	address := serveConns(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for range 2 {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	e.configure(t, service1(1, address))
	for i := range 200 {
		if res, body := e.get(t, apiHost, "/"); body != "ok" {
			t.Fatalf("request %d: %s %q", i, res.Status, body)
		}
	}
	e.awaitCounts(t, "v1", Counts{Requests: 200})
}

func TestSlowClientIsNotTheInstancesFault(t *testing.T) {
	e := start(t, Options{})
	config := service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	config.Services[0].RequestTimeout = 100 * time.Millisecond
	e.configure(t, config)
	body, send := io.Pipe()
	go func() {
		for range 3 { // a slow sender is what is tested: nothing tells that the deadline has passed
			io.WriteString(send, "x")
			time.Sleep(150 * time.Millisecond)
		}
		send.Close()
	}()
	if res, got := e.do(t, e.request(t, "POST", apiHost, "/", body)); got != "xxx" {
		t.Errorf("got %s %q", res.Status, got)
	}
	e.awaitCounts(t, "v1", Counts{Requests: 1})
}

func TestClientThatLeavesIsNotCountedBad(t *testing.T) {
	e := start(t, Options{})
	arrived, released := make(chan struct{}), make(chan struct{})
	e.configure(t, service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(released)
	})))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if res, err := e.http.Do(e.request(t, "GET", apiHost, "/", nil).WithContext(ctx)); err == nil {
		res.Body.Close()
		t.Errorf("answered %s", res.Status)
	}
	<-released // the upstream learns of it
	e.awaitCounts(t, "v1", Counts{Requests: 1})
	eventually(t, "nothing is in flight", func() bool { return e.stats(t).InFlight["v1-0"] == 0 })
}

func TestAbandonedExchangeIsNotAnswered(t *testing.T) {
	b := newBucket(t)
	config := service1(1, backend(t, says("x")))
	config.Sites = b.site(1).Sites
	log, err := openAccessLog("", 0)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := newPlane(l, Options{}, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.apply(config); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{apiHost, siteHost} {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		req := httptest.NewRequestWithContext(ctx, "GET", "http://"+host+"/", nil)
		answer := httptest.NewRecorder()
		func() {
			defer func() {
				if r := recover(); r != http.ErrAbortHandler {
					t.Errorf("%s: recovered %v", host, r)
				}
			}()
			p.ServeHTTP(answer, req)
			t.Errorf("%s: the server would answer %d", host, answer.Code)
		}()
	}
}

func TestNoInstance(t *testing.T) {
	e := start(t, Options{})
	config := service1(1, refused(t))
	config.Services[0].Arms[0].Instances[0].Draining = true
	e.configure(t, config)
	res, body := e.get(t, apiHost, "/")
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || !strings.Contains(body, "local/api has no instance") {
		t.Errorf("got %s %v %q", res.Status, res.Header, body)
	}
}

func TestUnknownHost(t *testing.T) {
	e := start(t, Options{})
	e.configure(t, service1(1, refused(t)))
	_, port, _ := net.SplitHostPort(e.address)
	res, body := e.get(t, "nobody.localhost", "/")
	if link := fmt.Sprintf(`<a href="http://%s:%s/">`, apiHost, port); res.StatusCode != 404 || !strings.Contains(body, link) {
		t.Errorf("got %s %q, want the link %s", res.Status, body, link)
	}
	if res, body := e.get(t, "example.com", "/"); res.StatusCode != 404 || strings.Contains(body, apiHost) {
		t.Errorf("a stranger got %s %q", res.Status, body)
	}
}

func TestMalformedRequests(t *testing.T) {
	e := start(t, Options{})
	var asked atomic.Int64
	e.configure(t, service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			asked.Add(1)
		}
	})))
	head := "POST / HTTP/1.1\r\nHost: " + apiHost + "\r\nConnection: close\r\n"
	hidden := "GET /hidden HTTP/1.1\r\nHost: " + apiHost + "\r\n\r\n"
	for name, c := range map[string]struct{ request, status string }{
		"both lengths":         {head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, "400"},
		"both, other order":    {head + "transfer-encoding: chunked\r\ncontent-length: 99\r\n\r\n0\r\n\r\n", "400"},
		"two lengths":          {head + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", "400"},
		"signed length":        {head + "Content-Length: +4\r\n\r\nabcd", "400"},
		"space before colon":   {head + "Content-Length : 4\r\n\r\nabcd", "400"},
		"chunk size not hex":   {head + "Transfer-Encoding: chunked\r\n\r\n0x4\r\nabcd\r\n0\r\n\r\n", "400"},
		"chunk too long":       {head + "Transfer-Encoding: chunked\r\n\r\n4\r\nabcdefgh\r\n0\r\n\r\n", "400"},
		"unknown encoding":     {head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501"},
		"two hosts":            {head + "Host: other\r\n\r\n", "400"},
		"folded header":        {head + "X: a\r\n b\r\n\r\n", "200"}, // taken as one line
		"70 kB of header":      {head + "X: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", "431"},
		"control in header":    {head + "X: a\x00b\r\n\r\n", "400"},
		"CONNECT":              {"CONNECT " + apiHost + ":443 HTTP/1.1\r\nHost: " + apiHost + "\r\nConnection: close\r\n\r\n", "405"},
		"no protocol":          {"GET /no/protocol\r\n\r\n", "400"},
		"well-formed, chunked": {head + "Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n", "200"},
	} {
		t.Run(name, func(t *testing.T) {
			before := asked.Load()
			answer := e.raw(t, c.request)
			if !strings.HasPrefix(answer, "HTTP/1.1 "+c.status) || strings.Count(answer, "HTTP/1.1 ") != 1 {
				t.Errorf("want one answer %s, got %.300q", c.status, answer)
			}
			if got := asked.Load() - before; (got == 1) != (c.status == "200") {
				t.Errorf("the upstream was asked %d times", got)
			}
		})
	}
	if bad := e.counts(t, "v1").Bad; bad != 0 {
		t.Errorf("%d bad ones are counted for the arm; the clients were at fault", bad)
	}
}

func BenchmarkProxy(b *testing.B) {
	s := httptest.NewServer(says(strings.Repeat("x", 88)))
	defer s.Close()
	address := s.Listener.Addr().String()
	load := func(b *testing.B, e *running) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				req, err := http.NewRequest("GET", "http://"+e.address+"/", nil)
				if err != nil {
					b.Error(err)
					return
				}
				req.Host = apiHost
				res, err := e.http.Do(req)
				if err != nil {
					b.Error(err)
					return
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		})
	}
	b.Run("direct", func(b *testing.B) {
		e := &running{address: address, http: s.Client()}
		s.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = 64
		load(b, e)
	})
	b.Run("edge", func(b *testing.B) {
		e := start(b, Options{Log: b.TempDir() + "/access.log"})
		e.configure(b, service1(1, address))
		b.ResetTimer()
		load(b, e)
	})
}
