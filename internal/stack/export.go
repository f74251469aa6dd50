package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/record"
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
// exports now. A value that is not known yet is judged when it is.
func guardExports(stack string, outputs []Output, exports map[string]Export) error {
	wanted := map[string]Output{}
	for _, o := range outputs {
		if o.Export == "" {
			continue
		}
		if first, twice := wanted[o.Export]; twice {
			return fault.New(fault.Invalid, "Duplicate Export names: %s is the export of both %s and %s", o.Export, first.Name, o.Name)
		}
		wanted[o.Export] = o
		if x, taken := exports[o.Export]; taken && x.Stack != stack {
			return fault.New(fault.Conflict, "Export with name %s is already exported by stack %s", o.Export, x.Stack).
				WithHint("give the export of output %s another name", o.Name)
		}
	}
	for name, x := range exports {
		users := slices.DeleteFunc(slices.Clone(x.Importers), func(s string) bool { return s == stack })
		if x.Stack != stack || len(users) == 0 {
			continue
		}
		o, kept := wanted[name]
		switch by := strings.Join(users, ", "); {
		case !kept:
			return fault.New(fault.Conflict, "Export %s cannot be deleted as it is in use by %s", name, by).
				WithHint("first change or remove %s so that it does not import %s", by, name)
		case o.Value != x.Value && o.Value != KnownAfterApply:
			return fault.New(fault.Conflict, "Export %s cannot be updated as it is in use by %s", name, by).
				WithHint("export the new value under another name, let %s import that, then remove this one", by)
		}
	}
	return nil
}

// exportOps gives the writes that make the stack's exports those of outputs,
// each on the condition that nobody has changed the export meanwhile.
func (e *Engine) exportOps(ctx context.Context, stack string, outputs []Output) ([]record.Op, error) {
	exports, err := e.exportMap(ctx)
	if err != nil {
		return nil, err
	}
	if err := guardExports(stack, outputs, exports); err != nil {
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
		x.Value = o.Value
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
		op := e.exports.DeleteOp(e.key(name))
		op.If = x.version
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
		if err := e.exports.PutIf(ctx, e.key(export), x, version); !fault.Is(err, fault.Conflict) {
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

// keepPresentImports takes back what a change that did not begin has noted.
func (e *Engine) keepPresentImports(ctx context.Context, stack string) error {
	src, err := e.present(ctx, stack)
	if err != nil {
		return err
	}
	return e.keepImports(ctx, stack, src.Imports)
}
