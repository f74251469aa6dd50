package release

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/edge/outcome"
	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/rollout"
)

// keeper keeps one service: a loop that alone touches its record, feeds the
// rollout machine, and has everything that may block done by effects, whose
// ends come back to the loop. Each transition is stored before it is acted
// upon; if it cannot be stored, the loop begins again from what is.
type keeper struct {
	c     *Controller
	name  string
	inbox chan func(context.Context) // runs on the loop

	// Of one run of the loop:
	rec      serviceRecord
	effects  sync.WaitGroup
	busy     map[string]bool               // effects under way, by name
	retries  map[string]retry              // effects that failed, by name
	watchers map[string]context.CancelFunc // by instance
	hooks    map[string]context.CancelFunc // commands that run, by name
	looked   time.Time                     // when it was last seen what is due
	polled   time.Time                     // when the edge's counters were last asked for
	saved    time.Time                     // when the evidence was last stored
	progress string                        // what was told of it last
	test     *analysis.Test                // of the evidence, as it is now; nil before it is asked for
	follows  string                        // whose outcomes are followed
	unfollow context.CancelFunc
	heeds    string          // for which release alarms are watched
	heeding  context.Context // until it ends
	unheed   context.CancelFunc
	unplaced error           // why the place from which outcomes count is not known yet
	goal     *outcome.Cursor // what is to be weighed before the watch ends
	read     time.Time       // from when what was last read of another source is
	broken   error           // why this run of the loop must end
}

// retry is when a failed effect is tried again.
type retry struct {
	at    time.Time
	delay time.Duration
}

const (
	retryMin = 200 * time.Millisecond
	retryMax = 5 * time.Second
	// restartDelay is how long a loop rests whose record could not be stored.
	restartDelay = time.Second
	// progressEvery is how often a watch tells of itself, if there is news, and is stored.
	progressEvery = time.Second
)

func newKeeper(c *Controller, name string) *keeper {
	return &keeper{c: c, name: name, inbox: make(chan func(context.Context))}
}

// keep runs the loop until ctx ends.
func (k *keeper) keep(ctx context.Context) {
	for ctx.Err() == nil {
		err := k.run(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		k.tell("", EventTrouble, fmt.Sprintf("the state of %s cannot be kept, trying again: %v", k.name, err))
		select {
		case <-k.c.o.Clock.After(restartDelay):
		case <-ctx.Done():
		}
	}
}

// run is one life of the loop, from the stored record to a failure to store it.
func (k *keeper) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer k.effects.Wait()
	defer cancel()
	rec, err := k.c.services.Get(ctx, k.c.serviceKey(k.name))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("read service %s: %w", k.name, err)
	}
	rec.Name = k.name
	k.rec, k.broken = rec, nil
	k.busy, k.retries, k.watchers = map[string]bool{}, map[string]retry{}, map[string]context.CancelFunc{}
	k.hooks = map[string]context.CancelFunc{}
	k.polled, k.saved = k.now(), k.now()
	k.test, k.follows, k.unfollow, k.goal, k.unplaced = nil, "", func() {}, nil, nil
	k.heeds, k.unheed = "", func() {}
	k.read = time.Time{}
	k.adopt(ctx)
	for {
		if k.broken == nil {
			k.perform(ctx)
		}
		if k.broken != nil {
			return k.broken
		}
		select {
		case <-ctx.Done():
			return nil
		case f := <-k.inbox:
			f(ctx)
		case <-k.alarm():
		}
	}
}

// call runs f on the loop and gives its error.
func (k *keeper) call(ctx context.Context, f func(context.Context) error) error {
	done := make(chan error, 1)
	select {
	case k.inbox <- func(ctx context.Context) { done <- f(ctx) }:
		return <-done
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-k.c.ended:
		return k.c.stopping()
	}
}

func (k *keeper) now() time.Time { return k.c.o.Clock.Now() }

func (k *keeper) tell(release, kind, message string) { k.c.observe(k.name, release, kind, message) }

