package changeset

import (
	"errors"
	"strings"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/template"
)

// NestedType is the type of a stack within a stack. The engine makes it itself,
// on every platform.
const NestedType = "AWS::CloudFormation::Stack"

// within plans the nested stack of a resource that is one.
func (p *Planner) within(id string, properties map[string]any, physical Physical) {
	r := p.After.Template.Resources[id]
	if r.Type != NestedType {
		return
	}
	token := ""
	if physical.Type == NestedType {
		token = physical.Token
	}
	nested, err := p.Nest(id, properties, token)
	var mistakes diag.List
	if errors.As(err, &mistakes) {
		p.Diags = append(p.Diags, mistakes...)
	} else if err != nil {
		p.Diags.Errorf(r.Pos, "nested stack %s: %v", id, err).Hint = fault.HintOf(err)
	} else {
		nested.hide(p.Secrets)
		p.Nested[id] = nested
	}
}

// hide masks secrets of the parent, of which a nested stack does not know, in
// what its details show.
func (cs *Set) hide(secrets []string) {
	cs.Secrets = append(cs.Secrets, secrets...)
	for _, c := range cs.Changes {
		for i := range c.Details {
			target := &c.Details[i].Target
			target.BeforeValue, target.AfterValue = Scrub(target.BeforeValue, secrets), Scrub(target.AfterValue, secrets)
		}
	}
}

// attribute gives an output that a nested stack will have.
func (cs *Set) attribute(id, attribute string) (any, error) {
	name, isOutput := strings.CutPrefix(attribute, "Outputs.")
	if isOutput && len(cs.Open) > 0 {
		return template.Unknown{Because: id + "." + attribute}, nil
	}
	for _, o := range cs.After {
		if isOutput && o.Name == name {
			if o.Value == KnownAfterApply {
				return template.Unknown{Because: id + "." + attribute}, nil
			}
			return o.Value, nil
		}
	}
	return nil, NoAttribute(NestedType, attribute)
}

// automatic is the detail of a nested stack that changes by its own template.
func (c *ResourceChange) automatic(nested *Set) {
	if nested == nil || nested.Empty() || len(c.Details) > 0 {
		return
	}
	c.Scope = []string{"Properties"}
	c.Details = []Detail{{Evaluation: dynamic, ChangeSource: automatic, Target: Target{Attribute: "Properties", RequiresRecreation: "Never"}}}
}
