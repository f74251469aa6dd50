package rehearsal

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestReadMistakes(t *testing.T) {
	const good = `{"time":"2026-01-31T12:00:00Z","status":200,"ms":12.5}` + "\n"
	for _, c := range []struct{ name, text, want string }{
		{"empty", "\n\n", "a.log: error: found no recorded outcome"},
		{"text", good + "\n" + `127.0.0.1 - - "GET /"`, "a.log:3: error: it is not understood: invalid character '.' after top-level value"},
		{"no time", `{"status":200}`, "a.log:1: error: time is missing"},
		{"wrong time", good + `{"time":"yesterday","status":200}`, "a.log:2: error: it is not understood: parsing time"},
		{"no status", good + `{"time":"2026-01-31T12:00:00Z"}`, "a.log:2: error: status is missing"},
		{"wrong status", `{"time":"2026-01-31T12:00:00Z","status":600}`, "a.log:1: error: status: found 600; allowed: 100 to 599"},
		{"status in words", good + good + `{"time":"2026-01-31T12:00:00Z","status":"OK"}`, "a.log:3: error: status: found a string; allowed: JSON like"},
		{"wrong latency", `{"time":"2026-01-31T12:00:00Z","status":200,"latency_ms":-1}`, "a.log:1: error: ms: found -1"},
		{"too long", good + `{"path":"` + strings.Repeat("a", longestLine), "a.log:2: error: read the line: bufio.Scanner: token too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, mistakes := Read("a.log", strings.NewReader(c.text)); !strings.HasPrefix(mistakes.Error(), c.want) {
				t.Errorf("found %q, want %q", mistakes.Error(), c.want)
			}
		})
	}
	if _, mistakes := Read("a.log", strings.NewReader(strings.Repeat("wrong\n", 1000))); len(mistakes) != mostMistakes {
		t.Errorf("a wrong file has %d mistakes told", len(mistakes))
	}
}

// recording makes a log of ten requests a second, of them the arm canary each
// fifth, for a minute.
func recording(t *testing.T, service string) Lines {
	t.Helper()
	var text strings.Builder
	for i := range 600 {
		arm, status := "api-1", 200
		switch {
		case i%5 == 4:
			arm, status = "api-2", 500
		case i >= 100 && i < 110: // a burst
			status = 503
		case i == 0:
			status = 0
		}
		at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC).Add(time.Duration(i) * 100 * time.Millisecond)
		fmt.Fprintf(&text, `{"time":%q,"status":%d,"ms":%d,"service":%q,"arm":%q}`+"\n", at.Format(time.RFC3339Nano), status, 20+i%5, service, arm)
	}
	lines, mistakes := Read("a.log", strings.NewReader(text.String()))
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	return lines
}

func TestRecordingOf(t *testing.T) {
	lines := append(recording(t, "local/api"), recording(t, "local/preview/web")...)
	r, mistakes := lines.Of("a.log", "api")
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	traffic := Traffic{Recorded: r}
	if math.Abs(r.Rate-10) > 0.01 || len(r.requests) != 480 || math.Abs(traffic.errors()-9.0/480) > 1e-9 || !traffic.timed() {
		t.Errorf("found %v requests/s, %d of the live arm, %v errors", r.Rate, len(r.requests), traffic.errors())
	}
	if r, mistakes := recording(t, "").Of("a.log", "api"); len(mistakes) > 0 || len(r.requests) != 480 {
		t.Errorf("without names of services: %v", mistakes)
	}
	for _, c := range []struct {
		lines         Lines
		service, want string
	}{
		{lines, "web", "found nothing of service web; allowed: local/api, local/preview/web"},
		{append(recording(t, ""), lines...), "web", "found nothing of service web"},
		{lines[:19], "api", "found 16 outcomes of service api within 1.8s; allowed: at least 20"},
		{append(append(Lines{}, lines[:1]...), lines[0], lines[0]), "api", "found 3 outcomes of service api within 0s"},
	} {
		if _, mistakes := c.lines.Of("a.log", c.service); !strings.Contains(mistakes.Error(), c.want) {
			t.Errorf("found %q, want %q", mistakes.Error(), c.want)
		}
	}
}

// TestReplay says that a recording is replayed at its rate, or another, with
// its errors together where they came together.
func TestReplay(t *testing.T) {
	r, _ := recording(t, "").Of("a.log", "api")
	for _, rate := range []float64{0, 5, 35} {
		traffic := Traffic{Recorded: r, Rate: rate}
		s := traffic.begin(rand.New(rand.NewPCG(1, 1)))
		n, bad, bursts := 0, 0, 0
		for range 600 {
			inSecond, last := 0, time.Duration(0)
			for _, one := range s.next() {
				if one.at < last || one.at >= time.Second || one.latency < 20*time.Millisecond {
					t.Fatalf("found %+v after %s", one, last)
				}
				n, last = n+1, one.at
				if one.bad {
					inSecond++
				}
			}
			if bad += inSecond; inSecond > 0 {
				bursts++
			}
		}
		want := traffic.rate() * 600
		if math.Abs(float64(n)-want) > want/20 || math.Abs(float64(bad)/float64(n)-traffic.errors()) > 0.005 {
			t.Errorf("rate %v: found %d requests, %d bad, want %v requests", rate, n, bad, want)
		}
		if bursts > 40 {
			t.Errorf("rate %v: errors came in %d of 600 seconds, not in bursts", rate, bursts)
		}
	}
}

// TestRehearseRecorded plays a canary with recorded traffic, of which bursts hit
// both versions.
func TestRehearseRecorded(t *testing.T) {
	r, _ := recording(t, "").Of("a.log", "api")
	s := canary([]float64{0.2, 0.5}, 5*time.Minute, 0)
	s.Traffic = Traffic{Recorded: r}
	report := rehearsed(t, s)
	if !report.OK() || math.Abs(report.Rate-10) > 0.01 {
		t.Errorf("found %+v", report)
	}
	for _, fault := range []string{"20 % errors", "doubled latency"} {
		if got := result(t, report, fault); got.Must != Caught || got.RolledBack != s.Trials {
			t.Errorf("found %+v", got)
		}
	}
}
