package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"makeitso/internal/fault"
	"makeitso/internal/statefile"
)

// freePort gives a port that neither a UDP nor a TCP socket has.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp4", Address(0))
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		packets, err := net.ListenPacket("udp4", Address(port))
		l.Close()
		if err == nil {
			packets.Close()
			return port
		}
	}
	t.Fatal("no port is free for both")
	return 0
}

// serve serves c until the test ends, and looks that it ends well.
func serve(t *testing.T, c *Config) (file string) {
	t.Helper()
	c.Port = freePort(t)
	file = filepath.Join(t.TempDir(), "zones.json")
	if err := statefile.Write(file, c); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, file) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for Reload(t.Context(), c.Port) != nil {
		select {
		case err := <-ended:
			ended <- err
			t.Fatal(err)
		case <-time.After(5 * time.Millisecond): // it tells nobody when it listens
		}
	}
	return file
}

func ask(t *testing.T, port int, network, name string, typ uint16, change func(*wire.Msg)) *wire.Msg {
	t.Helper()
	q := new(wire.Msg)
	q.SetQuestion(name, typ)
	if change != nil {
		change(q)
	}
	client := wire.Client{Net: network, Timeout: 5 * time.Second}
	reply, _, err := client.ExchangeContext(t.Context(), q, Address(port))
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestServer(t *testing.T) {
	t.Parallel()
	c := exampleConfig(t)
	file := serve(t, c)
	for _, network := range []string{"udp4", "tcp4"} {
		got := ask(t, c.Port, network, "WWW.example.com.", wire.TypeA, nil)
		if len(got.Answer) != 3 || !got.Authoritative || got.RecursionAvailable || got.Question[0].Name != "WWW.example.com." {
			t.Errorf("over %s: %v", network, got)
		}
	}
	for what, wrong := range map[string]func(*wire.Msg){
		"another class": func(q *wire.Msg) { q.Question[0].Qclass = wire.ClassHESIOD },
		"a transfer":    func(q *wire.Msg) { q.Question[0].Qtype = wire.TypeAXFR },
		"no such check": func(q *wire.Msg) { q.Question[0].Qclass, q.Question[0].Qtype = wire.ClassCHAOS, wire.TypeTXT },
	} {
		if got := ask(t, c.Port, "udp4", "example.com.", wire.TypeA, wrong); got.Rcode != wire.RcodeRefused || got.Authoritative {
			t.Errorf("%s: %v", what, got)
		}
	}
	got := ask(t, c.Port, "udp4", "example.com.", wire.TypeA, func(q *wire.Msg) { q.SetEdns0(1232, true); q.IsEdns0().SetVersion(1) })
	if got.Rcode != wire.RcodeBadVers {
		t.Errorf("EDNS of version 1: %v", got)
	}

	// New zones come whole, or the old ones stay.
	changed := exampleConfig(t)
	changed.Port = c.Port
	changed.Drop("all")
	if err := changed.Put("new", []Record{{Zone: "Z1", Name: "www.example.com.", Type: "A", Values: []string{"192.0.2.99"}}}); err != nil {
		t.Fatal(err)
	}
	reload := func(c *Config) error {
		t.Helper()
		if err := statefile.Write(file, c); err != nil {
			t.Fatal(err)
		}
		return Reload(t.Context(), c.Port)
	}
	if err := reload(changed); err != nil {
		t.Fatal(err)
	}
	broken := *changed
	broken.Records = append(broken.Records, Record{Zone: "none", Name: "x.example.com.", Type: "A"})
	if err := reload(&broken); !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "record x.example.com. A lies in no zone") {
		t.Errorf("reload of broken zones: %v", err)
	}
	if got := ask(t, c.Port, "udp4", "www.example.com.", wire.TypeA, nil); len(got.Answer) != 1 {
		t.Errorf("after a broken reload: %v", got)
	}
	if err := Reload(t.Context(), freePort(t)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("reload where nothing listens: %v", err)
	}
}

