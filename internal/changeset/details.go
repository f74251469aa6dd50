package changeset

import (
	"maps"
	"reflect"
	"slices"

	"makeitso/internal/pace"
	"makeitso/internal/registry"
	"makeitso/internal/template"
)

// Words of the service in a Detail.
const (
	static  = "Static"
	dynamic = "Dynamic"

	directModification = "DirectModification"
	parameterReference = "ParameterReference"
	resourceReference  = "ResourceReference"
	resourceAttribute  = "ResourceAttribute"
	automatic          = "Automatic" // of nested stacks
)

// comparison is a resource's properties before and after, true and as shown.
type comparison struct {
	before, after           map[string]any
	shownBefore, shownAfter map[string]any
}

// details compares the properties and policies of a resource that exists.
func (p *Planner) details(c *ResourceChange, physical Physical, x comparison) {
	facts, _ := registry.Type(c.Type)
	c.attribute("Type", physical.Type, c.Type, registry.Always)
	for _, name := range keysOf(x.before, x.after) {
		before, had := x.before[name]
		after, has := x.after[name]
		if had == has && reflect.DeepEqual(before, after) {
			continue
		}
		target := Target{
			Attribute: "Properties", Name: name, Path: "/Properties/" + name, AttributeChangeType: changeType(had, has),
			BeforeValue: x.shownBefore[name], AfterValue: x.shownAfter[name],
			RequiresRecreation: facts.Change(before, after, name),
		}
		if slices.Contains(pace.LaunchProperties, name) && p.After.ReplacesGroup(c.LogicalID, p, x.before, x.after) {
			target.RequiresRecreation = registry.Always
		}
		for _, d := range p.causes(c.LogicalID, name) {
			d.Target = target
			c.Details = append(c.Details, d)
			c.Replacement = replacement(c.Replacement, d, !template.HasUnknown(after))
		}
		if !slices.Contains(c.Scope, "Properties") {
			c.Scope = append(c.Scope, "Properties")
		}
	}
	r := p.After.Template.Resources[c.LogicalID]
	c.attribute("DeletionPolicy", physical.DeletionPolicy, r.DeletionPolicy, registry.Never)
	c.attribute("UpdateReplacePolicy", physical.UpdateReplacePolicy, r.UpdateReplacePolicy, registry.Never)
	p.metadata(c)
	p.policyChanges(c)
}

// metadata compares what the template says about the resource besides what it
// is. Where it was moved from is told as a move.
func (p *Planner) metadata(c *ResourceChange) {
	if p.Before == nil || p.Before.Template.Resources[p.beforeID(c.LogicalID)] == nil {
		return
	}
	before := p.Before.metadata(p.beforeID(c.LogicalID), p.standing())
	after := p.After.metadata(c.LogicalID, p)
	if reflect.DeepEqual(before, after) {
		return
	}
	d := Detail{Evaluation: static, ChangeSource: directModification, Target: Target{Attribute: "Metadata", Path: "/Metadata",
		RequiresRecreation: registry.Never, AttributeChangeType: changeType(before != nil, after != nil)}}
	if before != nil {
		d.Target.BeforeValue = Scrub(marked(before), p.Secrets)
	}
	if after != nil {
		d.Target.AfterValue = Scrub(marked(after), p.Secrets)
	}
	c.Details, c.Scope = append(c.Details, d), append(c.Scope, "Metadata")
}

// tags compares the tags that the stack gives to a resource. One that the
// resource is to set itself is told with the property that holds it.
func (p *Planner) tags(c *ResourceChange, physical Physical, properties map[string]any) {
	next := Physical{Type: c.Type, Properties: properties, Tags: TagsFor(&physical, c.Type, p.Wanted, !maps.Equal(p.Tags, p.Wanted))}
	was, is := physical.StackTags(), next.StackTags()
	facts, _ := registry.Type(c.Type)
	own := facts.OwnTags(properties)
	for _, key := range keysOf(was, is) {
		before, had := was[key]
		after, has := is[key]
		if had == has && before == after || slices.Contains(own, key) {
			continue
		}
		d := Detail{Evaluation: static, ChangeSource: directModification, Target: Target{Attribute: "Tags", Name: key,
			RequiresRecreation: registry.Never, AttributeChangeType: changeType(had, has)}}
		if had {
			d.Target.BeforeValue = before
		}
		if has {
			d.Target.AfterValue = after
		}
		c.Details = append(c.Details, d)
		if !slices.Contains(c.Scope, "Tags") {
			c.Scope = append(c.Scope, "Tags")
		}
	}
}

