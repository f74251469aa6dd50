package source

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/fault"
)

// Prometheus asks a Prometheus for counters. $release, $commit and $instances in
// its queries are the arm's.
type Prometheus struct {
	URL    string `json:"url"`
	Errors string `json:"errors"` // counts requests that failed
	Total  string `json:"total"`  // … and all
}

// Placeholders are what stands in a query for the arm that is asked for.
func Placeholders() []string { return []string{"$release", "$commit", "$instances"} }

// Counters are the values that the counters of a release had, by their labels.
type Counters struct {
	Errors map[string]float64 `json:"errors"`
	Total  map[string]float64 `json:"total"`
}

const (
	// queryPatience is how long all queries of one reading may take.
	queryPatience = 10 * time.Second
	// longestAnswer is how much of an answer is read.
	longestAnswer = 8 << 20
)

// readCounters counts by how much the counters of each arm have grown. Each series
// is followed by itself, since one that begins again at 0 is hidden by a sum.
func (r Reader) readCounters(ctx context.Context, arms []Arm, out *Reading, now time.Time) error {
	ctx, cancel := context.WithTimeoutCause(ctx, queryPatience, fmt.Errorf("no answer within %s", queryPatience))
	defer cancel()
	p, before := r.Source.Prometheus, out.Counters
	out.Counters = map[string]Counters{}
	for i, arm := range arms {
		seen, err := p.counters(ctx, arm, now)
		if err != nil {
			return err
		}
		if len(seen.Total) == 0 {
			out.Trouble = fmt.Sprintf("the query total gives nothing for %s: %s", arm.Release, fill(p.Total, arm))
			if i == 0 && !out.Begun { // else all that it ever counted would come at once
				return fault.New(fault.Unavailable, "%s", out.Trouble)
			}
		}
		if out.Begun {
			was := before[arm.Release]
			failed, all := grown(was.Errors, seen.Errors), grown(was.Total, seen.Total)
			if failed > all {
				return fault.New(fault.Invalid, "of %d requests to %s, by the query total, %d failed, by the query errors", all, arm.Release, failed).
					WithHint("the query total must count all requests, those that failed too")
			}
			out.count(arm.Release, Count{OK: all - failed, Bad: failed})
		}
		seen.keep(before[arm.Release])
		out.Counters[arm.Release] = seen
	}
	return nil
}

// grown is by how much counters have grown together. One that is less than it was
// has begun again at 0, as one has that was not there.
func grown(was, now map[string]float64) int64 {
	sum := 0.0
	for labels, value := range now {
		if value < was[labels] {
			sum += value
			continue
		}
		sum += value - was[labels]
	}
	return int64(sum)
}

// keep keeps the values of counters that are not to be seen at present.
func (c Counters) keep(was Counters) {
	for _, of := range []struct{ now, was map[string]float64 }{{c.Errors, was.Errors}, {c.Total, was.Total}} {
		for labels, value := range of.was {
			if _, ok := of.now[labels]; !ok {
				of.now[labels] = value
			}
		}
	}
}

// fill puts an arm into a query.
func fill(query string, arm Arm) string {
	var addresses []string
	for _, i := range arm.Instances {
		addresses = append(addresses, i.Address)
	}
	instances := strings.Join(addresses, "|")
	if instances == "" {
		instances = "none" // "" would be any
	}
	return strings.NewReplacer("$release", arm.Release, "$commit", arm.Commit, "$instances", instances).Replace(query)
}

// answer is what the HTTP API of Prometheus answers.
type answer struct {
	Status    string `json:"status"`
	ErrorType string `json:"errorType"`
	Error     string `json:"error"`
	Data      struct {
		Type   string          `json:"resultType"`
		Result json.RawMessage `json:"result"`
	} `json:"data"`
}

// kind is the label by which the counters of one query are told from those of the
// other.
const kind = "makeitso_query"

// counters asks for the counters of an arm, by one query: between two, a fetch of
// metrics might end, and bring requests without their errors.
func (p Prometheus) counters(ctx context.Context, arm Arm, at time.Time) (Counters, error) {
	marked := func(query, as string) string {
		return fmt.Sprintf(`label_replace(%s, "%s", "%s", "__name__", ".*")`, fill(query, arm), kind, as)
	}
	query := marked(p.Errors, "errors") + " or " + marked(p.Total, "total")
	a, err := p.ask(ctx, url.Values{"query": {query}, "time": {strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)}})
	if err != nil {
		return Counters{}, err
	}
	if a.Status != "success" {
		return Counters{}, fault.New(fault.Invalid, "Prometheus cannot answer the queries for %s: %s: %s", arm.Release, a.ErrorType, a.Error).
			WithHint("it was asked for %s", query)
	}
	return a.counters()
}

// ask asks the HTTP API.
func (p Prometheus) ask(ctx context.Context, form url.Values) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(p.URL, "/")+"/api/v1/query", strings.NewReader(form.Encode()))
	if err != nil {
		return a, fmt.Errorf("ask Prometheus: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	got, err := client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			err = cause // more than that a deadline was exceeded
		}
		return a, fmt.Errorf("ask Prometheus at %s: %w", p.URL, err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(io.LimitReader(got.Body, longestAnswer))
	if err != nil {
		return a, fmt.Errorf("ask Prometheus at %s: %w", p.URL, err)
	}
	if err := json.Unmarshal(text, &a); err != nil || a.Status == "" {
		return a, fault.New(fault.Unavailable, "%s answers %s, and not as Prometheus does: %s", req.URL, got.Status, sample(bytes.TrimSpace(text))).
			WithHint("give url as the address of a Prometheus, without /api")
	}
	return a, nil
}

// counters gives the counters of an answer.
func (a answer) counters() (Counters, error) {
	var all []struct {
		Metric map[string]string  `json:"metric"`
		Value  [2]json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(a.Data.Result, &all); err != nil || a.Data.Type != "vector" {
		return Counters{}, fault.New(fault.Unavailable, "Prometheus answers with a %s and not with a vector: %v", a.Data.Type, err)
	}
	out := Counters{Errors: map[string]float64{}, Total: map[string]float64{}}
	for _, one := range all {
		query := one.Metric[kind]
		delete(one.Metric, kind)
		labels, err := json.Marshal(one.Metric) // in the order of the names
		if err != nil {
			return Counters{}, err
		}
		var text string
		if err := json.Unmarshal(one.Value[1], &text); err != nil {
			return Counters{}, fault.New(fault.Invalid, "the query %s: found a histogram in %s; allowed: a counter", query, labels)
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || !(value >= 0) || value != math.Trunc(value) || math.IsInf(value, 0) {
			return Counters{}, fault.New(fault.Invalid, "the query %s: found %s in %s; allowed: a counter, which is a whole number", query, text, labels).
				WithHint("ask for the counter itself, without rate or increase: by how much it grows is seen here")
		}
		map[bool]map[string]float64{true: out.Errors, false: out.Total}[query == "errors"][string(labels)] = value
	}
	return out, nil
}
