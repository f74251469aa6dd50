package stack

import (
	"context"
	"errors"
	"slices"
	"strings"

	"makeitso/internal/changeset"
	"makeitso/internal/dag"
	"makeitso/internal/fault"
	"makeitso/internal/record"
)

// rollBack puts back what the operation changed: first the old properties and
// the old physical resources, then it deletes the new ones.
func (o *operation) rollBack(ctx context.Context, cause error) error {
	on, done := stubborn(ctx)
	defer done()
	if o.before != nil && o.stack.Status == statusesOf(o.set.Action).back {
		if err := dag.Walk(on, o.before.Graph, o.e.o.Parallel, o.restore); err != nil {
			return o.rollBackFailed(on, statusesOf(o.set.Action).stuck, err)
		}
	}
	if o.stack.Status == UpdateRollbackInProgress {
		if err := o.withdraw(on); err != nil {
			return err
		}
	}
	failed, err := o.deleteAll(on, o.unwanted())
	if err != nil {
		return err
	}
	if o.set.Action == changeset.Create && len(failed) > 0 {
		return o.rollBackFailed(on, RollbackFailed, deleteFailure(failed))
	}
	src, err := o.e.present(on, o.stack.Name)
	if err != nil {
		return halt{err}
	}
	if o.set.Action != changeset.Create {
		o.stack.Tags = src.Change.Tags
	}
	if err := o.finish(on, statusesOf(o.set.Action).restored, o.stack.Reason, src.Imports); err != nil {
		return err
	}
	return rolledBack(o.stack, cause)
}

// withdraw begins the clean-up of an update that was put back. A nested stack's
// outputs were told to its parent, and what it exports to all: before anything
// goes that they name, they become again what they were. Another stack that has
// imported a new one meanwhile is in the way of that.
func (o *operation) withdraw(ctx context.Context) error {
	begin := func(exports []record.Op) error {
		return o.enter(ctx, UpdateRollbackCompleteCleanupInProgress, o.stack.Reason, exports...)
	}
	if o.stack.Parent == "" {
		return begin(nil)
	}
	outputs, diags := o.before.Outputs(o, true)
	if err := diags.Err(); err != nil {
		return o.rollBackFailed(ctx, UpdateRollbackFailed, err)
	}
	told := o.stack.Outputs
	o.stack.Outputs = outputs
	err := o.publish(ctx, outputs, begin)
	if fault.Is(err, fault.Conflict) && !halted(err) {
		o.stack.Outputs = told
		return o.rollBackFailed(ctx, UpdateRollbackFailed, err)
	}
	if err != nil {
		return halt{err}
	}
	return nil
}

// rolledBack is the answer of an operation that came back to where it began.
func rolledBack(s Stack, cause error) error {
	code, look := outcome(cause), "see what happened: makeitso events "+s.Name
	if s.Status == UpdateRollbackFailed {
		look += "; go on when the cause is taken away: makeitso stack rollback " + s.Name
	}
	if strings.HasSuffix(s.Status, "_FAILED") {
		return hinted(fault.Wrap(code, cause, "stack %s could not be changed, nor could all be put back (%s)", s.Name, s.Status), cause, look)
	}
	err := fault.Wrap(code, cause, "stack %s could not be changed; everything was put back (%s)", s.Name, s.Status)
	if hint := fault.HintOf(cause); hint != "" {
		return err.WithHint("%s", hint)
	}
	return err.WithHint("%s", look)
}

// hinted gives what a stack answers a hint: what its cause says is to be done,
// if it does, and what is next for the stack.
func hinted(err *fault.Error, cause error, next string) error {
	if hint := fault.HintOf(cause); hint != "" {
		next = hint + "\n" + next
	}
	return err.WithHint("%s", next)
}

// outcome is the code of a change that did not succeed.
func outcome(cause error) fault.Code {
	if errors.Is(cause, context.Canceled) || fault.Is(cause, fault.Canceled) {
		return fault.Canceled
	}
	return fault.Failed
}

func (o *operation) rollBackFailed(ctx context.Context, status string, err error) error {
	if suspended(ctx) {
		return suspension(ctx)
	}
	if halted(err) {
		return err
	}
	if err := o.enter(ctx, status, strings.ReplaceAll(err.Error(), "\n", "; ")); err != nil {
		return err
	}
	return rolledBack(o.stack, err)
}

// restore puts one resource back to what it was before the operation.
func (o *operation) restore(ctx context.Context, id string) error {
	s := o.state(id)
	if s.Step == nil || s.Step.Before == nil {
		return nil
	}
	old := *s.Step.Before
	changed := s.Step.Next
	if changed == nil {
		changed = s.Current
	}
	if s.Step.DeleteFirst {
		return o.bringBack(ctx, s, *changed)
	}
	if s.Step.Kind == stepReplace {
		if changed.Token != old.Token {
			s.Doomed = append(slices.Clone(s.Doomed), *changed)
		}
		s.Current, s.Step, s.Status, s.Reason = &old, nil, UpdateComplete, ""
		return o.save(ctx, s, old.PhysicalID)
	}
	if old.Type == changeset.NestedType {
		return o.restoreNested(ctx, s, old)
	}
	if sameThing(*changed, old) {
		s.Current, s.Step = &old, nil
		if s.Status == UpdateFailed {
			s.Status, s.Reason = UpdateComplete, ""
			return o.save(ctx, s, old.PhysicalID)
		}
		return o.keep(ctx, s)
	}
	s.Status, s.Reason = UpdateInProgress, ""
	if err := o.save(ctx, s, old.PhysicalID); err != nil {
		return err
	}
	h, err := o.handler(old.Type)
	if err != nil {
		return o.failed(ctx, o.restoring(s), err)
	}
	r := o.request(id, old)
	r.Previous = orEmpty(changed.Properties)
	result, err := o.update(ctx, h, r, o.before)
	if err != nil {
		return o.failed(ctx, o.restoring(s), err)
	}
	return o.madeBack(ctx, s, old, result)
}

