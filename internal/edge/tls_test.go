package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"makeitso/internal/edge/certificate"
	"makeitso/internal/fault"
)

// secure gives a client that trusts the edge's own authority and finds every
// host at one address.
func (r *running) secure(t testing.TB, address string, h2 bool) *http.Client {
	t.Helper()
	a, err := certificate.OpenAuthority(filepath.Join(filepath.Dir(r.options.Config), "certificates"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.PEM())
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: h2,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestHTTPSWithTheLocalAuthority(t *testing.T) {
	e := start(t, Options{})
	c := service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("X-Forwarded-Proto"), " ", r.Header.Get("Forwarded"))
	}))
	c.TLS = &TLS{Listen: "127.0.0.1:0"}
	e.configure(t, c)
	address := e.stats(t).Secure["127.0.0.1:0"]
	for _, h2 := range []bool{false, true} {
		client := e.secure(t, address, h2)
		res, err := client.Get("https://" + apiHost + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if want := `https for=127.0.0.1;host="` + apiHost + `";proto=https`; string(body) != want || (res.ProtoMajor == 2) != h2 {
			t.Errorf("HTTP/2 %t: got %s %q", h2, res.Proto, body)
		}
		if _, err := client.Get("https://unknown.localhost/"); err == nil {
			t.Error("there is a certificate for a host that was not configured")
		}
	}
	// Both lengths are seen over TLS too.
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: apiHost})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: "+apiHost+"\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400") {
		t.Errorf("got %q %v", answer, err)
	}
	c.Version, c.TLS = 2, nil
	e.configure(t, c)
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("HTTPS is spoken though it is not wanted any more")
	}
	c.Version, c.TLS = 3, &TLS{Sources: []certificate.Source{{Name: "local", Pairs: []certificate.Pair{{Certificate: "/nothing", Key: "/nothing"}}}}}
	if err := e.Configure(t.Context(), c); !fault.Is(err, fault.Invalid) || e.stats(t).Version != 2 {
		t.Errorf("files that are not there: %v", err)
	}
}

