package stack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"makeitso/internal/changeset"
	"makeitso/internal/dag"
	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/registry"
	"makeitso/internal/template"
)

// operation is one change of one stack under way. Its state is in the store at
// every moment; what it holds is a copy.
type operation struct {
	e      *Engine
	set    changeset.Set
	before *changeset.Program // nil for a create
	after  *changeset.Program // of a delete: what a change that failed was to lead to, nil if none did
	told   teller
	// foreseen is the replacement in the change set of each resource modified.
	foreseen map[string]string
	retag    bool       // the stack's tags change
	idle     func()     // called when a resource begins to wait for something outside; nil for nobody
	outer    *operation // of a nested stack: the one that it is a part of

	mu        sync.Mutex // guards what follows
	stack     Stack
	resources map[string]resourceState
}

// halt is an error after which an operation can do no more, not even roll
// back: its store fails, or it was suspended. Resume goes on later.
type halt struct{ err error }

func (h halt) Error() string { return h.err.Error() }
func (h halt) Unwrap() error { return h.err }

func halted(err error) bool {
	var h halt
	return errors.As(err, &h)
}

// state gives the record of a logical id; what an earlier operation did is
// left out.
func (o *operation) state(id string) resourceState {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, ok := o.resources[id]
	if !ok {
		return resourceState{LogicalID: id}
	}
	if s.Step != nil && s.Step.Revision != o.stack.Revision {
		s.Step = nil
	}
	return s
}

// states gives all records as state does.
func (o *operation) states() map[string]resourceState {
	o.mu.Lock()
	ids := make([]string, 0, len(o.resources))
	for id := range o.resources {
		ids = append(ids, id)
	}
	o.mu.Unlock()
	all := make(map[string]resourceState, len(ids))
	for _, id := range ids {
		all[id] = o.state(id)
	}
	return all
}

// Ref gives the physical id of what stands for a resource now.
func (o *operation) Ref(id string) any {
	if c := o.state(id).Current; c != nil {
		return c.PhysicalID
	}
	return template.Unknown{Because: id}
}

// GetAtt gives an attribute of what stands for a resource now.
func (o *operation) GetAtt(id, attribute string) (any, error) {
	c := o.state(id).Current
	if c == nil {
		return template.Unknown{Because: id + "." + attribute}, nil
	}
	value, ok := c.Attributes[attribute]
	if !ok {
		return nil, changeset.NoAttribute(c.Type, attribute)
	}
	return value, nil
}

// save stores a resource's record and tells its new status.
func (o *operation) save(ctx context.Context, s resourceState, physicalID string) error {
	return o.keep(ctx, s, Event{LogicalID: s.LogicalID, PhysicalID: physicalID, Type: s.typ(), Status: s.Status, Reason: s.Reason})
}

