package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/platform/model"
	"makeitso/internal/record"
	"makeitso/internal/release"
)

var errKilled = errors.New("killed")

// machine stands for what runs instances: each is a listener. It outlives the
// runners, as processes outlive makeitso.
type machine struct {
	*record.Memory
	mu       sync.Mutex
	running  map[string]net.Listener
	ended    map[string]chan struct{}
	started  int
	inFlight map[string]int64
	routed   map[string]bool // as the last Route found it: true for one that drains
	cut      func(id string) // called when an instance is stopped
	left     int             // so many calls until it is as if makeitso was killed; negative: never
	deaf     bool            // instances listen nowhere
	runner   *Runner
	told     []string
}

func newMachine(t *testing.T) *machine {
	m := &machine{Memory: record.NewMemory(), running: map[string]net.Listener{}, ended: map[string]chan struct{}{}, inFlight: map[string]int64{}, left: -1}
	m.restart()
	t.Cleanup(func() {
		for id := range m.running {
			m.end(id)
		}
	})
	return m
}

// restart makes another runner of what is recorded.
func (m *machine) restart() {
	m.left = -1
	m.runner = New(Options{
		Environment: "local", Records: m, Instances: m, Hold: func() func() { return func() {} },
		Route: m.route,
		InFlight: func(_ context.Context, id string) (int64, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.inFlight[id], nil
		},
		Announce: func(text string) { m.mu.Lock(); defer m.mu.Unlock(); m.told = append(m.told, text) },
	})
}

// step is one call of the runner; after the last one nothing has any effect.
func (m *machine) step() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		return errKilled
	}
	m.left--
	return nil
}

func (m *machine) Write(ctx context.Context, ops ...record.Op) error {
	if err := m.step(); err != nil {
		return err
	}
	return m.Memory.Write(ctx, ops...)
}