// TestEdgeOutlivesItsCertificates starts an edge again whose files are gone: it
// serves what it served, and tells.
func TestEdgeOutlivesItsCertificates(t *testing.T) {
	e := start(t, Options{})
	c := service1(1, backend(t, says("here")))
	e.configure(t, c)
	e.stop()
	c.TLS = &TLS{Sources: []certificate.Source{{Name: "local", Pairs: []certificate.Pair{{Certificate: "/nothing", Key: "/nothing"}}}}}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(e.options.Config, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	again := start(t, e.options)
	if _, body := again.get(t, apiHost, "/"); body != "here" {
		t.Errorf("got %q", body)
	}
	if all := again.stats(t).CertificateTroubles; len(all) != 1 || !strings.HasPrefix(all[0], "the certificate /nothing cannot be used") {
		t.Errorf("told is %q", all)
	}
}

func TestBalancerSpeaksHTTPSAtItsPort(t *testing.T) {
	e := start(t, Options{})
	_, port, _ := strings.Cut(refused(t), ":")
	var n int
	fmt.Sscan(port, &n)
	e.configure(t, Config{Version: 1, Balancers: []Balancer{{
		Name: "front", Hosts: []string{"front.localhost"}, Port: n, TLS: true,
		Rules: []Rule{{Redirect: &Redirect{Protocol: "#{protocol}", Host: "#{host}", Port: "#{port}", Path: "/x", Status: 302}}},
	}}})
	client := e.secure(t, "127.0.0.1:"+port, true)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, host := range []string{"front.localhost", "localhost", "127.0.0.1"} {
		res, err := client.Get("https://" + host + ":" + port + "/")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got, want := res.Header.Get("Location"), "https://"+host+":"+port+"/x"; got != want {
			t.Errorf("sent to %q, want %q", got, want)
		}
	}
}

// TestOneHostForHTTPAndHTTPS has a listener that sends to another one, whose
// port another program has.
func TestOneHostForHTTPAndHTTPS(t *testing.T) {
	e := start(t, Options{})
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	taken := other.Addr().(*net.TCPAddr).Port
	const host = "front.localhost"
	bucket := newBucket(t)
	bucket.put("index.html", "the site", "")
	c := bucket.site(1)
	c.Sites[0].Plain = PlainRedirected
	c.TLS = &TLS{Listen: "127.0.0.1:0"}
	c.Balancers = []Balancer{
		{Name: "plain", Hosts: []string{host}, Rules: []Rule{{
			If:       []Condition{{Field: ByPath, Values: []string{"/away"}}},
			Redirect: &Redirect{Protocol: "HTTPS", Host: "example.com", Port: fmt.Sprint(taken), Path: "/", Status: 301},
		}, {Redirect: &Redirect{Protocol: "HTTPS", Host: "#{host}", Port: fmt.Sprint(taken), Path: "/#{path}", Status: 301}}}},
		{Name: "sealed", Hosts: []string{host}, Port: taken, TLS: true, Rules: []Rule{{Fixed: &Fixed{Status: 200, Body: "sealed"}}}},
	}
	e.configure(t, c)
	s := e.stats(t)
	address := s.Secure["127.0.0.1:0"]
	if s.PortsRefused[taken] == "" || address == "" {
		t.Fatalf("refused are %v, secure %v", s.PortsRefused, s.Secure)
	}
	e.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, want := range [][3]string{
		{host, "/x", "https://" + host + ":" + portOf(address) + "/x"},
		{host, "/away", "https://example.com:" + fmt.Sprint(taken) + "/"},
		{siteHost, "/a%20b?c=d", "https://" + siteHost + ":" + portOf(address) + "/a%20b?c=d"},
	} {
		if res, _ := e.get(t, want[0], want[1]); res.StatusCode != 301 || res.Header.Get("Location") != want[2] {
			t.Errorf("%s%s is answered %s, %q", want[0], want[1], res.Status, res.Header.Get("Location"))
		}
	}
	read := func(host string) string {
		res, err := e.secure(t, address, true).Get("https://" + host + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return string(body)
	}
	if got := read(host) + ", " + read(siteHost); got != "sealed, the site" {
		t.Errorf("by HTTPS they say %q", got)
	}
	// One port speaks one of both: of two balancers the first has it.
	c.Version, c.Sites[0].Plain = 2, PlainRefused
	c.Balancers[0].Port = taken
	e.configure(t, c)
	if why := e.stats(t).PortsRefused[taken]; !strings.Contains(why, "in use") {
		t.Errorf("a port for HTTP and HTTPS: %q", why)
	}
	if res, _ := e.get(t, siteHost, "/"); res.StatusCode != 403 {
		t.Errorf("a site for HTTPS only is answered %s", res.Status)
	}
	other.Close()
	c.Version = 3
	e.configure(t, c)
	if why := e.stats(t).PortsRefused[taken]; !strings.Contains(why, "either HTTP or HTTPS") {
		t.Errorf("a port for HTTP and HTTPS: %q", why)
	}
	// Without a port of its own for HTTPS the edge gives what is behind it plainly.
	c.Version, c.TLS = 4, nil
	e.configure(t, c)
	if _, body := e.get(t, host, "/"); body != "sealed" {
		t.Errorf("plainly it says %q", body)
	}
	if res, _ := e.get(t, siteHost, "/"); res.StatusCode != 200 {
		t.Errorf("a site for HTTPS only, of which there is none, is answered %s", res.Status)
	}
}

// h2c gives a client that speaks HTTP/2 without TLS.
func h2c(t testing.TB) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// backend2 is an upstream that speaks HTTP/2 without TLS, and nothing else.
func backend2(t *testing.T, handler http.HandlerFunc) (address string) {
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// TestArmsSpeakTheirOwnProtocol has a version that speaks HTTP/1.1 beside one
// that speaks HTTP/2: both are well and answer.
func TestArmsSpeakTheirOwnProtocol(t *testing.T) {
	var asked sync.Map // the health of which protocol was asked for
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			asked.Store(r.Proto, true)
		}
		fmt.Fprint(w, r.Proto)
	}
	e := start(t, Options{})
	c := twoArms(1, backend(t, handler), backend2(t, handler), 0.5)
	c.Services[0].Health, c.Services[0].HealthInterval = "/healthz", time.Millisecond
	c.Services[0].Arms[1].Protocol = "h2c"
	e.configure(t, c)
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		eventually(t, "an answer by "+proto, func() bool { _, body := e.get(t, apiHost, "/"); return body == proto })
		eventually(t, "a health check by "+proto, func() bool { _, ok := asked.Load(proto); return ok })
	}
	if ill := e.stats(t).Unhealthy; len(ill) > 0 {
		t.Errorf("unhealthy are %v", ill)
	}
	if reason := (Check{Path: "/", Protocol: "h2c"}).Ask(t.Context(), c.Services[0].Arms[0].Instances[0].Address); reason == "" {
		t.Error("who speaks HTTP/1.1 alone is well where HTTP/2 is wanted")
	}
}