// TestStrangers sends what is no query: the server answers the next one still.
func TestStrangers(t *testing.T) {
	t.Parallel()
	c := exampleConfig(t)
	serve(t, c)
	conn, err := net.Dial("udp4", Address(c.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, text := range []string{"", "x", strings.Repeat("\xff", 12), strings.Repeat("\x00", 600), "\x00\x01\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01"} {
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got := ask(t, c.Port, "udp4", "www.example.com.", wire.TypeA, nil); len(got.Answer) != 3 {
		t.Errorf("got %v", got)
	}
}

// TestChecksLook follows one endpoint of each kind while it ends and comes back.
func TestChecksLook(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	var host, path, agent atomic.Value
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host.Store(r.Host)
		path.Store(r.URL.RequestURI())
		agent.Store(r.UserAgent())
		if broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	port := func(s *httptest.Server) int { return s.Listener.Addr().(*net.TCPAddr).Port }
	told := make(chan string, 100)
	lookup := func(_ context.Context, host string) (string, error) {
		if host != "www.test" {
			return "", errors.New("no such host")
		}
		return thisHost, nil
	}
	k := newChecker(lookup, func(text string) { told <- text })
	defer k.close()
	check := func(id, typ string, change func(*Check)) Check {
		c := Check{ID: id, Type: typ, Address: thisHost, Port: port(plain), Interval: time.Millisecond, Threshold: 2}
		change(&c)
		return c
	}
	checks := []Check{
		check("http", "HTTP", func(c *Check) { c.Address, c.Host, c.Path = "", "www.test", "/alive?x=1" }),
		check("https", "HTTPS", func(c *Check) { c.Port, c.SNI = port(secure), true }),
	}
	until := func(want ...string) {
		t.Helper()
		missing := map[string]bool{}
		for _, text := range want {
			missing[text] = true
		}
		for len(missing) > 0 {
			select {
			case text := <-told:
				delete(missing, text)
			case <-time.After(20 * time.Second):
				t.Fatalf("not told: %v", missing)
			}
		}
	}
	broken.Store(true)
	k.set(checks)
	until("health check http is Unhealthy: it answers 500 Internal Server Error", "health check https is Unhealthy: it answers 500 Internal Server Error")
	broken.Store(false)
	until("health check http is Healthy", "health check https is Healthy")
	if !k.healthy("http") || k.text("https") != "Healthy" {
		t.Errorf("http %v, https %q", k.healthy("http"), k.text("https"))
	}
	k.set(nil)
	k.running.Wait() // with nothing to look after, nobody looks
	if got := fmt.Sprint(host.Load(), path.Load(), agent.Load()); !strings.Contains(got, "Amazon-Route53-Health-Check-Service") {
		t.Errorf("asked as %s", got)
	}

	closed := freePort(t)
	for _, c := range []struct {
		check Check
		want  string
	}{
		{check("", "TCP", func(*Check) {}), ""},
		{check("", "TCP", func(c *Check) { c.Port = closed }), "connection refused"},
		{check("", "HTTP", func(c *Check) { c.Port = port(secure) }), "400"},
		{check("", "HTTP_STR_MATCH", func(c *Check) { c.Search = "elsewhere" }), ""},
		{check("", "HTTP_STR_MATCH", func(c *Check) { c.Search = "nowhere" }), `does not hold "nowhere"`},
		{check("", "HTTP", func(c *Check) { c.Address, c.Host = "", "none.test" }), "no such host"},
	} {
		err := k.look(t.Context(), c.check)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v; want %q", c.check, err, c.want)
		}
	}
	if err := k.look(t.Context(), checks[0]); err != nil || host.Load() != fmt.Sprintf("www.test:%d", checks[0].Port) || path.Load() != "/alive?x=1" {
		t.Errorf("%v: asked %s for %s", err, host.Load(), path.Load())
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	z, err := compile(exampleConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{checks: newChecker(nil, nil)}
	s.zones.Store(z)
	for name, want := range map[string]string{
		"x.w.example.com": "192.0.2.", "api.shop.localhost": "127.0.0.1", "localhost": "127.0.0.1", "none.c.example.com": "", "a..b": "",
	} {
		got, err := s.lookup(t.Context(), name)
		if (err == nil) != (want != "") || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}
