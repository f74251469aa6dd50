// Package traffic turns what the edge has counted into points of metrics: of load
// balancers under the names that CloudWatch has for them, of services under names
// of makeitso's own. It only computes; it must not know how the edge is asked or
// where points are kept.
package traffic

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"makeitso/internal/edge"
	"makeitso/internal/metric"
)

// The namespaces of the metrics.
const (
	OfBalancers = "AWS/ApplicationELB"
	OfServices  = "makeitso"
)

// Gives says whether a series is of one of the namespaces.
func Gives(s metric.Series) bool { return s.In(OfBalancers) || s.In(OfServices) }

// Names says what the parts of an environment are called in its metrics.
type Names struct {
	Environment string
	// Full gives the LoadBalancerFullName or TargetGroupFullName behind a name
	// that the edge knows.
	Full map[string]string
	// Balancers are those of the environment, which say where they forward to.
	Balancers []edge.Balancer
}

// service gives the name of a service of a release, "" for anything else.
func (n Names) service(name string) string {
	if name, own := strings.CutPrefix(name, n.Environment+"/"); own && !strings.Contains(name, "/") {
		return name
	}
	return ""
}

// Own gives the part of a report that is of the environment.
func (n Names) Own(t edge.Traffic) edge.Traffic {
	own := func(name string) bool { return strings.HasPrefix(name, n.Environment+"/") }
	t.Ways, t.Targets = slices.Clone(t.Ways), maps.Clone(t.Targets)
	t.Ways = slices.DeleteFunc(t.Ways, func(w edge.WayCounts) bool { return !own(w.Balancer) && !own(w.Service) })
	maps.DeleteFunc(t.Targets, func(name string, _ edge.Targets) bool { return !own(name) })
	return t
}

// Points gives what the edge has counted between two reports, and how the
// instances are at the later one. An edge that was started in between has
// counted from nothing.
func (n Names) Points(before, after edge.Traffic) map[metric.Series]metric.Point {
	known := map[edge.Way]edge.WayCounts{}
	if before.Began == after.Began {
		for _, w := range before.Ways {
			known[w.Way] = w
		}
	}
	p := points{}
	for _, w := range after.Ways {
		n.way(p, since(known[w.Way], w))
	}
	for name, t := range after.Targets {
		n.targets(p, name, t)
	}
	return p
}

// since gives what a way has more than before.
func since(before, w edge.WayCounts) edge.WayCounts {
	return edge.WayCounts{
		Way: w.Way, Requests: w.Requests - before.Requests, Seconds: max(0, w.Seconds-before.Seconds),
		Answers: risen(before.Answers, w.Answers), Own: risen(before.Own, w.Own), Times: risen(before.Times, w.Times),
	}
}

func risen(before, now map[int]int64) map[int]int64 {
	more := maps.Clone(now)
	for key := range more {
		more[key] -= before[key]
	}
	maps.DeleteFunc(more, func(_ int, n int64) bool { return n <= 0 })
	return more
}

// points are those of a report, by series.
type points map[metric.Series]metric.Point

func (p points) add(namespace, name string, point metric.Point, dimensions ...string) {
	if point.Count > 0 {
		series := metric.SeriesOf(namespace, name, dimensions...)
		p[series] = p[series].Join(point)
	}
}

// counted is a metric that has the value 1 for each time.
func counted(times int64) metric.Point {
	return metric.Point{Count: float64(times), Sum: float64(times), Min: 1, Max: 1}
}

// timed is how long answers took. The shortest and the longest are known as well
// as the edge counts them.
func timed(w edge.WayCounts) metric.Point {
	spread := metric.Spread{}
	count := 0.0
	for band, n := range w.Times {
		spread[band] = float64(n)
		count += float64(n)
	}
	if count == 0 {
		return metric.Point{}
	}
	if count == 1 {
		return metric.Point{}.Add(w.Seconds)
	}
	bands := slices.Sorted(maps.Keys(spread))
	least, _ := metric.Edges(bands[0])
	_, most := metric.Edges(bands[len(bands)-1])
	return metric.Point{Count: count, Sum: w.Seconds, Min: least, Max: most, Spread: spread}
}

// way adds the points of one way.
func (n Names) way(p points, w edge.WayCounts) {
	if service := n.service(w.Service); service != "" && w.Balancer == "" {
		of := "Service=" + service
		for digit := 2; digit <= 5; digit++ {
			answers := counted(w.Answers[digit] + w.Own[digit])
			p.add(OfServices, "RequestCount", answers, of)
			p.add(OfServices, fmt.Sprintf("HTTPCode_%dXX_Count", digit), answers, of)
		}
		p.add(OfServices, "TargetResponseTime", timed(w), of)
	}
	balancer := n.Full[w.Balancer]
	if balancer == "" {
		return
	}
	of := "LoadBalancer=" + balancer
	sets := [][]string{{of}}
	if group := n.Full[w.Service]; group != "" {
		sets = append(sets, []string{of, "TargetGroup=" + group})
	}
	for _, dimensions := range sets {
		p.add(OfBalancers, "RequestCount", counted(w.Requests), dimensions...)
		p.add(OfBalancers, "TargetResponseTime", timed(w), dimensions...)
		for digit := 2; digit <= 5; digit++ {
			p.add(OfBalancers, fmt.Sprintf("HTTPCode_Target_%dXX_Count", digit), counted(w.Answers[digit]), dimensions...)
		}
	}
	for digit := 3; digit <= 5; digit++ {
		p.add(OfBalancers, fmt.Sprintf("HTTPCode_ELB_%dXX_Count", digit), counted(w.Own[digit]), of)
	}
}

// targets adds how the instances of a service are.
func (n Names) targets(p points, name string, t edge.Targets) {
	add := func(namespace string, dimensions ...string) {
		p.add(namespace, "HealthyHostCount", metric.Point{}.Add(float64(t.Healthy)), dimensions...)
		p.add(namespace, "UnHealthyHostCount", metric.Point{}.Add(float64(t.Unhealthy)), dimensions...)
	}
	if service := n.service(name); service != "" {
		add(OfServices, "Service="+service)
	}
	fronts := map[string]bool{}
	for _, b := range n.Balancers {
		forwards := slices.ContainsFunc(b.Rules, func(r edge.Rule) bool {
			return slices.ContainsFunc(r.Forward, func(s edge.Share) bool { return s.Service == name })
		})
		if forwards && n.Full[b.Name] != "" && n.Full[name] != "" {
			fronts[n.Full[b.Name]] = true
		}
	}
	for front := range fronts {
		add(OfBalancers, "LoadBalancer="+front, "TargetGroup="+n.Full[name])
	}
}
