package edge

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"makeitso/internal/edge/certificate"
	"makeitso/internal/fault"
)

// binomialTails gives P(X <= k) and P(X >= k) of n throws with chance p.
func binomialTails(n, k int, p float64) (below, above float64) {
	at := func(i int) float64 {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(i + 1))
		c, _ := math.Lgamma(float64(n - i + 1))
		return math.Exp(a - b - c + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	for i := range n + 1 {
		if i <= k {
			below += at(i)
		}
		if i >= k {
			above += at(i)
		}
	}
	return below, above
}

func checkBinomial(t *testing.T, what string, n, k int, p float64) {
	t.Helper()
	const chance = 1e-9 // of a false alarm, on each side
	if below, above := binomialTails(n, k, p); below < chance || above < chance {
		t.Errorf("%s: %d of %d at %.3f; the chance of that is %.2g", what, k, n, p, min(below, above))
	}
}

func TestArmIsAnIndependentCoin(t *testing.T) {
	const n = 200_000
	for _, w := range []float64{0.01, 0.1, 0.5} {
		c := twoArms(1, "127.0.0.1:1", "127.0.0.1:2", w)
		c.Services[0].Arms[0].Weight, c.Services[0].Arms[1].Weight = 7*(1-w), 7*w // only ratios matter
		table, err := newTable(c, &table{})
		if err != nil {
			t.Fatal(err)
		}
		s := table.serviceFor(apiHost, "/")
		canary, both, before := 0, 0, false
		for range n {
			drawn := s.choose(nil)
			is := drawn.arm.Name == "canary"
			if is {
				canary++
			}
			if is && before {
				both++
			}
			before = is
			if !drawn.fair {
				t.Fatal("a first draw is not fair")
			}
		}
		checkBinomial(t, "canary", n, canary, w)
		// Given the arm before, the next one has the same chance: a smooth
		// round robin has the right share and fails here.
		checkBinomial(t, "canary after canary", canary, both, w)
	}
}

func TestWeightsHoldOverHTTP(t *testing.T) {
	e := start(t, Options{})
	e.configure(t, twoArms(1, backend(t, says("old")), backend(t, says("canary")), 0.1))
	const n = 3000
	seen := map[string]int{}
	for range n {
		_, body := e.get(t, apiHost, "/")
		seen[body]++
	}
	checkBinomial(t, "canary", n, seen["canary"], 0.1)
	e.awaitCounts(t, "canary", Counts{Requests: int64(seen["canary"])})
	e.awaitCounts(t, "old", Counts{Requests: int64(seen["old"])})
}

func TestLessLoadedOfTwoIsChosen(t *testing.T) {
	var all []*instance
	for i := range 3 {
		in := &instance{Instance: Instance{ID: fmt.Sprint(i)}}
		all = append(all, in)
	}
	all[0].inFlight.Store(5)
	all[1].inFlight.Store(1)
	a := &arm{instances: all}
	picked := map[string]int{}
	const n = 3000
	for range n {
		picked[a.pick(nil).ID]++
	}
	if picked["0"] > 0 {
		t.Errorf("the most loaded instance was picked: %v", picked)
	}
	checkBinomial(t, "the least loaded", n, picked["2"], 2.0/3) // it is in two of three pairs
	all[1].inFlight.Store(0)
	all[0].inFlight.Store(0)
	clear(picked)
	for range n {
		picked[a.pick(nil).ID]++
	}
	for id, k := range picked {
		checkBinomial(t, "equal load, "+id, n, k, 1.0/3)
	}
}

// server is an upstream that is cut off when it is stopped: the edge has to be
// right that nothing is under way there.
type server struct {
	id, address string
	stop        func()
}

func beginServer(t testing.TB, number int) server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Millisecond) // a request takes a while
		fmt.Fprint(w, "ok")
	})}
	go s.Serve(l)
	return server{fmt.Sprint("i-", number), l.Addr().String(), func() { s.Close() }}
}

