package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"makeitso/internal/changeset"
	"makeitso/internal/dag"
	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/registry"
)

// DriftPolicy is what becomes of drift that is found.
type DriftPolicy string

// The policies.
const (
	ReportDrift DriftPolicy = "report" // it is told
	RepairDrift DriftPolicy = "repair" // what exists becomes again what was wanted
	AdoptDrift  DriftPolicy = "adopt"  // what exists is what is wanted from now on
)

// Drift looks how far what exists is from what the stack was made to be, does
// with it what the policy says, and gives and keeps what it found last. A look
// takes no lease, so that no change has to wait for it; if one began meanwhile,
// the answer is fault.Conflict. What could not be repaired or adopted is named
// in the error.
func (e *Engine) Drift(ctx context.Context, name string, policy DriftPolicy, listen func(Event)) (StackDrift, error) {
	s, err := e.Stack(ctx, name)
	if err != nil {
		return StackDrift{}, err
	}
	switch s.Status {
	case CreateComplete, UpdateComplete, UpdateRollbackComplete, ImportComplete, ImportRollbackComplete:
	case UpdateRollbackFailed:
		if policy != ReportDrift {
			return StackDrift{}, fault.New(fault.Conflict, "stack %s is in %s state: its drift can be reported alone", name, s.Status).
				WithHint("go on with its roll back first: makeitso stack rollback %s", name)
		}
	default:
		return StackDrift{}, fault.New(fault.Conflict, "drift of stack %s cannot be detected in status %s", name, s.Status).
			WithHint("wait until its change has ended: makeitso events %s", name)
	}
	found, err := e.lookAndNote(ctx, s, listen)
	if err != nil || policy == ReportDrift {
		return found, err
	}
	todo := map[string]DriftPolicy{}
	for _, r := range found.Resources {
		if r.amiss() {
			todo[r.LogicalID] = policy
		}
	}
	if len(todo) == 0 {
		return found, nil
	}
	failed := e.settleDrift(ctx, s, todo, listen)
	found, err = e.lookAndNote(ctx, s, listen)
	return found, errors.Join(failed, err)
}

// LastDrift gives what a look at a stack found last, NOT_CHECKED if there was
// none since it was changed.
func (e *Engine) LastDrift(ctx context.Context, s Stack) (StackDrift, error) {
	found, _, err := e.lastDrift(ctx, s)
	return found, err
}

func (e *Engine) lastDrift(ctx context.Context, s Stack) (StackDrift, int64, error) {
	found, version, err := e.drifts.GetVersion(ctx, e.key(s.Name))
	if fault.Is(err, fault.NotFound) {
		version, err = record.Absent, nil
	}
	if err != nil {
		return StackDrift{}, 0, fmt.Errorf("read the drift of stack %s: %w", s.Name, err)
	}
	if found.Revision != s.Revision {
		found = StackDrift{Stack: s.Name, Status: NotChecked, Revision: s.Revision, Resources: []ResourceDrift{}}
	}
	return found, version, nil
}

// lookAndNote looks, keeps what it found, and tells of it if it is not what the
// last look found. Of two that look at once, one tells.
func (e *Engine) lookAndNote(ctx context.Context, s Stack, listen func(Event)) (StackDrift, error) {
	last, version, err := e.lastDrift(ctx, s)
	if err != nil {
		return StackDrift{}, err
	}
	found, err := e.look(ctx, s)
	if err == nil {
		err = e.unmoved(ctx, s)
	}
	if err != nil {
		return StackDrift{}, err
	}
	op, err := e.drifts.PutOp(e.key(s.Name), found, version)
	if err != nil {
		return found, err
	}
	if found.Status == last.Status && found.String() == last.String() || last.Status == NotChecked && found.Status == InSync {
		err = e.store.Write(ctx, op)
	} else {
		err = e.tellDrift(ctx, s, found, op, listen)
	}
	if err != nil && !fault.Is(err, fault.Conflict) {
		return found, fmt.Errorf("store the drift of stack %s: %w", s.Name, err)
	}
	return found, nil
}

