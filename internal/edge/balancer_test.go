package edge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"makeitso/internal/fault"
)

func TestBalancerChoosesByRules(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	services := []Service{}
	for _, name := range []string{"blue", "green", "empty"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
		t.Cleanup(server.Close)
		s := Service{Name: name, Arms: []Arm{{Name: name, Weight: 1, Instances: []Instance{{ID: name, Address: server.Listener.Addr().String()}}}}}
		if name == "empty" {
			s.Arms[0].Instances = nil
		}
		services = append(services, s)
	}
	to := func(names ...string) (shares []Share) {
		for _, name := range names {
			shares = append(shares, Share{Service: name, Weight: 1})
		}
		return shares
	}
	e.configure(t, Config{Version: 1, Services: services, Balancers: []Balancer{{Name: "front", Hosts: []string{"front.shop.localhost"}, Rules: []Rule{
		{If: []Condition{{Field: ByPath, Values: []string{"/old/*"}}}, Redirect: &Redirect{Protocol: "#{protocol}", Host: "#{host}", Port: "#{port}", Path: "/new/#{path}", Query: "#{query}", Status: 301}},
		{If: []Condition{{Field: ByPath, Values: []string{"/secure"}}}, Redirect: &Redirect{Protocol: "HTTPS", Host: "#{host}", Port: "443", Path: "/#{path}", Status: 302}},
		{If: []Condition{{Field: ByHeader, Header: "User-Agent", Values: []string{"*Bot?1*"}}}, Fixed: &Fixed{Status: 418, Type: "text/plain", Body: "no bots"}},
		{If: []Condition{{Field: ByQuery, Query: []Pair{{Key: "color", Value: "green"}, {Value: "any"}}}, {Field: ByMethod, Values: []string{"GET"}}}, Forward: to("green")},
		{If: []Condition{{Field: BySource, Values: []string{"10.0.0.0/8"}}}, Fixed: &Fixed{Status: 500}},
		{If: []Condition{{Field: ByHost, Values: []string{"other.*"}}}, Fixed: &Fixed{Status: 500}},
		{If: []Condition{{Field: ByPath, Values: []string{"/none"}}}, Forward: to("empty")},
		{If: []Condition{{Field: ByPath, Values: []string{"/none-at-all"}}}, Forward: []Share{{Service: "blue"}}},
		{Forward: to("blue")},
	}}}})
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	_, port, _ := strings.Cut(e.address, ":")
	for _, c := range []struct {
		method, path, agent string
		status              int
		want                string // of the body, or the Location
	}{
		{"GET", "/", "", 200, "blue"},
		{"GET", "/OLD/x", "", 200, "blue"}, // in a path, case counts
		{"GET", "/old/x?a=1", "", 301, "http://front.shop.localhost:" + port + "/new/old/x?a=1"},
		{"GET", "/secure", "", 302, "https://front.shop.localhost/secure"},
		{"GET", "/", "a bot-1 of ours", 418, "no bots"},
		{"GET", "/?Color=GREEN", "", 200, "green"},
		{"GET", "/?x=any", "", 200, "green"},
		{"POST", "/?color=green", "", 200, "blue"},
		{"GET", "/none", "", 503, ""},
		{"GET", "/none-at-all", "", 503, ""},
	} {
		req := e.request(t, c.method, "front.shop.localhost:"+port, c.path, nil)
		req.Header.Set("User-Agent", c.agent)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := string(body) + res.Header.Get("Location"); res.StatusCode != c.status || c.want != "" && got != c.want {
			t.Errorf("%s %s gives %d %q; want %d %q", c.method, c.path, res.StatusCode, got, c.status, c.want)
		}
	}
}

func TestSharesAreByWeight(t *testing.T) {
	t.Parallel()
	drawn := map[string]int{}
	for range 4000 {
		drawn[drawShare([]Share{{"a", 3}, {"none", 0}, {"b", 1}})]++
	}
	if drawn["none"] > 0 || drawn["a"] < 2700 || drawn["a"] > 3300 {
		t.Errorf("of weights 3, 0 and 1 come %v", drawn)
	}
}

func TestLike(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"*", "", true}, {"a", "", false}, {"a*c", "abbc", true}, {"a*c", "abcd", false}, {"a?c", "ac", false},
		{"*.example.com", "a.b.example.com", true}, {"*.example.com", "example.com", false}, {"/img/*/x?.png", "/img/a/b/x1.png", true}, {"a**", "a", true},
	} {
		if got := like(c.pattern, c.text); got != c.want {
			t.Errorf("like(%q, %q) is %t", c.pattern, c.text, got)
		}
	}
}

