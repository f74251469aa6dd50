package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/record"
)

// Apply does what the change set says. It refuses with fault.Conflict if the
// stack, or anything the set was made from, has moved since the plan. When a
// resource fails, or ctx is cancelled, everything that was changed is put back
// and the error says why. Applying a set again that was applied last gives the
// same answer again and does nothing.
func (e *Engine) Apply(ctx context.Context, cs *changeset.Set, listen func(Event)) error {
	if cs.Action == changeset.Delete {
		return e.delete(ctx, cs.Stack, deletion{digest: cs.Digest}, listen)
	}
	if cs.Empty() {
		return nil
	}
	if err := e.apply(ctx, cs, listen); err != nil {
		return err
	}
	return e.letAllGo(ctx, listen)
}

// apply is Apply of a set that changes something, with the stack's lease.
func (e *Engine) apply(ctx context.Context, cs *changeset.Set, listen func(Event)) (err error) {
	ctx, release, err := e.acquire(ctx, cs.Stack, false)
	if err != nil {
		return err
	}
	defer func() { err = release(err) }()
	s, err := e.find(ctx, cs.Stack)
	if err != nil {
		return err
	}
	if s.Digest == cs.Digest && s.Revision == cs.Base+1 {
		if done, err := alreadyApplied(s); done {
			return err
		}
	}
	o, err := e.start(ctx, s, cs, listen)
	if halted(err) {
		return err
	}
	if err != nil {
		return errors.Join(err, e.keepPresentImports(context.WithoutCancel(ctx), cs.Stack))
	}
	return o.run(ctx)
}

// alreadyApplied gives the outcome of a change set that was applied before.
func alreadyApplied(s Stack) (bool, error) {
	switch s.Status {
	case CreateComplete, UpdateComplete, ImportComplete:
		return true, nil
	case RollbackComplete, RollbackFailed, UpdateRollbackComplete, UpdateRollbackFailed, ImportRollbackComplete, ImportRollbackFailed:
		return true, rolledBack(s, errors.New(s.Reason))
	case DeleteComplete:
		return true, discarded(s, errors.New(s.Reason))
	case CreateFailed, UpdateFailed:
		return true, fault.New(fault.Failed, "stack %s could not be changed and was left as it is (%s): %s", s.Name, s.Status, s.Reason)
	}
	return false, nil
}

// start checks that the change set still holds and makes the stack's first
// record of the operation.
func (e *Engine) start(ctx context.Context, s Stack, cs *changeset.Set, listen func(Event)) (*operation, error) {
	if err := updatable(s); err != nil {
		return nil, err
	}
	again, err := e.compare(ctx, s, cs.Change, view{frozen: cs})
	if err != nil {
		return nil, fmt.Errorf("compare the change set with what exists: %w", err)
	}
	if again.Digest != cs.Digest {
		return nil, fault.New(fault.Conflict, "stack %s or something it depends on has changed since the change set was made", cs.Stack).
			WithHint("plan again, and look at the new change set: makeitso plan %s", cs.Stack)
	}
	whole := *cs
	if len(cs.Open) > 0 { // all that decides it is known now
		decided := cs.Change
		decided.Joint.Parameters = nil
		if again, err = e.compare(ctx, s, decided, view{frozen: cs}); err != nil {
			return nil, err
		}
		whole = *again
		whole.Digest = cs.Digest
	}
	return e.begin(ctx, s, &whole, listen)
}

// begin makes the stack's first record of an operation.
func (e *Engine) begin(ctx context.Context, s Stack, cs *changeset.Set, listen func(Event)) (*operation, error) {
	if err := e.takeImports(ctx, cs); err != nil {
		return nil, err
	}
	if !s.exists() {
		former := s
		s = Stack{Environment: e.environment, Name: cs.Stack, ID: cs.StackID, Revision: s.Revision, Created: now(),
			Parent: s.Parent, Root: s.Root, ParentRevision: s.ParentRevision}
		if former.Status == RollbackComplete { // it is still there, with what was said of it
			s.Protected, s.Policy = former.Protected, former.Policy
		}
	}
	s.Revision++
	s.Monitored = time.Time{}
	s.Digest, s.Tags = cs.Digest, cs.Change.Tags
	s.Protected, s.Policy = s.Protected || cs.Change.Guard.Protect, cmp.Or(cs.Change.Guard.Policy, s.Policy)
	o, err := e.operation(ctx, s, *cs, listen)
	if err != nil {
		return nil, err
	}
	change, err := e.changes.PutOp(e.key(s.Name), *cs, record.Any)
	if err != nil {
		return nil, err
	}
	ops, err := o.move(false)
	if err != nil {
		return nil, err
	}
	return o, o.enter(ctx, statusesOf(cs.Action).begun, "User Initiated", append(ops, change)...)
}

