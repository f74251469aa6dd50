package source

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"makeitso/internal/testneed"
)

// fakePrometheus answers the queries for an arm with the counters that stand here,
// or with a whole answer.
type fakePrometheus struct {
	server *httptest.Server
	mu     sync.Mutex
	series map[string]string // by arm and query, as JSON
	whole  string
	asked  map[string]bool // forms
}

func newFakePrometheus(t *testing.T) *fakePrometheus {
	p := &fakePrometheus{series: map[string]string{}, asked: map[string]bool{}}
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	return p
}

func (p *fakePrometheus) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Method != http.MethodPost || r.URL.Path != "/prom/api/v1/query" {
		http.NotFound(w, r)
		return
	}
	query := r.PostFormValue("query")
	p.asked[query+" at "+r.PostFormValue("time")] = true
	if p.whole != "" {
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, p.whole)
		return
	}
	var all []string
	for key, series := range p.series {
		if arm, _, _ := strings.Cut(key, " "); series != "" && strings.Contains(query, arm) {
			all = append(all, series)
		}
	}
	fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[%s]}}`, strings.Join(all, ","))
}

// set has the query of a key, "ARM QUERY", find series with values, each
// "CODE=VALUE".
func (p *fakePrometheus) set(key string, series ...string) {
	_, query, _ := strings.Cut(key, " ")
	var all []string
	for _, s := range series {
		name, value, _ := strings.Cut(s, "=")
		all = append(all, fmt.Sprintf(`{"metric":{"makeitso_query":%q,"code":%q,"a":"b"},"value":[1435781451.781,%q]}`, query, name, value))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.series[key] = strings.Join(all, ",")
}

func (p *fakePrometheus) stream(t *testing.T) *stream {
	s := &stream{t: t, now: time.UnixMilli(1769860800123), arms: []Arm{
		{Release: "api-1", Commit: "c0", Instances: []Instance{{Address: "127.0.0.1:1"}, {Address: "127.0.0.1:2"}}},
		{Release: "api-2"},
	}}
	s.Source.Prometheus = Prometheus{URL: p.server.URL + "/prom/", Errors: `bad{r="$release"}`, Total: `all{r="$release"}`}
	return s
}

const (
	oldBad, oldAll       = "api-1 errors", "api-1 total"
	canaryBad, canaryAll = "api-2 errors", "api-2 total"
)

func TestCounters(t *testing.T) {
	p := newFakePrometheus(t)
	s := p.stream(t)
	s.want("nothing to begin at", `error: the query total gives nothing for api-1: all{r="api-1"}`)
	p.set(oldAll, "200=1000", "500=10")
	p.set(oldBad, "500=10")
	s.want("the beginning", "")
	s.want("nothing new", "api-1 0/0 api-2 0/0")
	if s.total.Trouble != `the query total gives nothing for api-2: all{r="api-2"}` {
		t.Errorf("told: %q", s.total.Trouble)
	}
	p.set(oldAll, "200=1100", "500=11", "404=5")
	p.set(oldBad, "500=11")
	p.set(canaryAll, "200=6", "500=4")
	p.set(canaryBad, "500=4")
	s.want("growth, and series that are new", "api-1 105/1 api-2 6/4")
	if s.total.Trouble != "" {
		t.Errorf("told: %q", s.total.Trouble)
	}
	p.set(oldAll, "200=3", "500=12") // the first began again, 404 is not to be seen
	p.set(oldBad, "500=12")
	s.want("a counter that began again", "api-1 3/1 api-2 0/0")
	p.set(oldAll, "200=4", "500=12", "404=6")
	s.want("one that is seen again", "api-1 2/0 api-2 0/0")
	p.set(canaryBad, "500=9")
	before := s.stored
	s.want("more errors than requests", "error: of 0 requests to api-2, by the query total, 5 failed, by the query errors")
	p.set(canaryAll, "200=6", "500=9")
	if s.want("both at last", "api-1 0/0 api-2 0/5"); string(before) == string(s.stored) {
		t.Error("the position is that of before")
	}
	const query = `label_replace(bad{r="api-1"}, "makeitso_query", "errors", "__name__", ".*") or label_replace(all{r="api-1"}, "makeitso_query", "total", "__name__", ".*")`
	if len(p.asked) != 2 || !p.asked[query+" at 1769860800.123"] {
		t.Errorf("asked for %v", p.asked)
	}
}

func TestCountersThatAreNone(t *testing.T) {
	p := newFakePrometheus(t)
	s := p.stream(t)
	vector := func(result string) string {
		return `{"status":"success","data":{"resultType":"vector","result":` + result + `}}`
	}
	for whole, want := range map[string]string{
		vector(`[{"metric":{"makeitso_query":"total","b":"c","a":"d"},"value":[1,"0.25"]}]`): `the query total: found 0.25 in {"a":"d","b":"c"}; allowed: a counter, which is a whole number`,
		vector(`[{"metric":{"makeitso_query":"errors"},"value":[1,"NaN"]}]`):                 "the query errors: found NaN in {}; allowed",
		vector(`[{"metric":{},"value":[1,"+Inf"]}]`):                                         "found +Inf in {}; allowed",
		vector(`[{"metric":{},"value":[1,"-1"]}]`):                                           "found -1 in {}; allowed",
		vector(`[{"metric":{},"histogram":[1,{"count":"1"}]}]`):                              "found a histogram in {}; allowed: a counter",
		vector(`7`): "Prometheus answers with a vector and not with a vector: json",
		`{"status":"success","data":{"resultType":"matrix","result":[]}}`:      "Prometheus answers with a matrix and not with a vector",
		`{"status":"error","errorType":"bad_data","error":"1:5: parse error"}`: "Prometheus cannot answer the queries for api-1: bad_data: 1:5: parse error",
		`<html>502</html>`: "/prom/api/v1/query answers 422 Unprocessable Entity, and not as Prometheus does: <html>502</html>",
		`{}`:               "and not as Prometheus does: {}",
	} {
		p.mu.Lock()
		p.whole = whole
		p.mu.Unlock()
		if got := s.read(); !strings.HasPrefix(got, "error: ") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", whole, got, want)
		}
	}
	s.Source.Prometheus.URL = "http://127.0.0.1:1"
	if got := s.read(); !strings.Contains(got, "error: ask Prometheus at http://127.0.0.1:1: ") || !strings.Contains(got, "refused") {
		t.Errorf("of nobody: %q", got)
	}
}

func TestFill(t *testing.T) {
	p := newFakePrometheus(t)
	arms := p.stream(t).arms
	const query = `x{r="$release",c="$commit",i=~"$instances",code=~"5..$"}`
	if got := fill(query, arms[0]); got != `x{r="api-1",c="c0",i=~"127.0.0.1:1|127.0.0.1:2",code=~"5..$"}` {
		t.Error(got)
	}
	if got := fill(query, arms[1]); got != `x{r="api-2",c="",i=~"none",code=~"5..$"}` {
		t.Error(got)
	}
}

// A real Prometheus fetches counters, of which one begins again.
func TestRealPrometheus(t *testing.T) {
	program := testneed.Program(t, "prometheus", "apt-get install prometheus")
	var mu sync.Mutex
	text := ""
	set := func(to string) {
		mu.Lock()
		defer mu.Unlock()
		text = to
	}
	set("r{v=\"api-1\",code=\"200\"} 1000\nr{v=\"api-1\",code=\"500\"} 3\n")
	fetched := make(chan struct{}, 1)
	metrics := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprint(w, text)
		select {
		case fetched <- struct{}{}:
		default:
		}
	}))
	defer metrics.Close()
	address := startPrometheus(t, program, strings.TrimPrefix(metrics.URL, "http://"))
	s := &stream{t: t, arms: []Arm{{Release: "api-1"}, {Release: "api-2"}}}
	s.Source.Prometheus = Prometheus{URL: address, Errors: `r{v="$release",code=~"5.."}`, Total: `r{v="$release"}`}
	// until reads until all that was read together is want, whatever came when.
	var api1, api2 Count
	until := func(want string) {
		t.Helper()
		for deadline := time.After(30 * time.Second); ; {
			s.now = time.Now()
			var of [2]Count
			if got := s.read(); strings.HasPrefix(got, "api-1") {
				_, err := fmt.Sscanf(got, "api-1 %d/%d api-2 %d/%d", &of[0].OK, &of[0].Bad, &of[1].OK, &of[1].Bad)
				ok(t, err)
			}
			api1, api2 = Count{api1.OK + of[0].OK, api1.Bad + of[0].Bad}, Count{api2.OK + of[1].OK, api2.Bad + of[1].Bad}
			if fmt.Sprint(s.stored != nil, api1, api2) == want {
				return
			}
			select {
			case <-fetched: // there may be something new
			case <-deadline:
				t.Fatalf("got %v %v, want %s", api1, api2, want)
			}
		}
	}
	until("true {0 0} {0 0}")
	set("r{v=\"api-1\",code=\"200\"} 1010\nr{v=\"api-1\",code=\"500\"} 3\nr{v=\"api-2\",code=\"500\"} 4\n")
	until("true {10 0} {0 4}")
	set("r{v=\"api-1\",code=\"200\"} 2\nr{v=\"api-1\",code=\"500\"} 3\nr{v=\"api-2\",code=\"500\"} 5\n")
	until("true {12 0} {0 5}")
	for total, want := range map[string]string{
		`rate(r{v="$release"}[1m])`: "; allowed: a counter, which is a whole number",
		`r{v="$release"}[1m]`:       "error: Prometheus cannot answer the queries for api-1: bad_data: ",
		`1`:                         "expected type instant vector",
		`r{v="$release"`:            "parse error",
	} {
		s.Source.Prometheus.Total = total
		if got := s.read(); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", total, got, want)
		}
	}
}

// startPrometheus starts one that fetches a target often, and gives its address.
func startPrometheus(t *testing.T, program, target string) string {
	folder := t.TempDir()
	config := filepath.Join(folder, "prometheus.yml")
	ok(t, os.WriteFile(config, []byte(fmt.Sprintf("scrape_configs: [{job_name: a, scrape_interval: 50ms, scrape_timeout: 50ms, static_configs: [{targets: [%q]}]}]\n", target)), 0o600))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	address := free.Addr().String()
	ok(t, free.Close())
	log, err := os.Create(filepath.Join(folder, "log"))
	ok(t, err)
	defer log.Close()
	cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(folder, "data"), "--web.listen-address="+address)
	cmd.Stdout, cmd.Stderr = log, log
	ok(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL) // at once: nothing is to be kept
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) { // it tells nobody that it is ready
		got, err := http.Get("http://" + address + "/-/ready")
		if err == nil {
			_ = got.Body.Close()
			if got.StatusCode == http.StatusOK {
				return "http://" + address
			}
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("prometheus did not come up: %s", said)
		}
	}
}
