package stack

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/registry"
	"makeitso/internal/template"
)

// findImports looks up what a change takes into the stack, by logical id: what
// it names, and with ImportExisting what exists already under the name that the
// template gives. It is asked when planning and again when applying.
func (e *Engine) findImports(ctx context.Context, cs *ChangeSet, p *planner) (map[string]Physical, error) {
	wanted, err := named(cs.Change, p)
	if err != nil {
		return nil, err
	}
	if cs.Change.ImportExisting {
		maps.Copy(wanted, customNames(p))
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	owners, err := e.owners(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]Physical{}
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		_, asked := cs.Change.ResourcesToImport[id]
		r := Request{Environment: e.environment, Stack: cs.Stack, StackID: cs.StackID, LogicalID: id, Type: p.after.t.Resources[id].Type}
		thing, err := e.findThing(ctx, r, wanted[id])
		if !asked && (fault.Is(err, fault.NotFound) || fault.Is(err, fault.Unsupported)) {
			continue // it is made like any other
		}
		if err != nil {
			return nil, err
		}
		if of := owners[thing.Token]; len(of) > 0 {
			if !asked {
				continue // making it will fail, and say so
			}
			return nil, owned(thing, of[0])
		}
		owners[thing.Token] = append(owners[thing.Token], owner{Stack{ID: cs.StackID}, id})
		found[id] = thing
	}
	if cs.Change.ImportExisting {
		return found, retained(p, wanted, found)
	}
	return found, nil
}

// named gives the identifiers of the resources that a change names, if it may
// name them.
func named(c Change, p *planner) (map[string]map[string]string, error) {
	wanted := map[string]map[string]string{}
	var absent, present, loose []string
	for _, id := range slices.Sorted(maps.Keys(c.ResourcesToImport)) {
		if _, active := p.after.graph[id]; !active {
			absent = append(absent, id)
			continue
		}
		r := p.after.t.Resources[id]
		facts, _ := registry.Type(r.Type)
		identifier := maps.Clone(c.ResourcesToImport[id])
		if value, bare := identifier[""]; bare && len(identifier) == 1 && len(facts.PrimaryIdentifier) == 1 {
			identifier = map[string]string{facts.PrimaryIdentifier[0]: value}
		}
		if !slices.Equal(slices.Sorted(maps.Keys(identifier)), slices.Sorted(slices.Values(facts.PrimaryIdentifier))) {
			return nil, fault.New(fault.Invalid, "Invalid resource identifier for resource type %s. Expected [%s]", r.Type, strings.Join(facts.PrimaryIdentifier, ", ")).
				WithHint("name %s by these properties of it: makeitso import %s %s=%s", id, c.Stack, id, strings.Join(facts.PrimaryIdentifier, "=VALUE,")+"=VALUE")
		}
		if _, exists := p.exists[id]; exists {
			present = append(present, id)
		}
		if r.DeletionPolicy == "" {
			loose = append(loose, id)
		}
		wanted[id] = identifier
	}
	switch {
	case len(absent) > 0:
		return nil, fault.New(fault.Invalid, "The logical resource ids [%s] provided in ResourceToImport do not exist in the template.", strings.Join(absent, ", "))
	case len(present) > 0:
		return nil, fault.New(fault.Invalid, "Resources [%s] passed in ResourceToImport are already in a stack and cannot be imported.", strings.Join(present, ", "))
	case len(loose) > 0:
		return nil, fault.New(fault.Invalid, "The following resources to import [%s] must have DeletionPolicy attribute specified in the template.", strings.Join(loose, ", ")).
			WithHint("say what becomes of them with the stack, e.g. DeletionPolicy: Retain")
	}
	return wanted, nil
}

// customNames gives the identifiers of the new resources to which the template
// itself gives a name.
func customNames(p *planner) map[string]map[string]string {
	names := map[string]map[string]string{}
	for id := range p.after.graph {
		facts, _ := registry.Type(p.after.t.Resources[id].Type)
		if _, exists := p.exists[id]; exists || len(facts.PrimaryIdentifier) == 0 {
			continue
		}
		properties, _ := p.after.properties(id, standing(p.exists), true) // the mistakes are found by the plan
		identifier := map[string]string{}
		for _, name := range facts.PrimaryIdentifier {
			if text, ok := properties[name].(string); ok && text != "" {
				identifier[name] = text
			}
		}
		if len(identifier) == len(facts.PrimaryIdentifier) {
			names[id] = identifier
		}
	}
	return names
}

// retained refuses to adopt what a failure could then delete.
func retained(p *planner, wanted map[string]map[string]string, found map[string]Physical) error {
	var affected []string
	for _, id := range slices.Sorted(maps.Keys(found)) {
		if policy := p.after.t.Resources[id].DeletionPolicy; policy != "Retain" && policy != "RetainExceptOnCreate" {
			affected = append(affected, fmt.Sprintf("%s ({%s})", id, identifierText(wanted[id])))
		}
	}
	if len(affected) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, "CloudFormation is attempting to import some resources because they already exist in your account. "+
		"The resources must have the DeletionPolicy attribute set to 'Retain' or 'RetainExceptOnCreate' in the template for successful import. "+
		"The affected resources are %s", strings.Join(affected, ", "))
}

func identifierText(identifier map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(identifier)) {
		parts = append(parts, name+"="+identifier[name])
	}
	return strings.Join(parts, ", ")
}

