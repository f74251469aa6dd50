package fleet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/release"
	"makeitso/internal/span"
)

// Options are a Runner's settings; all are required.
type Options struct {
	Environment string
	Records     record.Store
	Instances   Instances
	// Route puts the instances in force that are recorded as ready, and returns
	// when they are.
	Route func(ctx context.Context) error
	// InFlight gives how many requests are under way at an instance.
	InFlight func(ctx context.Context, id string) (int64, error)
	// Hold keeps the environment from being destroyed until release is called.
	Hold     func() (release func())
	Announce func(text string)
}

// Kind is the kind of the records of groups; their keys begin with the
// environment and "/".
const Kind = "local-fleet"

// Runner keeps the groups of an environment. It is safe for concurrent use.
type Runner struct {
	o      Options
	groups record.Collection[Group]
	wake   chan struct{} // holds an item when there may be a group that nobody watches

	mu    sync.Mutex
	locks map[string]*sync.Mutex   // one change of a group at a time
	pokes map[string]chan struct{} // of a group, holds an item when it was changed
}

// New makes a runner, which does nothing yet.
func New(o Options) *Runner {
	return &Runner{
		o: o, groups: record.Of[Group](o.Records, Kind), wake: make(chan struct{}, 1),
		locks: map[string]*sync.Mutex{}, pokes: map[string]chan struct{}{},
	}
}

func (r *Runner) key(name string) string { return r.o.Environment + "/" + name }

// lock takes a group for one change.
func (r *Runner) lock(name string) (unlock func()) {
	r.mu.Lock()
	l := r.locks[name]
	if l == nil {
		l = &sync.Mutex{}
		r.locks[name] = l
	}
	r.mu.Unlock()
	l.Lock()
	return l.Unlock
}

// poked gives the channel that holds an item when a group was changed.
func (r *Runner) poked(name string) chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pokes[name] == nil {
		r.pokes[name] = make(chan struct{}, 1)
	}
	return r.pokes[name]
}

