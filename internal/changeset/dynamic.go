package changeset

import "makeitso/internal/template"

// Secure says whether what a dynamic reference stands for must not be stored:
// such a reference stays in the properties of a resource as it is written, is
// compared as it is written, and is looked up for the handler's eyes alone.
func Secure(d template.DynamicReference) bool { return d.Service != "ssm" }

// Versioned is how a parameter's version is asked for.
func Versioned(d template.DynamicReference) string {
	if d.Version == "" {
		return d.Name
	}
	return d.Name + ":" + d.Version
}

// LookedUp gives the paths of the properties with a dynamic reference in them,
// which are not compared.
func (p *Program) LookedUp(id string, w World) []string {
	if p == nil || p.Template.Resources[id] == nil || p.Template.Resources[id].Properties == nil {
		return nil
	}
	value, _, _ := p.Template.Resolve(p.Template.Resources[id].Properties, p.scope(w, true))
	return template.DynamicPaths(value)
}
