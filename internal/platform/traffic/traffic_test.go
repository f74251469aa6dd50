package traffic

import (
	"math"
	"testing"

	"makeitso/internal/edge"
	"makeitso/internal/metric"
)

var names = Names{
	Environment: "local",
	Full:        map[string]string{"local/balancer/web/B/80": "app/front/1", "local/balancer/web/B/81": "app/front/1", "local/targets/web": "targetgroup/web/2"},
	Balancers: []edge.Balancer{
		{Name: "local/balancer/web/B/80", Rules: []edge.Rule{{Forward: []edge.Share{{Service: "local/targets/web"}}}}},
		{Name: "local/balancer/web/B/81", Rules: []edge.Rule{{Forward: []edge.Share{{Service: "local/targets/web"}}}}},
		{Name: "local/balancer/tree", Rules: []edge.Rule{{Forward: []edge.Share{{Service: "local/targets/tree"}}}}},
	},
}

type counts = map[int]int64

// report is one of an edge.
func report(began int64, ways ...edge.WayCounts) edge.Traffic {
	return edge.Traffic{Began: began, Ways: ways}
}

func way(balancer, service string, requests int64, answers, own counts) edge.WayCounts {
	return edge.WayCounts{Way: edge.Way{Balancer: balancer, Service: service}, Requests: requests, Answers: answers, Own: own}
}

func TestPoints(t *testing.T) {
	front, group := "LoadBalancer=app/front/1", "TargetGroup=targetgroup/web/2"
	elb := func(name string, dimensions ...string) metric.Series {
		return metric.SeriesOf(OfBalancers, name, dimensions...)
	}
	api := func(name string) metric.Series { return metric.SeriesOf(OfServices, name, "Service=api") }
	before := report(1,
		way("local/balancer/web/B/80", "local/targets/web", 10, counts{2: 8, 5: 2}, nil),
		way("", "local/api", 5, counts{2: 5}, nil))
	after := report(1,
		way("local/balancer/web/B/80", "local/targets/web", 15, counts{2: 9, 5: 5}, counts{5: 1}),
		way("local/balancer/web/B/81", "local/targets/web", 1, counts{5: 1}, nil),
		way("local/balancer/web/B/81", "", 0, nil, counts{3: 4, 2: 1}),
		way("local/balancer/tree", "local/targets/tree", 3, counts{2: 3}, nil),
		way("", "local/api", 6, counts{2: 6}, counts{5: 2}),
		way("", "other/api", 6, counts{2: 6}, nil))
	for what, c := range map[string]struct {
		before, after edge.Traffic
		want          map[metric.Series]float64
	}{
		"what came": {before, after, map[metric.Series]float64{
			elb("RequestCount", front): 6, elb("RequestCount", front, group): 6,
			elb("HTTPCode_Target_2XX_Count", front): 1, elb("HTTPCode_Target_2XX_Count", front, group): 1,
			elb("HTTPCode_Target_5XX_Count", front): 4, elb("HTTPCode_Target_5XX_Count", front, group): 4,
			elb("HTTPCode_ELB_5XX_Count", front): 1, elb("HTTPCode_ELB_3XX_Count", front): 4,
			api("RequestCount"): 3, api("HTTPCode_2XX_Count"): 1, api("HTTPCode_5XX_Count"): 2,
		}},
		"nothing": {after, after, map[metric.Series]float64{}},
		"another edge": {after, report(2, way("", "local/api", 1, counts{4: 1}, nil)), map[metric.Series]float64{
			api("RequestCount"): 1, api("HTTPCode_4XX_Count"): 1,
		}},
	} {
		got := names.Points(c.before, c.after)
		for series, want := range c.want {
			if p := got[series]; p.Sum != want || p.Count != want || p.Min != 1 || p.Max != 1 {
				t.Errorf("%s: %s is %+v, want %v", what, series, p, want)
			}
		}
		for series := range got {
			if _, wanted := c.want[series]; !wanted || !Gives(series) {
				t.Errorf("%s: there is %s", what, series)
			}
		}
	}
	if Gives(metric.SeriesOf("makeitso2", "x")) {
		t.Error("gives a series of another namespace")
	}
	if own := names.Own(after); len(own.Ways) != 5 {
		t.Errorf("its own are %+v", own.Ways)
	}
}

// TestTimes reads percentiles from what the edge knows of times.
func TestTimes(t *testing.T) {
	before := edge.WayCounts{Way: edge.Way{Service: "local/api"}, Seconds: 1, Times: counts{metric.Band(1): 1}}
	after := before
	after.Seconds, after.Times = 1+98*0.01+2*0.5, counts{metric.Band(1): 1, metric.Band(0.01): 98, metric.Band(0.5): 2}
	p := names.Points(report(1, before), report(1, after))[metric.SeriesOf(OfServices, "TargetResponseTime", "Service=api")]
	near := func(got, want float64) bool { return math.Abs(got-want) <= want*0.05 }
	if p.Count != 100 || !near(p.Sum, 1.98) || !near(p.Min, 0.01) || !near(p.Max, 0.5) || p.Spread[metric.Band(0.5)] != 2 {
		t.Errorf("got %+v", p)
	}
	one := names.Points(report(1), report(1, before))[metric.SeriesOf(OfServices, "TargetResponseTime", "Service=api")]
	if one.Min != 1 || one.Max != 1 || one.Sum != 1 {
		t.Errorf("of one answer, %+v", one)
	}
}

func TestTargets(t *testing.T) {
	got := names.Points(edge.Traffic{}, edge.Traffic{Targets: map[string]edge.Targets{
		"local/targets/web": {Healthy: 2, Unhealthy: 1}, "local/targets/tree": {Healthy: 1}, "local/api": {Healthy: 3}, "local/targets/none": {},
	}})
	want := map[metric.Series]float64{
		metric.SeriesOf(OfServices, "HealthyHostCount", "Service=api"):                                                  3,
		metric.SeriesOf(OfServices, "UnHealthyHostCount", "Service=api"):                                                0,
		metric.SeriesOf(OfBalancers, "HealthyHostCount", "LoadBalancer=app/front/1", "TargetGroup=targetgroup/web/2"):   2,
		metric.SeriesOf(OfBalancers, "UnHealthyHostCount", "LoadBalancer=app/front/1", "TargetGroup=targetgroup/web/2"): 1,
	}
	for series, value := range want {
		if p, there := got[series]; !there || p.Sum != value || p.Count != 1 {
			t.Errorf("%s is %+v, want %v", series, p, value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %+v", got)
	}
}
