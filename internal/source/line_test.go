package source

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	common := Lines{Pattern: `" (?P<status>[0-9]{3}) `, Except: `GET /healthz `}
	for _, c := range []struct {
		lines Lines
		text  string
		want  reading
	}{
		{common, `::1 - - [31/Jan/2026:12:00:00 +0000] "GET /orders HTTP/1.1" 200 12`, good},
		{common, `::1 - - [31/Jan/2026:12:00:00 +0000] "GET /500 HTTP/1.1" 404 12`, good},
		{common, `::1 - - [31/Jan/2026:12:00:00 +0000] "GET /orders HTTP/1.1" 503 12`, bad},
		{common, `::1 - - [31/Jan/2026:12:00:00 +0000] "GET /healthz HTTP/1.1" 503 12`, excepted},
		{common, `listening on :8080`, noOutcome},
		{common, `" 600 `, noOutcome},
		{Lines{Pattern: `code=(?P<status>\S+)`}, `code=ok`, noOutcome},
		{Lines{Pattern: `code=(?P<status>\S+)`}, `code=599`, bad},
		{Lines{Pattern: `code=(?P<status>\S+)`}, `code=099`, noOutcome},
		{Lines{Pattern: `x(?P<status>\d+)?`}, `x`, noOutcome},
		{Lines{Field: "status"}, `{"status":200}`, good},
		{Lines{Field: "status"}, `{"status": "500"}`, bad},
		{Lines{Field: "status", Except: `"/healthz"`}, `{"status": 500, "path": "/healthz"}`, excepted},
		{Lines{Field: "status"}, `{"Status":500}`, noOutcome},
		{Lines{Field: "status"}, `{"status":500`, noOutcome},
		{Lines{Field: "status"}, `{"status":null}`, noOutcome},
		{Lines{Field: "status"}, `{"status":{"a":500}}`, noOutcome},
		{Lines{Field: "status"}, `[500]`, noOutcome},
		{Lines{Field: "http.response.status"}, `{"http":{"response":{"status":502}}}`, bad},
		{Lines{Field: "http.status"}, `{"http":"x","http.status":502}`, bad},
		{Lines{Field: "http.status"}, `{"http":[]}`, noOutcome},
		{Lines{Field: "http."}, `{"http":{"":502}}`, noOutcome},
	} {
		parse, err := c.lines.parser()
		if err != nil {
			t.Fatal(err)
		}
		if got := parse([]byte(c.text)); got != c.want {
			t.Errorf("%s: %s: got %d, want %d", c.lines, c.text, got, c.want)
		}
	}
	for _, l := range []Lines{{Pattern: "("}, {Pattern: "x"}, {Field: "x", Except: "("}} {
		if _, err := l.parser(); err == nil {
			t.Errorf("%+v is read", l)
		}
	}
}

// Lines come out whole however they are written, and one without an end is told
// when it has it. Of what is too long only the beginning is kept.
func TestSplitter(t *testing.T) {
	long := strings.Repeat("x", 2*longestLine)
	text := "one\n\ntwo\r\n" + long + "\nlast"
	for _, size := range []int{1, 3, 1000, len(text)} {
		var got []string
		s := splitter{each: func(line []byte) { got = append(got, string(line)) }}
		for part := range slices.Chunk([]byte(text), size) {
			if n, err := s.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		if s.pending != 4 || len(got) != 4 {
			t.Fatalf("by %d: %d lines, %d pending", size, len(got), s.pending)
		}
		if s.end(); got[2] != "two\r" || got[3] != long[:longestLine] || got[4] != "last" || s.pending != 0 {
			t.Errorf("by %d: %.40q", size, got)
		}
	}
}

func TestSample(t *testing.T) {
	var out Reading
	c := counter{func([]byte) reading { return noOutcome }, "api-1", &out}
	for _, line := range []string{"first", "", "  \r", "last " + strings.Repeat("é", 200)} {
		c.add([]byte(line))
	}
	if out.Ignored != 2 || out.Sample != "last "+strings.Repeat("é", 97)+"…" {
		t.Errorf("got %+v", out.Tally)
	}
	out.Add(Tally{Counted: 3, Ignored: 1, Gaps: 1, Trouble: "x"})
	if want := (Tally{Counted: 3, Ignored: 3, Sample: out.Sample, Gaps: 1, Trouble: "x"}); out.Tally != want {
		t.Errorf("got %+v", out.Tally)
	}
}

func TestSourceInWords(t *testing.T) {
	for want, s := range map[string]Source{
		"the edge": {},
		"the logs of the instances, by the field status":              {Log: Lines{Field: "status"}},
		`the logs of the instances, by the pattern " (?P<status>.) "`: {Log: Lines{Pattern: " (?P<status>.) "}},
		`what "./count" prints, by the field status except "healthz"`: {Command: Command{"./count", Lines{Field: "status", Except: "healthz"}}},
		"Prometheus at http://localhost:9090":                         {Prometheus: Prometheus{URL: "http://localhost:9090"}},
	} {
		if got := s.String(); got != want || s.Edge() != (want == "the edge") {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if fmt.Sprint(Source{Log: Lines{Field: "a"}}.Every(), Source{Prometheus: Prometheus{URL: "a"}}.Every()) != "1s 5s" {
		t.Error("how often each is read has changed")
	}
}
