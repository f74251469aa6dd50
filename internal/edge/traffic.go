package edge

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"makeitso/internal/metric"
)

// Traffic is what the edge has seen since it began. Its counts only rise.
type Traffic struct {
	// Began tells this run of the edge from others, whose counts are no part of
	// these.
	Began int64       `json:"began"`
	Ways  []WayCounts `json:"ways"`
	// Targets says of each service how its instances are.
	Targets map[string]Targets `json:"targets"`
}

// Way is how requests come to a service: by a balancer, or with Balancer "" by
// the service's own host names. Service is "" for what a balancer answers itself.
type Way struct {
	Balancer string `json:"balancer,omitempty"`
	Service  string `json:"service,omitempty"`
}

// WayCounts is what was seen of a way.
type WayCounts struct {
	Way
	Requests int64 `json:"requests"` // for which there was an instance
	// Answers counts those of instances, and Own what the edge answered itself,
	// by the first digit of their status.
	Answers map[int]int64 `json:"answers,omitempty"`
	Own     map[int]int64 `json:"own,omitempty"`
	// Seconds is how long instances took until the headers of their answers, all
	// together, and Times how many took how long, by metric.Band.
	Seconds float64       `json:"seconds"`
	Times   map[int]int64 `json:"times,omitempty"`
}

// Targets is how many instances of a service get requests, and how many do not
// because they fail their checks.
type Targets struct {
	Healthy   int `json:"healthy"`
	Unhealthy int `json:"unhealthy"`
}

// Traffic gives what the edge has seen; fault.Unavailable if no edge answers.
func (c *Client) Traffic(ctx context.Context) (Traffic, error) {
	var t Traffic
	err := c.call(ctx, http.MethodGet, "/traffic", nil, &t)
	return t, err
}

// traffic counts requests. To count takes no lock and allocates nothing: a way
// that is new is added to a copy of the map.
type traffic struct {
	began  time.Time
	ways   atomic.Pointer[map[Way]*tally]
	adding sync.Mutex
}

func newTraffic() *traffic {
	t := &traffic{began: time.Now()}
	t.ways.Store(&map[Way]*tally{})
	return t
}

// timeBands is how many bands times are counted in; those that are shorter or
// longer count in the first or the last, which lie beyond a microsecond and an
// hour.
const timeBands = 32 * 16

// tally is WayCounts while it is counted.
type tally struct {
	requests, nanos atomic.Int64
	answers, own    [6]atomic.Int64
	times           [timeBands]atomic.Int64
}

// of gives the tally of a way.
func (t *traffic) of(w Way) *tally {
	if n := (*t.ways.Load())[w]; n != nil {
		return n
	}
	t.adding.Lock()
	defer t.adding.Unlock()
	all := maps.Clone(*t.ways.Load())
	if all[w] == nil {
		all[w] = &tally{}
		t.ways.Store(&all)
	}
	return all[w]
}

// count counts an exchange that is over.
func (t *traffic) count(x *exchange) {
	w := Way{x.balancer, x.service}
	if w == (Way{}) {
		return // of a site, or of nobody
	}
	n, digit := t.of(w), x.w.status/100
	if digit >= len(n.own) {
		digit = 0 // nobody knows what that is
	}
	if x.last != nil {
		n.requests.Add(1)
	}
	if x.last == nil || !x.last.answered {
		n.own[digit].Add(1)
		return
	}
	n.answers[digit].Add(1)
	n.nanos.Add(int64(x.last.took))
	n.times[min(max(metric.Band(x.last.took.Seconds())-firstBand(), 0), timeBands-1)].Add(1)
}

// firstBand is the band of the shortest times.
func firstBand() int { return metric.Band(1) - 20*16 }

// report gives what was counted, and forgets the ways of what a configuration
// does not have any more.
func (t *traffic) report(now *table) Traffic {
	t.adding.Lock()
	defer t.adding.Unlock()
	ways := maps.Clone(*t.ways.Load())
	maps.DeleteFunc(ways, func(w Way, _ *tally) bool {
		return w.Service != "" && now.services[w.Service] == nil ||
			w.Balancer != "" && !slices.ContainsFunc(now.config.Balancers, func(b Balancer) bool { return b.Name == w.Balancer })
	})
	if len(ways) < len(*t.ways.Load()) {
		t.ways.Store(&ways)
	}
	r := Traffic{Began: t.began.UnixNano(), Targets: map[string]Targets{}}
	for w, n := range ways {
		r.Ways = append(r.Ways, n.counts(w))
	}
	for name, s := range now.services {
		r.Targets[name] = s.targets(now)
	}
	return r
}

func (n *tally) counts(w Way) WayCounts {
	return WayCounts{
		Way: w, Requests: n.requests.Load(), Answers: positive(n.answers[:], 0), Own: positive(n.own[:], 0),
		Seconds: time.Duration(n.nanos.Load()).Seconds(), Times: positive(n.times[:], firstBand()),
	}
}

// positive gives the counters that have counted something, numbered from first.
func positive(counters []atomic.Int64, first int) map[int]int64 {
	found := map[int]int64{}
	for i := range counters {
		if n := counters[i].Load(); n > 0 {
			found[first+i] = n
		}
	}
	return found
}

func (s *service) targets(in *table) (t Targets) {
	for _, a := range s.Arms {
		for _, i := range a.Instances {
			switch {
			case i.Draining:
			case in.instances[i.ID].health.out():
				t.Unhealthy++
			default:
				t.Healthy++
			}
		}
	}
	return t
}