func TestGRPCGoesThrough(t *testing.T) {
	e := start(t, Options{})
	address := backend2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers" {
			t.Errorf("the server is asked by %s, TE %q", r.Proto, r.Header.Get("Te"))
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		w.(http.Flusher).Flush()
		message := make([]byte, 4)
		for {
			if _, err := io.ReadFull(r.Body, message); err != nil {
				break
			}
			w.Write(message)
			w.(http.Flusher).Flush()
		}
		w.Header().Set("Grpc-Status", "0")
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", "fine")
	})
	c := service1(1, address)
	c.Services[0].Arms[0].Protocol = "h2c"
	e.configure(t, c)
	body, send := io.Pipe()
	req := e.request(t, "POST", apiHost, "/pkg.Service/Method", body)
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	res, err := h2c(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for _, word := range []string{"one.", "two."} { // each comes back before the next is sent
		io.WriteString(send, word)
		got := make([]byte, 4)
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != word {
			t.Fatalf("after %q came %q %v", word, got, err)
		}
	}
	send.Close()
	if _, err := io.ReadAll(res.Body); err != nil || res.Trailer.Get("Grpc-Status") != "0" || res.Trailer.Get("Grpc-Message") != "fine" {
		t.Errorf("at the end: %v %v", err, res.Trailer)
	}
	e.awaitCounts(t, "v1", Counts{Requests: 1})
}

func TestHTTP2ServerThatHangs(t *testing.T) {
	e := start(t, Options{})
	c := service1(1, backend2(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	c.Services[0].Arms[0].Protocol, c.Services[0].RequestTimeout = "h2c", 100*time.Millisecond
	e.configure(t, c)
	for _, body := range []io.Reader{nil, strings.NewReader("x"), struct{ io.Reader }{strings.NewReader("y")}} {
		if res, _ := e.do(t, e.request(t, "POST", apiHost, "/", body)); res.StatusCode != 504 {
			t.Errorf("got %s", res.Status)
		}
	}
	e.awaitCounts(t, "v1", Counts{Requests: 3, Bad: 3})
}

func TestTrailersOfHTTP1(t *testing.T) {
	e := start(t, Options{})
	e.configure(t, service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.Copy(w, r.Body)
		w.Header().Set("X-Sum", "seen "+r.Trailer.Get("X-Check"))
	})))
	req := e.request(t, "POST", apiHost, "/", struct{ io.Reader }{strings.NewReader("body")})
	req.Trailer = http.Header{"X-Check": {"17"}}
	if res, body := e.do(t, req); body != "body" || res.Trailer.Get("X-Sum") != "seen 17" {
		t.Errorf("got %q, trailer %v", body, res.Trailer)
	}
}

// TestDrainTellsClientsToGo ends an edge with clients of both protocols.
func TestDrainTellsClientsToGo(t *testing.T) {
	e := start(t, Options{})
	arrived, release := make(chan struct{}, 2), make(chan struct{})
	e.configure(t, service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		fmt.Fprint(w, "done")
	})))
	type result struct {
		res  *http.Response
		body []byte
		err  error
	}
	results := make(chan result, 2)
	for _, client := range []*http.Client{e.http, h2c(t)} {
		go func() {
			res, err := client.Do(e.request(t, "GET", apiHost, "/", nil))
			var body []byte
			if err == nil {
				body, err = io.ReadAll(res.Body)
				res.Body.Close()
			}
			results <- result{res, body, err}
		}()
		<-arrived
	}
	ended := make(chan struct{})
	go func() { e.stop(); close(ended) }()
	eventually(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", e.address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(release)
	for range 2 {
		r := <-results
		if r.err != nil || string(r.body) != "done" {
			t.Errorf("under way: %q %v", r.body, r.err)
		} else if r.res.ProtoMajor == 1 && !r.res.Close {
			t.Error("an HTTP/1.1 client is not told that the connection ends")
		}
	}
	<-ended // an HTTP/2 client that were not told would hold it up
}
