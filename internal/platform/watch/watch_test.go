package watch

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"makeitso/internal/metric"
)

// TestFollow writes, moves and truncates real files, and starts anew after each
// step: every line counts once.
func TestFollow(t *testing.T) {
	w := newWorld(t)
	w.write("a.log", "ERROR before the filter\nERROR half")
	w.filter("f", "ERROR")
	w.write("a.log", " a line\n")
	for _, step := range []struct {
		what string
		do   func()
		want float64
	}{
		{"the line that was half there", func() {}, 1},
		{"nothing", func() {}, 1},
		{"half a line", func() { w.write("a.log", "ERROR") }, 1},
		{"its end", func() { w.write("a.log", " x\nINFO\nERROR y\n") }, 3},
		{"a second file", func() { w.write("b.log", "ERROR\r\n") }, 4},
		{"rotation", func() {
			w.write("a.log", "ERROR last\n")
			w.do(os.Rename(w.path("a.log"), w.path("a.log.1")))
			w.write("a.log", "ERROR first\n")
		}, 6},
		{"what the old file still gets", func() { w.write("a.log.1", "ERROR late\n") }, 7},
		{"truncation", func() {
			w.do(os.Truncate(w.path("b.log"), 0))
			w.write("b.log", "ERROR 1234567890\n")
		}, 8},
		{"truncation with other content", func() {
			w.do(os.Truncate(w.path("b.log"), 0))
			w.write("b.log", "another ERROR\nERROR\n")
		}, 10},
		{"truncation to less", func() {
			w.do(os.Truncate(w.path("a.log"), 0))
			w.write("a.log", "ERROR\n")
		}, 11},
		{"a file that goes", func() { w.do(os.Remove(w.path("a.log.1"))) }, 11},
		{"one in its place", func() { w.write("c.log", "ERROR\nERROR\n") }, 13},
		{"a compressed one", func() { w.write("a.log.2.gz", "ERROR\n") }, 13},
		{"very long lines", func() { w.write("c.log", strings.Repeat("x", 3*maxRead)+"ERROR\nERROR\n") }, 15},
	} {
		step.do()
		w.pass(w.watcher(), start)
		if got := w.counted(); got != step.want {
			t.Errorf("after %s: %v counted, want %v", step.what, got, step.want)
		}
	}
}

// TestFollowCrashes fails before and after what was counted is written.
func TestFollowCrashes(t *testing.T) {
	for _, after := range []bool{false, true} {
		w := newWorld(t)
		w.filter("f", "ERROR")
		w.write("a.log", "ERROR\nERROR\n")
		w.store.fail, w.store.after = errors.New("killed"), after
		if _, err := w.watcher().pass(t.Context(), w.d, start, nil); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("answered %v", err)
		}
		w.write("a.log", "ERROR\n")
		w.pass(w.watcher(), start.Add(time.Minute))
		if got := w.counted(); got != 3 {
			t.Errorf("written %v: %v counted, want 3", after, got)
		}
	}
}

// TestFilterIsRemoved leaves nothing behind when a filter goes while its lines
// are counted.
func TestFilterIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.filter("f", "ERROR")
	w.write("a.log", "ERROR\n")
	w.do(Forget(t.Context(), w.store, "e", "f"))
	w.pass(w.watcher(), start)
	for _, kind := range []string{followedKind, metricKind} {
		if left, err := w.store.List(t.Context(), kind, ""); err != nil || len(left) > 0 {
			t.Errorf("left of %s: %v (%v)", kind, left, err)
		}
	}
}

func TestAlarm(t *testing.T) {
	w := newWorld(t)
	w.filter("f", "ERROR")
	w.alarm("a", map[string]any{"TreatMissingData": "notBreaching"})
	w.alarm("b", nil)
	w.alarm("math", map[string]any{"Namespace": nil, "MetricName": nil, "Statistic": nil, "Metrics": []any{
		map[string]any{"Id": "twice", "Expression": "n * 2"},
		map[string]any{"Id": "n", "ReturnData": false, "MetricStat": map[string]any{"Stat": "p50", "Metric": map[string]any{"Namespace": "s", "MetricName": "n"}}},
	}})
	w.alarm("bare", map[string]any{"MetricName": ""})
	by := w.watcher()
	want := func(at time.Duration, a, b metric.State) {
		t.Helper()
		if next := w.pass(by, start.Add(at)); next != start.Add(at).Truncate(time.Minute).Add(time.Minute) {
			t.Errorf("the next evaluation is at %s", next)
		}
		if w.said["a"].State != a || w.said["b"].State != b {
			t.Errorf("after %s: a is %+v, b is %+v; want %s, %s", at, w.said["a"], w.said["b"], a, b)
		}
	}
	want(0, metric.OK, metric.Insufficient)
	if got := w.said["b"].Reason; got != "Unchecked: Initial alarm creation" {
		t.Errorf("a new alarm: %s", got)
	}
	w.write("x.log", "ERROR\n")
	want(30*time.Second, metric.OK, metric.Insufficient)
	want(time.Minute, metric.On, metric.On)
	if got := w.said["a"].Reason; got != "Threshold Crossed: 1 out of the last 1 datapoints [1.0 (02/01/26 12:00:00)] was greater than the threshold (0.0) (minimum 1 datapoint for OK -> ALARM transition)." {
		t.Errorf("it is on: %s", got)
	}
	w.say("a", Said{State: metric.OK, Reason: "by hand"})
	want(time.Minute+30*time.Second, metric.OK, metric.On) // holds until the next evaluation
	by = w.watcher()
	if got := w.said["math"].Reason; !strings.Contains(got, "datapoints [2.0 (02/01/26 12:00:00)] was greater") {
		t.Errorf("the one with an expression: %s", got)
	}
	want(2*time.Minute, metric.On, metric.On)
	want(4*time.Minute, metric.OK, metric.Insufficient)
	if w.version["bare"] != 0 {
		t.Errorf("of an alarm that cannot be evaluated is said %+v", w.said["bare"])
	}
}

