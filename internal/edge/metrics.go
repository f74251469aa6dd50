package edge

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/edge/outcome"
)

// metrics answers with what the edge counts, as text for Prometheus.
func (p *plane) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(p.exposition())) // the only failure is a caller that is gone
}

// exposition writes all metrics.
func (p *plane) exposition() string {
	t := p.current()
	m := &exposition{}
	m.begin("requests_total", "counter", "requests whose outcome is fixed, by the class of their status; none where no answer began")
	t.eachTally(func(labels string, n *outcome.Tally) {
		for class, count := range n.Classes() {
			if count > 0 {
				name := map[bool]string{true: "none", false: strconv.Itoa(class) + "xx"}[class == 0]
				m.add("requests_total", labels+label("class", name), float64(count))
			}
		}
	})
	m.begin("request_duration_seconds", "histogram", "time until the answer was complete, or the deadline")
	t.eachTally(func(labels string, n *outcome.Tally) {
		upTo, all, together := n.Latencies()
		for i, bound := range outcome.Bounds() {
			m.add("request_duration_seconds_bucket", labels+label("le", strconv.FormatFloat(bound.Seconds(), 'g', -1, 64)), float64(upTo[i]))
		}
		m.add("request_duration_seconds_bucket", labels+label("le", "+Inf"), float64(all))
		m.add("request_duration_seconds_sum", labels, together.Seconds())
		m.add("request_duration_seconds_count", labels, float64(all))
	})
	now := time.Now()
	for _, g := range []struct {
		name, kind, help string
		value            func(*instance) float64
	}{
		{"upstream_requests", "gauge", "requests under way at an instance", func(i *instance) float64 { return float64(i.inFlight.Load()) }},
		{"upstream_connections", "gauge", "connections to an instance", func(i *instance) float64 { return float64(i.pool.Open()) }},
		{"upstream_up", "gauge", "whether an instance gets requests", func(i *instance) float64 { return truth(i.health.why(now) == "") }},
		{"ejections_total", "counter", "how often an instance was taken out for its bad answers", func(i *instance) float64 { return float64(i.health.ejections.Load()) }},
	} {
		m.begin(g.name, g.kind, g.help)
		for _, id := range slices.Sorted(maps.Keys(t.instances)) {
			m.add(g.name, label("instance", id), g.value(t.instances[id]))
		}
	}
	m.begin("client_connections", "gauge", "connections of clients")
	m.add("client_connections", "", float64(p.clients.count()))
	m.begin("log_dropped_total", "counter", "lines of the access log that were not written")
	m.add("log_dropped_total", "", float64(p.log.dropped.Load()))
	m.begin("configuration_version", "gauge", "the version of the configuration in force")
	m.add("configuration_version", "", float64(t.config.Version))
	return m.text.String()
}

// eachTally calls with every arm that is counted, in a fixed order.
func (t *table) eachTally(do func(labels string, n *outcome.Tally)) {
	for _, service := range slices.Sorted(maps.Keys(t.tallies)) {
		arms := t.tallies[service].byArm
		for _, name := range slices.Sorted(maps.Keys(arms)) {
			do(label("service", service)+label("arm", name), arms[name])
		}
	}
}

// exposition is the text while it is written.
type exposition struct{ text strings.Builder }

func (m *exposition) begin(name, kind, help string) {
	fmt.Fprintf(&m.text, "# HELP makeitso_edge_%s %s\n# TYPE makeitso_edge_%s %s\n", name, help, name, kind)
}

func (m *exposition) add(name, labels string, value float64) {
	if labels != "" {
		labels = "{" + strings.TrimSuffix(labels, ",") + "}"
	}
	fmt.Fprintf(&m.text, "makeitso_edge_%s%s %s\n", name, labels, strconv.FormatFloat(value, 'g', -1, 64))
}

// label writes one label, with a comma behind it.
func label(name, value string) string {
	return name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(value) + `",`
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