func TestWrongBalancersAreRefused(t *testing.T) {
	t.Parallel()
	c := Config{Version: 1, Services: []Service{{Name: "s", HealthCodes: "2xx"}}, Balancers: []Balancer{{Name: "b", Hosts: []string{"a b"}, Rules: []Rule{
		{}, {Forward: []Share{{Service: "none", Weight: -1}}}, {Fixed: &Fixed{Status: 99}}, {Redirect: &Redirect{Status: 200}},
		{If: []Condition{{Field: "moon"}, {Field: BySource, Values: []string{"here"}}}, Fixed: &Fixed{Status: 200}},
	}}, {Name: "b"}}}
	err := c.Validate()
	if !fault.Is(err, fault.Invalid) {
		t.Fatal(err)
	}
	for _, want := range []string{"2xx", "a b", "neither forward", "no service", "weight is -1", "status 99", "status 200", `condition of "moon"`, `"here" is no network`, `has "b" twice`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestBalancersAnswerAtTheirPorts(t *testing.T) {
	t.Parallel()
	port := func(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }
	var held []net.Listener
	for range 3 { // all at once: one that was closed before could be given out again
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		held = append(held, l)
	}
	e := start(t, Options{})
	_, ownPort, _ := strings.Cut(e.address, ":")
	own, err := strconv.Atoi(ownPort)
	if err != nil {
		t.Fatal(err)
	}
	one, shared, taken := port(held[0]), port(held[1]), port(held[2])
	if err := errors.Join(held[0].Close(), held[1].Close()); err != nil {
		t.Fatal(err)
	}
	says := func(name string, port int, host string) Balancer {
		return Balancer{Name: name, Hosts: []string{host}, Port: port, Rules: []Rule{{Fixed: &Fixed{Status: 200, Body: name}}}}
	}
	e.configure(t, Config{Version: 1, Balancers: []Balancer{
		says("alone", one, "alone.localhost"), says("left", shared, "left.localhost"), says("right", shared, fmt.Sprint(shared)+".right.localhost"), says("refused", taken, "refused.localhost"),
		says("own", own, "own.localhost"),
	}})
	ask := func(port int, host string) (string, error) {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", port), nil)
		if err != nil {
			return "", err
		}
		req.Host, req.Close = host, true
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return strconv.Itoa(res.StatusCode) + " " + string(body), err
	}
	for _, c := range []struct {
		port       int
		host, want string
	}{
		{one, "any.example.com", "200 alone"}, {shared, "left.localhost", "200 left"}, {shared, "right.localhost:" + fmt.Sprint(shared), "200 right"}, {shared, "x.localhost", "404"}, {own, "own.localhost", "200 own"}, {own, "x.localhost", "404"},
	} {
		if got, err := ask(c.port, c.host); err != nil || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s at port %d: %q, %v; want %q", c.host, c.port, got, err, c.want)
		}
	}
	if _, body := e.get(t, "refused.localhost", "/"); body != "refused" {
		t.Errorf("at the edge's own port it says %q", body)
	}
	if s := e.stats(t); len(s.PortsRefused) != 1 || !strings.Contains(s.PortsRefused[taken], "in use") {
		t.Errorf("refused are %v; want %d", s.PortsRefused, taken)
	}
	e.configure(t, Config{Version: 2})
	if got, err := ask(one, "alone.localhost"); err == nil {
		t.Errorf("a port that nobody has any more answers %q", got)
	}
	e.configure(t, Config{Version: 3, Balancers: []Balancer{says("again", one, "again.localhost")}})
	if got, err := ask(one, "again.localhost"); err != nil || got != "200 again" {
		t.Errorf("a port that is taken again answers %q, %v", got, err)
	}
}

func TestHealthByTheServicesThresholds(t *testing.T) {
	t.Parallel()
	var h health
	p := probe{out: 3, in: 2}
	for i, step := range []struct {
		reason string
		out    bool
	}{{"a", false}, {"b", false}, {"c", true}, {"", true}, {"d", true}, {"", true}, {"", false}} {
		h.report(p, step.reason)
		if h.out() != step.out {
			t.Errorf("step %d: out is %v", i, h.out())
		}
	}
}