// TestNothingIsLostWhileChanging swaps weights and replaces instances, each
// stopped as soon as the edge shows nothing under way there.
func TestNothingIsLostWhileChanging(t *testing.T) {
	e := start(t, Options{})
	old, canary := beginServer(t, 0), beginServer(t, 1)
	defer func() { old.stop(); canary.stop() }()
	version := int64(0)
	configure := func(weight float64, leaving ...Instance) {
		version++
		c := twoArms(version, old.address, canary.address, weight)
		c.Services[0].Health, c.Services[0].HealthInterval = "/", 5*time.Millisecond
		c.Services[0].Arms[0].Instances[0].ID, c.Services[0].Arms[1].Instances[0].ID = old.id, canary.id
		c.Services[0].Arms[1].Instances = append(c.Services[0].Arms[1].Instances, leaving...)
		e.configure(t, c)
	}
	configure(0.5)

	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var sent, lost atomic.Int64
	for i := range 8 {
		load.Go(func() {
			for ctx.Err() == nil {
				method := []string{"GET", "POST"}[i%2]
				req := e.request(t, method, apiHost, "/", strings.NewReader(strings.Repeat("b", i*100)))
				res, body := e.do(t, req)
				sent.Add(1)
				if res.StatusCode != 200 || body != "ok" {
					lost.Add(1)
					t.Errorf("%s: %s %.200q", method, res.Status, body)
				}
			}
		})
	}
	for i := range 50 {
		configure(float64(i%10+1) / 11)
	}
	for i := range 20 {
		next := beginServer(t, i+2)
		gone := canary
		canary = next
		configure(0.5, Instance{ID: gone.id, Address: gone.address, Draining: true})
		eventually(t, gone.id+" is empty", func() bool { return e.stats(t).InFlight[gone.id] == 0 })
		gone.stop()
		if i%2 == 0 {
			old, canary = canary, old // both arms get new ones
		}
	}
	cancel()
	load.Wait()
	if sent.Load() < 200 || lost.Load() > 0 {
		t.Errorf("%d of %d requests failed", lost.Load(), sent.Load())
	}
	var counted int64
	eventually(t, "every request is counted", func() bool {
		s := e.stats(t).Services["local/api"]
		counted = s["old"].Requests + s["canary"].Requests
		return counted == sent.Load()
	})
	s := e.stats(t)
	if s.Version != version || len(s.Unhealthy) > 0 || s.Services["local/api"]["canary"].Bad > 0 {
		t.Errorf("at the end: %+v", s)
	}
}

func TestHealthChecksTakeInstancesOutAndIn(t *testing.T) {
	e := start(t, Options{})
	var sick atomic.Bool
	var host atomic.Value
	named := func(name string) string {
		return backend(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/healthz" {
				host.Store(r.Host)
				if name == "a" && sick.Load() {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				return
			}
			fmt.Fprint(w, name)
		})
	}
	c := service1(1, named("a"), named("b"))
	c.Services[0].Health, c.Services[0].HealthInterval = "/healthz", 2*time.Millisecond
	e.configure(t, c)
	seen := func() map[string]int {
		found := map[string]int{}
		for range 40 {
			_, body := e.get(t, apiHost, "/")
			found[body]++
		}
		return found
	}
	if found := seen(); found["a"] == 0 || found["b"] == 0 {
		t.Errorf("both are healthy, answers: %v", found)
	}
	sick.Store(true)
	eventually(t, "a is out", func() bool { return e.stats(t).Unhealthy["v1-0"] != "" })
	if reason := e.stats(t).Unhealthy["v1-0"]; reason != "GET /healthz answered 503 Service Unavailable" {
		t.Errorf("the reason is %q", reason)
	}
	if found := seen(); found["a"] > 0 {
		t.Errorf("a is out, answers: %v", found)
	}
	// A new document knows what was found before, and asks on.
	c.Version, c.Services[0].HealthInterval = 2, 3*time.Millisecond
	e.configure(t, c)
	if found := seen(); found["a"] > 0 {
		t.Errorf("a is out after a new configuration, answers: %v", found)
	}
	c.Version, c.Services[0].Arms[0].Instances = 3, c.Services[0].Arms[0].Instances[:1]
	e.configure(t, c)
	if found := seen(); found["a"] != 40 {
		t.Errorf("a is the only one and is tried though it is out, answers: %v", found)
	}
	sick.Store(false)
	eventually(t, "a is in", func() bool { return len(e.stats(t).Unhealthy) == 0 })
	if got := host.Load(); got != apiHost {
		t.Errorf("the health check asks for host %q", got)
	}
}

