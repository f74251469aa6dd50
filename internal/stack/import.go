package stack

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
)

// findImports looks up what a change takes into the stack, by logical id: what
// it names, and with ImportExisting what exists already under the name that the
// template gives. It is asked when planning and again when applying.
func (e *Engine) findImports(ctx context.Context, cs *changeset.Set, p *changeset.Planner) (map[string]changeset.Physical, error) {
	wanted, err := p.Named(cs.Change)
	if err != nil {
		return nil, err
	}
	if cs.Change.ImportExisting {
		maps.Copy(wanted, p.CustomNames())
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	owners, err := e.owners(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]changeset.Physical{}
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		_, asked := cs.Change.ResourcesToImport[id]
		r := Request{Environment: e.environment, Stack: cs.Stack, StackID: cs.StackID, LogicalID: id, Type: p.After.Template.Resources[id].Type}
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
		return found, p.Retained(wanted, found)
	}
	return found, nil
}

// findThing asks the platform for what an identifier names.
func (e *Engine) findThing(ctx context.Context, r Request, identifier map[string]string) (changeset.Physical, error) {
	h, err := e.handler(r.Type)
	if err != nil {
		return changeset.Physical{}, err
	}
	importer, able := h.(Importer)
	if !able {
		return changeset.Physical{}, fault.New(fault.Unsupported, "resource %s cannot be imported: type %s does not support it on this platform", r.LogicalID, r.Type)
	}
	token, result, err := importer.Find(ctx, r, identifier)
	if fault.Is(err, fault.NotFound) {
		return changeset.Physical{}, fault.Wrap(fault.NotFound, err, "resource %s (%s) to import with %s was not found", r.LogicalID, r.Type, changeset.IdentifierText(identifier)).
			WithHint("what a stack has left behind is named in its events (%s): makeitso events STACK", DeleteSkipped)
	}
	if err != nil {
		return changeset.Physical{}, fmt.Errorf("look for resource %s to import: %w", r.LogicalID, err)
	}
	return changeset.Physical{Token: token, Type: r.Type, PhysicalID: result.PhysicalID, Attributes: result.Attributes}, nil
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

func owned(thing changeset.Physical, by owner) error {
	return fault.New(fault.Conflict, "%s already exists in stack %s", thing.PhysicalID, by.stack.ID).
		WithHint("it is %s there: take it out of that stack first, with DeletionPolicy: Retain", by.logicalID)
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
			return Result{}, owned(changeset.Physical{PhysicalID: r.PhysicalID}, of)
		}
	}
	return h.Read(ctx, r)
}

// importing is the step by which a resource is taken in, nil if it is not.
func (o *operation) importing(id string, next changeset.Physical) *step {
	found, ok := o.set.Found[id]
	if !ok {
		return nil
	}
	next.Token, next.PhysicalID, next.Attributes = found.Token, found.PhysicalID, found.Attributes
	next.Tags = nil // nothing of it is changed
	return &step{Revision: o.stack.Revision, Kind: stepImport, Next: &next}
}

// release gives an imported resource up without touching it.
func (o *operation) release(ctx context.Context, id string, p changeset.Physical) error {
	begun := Event{LogicalID: id, PhysicalID: p.PhysicalID, Type: p.Type, Status: ImportRollbackInProgress}
	done := begun
	done.Status = ImportRollbackComplete
	return o.tell(ctx, begun, done)
}
