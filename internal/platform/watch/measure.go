package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/metric"
	"makeitso/internal/record"
)

// measured is what was measured last, and up to when.
type measured struct {
	Until time.Time       `json:"until"`
	Mark  json.RawMessage `json:"mark"`
}

// maxGap is how long what was measured may be ago: what came later than that is
// not counted, since nobody knows any more when it came.
const maxGap = 5 * time.Minute

func measuredOf(records record.Store) record.Collection[measured] {
	return record.Of[measured](records, measuredKind)
}

// measure counts what was measured since the last time, if an alarm wants to
// know and a whole metric.Resolution has passed. It counts as of the time that is
// just over, so that an alarm is judged by it at once. Points and mark are one
// write: what is measured counts once.
func (w *Watcher) measure(ctx context.Context, alarms []Alarm, now time.Time) error {
	if !slices.ContainsFunc(alarms, func(a Alarm) bool { return a.Measured }) {
		return nil
	}
	now = now.UTC().Truncate(metric.Resolution)
	key := key(w.o.Environment, "edge")
	last, version, err := measuredOf(w.o.Records).GetVersion(ctx, key)
	if fault.Is(err, fault.NotFound) {
		version, err = record.Absent, nil
	}
	if err != nil {
		return fmt.Errorf("read what was measured last: %w", err)
	}
	if !now.After(last.Until) {
		return nil
	}
	if now.Sub(last.Until) > maxGap {
		last.Mark = nil
	}
	points, mark, err := w.o.Measure(ctx, last.Mark)
	if err != nil {
		return fmt.Errorf("measure: %w", err)
	}
	ops, err := w.add(ctx, points, now.Add(-metric.Resolution))
	if err != nil {
		return err
	}
	op, err := measuredOf(w.o.Records).PutOp(key, measured{now, mark}, version)
	if err != nil {
		return err
	}
	if err := w.o.Records.Write(ctx, append(ops, op)...); err != nil {
		return fmt.Errorf("store what was measured: %w", err)
	}
	return nil
}