func TestRefusingInstanceComesBackWhenItAnswers(t *testing.T) {
	e := start(t, Options{})
	address := refused(t)
	c := service1(1, address)
	c.Services[0].HealthInterval = 2 * time.Millisecond
	e.configure(t, c)
	if res, _ := e.get(t, apiHost, "/"); res.StatusCode != 502 {
		t.Errorf("got %s", res.Status)
	}
	if len(e.stats(t).Unhealthy) != 1 {
		t.Error("an instance that refused a connection is not out")
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: says("back")}
	go s.Serve(l)
	defer s.Close()
	eventually(t, "it is in", func() bool { return len(e.stats(t).Unhealthy) == 0 })
	if _, body := e.get(t, apiHost, "/"); body != "back" {
		t.Errorf("got %q", body)
	}
}

func TestHealthNeedsTwoFailuresAndOneSuccess(t *testing.T) {
	var h health
	for i, step := range []struct {
		reason string
		out    bool
	}{{"one", false}, {"", false}, {"one", false}, {"two", true}, {"three", true}, {"", false}, {"one", false}} {
		h.report(probe{out: failuresUntilOut, in: 1}, step.reason)
		if h.out() != step.out {
			t.Errorf("step %d: out is %v", i, h.out())
		}
	}
}

func TestWrongConfigurationIsRefusedAndTheOldOneStays(t *testing.T) {
	e := start(t, Options{})
	address := backend(t, says("old one"))
	good := service1(5, address)
	e.configure(t, good)
	e.configure(t, good) // the same again is fine
	site := Site{Name: "www", Hosts: []string{"www.shop.localhost"}, Behavior: Behavior{Origin: "http://127.0.0.1:9000/bucket"}}
	for name, c := range map[string]struct {
		change func(*Config)
		code   fault.Code
		text   string
	}{
		"older":             {func(c *Config) { c.Version = 4 }, fault.Conflict, "version 5 already"},
		"same version":      {func(c *Config) { c.Version = 5; c.Services[0].Health = "/x" }, fault.Conflict, "version 5 already"},
		"version 0":         {func(c *Config) { c.Version = 0 }, fault.Invalid, "versions begin at 1"},
		"negative weight":   {func(c *Config) { c.Services[0].Arms[0].Weight = -1 }, fault.Invalid, `arm "v1": weight is -1`},
		"no weight":         {func(c *Config) { c.Services[0].Arms[0].Weight = 0 }, fault.Invalid, "every arm has weight 0"},
		"no name":           {func(c *Config) { c.Services[0].Name = "" }, fault.Invalid, "services[0] has no name"},
		"same arm":          {func(c *Config) { a := &c.Services[0].Arms; *a = append(*a, Arm{Name: "v1", Weight: 1}) }, fault.Invalid, `"v1" twice`},
		"same host":         {func(c *Config) { site := site; site.Hosts = []string{"API.shop.localhost"}; c.Sites = []Site{site} }, fault.Invalid, `host "api.shop.localhost" is given to service "local/api" and to site "www"`},
		"host with port":    {func(c *Config) { c.Services[0].Hosts[0] = "a.localhost:80" }, fault.Invalid, "without port"},
		"same instance":     {func(c *Config) { i := &c.Services[0].Arms[0].Instances; *i = append(*i, (*i)[0]) }, fault.Invalid, `instance "v1-0" is in`},
		"no port":           {func(c *Config) { c.Services[0].Arms[0].Instances[0].Address = "localhost" }, fault.Invalid, "it is host:port"},
		"health path":       {func(c *Config) { c.Services[0].Health = "healthz" }, fault.Invalid, "a path begins with /"},
		"negative time":     {func(c *Config) { c.Services[0].RequestTimeout = -1 }, fault.Invalid, "requestTimeout is -1ns"},
		"origin not a URL":  {func(c *Config) { site := site; site.Origin = "bucket"; c.Sites = []Site{site} }, fault.Invalid, "it is a bucket's URL"},
		"one key":           {func(c *Config) { site := site; site.AccessKey = "k"; c.Sites = []Site{site} }, fault.Invalid, "both or none"},
		"error status":      {func(c *Config) { site := site; site.Errors = map[int]Error{200: {"/x", 200}}; c.Sites = []Site{site} }, fault.Invalid, "from 400 to 599"},
		"error page's path": {func(c *Config) { site := site; site.Errors = map[int]Error{404: {"x", 200}}; c.Sites = []Site{site} }, fault.Invalid, "a path begins with /"},
		"behavior's path": {func(c *Config) {
			site := site
			site.Behaviors = []PathBehavior{{"", site.Behavior}}
			c.Sites = []Site{site}
		}, fault.Invalid, "behaviors[0] has no path"},
		"behavior's origin": {func(c *Config) { site := site; site.Behaviors = []PathBehavior{{Path: "/x"}}; c.Sites = []Site{site} }, fault.Invalid, `behavior "/x": origin is ""`},
		"behavior's terms":  {func(c *Config) { site := site; site.MinTTL, site.MaxTTL = 2, 1; c.Sites = []Site{site} }, fault.Invalid, "minTTL is 2ns"},
		"redirect": {func(c *Config) {
			site := site
			site.Redirects = []SiteRedirect{{"/a", "/:b", 301}}
			c.Sites = []Site{site}
		}, fault.Invalid, "redirects[0]: to has :b"},
		"fallback": {func(c *Config) { site := site; site.Fallback = "x"; c.Sites = []Site{site} }, fault.Invalid, "fallback is"},
		"one host of two authorities": {func(c *Config) {
			a := &certificate.ACME{Hosts: []string{"a.example.com"}}
			c.TLS = &TLS{Sources: []certificate.Source{{Name: "one", ACME: a}, {Name: "two", ACME: a}}}
		}, fault.Invalid, `host "a.example.com" is asked for by "one" and by "two"`},
	} {
		t.Run(name, func(t *testing.T) {
			config := service1(6, refused(t))
			c.change(&config)
			err := e.Configure(t.Context(), config)
			if fault.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %s … %s", err, c.code, c.text)
			}
			if _, body := e.get(t, apiHost, "/"); body != "old one" || e.stats(t).Version != 5 {
				t.Errorf("the old configuration is not in force: %q", body)
			}
		})
	}
	all := service1(6, "x")
	all.Services[0].Arms[0].Weight, all.Services[0].Health = -1, "x"
	if err := all.Validate(); strings.Count(err.Error(), ";") < 2 {
		t.Errorf("not every mistake is named: %v", err)
	}
	var kept Config
	raw, err := os.ReadFile(e.options.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &kept); err != nil || kept.Version != 5 || kept.Services[0].Arms[0].Instances[0].Address != address {
		t.Errorf("kept is %s %v", raw, err)
	}
	files, err := os.ReadDir(filepath.Dir(e.options.Config))
	if err != nil || len(files) != 2 {
		t.Errorf("files left behind: %v %v", files, err)
	}
}