// keysOf gives the keys of both maps, sorted.
func keysOf[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

func changeType(had, has bool) string {
	switch {
	case !had:
		return Add
	case !has:
		return Remove
	}
	return Modify
}

// attribute compares an attribute of a resource that is no property.
func (c *ResourceChange) attribute(attribute, before, after string, recreation registry.Recreation) {
	if before == after {
		return
	}
	d := Detail{Evaluation: static, ChangeSource: directModification,
		Target: Target{Attribute: attribute, RequiresRecreation: recreation, AttributeChangeType: changeType(before != "", after != "")}}
	if before != "" {
		d.Target.BeforeValue = before
	}
	if after != "" {
		d.Target.AfterValue = after
	}
	c.Details, c.Scope = append(c.Details, d), append(c.Scope, attribute)
	c.Replacement = replacement(c.Replacement, d, true)
}

// replacement adds one detail to what is known of a resource's replacement.
// known says that the new value is known, and so that it differs.
func replacement(sofar string, d Detail, known bool) string {
	switch {
	case sofar == ReplaceTrue || d.Target.RequiresRecreation == registry.Always && (known || d.Evaluation == static):
		return ReplaceTrue
	case d.Target.RequiresRecreation != registry.Never:
		return ReplaceConditional
	}
	return sofar
}

// causes says why a property changes, as the service does: one detail for each
// parameter and resource that the change comes from; beside them, a Dynamic
// one for the template's text, which then says nothing certain by itself. A
// text that was changed is a Static one, and a Dynamic one more if it holds a
// reference.
func (p *Planner) causes(id, name string) []Detail {
	direct := Detail{Evaluation: static, ChangeSource: directModification}
	maybe := Detail{Evaluation: dynamic, ChangeSource: directModification}
	now := p.After.Template.Resources[id].Properties.Get(name)
	if now == nil {
		return []Detail{direct}
	}
	var found []Detail
	certain := false
	for _, parameter := range p.After.Template.ParametersOf(now, p.After.conditions) {
		if p.parameterChanged(parameter) {
			certain = true
			found = append(found, Detail{Evaluation: static, ChangeSource: parameterReference, CausingEntity: parameter})
		}
	}
	for _, ref := range p.After.Template.References(now, p.After.conditions) {
		if d, ok := p.reference(ref); ok && !slices.Contains(found, d) {
			certain = certain || d.Evaluation == static
			found = append(found, d)
		}
	}
	switch {
	case certain:
		return append(found, maybe)
	case len(found) > 0:
		return found
	case !p.sameText(id, name, now) && p.refers(now):
		return []Detail{direct, maybe}
	}
	return []Detail{direct}
}

// sameText says whether a property is written as it was before.
func (p *Planner) sameText(id, name string, now *template.Value) bool {
	if p.Before == nil || p.Before.Template.Resources[p.beforeID(id)] == nil {
		return false
	}
	return now.Equal(p.Before.Template.Resources[p.beforeID(id)].Properties.Get(name))
}

func (p *Planner) refers(v *template.Value) bool {
	return len(p.After.Template.References(v, p.After.conditions))+len(p.After.Template.ParametersOf(v, p.After.conditions)) > 0
}

// parameterChanged says whether a parameter was given another value. One whose
// value is looked up elsewhere changes only with the name that is looked up.
func (p *Planner) parameterChanged(name string) bool {
	if p.Before == nil {
		return true
	}
	before, had := p.Before.given[name]
	return !had || !reflect.DeepEqual(before, p.After.given[name])
}

// reference gives the detail for a reference to a resource that changes, false
// if what is referred to stays.
func (p *Planner) reference(ref template.Reference) (Detail, bool) {
	d := Detail{Evaluation: dynamic, ChangeSource: resourceAttribute, CausingEntity: ref.LogicalID + "." + ref.Attribute}
	if ref.Attribute == "" {
		d.ChangeSource, d.CausingEntity = resourceReference, ref.LogicalID
	}
	c := p.Changes[ref.LogicalID]
	switch {
	case c == nil:
		return d, ref.Attribute != "" && len(p.likely[ref.LogicalID]) > 0
	case c.Action != Modify:
		return d, false
	case c.Replacement == ReplaceTrue:
		d.Evaluation = static
		return d, true
	case c.Replacement == ReplaceConditional:
		return d, true
	}
	return d, ref.Attribute != "" && c.touchesProperties()
}

// unproven notes the properties that stay as they are, but of which that can be
// told only by looking at values: the service lists them when it is asked for
// no values.
func (p *Planner) unproven(c *ResourceChange) {
	properties := p.After.Template.Resources[c.LogicalID].Properties
	if properties == nil || properties.Kind != template.Map {
		return
	}
	facts, _ := registry.Type(c.Type)
	for _, e := range properties.Entries {
		if slices.ContainsFunc(c.Details, func(d Detail) bool { return d.Target.Attribute == "Properties" && d.Target.Name == e.Key }) {
			continue
		}
		for _, ref := range p.After.Template.References(e.Value, p.After.conditions) {
			if d, ok := p.reference(ref); ok && d.ChangeSource == resourceAttribute {
				d.Target = Target{Attribute: "Properties", Name: e.Key, RequiresRecreation: facts.Recreation(e.Key)}
				p.likely[c.LogicalID] = append(p.likely[c.LogicalID], d)
			}
		}
	}
}

// Likelies gives, by logical id, what p.likely holds as changes of their own.
func (p *Planner) Likelies() []ResourceChange {
	var all []ResourceChange
	for _, id := range slices.Sorted(maps.Keys(p.likely)) {
		all = append(all, ResourceChange{Action: Modify, LogicalID: id, PhysicalID: p.Exists[id].PhysicalID, Type: p.Exists[id].Type,
			PolicyAction: "ReplaceAnd" + p.policyAction(p.Exists[id].UpdateReplacePolicy, p.Exists[id].Type), Details: p.likely[id], Level: p.Support(p.Exists[id].Type).Level})
	}
	return all
}
