package stack

import (
	"maps"
	"slices"

	"makeitso/internal/diag"
	"makeitso/internal/registry"
)

// checkTypes judges the active resources by the registry and the platform:
// types, required properties, attributes.
func (p *planner) checkTypes() {
	wrong := p.after.t.CheckTypes(p.after.conditions)
	for _, id := range slices.Sorted(maps.Keys(p.after.graph)) {
		r := p.after.t.Resources[id]
		s := p.support(r.Type)
		if s.Level != Refused {
			continue
		}
		if slices.ContainsFunc(wrong, func(d diag.Diagnostic) bool { return d.Pos == r.TypePos }) {
			continue // there is no such type
		}
		if _, known := registry.Type(r.Type); known {
			p.diags.Errorf(r.TypePos, "type %s is refused on this platform", r.Type).Hint = s.Note
		} else {
			p.diags.Errorf(r.TypePos, "Template format error: Unrecognized resource types: [%s]", r.Type)
		}
	}
	p.diags = append(p.diags, wrong...)
}