func TestConfigurationThatCannotBeKeptIsNotInForce(t *testing.T) {
	e := start(t, Options{Config: filepath.Join(t.TempDir(), "gone", "edge.json")})
	err := e.Configure(t.Context(), service1(1, refused(t)))
	if !fault.Is(err, fault.Unavailable) || e.stats(t).Version != 0 {
		t.Errorf("got %v, version %d", err, e.stats(t).Version)
	}
}

func TestControlRefusesWhatItDoesNotKnow(t *testing.T) {
	e := start(t, Options{})
	var answer map[string]string
	err := e.call(t.Context(), "PUT", "/config", map[string]any{"version": 1, "stickiness": true}, &answer)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "stickiness") {
		t.Errorf("got %v", err)
	}
	if err := e.call(t.Context(), "GET", "/nothing", nil, nil); !fault.Is(err, fault.Internal) {
		t.Errorf("got %v", err)
	}
}

func TestCountsSurviveConfigurations(t *testing.T) {
	e := start(t, Options{})
	address := backend(t, says("x"))
	version := int64(0)
	release := func(arm string) {
		version++
		c := service1(version, address)
		c.Services[0].Arms[0].Name = arm
		c.Services[0].Arms[0].Instances[0].ID = arm
		e.configure(t, c)
		e.get(t, apiHost, "/")
	}
	release("first")
	release("second")
	release("first")
	e.awaitCounts(t, "first", Counts{Requests: 2})
	for i := range keptArms {
		release(fmt.Sprint("r", i))
	}
	release("last")
	arms := e.stats(t).Services["local/api"]
	if len(arms) != keptArms+1 || arms["r0"].Requests != 1 {
		t.Errorf("the edge keeps %d arms: %v", len(arms), arms)
	}
	if _, kept := arms["second"]; kept {
		t.Error("the arm that left first is still counted")
	}
}

