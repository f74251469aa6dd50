package stack

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"makeitso/internal/fault"
)

// Joint is what a change goes by as a part of a plan of several stacks. A
// change that keeps it can be planned again after the others were applied, and
// its change set has the same digest.
type Joint struct {
	// Stacks are changed after this one and use exports of it that change or
	// go: they may, since what the exports name is kept until the last of these
	// stacks has moved.
	Stacks []string `json:"stacks,omitempty"`
	// Exports are taken as known after apply, whatever they are now.
	Exports []string `json:"exports,omitempty"`
	// Parameters are taken as known after apply, whatever is given for them.
	Parameters []string `json:"parameters,omitempty"`
}

// planned is the change as it is compared: with KnownAfterApply for the
// parameters that were not known in the plan.
func (c Change) planned() Change {
	if len(c.Joint.Parameters) == 0 {
		return c
	}
	c.Parameters = maps.Clone(c.Parameters)
	for _, name := range c.Joint.Parameters {
		c.Parameters[name] = KnownAfterApply
	}
	return c
}

// PlanAll plans changes of several stacks together, and gives their change sets
// in the order in which they must be applied: each after those whose exports it
// imports. What an earlier one will export is known in a later one, or known
// after apply. An export may change, or go, while stacks use it that are in the
// plan too: their sets say so in Change.Joint. It only reads.
func (e *Engine) PlanAll(ctx context.Context, changes []Change) ([]*ChangeSet, error) {
	j := &joint{e: e, ctx: ctx, changes: map[string]Change{}, owners: map[string]string{}, sets: map[string]*ChangeSet{}, busy: map[string]bool{}}
	for _, c := range changes {
		j.changes[c.Stack] = c
		if err := j.own(c); err != nil {
			return nil, err
		}
	}
	for _, c := range changes {
		if err := j.plan(c.Stack); err != nil {
			return nil, err
		}
	}
	return j.order, nil
}

// joint is a plan of several stacks in the making. Planning a stack that
// imports from another one plans that first.
type joint struct {
	e       *Engine
	ctx     context.Context // of the one call that the plan is made in
	changes map[string]Change
	owners  map[string]string // the stacks of the plan, by the exports that their templates name
	sets    map[string]*ChangeSet
	busy    map[string]bool
	path    []string // the stacks being planned, each for the one before
	order   []*ChangeSet
	failed  error // why a stack could not be planned that others import from
}

// own notes which exports a change's template names. A template with mistakes
// names none; planning it reports them.
func (j *joint) own(c Change) error {
	s, err := j.e.find(j.ctx, c.Stack)
	if err != nil {
		return err
	}
	id := s.ID
	if !s.exists() {
		id = j.e.stackID(c.Stack, s.Revision)
	}
	exports, err := j.e.exportMap(j.ctx)
	if err != nil {
		return err
	}
	cs := &ChangeSet{Change: c, Imports: map[string]string{}}
	p, diags := newProgram(c.planned(), j.e.pseudo(c.Stack, id), j.e.lookups(j.ctx, cs, exports, view{}))
	if diags.HasErrors() || len(p.open) > 0 {
		return nil
	}
	for _, name := range p.exportNames() {
		j.owners[name] = c.Stack
	}
	return nil
}

// plan plans one stack, and those that it imports from before.
func (j *joint) plan(name string) error {
	if j.sets[name] != nil {
		return nil
	}
	if j.busy[name] {
		return fault.New(fault.Invalid, "stacks import from each other: %s", strings.Join(append(j.path, name), " → ")).
			WithHint("move what is exported to a stack of its own, or hand it on with a parameter")
	}
	j.busy[name], j.path = true, append(j.path, name)
	defer func() { j.busy[name], j.path = false, j.path[:len(j.path)-1] }()
	cs, err := j.e.plan(j.ctx, j.changes[name], view{joint: j})
	if j.failed != nil {
		return j.failed // that the others do not get their imports says nothing more
	}
	if err != nil {
		return fmt.Errorf("stack %s: %w", name, err)
	}
	j.sets[name], j.order = cs, append(j.order, cs)
	return nil
}

// export gives the value that an export will have by the plan; planned says
// whether it is one of the plan's at all.
func (j *joint) export(name string) (value string, planned bool, err error) {
	if j == nil {
		return "", false, nil
	}
	current := j.path[len(j.path)-1]
	owner := j.owners[name]
	if owner == current {
		return "", false, nil
	}
	if owner != "" {
		if err := j.plan(owner); err != nil {
			j.failed = err
			return "", false, err
		}
	}
	for _, cs := range j.order { // a nested stack's export has no owner
		if value, ok := cs.exports()[name]; ok {
			return value, true, nil
		}
	}
	return "", false, nil
}

// note sets what a change set must keep of the plan that it was made in.
func (j *joint) note(cs *ChangeSet, movers []string) {
	if j == nil {
		return
	}
	cs.Change.Joint = Joint{Stacks: movers}
	for _, name := range slices.Sorted(maps.Keys(cs.Imports)) {
		if cs.Imports[name] == KnownAfterApply {
			cs.Change.Joint.Exports = append(cs.Change.Joint.Exports, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cs.Change.Parameters)) {
		if strings.Contains(cs.Change.Parameters[name], KnownAfterApply) {
			cs.Change.Joint.Parameters = append(cs.Change.Joint.Parameters, name)
		}
	}
}

// exports gives what the stack, and those nested in it, will export.
func (cs *ChangeSet) exports() map[string]string {
	all := map[string]string{}
	for _, o := range cs.after {
		if o.Export != "" {
			all[o.Export] = o.Value
		}
	}
	for _, nested := range cs.Nested {
		maps.Copy(all, nested.exports())
	}
	return all
}

// movers says which other stacks a change may take former exports from: those
// that the same plan changes after it, and those of its own tree.
func (e *Engine) movers(ctx context.Context, c Change, v view) func(stack string) bool {
	return func(stack string) bool {
		if _, planned := v.joint.change(stack); planned || slices.Contains(c.Joint.Stacks, stack) {
			return true
		}
		s, err := e.find(ctx, stack)
		return err == nil && s.root() == cmp.Or(v.root, c.Stack)
	}
}

func (j *joint) change(stack string) (Change, bool) {
	if j == nil {
		return Change{}, false
	}
	c, planned := j.changes[stack]
	return c, planned
}
