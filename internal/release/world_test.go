package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/edge/outcome"
	"makeitso/internal/fault"
	"makeitso/internal/record"
)

// world is what outlives a controller: instances, the edge, the store.
type world struct {
	t         *testing.T
	instances *fakeInstances
	edge      *fakeEdge
	store     record.Store
	events    *eventLog
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, instances: &fakeInstances{all: map[string]*fakeInstance{}}, edge: newFakeEdge(t), store: record.NewMemory(), events: &eventLog{}}
	t.Cleanup(func() {
		for _, i := range w.instances.list() {
			i.end("the test is over")
		}
	})
	return w
}

func quick(w *world) Options {
	return Options{
		Observe:        w.events.add,
		HealthInterval: 10 * time.Millisecond, StartInterval: 2 * time.Millisecond, Poll: 5 * time.Millisecond,
		BackoffMin: 5 * time.Millisecond, BackoffMax: 50 * time.Millisecond, StopGrace: time.Second,
	}
}

// life is one controller and its Run.
type life struct {
	*Controller
	t    *testing.T
	end  context.CancelFunc
	done chan error
}

func (w *world) live(store record.Store, o Options) *life {
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{Controller: New("local", w.instances, w.edge, store, o), t: w.t, end: cancel, done: make(chan error, 1)}
	go func() { l.done <- l.Run(ctx) }()
	w.t.Cleanup(l.stop)
	return l
}

func (l *life) stop() {
	l.end()
	if l.done == nil {
		return
	}
	if err := <-l.done; err != nil {
		l.t.Errorf("run: %v", err)
	}
	l.done = nil
}

func (l *life) mustRelease(s Service, digest, key string) Release {
	l.t.Helper()
	r, err := l.Release(within(l.t), s, Artifact{Digest: digest}, map[string]string{"A": digest}, key)
	if err != nil {
		l.t.Fatalf("release %s: %s", digest, fault.Text(err))
	}
	return r
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var api = Service{Name: "api", Hosts: []string{"api.localhost"}, Health: "/healthz", Instances: 2}

// eventually waits for what no event tells the test of.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// fakeInstances are HTTP servers in this process. What one does depends on its
// artifact: see (*fakeInstance).ServeHTTP and Start.
type fakeInstances struct {
	mu     sync.Mutex
	all    map[string]*fakeInstance
	starts int
	stuck  bool              // Stop fails
	lost   string            // the artifact that is gone
	turned map[string]string // what artifacts do from now on
	log    string            // the file of what every instance printed
	logs   string            // the folder where each has its own, with a line for each answer
}

// setArtifact has what is started of an artifact from now on be another one.
func (f *fakeInstances) setArtifact(artifact, other string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turned = map[string]string{artifact: other}
}

// lose has an artifact gone.
func (f *fakeInstances) lose(artifact string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = artifact
}

type fakeInstance struct {
	id, artifact string
	log          string
	logs         bool // it logs its answers
	env          map[string]string
	server       *httptest.Server
	exited       chan struct{}
	once         sync.Once
	mu           sync.Mutex
	why          string
	requests     atomic.Int64
	sick         atomic.Bool
}

func (f *fakeInstances) Start(_ context.Context, spec InstanceSpec) (Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i, ok := f.all[spec.ID]; ok {
		return i.instance(), nil
	}
	if spec.Artifact == "missing" || spec.Artifact == f.lost {
		return Instance{}, fault.New(fault.NotFound, "artifact %s is not stored here", spec.Artifact)
	}
	f.starts++
	if other, ok := f.turned[spec.Artifact]; ok {
		spec.Artifact = other
	}
	i := &fakeInstance{id: spec.ID, artifact: spec.Artifact, log: f.log, env: spec.Env, exited: make(chan struct{})}
	if f.logs != "" {
		i.log, i.logs = filepath.Join(f.logs, spec.ID), true
	}
	i.server = httptest.NewUnstartedServer(i)
	if spec.Artifact == "h2c" { // it speaks HTTP/2 and nothing else
		i.server.Config.Protocols = new(http.Protocols)
		i.server.Config.Protocols.SetUnencryptedHTTP2(true)
	}
	i.server.Start()
	f.all[spec.ID] = i
	if spec.Artifact == "exits" {
		i.end("exit status 3")
	}
	return i.instance(), nil
}

func (f *fakeInstances) Find(_ context.Context, id string) (Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, ok := f.all[id]
	if !ok {
		return Instance{}, fault.New(fault.NotFound, "there is no instance %s", id)
	}
	select {
	case <-i.exited:
		return Instance{}, fault.New(fault.NotFound, "instance %s ended: %s", id, i.reason())
	default:
		return i.instance(), nil
	}
}

func (f *fakeInstances) Exited(id string) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i, ok := f.all[id]; ok {
		return i.exited
	}
	gone := make(chan struct{})
	close(gone)
	return gone
}