func (m *machine) route(ctx context.Context) error {
	if err := m.step(); err != nil {
		return err
	}
	all, err := m.runner.Groups(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.routed = map[string]bool{}
	for _, g := range all {
		for _, i := range g.Routed() {
			m.routed[i.ID] = i.Draining
		}
	}
	return err
}

func (m *machine) Start(_ context.Context, s release.InstanceSpec) (release.Instance, error) {
	if err := m.step(); err != nil {
		return release.Instance{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.Artifact == "sha256:none" {
		return release.Instance{}, fault.New(fault.NotFound, "no image")
	}
	if m.ended[s.ID] == nil {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return release.Instance{}, err
		}
		m.started++
		m.running[s.ID], m.ended[s.ID] = l, make(chan struct{})
	}
	if m.deaf {
		m.running[s.ID].Close()
	}
	return release.Instance{ID: s.ID, Address: m.running[s.ID].Addr().String()}, nil
}

func (m *machine) Find(_ context.Context, id string) (release.Instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running[id] == nil {
		return release.Instance{}, fault.New(fault.NotFound, "instance %s has ended", id)
	}
	return release.Instance{ID: id, Address: m.running[id].Addr().String()}, nil
}

func (m *machine) Exited(id string) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended[id] == nil {
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	return m.ended[id]
}

func (m *machine) Stop(_ context.Context, id string, _ time.Duration) error {
	if err := m.step(); err != nil {
		return err
	}
	if m.cut != nil {
		m.cut(id)
	}
	m.end(id)
	return nil
}

// end ends an instance.
func (m *machine) end(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.running[id]; l != nil {
		l.Close()
		close(m.ended[id])
		delete(m.running, id)
	}
}

// ids gives the instances that run, and looks that all are recorded.
func (m *machine) ids(t *testing.T) (ids []string) {
	t.Helper()
	g, err := m.runner.Get(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.running {
		recorded := false
		for _, member := range g.Members {
			recorded = recorded || member.ID == id
		}
		if !recorded {
			t.Errorf("instance %s runs and is not recorded", id)
		}
		ids = append(ids, id)
	}
	return ids
}

func webGroup(size int, from string) Spec {
	return Spec{Name: "web", Title: "shop-Web", Size: size, Most: 5, From: from, Image: "sha256:1", Checks: []edge.Check{{}}, Drain: time.Minute}
}

// TestKilledAnywhereItGoesOn breaks a runner off at every call that it makes, in
// every change of a group, and lets another one do the same again.
func TestKilledAnywhereItGoesOn(t *testing.T) {
	t.Parallel()
	changes := map[string]func(*machine) error{
		"grow":   func(m *machine) error { return m.runner.Apply(t.Context(), webGroup(4, "one")) },
		"shrink": func(m *machine) error { return m.runner.Apply(t.Context(), webGroup(1, "one")) },
		"renew":  func(m *machine) error { return m.runner.Renew(t.Context(), webGroup(2, "two")) },
		"remove": func(m *machine) error { return m.runner.Remove(t.Context(), "web") },
	}
	want := map[string]int{"grow": 4, "shrink": 1, "renew": 2, "remove": 0}
	for name, change := range changes {
		for calls := 0; ; calls++ {
			m := newMachine(t)
			if err := m.runner.Apply(t.Context(), webGroup(2, "one")); err != nil {
				t.Fatal(err)
			}
			m.left = calls
			broken := change(m)
			m.ids(t)
			m.restart()
			if err := change(m); err != nil {
				t.Fatalf("%s, killed after %d calls: %v", name, calls, err)
			}
			if ids := m.ids(t); len(ids) != want[name] || len(m.routed) != want[name] {
				t.Errorf("%s, killed after %d calls: %d instances run and %d are routed; want %d", name, calls, len(ids), len(m.routed), want[name])
			}
			if broken == nil {
				break
			}
			if calls > 60 {
				t.Fatalf("%s makes no end: %v", name, broken)
			}
		}
	}
}

func TestOldInstancesLeaveWhenNewOnesAreReadyAndTheirRequestsAreOver(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if err := m.runner.Apply(t.Context(), webGroup(2, "one")); err != nil {
		t.Fatal(err)
	}
	old := m.ids(t)
	m.inFlight[old[0]] = 1
	done := make(chan error)
	go func() { done <- m.runner.Renew(t.Context(), webGroup(2, "two")) }()
	for {
		m.mu.Lock()
		draining, routed := m.routed[old[0]], len(m.routed)
		m.mu.Unlock()
		if draining {
			if routed < 4 {
				t.Errorf("while the old drain, %d are routed; want the new ones too", routed)
			}
			break
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-done:
		t.Fatalf("it is over while a request is under way: %v", err)
	case <-time.After(3 * lookInterval): // no event tells that nothing happens
	}
	m.mu.Lock()
	m.inFlight[old[0]] = 0
	m.mu.Unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if g, err := m.runner.Get(t.Context(), "web"); err != nil || len(g.Fleet().Instances) != 2 || !g.Fleet().Instances[0].Current || !g.Fleet().Instances[1].Current {
		t.Errorf("afterwards: %+v, %v", g, err)
	}
}

func TestKeepReplacesWhatEndsOrFails(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	ctx, stop := context.WithCancel(t.Context())
	var kept sync.WaitGroup
	kept.Go(func() { m.runner.Keep(ctx) })
	defer kept.Wait()
	defer stop()
	spec := webGroup(2, "one")
	spec.Failures, spec.Interval = 2, 5*time.Millisecond
	if err := m.runner.Apply(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	whole := func(without string) bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		_, there := m.routed[without]
		return !there && len(m.routed) == 2 && len(m.running) == 2
	}
	ended := m.ids(t)[0]
	m.end(ended)
	until(t, "an ended instance is replaced", func() bool { return whole(ended) })
	ill := m.ids(t)[0]
	m.mu.Lock()
	m.running[ill].Close() // it runs and does not answer
	m.mu.Unlock()
	until(t, "an instance that fails its checks is replaced", func() bool { return whole(ill) })
	if err := m.runner.Suspend(t.Context(), "web", []string{"ReplaceUnhealthy"}); err != nil {
		t.Fatal(err)
	}
	started, alone := m.started, m.ids(t)[0]
	m.end(alone)
	if err := m.runner.Suspend(t.Context(), "web", nil); err != nil {
		t.Fatal(err)
	}
	until(t, "it is replaced when that is no longer suspended", func() bool { return whole(alone) })
	if m.started != started+1 {
		t.Errorf("%d were started for one that ended", m.started-started)
	}
	if err := m.runner.Remove(t.Context(), "web"); err != nil || len(m.ids(t)) != 0 {
		t.Errorf("after Remove: %v", err)
	}
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 10 s it is not so that %s", what)
		}
	}
}

func TestInstancesThatCannotStartLeaveNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	none := webGroup(2, "none")
	none.Image = "sha256:none"
	if err := m.runner.Apply(t.Context(), none); !fault.Is(err, fault.NotFound) || len(m.ids(t)) != 0 {
		t.Errorf("without an image: %v, %v", err, m.ids(t))
	}
	m.deaf = true
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.runner.Apply(ctx, webGroup(1, "one")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one that never answers: %v", err)
	}
	m.deaf = false
	if err := m.runner.Remove(t.Context(), "web"); err != nil || len(m.ids(t)) != 0 {
		t.Errorf("after Remove: %v, %v", err, m.ids(t))
	}
}

func TestShrinkTakesTheOldestFormFirst(t *testing.T) {
	t.Parallel()
	g := Group{Spec: Spec{From: "two"}, Wanted: 1, Members: []Member{
		{ID: "a", From: "two", Ready: true}, {ID: "b", From: "two", Ready: true}, {ID: "c", From: "two"}, {ID: "d", From: "one", Ready: true}, {ID: "e", From: "one", Leaving: true},
	}}
	for _, want := range []string{"b", ""} {
		g.shrink()
		var left []string
		for _, m := range g.Members {
			if !m.Leaving {
				left = append(left, m.ID)
			}
		}
		if got := strings.Join(left, ""); got != want {
			t.Errorf("left are %q; want %q", got, want)
		}
		g.Wanted--
	}
}

func TestReadSaysWhatAGroupIs(t *testing.T) {
	t.Parallel()
	group := model.Resource{Token: "t", Stack: "shop", LogicalID: "Web", Properties: map[string]any{
		"MinSize": "1", "DesiredCapacity": "3", "MaxSize": "4", "HealthCheckType": "ELB", "HealthCheckGracePeriod": "7",
	}}
	targets := []model.Resource{
		{Properties: map[string]any{"HealthCheckPath": "/well", "HealthCheckIntervalSeconds": "9"}},
		{Properties: map[string]any{"UnhealthyThresholdCount": "5", "Matcher": map[string]any{"HttpCode": "204"}}},
	}
	s, err := Read(group, Launch{"lt:2", map[string]any{"ImageId": "web@sha256:ab", "UserData": "aGk="}}, targets)
	got := fmt.Sprintf("%d/%d %s %s %s %s %d %s %s %+v", s.Size, s.Most, s.From, s.Image, s.Env["USER_DATA"], s.Interval, s.Failures, s.Grace, s.Drain, s.Checks)
	if want := "3/4 lt:2 sha256:ab hi 9s 5 7s 5m0s [{Host: Path:/well Codes:200 Timeout:5s Protocol:} {Host: Path:/ Codes:204 Timeout:5s Protocol:}]"; err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	if s, err := Read(group, Launch{"lt:1", map[string]any{"ImageId": "ami-1"}}, nil); err != nil || s.Size != 0 || s.Image != "" {
		t.Errorf("of a machine's image: %+v, %v", s, err)
	}
	for _, wrong := range []map[string]any{{"ImageId": "web:latest"}, {"ImageId": "sha256:1", "UserData": "%"}} {
		if _, err := Read(group, Launch{"lt:1", wrong}, nil); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
			t.Errorf("%v: %v", wrong, err)
		}
	}
}
