package stack

import (
	"maps"
	"slices"
	"strings"

	"makeitso/internal/diag"
	"makeitso/internal/template"
)

// checkTypes judges the active resources by the registry and the platform:
// types, required properties, attributes.
func (p *planner) checkTypes() {
	for _, id := range slices.Sorted(maps.Keys(p.after.graph)) {
		r := p.after.t.Resources[id]
		facts, known := p.types.Type(r.Type)
		if s := p.support(r.Type); s.Level == Refused {
			if !known {
				d := p.diags.Errorf(r.TypePos, "Template format error: Unrecognized resource types: [%s]", r.Type)
				d.Hint = didYouMean(r.Type, p.types.Names())
			} else {
				p.diags.Errorf(r.TypePos, "type %s is refused on this platform", r.Type).Hint = s.Note
			}
			continue
		}
		p.required(r, facts)
		p.policies(r)
		for _, ref := range p.after.t.References(r.Properties, p.after.conditions) {
			p.attribute(ref)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.after.t.Outputs)) {
		if o := p.after.t.Outputs[name]; o.Condition == "" || p.after.conditions[o.Condition] {
			for _, ref := range p.after.t.References(o.Value, p.after.conditions) {
				p.attribute(ref)
			}
		}
	}
}

// policies says of attributes that they are read and do nothing.
func (p *planner) policies(r *template.Resource) {
	if r.CreationPolicy != nil {
		p.diags.Warnf(r.CreationPolicy.Pos, "CreationPolicy has no effect yet: %s is complete when it is ready, without signals", r.LogicalID)
	}
	if r.UpdatePolicy != nil {
		p.diags.Warnf(r.UpdatePolicy.Pos, "UpdatePolicy has no effect yet: %s is updated at once", r.LogicalID)
	}
}

func (p *planner) required(r *template.Resource, facts Facts) {
	if r.Properties != nil && r.Properties.Kind != template.Map {
		return // a function gives them
	}
	for _, name := range facts.Required {
		if r.Properties.Get(name) != nil {
			continue
		}
		d := p.diags.Errorf(r.Pos, "Property validation failure: [The property {/%s} is required]", name)
		if r.Properties != nil {
			given := make([]string, len(r.Properties.Entries))
			for i, e := range r.Properties.Entries {
				given[i] = e.Key
			}
			if near := diag.Nearest(name, given); near != "" {
				d.Hint = "is " + near + " meant to be " + name + "?"
			}
		}
	}
}

// attribute judges a Fn::GetAtt by the registry, where it knows the type and
// says anything of its attributes.
func (p *planner) attribute(ref template.Reference) {
	typ := p.after.t.Resources[ref.LogicalID].Type
	facts, known := p.types.Type(typ)
	if ref.Attribute == "" || !known || len(facts.ReadOnly) == 0 || typ == "AWS::CloudFormation::Stack" {
		return
	}
	path := strings.ReplaceAll(ref.Attribute, ".", "/")
	var names []string
	for _, fact := range slices.Concat(facts.ReadOnly, facts.PrimaryIdentifier, facts.CreateOnly, facts.Required) {
		if fact == path || strings.HasPrefix(fact, path+"/") || strings.HasPrefix(path, fact+"/") {
			return
		}
		names = append(names, strings.ReplaceAll(fact, "/", "."))
	}
	d := p.diags.Errorf(ref.Pos, "Resource type %s does not support attribute {%s}.", typ, ref.Attribute)
	if d.Hint = didYouMean(ref.Attribute, names); d.Hint == "" {
		d.Severity = diag.Warning // some types give their properties too, which the registry does not say
	}
	if len(facts.ReadOnly) <= 12 {
		d.Allowed = strings.ReplaceAll(strings.Join(facts.ReadOnly, ", "), "/", ".")
	}
}

func didYouMean(word string, candidates []string) string {
	if near := diag.Nearest(word, candidates); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}