func TestCompositeAlarm(t *testing.T) {
	w := newWorld(t)
	declare := func(name, text string) {
		rule, err := metric.ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		w.d.Alarms = append(w.d.Alarms, Alarm{Token: name, Name: name, ARN: "arn:" + name, Rule: &rule})
	}
	declare("outer", "ALARM(inner) AND NOT ALARM(maintenance)") // before the one that it asks about
	declare("inner", `ALARM("arn:a") OR ALARM(b)`)
	declare("circle", "NOT ALARM(circle)")
	for _, name := range []string{"a", "b", "maintenance"} {
		w.alarm(name, map[string]any{"MetricName": ""})
	}
	by := w.watcher()
	want := func(outer, inner metric.State) {
		t.Helper()
		w.pass(by, start)
		if w.said["outer"].State != outer || w.said["inner"].State != inner {
			t.Errorf("outer is %+v, inner is %+v; want %s, %s", w.said["outer"], w.said["inner"], outer, inner)
		}
	}
	want(metric.OK, metric.OK)
	w.say("a", Said{State: metric.On, Time: start})
	want(metric.On, metric.On)
	if got := w.said["inner"].Reason; got != "arn:a transitioned to ALARM at Friday 02 January, 2026 12:00:00 UTC" {
		t.Errorf("inner is on: %s", got)
	}
	w.say("maintenance", Said{State: metric.On, Time: start})
	want(metric.OK, metric.On)
}

// TestRetention removes what nobody has written for as long as logs are kept.
func TestRetention(t *testing.T) {
	const day = 24 * time.Hour
	w := newWorld(t)
	w.d.Groups["g"] = Group{Sources: w.d.Groups["g"].Sources, Retention: day, Streams: map[string]bool{"declared": true}}
	for _, name := range []string{"old", "declared", "new", "old.1.gz"} {
		w.write(name, "text\n")
		w.do(os.Chtimes(w.path(name), start, start))
	}
	w.do(os.Chtimes(w.path("new"), start, start.Add(day/2)))
	if next := w.pass(w.watcher(), start.Add(day/2)); next != start.Add(day/2).Add(atLeastEvery) {
		t.Errorf("looks again at %s", next)
	}
	if next := w.pass(w.watcher(), start.Add(day-time.Minute)); !next.Equal(start.Add(day)) {
		t.Errorf("the first is due at %s", next)
	}
	size := func(name string) int64 {
		info, err := os.Stat(w.path(name))
		if err != nil {
			return -1
		}
		return info.Size()
	}
	w.pass(w.watcher(), start.Add(day))
	if size("old") != 0 || size("declared") != 0 || size("new") != 5 || size("old.1.gz") != 0 {
		t.Errorf("sizes are %d %d %d %d", size("old"), size("declared"), size("new"), size("old.1.gz"))
	}
	for _, name := range []string{"old", "declared"} {
		w.do(os.Chtimes(w.path(name), start, start))
	}
	w.pass(w.watcher(), start.Add(day))
	if size("old") != -1 || size("declared") != 0 {
		t.Errorf("later, sizes are %d %d", size("old"), size("declared"))
	}
}

// TestSweep keeps points as long as alarms need them.
func TestSweep(t *testing.T) {
	w := newWorld(t)
	w.filter("f", "ERROR")
	w.write("a.log", "ERROR\n")
	by := w.watcher()
	w.pass(by, start)
	w.alarm("a", map[string]any{"Period": 3600, "EvaluationPeriods": 3})
	for after, want := range map[time.Duration]float64{keepAtLeast + time.Hour: 1, 5 * time.Hour: 1} {
		if w.pass(by, start.Add(after)); w.counted() != want {
			t.Errorf("after %s: %v", after, w.counted())
		}
	}
	if w.pass(by, start.Add(5*time.Hour+sweepEvery)); w.counted() != 0 {
		t.Errorf("%v is left", w.counted())
	}
}

// TestRun has lines counted that are written while the watcher runs, by a filter
// that is declared meanwhile.
func TestRun(t *testing.T) {
	w := newWorld(t)
	w.store.written = make(chan struct{}, 100)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	by := w.watcher()
	go func() { ended <- by.Run(ctx) }()
	w.mu.Lock()
	w.filter("f", "ERROR")
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
	for i := range 3 {
		w.write("a.log", "ERROR\nWARN\n")
		for w.counted() < float64(i+1) {
			<-w.store.written
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if w.counted() != 3 || len(w.told) > 0 {
		t.Errorf("%v counted, told %q", w.counted(), w.told)
	}
}

// TestForgetAll leaves nothing of an environment, and all of another.
func TestForgetAll(t *testing.T) {
	w := newWorld(t)
	w.filter("f", "ERROR")
	w.write("a.log", "ERROR\n")
	w.pass(w.watcher(), start)
	w.do(Log(t.Context(), w.store, "e", "t", "events", true), Log(t.Context(), w.store, "e2", "t", "events", true))
	ops, err := ForgetAll(t.Context(), w.store, "e")
	w.do(err, w.store.Write(t.Context(), ops...))
	left := 0
	for _, kind := range []string{followedKind, metricKind, trailKind} {
		all, err := w.store.List(t.Context(), kind, "")
		w.do(err)
		left += len(all)
	}
	if left != 1 {
		t.Errorf("%d records are left, want that of the other", left)
	}
}
