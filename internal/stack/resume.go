package stack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"makeitso/internal/changeset"
	"makeitso/internal/dag"
	"makeitso/internal/fault"
)

// Resume goes on with every change that a process which is gone had under way:
// it finishes it or rolls it back, and finds by their tokens the things that
// had been begun. How each ended is in its stack's status and events; the
// error says what could not be gone on with. Call it once at start, before
// Apply.
func (e *Engine) Resume(ctx context.Context, listen func(Event)) error {
	return e.Continue(ctx, listen)()
}

// Continue is Resume that returns when every change has ended or waits for
// something outside, such as a signal. What it gives must be called: it waits
// for the end of all and answers as Resume.
func (e *Engine) Continue(ctx context.Context, listen func(Event)) (wait func() error) {
	stacks, err := e.underWayNow(ctx)
	if err != nil {
		e.noteLeft()
		return func() error { return err }
	}
	var busy sync.WaitGroup
	busy.Add(1 + len(stacks))
	over := sync.OnceFunc(busy.Done) // nothing is left to do, or not before something that waits
	all := map[string]resumption{}
	for name := range stacks {
		idle := sync.OnceFunc(busy.Done)
		all[name] = resumption{idle: idle, waits: func() { over(); idle() }}
	}
	answer := make(chan error, 1)
	go func() {
		err := e.resumeAll(ctx, stacks, all, listen)
		over()
		answer <- err
	}()
	busy.Wait()
	return sync.OnceValue(func() error { return <-answer })
}

// resumption is a change that is gone on with.
type resumption struct {
	waits func() // says that it waits for something outside
	idle  func() // says that it waits or has ended
}