// tellDrift stores what was found together with the event that tells of it.
func (e *Engine) tellDrift(ctx context.Context, s Stack, found StackDrift, op record.Op, listen func(Event)) error {
	event := Event{Time: found.Time, Stack: s.Name, LogicalID: s.Name, PhysicalID: s.ID, Type: stackType, Status: found.Status, Reason: found.String()}
	raw, err := json.Marshal(event)
	if err != nil {
		return err
	}
	if event.Number, err = e.store.AppendWith(ctx, e.stream(s.Name), [][]byte{raw}, op); err != nil {
		return err
	}
	if listen != nil {
		listen(event)
	}
	if e.o.Drifted != nil {
		e.o.Drifted(found)
	}
	return nil
}

// unmoved is fault.Conflict if a stack is not as it was read any more.
func (e *Engine) unmoved(ctx context.Context, s Stack) error {
	again, err := e.find(ctx, s.Name)
	if err == nil && (again.Revision != s.Revision || again.Status != s.Status) {
		err = fault.New(fault.Conflict, "stack %s was changed while its drift was looked at", s.Name).
			WithHint("look again: makeitso drift %s", s.Name)
	}
	return err
}

// settleDrift repairs or adopts, unless the stack is being changed.
func (e *Engine) settleDrift(ctx context.Context, s Stack, todo map[string]DriftPolicy, listen func(Event)) (err error) {
	ctx, release, err := e.acquire(ctx, s.root(), false)
	if err != nil {
		return err
	}
	defer func() { err = release(err) }()
	if err := e.unmoved(ctx, s); err != nil {
		return err
	}
	o, err := e.working(ctx, s, listen)
	if err != nil {
		return err
	}
	return o.settle(ctx, todo)
}

// goOnWithDrift ends the repairs and adoptions that a process which is gone had
// under way in a stack and those nested in it.
func (e *Engine) goOnWithDrift(ctx context.Context, root string, listen func(Event)) error {
	stacks, err := e.Stacks(ctx)
	errs := []error{err}
	for _, s := range stacks {
		if s.root() != root || !s.exists() || unfinished(s) {
			continue
		}
		o, err := e.working(ctx, s, listen)
		if err != nil {
			return err
		}
		todo := map[string]DriftPolicy{}
		for id, r := range o.states() {
			switch r.Status {
			case UpdateInProgress:
				todo[id] = RepairDrift
			case DeleteInProgress:
				todo[id] = AdoptDrift
			}
		}
		if len(todo) > 0 {
			errs = append(errs, o.settle(ctx, todo))
		}
	}
	return errors.Join(errs...)
}

// settle looks again at each of the resources, now that nobody else changes
// them, and repairs or adopts it, each after all that it depends on.
func (o *operation) settle(ctx context.Context, todo map[string]DriftPolicy) error {
	p := &changeset.Planner{Exists: map[string]changeset.Physical{}}
	if err := o.e.fill(ctx, o.stack, p); err != nil {
		return err
	}
	o.before = p.Before
	graph := map[string][]string{}
	for id := range todo {
		if is, exists := p.Exists[id]; exists {
			graph[id] = is.DependsOn
		}
	}
	results := make(chan error, len(graph))
	err := dag.Walk(ctx, graph, o.e.o.Parallel, func(ctx context.Context, id string) error {
		r := o.e.resourceDrift(ctx, o.stack, id, p)
		err := r.cause
		switch {
		case todo[id] == RepairDrift && (r.amiss() || r.Status == InSync):
			err = o.mend(ctx, r)
		case r.Status == Modified:
			err = o.adopt(ctx, r)
		case r.Status == Deleted:
			err = o.drop(ctx, r)
		}
		results <- err
		return nil
	})
	close(results)
	for failed := range results {
		err = errors.Join(err, failed)
	}
	return err
}

// repairFailed begins the reason of a repair that did not succeed.
const repairFailed = "repair: "

