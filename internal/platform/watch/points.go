package watch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/metric"
	"makeitso/internal/record"
)

// chunk is the points of a series in one minute.
type chunk struct {
	Series metric.Series  `json:"series"`
	Points []metric.Point `json:"points"`
}

const minuteFormat = "2006-01-02T15:04"

// seriesKey is what the keys of all chunks of a series begin with.
func (w *Watcher) seriesKey(s metric.Series) string {
	sum := sha256.Sum256([]byte(s))
	return key(w.o.Environment, hex.EncodeToString(sum[:16])) + "/"
}

// minuteOf gives the minute of a chunk by its key.
func minuteOf(key string) time.Time {
	at, err := time.Parse(minuteFormat, key[strings.LastIndexByte(key, '/')+1:])
	if err != nil { // no key of ours
		return time.Time{}
	}
	return at
}

// points gives the points of a series from a time on, up to another.
func (w *Watcher) points(ctx context.Context, s metric.Series, from, to time.Time) ([]metric.Point, error) {
	chunks, err := w.metrics.List(ctx, w.seriesKey(s))
	if err != nil {
		return nil, fmt.Errorf("read the points of %s: %w", s, err)
	}
	var all []metric.Point
	for _, c := range chunks {
		for _, p := range c.Points {
			if !p.Time.Before(from) && p.Time.Before(to) {
				all = append(all, p)
			}
		}
	}
	return all, nil
}

// count gives what adds samples to their series at now.
func (w *Watcher) count(ctx context.Context, samples []metric.Sample, now time.Time) ([]record.Op, error) {
	sums := map[metric.Series]metric.Point{}
	for _, s := range samples {
		sums[s.Series] = sums[s.Series].Add(s.Value)
	}
	return w.add(ctx, sums, now)
}

// add gives what adds points to their series at a time.
func (w *Watcher) add(ctx context.Context, sums map[metric.Series]metric.Point, now time.Time) ([]record.Op, error) {
	now = now.UTC().Truncate(metric.Resolution)
	var ops []record.Op
	for series, sum := range sums {
		sum.Time = now
		key := w.seriesKey(series) + now.Format(minuteFormat)
		c, err := w.metrics.Get(ctx, key)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, fmt.Errorf("read the points of %s: %w", series, err)
		}
		c.Series = series
		if i := slices.IndexFunc(c.Points, func(p metric.Point) bool { return p.Time.Equal(now) }); i >= 0 {
			c.Points[i] = c.Points[i].Join(sum)
		} else {
			c.Points = append(c.Points, sum)
		}
		op, err := w.metrics.PutOp(key, c, record.Any)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}
