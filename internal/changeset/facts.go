package changeset

import (
	"maps"
	"slices"

	"makeitso/internal/diag"
	"makeitso/internal/registry"
)

// checkTypes judges the active resources by the registry and the platform:
// types, required properties, attributes.
func (p *Planner) checkTypes() {
	wrong := p.After.Template.CheckTypes(p.After.conditions)
	for _, id := range slices.Sorted(maps.Keys(p.After.Graph)) {
		r := p.After.Template.Resources[id]
		s := p.Support(r.Type)
		if s.Level != Refused {
			continue
		}
		if slices.ContainsFunc(wrong, func(d diag.Diagnostic) bool { return d.Pos == r.TypePos }) {
			continue // there is no such type
		}
		if _, known := registry.Type(r.Type); known {
			p.Diags.Errorf(r.TypePos, "type %s is refused on this platform", r.Type).Hint = s.Note
		} else {
			p.Diags.Errorf(r.TypePos, "Template format error: Unrecognized resource types: [%s]", r.Type).
				Hint = "types of others are not made here; a provider of your own makes Custom::NAME"
		}
	}
	p.Diags = append(p.Diags, wrong...)
}
