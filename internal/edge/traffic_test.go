package edge

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"
	"time"

	"makeitso/internal/metric"
)

// traffic gives the edge's report once so many requests are in it: they are
// counted when they are over, which their clients know before.
func (r *running) traffic(t *testing.T, ended int) (all map[Way]WayCounts, report Traffic) {
	t.Helper()
	eventually(t, strconv.Itoa(ended)+" requests are counted", func() bool {
		var err error
		if report, err = r.Traffic(t.Context()); err != nil {
			t.Fatal(err)
		}
		all = map[Way]WayCounts{}
		n := int64(0)
		for _, w := range report.Ways {
			all[w.Way] = w
			for _, counts := range []map[int]int64{w.Answers, w.Own} {
				for _, k := range counts {
					n += k
				}
			}
		}
		return n == int64(ended)
	})
	return all, report
}

// TestTraffic has a service asked by its own name and by a balancer's.
func TestTraffic(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.WriteHeader(max(status, 200))
	}))
	t.Cleanup(server.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	arm := func(addresses ...string) []Arm {
		a := Arm{Name: "a", Weight: 1}
		for _, address := range addresses {
			a.Instances = append(a.Instances, Instance{ID: address, Address: address})
		}
		return []Arm{a}
	}
	e := start(t, Options{})
	c := Config{
		Version: 1,
		Services: []Service{
			{Name: "api", Hosts: []string{"api.localhost"}, Arms: arm(server.Listener.Addr().String())},
			{Name: "gone", Arms: arm(gone.Listener.Addr().String())}, {Name: "none", Arms: arm()},
		},
		Balancers: []Balancer{{Name: "front", Hosts: []string{"front.localhost"}, Rules: []Rule{
			{If: []Condition{{Field: ByPath, Values: []string{"/fixed"}}}, Fixed: &Fixed{Status: 404}},
			{If: []Condition{{Field: ByPath, Values: []string{"/gone"}}}, Forward: []Share{{Service: "gone", Weight: 1}}},
			{If: []Condition{{Field: ByPath, Values: []string{"/none"}}}, Forward: []Share{{Service: "none", Weight: 1}}},
			{Forward: []Share{{Service: "api", Weight: 1}}},
		}}},
	}
	e.configure(t, c)
	asked := []struct{ host, path string }{
		{"api.localhost", "/"}, {"api.localhost", "/?status=503"}, {"api.localhost", "/?status=404"},
		{"front.localhost", "/"}, {"front.localhost", "/fixed"}, {"front.localhost", "/gone"}, {"front.localhost", "/none"},
		{"nobody.localhost", "/"}, // of no way
	}
	for _, ask := range asked {
		e.do(t, e.request(t, http.MethodGet, ask.host, ask.path, nil))
	}
	all, report := e.traffic(t, len(asked)-1)
	for way, want := range map[Way]WayCounts{
		{Service: "api"}:                    {Requests: 3, Answers: map[int]int64{2: 1, 4: 1, 5: 1}},
		{Service: "api", Balancer: "front"}: {Requests: 1, Answers: map[int]int64{2: 1}},
		{Balancer: "front"}:                 {Own: map[int]int64{4: 1}},
		{"front", "gone"}:                   {Requests: 1, Own: map[int]int64{5: 1}},
		{"front", "none"}:                   {Own: map[int]int64{5: 1}},
	} {
		got := all[way]
		if got.Requests != want.Requests || !maps.Equal(got.Answers, want.Answers) || !maps.Equal(got.Own, want.Own) {
			t.Errorf("%+v: %+v, want %+v", way, got, want)
		}
		times := int64(0)
		for _, n := range got.Times {
			times += n
		}
		if took := want.Requests - want.Own[5]; times != max(took, 0) || took > 0 && (got.Seconds <= 0 || got.Seconds > 10) {
			t.Errorf("%+v: %d times, %v s", way, times, got.Seconds)
		}
	}
	if want := map[string]Targets{"api": {Healthy: 1}, "gone": {Unhealthy: 1}, "none": {}}; !maps.Equal(report.Targets, want) {
		t.Errorf("targets are %+v", report.Targets)
	}

	c.Version, c.Services, c.Balancers = 2, c.Services[:1], nil
	e.configure(t, c)
	if all, _ := e.traffic(t, 3); len(all) != 1 {
		t.Errorf("after the balancer left, there is %+v", all)
	}
	e.stop()
	again := start(t, e.options)
	if _, other := again.traffic(t, 0); other.Began <= report.Began {
		t.Errorf("a new edge began at %d, the one before at %d", other.Began, report.Began)
	}
}

// TestCountingIsCheap counts in parallel, and without anything for the collector.
func TestCountingIsCheap(t *testing.T) {
	p := &plane{traffic: newTraffic()}
	x := &exchange{plane: p, service: "api", balancer: "front", w: recorder{status: 200}, last: &attempt{answered: true, took: time.Millisecond}}
	if n := testing.AllocsPerRun(100, func() { p.traffic.count(x) }); n > 0 {
		t.Errorf("%v allocations for each", n)
	}
	for took, want := range map[time.Duration]int{0: firstBand(), time.Millisecond: metric.Band(0.001), 1000 * time.Hour: firstBand() + timeBands - 1} {
		x.service, x.last.took = took.String(), took
		p.traffic.count(x)
		if got := slices.Collect(maps.Keys(p.traffic.of(Way{"front", x.service}).counts(Way{}).Times)); len(got) != 1 || got[0] != want {
			t.Errorf("%s lies in %v, want %d", took, got, want)
		}
	}
}
