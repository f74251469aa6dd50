package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"makeitso/internal/changeset"
	"makeitso/internal/diag"
	"makeitso/internal/fault"
)

// Plan compares a template with what exists. It only reads. Mistakes in the
// template come back as a diag.List. A plan that would change nothing has no
// changes (see Empty).
func (e *Engine) Plan(ctx context.Context, c changeset.Change) (*changeset.Set, error) {
	return e.plan(ctx, c, view{})
}

// view is what a comparison goes by besides the records of its stack.
type view struct {
	// frozen is an earlier set of the same change: what it looked up outside is
	// not looked up again.
	frozen *changeset.Set
	joint  *joint            // the plan of several stacks that it is part of
	root   string            // of a nested stack: the stack that it is part of
	tree   map[string]string // exports that other nested stacks of the root will have
	depth  int               // how many stacks it is nested in
}

func (e *Engine) plan(ctx context.Context, c changeset.Change, v view) (*changeset.Set, error) {
	if !stackName.MatchString(c.Stack) {
		return nil, fault.New(fault.Invalid, "%q is no stack name", c.Stack).WithHint("a name is letters, digits and -, beginning with a letter")
	}
	if err := e.checkLimits(ctx, c); err != nil {
		return nil, err
	}
	s, err := e.find(ctx, c.Stack)
	if err != nil {
		return nil, err
	}
	if err := updatable(s); err != nil {
		return nil, err
	}
	cs, err := e.compare(ctx, s, c, v)
	if err != nil {
		return nil, err
	}
	return cs, e.check(ctx, cs)
}

// updatable says why a stack cannot be changed in the state it is in.
func updatable(s Stack) error {
	if err := whole(s); err != nil {
		return err
	}
	switch s.Status {
	case "", DeleteComplete, RollbackComplete, CreateComplete, UpdateComplete, UpdateRollbackComplete, ImportComplete, ImportRollbackComplete:
		return nil
	}
	err := fault.New(fault.Conflict, "Stack:%s is in %s state and can not be updated.", s.ID, s.Status)
	switch {
	case strings.HasSuffix(s.Status, "IN_PROGRESS"):
		return err.WithHint("wait for the change under way, which is gone on with if its process is gone: makeitso apply %s --wait; or take an update back: makeitso stack cancel %s", s.Name, s.Name)
	case s.Status == UpdateRollbackFailed:
		return err.WithHint("take the cause away (%s), then go on with the roll back: makeitso stack rollback %s; or skip what fails in it: --skip RESOURCE", s.Reason, s.Name)
	}
	if s.Status == CreateFailed || s.Status == UpdateFailed {
		return err.WithHint("take the failed change back first: makeitso stack rollback %s", s.Name)
	}
	return err.WithHint("remove what is left of it: makeitso destroy")
}

// compare makes the change set, without asking the platform's handlers.
func (e *Engine) compare(ctx context.Context, s Stack, c changeset.Change, v view) (*changeset.Set, error) {
	exports, err := e.exportMap(ctx)
	if err != nil {
		return nil, err
	}
	cs := &changeset.Set{Environment: e.environment, Stack: c.Stack, StackID: s.ID, Action: changeset.Update, Base: s.Revision, Change: c, Imports: map[string]string{}}
	p := &changeset.Planner{Support: e.Support, Exists: map[string]changeset.Physical{}}
	if s.exists() {
		if err := e.fill(ctx, s, p); err != nil {
			return nil, err
		}
	} else {
		cs.Action, cs.StackID = changeset.Create, e.stackID(c.Stack, s.Revision)
	}
	if len(c.ResourcesToImport) > 0 {
		cs.Action = changeset.Import
	}
	out := e.lookups(ctx, cs, exports, v)
	planned := *cs
	planned.Change = c.Planned()
	var diags diag.List
	p.After, diags = changeset.NewProgram(planned.Change, e.pseudo(c.Stack, cs.StackID), out)
	if diags.HasErrors() {
		return nil, diags
	}
	if cs.Open = p.After.Open; len(cs.Open) > 0 {
		v.joint.note(cs, nil, v)
		return cs, cs.Seal()
	}
	p.Nest = e.nesting(ctx, &planned, out, v)
	if cs.Found, err = e.findImports(ctx, cs, p); err != nil {
		return nil, err
	}
	p.Found = cs.Found
	p.Wanted = planned.Change.Tags
	cs.Changes, cs.Outputs = p.Plan()
	cs.Likely, cs.Moves, cs.Secrets = p.Likelies(), p.Moves, p.Secrets
	cs.Warnings = append(diags, p.Diags...)
	if err := cs.Warnings.Err(); err != nil {
		cs.Warnings.Sort()
		return nil, err
	}
	if err := e.nestedSets(ctx, cs, p); err != nil {
		return nil, err
	}
	cs.Other = append(e.otherChanges(p, s, cs), changeset.Moved(p.Moves)...)
	if err := cs.Allowed(cmp.Or(c.Policy, s.Policy)); err != nil {
		return nil, err
	}
	if err := p.ImportOnly(cs); err != nil {
		return nil, err
	}
	cs.After, _ = p.After.Outputs(p, true) // its mistakes were reported by plan
	cs.Warnings = append(cs.Warnings, warnExports(p.After.Template, cs.After, exports, e.movers(ctx, c, v))...)
	movers, err := guardExports(c.Stack, cs.After, exports, e.movers(ctx, c, v))
	if err != nil {
		return nil, err
	}
	v.joint.note(cs, movers, v)
	return cs, cs.Seal()
}