func (f *fakeInstances) Stop(_ context.Context, id string, _ time.Duration) error {
	f.mu.Lock()
	if f.stuck {
		f.mu.Unlock()
		return errStuck
	}
	i := f.all[id]
	delete(f.all, id)
	f.mu.Unlock()
	if i != nil {
		i.end("stopped")
	}
	return nil
}

var errStuck = errors.New("the process does not end")

func (f *fakeInstances) setStuck(stuck bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stuck = stuck
}

func (f *fakeInstances) list() []*fakeInstance {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*fakeInstance
	for _, i := range f.all {
		out = append(out, i)
	}
	return out
}

// running lists the artifacts of what runs.
func (f *fakeInstances) running() string {
	var out []string
	for _, i := range f.list() {
		out = append(out, i.artifact)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (i *fakeInstance) instance() Instance {
	address := i.server.Listener.Addr().String()
	if i.artifact == "deaf" { // it runs, and listens elsewhere or not at all
		address = "127.0.0.1:1"
	}
	return Instance{ID: i.id, Address: address, PID: 1, Log: i.log}
}

// end is the process ending: connections break, nothing listens any more.
func (i *fakeInstance) end(why string) {
	i.once.Do(func() {
		i.mu.Lock()
		i.why = why
		i.mu.Unlock()
		close(i.exited)
		i.server.CloseClientConnections()
		i.server.Close()
	})
}

func (i *fakeInstance) reason() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.why
}

func (i *fakeInstance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		if i.artifact == "sick" || i.sick.Load() {
			http.Error(w, "no database", http.StatusServiceUnavailable)
		}
		return
	}
	n := i.requests.Add(1)
	if r.URL.Path == "/slow" {
		time.Sleep(100 * time.Millisecond) // the work that is under way when the instance is to go
	}
	status := http.StatusOK
	defer func() { i.print(status) }()
	if i.artifact == "broken" || i.artifact == "fifth" && n%5 == 0 {
		status = http.StatusInternalServerError
		http.Error(w, "oops", status)
		return
	}
	fmt.Fprintf(w, "%s %s", i.artifact, i.env["A"])
}

// print logs an answer.
func (i *fakeInstance) print(status int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.logs {
		return
	}
	file, err := os.OpenFile(i.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return // the test is over
	}
	defer file.Close()
	_, _ = fmt.Fprintf(file, "{\"msg\":\"answered\",\"status\":%d}\n", status)
}

// fakeEdge is a load balancer with nothing but what a release relies on.
type fakeEdge struct {
	server    *httptest.Server
	transport *http.Transport
	mu        sync.Mutex
	services  map[string]edge.Service
	counts    map[string]map[string]edge.Counts
	inFlight  map[string]int64
	streams   map[string]*outcome.Stream
	shares    map[string]*outcome.Share // by arm, of what is in force
	down      bool
	refused   error         // why SetService fails
	unhealthy string        // why every instance is
	turned    chan struct{} // closed when down changes
	skewed    string
	sets      int
	onShift   func(edge.Service) // called with the lock held when a route is in force
}