// poke has who watches look at a group again.
func (r *Runner) poke(name string) {
	for _, c := range []chan struct{}{r.poked(name), r.wake} {
		select {
		case c <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// Groups gives all groups of the environment.
func (r *Runner) Groups(ctx context.Context) ([]Group, error) {
	all, err := r.groups.List(ctx, r.key(""))
	if err != nil {
		return nil, fmt.Errorf("list groups of instances: %w", err)
	}
	return all, nil
}

// Get gives a group, an empty one if there is none of that name.
func (r *Runner) Get(ctx context.Context, name string) (Group, error) {
	g, err := r.groups.Get(ctx, r.key(name))
	if fault.Is(err, fault.NotFound) {
		return Group{Spec: Spec{Name: name}}, nil
	}
	return g, err
}

// change changes what is recorded of a group and makes it so.
func (r *Runner) change(ctx context.Context, name string, edit func(*Group)) error {
	defer r.lock(name)()
	g, err := r.Get(ctx, name)
	if err != nil {
		return err
	}
	edit(&g)
	if err := r.groups.Put(ctx, r.key(name), g); err != nil {
		return fmt.Errorf("keep group %s: %w", name, err)
	}
	defer r.poke(name)
	// Whoever was broken off after a record may not have had it put in force.
	return errors.Join(r.settle(ctx, &g), r.o.Route(ctx))
}

// Apply brings a group to what spec says. Instances that are not current stay.
func (r *Runner) Apply(ctx context.Context, spec Spec) error {
	return r.change(ctx, spec.Name, func(g *Group) { g.Spec, g.Wanted = spec, spec.Size })
}

// Resize brings a group to n instances for now.
func (r *Runner) Resize(ctx context.Context, name string, n int) error {
	return r.change(ctx, name, func(g *Group) { g.Wanted = n })
}

// Terminate ends instances, and none comes in their place.
func (r *Runner) Terminate(ctx context.Context, name string, ids []string) error {
	return r.change(ctx, name, func(g *Group) {
		before := g.staying()
		g.leave(func(m Member) bool { return slices.Contains(ids, m.ID) })
		g.Wanted -= before - g.staying()
	})
}

// Refresh says by what the instances to come are made and all are checked; how
// many there are to be stays. A group that is not there stays so.
func (r *Runner) Refresh(ctx context.Context, spec Spec) error {
	defer r.lock(spec.Name)()
	g, err := r.groups.Get(ctx, r.key(spec.Name))
	if fault.Is(err, fault.NotFound) || err == nil && reflect.DeepEqual(g.Spec, spec) {
		return nil
	}
	if err != nil {
		return err
	}
	g.Spec = spec
	defer r.poke(spec.Name)
	return r.groups.Put(ctx, r.key(spec.Name), g)
}

// Renew is Apply, and replaces the instances that are not current: they leave
// when others are ready.
func (r *Runner) Renew(ctx context.Context, spec Spec) error {
	var old []string
	err := r.change(ctx, spec.Name, func(g *Group) {
		g.Spec = spec
		for _, i := range g.Fleet().Instances {
			if !i.Current {
				old = append(old, i.ID)
			}
		}
		g.Wanted = spec.Size + len(old)
	})
	if err != nil {
		return err
	}
	return r.change(ctx, spec.Name, func(g *Group) {
		g.leave(func(m Member) bool { return slices.Contains(old, m.ID) })
		g.Wanted = spec.Size
	})
}

// Suspend keeps these of the group's own processes from running, and no others.
func (r *Runner) Suspend(ctx context.Context, name string, processes []string) error {
	return r.change(ctx, name, func(g *Group) { g.Suspended = processes })
}

// Remove ends all instances of a group and forgets it. Requests under way get
// little time.
func (r *Runner) Remove(ctx context.Context, name string) error {
	err := r.change(ctx, name, func(g *Group) {
		g.Wanted, g.Size, g.Suspended, g.Drain = 0, 0, nil, min(g.Drain, stopTime)
		g.leave(func(Member) bool { return true })
	})
	if err != nil {
		return err
	}
	defer r.poke(name)
	return r.groups.Delete(ctx, r.key(name))
}

// settle makes what is recorded of a group so; the group's lock is held. What
// cannot become ready is recorded as leaving, for the next time.
func (r *Runner) settle(ctx context.Context, g *Group) error {
	if g.runs("Terminate") && g.staying() > g.Wanted {
		g.shrink()
	}
	failed := r.launch(ctx, g)
	// Those that leave go only when others can do their work, as far as that
	// is known.
	return errors.Join(failed, r.dismiss(ctx, g))
}

// keep records the group and has the edge serve it as it is then.
func (r *Runner) keep(ctx context.Context, g *Group) error {
	if err := r.groups.Put(ctx, r.key(g.Name), *g); err != nil {
		return fmt.Errorf("keep group %s: %w", g.Name, err)
	}
	return r.o.Route(ctx)
}

// launch starts the instances that are missing, and those that were recorded
// and not seen ready, and waits until all are.
func (r *Runner) launch(ctx context.Context, g *Group) error {
	g.leave(func(m Member) bool { return !m.Ready && m.From != g.From }) // begun as the group was before
	for g.Image != "" && g.runs("Launch") && g.staying() < g.Wanted {
		g.Members = append(g.Members, Member{ID: newID(), From: g.From, Since: time.Now().UTC()})
	}
	open := slices.DeleteFunc(slices.Clone(g.Members), func(m Member) bool { return m.Ready || m.Leaving })
	if len(open) == 0 {
		return nil
	}
	if err := r.groups.Put(ctx, r.key(g.Name), *g); err != nil { // before anything runs
		return fmt.Errorf("keep group %s: %w", g.Name, err)
	}
	var starting sync.WaitGroup
	failures := make([]error, len(open))
	for i := range open {
		starting.Go(func() { open[i].Address, failures[i] = r.start(ctx, *g, open[i]) })
	}
	starting.Wait()
	for i, m := range open {
		g.update(m.ID, func(to *Member) {
			to.Address, to.Ready = m.Address, failures[i] == nil
			to.Leaving = failures[i] != nil && ctx.Err() == nil // else it may be a matter of time only
		})
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(append(failures, r.keep(ctx, g))...)
}

// newID gives an id that no other instance has or had.
func newID() string {
	var random [9]byte
	rand.Read(random[:]) // never fails
	return "i-" + hex.EncodeToString(random[:])[:17]
}

// startTime is the least time that a new instance has to become ready.
const startTime = time.Minute

// start starts an instance, once, and waits until it passes its checks.
func (r *Runner) start(ctx context.Context, g Group, m Member) (address string, err error) {
	env := map[string]string{"INSTANCE_ID": m.ID}
	maps.Copy(env, g.Env)
	started, err := r.o.Instances.Start(ctx, release.InstanceSpec{ID: m.ID, Service: g.Title, Artifact: g.Image, Env: env})
	if err != nil {
		return "", fmt.Errorf("group %s: %w", g.Title, err)
	}
	waiting, cancel := context.WithTimeout(ctx, max(startTime, g.Grace))
	defer cancel()
	for {
		reason := unwell(waiting, g.Checks, started.Address)
		if _, err := r.o.Instances.Find(ctx, m.ID); err != nil {
			return "", fmt.Errorf("group %s: an instance has ended before it was ready: %w", g.Title, err)
		}
		if reason == "" {
			return started.Address, nil
		}
		select {
		case <-r.o.Instances.Exited(m.ID):
		case <-waiting.Done():
			if ctx.Err() != nil {
				return "", context.Cause(ctx)
			}
			return "", fault.New(fault.Failed, "group %s: instance %s was not healthy within %s: %s", g.Title, m.ID, span.Text(max(startTime, g.Grace)), reason).
				WithHint("what it printed is in %s; it is to listen at the address in its variables HOST and PORT", started.Log)
		case <-time.After(lookInterval): // a server that begins to answer is no event
		}
	}
}

// lookInterval is the time between two looks at what is no event.
const lookInterval = 20 * time.Millisecond

// unwell says which check an instance fails, "" for none.
func unwell(ctx context.Context, checks []edge.Check, address string) string {
	for _, c := range checks {
		if reason := c.Ask(ctx, address); reason != "" {
			return reason
		}
	}
	return ""
}

// stopTime is how long a program may take to end by itself.
const stopTime = 10 * time.Second

// dismiss ends the instances that leave: they get no more requests, finish
// those they have, and are stopped.
func (r *Runner) dismiss(ctx context.Context, g *Group) error {
	leaving := slices.DeleteFunc(slices.Clone(g.Members), func(m Member) bool { return !m.Leaving })
	if len(leaving) == 0 {
		return nil
	}
	if err := r.keep(ctx, g); err != nil {
		return err
	}
	var stopping sync.WaitGroup
	failures := make([]error, len(leaving))
	for i, m := range leaving {
		stopping.Go(func() {
			if failures[i] = r.drain(ctx, *g, m); failures[i] == nil {
				failures[i] = r.o.Instances.Stop(ctx, m.ID, stopTime)
			}
		})
	}
	stopping.Wait()
	for i, m := range leaving {
		if failures[i] == nil {
			g.Members = slices.DeleteFunc(g.Members, func(other Member) bool { return other.ID == m.ID })
		}
	}
	return errors.Join(append(failures, r.keep(ctx, g))...)
}

// drain waits until an instance has no request under way, or its time is over.
func (r *Runner) drain(ctx context.Context, g Group, m Member) error {
	if !m.Ready {
		return nil
	}
	end := time.After(g.Drain)
	for {
		n, err := r.o.InFlight(ctx, m.ID)
		if err != nil {
			return fmt.Errorf("ask what is under way at instance %s: %w", m.ID, err)
		}
		if n == 0 {
			return nil
		}
		select {
		case <-r.o.Instances.Exited(m.ID):
			return nil
		case <-end:
			r.o.Announce(fmt.Sprintf("group %s: instance %s still had %d requests after %s and is stopped", g.Title, m.ID, n, span.Text(g.Drain)))
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookInterval): // a counter that falls is no event
		}
	}
}