func TestTakenAddresses(t *testing.T) {
	first := start(t, Options{})
	dir := t.TempDir()
	for name, c := range map[string]struct {
		options Options
		code    fault.Code
		text    string
	}{
		"port":         {Options{Listen: first.address, Socket: dir + "/s"}, fault.Conflict, first.address + ": another program has that port"},
		"socket":       {Options{Listen: "127.0.0.1:0", Socket: first.options.Socket}, fault.Conflict, "another edge serves"},
		"not ours":     {Options{Listen: "192.0.2.1:80", Socket: dir + "/s"}, fault.Invalid, "cannot listen on 192.0.2.1:80"},
		"long path":    {Options{Listen: "127.0.0.1:0", Socket: dir + strings.Repeat("/x", 60)}, fault.Invalid, "at most 107"},
		"no folder":    {Options{Listen: "127.0.0.1:0", Socket: dir + "/no/s"}, fault.Unavailable, "cannot make its socket"},
		"log":          {Options{Listen: "127.0.0.1:0", Socket: dir + "/s", Log: dir + "/no/log"}, fault.Unavailable, "cannot write its log"},
		"nothing said": {Options{}, fault.Invalid, "needs an address"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Main(t.Context(), c.options)
			if fault.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %s … %s", err, c.code, c.text)
			}
			if c.code == fault.Conflict && name == "port" && !strings.Contains(fault.HintOf(err), "--listen 127.0.0.1:") {
				t.Errorf("the hint is %q", fault.HintOf(err))
			}
		})
	}
	if err := os.WriteFile(dir+"/edge.json", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Main(t.Context(), Options{Listen: "127.0.0.1:0", Socket: dir + "/s", Config: dir + "/edge.json"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a damaged saved configuration: %v", err)
	}
	// A socket that a killed edge left behind is replaced.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/left", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	start(t, Options{Socket: dir + "/left"})
}

func TestDrain(t *testing.T) {
	for name, c := range map[string]struct {
		drain    time.Duration
		finishes bool
	}{"finishes": {5 * time.Second, true}, "is cut off": {50 * time.Millisecond, false}} {
		t.Run(name, func(t *testing.T) {
			e := start(t, Options{Drain: c.drain})
			arrived, release := make(chan struct{}), make(chan struct{})
			e.configure(t, service1(1, backend(t, func(w http.ResponseWriter, r *http.Request) {
				close(arrived)
				select {
				case <-release:
				case <-r.Context().Done():
				}
				fmt.Fprint(w, "done")
			})))
			got := make(chan error, 1)
			go func() {
				res, err := e.http.Do(e.request(t, "GET", apiHost, "/", nil))
				if err == nil {
					res.Body.Close()
				}
				got <- err
			}()
			<-arrived
			ended := make(chan struct{})
			go func() { e.stop(); close(ended) }()
			eventually(t, "new connections are refused", func() bool {
				conn, err := net.Dial("tcp", e.address)
				if err == nil {
					conn.Close()
				}
				return err != nil
			})
			if c.finishes {
				close(release)
			}
			if err := <-got; (err == nil) != c.finishes {
				t.Errorf("the request under way: %v", err)
			}
			<-ended
		})
	}
}

func TestAccessLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	e := start(t, Options{Log: path, LogBytes: 2000})
	e.configure(t, service1(1, backend(t, says("hello"))))
	const n = 18
	for i := range n {
		e.get(t, apiHost, fmt.Sprint("/", i))
	}
	e.stop()
	var lines []string
	for _, name := range []string{path + ".2", path + ".1", path} {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) > 2000 {
			t.Errorf("%s has %d bytes", name, len(raw))
		}
		lines = append(lines, strings.Split(strings.TrimSpace(string(raw)), "\n")...)
	}
	if len(lines) != n {
		t.Fatalf("%d lines for %d requests", len(lines), n)
	}
	for i, line := range lines {
		var l entry
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if l.Path != fmt.Sprint("/", i) || l.Host != apiHost || l.Method != "GET" || l.Status != 200 || l.Bytes != 5 ||
			l.Service != "local/api" || l.Arm != "v1" || l.Instance != "v1-0" || l.Ms <= 0 || l.Time.IsZero() || l.ID == "" {
			t.Errorf("line %d: %s", i, line)
		}
	}
}

