package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"makeitso/internal/changeset"
	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/template"
)

// exportMap gives the exports of the environment with their versions.
func (e *Engine) exportMap(ctx context.Context) (map[string]Export, error) {
	entries, err := e.store.List(ctx, exportKind, e.key(""))
	if err != nil {
		return nil, fmt.Errorf("list exports: %w", err)
	}
	exports := make(map[string]Export, len(entries))
	for _, entry := range entries {
		x := Export{}
		if err := json.Unmarshal(entry.Value, &x); err != nil {
			return nil, fmt.Errorf("decode export %s: %w", entry.Key, err)
		}
		x.version = entry.Version
		exports[x.Name] = x
	}
	return exports, nil
}

// guardExports says why the outputs cannot take the place of what the stack
// exports now. A value that is not known yet is judged when it is. An export
// that stacks use may change, or go, if all of these move after it: those are
// given, by name.
func guardExports(stack string, outputs []changeset.Output, exports map[string]Export, moves func(stack string) bool) (movers []string, err error) {
	wanted := map[string]changeset.Output{}
	for _, o := range outputs {
		if o.Export == "" {
			continue
		}
		if first, twice := wanted[o.Export]; twice {
			return nil, fault.New(fault.Invalid, "Duplicate Export names: %s is the export of both %s and %s", o.Export, first.Name, o.Name)
		}
		wanted[o.Export] = o
		if x, taken := exports[o.Export]; taken && x.Stack != stack {
			return nil, fault.New(fault.Conflict, "Export with name %s is already exported by stack %s", o.Export, x.Stack).
				WithHint("give the export of output %s another name", o.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(exports)) {
		x := exports[name]
		users := slices.DeleteFunc(slices.Clone(x.Importers), func(s string) bool { return s == stack })
		o, kept := wanted[name]
		if x.Stack != stack || len(users) == 0 || kept && o.Value == x.Value || !kept && x.Leaving {
			continue
		}
		staying := slices.DeleteFunc(slices.Clone(users), moves)
		switch by := strings.Join(staying, ", "); {
		case len(staying) == 0:
			movers = append(movers, users...)
		case !kept:
			return nil, fault.New(fault.Conflict, "Export %s cannot be deleted as it is in use by %s", name, by).
				WithHint("change %s so that it does not import %s, and apply both together: makeitso apply %s %s", by, name, stack, strings.Join(staying, " "))
		case o.Value != changeset.KnownAfterApply:
			return nil, fault.New(fault.Conflict, "Export %s cannot be updated as it is in use by %s", name, by).
				WithHint("apply them together, and what it names is kept until %s has moved: makeitso apply %s %s", by, stack, strings.Join(staying, " "))
		}
	}
	slices.Sort(movers)
	return slices.Compact(movers), nil
}

// warnExports says which exports may change under stacks that use them and do
// not move: if they do, the apply is rolled back.
func warnExports(t *template.Template, outputs []changeset.Output, exports map[string]Export, moves func(stack string) bool) (diags diag.List) {
	for _, o := range outputs {
		x, there := exports[o.Export]
		staying := slices.DeleteFunc(slices.Clone(x.Importers), moves)
		if there && o.Value == changeset.KnownAfterApply && len(staying) > 0 {
			d := diags.Warnf(t.Outputs[o.Name].Pos, "export %s may change, and it is in use by %s: then this apply is rolled back", o.Export, strings.Join(staying, ", "))
			d.Hint = "apply them together: makeitso apply " + x.Stack + " " + strings.Join(staying, " ")
		}
	}
	return diags
}

// exportOps gives the writes that make the stack's exports those of outputs,
// each on the condition that nobody has changed the export meanwhile.
func (e *Engine) exportOps(ctx context.Context, stack string, outputs []changeset.Output, moves func(stack string) bool) ([]record.Op, error) {
	exports, err := e.exportMap(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := guardExports(stack, outputs, exports, moves); err != nil {
		return nil, err
	}
	var ops []record.Op
	kept := map[string]bool{}
	for _, o := range outputs {
		if o.Export == "" {
			continue
		}
		kept[o.Export] = true
		x, there := exports[o.Export]
		if !there {
			x = Export{Name: o.Export, Stack: stack, version: record.Absent}
		}
		x.Held = x.Held || len(x.Importers) > 0 && x.Value != o.Value
		x.Value, x.Leaving = o.Value, false
		op, err := e.exports.PutOp(e.key(o.Export), x, x.version)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	for name, x := range exports {
		if x.Stack != stack || kept[name] {
			continue
		}
		if len(x.Importers) > 0 {
			x.Leaving = true
			op, err := e.exports.PutOp(e.key(name), x, x.version)
			if err != nil {
				return nil, err
			}
			ops = append(ops, op)
			continue
		}
		op := e.exports.DeleteOp(e.key(name))
		op.If = x.version
		ops = append(ops, op)
	}
	return ops, nil
}

// leavingOps gives the writes after which nobody new can import from a stack
// that is deleted.
func (e *Engine) leavingOps(ctx context.Context, s Stack) ([]record.Op, error) {
	exports, err := e.exportMap(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := guardExports(s.Name, nil, exports, e.movers(ctx, changeset.Change{Stack: s.Name}, view{root: s.Root})); err != nil {
		return nil, err
	}
	var ops []record.Op
	for name, x := range exports {
		if x.Stack != s.Name || x.Leaving {
			continue
		}
		x.Leaving = true
		op, err := e.exports.PutOp(e.key(name), x, x.version)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// exportAttempts bounds how often a write is tried again because another stack
// changed an export between reading and writing.
const exportAttempts = 20

// setImporter notes in an export that stack uses it, or uses it no more.
func (e *Engine) setImporter(ctx context.Context, export, stack string, uses bool) error {
	for range exportAttempts {
		x, version, err := e.exports.GetVersion(ctx, e.key(export))
		if err != nil {
			return fmt.Errorf("read export %s: %w", export, err)
		}
		at := slices.Index(x.Importers, stack)
		if uses == (at >= 0) {
			return nil
		}
		if uses {
			x.Importers = append(x.Importers, stack)
			slices.Sort(x.Importers)
		} else {
			x.Importers = slices.Delete(x.Importers, at, at+1)
		}
		op, err := e.exports.PutOp(e.key(export), x, version)
		if err != nil {
			return err
		}
		if err := e.write(ctx, op); !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return fault.New(fault.Unavailable, "export %s is being changed by others all the time", export).WithHint("try again")
}

// keepImports notes that stack uses the exports in wanted and no others.
func (e *Engine) keepImports(ctx context.Context, stack string, wanted map[string]string) error {
	all, err := e.Exports(ctx)
	if err != nil {
		return err
	}
	for _, x := range all {
		if _, keeps := wanted[x.Name]; !keeps && slices.Contains(x.Importers, stack) {
			if err := e.setImporter(ctx, x.Name, stack, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepPresentImports takes back what a change that did not begin has noted. An
// error is a halt: what is noted wrongly would hold the exporter for ever.
func (e *Engine) keepPresentImports(ctx context.Context, stack string) error {
	src, err := e.present(ctx, stack)
	if err == nil {
		err = e.keepImports(ctx, stack, src.Imports)
	}
	if err != nil {
		return halt{err}
	}
	return nil
}

// stale gives the stacks that still use a former value of what a stack exports,
// or what it exports no more.
func (e *Engine) stale(ctx context.Context, stack string) ([]string, error) {
	exports, err := e.Exports(ctx)
	if err != nil {
		return nil, err
	}
	var using []string
	for _, x := range exports {
		if x.Stack != stack || !x.Held && !x.Leaving {
			continue
		}
		for _, importer := range x.Importers {
			src, err := e.present(ctx, importer)
			if err != nil {
				return nil, err
			}
			if value, uses := src.Imports[x.Name]; uses && (x.Leaving || value != x.Value) && !slices.Contains(using, importer) {
				using = append(using, importer)
			}
		}
	}
	return using, nil
}

// hold puts off what dooms would delete now.
func hold(dooms map[string]doom) {
	for id, d := range dooms {
		for _, p := range d.things {
			p.Held = true
			d.held = append(d.held, p)
		}
		d.things = nil
		dooms[id] = d
	}
}

// letAllGo deletes what stacks have kept for others that have moved since. A
// stack that somebody changes meanwhile is left to that change, or to the next.
func (e *Engine) letAllGo(ctx context.Context, listen func(Event)) error {
	exports, err := e.Exports(ctx)
	if err != nil {
		return err
	}
	stacks := map[string]bool{}
	for _, x := range exports {
		if x.Held || x.Leaving {
			stacks[x.Stack] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(stacks)) {
		if err := e.letGo(ctx, name, listen); err != nil {
			return fmt.Errorf("delete what stack %s has kept for others: %w", name, err)
		}
	}
	return nil
}

// letGo deletes what a stack has kept for others, if none of them uses it.
func (e *Engine) letGo(ctx context.Context, name string, listen func(Event)) (err error) {
	s, err := e.find(ctx, name)
	if err != nil {
		return err
	}
	ctx, release, err := e.acquire(ctx, s.root(), false)
	if fault.Is(err, fault.Conflict) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = release(err) }()
	if s, err = e.find(ctx, name); err != nil || strings.HasSuffix(s.Status, "IN_PROGRESS") {
		return err
	}
	using, err := e.stale(ctx, name)
	if err != nil || len(using) > 0 {
		return err
	}
	o, err := e.working(ctx, s, listen)
	if err != nil {
		return err
	}
	dooms := map[string]doom{}
	for id, r := range o.resources {
		if slices.ContainsFunc(r.Doomed, func(p changeset.Physical) bool { return p.Held }) {
			dooms[id] = doom{things: r.Doomed, keep: r}
		}
	}
	if failed, err := o.deleteAll(ctx, dooms); err != nil || len(failed) > 0 {
		return err // what is left is named in the records and events
	}
	ops, err := e.heldOps(ctx, name)
	if err != nil {
		return err
	}
	if s.Status == DeleteComplete {
		err = e.write(ctx, ops...)
	} else {
		if s.Status == UpdateComplete {
			s.Reason = "" // that something was kept
		}
		err = o.enter(ctx, s.Status, s.Reason, ops...)
	}
	if fault.Is(err, fault.Conflict) {
		return nil // somebody else has changed an export: the next settles it
	}
	return err
}

// heldOps gives the writes after which a stack holds nothing for others.
func (e *Engine) heldOps(ctx context.Context, stack string) ([]record.Op, error) {
	exports, err := e.exportMap(ctx)
	if err != nil {
		return nil, err
	}
	var ops []record.Op
	for name, x := range exports {
		switch {
		case x.Stack != stack || !x.Held && !x.Leaving:
		case x.Leaving && len(x.Importers) == 0:
			op := e.exports.DeleteOp(e.key(name))
			op.If = x.version
			ops = append(ops, op)
		default:
			x.Held = false
			op, err := e.exports.PutOp(e.key(name), x, x.version)
			if err != nil {
				return nil, err
			}
			ops = append(ops, op)
		}
	}
	return ops, nil
}
