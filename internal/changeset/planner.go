package changeset

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"makeitso/internal/dag"
	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/registry"
	"makeitso/internal/template"
)

// Planner compares what a stack is with what it shall be. It asks nothing of
// the world but what it is given, so that the same input gives the same change
// set.
type Planner struct {
	Support func(typ string) Support
	Before  *Program // nil for a stack that does not exist
	After   *Program
	Exists  map[string]Physical // by logical id
	Found   map[string]Physical // what is imported, by logical id
	Outputs []Output            // of the stack as it is
	Imports map[string]string   // that it was made with
	Tags    map[string]string   // that it was made with
	Wanted  map[string]string   // the tags that it shall have
	Noted   Noted               // what was said of it to others
	// Nest plans the nested stack of a resource, new if it has no token.
	Nest func(id string, properties map[string]any, token string) (*Set, error)

	// What a plan comes to besides its answers.
	Changes map[string]*ResourceChange // by logical id
	Moves   map[string]string          // from new logical ids to old ones
	Nested  map[string]*Set            // of the resources that are stacks
	Secrets []string                   // what may not be shown
	Diags   diag.List

	likely  map[string][]Detail       // what the service lists besides, although the values are proven equal
	planned map[string]map[string]any // the properties, resolved as far as known
	former  Standing                  // what exists, by its former logical ids too
}

// Ref gives the physical id of a resource that stays.
func (p *Planner) Ref(id string) any {
	physical, exists := p.thing(id)
	if !exists || p.replaced(id) {
		return template.Unknown{Because: id}
	}
	return physical.PhysicalID
}

// thing gives what stands for a resource, or is imported to stand for it.
func (p *Planner) thing(id string) (Physical, bool) {
	if physical, exists := p.Exists[id]; exists {
		return physical, true
	}
	physical, found := p.Found[id]
	return physical, found
}

// replaced says whether the resource may become another physical one.
func (p *Planner) replaced(id string) bool {
	c := p.Changes[id]
	return c != nil && c.Action == Modify && c.Replacement != ReplaceFalse
}

// GetAtt gives an attribute of a resource that stays as it is. Of one that is
// changed in place, only what names it and what is a property is known.
func (p *Planner) GetAtt(id, attribute string) (any, error) {
	if child := p.Nested[id]; child != nil {
		return child.attribute(id, attribute)
	}
	unknown := template.Unknown{Because: id + "." + attribute}
	physical, exists := p.thing(id)
	if !exists || p.replaced(id) {
		return unknown, nil
	}
	value, known := physical.Attributes[attribute]
	if !p.Changes[id].touchesProperties() {
		if !known {
			return nil, NoAttribute(physical.Type, attribute)
		}
		return value, nil
	}
	if property, ok := p.planned[id][attribute]; ok {
		return property, nil
	}
	facts, _ := registry.Type(physical.Type)
	if known && slices.Contains(facts.PrimaryIdentifier, strings.ReplaceAll(attribute, ".", "/")) {
		return value, nil
	}
	return unknown, nil
}

// hides says whether the attributes of a resource are secrets.
func (p *Planner) hides(id string) bool {
	physical, _ := p.thing(id)
	return physical.NoEcho
}

// NoAttribute says it in the service's words.
func NoAttribute(typ, attribute string) error {
	return fault.New(fault.Invalid, "Resource type %s does not support attribute {%s}.", typ, attribute)
}

// touchesProperties says whether a change may have an effect on attributes;
// that of tags alone has none.
func (c *ResourceChange) touchesProperties() bool {
	if c == nil {
		return false
	}
	facts, _ := registry.Type(c.Type)
	return slices.ContainsFunc(c.Details, func(d Detail) bool {
		return d.Target.Attribute == "Properties" && d.Target.Name != facts.TagProperty()
	})
}

// Standing is the world as it is, for values before the change.
type Standing map[string]Physical

// Ref implements World.
func (s Standing) Ref(id string) any {
	if p, ok := s[id]; ok {
		return p.PhysicalID
	}
	return template.Unknown{Because: id}
}

// GetAtt implements World.
func (s Standing) GetAtt(id, attribute string) (any, error) {
	if value, ok := s[id].Attributes[attribute]; ok {
		return value, nil
	}
	return template.Unknown{Because: id + "." + attribute}, nil
}

func (s Standing) hides(id string) bool { return s[id].NoEcho }

// standing is the world as it is, for the present template.
func (p *Planner) standing() Standing {
	if p.former != nil {
		return p.former
	}
	return Standing(p.Exists)
}

// Hidden gives what may not be shown: secret parameters of both templates, and
// what the things that exist hold of secrets.
func (p *Planner) Hidden() []string {
	hidden := append(p.After.Secrets(), p.Before.Secrets()...)
	for _, id := range slices.Sorted(maps.Keys(p.Exists)) {
		hidden = append(hidden, p.Exists[id].secrets()...)
	}
	return hidden
}

// Plan gives all changes: additions and modifications in the order of
// dependencies, then what is removed, in reverse.
func (p *Planner) Plan() ([]ResourceChange, []OutputChange) {
	p.Changes, p.planned, p.likely = map[string]*ResourceChange{}, map[string]map[string]any{}, map[string][]Detail{}
	p.Nested = map[string]*Set{}
	p.Secrets = p.Hidden()
	p.checkTypes()
	p.findMoves()
	if p.Diags.HasErrors() {
		return nil, nil
	}
	changes := []ResourceChange{}
	for _, id := range dag.InOrder(p.After.Graph) {
		p.resource(id)
		if c := p.Changes[id]; c != nil {
			changes = append(changes, *c)
		}
	}
	changes = append(changes, p.Removals()...)
	p.offerMoves(changes)
	return changes, p.OutputChanges()
}

