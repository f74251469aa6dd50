package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"makeitso/internal/changeset"
	"makeitso/internal/dag"
	"makeitso/internal/fault"
	"makeitso/internal/record"
)

// doom is what is deleted for one logical id, and what then stays of its record.
type doom struct {
	things   []changeset.Physical
	retained []changeset.Physical // left alone because of their policy
	held     []changeset.Physical // deleted later: other stacks still use them
	released []changeset.Physical // left alone because they were imported in vain
	keep     resourceState        // the record afterwards; nothing is kept if it names nothing
}

// add puts a thing among those to delete, or to leave alone if its policy is
// one of retain.
func (d *doom) add(p changeset.Physical, policy string, retain ...string) {
	p.Snapshot = p.Snapshot || policy == "Snapshot"
	if slices.Contains(retain, policy) {
		d.retained = append(slices.Clone(d.retained), p)
	} else {
		d.things = append(slices.Clone(d.things), p)
	}
}

// deleteAttempts is how often a delete in a clean-up is tried.
const deleteAttempts = 3

// deleteAll deletes things, dependents first. It gives the logical ids of
// which something could not be deleted, and why; that stays in their records.
func (o *operation) deleteAll(ctx context.Context, dooms map[string]doom) (failed map[string]error, err error) {
	graph := map[string][]string{} // from what goes later to what goes first
	for id, d := range dooms {
		graph[id] = append(graph[id], nil...)
		for _, p := range slices.Concat(d.things, d.retained) {
			for _, on := range p.DependsOn {
				if _, goes := dooms[on]; goes && on != id && !slices.Contains(graph[on], id) {
					graph[on] = append(graph[on], id)
				}
			}
		}
	}
	var mu sync.Mutex
	failed = map[string]error{}
	err = dag.Walk(ctx, dag.Acyclic(graph), o.e.o.Parallel, func(ctx context.Context, id string) error {
		reason, err := o.deleteOne(ctx, id, dooms[id])
		if err == nil && reason != nil {
			mu.Lock()
			defer mu.Unlock()
			failed[id] = reason
		}
		return err
	})
	if err != nil && suspended(ctx) {
		err = suspension(ctx)
	}
	return failed, err
}

// deleteOne deletes what is doomed of one logical id. It gives a reason why
// something of it is left.
func (o *operation) deleteOne(ctx context.Context, id string, d doom) (reason, err error) {
	for _, p := range d.retained {
		if err := o.tell(ctx, Event{LogicalID: id, PhysicalID: p.PhysicalID, Type: p.Type, Status: DeleteSkipped}); err != nil {
			return nil, err
		}
	}
	for _, p := range d.released {
		if err := o.release(ctx, id, p); err != nil {
			return nil, err
		}
	}
	var left []changeset.Physical
	for _, p := range d.things {
		err := o.deleteThing(ctx, id, p)
		switch {
		case halted(err):
			return nil, err
		case err != nil && o.set.Leave.Failing:
			if err := o.tell(ctx, Event{LogicalID: id, PhysicalID: p.PhysicalID, Type: p.Type, Status: DeleteSkipped, Reason: err.Error()}); err != nil {
				return nil, err
			}
		case err != nil:
			left, reason = append(left, p), err
		}
	}
	s := d.keep
	s.Doomed = append(left, d.held...)
	if s.Current == nil && len(s.Doomed) == 0 {
		return nil, o.forget(ctx, id)
	}
	if len(left) > 0 && s.Current == nil {
		s.Status, s.Reason = DeleteFailed, reason.Error()
	}
	return reason, o.keep(ctx, s)
}

// deleteThing deletes one physical thing, trying more than once.
func (o *operation) deleteThing(ctx context.Context, id string, p changeset.Physical) error {
	event := Event{LogicalID: id, PhysicalID: p.PhysicalID, Type: p.Type, Status: DeleteInProgress}
	if err := o.tell(ctx, event); err != nil {
		return err
	}
	h, err := o.handler(p.Type)
	if err == nil {
		for range deleteAttempts {
			if event.Reason, err = takeAway(ctx, h, o.request(id, p), p.Snapshot); err == nil || ctx.Err() != nil {
				break
			}
		}
	}
	if suspended(ctx) && err != nil {
		return suspension(ctx)
	}
	event.Status = DeleteComplete
	if err != nil {
		event.Status, event.Reason = DeleteFailed, err.Error()
	}
	return errors.Join(err, o.tell(ctx, event))
}