// takeImports notes that the stack uses the exports of the set, and gives those
// that were not known in the plan their values.
func (e *Engine) takeImports(ctx context.Context, cs *changeset.Set) error {
	cs.Imports = maps.Clone(cs.Imports)
	for _, name := range slices.Sorted(maps.Keys(cs.Imports)) {
		err := e.setImporter(ctx, name, cs.Stack, true)
		var x Export
		if err == nil {
			x, err = e.exports.Get(ctx, e.key(name))
		}
		switch {
		case fault.Is(err, fault.NotFound), err == nil && x.Leaving:
			return noExport(name)
		case err != nil:
			return err
		case cs.Imports[name] == changeset.KnownAfterApply:
			cs.Imports[name] = x.Value
		case cs.Imports[name] != x.Value:
			return fault.New(fault.Conflict, "export %s has changed since the change set was made", name).
				WithHint("plan again: makeitso plan %s", cs.Stack)
		}
	}
	return nil
}

// working makes the working copy of a stack.
func (e *Engine) working(ctx context.Context, s Stack, listen func(Event)) (*operation, error) {
	resources, err := e.resourcesOf(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	return &operation{e: e, stack: s, told: teller{listen: listen}, resources: resources, foreseen: map[string]string{}}, nil
}

// operation makes the working copy of a change under way.
func (e *Engine) operation(ctx context.Context, s Stack, cs changeset.Set, listen func(Event)) (*operation, error) {
	o, err := e.working(ctx, s, listen)
	if err != nil {
		return nil, err
	}
	o.set = cs
	for _, c := range cs.Changes {
		o.foreseen[c.LogicalID] = c.Replacement
	}
	src, err := e.present(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	if cs.Action != changeset.Create {
		o.before, err = e.program(s, src)
	}
	if err != nil || cs.Action == changeset.Delete && len(cs.Change.Template) == 0 {
		return o, err
	}
	after, diags := changeset.NewProgram(cs.Change, e.pseudo(s.Name, s.ID), recorded(cs.Imports, cs.Outside))
	if diags.HasErrors() && cs.Action != changeset.Delete { // an old mistake must not stop a delete
		return nil, diags
	}
	o.after = after
	o.retag = o.before != nil && !maps.Equal(src.Change.Tags, cs.Change.Tags)
	return o, nil
}

// run goes through the operation from the status that the stack is in, so that
// it serves a beginning and a continuation alike.
func (o *operation) run(ctx context.Context) error {
	switch o.stack.Status {
	case CreateInProgress, UpdateInProgress, ImportInProgress:
		return o.goForward(ctx)
	case UpdateCompleteCleanupInProgress:
		return o.cleanUp(ctx)
	case RollbackInProgress, UpdateRollbackInProgress, UpdateRollbackCompleteCleanupInProgress, ImportRollbackInProgress:
		return o.rollBack(ctx, errors.New(o.stack.Reason))
	case DeleteInProgress:
		if o.set.Action == changeset.Create {
			return o.discard(ctx, errors.New(o.stack.Reason))
		}
		return o.remove(ctx)
	}
	return fault.New(fault.Internal, "stack %s is in status %s, from which nothing goes on", o.stack.Name, o.stack.Status)
}

// goForward makes what the template says, unless that fails or is cancelled.
func (o *operation) goForward(ctx context.Context) error {
	going, stop := o.cancellable(ctx)
	err := o.limited(going)
	stop()
	switch {
	case err == nil && o.stack.Parent != "":
		return nil // it is cleaned up, or taken back, with its parent
	case err == nil:
		return o.cleanUp(ctx)
	}
	if cause := context.Cause(going); halted(cause) || cause == error(errUpdateCancelled) && !halted(err) {
		err = cause
	}
	return o.abandon(ctx, err)
}

// commit is the moment from which there is no way back: outputs, exports and
// the new source become the stack's own in one write.
func (o *operation) commit(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	outputs, diags := o.after.Outputs(o, true)
	if err := diags.Err(); err != nil {
		return err
	}
	s := o.stack
	s.Status, s.Reason, s.Updated = UpdateCompleteCleanupInProgress, "", now()
	s.Outputs, s.Description = outputs, o.after.Template.Description
	var ops []record.Op
	if o.set.Action != changeset.Update || s.Parent == "" { // else the update stays open until the parent's is over
		src, err := o.sourceOp()
		if err != nil {
			return err
		}
		ops = append(ops, src)
	}
	if o.set.Action != changeset.Update {
		s.Status = statusesOf(o.set.Action).done
		ops = append(ops, o.e.changes.DeleteOp(o.e.key(s.Name)))
	}
	if o.set.Action == changeset.Update {
		end, err := o.e.verdicts.EndOp(o.e.verdictKey(s))
		if err != nil {
			return err
		}
		ops = append(ops, end)
	}
	return o.publish(ctx, outputs, func(exports []record.Op) error {
		err := o.putStack(ctx, s, append(exports, ops...)...)
		if fault.Is(err, fault.Conflict) {
			if was, err := o.e.verdicts.Cancelled(context.WithoutCancel(ctx), o.e.verdictKey(s)); err != nil || was {
				return cmp.Or(err, error(errUpdateCancelled))
			}
		}
		return err
	})
}

// publish makes the stack's exports those of outputs with write, which is
// called again after a fault.Conflict: another stack has changed an export
// between reading and writing.
func (o *operation) publish(ctx context.Context, outputs []changeset.Output, write func(exports []record.Op) error) error {
	for range exportAttempts {
		exports, err := o.e.exportOps(context.WithoutCancel(ctx), o.stack.Name, outputs, o.moves(ctx))
		if err != nil {
			return err
		}
		if err = write(exports); !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return fault.New(fault.Unavailable, "the exports of stack %s are being changed by others all the time", o.stack.Name).WithHint("try again")
}

// sourceOp stores what the stack is made from now.
func (o *operation) sourceOp() (record.Op, error) {
	c := o.set.Change
	c.Files, c.Joint, c.ResourcesToImport, c.Guard = nil, changeset.Joint{}, nil, changeset.Guard{}
	return o.e.sources.PutOp(o.e.key(o.stack.Name), source{Change: c, Imports: o.set.Imports, Outside: o.set.Outside}, record.Any)
}

// moves says which stacks may be taken former exports from by this operation.
func (o *operation) moves(ctx context.Context) func(stack string) bool {
	return o.e.movers(ctx, o.set.Change, view{root: o.stack.Root})
}

// abandon begins the roll back after err, unless the operation cannot go on at
// all, or shall stay as it is.
func (o *operation) abandon(ctx context.Context, err error) error {
	if suspended(ctx) {
		err = suspension(ctx)
	}
	if halted(err) {
		return err
	}
	if errors.Is(err, errUpdateCancelled) {
		return o.takeBack(ctx, "User Initiated", err)
	}
	reason := strings.ReplaceAll(err.Error(), "\n", "; ")
	switch status := statusesOf(o.set.Action).failed; {
	case o.set.Action == changeset.Create && o.set.Change.OnFailure == changeset.OnFailureDelete:
		if e := o.enter(ctx, DeleteInProgress, strings.TrimSuffix(reason, ".")+". Delete requested by user."); e != nil {
			return e
		}
		return o.discard(ctx, err)
	case o.set.Leaves() && o.set.Action != changeset.Import:
		if err := o.enter(ctx, status, reason); err != nil {
			return err
		}
		return fault.Wrap(outcome(err), err, "stack %s could not be changed and was left as it is (%s)", o.stack.Name, status).
			WithHint("look at it: makeitso events %s; then: makeitso stack rollback %s", o.stack.Name, o.stack.Name)
	}
	return o.takeBack(ctx, reason, err)
}

// takeBack rolls back from where the operation stands.
func (o *operation) takeBack(ctx context.Context, reason string, cause error) error {
	ops, err := o.move(true)
	if err != nil {
		return errors.Join(cause, err)
	}
	if err := o.enter(ctx, statusesOf(o.set.Action).back, reason, ops...); err != nil {
		return err
	}
	return o.rollBack(ctx, cause)
}

// stubborn gives a context for work that a cancelled ctx must not stop; being
// suspended stops it all the same.
func stubborn(ctx context.Context) (context.Context, func()) {
	on, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if suspended(ctx) {
			cancel(context.Cause(ctx))
		}
	})
	return on, func() { stop(); cancel(nil) }
}
