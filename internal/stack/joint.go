package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
)

// Wanted gives the change that is wanted of a stack, when it is planned. It may
// ask for what stacks of the same plan will put out.
type Wanted func(stack string, will OutputOf) (changeset.Change, error)

// OutputOf gives an output that a stack of a plan will have, KnownAfterApply if
// that is not known; planned is false for a stack that the plan has not.
type OutputOf func(stack, output string) (value string, planned bool, err error)

// PlanAll plans changes of several stacks together, and gives their change sets
// in the order in which they must be applied: each after those whose exports it
// imports or whose outputs it was given. What an earlier one will make is known
// in a later one, or known after apply. An export may change, or go, while
// stacks use it that are in the plan too: the sets say so in Change.Joint. It
// only reads.
func (e *Engine) PlanAll(ctx context.Context, stacks []string, wanted Wanted) ([]*changeset.Set, error) {
	j := &joint{e: e, ctx: ctx, wanted: wanted, changes: map[string]changeset.Change{}, macros: map[string]map[string]json.RawMessage{}, owners: map[string]string{}, sets: map[string]*changeset.Set{}}
	for _, name := range stacks {
		j.changes[name] = changeset.Change{}
	}
	for _, name := range stacks {
		if err := j.own(name); err != nil {
			return nil, err
		}
	}
	for _, name := range stacks {
		if err := j.plan(name); err != nil {
			return nil, err
		}
	}
	return j.order, nil
}

// joint is a plan of several stacks in the making. Planning a stack that takes
// something from another one plans that first.
type joint struct {
	e       *Engine
	ctx     context.Context // of the one call that the plan is made in
	wanted  Wanted
	changes map[string]changeset.Change
	macros  map[string]map[string]json.RawMessage // what they have answered, by stack
	owners  map[string]string                     // the stacks of the plan, by the exports that their templates name
	sets    map[string]*changeset.Set
	path    []string // the stacks being planned, each for the one before
	order   []*changeset.Set
	nested  changeset.Joint // what those nested in the stack being planned must keep
	failed  error           // why a stack could not be planned that others take something from
}

// own notes which exports a stack's template names. One with mistakes names
// none; planning it reports them.
func (j *joint) own(name string) error {
	c, err := j.wanted(name, func(stack, _ string) (string, bool, error) { return changeset.KnownAfterApply, j.has(stack), nil })
	if err != nil {
		return err
	}
	s, err := j.e.find(j.ctx, name)
	if err != nil {
		return err
	}
	id := s.ID
	if !s.exists() {
		id = j.e.stackID(name, s.Revision)
	}
	exports, err := j.e.exportMap(j.ctx)
	if err != nil {
		return err
	}
	cs := &changeset.Set{Change: c, Imports: map[string]string{}}
	p, diags := changeset.NewProgram(c.Planned(), j.e.pseudo(name, id), j.e.lookups(j.ctx, cs, exports, view{}))
	if diags.HasErrors() || len(p.Open) > 0 {
		return nil
	}
	j.macros[name] = cs.Macros
	for _, export := range p.ExportNames() {
		j.owners[export] = name
	}
	return nil
}

// has says whether a stack is in the plan; there may be no plan.
func (j *joint) has(stack string) bool {
	if j == nil {
		return false
	}
	_, planned := j.changes[stack]
	return planned
}

// plan plans one stack, after those that it takes something from.
func (j *joint) plan(name string) error {
	if j.sets[name] != nil {
		return nil
	}
	if slices.Contains(j.path, name) {
		return fault.New(fault.Invalid, "stacks take from each other: %s", strings.Join(append(j.path, name), " → ")).
			WithHint("move what both use to a stack of its own")
	}
	outer := j.nested
	j.path, j.nested = append(j.path, name), changeset.Joint{}
	defer func() { j.path, j.nested = j.path[:len(j.path)-1], outer }()
	c, err := j.wanted(name, j.output)
	var cs *changeset.Set
	if err == nil {
		j.changes[name] = c
		cs, err = j.e.plan(j.ctx, c, view{joint: j})
	}
	if j.failed != nil {
		return j.failed // that the others do not get what they take says nothing more
	}
	if err != nil {
		return fmt.Errorf("stack %s: %w", name, err)
	}
	j.sets[name], j.order = cs, append(j.order, cs)
	return nil
}

// before plans a stack for the one that is being planned.
func (j *joint) before(name string) error {
	err := j.plan(name)
	j.failed = cmp.Or(j.failed, err)
	return err
}

// output is the OutputOf of the plan.
func (j *joint) output(name, output string) (value string, planned bool, err error) {
	if !j.has(name) {
		return "", false, nil
	}
	if err := j.before(name); err != nil {
		return "", true, err
	}
	cs := j.sets[name]
	if len(cs.Open) > 0 {
		return changeset.KnownAfterApply, true, nil
	}
	names := make([]string, len(cs.After))
	for i, o := range cs.After {
		if o.Name == output {
			return o.Value, true, nil
		}
		names[i] = o.Name
	}
	return "", true, fault.New(fault.NotFound, "stack %s will have no output %q", name, output).WithHint("it will have: %s", strings.Join(names, ", "))
}

// export gives the value that an export will have by the plan; planned says
// whether it is one of the plan's at all.
func (j *joint) export(name string) (value string, planned bool, err error) {
	if j == nil {
		return "", false, nil
	}
	owner := j.owners[name]
	if owner == j.path[len(j.path)-1] {
		return "", false, nil
	}
	if owner != "" {
		if err := j.before(owner); err != nil {
			return "", false, err
		}
	}
	for _, cs := range j.order { // a nested stack's export has no owner
		if value, ok := cs.Exports()[name]; ok {
			return value, true, nil
		}
	}
	return "", false, nil
}

// note sets what a change set must keep of the plan that it was made in, beside
// what its change had kept before. What nested stacks must keep their root
// keeps for them, which is planned after them.
func (j *joint) note(cs *changeset.Set, movers []string, v view) {
	if j == nil {
		return
	}
	kept := &cs.Change.Joint
	if v.root != "" {
		kept = &j.nested
	}
	kept.Stacks = union(kept.Stacks, movers)
	for name, value := range cs.Imports {
		if value == changeset.KnownAfterApply {
			kept.Exports = union(kept.Exports, []string{name})
		}
	}
	if v.root != "" {
		return
	}
	kept.Stacks, kept.Exports = union(kept.Stacks, j.nested.Stacks), union(kept.Exports, j.nested.Exports)
	for name, value := range cs.Change.Parameters {
		if strings.Contains(value, changeset.KnownAfterApply) {
			kept.Parameters = union(kept.Parameters, []string{name})
		}
	}
	for key, value := range cs.Change.Tags {
		if strings.Contains(value, changeset.KnownAfterApply) {
			kept.Tags = union(kept.Tags, []string{key})
		}
	}
	for i, arn := range cs.Change.Rollback.ARNs {
		if strings.Contains(arn, changeset.KnownAfterApply) {
			kept.Alarms = union(kept.Alarms, []int{i})
		}
	}
}

// union gives the items of both lists, sorted.
func union[T cmp.Ordered](a, b []T) []T {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

// movers says which other stacks a change may take former exports from: those
// that the same plan changes after it, and those of its own tree.
func (e *Engine) movers(ctx context.Context, c changeset.Change, v view) func(stack string) bool {
	return func(stack string) bool {
		if v.joint.has(stack) || slices.Contains(c.Joint.Stacks, stack) {
			return true
		}
		s, err := e.find(ctx, stack)
		return err == nil && s.root() == cmp.Or(v.root, c.Stack)
	}
}