// takeAway deletes a thing, its data kept first if that is wanted and the type
// can do it, and tells where.
func takeAway(ctx context.Context, h Handler, r Request, snapshot bool) (told string, err error) {
	if s, able := h.(Snapshotter); able && snapshot {
		where, err := s.Snapshot(ctx, r)
		if err != nil {
			return "", fmt.Errorf("keep a snapshot: %w", err)
		}
		if where != "" {
			told = "snapshot kept: " + where
		}
	}
	return told, h.Delete(ctx, r)
}

func deleteFailure(failed map[string]error) error {
	var reasons []string
	ids := slices.Sorted(maps.Keys(failed))
	for _, id := range ids {
		reasons = append(reasons, id+": "+fault.Text(failed[id]))
	}
	return fault.New(fault.Failed, "The following resource(s) failed to delete: [%s].", strings.Join(ids, ", ")).
		WithHint("%s", strings.Join(reasons, "\n"))
}

// Delete removes a stack and all its resources but those with a DeletionPolicy
// of Retain. It works from every status, so that nothing is ever stuck.
func (e *Engine) Delete(ctx context.Context, stack string, listen func(Event)) error {
	return e.delete(ctx, stack, deletion{}, listen)
}

// DeleteLeaving is Delete of a stack that could not be deleted and has to go
// without some of its resources.
func (e *Engine) DeleteLeaving(ctx context.Context, stack string, leave changeset.Leave, listen func(Event)) error {
	return e.delete(ctx, stack, deletion{leave: leave}, listen)
}

// deletion is how a stack is deleted.
type deletion struct {
	digest string // of what was looked at before; "" is whatever there is now
	leave  changeset.Leave
}

func (e *Engine) delete(ctx context.Context, stack string, d deletion, listen func(Event)) error {
	if err := e.deleteStack(ctx, stack, d, listen); err != nil {
		return err
	}
	return e.letAllGo(ctx, listen)
}

// deleteStack is delete with the stack's lease.
func (e *Engine) deleteStack(ctx context.Context, stack string, d deletion, listen func(Event)) (err error) {
	ctx, release, err := e.acquire(ctx, stack, true)
	if err != nil {
		return err
	}
	defer func() { err = release(err) }()
	s, err := e.find(ctx, stack)
	if err != nil {
		return err
	}
	if d.digest != "" && s.Digest == d.digest && s.Status == DeleteComplete {
		return nil // applied before
	}
	if s, err = e.Stack(ctx, stack); err != nil {
		return err
	}
	if err := cmp.Or(whole(s), deletable(s), e.leavable(ctx, s, d.leave)); err != nil {
		return err
	}
	if d.digest != "" {
		cs, err := e.compareDelete(ctx, s, nil)
		if err != nil {
			return err
		}
		if cs.Digest != d.digest {
			return fault.New(fault.Conflict, "stack %s has changed since the change set was made", stack).
				WithHint("look again at what would be removed: makeitso destroy %s", stack)
		}
	}
	o, err := e.beginDelete(ctx, s, d.leave, listen)
	if err != nil {
		return err
	}
	return o.remove(ctx)
}

// leavable says why a delete may not leave something where it is.
func (e *Engine) leavable(ctx context.Context, s Stack, leave changeset.Leave) error {
	if leave.IsZero() {
		return nil
	}
	if s.Status != DeleteFailed {
		return fault.New(fault.Conflict, "Invalid operation on stack [%s]. When you delete a stack, specify which resources to retain only when the stack is in the DELETE_FAILED state.", s.ID).
			WithHint("it is in %s state: delete it first without leaving anything, or give what shall stay a DeletionPolicy of Retain", s.Status)
	}
	there, err := e.resourcesOf(ctx, s.Name)
	if err != nil {
		return err
	}
	for _, id := range leave.Resources {
		r, exists := there[id]
		if !exists {
			return fault.New(fault.Invalid, "The specified resources to retain must be in a valid state. Do not specify resources that are in the DELETE_COMPLETE state.").
				WithHint("of %s there is nothing; these are left: %s", id, strings.Join(slices.Sorted(maps.Keys(there)), ", "))
		}
		if r.typ() == changeset.NestedType { // it could not be changed by itself
			return fault.New(fault.Unsupported, "resource %s is a stack, which is not left whole", id).
				WithHint("leave what cannot be deleted in it, with the deletion mode FORCE_DELETE_STACK")
		}
	}
	return nil
}