// resource plans one resource; those it depends on have been planned.
func (p *Planner) resource(id string) {
	properties, diags := p.After.Properties(id, p, true)
	masked, _ := p.After.Properties(id, p, false) // the same mistakes as above
	shown, _ := Scrub(marked(masked), p.Secrets).(map[string]any)
	p.Diags = append(p.Diags, diags...)
	p.planned[id] = properties
	r := p.After.Template.Resources[id]
	p.policies(r, properties)
	c := &ResourceChange{LogicalID: id, Type: r.Type, Level: p.Support(r.Type).Level,
		AfterContext: map[string]any{"Properties": shown}, Check: marked(properties).(map[string]any), Pos: r.Pos}
	physical, exists := p.Exists[id]
	p.within(id, properties, physical)
	if !exists {
		c.Action = Add
		if found, imported := p.Found[id]; imported {
			c.Action, c.PhysicalID = Adopt, found.PhysicalID
		}
		p.Changes[id] = c
		return
	}
	c.Action, c.PhysicalID, c.Replacement = Modify, physical.PhysicalID, ReplaceFalse
	before := p.Shown(id)
	c.BeforeContext = map[string]any{"Properties": before}
	p.details(c, physical, comparison{physical.Properties, properties, before, shown})
	p.tags(c, physical, properties)
	c.automatic(p.Nested[id])
	p.unproven(c)
	if len(c.Details) == 0 {
		return
	}
	if c.Replacement != ReplaceFalse {
		c.PolicyAction = "ReplaceAnd" + p.policyAction(physical.UpdateReplacePolicy, physical.Type)
		p.customName(id, properties, physical)
	}
	p.Changes[id] = c
}

// marked gives a resolved value with KnownAfterApply in place of Unknown.
func marked(v any) any {
	return template.Rewrite(v, func(leaf any) any {
		if _, unknown := leaf.(template.Unknown); unknown {
			return KnownAfterApply
		}
		return leaf
	})
}

// policyAction gives what becomes of a thing by a policy. A type that has no
// snapshots is deleted without one, as the service does it.
func (p *Planner) policyAction(policy, typ string) string {
	switch {
	case policy == "" || policy == "Snapshot" && !p.Support(typ).Snapshots:
		return "Delete"
	case policy == "RetainExceptOnCreate":
		return "Retain"
	}
	return policy
}

// customName refuses to replace a resource that keeps a name of its own: the
// new one could not be created while the old one exists.
func (p *Planner) customName(id string, properties map[string]any, physical Physical) {
	c := p.After.Template.Resources[id]
	facts, _ := registry.Type(c.Type)
	if physical.Type != c.Type || len(facts.PrimaryIdentifier) != 1 || physical.DeletesFirst(c.Type) {
		return
	}
	name := facts.PrimaryIdentifier[0]
	value, given := properties[name]
	if !given || !slices.Contains(facts.CreateOnly, name) || !reflect.DeepEqual(value, physical.Properties[name]) {
		return
	}
	pos := c.Pos
	if written := c.Properties.Get(name); written != nil {
		pos = written.Pos
	}
	p.Diags.Errorf(pos, "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename %v and update the stack again.", value).
		Hint = "change " + name + " of " + id + ", or leave it out"
}

// Removals gives what exists and is wanted no more, dependents first.
func (p *Planner) Removals() []ResourceChange {
	var changes []ResourceChange
	graph := map[string][]string{}
	for id, physical := range p.Exists {
		graph[id] = physical.DependsOn
	}
	order := dag.InOrder(graph)
	slices.Reverse(order)
	for _, id := range order {
		if p.After != nil {
			if _, stays := p.After.Graph[id]; stays {
				continue
			}
		}
		physical := p.Exists[id]
		changes = append(changes, ResourceChange{Action: Remove, LogicalID: id, PhysicalID: physical.PhysicalID, Type: physical.Type,
			PolicyAction: p.policyAction(physical.Fate(), physical.Type), Level: p.Support(physical.Type).Level,
			BeforeContext: map[string]any{"Properties": p.Shown(id)}})
	}
	return changes
}

// OutputChanges compares outputs by their true values and shows masked ones.
func (p *Planner) OutputChanges() []OutputChange {
	var after, shown []Output
	if p.After != nil {
		var diags diag.List
		after, diags = p.After.Outputs(p, true)
		p.Diags = append(p.Diags, diags...)
		shown, _ = p.After.Outputs(p, false) // the same mistakes as above
	}
	was := map[string]string{}
	if p.Before != nil {
		old, _ := p.Before.Outputs(p.standing(), false) // an old mistake must not stop the change
		for _, o := range old {
			was[o.Name] = ScrubText(o.Value, p.Secrets)
		}
	}
	var changes []OutputChange
	kept := map[string]bool{}
	for i, o := range after {
		kept[o.Name] = true
		at := slices.IndexFunc(p.Outputs, func(x Output) bool { return x.Name == o.Name })
		if at < 0 {
			changes = append(changes, OutputChange{Action: Add, Name: o.Name, Export: o.Export, After: ScrubText(shown[i].Value, p.Secrets)})
		} else if old := p.Outputs[at]; old.Value != o.Value || old.Export != o.Export {
			changes = append(changes, OutputChange{Action: Modify, Name: o.Name, Export: o.Export, Before: was[o.Name], After: ScrubText(shown[i].Value, p.Secrets)})
		}
	}
	for _, o := range p.Outputs {
		if !kept[o.Name] {
			changes = append(changes, OutputChange{Action: Remove, Name: o.Name, Export: o.Export, Before: was[o.Name]})
		}
	}
	return changes
}