// keep stores a resource's record, and with it the events that tell of it.
func (o *operation) keep(ctx context.Context, s resourceState, events ...Event) error {
	s.Time = now()
	op, err := o.e.resources.PutOp(o.e.resourceKey(o.stack.Name, s.LogicalID), s, record.Any)
	if err == nil {
		err = o.journal(ctx, []record.Op{op}, events...)
	}
	if err != nil {
		return halt{fmt.Errorf("store resource %s: %w", s.LogicalID, err)}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.resources[s.LogicalID] = s
	return nil
}

// forget removes the record of a resource of which nothing is left.
func (o *operation) forget(ctx context.Context, id string) error {
	if err := o.journal(ctx, []record.Op{o.e.resources.DeleteOp(o.e.resourceKey(o.stack.Name, id))}); err != nil {
		return halt{fmt.Errorf("remove the record of resource %s: %w", id, err)}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.resources, id)
	return nil
}

// tell tells what changes no record.
func (o *operation) tell(ctx context.Context, events ...Event) error {
	if err := o.journal(ctx, nil, events...); err != nil {
		return halt{fmt.Errorf("store event: %w", err)}
	}
	return nil
}

// stackType is the type in a stack's own events.
const stackType = "AWS::CloudFormation::Stack"

// enter brings the stack into a status, together with other writes.
func (o *operation) enter(ctx context.Context, status, reason string, ops ...record.Op) error {
	s := o.stack
	s.Status, s.Reason, s.Updated = status, reason, now()
	return o.putStack(ctx, s, ops...)
}

func (o *operation) putStack(ctx context.Context, s Stack, ops ...record.Op) error {
	op, err := o.e.stacks.PutOp(o.e.key(s.Name), s, record.Any)
	if err != nil {
		return err
	}
	event := Event{LogicalID: s.Name, PhysicalID: s.ID, Type: stackType, Status: s.Status, Reason: s.Reason}
	if err := o.journal(ctx, append(ops, op), event); err != nil {
		return halt{fmt.Errorf("store stack %s: %w", s.Name, err)}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stack = s
	return nil
}

// request is what a handler is told of a physical thing.
func (o *operation) request(id string, p changeset.Physical) Request {
	r := Request{Environment: o.e.environment, Stack: o.stack.Name, StackID: o.stack.ID, LogicalID: id, Type: p.Type, Token: p.Token,
		PhysicalID: p.PhysicalID, Properties: orEmpty(p.Properties), Attributes: p.Attributes}
	r.addTags(p)
	return r
}

// tokenLetters keeps tokens short enough for file names.
const tokenLetters = 60

// newToken names a new physical thing. A nested stack has the name that the
// change set gave it.
func (o *operation) newToken(id string) string {
	if nested := o.set.Nested[id]; nested != nil && nested.Action == changeset.Create {
		return nested.Stack
	}
	return tokenOf(o.stack.Name, id, strings.ToLower(rand.Text()[:13]))
}

func tokenOf(stack, id, random string) string {
	name := stack + "-" + id
	return name[:min(len(name), tokenLetters)] + "-" + random
}

// forward brings one resource to what the template says. It is safe to call
// again after a crash at any point.
func (o *operation) forward(ctx context.Context, id string) error {
	s := o.state(id)
	switch {
	case s.Step != nil && s.Step.Next == nil:
		return nil // done before a crash
	case s.Step != nil && (s.Status == CreateFailed || s.Status == UpdateFailed || s.Status == ImportFailed):
		return fault.New(fault.Failed, "resource %s (%s): %s", id, s.typ(), s.Reason)
	case s.Step != nil:
		return o.performAside(ctx, s, false)
	}
	properties, diags := o.after.Properties(id, o, true)
	next := changeset.Physical{Properties: properties}
	o.after.Describe(id, &next)
	next.Tags = o.tagsFor(s.Current, next.Type)
	if err := diags.Err(); err != nil {
		s.Step = &step{Revision: o.stack.Revision, Kind: stepUpdate, Before: s.Current, Next: s.Current}
		if s.Current == nil {
			next.Token = o.newToken(id)
			s.Step = &step{Revision: o.stack.Revision, Kind: stepCreate, Next: &next}
		}
		return o.failed(ctx, s, err)
	}
	begun, err := o.begin(s, next)
	if err != nil || begun == nil {
		return err
	}
	s.Step = begun
	if begun.Before != nil && begun.Kind == stepUpdate && sameThing(*begun.Before, *begun.Next) && o.set.Nested[id] == nil {
		s.Current, begun.Next = begun.Next, nil // policies and dependencies alone: nothing to call
		return o.keep(ctx, s)
	}
	return o.performAside(ctx, s, true)
}

// begin decides what to do to a resource: nil if it is as it shall be.
func (o *operation) begin(s resourceState, next changeset.Physical) (*step, error) {
	b := &step{Revision: o.stack.Revision, Kind: stepCreate, Next: &next}
	if s.Current == nil {
		if imported := o.importing(s.LogicalID, next); imported != nil {
			return imported, nil
		}
		next.Token = o.newToken(s.LogicalID)
		return b, nil
	}
	b.Kind, b.Before = stepUpdate, s.Current
	recreate := registry.Never
	if s.Current.Type != next.Type {
		recreate = registry.Always
	} else if !changeset.SameProperties(s.Current.Properties, next.Properties) {
		facts, _ := registry.Type(next.Type)
		recreate = facts.Change(orEmpty(s.Current.Properties), orEmpty(next.Properties))
		if o.after.ReplacesGroup(s.LogicalID, o, s.Current.Properties, next.Properties) {
			recreate = registry.Always
		}
		if o.planned(s.LogicalID) == "" {
			return nil, fault.New(fault.Conflict, "resource %s would change, which the change set did not say", s.LogicalID).
				WithHint("plan again: something the stack depends on has changed meanwhile")
		}
	} else if unchanged(*s.Current, next) && o.set.Nested[s.LogicalID] == nil {
		return nil, nil
	}
	if recreate == registry.Always {
		if o.planned(s.LogicalID) == changeset.ReplaceFalse {
			return nil, fault.New(fault.Conflict, "resource %s would have to be replaced, which the change set did not say", s.LogicalID).
				WithHint("plan again: something the stack depends on has changed meanwhile")
		}
		next.Tags = o.tagsFor(nil, next.Type)
		b.Kind, next.Token, b.DeleteFirst = stepReplace, o.newToken(s.LogicalID), s.Current.DeletesFirst(next.Type)
		return b, nil
	}
	next.Token, next.PhysicalID, next.Attributes = s.Current.Token, s.Current.PhysicalID, s.Current.Attributes
	return b, nil
}

// planned gives the replacement that the change set foresaw for a resource that
// exists, "" if it foresaw no change.
func (o *operation) planned(id string) string { return o.foreseen[id] }

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// performAside is perform, beside the others for a nested stack: what that
// makes is counted by itself, and may wait for what the others make.
func (o *operation) performAside(ctx context.Context, s resourceState, check bool) error {
	if s.Step.Next.Type != changeset.NestedType {
		return o.perform(ctx, s, check)
	}
	return dag.Aside(func(ctx context.Context) error { return o.perform(ctx, s, check) })
}

// perform stores the intent of a step, calls the handler and stores the result.
// A step that goes on after a crash is not checked again, since what it had
// begun would be in its own way.
func (o *operation) perform(ctx context.Context, s resourceState, check bool) error {
	s.Status, s.Reason = s.Step.Kind.statuses().begun, ""
	switch s.Step.Kind {
	case stepReplace:
		s.Reason = "Requested update requires the creation of a new physical resource; hence creating one."
	case stepImport:
		s.Reason = "Resource import started."
	}
	was := s.Step.Next.PhysicalID
	if s.Step.Kind == stepReplace {
		was = s.Step.Before.PhysicalID
	}
	if err := o.save(ctx, s, was); err != nil {
		return err
	}
	result, err := o.call(ctx, s, check)
	if s.Step.Kind == stepUpdate && fault.Is(err, fault.Unsupported) && o.planned(s.LogicalID) == changeset.ReplaceConditional {
		replace := *s.Step.Next
		replace.Token, replace.PhysicalID, replace.Attributes = o.newToken(s.LogicalID), "", nil
		s.Step = &step{Revision: s.Step.Revision, Kind: stepReplace, Before: s.Step.Before, Next: &replace, DeleteFirst: s.Step.Before.DeletesFirst(replace.Type)}
		return o.perform(ctx, s, check)
	}
	if halted(err) {
		return err
	}
	if err != nil {
		return o.failed(ctx, s, err)
	}
	return o.made(ctx, s, result)
}

// complete stores that a step has led to what it intended.
func (o *operation) complete(ctx context.Context, s resourceState, result Result) error {
	done := *s.Step.Next
	done.PhysicalID, done.Attributes, done.NoEcho = result.PhysicalID, result.Attributes, result.NoEcho
	kind := s.Step.Kind
	if kind == stepUpdate && result.Replaced {
		kind, done.Token = stepReplace, o.newToken(s.LogicalID)
	}
	told := s.Step.Wait != nil
	s.Current = &done
	s.Step = &step{Revision: s.Step.Revision, Kind: kind, Before: s.Step.Before, DeleteFirst: s.Step.DeleteFirst}
	under := s.Status
	s.Status, s.Reason = kind.statuses().done, ""
	if kind == stepImport {
		s.Reason = "Resource import completed."
	}
	complete := Event{LogicalID: s.LogicalID, PhysicalID: done.PhysicalID, Type: done.Type, Status: s.Status, Reason: s.Reason}
	if s.Step.Kind == stepUpdate || s.Step.Kind == stepImport || told {
		return o.keep(ctx, s, complete)
	}
	initiated := complete
	initiated.Status, initiated.Reason = under, creationInitiated
	return o.keep(ctx, s, initiated, complete)
}

// creationInitiated is the reason of the event that says which physical thing
// is being made. Handlers answer when it is ready, so it comes with the next.
const creationInitiated = "Resource creation Initiated"

// call asks the handler for what a step intends.
func (o *operation) call(ctx context.Context, s resourceState, check bool) (Result, error) {
	h, err := o.handler(s.Step.Next.Type)
	if err != nil {
		return Result{}, err
	}
	r := o.request(s.LogicalID, *s.Step.Next)
	if s.Step.Kind == stepUpdate {
		r.Previous = orEmpty(s.Step.Before.Properties)
	}
	if check {
		if err := h.Check(ctx, r); err != nil {
			return Result{}, err
		}
	}
	if s.Step.DeleteFirst {
		if err := o.deleteThing(ctx, s.LogicalID, *s.Step.Before); err != nil {
			return Result{}, err
		}
	}
	switch s.Step.Kind {
	case stepUpdate:
		return o.update(ctx, h, r, o.after)
	case stepImport:
		return o.takeIn(ctx, h, r)
	}
	return h.Create(ctx, r)
}

// failed stores that a step did not succeed. What it may have begun stays
// named in the record, for the roll back.
func (o *operation) failed(ctx context.Context, s resourceState, cause error) error {
	if suspended(ctx) {
		return suspension(ctx)
	}
	s.Status, s.Reason = s.Step.Kind.statuses().failed, cancelReason(ctx, s.Step.Kind, cause)
	if err := o.save(ctx, s, s.Step.Next.PhysicalID); err != nil {
		return err
	}
	return fault.Wrap(fault.CodeOf(cause), cause, "resource %s (%s)", s.LogicalID, s.Step.Next.Type)
}

// unchanged says whether the stack's own facts of a resource stay as they are.
func unchanged(a, b changeset.Physical) bool {
	return a.DeletionPolicy == b.DeletionPolicy && a.UpdateReplacePolicy == b.UpdateReplacePolicy && maps.Equal(a.Tags, b.Tags) &&
		strings.Join(a.DependsOn, " ") == strings.Join(b.DependsOn, " ")
}

// resourcesOf loads the records of a stack.
func (e *Engine) resourcesOf(ctx context.Context, stack string) (map[string]resourceState, error) {
	all, err := e.resources.List(ctx, e.resourceKey(stack, ""))
	if err != nil {
		return nil, fmt.Errorf("list resources of %s: %w", stack, err)
	}
	resources := make(map[string]resourceState, len(all))
	for _, s := range all {
		resources[s.LogicalID] = s
	}
	return resources, nil
}