// beginDelete makes the first record of a delete, or finds one that was begun.
func (e *Engine) beginDelete(ctx context.Context, s Stack, leave changeset.Leave, listen func(Event)) (*operation, error) {
	if s.Status == DeleteInProgress {
		return e.underWay(ctx, s, listen)
	}
	cs, err := e.compareDelete(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	failed, err := e.changes.Get(ctx, e.key(s.Name)) // what it made has secrets that are known from there alone
	if err == nil {
		cs.Change, cs.Imports, cs.Outside = failed.Change, failed.Imports, failed.Outside
		cs.Change.Joint = changeset.Joint{}
	} else if !fault.Is(err, fault.NotFound) {
		return nil, fmt.Errorf("read the change of stack %s that failed: %w", s.Name, err)
	}
	cs.Leave = leave
	before := e.verdicts.ForgetOp(e.verdictKey(s))
	s.Revision, s.Digest = s.Revision+1, cs.Digest
	o, err := e.operation(ctx, s, *cs, listen)
	if err != nil {
		return nil, err
	}
	change, err := e.changes.PutOp(e.key(s.Name), *cs, record.Any)
	if err != nil {
		return nil, err
	}
	for range exportAttempts {
		leaving, err := e.leavingOps(ctx, s)
		if err != nil {
			return nil, err
		}
		if err = o.enter(ctx, DeleteInProgress, "User Initiated", append(leaving, change, before)...); !fault.Is(err, fault.Conflict) {
			return o, err
		}
	}
	return nil, fault.New(fault.Unavailable, "the exports of stack %s are being changed by others all the time", s.Name).WithHint("try again")
}

// remove deletes every thing that the stack's records name, then the stack.
func (o *operation) remove(ctx context.Context) error {
	dooms := map[string]doom{}
	o.mu.Lock()
	for id, s := range o.resources {
		d := doom{keep: resourceState{LogicalID: id}}
		if slices.Contains(o.set.Leave.Resources, id) {
			d.retained = s.all()
			dooms[id] = d
			continue
		}
		for _, p := range s.all() {
			policy := p.Fate()
			if slices.ContainsFunc(s.Doomed, func(x changeset.Physical) bool { return x.Token == p.Token }) {
				policy = "" // its policy was judged when it was doomed
			}
			d.add(p, policy, "Retain", "RetainExceptOnCreate")
		}
		dooms[id] = d
	}
	o.mu.Unlock()
	return o.vanish(ctx, dooms, "")
}

func (o *operation) deleteFailed(ctx context.Context, err error) error {
	if e := o.enter(ctx, DeleteFailed, err.Error()); e != nil {
		return e
	}
	return hinted(fault.Wrap(fault.Failed, err, "stack %s could not be deleted", o.stack.Name), err, fmt.Sprintf(
		"see what happened: makeitso events %[1]s; then delete it again, or without what cannot go: aws cloudformation delete-stack --stack-name %[1]s --retain-resources RESOURCE", o.stack.Name))
}

// vanish deletes things, and then the stack.
func (o *operation) vanish(ctx context.Context, dooms map[string]doom, reason string) error {
	failed, err := o.deleteAll(ctx, dooms)
	if halted(err) {
		return err
	}
	if err != nil || len(failed) > 0 {
		if err == nil {
			err = deleteFailure(failed)
		}
		return o.deleteFailed(ctx, err)
	}
	if err := o.e.keepImports(ctx, o.stack.Name, nil); err != nil {
		return halt{err}
	}
	exports, err := o.e.exportOps(ctx, o.stack.Name, nil, o.moves(ctx))
	if err != nil {
		return o.deleteFailed(ctx, err)
	}
	o.stack.Outputs = nil
	ops := append(exports, o.e.changes.DeleteOp(o.e.key(o.stack.Name)), o.e.sources.DeleteOp(o.e.key(o.stack.Name)))
	return o.enter(ctx, DeleteComplete, reason, ops...)
}
