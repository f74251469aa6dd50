package changeset

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/registry"
	"makeitso/internal/template"
)

// Named gives the identifiers of the resources that a change names, if it may
// name them.
func (p *Planner) Named(c Change) (map[string]map[string]string, error) {
	wanted := map[string]map[string]string{}
	var absent, present, loose []string
	for _, id := range slices.Sorted(maps.Keys(c.ResourcesToImport)) {
		if _, active := p.After.Graph[id]; !active {
			absent = append(absent, id)
			continue
		}
		r := p.After.Template.Resources[id]
		facts, _ := registry.Type(r.Type)
		identifier := maps.Clone(c.ResourcesToImport[id])
		if value, bare := identifier[""]; bare && len(identifier) == 1 && len(facts.PrimaryIdentifier) == 1 {
			identifier = map[string]string{facts.PrimaryIdentifier[0]: value}
		}
		if !slices.Equal(slices.Sorted(maps.Keys(identifier)), slices.Sorted(slices.Values(facts.PrimaryIdentifier))) {
			return nil, fault.New(fault.Invalid, "Invalid resource identifier for resource type %s. Expected [%s]", r.Type, strings.Join(facts.PrimaryIdentifier, ", ")).
				WithHint("name %s by these properties of it: makeitso import %s %s=%s", id, c.Stack, id, strings.Join(facts.PrimaryIdentifier, "=VALUE,")+"=VALUE")
		}
		if _, exists := p.Exists[id]; exists {
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

// CustomNames gives the identifiers of the new resources to which the template
// itself gives a name.
func (p *Planner) CustomNames() map[string]map[string]string {
	names := map[string]map[string]string{}
	for id := range p.After.Graph {
		facts, _ := registry.Type(p.After.Template.Resources[id].Type)
		if _, exists := p.Exists[id]; exists || len(facts.PrimaryIdentifier) == 0 {
			continue
		}
		properties, _ := p.After.Properties(id, Standing(p.Exists), true) // the mistakes are found by the plan
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

// Retained refuses to adopt what a failure could then delete.
func (p *Planner) Retained(wanted map[string]map[string]string, found map[string]Physical) error {
	var affected []string
	for _, id := range slices.Sorted(maps.Keys(found)) {
		if policy := p.After.Template.Resources[id].DeletionPolicy; policy != "Retain" && policy != "RetainExceptOnCreate" {
			affected = append(affected, fmt.Sprintf("%s ({%s})", id, IdentifierText(wanted[id])))
		}
	}
	if len(affected) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, "CloudFormation is attempting to import some resources because they already exist in your account. "+
		"The resources must have the DeletionPolicy attribute set to 'Retain' or 'RetainExceptOnCreate' in the template for successful import. "+
		"The affected resources are %s", strings.Join(affected, ", "))
}

// IdentifierText writes an identifier as a person reads it.
func IdentifierText(identifier map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(identifier)) {
		parts = append(parts, name+"="+identifier[name])
	}
	return strings.Join(parts, ", ")
}

// ImportOnly says why a change set of the action Import is none: it may change
// nothing besides, and what it takes must be what the template says.
func (p *Planner) ImportOnly(cs *Set) error {
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