// restored stores that a resource is again what it was.
func (o *operation) restored(ctx context.Context, s resourceState, old changeset.Physical, result Result) error {
	if result.Replaced {
		s.Doomed = append(slices.Clone(s.Doomed), *s.Current) // goes with the clean-up of the roll back
		old.Token = o.newToken(s.LogicalID)
	}
	old.PhysicalID, old.Attributes, old.NoEcho = result.PhysicalID, result.Attributes, result.NoEcho
	s.Current, s.Step, s.Status = &old, nil, UpdateComplete
	return o.save(ctx, s, old.PhysicalID)
}

// bringBack undoes a replacement that deleted the old thing first: the new one
// goes, then the old one is made again under its token. A crash in between
// finds the step as it was, and all of it can be done again.
func (o *operation) bringBack(ctx context.Context, s resourceState, changed changeset.Physical) error {
	old := *s.Step.Before
	s.Status, s.Reason = UpdateInProgress, ""
	if err := o.save(ctx, s, old.PhysicalID); err != nil {
		return err
	}
	if changed.Token != old.Token {
		if err := o.deleteThing(ctx, s.LogicalID, changed); halted(err) {
			return err
		} else if err != nil {
			return o.failed(ctx, o.restoring(s), err)
		}
	}
	h, err := o.handler(old.Type)
	if err != nil {
		return o.failed(ctx, o.restoring(s), err)
	}
	result, err := h.Create(ctx, o.request(s.LogicalID, old))
	if err != nil {
		return o.failed(ctx, o.restoring(s), err)
	}
	return o.restored(ctx, s, old, result)
}

// restoring keeps the step of a resource whose restoring failed, so that it
// can be tried again.
func (o *operation) restoring(s resourceState) resourceState {
	kept := *s.Step
	if kept.Next == nil {
		kept.Next = s.Current
	}
	s.Step = &kept
	return s
}

// cleanUp deletes what a successful update left behind: replaced resources and
// those that the template has no more. What other stacks still use of it is
// kept for later. It never rolls back.
func (o *operation) cleanUp(ctx context.Context) error {
	on, done := stubborn(ctx)
	defer done()
	if o.set.Action != changeset.Update {
		return nil
	}
	if err := o.settleNested(on); err != nil {
		return err
	}
	using, err := o.e.stale(on, o.stack.Name)
	if err != nil {
		return halt{err}
	}
	dooms := o.leftBehind()
	reason := ""
	if len(using) > 0 {
		hold(dooms)
		reason = "what was replaced or removed is kept until it is used no more by " + strings.Join(using, ", ")
	}
	failed, err := o.deleteAll(on, dooms)
	if err != nil {
		return err
	}
	if len(failed) > 0 {
		reason = deleteFailure(failed).Error()
	}
	var ops []record.Op
	if o.stack.Parent != "" {
		src, err := o.sourceOp()
		if err != nil {
			return err
		}
		ops = append(ops, src)
	}
	return o.finish(on, UpdateComplete, reason, o.set.Imports, ops...)
}

// finish ends the operation: the stack keeps the imports it uses and no others.
func (o *operation) finish(ctx context.Context, status, reason string, imports map[string]string, ops ...record.Op) error {
	if err := o.e.keepImports(ctx, o.stack.Name, imports); err != nil {
		return halt{err}
	}
	return o.enter(ctx, status, reason, append(ops, o.e.changes.DeleteOp(o.e.key(o.stack.Name)), o.e.verdicts.ForgetOp(o.e.verdictKey(o.stack)))...)
}

// leftBehind gives what a successful update no longer wants.
func (o *operation) leftBehind() map[string]doom {
	dooms := map[string]doom{}
	for id, s := range o.states() {
		d := doom{things: s.Doomed, keep: s}
		d.keep.Step, d.keep.Doomed = nil, nil
		if _, stays := o.after.Graph[id]; !stays {
			if s.Current != nil {
				d.add(*s.Current, s.Current.Fate(), "Retain", "RetainExceptOnCreate")
			}
			d.keep.Current = nil
		} else if s.Step != nil && s.Step.Kind == stepReplace && s.Step.Before != nil && !s.Step.DeleteFirst {
			d.add(*s.Step.Before, s.Step.Before.UpdateReplacePolicy, "Retain")
		}
		if len(d.things)+len(d.retained) > 0 || d.keep.Current == nil {
			dooms[id] = d
		}
	}
	return dooms
}

// unwanted gives what an operation that is rolled back has made.
func (o *operation) unwanted() map[string]doom {
	dooms := map[string]doom{}
	for id, s := range o.states() {
		d := doom{keep: s}
		for _, p := range s.Doomed {
			if p.Held { // by an earlier operation, which is not what is rolled back
				d.held = append(d.held, p)
			} else {
				d.things = append(d.things, p)
			}
		}
		d.keep.Doomed = nil
		if s.Step != nil && s.Step.Kind == stepCreate {
			if s.Step.Next != nil { // never became complete, so there is nothing worth retaining
				d.add(*s.Step.Next, "")
			} else {
				d.add(*s.Current, s.Current.DeletionPolicy, "Retain")
			}
			d.keep.Current, d.keep.Step = nil, nil
		}
		if s.Step != nil && s.Step.Kind == stepImport {
			d.released = s.all()[:1]
			d.keep.Current, d.keep.Step = nil, nil
		}
		if len(d.things)+len(d.retained)+len(d.released) > 0 {
			dooms[id] = d
		}
	}
	return dooms
}
