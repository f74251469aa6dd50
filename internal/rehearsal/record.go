package rehearsal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"makeitso/internal/diag"
	"makeitso/internal/span"
)

// Lines are outcomes as they were recorded, of all services.
type Lines []line

// line is what is read of a line of the edge's access log, or of another file
// of the same shape.
type line struct {
	Time    *time.Time `json:"time"`
	Status  *int       `json:"status"`
	Ms      *float64   `json:"ms"`
	Latency *float64   `json:"latency_ms"` // another name for it
	Service string     `json:"service"`
	Arm     string     `json:"arm"`
}

const (
	longestLine = 1 << 20
	// mostMistakes is how many are told of one file: a file of another kind
	// has one in every line.
	mostMistakes = 10
)

// Read reads recorded outcomes, one JSON object a line; empty lines do not
// count. file is the name for mistakes.
func Read(file string, from io.Reader) (Lines, diag.List) {
	var all Lines
	var mistakes diag.List
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, longestLine)
	number := 1
	for ; lines.Scan() && len(mistakes) < mostMistakes; number++ {
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		one, wrong := readLine(text)
		if wrong.Summary != "" {
			d := mistakes.Errorf(diag.Pos{File: file, Line: number}, "%s", wrong.Summary)
			d.Allowed, d.Hint = wrong.Allowed, wrong.Hint
			continue
		}
		all = append(all, one)
	}
	if err := lines.Err(); err != nil {
		mistakes.Errorf(diag.Pos{File: file, Line: number}, "read the line: %v", err)
	}
	if len(all) == 0 && len(mistakes) == 0 {
		mistakes.Errorf(diag.Pos{File: file}, "found no recorded outcome").Allowed = shape
	}
	return all, mistakes
}

// shape is what a line looks like.
const shape = `JSON like {"time":"2026-01-31T12:00:00Z","status":200,"ms":12.5}, one object a line`

func readLine(text []byte) (line, diag.Diagnostic) {
	var one line
	if err := json.Unmarshal(text, &one); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) && kind.Field != "" {
			return one, diag.Diagnostic{Summary: fmt.Sprintf("%s: found a %s", kind.Field, kind.Value), Allowed: shape}
		}
		return one, diag.Diagnostic{Summary: fmt.Sprintf("it is not understood: %v", err), Allowed: shape}
	}
	if one.Ms == nil {
		one.Ms = one.Latency
	}
	switch {
	case one.Time == nil:
		return one, diag.Diagnostic{Summary: "time is missing", Allowed: shape}
	case one.Status == nil:
		return one, diag.Diagnostic{Summary: "status is missing", Allowed: shape}
	case *one.Status != 0 && (*one.Status < 100 || *one.Status > 599):
		return one, diag.Diagnostic{Summary: fmt.Sprintf("status: found %d", *one.Status), Allowed: "100 to 599, or 0 where no answer began"}
	case one.Ms != nil && !(*one.Ms >= 0 && *one.Ms < 1e9):
		return one, diag.Diagnostic{Summary: fmt.Sprintf("ms: found %v", *one.Ms), Allowed: "milliseconds, 0 or more"}
	}
	return one, diag.Diagnostic{}
}

// Recording is the recorded outcomes of one service, in order of arrival.
type Recording struct {
	Rate     float64 // requests a second, of all arms
	requests []request
	period   time.Duration // after which it begins again
}

// fewest is how many outcomes there must be to stand for a service.
const fewest = 20

// Of gives the recording of one service; where no line names a service, all are
// of it. Where lines name arms, the one with the
// most requests stands for the service as it is; the rate is that of all.
func (all Lines) Of(file, service string) (*Recording, diag.List) {
	var mistakes diag.List
	mine, names := all.of(service)
	if len(mine) == 0 {
		mistakes.Errorf(diag.Pos{File: file}, "found nothing of service %s", service).Allowed = strings.Join(names, ", ")
		return nil, mistakes
	}
	slices.SortStableFunc(mine, func(a, b line) int { return a.Time.Compare(*b.Time) })
	arms := map[string]int{}
	for _, one := range mine {
		arms[one.Arm]++
	}
	live := slices.MaxFunc(slices.Sorted(maps.Keys(arms)), func(a, b string) int { return arms[a] - arms[b] })
	first := *mine[0].Time
	took := mine[len(mine)-1].Time.Sub(first)
	if arms[live] < fewest || took <= 0 {
		mistakes.Errorf(diag.Pos{File: file}, "found %d outcomes of service %s within %s", arms[live], service, span.Text(took)).
			Allowed = fmt.Sprintf("at least %d of one version, at different times", fewest)
		return nil, mistakes
	}
	n := time.Duration(len(mine))
	r := &Recording{period: took + took/(n-1)} // and as long again as between two
	r.Rate = float64(n) / r.period.Seconds()
	for _, one := range mine {
		if one.Arm == live {
			r.requests = append(r.requests, one.request(first))
		}
	}
	return r, nil
}

func (l line) request(first time.Time) request {
	r := request{at: l.Time.Sub(first), bad: *l.Status >= 500 || *l.Status == 0}
	if l.Ms != nil {
		r.latency = time.Duration(*l.Ms * float64(time.Millisecond))
	}
	return r
}

// of gives the lines of a service and the names of all. The edge names a
// service after its environment, as in local/api.
func (all Lines) of(service string) (mine Lines, names []string) {
	var nameless Lines
	seen := map[string]bool{}
	for _, one := range all {
		seen[one.Service] = true
		_, name, _ := strings.Cut(one.Service, "/")
		switch {
		case one.Service == "":
			nameless = append(nameless, one)
		case one.Service == service, name == service:
			mine = append(mine, one)
		}
	}
	delete(seen, "")
	if len(seen) == 0 {
		mine = nameless
	}
	return mine, slices.Sorted(maps.Keys(seen))
}
