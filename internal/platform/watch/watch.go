// Package watch is what goes on beside the resources of an environment on this
// machine: it follows the files of log groups and counts what filters match,
// counts what is measured elsewhere, evaluates alarms, removes logs that are older
// than they shall be, and writes trails into buckets. It knows files, records and
// the clock; it must not know stacks, or how resources are kept.
package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"makeitso/internal/fault"
	"makeitso/internal/metric"
	"makeitso/internal/record"
)

// Declared is what of an environment is to be watched.
type Declared struct {
	Groups  map[string]Group // by name
	Filters []Filter
	Alarms  []Alarm
	Trails  []Trail
}

// Group is a log group.
type Group struct {
	Sources   []Source
	Retention time.Duration   // 0 for ever
	Streams   map[string]bool // the files that stay even if they are empty
}

// Filter is a metric filter.
type Filter struct {
	Token string
	metric.Filter
}

// Alarm is a metric alarm, or, if it has a rule, a composite one.
type Alarm struct {
	Token, Name, ARN string
	Metric           metric.Alarm
	Measured         bool // it watches what Measure gives
	Rule             *metric.Rule
}

// Said is what is known of an alarm's state.
type Said struct {
	State  metric.State `json:"state"`
	Reason string       `json:"reason,omitempty"`
	Time   time.Time    `json:"time"`
}

// Options are what a Watcher works with. All but Events, Announce and Now are
// required.
type Options struct {
	Environment string
	Records     record.Store
	// Declared gives what is to be watched. Changed gives a channel that is
	// closed when that, or the state of an alarm, is another.
	Declared func(ctx context.Context) (Declared, error)
	Changed  func() <-chan struct{}
	// Said gives an alarm's state and its version, record.Absent if none was
	// ever said. Say sets it unless it has changed since that version, which
	// is fault.Conflict.
	Said func(ctx context.Context, a Alarm) (Said, int64, error)
	Say  func(ctx context.Context, a Alarm, s Said, version int64) error
	// Measure gives what has come since it gave mark, and a new mark; with no
	// mark, what is from now on. Needed for alarms that are Measured.
	Measure func(ctx context.Context, mark json.RawMessage) (map[metric.Series]metric.Point, json.RawMessage, error)
	// Put stores an object of a trail.
	Put func(ctx context.Context, bucket, key string, gzipped []byte) error
	// Events is the stream of records that trails write down.
	Events          string
	Region, Account string
	// Announce is told once what cannot be done, and why.
	Announce func(text string)
	Now      func() time.Time
}

// Watcher watches one environment.
type Watcher struct {
	o         Options
	followed  record.Collection[positions]
	metrics   record.Collection[chunk]
	evaluated map[string]time.Time // by alarm: up to when
	swept     time.Time
}

// New makes a watcher, which does nothing before Run.
func New(o Options) *Watcher {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Announce == nil {
		o.Announce = func(string) {}
	}
	return &Watcher{o: o, followed: followed(o.Records), metrics: record.Of[chunk](o.Records, metricKind), evaluated: map[string]time.Time{}}
}

// The kinds of records that are kept, by environment and something's token.
const (
	metricKind   = "local-metric"
	measuredKind = "local-measured"
	followedKind = "local-followed"
	trailKind    = "local-trail"
)

// ForgetAll gives what removes all that is kept of an environment.
func ForgetAll(ctx context.Context, records record.Store, environment string) ([]record.Op, error) {
	var ops []record.Op
	for _, kind := range []string{metricKind, measuredKind, followedKind, trailKind} {
		kept, err := records.List(ctx, kind, environment+"/")
		if err != nil {
			return nil, fmt.Errorf("list what was watched: %w", err)
		}
		for _, entry := range kept {
			ops = append(ops, record.Op{Kind: kind, Key: entry.Key})
		}
	}
	return ops, nil
}

// key is the key of what is kept for a token.
func key(environment, token string) string { return environment + "/" + token }

const (
	// atMostEvery bounds how often files that grow are read: each time costs a
	// synced write, and no point is shorter than metric.Resolution.
	atMostEvery = time.Second
	// afterFailure is when what failed is tried again.
	afterFailure = time.Minute
	// atLeastEvery is when to look again if nothing is due before.
	atLeastEvery = time.Hour
)

