package changeset

import (
	"maps"
	"slices"

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
func (p *Planner) findMoves() {
	p.Moves = map[string]string{}
	taken := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(p.After.Graph)) {
		r := p.After.Template.Resources[id]
		v := movedFrom(r)
		if v == nil {
			continue
		}
		old := v.Text
		physical, exists := p.Exists[old]
		_, stays := p.After.Graph[old]
		_, here := p.Exists[id]
		switch {
		case stays:
			p.Diags.Errorf(v.Pos, "%s cannot be moved from %s, which is in the template too", id, old).Hint = "remove " + old + " from the template, or movedFrom"
		case taken[old] != "":
			p.Diags.Errorf(v.Pos, "%s cannot be moved from %s, as %s is", id, old, taken[old])
		case !exists || here:
		case physical.Type != r.Type:
			p.Diags.Errorf(v.Pos, "%s cannot be moved from %s, which is of type %s, not %s", id, old, physical.Type, r.Type)
		default:
			taken[old], p.Moves[id] = id, old
			p.Exists[id] = physical
		}
	}
	p.former = Standing(maps.Clone(p.Exists))
	for _, old := range p.Moves {
		delete(p.Exists, old)
	}
}

// beforeID is the logical id that a resource has in the present template.
func (p *Planner) beforeID(id string) string {
	if old, moved := p.Moves[id]; moved {
		return old
	}
	return id
}

// offerMoves says of what would be removed that something added has the same
// type and properties, and so may be the same under another name.
func (p *Planner) offerMoves(changes []ResourceChange) {
	removals := map[string][]ResourceChange{} // by type
	for _, c := range changes {
		if c.Action == Remove {
			removals[c.Type] = append(removals[c.Type], c)
		}
	}
	for _, added := range changes {
		if added.Action != Add || len(added.Check) == 0 {
			continue
		}
		for _, removed := range removals[added.Type] {
			if SameProperties(added.Check, p.Exists[removed.LogicalID].Properties) {
				p.Diags.Warnf(p.After.Template.Resources[added.LogicalID].Pos, "%s has the type and properties of %s, which would be removed", added.LogicalID, removed.LogicalID).
					Hint = "if it is the same under another name, say so, and it is kept: Metadata: {makeitso: {movedFrom: " + removed.LogicalID + "}}"
				break
			}
		}
	}
}

// Moved names the moves for a person.
func Moved(moves map[string]string) []string {
	var all []string
	for _, id := range slices.Sorted(maps.Keys(moves)) {
		all = append(all, moves[id]+" is "+id+" now")
	}
	return all
}
