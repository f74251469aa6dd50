package release

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/edge"
	"makeitso/internal/fault"
)

func TestReportOfABadCanary(t *testing.T) {
	w := newWorld(t)
	w.instances.log = filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(w.instances.log, []byte(strings.Repeat("fine\n", 20)+"no such column, password hunter2-long\n"+strings.Repeat("x", 400)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := quick(w)
	looks := 0
	o.Failures = func(service, release string, _ time.Time, most int) ([]edge.Failure, error) {
		if looks++; looks < 3 || service != "local/api" || release != "api-2" || most < 1 {
			return nil, nil // the line is not written yet
		}
		all := []edge.Failure{{ID: "4711", Method: "GET", Path: "/orders", Status: 500, Instance: "local.api-2.3"}}
		if looks > 3 { // nor the last one yet
			all = append(all, edge.Failure{ID: "4712", Method: "GET", Path: "/cart", Status: 502})
		}
		return all, nil
	}
	c := w.live(w.store, o)
	c.mustRelease(canary(time.Hour), "one", "run-1")
	w.load(500 * time.Microsecond)
	if _, err := c.Release(within(t), canary(time.Hour), Artifact{Digest: "broken", Commit: "c0ffee"}, map[string]string{"P": "hunter2-long"}, "run-2"); !fault.Is(err, fault.Failed) {
		t.Fatal(err)
	}
	var r Report
	eventually(t, "the report", func() bool {
		var err error
		r, err = c.Report(within(t), "api", "")
		return err == nil && r.Took > 0
	})
	if again, err := c.Report(within(t), "api", "api-2"); err != nil || again.Cause != r.Cause {
		t.Errorf("by its id: %+v, %v", again, err)
	}
	text := r.Text()
	for _, want := range []string{
		"api-2 of local went back at ", ", with 10 % of the traffic\n  5xx: canary ", "\nevidence\n", "* 5xx ", "  canary          ", "  difference      the canary is ",
		"\nguarantee\n  at most 1 in 100 canaries ", "  500  GET    /orders  0 ms  4711  local.api-2.3", "  502  GET    /cart  0 ms  4712", "\n  | no such column, password ****\n", "xxx…\n", "\nput back\n  api-1 with 2 instances, image one\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "  | "); n != 2*reportLines && n != reportLines || strings.Contains(text, "hunter2") {
		t.Errorf("%d lines of logs in\n%s", n, text)
	}
	if told := w.events.text(); !strings.Contains(told, "report: evidence ") || !strings.Contains(told, "; all of it: makeitso why api-2") {
		t.Errorf("told:\n%s", told)
	}
}

// What went wrong without a judgement is reported too, and what cannot be found
// out does not hold up the way back.
func TestReportOfWhatNeverCame(t *testing.T) {
	w := newWorld(t)
	w.instances.log = filepath.Join(t.TempDir(), "gone")
	o := quick(w)
	o.Failures = func(string, string, time.Time, int) ([]edge.Failure, error) {
		return nil, errors.New("the log is torn")
	}
	c := w.live(w.store, o)
	if _, err := c.Report(within(t), "api", ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("before all: %v", err)
	}
	if _, err := c.Release(within(t), api, Artifact{Digest: "exits"}, nil, "run-1"); !fault.Is(err, fault.Failed) {
		t.Fatal(err)
	}
	var r Report
	eventually(t, "the report", func() bool {
		var err error
		r, err = c.Report(within(t), "api", "api-1")
		return err == nil && r.Took > 0
	})
	text := r.Text()
	for _, want := range []string{"exit status 3", "put back\n  nothing: there was no release before", "not known: the log is torn"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if r.Judgement != nil || strings.Contains(text, "guarantee") {
		t.Errorf("a judgement of nothing:\n%s", text)
	}
	c.mustRelease(api, "one", "run-2")
	if _, err := c.Report(within(t), "api", "api-2"); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "api-2 did not go back: it is LIVE") {
		t.Errorf("of one that is live: %v", err)
	}
}

// One point is no curve.
func TestCurveOfAReport(t *testing.T) {
	r := Report{Judgement: &analysis.Explanation{}, Series: []analysis.Point{{Evidence: 1, Limit: 100}, {Time: time.Time{}.Add(time.Second), Evidence: 100, Limit: 100}}}
	if text := r.Text(); !strings.Contains(text, "\n  ▁█  over 1s; ") {
		t.Errorf("two points:\n%s", text)
	}
	if r.Series = r.Series[1:]; strings.Contains(r.Text(), "over") {
		t.Errorf("one point:\n%s", r.Text())
	}
}

func TestSparkline(t *testing.T) {
	var points []analysis.Point
	for _, e := range []float64{0.5, 1, 10, 100, 1000} {
		points = append(points, analysis.Point{Evidence: e, Limit: 100})
	}
	if got := Sparkline(points); got != "▁▁▄██" {
		t.Errorf("got %s", got)
	}
	if got := []rune(Sparkline(slices.Repeat(points, 30))); len(got) != sparks {
		t.Errorf("got %d", len(got))
	}
	if Sparkline(nil) != "" {
		t.Error("something of nothing")
	}
}