// alarm fires when the next thing becomes due. What was due when perform looked
// was dealt with there, or waits for something else.
func (k *keeper) alarm() <-chan time.Time {
	var due time.Time
	sooner := func(t time.Time) {
		if t.After(k.looked) && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	for _, r := range k.retries {
		sooner(r.at)
	}
	for _, s := range k.rec.Slots {
		sooner(s.NotUntil)
	}
	if k.polls() {
		sooner(k.polled.Add(k.c.o.Poll))
	}
	if k.reads() {
		sooner(k.read.Add(k.readEvery()))
	}
	if k.watched() {
		if k.rec.State.Unseen.Since.IsZero() {
			sooner(k.saved.Add(progressEvery))
		}
		sooner(k.rec.State.Due())
	}
	sooner(k.tickDue())
	if due.IsZero() {
		return nil
	}
	return k.c.o.Clock.After(due.Sub(k.now()))
}

// tickDue is when the machine is to be told the time. The end of a watch is
// told by endWatch, so that no step ends with outcomes unseen, unless the edge
// does not answer for long.
func (k *keeper) tickDue() time.Time {
	due := k.rec.State.Due()
	if !due.IsZero() && k.watched() {
		return due.Add(k.rec.State.Plan.Limits.Route)
	}
	return due
}

func (k *keeper) outstanding(kind rollout.CommandKind) bool {
	return slices.ContainsFunc(rollout.Commands(k.rec.State), func(c rollout.Command) bool { return c.Kind == kind })
}

// polls says whether the edge's counters are of interest.
func (k *keeper) polls() bool { return k.outstanding(rollout.Drain) }

// apply feeds the machine one event and stores where that leads.
func (k *keeper) apply(ctx context.Context, e rollout.Event) {
	e.At = k.now()
	before := k.rec.State
	k.rec.State = rollout.Next(before, e)
	if reflect.DeepEqual(before, k.rec.State) {
		return
	}
	k.commit(ctx, before)
}

// commit stores the record and the releases its rollout concerns, with more, in
// one write, and then tells of the transition.
func (k *keeper) commit(ctx context.Context, before rollout.State, more ...record.Op) {
	k.turned(before)
	ops, err := k.releaseOps(ctx)
	if err == nil && k.rec.idle() && !before.Phase.Final() {
		var old []record.Op
		old, err = k.sweep(ctx)
		ops = append(ops, old...)
	}
	if err == nil {
		k.rec.allocate(k.c.environment)
		err = k.save(ctx, append(ops, more...)...)
	}
	if err != nil {
		k.broken = err
		return
	}
	k.report(before)
}

// save stores the record together with more.
func (k *keeper) save(ctx context.Context, more ...record.Op) error {
	if k.test != nil {
		k.rec.Evidence.Test = k.test.State()
	}
	op, err := k.c.services.PutOp(k.c.serviceKey(k.name), k.rec, record.Any)
	if err != nil {
		return err
	}
	if err := k.c.store.Write(ctx, append(more, op)...); err != nil {
		return fmt.Errorf("store service %s: %w", k.name, err)
	}
	k.c.announce()
	return nil
}

// saveOrBreak stores the record; a failure ends this run of the loop.
func (k *keeper) saveOrBreak(ctx context.Context) {
	if err := k.save(ctx); err != nil {
		k.broken = err
	}
}

// perform has everything done that is outstanding and not under way.
func (k *keeper) perform(ctx context.Context) {
	k.looked = k.now()
	if due := k.tickDue(); !due.IsZero() && !k.looked.Before(due) {
		k.apply(ctx, rollout.Event{Kind: rollout.Tick})
	}
	k.goOnRemoving(ctx)
	k.beginNext(ctx)
	if k.broken == nil {
		k.weigh(ctx)
	}
	if k.broken != nil {
		return
	}
	k.heed(ctx)
	k.endHooks()
	for _, c := range rollout.Commands(k.rec.State) {
		switch c.Kind {
		case rollout.Shift:
			k.shift(ctx, c.Route)
		case rollout.Start:
			k.start(ctx, c.Member)
		case rollout.Stop:
			k.stop(ctx, c.Member)
		case rollout.Verify:
			k.verify(ctx)
		case rollout.Hook:
			k.hook(ctx, c)
		}
	}
	k.forget(ctx)
	k.collect(ctx)
	for _, id := range k.rec.Doomed {
		k.destroy(ctx, id, func(ctx context.Context) {
			k.rec.Doomed = slices.DeleteFunc(k.rec.Doomed, func(d string) bool { return d == id })
			k.saveOrBreak(ctx)
		})
	}
	if k.polls() && !k.looked.Before(k.polled.Add(k.c.o.Poll)) {
		k.poll(ctx)
	}
}

// begin has do done aside and then done on the loop. It is named, so that it is
// not begun twice; if it fails it is told of and tried again later.
func (k *keeper) begin(ctx context.Context, name string, do func(context.Context) error, done func(context.Context)) {
	if k.busy[name] || k.looked.Before(k.retries[name].at) {
		return
	}
	k.busy[name] = true
	k.effects.Go(func() {
		err := do(ctx)
		k.post(ctx, func(ctx context.Context) {
			delete(k.busy, name)
			if err != nil {
				k.retryLater(ctx, name, err)
				return
			}
			delete(k.retries, name)
			done(ctx)
		})
	})
}

// post runs f on the loop unless it ends first.
func (k *keeper) post(ctx context.Context, f func(context.Context)) {
	select {
	case k.inbox <- f:
	case <-ctx.Done():
	}
}

func (k *keeper) retryLater(ctx context.Context, name string, err error) {
	if canceled(ctx, err) {
		return
	}
	delay := min(max(2*k.retries[name].delay, retryMin), retryMax)
	k.retries[name] = retry{at: k.now().Add(delay), delay: delay}
	k.tell("", EventTrouble, fmt.Sprintf("%s: %v; trying again in %s", name, err, delay))
}

// report tells what a transition changed.
func (k *keeper) report(before rollout.State) {
	now := k.rec.State
	release := now.Plan.New.Release
	if now.InForce != before.InForce && now.InForce == now.Route {
		k.tell(release, EventTraffic, "traffic: "+trafficText(now))
	}
	for _, p := range now.Places {
		was, had := before.Place(p.Member)
		switch {
		case had && p.Status == was.Status && p.Since.Equal(was.Since):
		case p.Status == rollout.Begun && had:
			k.tell(p.Release, EventInstance, fmt.Sprintf("instance %s is replaced: %s", p.Member, p.Note))
		case p.Status == rollout.Begun:
			k.tell(p.Release, EventInstance, fmt.Sprintf("instance %s starts", p.Member))
		case had && was.Status == rollout.Begun && p.Status != rollout.Stopping:
			k.tell(p.Release, EventInstance, fmt.Sprintf("instance %s is healthy", p.Member))
		}
	}
	if now.Phase == before.Phase && now.Step == before.Step && now.Plan.New == before.Plan.New {
		return
	}
	switch {
	case now.Phase.Final():
		k.tell(release, EventRelease, ending(now))
	case now.Phase == rollout.Restoring && before.Phase.Forward():
		k.tell(release, EventRollout, "going back: "+now.Cause)
	default:
		k.tell(release, EventRollout, now.Reason)
	}
}

// ending is how a rollout ended, in words.
func ending(s rollout.State) string {
	what := s.Plan.New.Release
	if what == "" {
		what = "the removal of " + s.Plan.Old.Release
	}
	switch s.Phase {
	case rollout.Promoted:
		if s.Plan.New.Release == "" {
			return s.Plan.Old.Release + " is removed"
		}
		return what + " is live"
	case rollout.RolledBack:
		return fmt.Sprintf("%s was rolled back, %s is live: %s", what, s.Plan.Old.Release, s.Reason)
	case rollout.RollbackFailed:
		return fmt.Sprintf("%s could not be rolled back: %s", what, s.Reason)
	}
	return fmt.Sprintf("%s failed: %s", what, s.Reason)
}

func trafficText(s rollout.State) string {
	var parts []string
	for _, a := range s.Arms() {
		if a.Weight > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", a.Release, rollout.Percent(a.Weight)))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