// mend makes a resource again, with its token, what it was made to be. One that
// could not be repaired before is told of again only if the reason is another.
func (o *operation) mend(ctx context.Context, r ResourceDrift) error {
	s := o.state(r.LogicalID)
	was, current := s, *s.Current
	if r.Status == InSync && s.Status != UpdateInProgress {
		return nil // somebody else was faster
	}
	told := was.Status == UpdateFailed && strings.HasPrefix(was.Reason, repairFailed)
	if r.Status != InSync {
		s.Status, s.Reason = UpdateInProgress, "drift is being repaired: "+r.what()
		if err := o.saveUnless(ctx, told, s); err != nil {
			return err
		}
		result, err := o.remake(ctx, r, current)
		if err != nil && suspended(ctx) {
			return suspension(ctx) // Resume goes on
		}
		if err != nil {
			s.Status, s.Reason = UpdateFailed, repairFailed+err.Error()
			err = fault.Wrap(fault.CodeOf(err), err, "repair resource %s of stack %s", r.LogicalID, o.stack.Name)
			return errors.Join(err, o.saveUnless(ctx, told && s.Reason == was.Reason, s))
		}
		if result.Replaced {
			s.Doomed = append(slices.Clone(s.Doomed), current) // goes with the next change's clean-up
			current.Token = o.newToken(r.LogicalID)
		}
		current.PhysicalID, current.Attributes, current.NoEcho = result.PhysicalID, result.Attributes, result.NoEcho
	} else if r.actual.Attributes != nil { // mended before a crash, which lost the answer
		current.PhysicalID, current.Attributes = r.actual.PhysicalID, r.actual.Attributes
	}
	s.Current, s.Status, s.Reason = &current, UpdateComplete, "drift was repaired: "+r.what()
	return o.save(ctx, s, current.PhysicalID)
}

// saveUnless is save, without an event where told is true.
func (o *operation) saveUnless(ctx context.Context, told bool, s resourceState) error {
	if told {
		return o.keep(ctx, s)
	}
	return o.save(ctx, s, s.Current.PhysicalID)
}

// remake calls the handler for what a repair intends.
func (o *operation) remake(ctx context.Context, r ResourceDrift, current changeset.Physical) (Result, error) {
	h, err := o.handler(current.Type)
	if err != nil {
		return Result{}, err
	}
	wanted := o.request(r.LogicalID, current)
	if r.Status != Modified {
		return h.Create(ctx, wanted)
	}
	wanted.Previous = registry.Adopt(wanted.Properties, r.Differences)
	result, err := h.Update(ctx, wanted)
	if fault.Is(err, fault.Unsupported) {
		err = fault.Wrap(fault.Unsupported, err, "only a replacement can bring back %s", r.what()).
			WithHint("adopt it as it is (makeitso drift %s --adopt), then let apply replace it: makeitso apply %s", o.stack.Name, o.stack.Name)
	}
	return result, err
}

// adopt takes a resource as it is for what is wanted. The next plan shows how
// far the template is from it.
func (o *operation) adopt(ctx context.Context, r ResourceDrift) error {
	s := o.state(r.LogicalID)
	current := *s.Current
	current.Properties = registry.Adopt(current.Properties, r.Differences)
	current.Adopted = slices.Clone(current.Adopted)
	for _, d := range r.Differences {
		if name := d.Property(); !slices.Contains(current.Adopted, name) {
			current.Adopted = append(current.Adopted, name)
		}
	}
	if r.actual.Attributes != nil {
		current.Attributes = r.actual.Attributes
	}
	s.Current, s.Status, s.Reason = &current, UpdateComplete, "drift was adopted: "+r.what()
	return o.save(ctx, s, current.PhysicalID)
}

// drop takes a resource that is gone out of the stack, so that the next apply
// makes it anew.
func (o *operation) drop(ctx context.Context, r ResourceDrift) error {
	s := o.state(r.LogicalID)
	gone := *s.Current
	s.Status, s.Reason = DeleteInProgress, ""
	if err := o.keep(ctx, s); err != nil {
		return err
	}
	// What a platform still keeps of it would be in the new one's way.
	if err := o.deleteThing(ctx, r.LogicalID, gone); err != nil {
		return fault.Wrap(fault.CodeOf(err), err, "adopt that resource %s of stack %s is gone", r.LogicalID, o.stack.Name)
	}
	if len(s.Doomed) == 0 {
		return o.forget(ctx, r.LogicalID)
	}
	s.Current, s.Status = nil, DeleteComplete
	return o.keep(ctx, s)
}