// findThing asks the platform for what an identifier names.
func (e *Engine) findThing(ctx context.Context, r Request, identifier map[string]string) (Physical, error) {
	h, err := e.handler(r.Type)
	if err != nil {
		return Physical{}, err
	}
	importer, able := h.(Importer)
	if !able {
		return Physical{}, fault.New(fault.Unsupported, "resource %s cannot be imported: type %s does not support it on this platform", r.LogicalID, r.Type)
	}
	token, result, err := importer.Find(ctx, r, identifier)
	if fault.Is(err, fault.NotFound) {
		return Physical{}, fault.Wrap(fault.NotFound, err, "resource %s (%s) to import with %s was not found", r.LogicalID, r.Type, identifierText(identifier)).
			WithHint("what a stack has left behind is named in its events (%s): makeitso events STACK", DeleteSkipped)
	}
	if err != nil {
		return Physical{}, fmt.Errorf("look for resource %s to import: %w", r.LogicalID, err)
	}
	return Physical{Token: token, Type: r.Type, PhysicalID: result.PhysicalID, Attributes: result.Attributes}, nil
}

// owner is a resource whose record names a physical thing.
type owner struct {
	stack     Stack
	logicalID string
}

// owners gives, by token, the resources of the environment's stacks that
// things belong to.
func (e *Engine) owners(ctx context.Context) (map[string][]owner, error) {
	stacks, err := e.Stacks(ctx)
	if err != nil {
		return nil, err
	}
	owners := map[string][]owner{}
	for _, s := range stacks {
		resources, err := e.resourcesOf(ctx, s.Name)
		if err != nil {
			return nil, err
		}
		for id, r := range resources {
			for _, thing := range r.all() {
				owners[thing.Token] = append(owners[thing.Token], owner{s, id})
			}
		}
	}
	return owners, nil
}

// Tokens gives the name, stack/LogicalId, of every physical thing that stacks
// have, by its token. What is not among them was left behind.
func (e *Engine) Tokens(ctx context.Context) (map[string]string, error) {
	owners, err := e.owners(ctx)
	names := map[string]string{}
	for token, of := range owners {
		names[token] = of[0].stack.Name + "/" + of[0].logicalID
	}
	return names, err
}

func owned(thing Physical, by owner) error {
	return fault.New(fault.Conflict, "%s already exists in stack %s", thing.PhysicalID, by.stack.ID).
		WithHint("it is %s there: take it out of that stack first, with DeletionPolicy: Retain", by.logicalID)
}

// importOnly says why a change set of the action Import is none: it may change
// nothing besides, and what it takes must be what the template says.
func importOnly(cs *ChangeSet, p *planner) error {
	if cs.Action != Import {
		return nil
	}
	var missing, modified []string
	for _, c := range cs.Changes {
		switch c.Action {
		case Add:
			missing = append(missing, c.LogicalID)
		case Modify, Remove:
			modified = append(modified, c.LogicalID)
		}
	}
	slices.Sort(modified)
	const instead = "leave the rest as it is and apply it afterwards; or apply all at once, adopting what has a name of its own: makeitso apply --import-existing"
	switch {
	case len(missing) > 0:
		return fault.New(fault.Invalid, "Resources [%s] is missing from ResourceToImport list", strings.Join(missing, ", ")).WithHint(instead)
	case len(modified) > 0:
		return fault.New(fault.Invalid, "You have modified resources [%s] in your template that are not being imported. "+
			"Update, create or delete operations cannot be executed during import operations.", strings.Join(modified, ", ")).WithHint(instead)
	case len(cs.Outputs) > 0:
		return fault.New(fault.Invalid, "As part of the import operation, you cannot modify or add [Outputs]").WithHint(instead)
	}
	for _, id := range slices.Sorted(maps.Keys(cs.Found)) {
		facts, _ := registry.Type(cs.Found[id].Type)
		for _, name := range facts.PrimaryIdentifier {
			given, is := p.planned[id][name], cs.Change.ResourcesToImport[id]
			value := cmp.Or(is[name], is[""])
			if given != nil && !template.HasUnknown(given) && given != value {
				return fault.New(fault.Invalid, "resource %s to import is %s, but the template says %s %v", id, value, name, given).
					WithHint("write %s: %s, or leave %s out", name, value, name)
			}
		}
	}
	return nil
}

// takeIn looks once more whether what is imported is there and belongs to
// nobody else. Its token is in the resource's record by now: of two stacks that
// take it at one time, at least one sees the other.
func (o *operation) takeIn(ctx context.Context, h Handler, r Request) (Result, error) {
	owners, err := o.e.owners(ctx)
	if err != nil {
		return Result{}, err
	}
	for _, of := range owners[r.Token] {
		if of.stack.ID != r.StackID || of.logicalID != r.LogicalID {
			return Result{}, owned(Physical{PhysicalID: r.PhysicalID}, of)
		}
	}
	return h.Read(ctx, r)
}

// importing is the step by which a resource is taken in, nil if it is not.
func (o *operation) importing(id string, next Physical) *step {
	found, ok := o.set.Found[id]
	if !ok {
		return nil
	}
	next.Token, next.PhysicalID, next.Attributes = found.Token, found.PhysicalID, found.Attributes
	return &step{Revision: o.stack.Revision, Kind: stepImport, Next: &next}
}

// release gives an imported resource up without touching it.
func (o *operation) release(ctx context.Context, id string, p Physical) error {
	begun := Event{LogicalID: id, PhysicalID: p.PhysicalID, Type: p.Type, Status: ImportRollbackInProgress}
	done := begun
	done.Status = ImportRollbackComplete
	return o.tell(ctx, begun, done)
}
