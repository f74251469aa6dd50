package stack

import (
	"reflect"
	"slices"
	"strings"

	"makeitso/internal/dag"
	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/registry"
	"makeitso/internal/template"
)

// planner compares what a stack is with what it shall be. It is pure: it asks
// nothing of the world, so the same input gives the same change set.
type planner struct {
	support func(typ string) Support
	before  *program // nil for a stack that does not exist
	after   *program
	exists  map[string]Physical // by logical id
	found   map[string]Physical // what is imported, by logical id
	outputs []Output            // of the stack as it is
	imports map[string]string   // that it was made with
	// nest plans the nested stack of a resource.
	nest func(id string, properties map[string]any, token string) (*ChangeSet, error)

	changes map[string]*ResourceChange // of the resources looked at so far
	moves   map[string]string          // from new logical ids to old ones
	likely  map[string][]Detail        // what the service lists besides, although the values are proven equal
	planned map[string]map[string]any  // their properties, resolved as far as known
	nested  map[string]*ChangeSet      // of the resources that are stacks
	secrets []string                   // what may not be shown
	diags   diag.List
}

// Ref gives the physical id of a resource that stays.
func (p *planner) Ref(id string) any {
	physical, exists := p.thing(id)
	if !exists || p.replaced(id) {
		return template.Unknown{Because: id}
	}
	return physical.PhysicalID
}

// thing gives what stands for a resource, or is imported to stand for it.
func (p *planner) thing(id string) (Physical, bool) {
	if physical, exists := p.exists[id]; exists {
		return physical, true
	}
	physical, found := p.found[id]
	return physical, found
}

// replaced says whether the resource may become another physical one.
func (p *planner) replaced(id string) bool {
	c := p.changes[id]
	return c != nil && c.Action == Modify && c.Replacement != ReplaceFalse
}

