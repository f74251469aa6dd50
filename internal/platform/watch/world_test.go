package watch

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/metric"
	"makeitso/internal/record"
)

// start is when tests begin: at the beginning of a minute.
var start = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// world is an environment of the test's own.
type world struct {
	t       *testing.T
	store   *store
	folder  string
	mu      sync.Mutex
	d       Declared
	changed chan struct{}
	said    map[string]Said
	version map[string]int64
	put     func(bucket, key string, body []byte) error
	told    []string
	measure func(context.Context, json.RawMessage) (map[metric.Series]metric.Point, json.RawMessage, error)
}

// store is a store that can be made to fail, and tells of what was written.
type store struct {
	record.Store
	fail    error // of the next write
	after   bool  // it is written, and that is not known
	written chan struct{}
}

func (s *store) Write(ctx context.Context, ops ...record.Op) error {
	fail := s.fail
	s.fail = nil
	if fail != nil && !s.after {
		return fail
	}
	err := s.Store.Write(ctx, ops...)
	if s.written != nil {
		s.written <- struct{}{}
	}
	return errors.Join(err, fail)
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, store: &store{Store: record.NewMemory()}, folder: t.TempDir(), changed: make(chan struct{}),
		said: map[string]Said{}, version: map[string]int64{},
	}
	w.d = Declared{Groups: map[string]Group{"g": {Sources: []Source{{Folder: w.folder}}}}}
	return w
}

// watcher is one as after a start of the process.
func (w *world) watcher() *Watcher {
	return New(Options{
		Environment: "e", Records: w.store, Region: "eu-west-1", Account: "123456789012", Events: "events",
		Declared: func(context.Context) (Declared, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.d, nil
		},
		Changed: func() <-chan struct{} {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.changed
		},
		Said: func(_ context.Context, a Alarm) (Said, int64, error) {
			if w.version[a.Token] == 0 {
				return Said{State: metric.Insufficient}, record.Absent, nil
			}
			return w.said[a.Token], w.version[a.Token], nil
		},
		Say: func(_ context.Context, a Alarm, s Said, version int64) error {
			if max(version, 0) != w.version[a.Token] {
				return fault.New(fault.Conflict, "said meanwhile")
			}
			w.say(a.Token, s)
			return nil
		},
		Measure: func(ctx context.Context, mark json.RawMessage) (map[metric.Series]metric.Point, json.RawMessage, error) {
			return w.measure(ctx, mark)
		},
		Put: func(_ context.Context, bucket, key string, body []byte) error { return w.put(bucket, key, body) },
		Announce: func(text string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, text)
		},
	})
}

func (w *world) say(token string, s Said) {
	w.said[token] = s
	w.version[token]++
}

// filter declares a filter of group g that counts what matches as n.
func (w *world) filter(token, pattern string) {
	w.t.Helper()
	f, err := metric.ReadFilter(map[string]any{"LogGroupName": "g", "FilterPattern": pattern, "MetricTransformations": []any{
		map[string]any{"MetricName": "n", "MetricNamespace": "s", "MetricValue": "1"},
	}})
	if err == nil {
		err = Begin(w.t.Context(), w.store, "e", token, w.d.Groups["g"].Sources)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.d.Filters = append(w.d.Filters, Filter{token, f})
}

// alarm declares an alarm that is on when n is more than 0 in a period.
func (w *world) alarm(token string, more map[string]any) {
	w.t.Helper()
	properties := map[string]any{"Namespace": "s", "MetricName": "n", "Statistic": "Sum", "Threshold": 0, "ComparisonOperator": "GreaterThanThreshold", "EvaluationPeriods": 1}
	for name, value := range more {
		if properties[name] = value; value == nil {
			delete(properties, name)
		}
	}
	m, err := metric.ReadAlarm(properties)
	if err != nil {
		w.t.Fatal(err)
	}
	w.d.Alarms = append(w.d.Alarms, Alarm{Token: token, Name: token, ARN: "arn:" + token, Metric: m})
}

func (w *world) pass(by *Watcher, now time.Time) (next time.Time) {
	w.t.Helper()
	next, err := by.pass(w.t.Context(), w.d, now, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return next
}

// counted gives the sum of n.
func (w *world) counted() float64 {
	w.t.Helper()
	points, err := w.watcher().points(w.t.Context(), metric.SeriesOf("s", "n"), time.Time{}, start.AddDate(100, 0, 0))
	if err != nil {
		w.t.Fatal(err)
	}
	sum := 0.0
	for _, p := range points {
		sum += p.Sum
	}
	return sum
}

func (w *world) path(name string) string { return filepath.Join(w.folder, name) }

// write appends to a file.
func (w *world) write(name, text string) {
	w.t.Helper()
	file, err := os.OpenFile(w.path(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = file.WriteString(text)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// do fails the test unless all went well.
func (w *world) do(errs ...error) {
	w.t.Helper()
	if err := errors.Join(errs...); err != nil {
		w.t.Fatal(err)
	}
}