// Run watches until ctx ends. What it failed to do is told and tried again.
func (w *Watcher) Run(ctx context.Context) error {
	files, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the files of log groups: %w", err)
	}
	defer func() { _ = files.Close() }() // the folders that it watched may be gone
	var trails sync.WaitGroup
	defer trails.Wait()
	trails.Go(func() { w.runTrails(ctx) })
	told := ""
	for ctx.Err() == nil {
		changed := w.o.Changed()
		d, err := w.o.Declared(ctx)
		if told = w.tell(ctx, told, err); err != nil {
			w.wait(ctx, files, changed, w.o.Now().Add(afterFailure))
			continue
		}
		for same := true; same && ctx.Err() == nil; {
			now := w.o.Now()
			next, err := w.pass(ctx, d, now, files)
			if told = w.tell(ctx, told, err); err != nil {
				next = earlier(next, now.Add(afterFailure))
			}
			same = w.wait(ctx, files, changed, next)
		}
	}
	return nil
}

// tell announces a failure unless the last one was the same.
func (w *Watcher) tell(ctx context.Context, told string, err error) string {
	if err == nil || ctx.Err() != nil {
		return ""
	}
	if text := fault.Text(err); text != told {
		told = text
		w.o.Announce(fmt.Sprintf("environment %s: %s", w.o.Environment, told))
	}
	return told
}

// wait waits until something is due, declared or written; what is written is
// gathered for a moment. It gives false if something else is declared.
func (w *Watcher) wait(ctx context.Context, files *fsnotify.Watcher, changed <-chan struct{}, next time.Time) (same bool) {
	due := time.NewTimer(next.Sub(w.o.Now()))
	defer due.Stop()
	var gathered <-chan time.Time
	for {
		select {
		case event := <-files.Events:
			if gathered == nil && event.Op != fsnotify.Chmod {
				gathered = time.After(atMostEvery)
			}
			continue
		case <-files.Errors: // some were lost: look
		case <-gathered:
		case <-due.C:
		case <-changed:
			return false
		case <-ctx.Done():
		}
		return true
	}
}

// pass does what is due now, and says when the next is.
func (w *Watcher) pass(ctx context.Context, d Declared, now time.Time, files *fsnotify.Watcher) (next time.Time, err error) {
	var failures []error
	for _, f := range d.Filters {
		group := d.Groups[f.Group]
		// Watched before they are read, so that no line falls in between.
		err := watchFolders(files, group.Sources)
		if err == nil {
			err = w.follow(ctx, f, group.Sources, now)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("log group %s cannot be followed: %w", f.Group, err))
		}
	}
	failures = append(failures, w.measure(ctx, d.Alarms, now))
	next, err = w.evaluate(ctx, d.Alarms, now)
	failures = append(failures, err)
	for name, group := range d.Groups {
		due, err := retain(group, now)
		if err != nil {
			failures = append(failures, fmt.Errorf("old logs of group %s cannot be removed: %w", name, err))
		}
		next = earlier(next, due)
	}
	failures = append(failures, w.sweep(ctx, d.Alarms, now))
	return earlier(next, now.Add(atLeastEvery)), errors.Join(failures...)
}

