// Package release drives services from one release to the next and keeps them
// alive in between: it carries out what the rollout machine decides, through
// the instances of a platform and the routes of an edge, and stores each
// transition before it acts on it, so that it goes on after a crash. It knows
// releases, instances and evidence; it must not know where instances run or how
// artifacts are made.
package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/rollout"
	"makeitso/internal/span"
)

// Clock is the time a Controller lives by.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}

type systemClock struct{}

func (systemClock) Now() time.Time                         { return time.Now() }
func (systemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Options are the timings and connections of a Controller; a zero field means
// its default.
type Options struct {
	Clock    Clock
	Observe  func(Event)      // is told of progress; must return quickly
	Limits   rollout.Limits   // longest times of a rollout's waits
	Analysis analysis.Options // of the evidence against a canary; its Window by default is the time of all watches

	HealthInterval time.Duration // between health checks of an instance that is well; default 500 ms
	StartInterval  time.Duration // between those of one that starts; default 50 ms
	HealthFailures int           // that many failed checks in a row condemn an instance; default 3
	BackoffMin     time.Duration // before the first replacement; default 200 ms
	BackoffMax     time.Duration // the delay doubles up to this; default 30 s
	HealthyReset   time.Duration // an instance well for so long forgives the failures before; default 60 s
	Read           time.Duration // between reads of outcomes that do not come from the edge; default as each source says
	Poll           time.Duration // between looks at what is under way where an instance drains; default 100 ms
	StopGrace      time.Duration // between asking an instance to end and killing it; default 10 s

	// Failures gives the last requests that went badly at a release of a service
	// (as the edge names them); nil: reports have none.
	Failures func(service, release string, since time.Time, most int) ([]edge.Failure, error)
	Hooks    Hooks  // runs the commands of rollouts; nil: a rollout that has one fails
	Alarms   Alarms // watch over rollouts; nil: a service that has one is refused
	// Forget is told of an image that no release of a service needs any more,
	// to remove it unless something else does; nil: images stay.
	Forget func(ctx context.Context, digest string) error
}

func (o Options) normalize() Options {
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if o.Observe == nil {
		o.Observe = func(Event) {}
	}
	if o.HealthFailures == 0 {
		o.HealthFailures = 3
	}
	orDefault(&o.HealthInterval, 500*time.Millisecond)
	orDefault(&o.StartInterval, 50*time.Millisecond)
	orDefault(&o.BackoffMin, 200*time.Millisecond)
	orDefault(&o.BackoffMax, 30*time.Second)
	orDefault(&o.HealthyReset, time.Minute)
	orDefault(&o.Poll, 100*time.Millisecond)
	orDefault(&o.StopGrace, 10*time.Second)
	orDefault(&o.Limits.Start, time.Minute)
	return o
}

func orDefault(d *time.Duration, standard time.Duration) {
	if *d == 0 {
		*d = standard
	}
}

// Controller drives the services of one environment.
type Controller struct {
	environment string
	instances   Instances
	edge        patientEdge
	services    record.Collection[serviceRecord]
	releases    record.Collection[Release]
	reports     record.Collection[Report]
	temporary   record.Collection[temporaryRecord]
	store       record.Store
	o           Options

	started chan struct{} // closed when Run has begun
	ended   chan struct{} // closed when Run is ending
	fresh   chan *keeper  // new keepers, for Run to start

	mu      sync.Mutex
	runs    bool // whether Run was called
	keepers map[string]*keeper
	changed chan struct{}   // closed and replaced at every stored transition
	serving map[string]bool // temporary instances of this Controller
}

// New makes the controller of an environment. Nothing moves before Run.
func New(environment string, instances Instances, edge Edge, store record.Store, o Options) *Controller {
	return &Controller{
		environment: environment, instances: instances, edge: patientEdge{edge}, store: store, o: o.normalize(),
		services: record.Of[serviceRecord](store, "service"),
		releases: record.Of[Release](store, "release"), reports: record.Of[Report](store, "release-report"), temporary: record.Of[temporaryRecord](store, "temporary-instance"),
		started: make(chan struct{}), ended: make(chan struct{}), fresh: make(chan *keeper),
		keepers: map[string]*keeper{}, changed: make(chan struct{}), serving: map[string]bool{},
	}
}

// Run adopts what runs, goes on with the rollouts that were under way, and
// keeps every service alive until ctx ends. Instances and routes outlive it.
// It may be called once.
func (c *Controller) Run(ctx context.Context) error {
	c.mu.Lock()
	twice := c.runs
	c.runs = true
	c.mu.Unlock()
	if twice {
		return fault.New(fault.Internal, "the release controller of %s was started twice", c.environment)
	}
	var group sync.WaitGroup
	defer group.Wait()
	defer close(c.ended) // before the wait: who waits for Run must not hold it up
	known, err := c.services.List(ctx, c.environment+"/")
	if err != nil {
		return fmt.Errorf("list services of %s: %w", c.environment, err)
	}
	for _, s := range known {
		k := newKeeper(c, s.Name)
		c.keepers[s.Name] = k // nobody else looks before started
		group.Go(func() { k.keep(ctx) })
	}
	group.Go(func() { c.destroyLeftovers(ctx) })
	close(c.started)
	for {
		select {
		case k := <-c.fresh:
			group.Go(func() { k.keep(ctx) })
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *Controller) stopping() error {
	return fault.New(fault.Unavailable, "makeitso is stopping; what is under way in %s goes on when it is started again", c.environment)
}

// keeper waits until Run has begun and gives the keeper of a service.
func (c *Controller) keeper(ctx context.Context, service string) (*keeper, error) {
	select {
	case <-c.started:
	case <-c.ended:
		return nil, c.stopping()
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Unavailable, context.Cause(ctx), "the supervisor of %s has not started", c.environment)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.keepers[service]; ok {
		return k, nil
	}
	k := newKeeper(c, service)
	select {
	case c.fresh <- k:
		c.keepers[service] = k
		return k, nil
	case <-c.ended:
		return nil, c.stopping()
	}
}

// Release brings a service to an artifact and a configuration, and returns when
// that has ended well (the release is live) or badly (fault.Failed, with the
// reason). It is idempotent by key: called again with the same key, after a
// crash for example, it waits for the rollout that the first call began and
// gives its end; to try again after a bad end takes a new key. What is live
// already is left alone, but for the number of its instances. A rollout that is
// under way is taken back first: the release before keeps its traffic meanwhile.
// Run must be running, or it waits for it.
func (c *Controller) Release(ctx context.Context, s Service, a Artifact, config map[string]string, key string) (Release, error) {
	s, err := s.validate()
	if err != nil {
		return Release{}, err
	}
	k, err := c.keeper(ctx, s.Name)
	if err != nil {
		return Release{}, err
	}
	var begun Release
	err = k.call(ctx, func(ctx context.Context) error {
		begun, err = k.release(ctx, Release{Service: s, Artifact: a, Config: config, Key: key})
		return err
	})
	if err != nil {
		return begun, err
	}
	if begun.Status == Live {
		return begun, c.whole(ctx, begun)
	}
	ended, err := c.wait(ctx, begun)
	if err != nil {
		return ended, err
	}
	return ended, ended.failure()
}

// failure is a release's bad end as an error, nil for a good one.
func (r Release) failure() error {
	service := r.Service.Name
	switch r.Status {
	case RolledBack:
		if strings.HasPrefix(r.Reason, replacedBy) {
			return fault.New(fault.Failed, "release %s was rolled back: %s", r.ID, r.Reason).WithHint("see `makeitso releases %s` for the newer one", service)
		}
		return fault.New(fault.Failed, "release %s was rolled back: %s", r.ID, r.Reason).
			WithHint("the release before is live; `makeitso why %s` says all that was seen; correct the fault and push again", r.ID)
	case Failed:
		return fault.New(fault.Failed, "release %s failed: %s", r.ID, r.Reason).
			WithHint("it was the first release, so nothing is live; `makeitso why %s` says all that was seen; correct the fault and push again", r.ID)
	case RollbackFailed:
		return fault.New(fault.Failed, "release %s could not be rolled back: %s", r.ID, r.Reason).
			WithHint("%s", r.wayOut())
	}
	return nil
}

// wayOut is what may be done about a way back that failed.
func (r Release) wayOut() string {
	service := r.Service.Name
	other := fmt.Sprintf("`makeitso rollback %s --to RELEASE` chooses one that comes up and whose image is still there (`makeitso releases %s`), or correct the fault and push again", service, service)
	switch r.Lack {
	case rollout.LackInstance:
		return "the release before does not come up, and makeitso goes on trying; " + other
	case rollout.LackTraffic:
		return "put right what the edge says, or why it does not answer: makeitso goes on trying, and another release would not help"
	case rollout.LackAnswer:
		return "the release before has its traffic again and does not answer as it should; " + other
	case rollout.LackEnd:
		return "the release before has its traffic again; makeitso goes on ending what is left of this one, see `makeitso status`"
	}
	return "see `makeitso status`; makeitso goes on trying; " + other // of a way back that failed before this was known
}

// whole waits until all instances of a live release take traffic.
func (c *Controller) whole(ctx context.Context, r Release) error {
	late := c.o.Clock.Now().Add(c.o.Limits.Start)
	for {
		changed := c.change()
		rec, err := c.known(ctx, r.Service.Name)
		if err != nil {
			return err
		}
		missing := rec.missing()
		if missing == "" || !rec.idle() || rec.State.Live().Release != r.ID {
			return nil
		}
		left := late.Sub(c.o.Clock.Now())
		if left <= 0 {
			return fault.New(fault.Failed, "release %s is live, but not all its instances are up after %s: %s", r.ID, span.Text(c.o.Limits.Start), missing).
				WithHint("makeitso goes on trying; see `makeitso status`")
		}
		if err := c.await(ctx, changed, c.o.Clock.After(left)); err != nil {
			return err
		}
	}
}

// wait waits for a release's rollout to end.
func (c *Controller) wait(ctx context.Context, r Release) (Release, error) {
	for {
		changed := c.change()
		now, err := c.releases.Get(ctx, c.releaseKey(r.Service.Name, r.Number))
		if err != nil {
			return r, fmt.Errorf("read release %s: %w", r.ID, err)
		}
		if now.Status.Final() {
			return now, nil
		}
		if err := c.await(ctx, changed, nil); err != nil {
			return now, err
		}
	}
}

// await waits for a change, until it is late, or until nothing can change any
// more.
func (c *Controller) await(ctx context.Context, changed <-chan struct{}, late <-chan time.Time) error {
	select {
	case <-changed:
		return nil
	case <-late:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.ended:
		return c.stopping()
	}
}

// change gives a channel that is closed at the next stored transition.
func (c *Controller) change() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *Controller) announce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// Return says to which release a service is to return.
type Return struct {
	Service string
	// To is the release; "" stops the rollout under way, or leads to the last
	// good release before the live one.
	To string
	// Only stops a rollout under way, and is a conflict where there is none.
	Only bool
	// Force goes back past migrations that cannot be taken back.
	Force bool
	By    string // the user who wants it, "" if that is not known
}

// Rollback returns a service to an earlier release, whole: artifact,
// configuration, instances, hosts. It gives the release that is live in the
// end.
func (c *Controller) Rollback(ctx context.Context, want Return) (Release, error) {
	service := want.Service
	if _, err := c.known(ctx, service); err != nil {
		return Release{}, err
	}
	k, err := c.keeper(ctx, service)
	if err != nil {
		return Release{}, err
	}
	var moving, target Release
	err = k.call(ctx, func(ctx context.Context) error {
		moving, target, err = k.rollback(ctx, want)
		return err
	})
	if err != nil || moving.ID == "" {
		return target, err
	}
	ended, err := c.wait(ctx, moving)
	if err != nil {
		return ended, err
	}
	if moving.ID == target.ID || ended.Status == RollbackFailed {
		return ended, ended.failure()
	}
	if target.ID == "" { // a first release was stopped
		return ended, nil
	}
	return c.releases.Get(ctx, c.releaseKey(service, target.Number))
}

// Abandon turns the rollout that Release began with key round, and returns when
// the release before is live again. One that has ended, or never began, is left
// as it is.
func (c *Controller) Abandon(ctx context.Context, service, key string) error {
	if _, err := c.known(ctx, service); fault.Is(err, fault.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	k, err := c.keeper(ctx, service)
	if err != nil {
		return err
	}
	var moving Release
	err = k.call(ctx, func(ctx context.Context) error {
		if dropped, err := k.dropNext(ctx, func(r Release) bool { return r.Key == key }, "stopped by hand"); dropped || err != nil {
			return err
		}
		under := k.rec.State.Plan.New.Release
		if k.rec.idle() || under == "" {
			return nil
		}
		r, err := k.c.release(ctx, service, under)
		if err != nil || r.Key != key {
			return err
		}
		moving, _, err = k.abandon(ctx, "")
		return err
	})
	if err != nil || moving.ID == "" {
		return err
	}
	ended, err := c.wait(ctx, moving)
	if err == nil && ended.Status == RollbackFailed {
		return ended.failure()
	}
	return err
}

// Wish is what a person wants of a rollout under way.
type Wish string

// The wishes, by the events that they are to the rollout.
const (
	WishPause   = Wish(rollout.Pause)
	WishResume  = Wish(rollout.Resume)
	WishPromote = Wish(rollout.Promote)
)

// Steer gives a person's wish to the rollout of a service that is under way,
// and says how that stands then.
func (c *Controller) Steer(ctx context.Context, service string, wish Wish) (RolloutStatus, error) {
	if _, err := c.known(ctx, service); err != nil {
		return RolloutStatus{}, err
	}
	k, err := c.keeper(ctx, service)
	if err != nil {
		return RolloutStatus{}, err
	}
	var status RolloutStatus
	err = k.call(ctx, func(ctx context.Context) error {
		if err := k.steer(ctx, wish); err != nil {
			return err
		}
		status = *k.rec.status(c.environment).Rollout
		return nil
	})
	return status, err
}

// known gives the record of a service that had a release.
func (c *Controller) known(ctx context.Context, service string) (serviceRecord, error) {
	r, err := c.services.Get(ctx, c.serviceKey(service))
	if fault.Is(err, fault.NotFound) {
		return r, fault.New(fault.NotFound, "service %s has no release in %s", service, c.environment).
			WithHint("`makeitso status` lists the services that run")
	}
	if err != nil {
		return r, fmt.Errorf("read service %s: %w", service, err)
	}
	return r, nil
}

// Remove takes a service's route away and stops its instances; what it was is
// kept in its releases. Removing what does not run is fine.
func (c *Controller) Remove(ctx context.Context, service string) error {
	if _, err := c.known(ctx, service); fault.Is(err, fault.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	k, err := c.keeper(ctx, service)
	if err != nil {
		return err
	}
	if err := k.call(ctx, k.remove); err != nil {
		return err
	}
	for {
		changed := c.change()
		r, err := c.known(ctx, service)
		if err != nil {
			return err
		}
		switch live := r.State.Live().Release; {
		case r.Removing:
			if err := c.await(ctx, changed, nil); err != nil {
				return err
			}
		case live != "":
			return fault.New(fault.Failed, "service %s could not be removed: %s", service, r.State.Reason)
		default:
			return nil
		}
	}
}

// Releases gives a service's releases, the newest first.
func (c *Controller) Releases(ctx context.Context, service string) ([]Release, error) {
	all, err := c.releases.List(ctx, c.serviceKey(service)+"/")
	if err != nil {
		return nil, fmt.Errorf("list releases of %s: %w", service, err)
	}
	slices.Reverse(all)
	return all, nil
}

// Services says how each service stands that was not removed: those too whose
// first release came to nothing.
func (c *Controller) Services(ctx context.Context) ([]Status, error) {
	all, err := c.services.List(ctx, c.environment+"/")
	if err != nil {
		return nil, fmt.Errorf("list services of %s: %w", c.environment, err)
	}
	out := []Status{}
	for _, r := range all {
		s := r.status(c.environment)
		if r.removed() && len(s.Instances) == 0 {
			continue
		}
		if s.Live != "" {
			live, err := c.release(ctx, r.Name, s.Live)
			if err != nil {
				return nil, err
			}
			s.Artifact, s.Hosts = live.Artifact, live.Service.Hosts
		}
		out = append(out, s)
	}
	return out, nil
}

// release gives the release of that id.
func (c *Controller) release(ctx context.Context, service, id string) (Release, error) {
	unknown := fault.New(fault.NotFound, "service %s has no release %s in %s", service, id, c.environment).
		WithHint("`makeitso releases %s` lists them", service)
	number, err := strconv.Atoi(strings.TrimPrefix(id, service+"-"))
	if err != nil || releaseID(service, number) != id {
		return Release{}, unknown
	}
	r, err := c.releases.Get(ctx, c.releaseKey(service, number))
	if fault.Is(err, fault.NotFound) {
		return Release{}, unknown
	}
	if err != nil {
		return Release{}, fmt.Errorf("read release %s: %w", id, err)
	}
	return r, nil
}

func (c *Controller) serviceKey(service string) string { return c.environment + "/" + service }

func (c *Controller) releaseKey(service string, number int) string {
	return fmt.Sprintf("%s/%08d", c.serviceKey(service), number)
}

// observe tells of an event, unless everything is stopping.
func (c *Controller) observe(service, release, kind, message string) {
	c.o.Observe(Event{Time: c.o.Clock.Now(), Environment: c.environment, Service: service, Release: release, Kind: kind, Message: message})
}

// canceled says whether err is only the end of a context.
func canceled(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}