func newFakeEdge(t *testing.T) *fakeEdge {
	e := &fakeEdge{transport: &http.Transport{DisableKeepAlives: true},
		services: map[string]edge.Service{}, counts: map[string]map[string]edge.Counts{}, inFlight: map[string]int64{},
		streams: map[string]*outcome.Stream{}, turned: make(chan struct{})}
	e.server = httptest.NewServer(e)
	t.Cleanup(e.server.Close)
	return e
}

var errEdgeDown = errors.New("the edge does not answer")

func (e *fakeEdge) SetService(_ context.Context, s edge.Service) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down {
		return errEdgeDown
	}
	if e.refused != nil {
		return e.refused
	}
	if slices.Contains(s.Hosts, "taken.localhost") {
		return fault.New(fault.Invalid, "host taken.localhost is given to another service")
	}
	sum := 0.0
	for _, a := range s.Arms {
		sum += a.Weight
		if a.Weight > 0 && !slices.ContainsFunc(a.Instances, func(i edge.Instance) bool { return !i.Draining }) {
			return fmt.Errorf("arm %s has a weight and no instance", a.Name)
		}
	}
	if len(s.Arms) > 0 && (sum < 0.999 || sum > 1.001) {
		return fmt.Errorf("weights sum to %v", sum)
	}
	for name, other := range e.services {
		if name != s.Name && len(instancesOf(other)) > 0 && slices.ContainsFunc(instancesOf(s), func(id string) bool { return slices.Contains(instancesOf(other), id) }) {
			return fault.New(fault.Invalid, "%s and %s share an instance", name, s.Name)
		}
	}
	e.sets++
	e.services[s.Name] = s
	if e.streams[s.Name] == nil {
		e.streams[s.Name] = outcome.New()
		e.streams[s.Name].SetDeadline(time.Second)
	}
	if s.Name == "local/api" {
		e.shares = map[string]*outcome.Share{}
		for _, a := range s.Arms {
			e.shares[a.Name] = &outcome.Share{Arm: a.Name, Weight: a.Weight, Tally: &outcome.Tally{}}
		}
		if e.onShift != nil {
			e.onShift(s)
		}
	}
	return nil
}

// Watch is the real streams, read in this process, and tells like the edge's
// client that it is away.
func (e *fakeEdge) Watch(ctx context.Context, service string, from outcome.Cursor, tell func(outcome.Batch) error) error {
	for told, away := false, false; ; {
		e.mu.Lock()
		s, down, turned := e.streams[service], e.down, e.turned
		e.mu.Unlock()
		var b outcome.Batch
		var moved <-chan struct{}
		switch {
		case down:
			b = outcome.Batch{Cursor: from, Away: errEdgeDown.Error()}
		case s == nil:
			return fault.New(fault.NotFound, "the edge has no service %q", service)
		default:
			b, moved, _ = s.Read(from, 100)
		}
		if len(b.Outcomes) == 0 && !b.Gap && told && away == down {
			select {
			case <-moved:
			case <-turned:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		}
		if err := tell(b); err != nil {
			return err
		}
		told, away, from = true, down, b.Cursor
	}
}

// forget is an edge that lost all memory of its outcomes.
func (e *fakeEdge) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.streams["local/api"] = outcome.New()
}