// lookups is what the template of a change set takes from elsewhere, noted in
// the set.
func (e *Engine) lookups(ctx context.Context, cs *changeset.Set, exports map[string]Export, v view) changeset.Lookups {
	out := e.outside(ctx, cs)
	if v.joint != nil {
		maps.Copy(cs.Macros, v.joint.macros[cs.Stack]) // each is asked once in a plan
	}
	if v.frozen != nil {
		cs.Outside = v.frozen.Outside
		out = recorded(nil, cs.Outside)
	}
	out.Export = func(name string) (any, error) {
		value, err := e.exported(name, cs, exports, v)
		if err != nil {
			return nil, err
		}
		cs.Imports[name] = value
		return importValue(name, value), nil
	}
	return out
}

// exported gives the value of an export as it will be when the change set is
// applied, KnownAfterApply if that is not known.
func (e *Engine) exported(name string, cs *changeset.Set, exports map[string]Export, v view) (string, error) {
	value, planned, err := v.joint.export(name) // also plans its stack before this one
	if err != nil {
		return "", err
	}
	if slices.Contains(cs.Change.Joint.Exports, name) {
		return changeset.KnownAfterApply, nil
	}
	if value, sibling := v.tree[name]; sibling {
		return value, nil
	}
	if planned {
		return value, nil
	}
	x, ok := exports[name]
	if !ok || x.Leaving {
		return "", noExport(name)
	}
	return x.Value, nil
}

// fill tells the planner what exists of a stack.
func (e *Engine) fill(ctx context.Context, s Stack, p *changeset.Planner) error {
	src, err := e.present(ctx, s.Name)
	if err != nil {
		return err
	}
	if p.Before, err = e.program(s, src); err != nil {
		return err
	}
	p.Imports, p.Tags, p.Noted = src.Imports, src.Change.Tags, src.Change.Noted
	states, err := e.resources.List(ctx, e.resourceKey(s.Name, ""))
	if err != nil {
		return fmt.Errorf("list resources of %s: %w", s.Name, err)
	}
	for _, r := range states {
		if r.Current != nil {
			p.Exists[r.LogicalID] = *r.Current
		}
	}
	p.Outputs = s.Outputs
	return nil
}

// fillLeft adds what a delete before could not delete. Its policy was judged then.
func (e *Engine) fillLeft(ctx context.Context, s Stack, p *changeset.Planner) error {
	states, err := e.resourcesOf(ctx, s.Name)
	for id, r := range states {
		if r.Current == nil && len(r.Doomed) > 0 {
			left := r.Doomed[0]
			left.DeletionPolicy = "Delete"
			p.Exists[id] = left
		}
	}
	return err
}

// present gives what a stack was made from, the zero source if it never became
// complete.
func (e *Engine) present(ctx context.Context, name string) (source, error) {
	src, err := e.sources.Get(ctx, e.key(name))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return source{}, fmt.Errorf("read the template of stack %s: %w", name, err)
	}
	return src, nil
}

// program reads what a stack was made from, nil if it never became complete.
func (e *Engine) program(s Stack, src source) (*changeset.Program, error) {
	if len(src.Change.Template) == 0 {
		return nil, nil
	}
	p, diags := changeset.NewProgram(src.Change, e.pseudo(s.Name, s.ID), recorded(src.Imports, src.Outside))
	if diags.HasErrors() {
		return nil, fmt.Errorf("read the present template of stack %s: %w", s.Name, diags)
	}
	return p, nil
}

// Processed gives the template of what a stack was asked to be last, as its
// transforms leave it.
func (e *Engine) Processed(ctx context.Context, name string) (string, error) {
	s, err := e.Stack(ctx, name)
	if err != nil {
		return "", err
	}
	src, err := e.asked(ctx, name)
	if err != nil {
		return "", err
	}
	return changeset.Processed(src.Change, e.pseudo(s.Name, s.ID), recorded(src.Imports, src.Outside))
}

// ProcessedOf is Processed for a change set.
func (e *Engine) ProcessedOf(cs *changeset.Set) (string, error) {
	return changeset.Processed(cs.Change, e.pseudo(cs.Stack, cs.StackID), recorded(cs.Imports, cs.Outside))
}