// GetAtt gives an attribute of a resource that stays as it is. Of one that is
// changed in place, only what names it and what is a property is known.
func (p *planner) GetAtt(id, attribute string) (any, error) {
	if child := p.nested[id]; child != nil {
		return child.attribute(id, attribute)
	}
	unknown := template.Unknown{Because: id + "." + attribute}
	physical, exists := p.thing(id)
	if !exists || p.replaced(id) {
		return unknown, nil
	}
	value, known := physical.Attributes[attribute]
	if !p.changes[id].touchesProperties() {
		if !known {
			return nil, noAttribute(physical.Type, attribute)
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

// noAttribute says it in the service's words.
func noAttribute(typ, attribute string) error {
	return fault.New(fault.Invalid, "Resource type %s does not support attribute {%s}.", typ, attribute)
}

// touchesProperties says whether a change may have an effect on attributes;
// that of Tags alone has none.
func (c *ResourceChange) touchesProperties() bool {
	return c != nil && slices.ContainsFunc(c.Details, func(d Detail) bool {
		return d.Target.Attribute == "Properties" && d.Target.Name != "Tags"
	})
}

// standing is the world as it is, for values before the change.
type standing map[string]Physical

func (s standing) Ref(id string) any {
	if p, ok := s[id]; ok {
		return p.PhysicalID
	}
	return template.Unknown{Because: id}
}

func (s standing) GetAtt(id, attribute string) (any, error) {
	if value, ok := s[id].Attributes[attribute]; ok {
		return value, nil
	}
	return template.Unknown{Because: id + "." + attribute}, nil
}

// plan gives all changes: additions and modifications in the order of
// dependencies, then what is removed, in reverse.
func (p *planner) plan() ([]ResourceChange, []OutputChange) {
	p.changes, p.planned, p.likely = map[string]*ResourceChange{}, map[string]map[string]any{}, map[string][]Detail{}
	p.nested = map[string]*ChangeSet{}
	p.secrets = append(p.after.secrets(), p.before.secrets()...)
	p.checkTypes()
	p.findMoves()
	if p.diags.HasErrors() {
		return nil, nil
	}
	changes := []ResourceChange{}
	for _, id := range dag.InOrder(p.after.graph) {
		p.resource(id)
		if c := p.changes[id]; c != nil {
			changes = append(changes, *c)
		}
	}
	changes = append(changes, p.removals()...)
	p.offerMoves(changes)
	return changes, p.outputChanges()
}

// resource plans one resource; those it depends on have been planned.
func (p *planner) resource(id string) {
	properties, diags := p.after.properties(id, p, true)
	masked, _ := p.after.properties(id, p, false) // the same mistakes as above
	shown, _ := scrub(marked(masked), p.secrets).(map[string]any)
	p.diags = append(p.diags, diags...)
	p.planned[id] = properties
	r := p.after.t.Resources[id]
	p.policies(r, properties)
	c := &ResourceChange{LogicalID: id, Type: r.Type, Level: p.support(r.Type).Level,
		AfterContext: map[string]any{"Properties": shown}, check: marked(properties).(map[string]any)}
	physical, exists := p.exists[id]
	p.within(id, properties, physical)
	if !exists {
		c.Action = Add
		if found, imported := p.found[id]; imported {
			c.Action, c.PhysicalID = Adopt, found.PhysicalID
		}
		p.changes[id] = c
		return
	}
	c.Action, c.PhysicalID, c.Replacement = Modify, physical.PhysicalID, ReplaceFalse
	before := p.shownBefore(id, physical)
	c.BeforeContext = map[string]any{"Properties": before}
	p.details(c, physical, comparison{physical.Properties, properties, before, shown})
	c.automatic(p.nested[id])
	p.unproven(c)
	if len(c.Details) == 0 {
		return
	}
	if c.Replacement != ReplaceFalse {
		c.PolicyAction = "ReplaceAnd" + p.policyAction(physical.UpdateReplacePolicy, physical.Type)
		p.customName(id, properties, physical)
	}
	p.changes[id] = c
}

// marked gives a resolved value with KnownAfterApply in place of Unknown.
func marked(v any) any {
	switch v := v.(type) {
	case template.Unknown:
		return KnownAfterApply
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = marked(item)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, item := range v {
			m[key] = marked(item)
		}
		return m
	}
	return v
}

// policyAction gives what becomes of a thing by a policy. A type that has no
// snapshots is deleted without one, as the service does it.
func (p *planner) policyAction(policy, typ string) string {
	switch {
	case policy == "" || policy == "Snapshot" && !p.support(typ).Snapshots:
		return "Delete"
	case policy == "RetainExceptOnCreate":
		return "Retain"
	}
	return policy
}

// shownBefore gives the properties a resource has, secrets masked.
func (p *planner) shownBefore(id string, physical Physical) map[string]any {
	if p.before != nil {
		was := p.beforeID(id)
		if _, active := p.before.graph[was]; active {
			shown, diags := p.before.properties(was, standing(p.exists), false)
			if len(diags) == 0 {
				for _, name := range physical.Adopted {
					delete(shown, name)
					if value, is := physical.Properties[name]; is {
						shown[name] = value
					}
				}
				return scrub(marked(shown), p.secrets).(map[string]any)
			}
		}
	}
	// What cannot be derived again is not shown, since it may hold a secret.
	hidden := map[string]any{}
	for name := range physical.Properties {
		hidden[name] = Masked
	}
	return hidden
}

// customName refuses to replace a resource that keeps a name of its own: the
// new one could not be created while the old one exists.
func (p *planner) customName(id string, properties map[string]any, physical Physical) {
	c := p.after.t.Resources[id]
	facts, _ := registry.Type(c.Type)
	if physical.Type != c.Type || len(facts.PrimaryIdentifier) != 1 || deletesFirst(physical, c.Type) {
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
	p.diags.Errorf(pos, "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename %v and update the stack again.", value).
		Hint = "change " + name + " of " + id + ", or leave it out"
}

// removals gives what exists and is wanted no more, dependents first.
func (p *planner) removals() []ResourceChange {
	var changes []ResourceChange
	graph := map[string][]string{}
	for id, physical := range p.exists {
		graph[id] = physical.DependsOn
	}
	order := dag.InOrder(graph)
	slices.Reverse(order)
	for _, id := range order {
		if p.after != nil {
			if _, stays := p.after.graph[id]; stays {
				continue
			}
		}
		physical := p.exists[id]
		changes = append(changes, ResourceChange{Action: Remove, LogicalID: id, PhysicalID: physical.PhysicalID, Type: physical.Type,
			PolicyAction: p.policyAction(physical.DeletionPolicy, physical.Type), Level: p.support(physical.Type).Level,
			BeforeContext: map[string]any{"Properties": p.shownBefore(id, physical)}})
	}
	return changes
}

// outputChanges compares outputs by their true values and shows masked ones.
func (p *planner) outputChanges() []OutputChange {
	var after, shown []Output
	if p.after != nil {
		var diags diag.List
		after, diags = p.after.outputs(p, true)
		p.diags = append(p.diags, diags...)
		shown, _ = p.after.outputs(p, false) // the same mistakes as above
	}
	was := map[string]string{}
	if p.before != nil {
		old, _ := p.before.outputs(standing(p.exists), false) // an old mistake must not stop the change
		for _, o := range old {
			was[o.Name] = scrubText(o.Value, p.secrets)
		}
	}
	var changes []OutputChange
	kept := map[string]bool{}
	for i, o := range after {
		kept[o.Name] = true
		at := slices.IndexFunc(p.outputs, func(x Output) bool { return x.Name == o.Name })
		if at < 0 {
			changes = append(changes, OutputChange{Action: Add, Name: o.Name, Export: o.Export, After: scrubText(shown[i].Value, p.secrets)})
		} else if old := p.outputs[at]; old.Value != o.Value || old.Export != o.Export {
			changes = append(changes, OutputChange{Action: Modify, Name: o.Name, Export: o.Export, Before: was[o.Name], After: scrubText(shown[i].Value, p.secrets)})
		}
	}
	for _, o := range p.outputs {
		if !kept[o.Name] {
			changes = append(changes, OutputChange{Action: Remove, Name: o.Name, Export: o.Export, Before: was[o.Name]})
		}
	}
	return changes
}

func scrubText(text string, secrets []string) string { return scrub(text, secrets).(string) }