func instancesOf(s edge.Service) (ids []string) {
	for _, a := range s.Arms {
		for _, i := range a.Instances {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

func (e *fakeEdge) RemoveService(_ context.Context, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down {
		return errEdgeDown
	}
	delete(e.services, name)
	return nil
}

func (e *fakeEdge) Stats(context.Context) (edge.Stats, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := edge.Stats{Services: map[string]map[string]edge.Counts{}, InFlight: map[string]int64{}, Unhealthy: map[string]string{}}
	if e.down {
		return s, errEdgeDown
	}
	for name, arms := range e.counts {
		s.Services[name] = map[string]edge.Counts{}
		for arm, c := range arms {
			s.Services[name][arm] = c
		}
	}
	for _, service := range e.services {
		for _, id := range instancesOf(service) {
			if e.unhealthy != "" {
				s.Unhealthy[id] = e.unhealthy
			}
		}
	}
	for id, n := range e.inFlight {
		s.InFlight[id] = n
	}
	return s, nil
}

// refuse has every change of traffic fail.
func (e *fakeEdge) refuse(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refused = err
}

// ill has every instance be unhealthy at the edge.
func (e *fakeEdge) ill(why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unhealthy = why
}

func (e *fakeEdge) setDown(down bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.setDownLocked(down)
}

func (e *fakeEdge) setDownLocked(down bool) {
	e.down = down
	close(e.turned)
	e.turned = make(chan struct{})
}

func (e *fakeEdge) routed() (edge.Service, bool) { return e.service("local/api") }

func (e *fakeEdge) service(name string) (edge.Service, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.services[name]
	return s, ok
}

func (e *fakeEdge) seen(arm string) edge.Counts {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts["local/api"][arm]
}

// busy counts the requests under way.
func (e *fakeEdge) busy() (n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, i := range e.inFlight {
		n += i
	}
	return n
}

// skew has every request go to one arm, whatever the coin's weights.
func (e *fakeEdge) skew(arm string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.skewed = arm
}

// begin has a request arrive at an arm that is never answered.
func (e *fakeEdge) begin(arm string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.streams["local/api"].Begin(&outcome.Open{}, e.shares[arm], time.Now())
}

// pick draws the arm by a coin and an instance of it.
func (e *fakeEdge) pick(open *outcome.Open) (arm string, i edge.Instance, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	coin := rand.Float64()
	for _, a := range e.services["local/api"].Arms {
		coin -= a.Weight
		if e.skewed != "" {
			coin = map[bool]float64{true: -1, false: 1}[a.Name == e.skewed]
		}
		ready := slices.DeleteFunc(slices.Clone(a.Instances), func(i edge.Instance) bool { return i.Draining })
		if coin >= 0 || len(ready) == 0 {
			continue
		}
		i = ready[rand.IntN(len(ready))]
		e.inFlight[i.ID]++
		e.streams["local/api"].Begin(open, e.shares[a.Name], time.Now())
		return a.Name, i, true
	}
	return "", i, false
}

func (e *fakeEdge) count(arm string, i edge.Instance, bad bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inFlight[i.ID]--
	if e.counts["local/api"] == nil {
		e.counts["local/api"] = map[string]edge.Counts{}
	}
	c := e.counts["local/api"][arm]
	c.Requests++
	if bad {
		c.Bad++
	}
	e.counts["local/api"][arm] = c
}

func (e *fakeEdge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	open := &outcome.Open{}
	arm, i, ok := e.pick(open)
	if !ok {
		http.Error(w, "no instance", http.StatusServiceUnavailable)
		return
	}
	status := http.StatusBadGateway
	defer func() {
		open.Answered(status)
		open.Settle(status >= 500)
		e.count(arm, i, status >= 500)
	}()
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", i.Address, ""
	answer, err := e.transport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	defer answer.Body.Close()
	status = answer.StatusCode
	w.WriteHeader(status)
	_, _ = io.Copy(w, answer.Body)
}

// get asks the service through the edge.
func (w *world) get() (int, string) {
	answer, err := http.Get(w.edge.server.URL + "/")
	if err != nil {
		w.t.Fatalf("ask the edge: %v", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatalf("read the answer: %v", err)
	}
	return answer.StatusCode, string(body)
}

// load asks steadily until the returned function is called, which gives how
// many answers were good and bad.
func (w *world) load(pace time.Duration) func() (good, bad int64) {
	var g, b atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			answer, err := http.Get(w.edge.server.URL + "/")
			if err != nil {
				b.Add(1)
				continue
			}
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				g.Add(1)
			} else {
				b.Add(1)
			}
		}
	}()
	var once sync.Once
	end := func() (int64, int64) {
		once.Do(func() { close(stop) })
		<-done
		return g.Load(), b.Load()
	}
	w.t.Cleanup(func() { end() })
	return end
}

func listening(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

type eventLog struct {
	mu  sync.Mutex
	all []Event
}

func (l *eventLog) add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, e)
}

func (l *eventLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for _, e := range l.all {
		lines = append(lines, e.Kind+": "+e.Message)
	}
	return strings.Join(lines, "\n")
}