// otherChanges names what changes although no resource or output does.
func (e *Engine) otherChanges(p *changeset.Planner, s Stack, cs *changeset.Set) []string {
	var other []string
	tagged := slices.ContainsFunc(cs.Changes, func(c changeset.ResourceChange) bool { return slices.Contains(c.Scope, "Tags") })
	if s.exists() && !maps.Equal(s.Tags, p.Wanted) && !tagged {
		other = append(other, "Tags")
	}
	if s.exists() && s.Description != p.After.Template.Description {
		other = append(other, "Description")
	}
	if s.exists() && !maps.Equal(p.Imports, cs.Imports) {
		other = append(other, "Imports")
	}
	if s.exists() && !slices.Equal(p.Noted.NotificationARNs, cs.Change.Noted.NotificationARNs) {
		other = append(other, "NotificationARNs")
	}
	for id, on := range p.After.Graph {
		physical, exists := p.Exists[id]
		if exists && p.Changes[id] == nil && !slices.Equal(physical.DependsOn, on) {
			return append(other, "DependsOn")
		}
	}
	return other
}

// check asks the platform about every resource that will be made or changed,
// and gives all its answers together.
func (e *Engine) check(ctx context.Context, cs *changeset.Set) error {
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(cs.Nested)) {
		if err := e.check(ctx, cs.Nested[id]); err != nil {
			errs = append(errs, err)
		}
	}
	for _, c := range cs.Changes {
		if c.Action == changeset.Remove || c.Type == changeset.NestedType {
			continue
		}
		h, err := e.confidant(c.Type, func() []string { return cs.Secrets })
		r := Request{Environment: e.environment, Stack: cs.Stack, LogicalID: c.LogicalID, Type: c.Type, PhysicalID: c.PhysicalID, Properties: c.Check}
		if err == nil {
			err = h.Check(ctx, r)
		}
		if err == nil {
			err = warn(ctx, h, r, cs)
		}
		if err != nil {
			errs = append(errs, fault.Wrap(fault.CodeOf(err), err, "%s: resource %s (%s)", c.Pos, c.LogicalID, c.Type))
		}
	}
	if len(errs) == 1 {
		return errs[0]
	}
	if len(errs) > 1 {
		return fault.Wrap(fault.CodeOf(errs[0]), errors.Join(errs...), "%d resources of stack %s cannot be made", len(errs), cs.Stack).
			WithHint("%s", hints(errs))
	}
	return nil
}

// warn puts what a handler tells of a change into its change set.
func warn(ctx context.Context, h Handler, r Request, cs *changeset.Set) error {
	w, able := h.(Warner)
	if !able {
		return nil
	}
	told, err := w.Warn(ctx, r)
	for _, text := range told {
		cs.Warnings.Warnf(diag.Pos{File: cs.Change.File}, "%s: %s", r.LogicalID, changeset.ScrubText(text, cs.Secrets))
	}
	return err
}

// hints gives the hints of all errs, each once.
func hints(errs []error) string {
	var all []string
	for _, err := range errs {
		if h := fault.HintOf(err); h != "" && !slices.Contains(all, h) {
			all = append(all, h)
		}
	}
	return strings.Join(all, "\n")
}

// PlanDelete gives what a delete of the stack would remove, after the stacks
// named before were deleted: what those import is not in use then. It only
// reads.
func (e *Engine) PlanDelete(ctx context.Context, name string, before ...string) (*changeset.Set, error) {
	s, err := e.Stack(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := deletable(s); err != nil {
		return nil, err
	}
	return e.compareDelete(ctx, s, before)
}

func (e *Engine) compareDelete(ctx context.Context, s Stack, before []string) (*changeset.Set, error) {
	exports, err := e.exportMap(ctx)
	if err != nil {
		return nil, err
	}
	going := func(stack string) bool { // before it, or with it
		importer, err := e.find(ctx, stack)
		return err == nil && (slices.Contains(before, importer.root()) || importer.root() == s.root())
	}
	if _, err := guardExports(s.Name, nil, exports, going); err != nil {
		return nil, err
	}
	p := &changeset.Planner{Support: e.Support, Exists: map[string]changeset.Physical{}}
	if err := cmp.Or(e.fill(ctx, s, p), e.fillLeft(ctx, s, p)); err != nil {
		return nil, err
	}
	cs := &changeset.Set{Environment: e.environment, Stack: s.Name, StackID: s.ID, Action: changeset.Delete, Base: s.Revision, Change: changeset.Change{Stack: s.Name}}
	p.Secrets = p.Hidden()
	cs.Changes, cs.Outputs = p.Removals(), p.OutputChanges()
	if err := e.nestedSets(ctx, cs, p); err != nil {
		return nil, err
	}
	return cs, cs.Seal()
}
