package watch

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"time"

	"makeitso/internal/metric"
)

// meter counts up, and measures what it has counted since a mark.
type meter struct {
	count, asked int
	fail         error
}

func (m *meter) measure(_ context.Context, mark json.RawMessage) (map[metric.Series]metric.Point, json.RawMessage, error) {
	m.asked++
	before := m.count
	if mark != nil {
		if err := json.Unmarshal(mark, &before); err != nil {
			return nil, nil, err
		}
	}
	points := map[metric.Series]metric.Point{}
	if n := m.count - before; n > 0 {
		points[metric.SeriesOf("s", "n")] = metric.Point{}.Add(float64(n))
	}
	return points, json.RawMessage(strconv.Itoa(m.count)), m.fail
}

// TestMeasure counts once what is measured, also by a process that was started
// anew or failed while it counted.
func TestMeasure(t *testing.T) {
	w, m := newWorld(t), &meter{count: 100}
	w.measure = m.measure
	by, now := w.watcher(), start
	pass := func(after time.Duration) error {
		now = now.Add(after)
		_, err := by.pass(t.Context(), w.d, now, nil)
		return err
	}
	want := func(what string, err error, counted float64, asked int) {
		t.Helper()
		if err != nil || w.counted() != counted || m.asked != asked {
			t.Errorf("%s: %v counted, asked %d times (%v); want %v, %d", what, w.counted(), m.asked, err, counted, asked)
		}
	}
	w.alarm("other", map[string]any{"Period": 10})
	want("for no alarm that wants to know", pass(0), 0, 0)
	w.alarm("a", map[string]any{"Period": 10, "Threshold": 4})
	w.d.Alarms[1].Measured = true
	want("what was before", pass(time.Second), 0, 1)
	m.count += 5
	want("within the same ten seconds", pass(time.Second), 0, 1)
	want("after them", pass(metric.Resolution), 5, 2)
	if w.said["a"].State != metric.On {
		t.Errorf("by what was just counted, the alarm is %+v", w.said["a"])
	}
	m.count++
	by = w.watcher()
	want("after a restart", pass(metric.Resolution), 6, 3)

	m.count++
	m.fail = errors.New("away")
	if err := pass(metric.Resolution); !errors.Is(err, m.fail) {
		t.Errorf("of a meter that fails, %v", err)
	}
	m.fail = nil
	w.store.fail = errors.New("killed")
	if err := pass(0); err == nil || w.counted() != 6 {
		t.Errorf("of a store that fails, %v; %v counted", err, w.counted())
	}
	w.store.fail, w.store.after = errors.New("killed"), true
	if err := pass(0); err == nil {
		t.Error("a store that fails after it wrote did not fail the pass")
	}
	want("written, without knowing", pass(0), 7, 6)
	m.count += 50
	want("after a long time", pass(maxGap+metric.Resolution), 7, 7)
	m.count++
	want("from then on", pass(metric.Resolution), 8, 8)
}