// underWayNow gives the stacks that a process which is gone was changing.
func (e *Engine) underWayNow(ctx context.Context) (map[string][]string, error) {
	found := map[string][]string{}
	held, err := e.leases.Left(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range held {
		found[name] = nil
	}
	stacks, err := e.Stacks(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range stacks {
		if unfinished(s) && s.Root == "" { // a nested one goes on with its root
			found[s.Name] = nil
		}
	}
	return found, nil
}

// resumeAll goes on with all at once, as they were under way at once before.
func (e *Engine) resumeAll(ctx context.Context, stacks map[string][]string, all map[string]resumption, listen func(Event)) error {
	var errs []error
	results := make(chan error, len(stacks))
	err := dag.Walk(ctx, stacks, len(stacks), func(ctx context.Context, name string) error {
		results <- e.resume(ctx, name, listen, all[name].waits)
		all[name].idle()
		return nil
	})
	close(results)
	for err := range results {
		errs = append(errs, err)
	}
	for _, r := range all {
		r.idle() // those too that were not begun
	}
	return errors.Join(append(errs, err, e.letAllGo(ctx, listen))...)
}

// unfinished says whether a stack's operation has more to do. A roll back that
// failed is tried again.
func unfinished(s Stack) bool {
	return strings.HasSuffix(s.Status, "IN_PROGRESS") || s.Status == UpdateRollbackFailed
}

// resume goes on with one stack, unless its holder is alive.
func (e *Engine) resume(ctx context.Context, name string, listen func(Event), idle func()) (err error) {
	ctx, release, err := e.acquire(ctx, name, true)
	if fault.Is(err, fault.Conflict) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = release(err) }()
	whole := context.WithoutCancel(ctx) // who is stopped here must know whether anything is left to do
	s, err := e.find(whole, name)
	if err != nil {
		return halt{err}
	}
	if !unfinished(s) {
		return errors.Join(e.keepPresentImports(whole, name), e.goOnWithDrift(ctx, name, listen))
	}
	o, err := e.underWay(ctx, s, listen)
	if err != nil {
		return halt{err}
	}
	o.idle = idle
	if s.Status == UpdateRollbackFailed {
		if err := o.enter(ctx, UpdateRollbackInProgress, s.Reason); err != nil {
			return err
		}
	}
	if err := o.run(ctx); halted(err) || err != nil && strings.HasSuffix(o.stack.Status, "IN_PROGRESS") {
		return err
	}
	return nil // how it ended is in the stack's status and events
}

// underWay makes the working copy of a change that was begun.
func (e *Engine) underWay(ctx context.Context, s Stack, listen func(Event)) (*operation, error) {
	cs, err := e.changes.Get(ctx, e.key(s.Name))
	if err != nil {
		return nil, fmt.Errorf("read the change of stack %s under way: %w", s.Name, err)
	}
	return e.operation(ctx, s, cs, listen)
}

// Rollback rolls back a stack whose change failed and was left as it was. It
// answers nil when the stack is where it was before the change.
func (e *Engine) Rollback(ctx context.Context, name string, listen func(Event)) (err error) {
	ctx, release, err := e.acquire(ctx, name, false)
	if err != nil {
		return err
	}
	defer func() { err = release(err) }()
	s, err := e.Stack(ctx, name)
	if err != nil {
		return err
	}
	if s.Status != CreateFailed && s.Status != UpdateFailed {
		return fault.New(fault.Conflict, "there is nothing to roll back of stack %s: it is in %s state", name, s.Status)
	}
	o, err := e.underWay(ctx, s, listen)
	if err != nil {
		return err
	}
	err = o.takeBack(ctx, "User Initiated", errors.New(s.Reason))
	if o.stack.Status == UpdateRollbackComplete || o.stack.Status == RollbackComplete {
		return nil // the error is what the roll back was for
	}
	return err
}

// ContinueRollback tries again to roll back a stack whose roll back failed.
// The resources to skip, which must be among those that failed, are taken for
// rolled back as they are. It answers nil when the stack is where it was
// before the update.
func (e *Engine) ContinueRollback(ctx context.Context, name string, skip []string, listen func(Event)) (err error) {
	ctx, release, err := e.acquire(ctx, name, false)
	if err != nil {
		return err
	}
	defer func() { err = release(err) }()
	s, err := e.Stack(ctx, name)
	if err != nil {
		return err
	}
	if s.Status != UpdateRollbackFailed {
		return fault.New(fault.Conflict, "the roll back of stack %s cannot be continued: it is in %s state", name, s.Status)
	}
	o, err := e.underWay(ctx, s, listen)
	if err != nil {
		return err
	}
	var skips []func() error
	for _, resource := range skip {
		inner, id, err := o.at(ctx, resource)
		if err != nil {
			return err
		}
		if err := inner.maySkip(ctx, resource, id); err != nil {
			return err
		}
		skips = append(skips, func() error { return inner.skip(ctx, id) })
	}
	for _, skip := range skips {
		if err := skip(); err != nil {
			return err
		}
	}
	if err := o.enter(ctx, UpdateRollbackInProgress, "User Initiated"); err != nil {
		return err
	}
	err = o.run(ctx)
	if o.stack.Status == UpdateRollbackComplete {
		return nil // the error is what the roll back was for
	}
	return err
}

// maySkip refuses to skip what did not fail, and a nested stack, which would stay
// as it failed: what failed in it is skipped. name is id with the path to it.
func (o *operation) maySkip(ctx context.Context, name, id string) error {
	r := o.state(id)
	if r.Step == nil || r.Step.Before == nil || r.Status != UpdateFailed {
		return fault.New(fault.Invalid, "resource %s did not fail in the roll back of stack %s", name, o.stack.root()).
			WithHint("%s", o.skippable(strings.TrimSuffix(name, id)))
	}
	if r.Step.Before.Type != changeset.NestedType {
		return nil
	}
	s, err := o.e.find(ctx, r.Step.Before.Token)
	if err != nil || s.Status != UpdateRollbackFailed {
		return err
	}
	child, err := o.e.underWay(ctx, s, nil)
	if err != nil {
		return err
	}
	return fault.New(fault.Invalid, "resource %s is a stack, which cannot be skipped whole", name).WithHint("%s", child.skippable(name+"."))
}

// skippable says what can be skipped, with the path of the nested stack that it
// is in.
func (o *operation) skippable(path string) string {
	var failed []string
	for id, r := range o.states() {
		if r.Step != nil && r.Step.Before != nil && r.Status == UpdateFailed {
			failed = append(failed, path+id)
		}
	}
	if len(failed) == 0 {
		return "no resource of stack " + o.stack.Name + " failed: take away what it says is in the way, then: makeitso stack rollback " + o.stack.root()
	}
	slices.Sort(failed)
	return "skip those alone that failed: " + strings.Join(failed, ", ")
}

// skip takes a resource for rolled back. What the update had begun in its place
// goes with the clean-up.
func (o *operation) skip(ctx context.Context, id string) error {
	s := o.state(id)
	old := *s.Step.Before
	for _, begun := range []*changeset.Physical{s.Step.Next, s.Current} {
		if begun != nil && begun.Token != old.Token && !slices.ContainsFunc(s.Doomed, func(p changeset.Physical) bool { return p.Token == begun.Token }) {
			s.Doomed = append(slices.Clone(s.Doomed), *begun)
		}
	}
	s.Current, s.Step, s.Status, s.Reason = &old, nil, UpdateComplete, "skipped in the roll back"
	return o.save(ctx, s, old.PhysicalID)
}