// What is no file is written to, and never renamed: /dev/null is everybody's.
func TestAccessLogIntoAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(path, os.O_RDWR, 0) // which waits for nobody
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	l, err := openAccessLog(path, 10)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(pipe)
	for i := range 3 {
		l.write(&entry{ID: fmt.Sprint(i)})
		if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, fmt.Sprintf("%q", fmt.Sprint(i))) {
			t.Errorf("line %d is %q (%v)", i, line, err)
		}
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("the pipe has become %v (%v)", info, err)
	}
}

func TestAccessLogNeverHoldsARequestUp(t *testing.T) {
	// Nobody takes the lines: a disk that does not write anything.
	l := &accessLog{path: "x", queued: make(chan struct{}, 1)}
	e := &entry{Path: strings.Repeat("x", logQueue)}
	for range 5 {
		l.write(e)
	}
	if n := l.dropped.Load(); n != 4 {
		t.Errorf("%d lines are reported as dropped, want 4", n)
	}
}

func TestLogLineIsWhatJSONSays(t *testing.T) {
	for _, e := range []entry{
		{},
		{Time: time.Now(), ID: "a", Remote: "[::1]:1", Host: "h", Method: "GET", Path: "/\"\\ü\n<>&", Status: 200, Bytes: 7, Ms: 0.123, Service: "s", Arm: "a", Instance: "i", Attempts: 2, Cache: "Hit", Error: "e\x00"},
	} {
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(e.append(nil)); got != string(want)+"\n" {
			t.Errorf("got  %swant %s", got, want)
		}
	}
}
