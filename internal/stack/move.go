package stack

import (
	"fmt"
	"maps"
	"slices"

	"makeitso/internal/record"
	"makeitso/internal/template"
)

// movedFrom gives the logical id that a resource says it had before, in
// Metadata: {makeitso: {movedFrom: Name}}; nil if it says none.
func movedFrom(r *template.Resource) *template.Value {
	v := r.Metadata.Get("makeitso").Get("movedFrom")
	if v == nil || v.Kind != template.Text {
		return nil
	}
	return v
}

// findMoves finds the resources that exist under another logical id and takes
// them for what exists of the new one. One that was moved before is left alone.
func (p *planner) findMoves() {
	p.moves = map[string]string{}
	taken := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(p.after.graph)) {
		r := p.after.t.Resources[id]
		v := movedFrom(r)
		if v == nil {
			continue
		}
		old := v.Text
		physical, exists := p.exists[old]
		_, stays := p.after.graph[old]
		_, here := p.exists[id]
		switch {
		case stays:
			p.diags.Errorf(v.Pos, "%s cannot be moved from %s, which is in the template too", id, old).Hint = "remove " + old + " from the template, or movedFrom"
		case taken[old] != "":
			p.diags.Errorf(v.Pos, "%s cannot be moved from %s, as %s is", id, old, taken[old])
		case !exists || here:
		case physical.Type != r.Type:
			p.diags.Errorf(v.Pos, "%s cannot be moved from %s, which is of type %s, not %s", id, old, physical.Type, r.Type)
		default:
			taken[old], p.moves[id] = id, old
			p.exists[id] = physical
		}
	}
	for _, old := range p.moves {
		delete(p.exists, old)
	}
}

// beforeID is the logical id that a resource has in the present template.
func (p *planner) beforeID(id string) string {
	if old, moved := p.moves[id]; moved {
		return old
	}
	return id
}

// offerMoves says of what would be removed that something added has the same
// type and properties, and so may be the same under another name.
func (p *planner) offerMoves(changes []ResourceChange) {
	removals := map[string][]ResourceChange{} // by type
	for _, c := range changes {
		if c.Action == Remove {
			removals[c.Type] = append(removals[c.Type], c)
		}
	}
	for _, added := range changes {
		if added.Action != Add || len(added.check) == 0 {
			continue
		}
		for _, removed := range removals[added.Type] {
			if sameProperties(added.check, p.exists[removed.LogicalID].Properties) {
				p.diags.Warnf(p.after.t.Resources[added.LogicalID].Pos, "%s has the type and properties of %s, which would be removed", added.LogicalID, removed.LogicalID).
					Hint = "if it is the same under another name, say so, and it is kept: Metadata: {makeitso: {movedFrom: " + removed.LogicalID + "}}"
				break
			}
		}
	}
}

// moved names the moves for a person.
func moved(moves map[string]string) []string {
	var all []string
	for _, id := range slices.Sorted(maps.Keys(moves)) {
		all = append(all, moves[id]+" is "+id+" now")
	}
	return all
}

// move brings the records of moved resources under their new logical ids, or
// back, with one write of the caller's.
func (o *operation) move(back bool) ([]record.Op, error) {
	var ops []record.Op
	for to, from := range o.set.Moves {
		if back {
			from, to = to, from
		}
		s, exists := o.resources[from]
		if !exists {
			continue
		}
		s.LogicalID = to
		put, err := o.e.resources.PutOp(o.e.resourceKey(o.stack.Name, to), s, record.Any)
		if err != nil {
			return nil, fmt.Errorf("move the record of %s to %s: %w", from, to, err)
		}
		ops = append(ops, put, o.e.resources.DeleteOp(o.e.resourceKey(o.stack.Name, from)))
		delete(o.resources, from)
		o.resources[to] = s
	}
	return ops, nil
}