// earlier gives the earlier of two times; the zero time is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// watchFolders has the folders of files watched; nil for nobody.
func watchFolders(files *fsnotify.Watcher, sources []Source) error {
	for _, s := range sources {
		if files == nil {
			return nil
		}
		if err := files.Add(s.Folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// evaluate judges the alarms that are due, then the composite ones, and says
// when the next is due.
func (w *Watcher) evaluate(ctx context.Context, alarms []Alarm, now time.Time) (next time.Time, err error) {
	var failures []error
	current := map[string]time.Time{}
	for _, a := range alarms {
		if a.Rule != nil || a.Metric.Unwatched != "" {
			continue
		}
		_, to := a.Metric.Window(now)
		next = earlier(next, to.Add(a.Metric.Every()))
		current[a.Token] = to
		if !to.After(w.evaluated[a.Token]) { // what was said since holds until then
			continue
		}
		if err := w.judge(ctx, a, now); err != nil {
			failures = append(failures, fmt.Errorf("alarm %s cannot be evaluated: %w", a.Name, err))
			delete(current, a.Token)
		}
	}
	w.evaluated = current
	return next, errors.Join(append(failures, w.compose(ctx, alarms, now))...)
}

// judge evaluates one metric alarm.
func (w *Watcher) judge(ctx context.Context, a Alarm, now time.Time) error {
	is, version, err := w.o.Said(ctx, a)
	if err != nil {
		return err
	}
	from, to := a.Metric.Window(now)
	points := map[metric.Series][]metric.Point{}
	for _, series := range a.Metric.Series() {
		if points[series], err = w.points(ctx, series, from, to); err != nil {
			return err
		}
	}
	verdict := a.Metric.Evaluate(now, points, is.State)
	return w.say(ctx, a, verdict, is, version, now)
}

// say sets a state that is another than the alarm has.
func (w *Watcher) say(ctx context.Context, a Alarm, v metric.Verdict, is Said, version int64, now time.Time) error {
	if v.State == is.State && version != record.Absent {
		return nil
	}
	if version == record.Absent && v.State == metric.Insufficient {
		v.Reason = "Unchecked: Initial alarm creation"
	}
	err := w.o.Say(ctx, a, Said{State: v.State, Reason: v.Reason, Time: now.UTC()}, version)
	if fault.Is(err, fault.Conflict) { // said by somebody else meanwhile: that holds until the next time
		return nil
	}
	return err
}

// known is an alarm with its state.
type known struct {
	Alarm
	is      Said
	version int64
}

// compose judges the composite alarms, until none of them changes: they may ask
// about each other.
func (w *Watcher) compose(ctx context.Context, alarms []Alarm, now time.Time) error {
	composite := slices.DeleteFunc(slices.Clone(alarms), func(a Alarm) bool { return a.Rule == nil })
	for range composite { // a circle of rules must end
		by := map[string]known{} // by name and ARN
		for _, a := range alarms {
			is, version, err := w.o.Said(ctx, a)
			if err != nil {
				return fmt.Errorf("read the state of alarm %s: %w", a.Name, err)
			}
			by[a.Name] = known{a, is, version}
			by[a.ARN] = by[a.Name]
		}
		settled := true
		for _, a := range composite {
			k := by[a.Name]
			v := composed(*a.Rule, by)
			if v.State == k.is.State {
				continue
			}
			settled = false
			if err := w.say(ctx, a, v, k.is, k.version, now); err != nil {
				return fmt.Errorf("alarm %s cannot be evaluated: %w", a.Name, err)
			}
		}
		if settled {
			return nil
		}
	}
	return nil
}

// composed gives what a rule says of alarms by name and ARN. The reason is the
// one that changed last.
func composed(rule metric.Rule, by map[string]known) metric.Verdict {
	v := metric.Verdict{State: metric.OK, Reason: "AlarmRule is FALSE"}
	if rule.Holds(func(name string) metric.State { return by[name].is.State }) {
		v = metric.Verdict{State: metric.On, Reason: "AlarmRule is TRUE"}
	}
	var newest known
	for _, name := range rule.Names() {
		if by[name].is.Time.After(newest.is.Time) {
			newest = by[name]
		}
	}
	if newest.ARN != "" {
		v.Reason = fmt.Sprintf("%s transitioned to %s at %s", newest.ARN, newest.is.State, newest.is.Time.UTC().Format("Monday 02 January, 2006 15:04:05 UTC"))
	}
	return v
}

// sweepEvery is how often points that no alarm needs any more are removed, and
// keepAtLeast how long all are kept.
const (
	sweepEvery  = 10 * time.Minute
	keepAtLeast = 3 * time.Hour
)

// sweep removes points that no alarm needs any more.
func (w *Watcher) sweep(ctx context.Context, alarms []Alarm, now time.Time) error {
	if now.Sub(w.swept) < sweepEvery {
		return nil
	}
	needed := now.Add(-keepAtLeast)
	for _, a := range alarms {
		if a.Rule == nil {
			from, _ := a.Metric.Window(now)
			needed = earlier(needed, from)
		}
	}
	all, err := w.o.Records.List(ctx, metricKind, w.o.Environment+"/")
	if err != nil {
		return fmt.Errorf("list points of metrics: %w", err)
	}
	var ops []record.Op
	for _, entry := range all {
		if minuteOf(entry.Key).Before(needed.Truncate(time.Minute)) {
			ops = append(ops, record.Op{Kind: metricKind, Key: entry.Key})
		}
	}
	if len(ops) > 0 {
		if err := w.o.Records.Write(ctx, ops...); err != nil {
			return fmt.Errorf("remove old points of metrics: %w", err)
		}
	}
	w.swept = now
	return nil
}
