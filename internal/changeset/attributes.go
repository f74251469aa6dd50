package changeset

import (
	"reflect"
	"slices"
	"strings"

	"makeitso/internal/diag"
	"makeitso/internal/pace"
	"makeitso/internal/registry"
	"makeitso/internal/template"
)

// Awaited gives what a new resource waits for before it is complete, nil for
// nothing. Its properties are those resolved.
func (p *Program) Awaited(id string, properties map[string]any, w World) (*pace.Creation, diag.List) {
	r := p.Template.Resources[id]
	if _, has := properties["Handle"]; has && r.Type == pace.ConditionType {
		return pace.Condition(&pace.Reader{At: "Resources/" + id + "/Properties", Pos: r.Pos, Given: properties, Unknown: template.HasUnknown})
	}
	if r.CreationPolicy == nil {
		return nil, nil
	}
	read, diags := p.policy(id, "CreationPolicy", r.CreationPolicy, w)
	c, more := pace.ReadCreation(r.Type, read)
	return c, append(diags, more...)
}

// UpdatePolicy gives what the UpdatePolicy of a group says.
func (p *Program) UpdatePolicy(id string, w World) (pace.Update, diag.List) {
	r := p.Template.Resources[id]
	if r == nil || r.UpdatePolicy == nil || r.Type != pace.GroupType {
		return pace.Update{}, nil
	}
	read, diags := p.policy(id, "UpdatePolicy", r.UpdatePolicy, w)
	u, more := pace.ReadUpdate(read)
	return u, append(diags, more...)
}

// ReplacesGroup says whether a change of properties replaces a group, because
// its UpdatePolicy wants that.
func (p *Program) ReplacesGroup(id string, w World, before, after map[string]any) bool {
	u, _ := p.UpdatePolicy(id, w) // mistakes were found by the plan
	return u.Replaces(before, after)
}

// policy resolves an attribute of a resource.
func (p *Program) policy(id, name string, v *template.Value, w World) (*pace.Reader, diag.List) {
	value, _, diags := p.Template.Resolve(v, p.scope(w, true))
	given, _ := value.(map[string]any)
	return &pace.Reader{At: "Resources/" + id + "/" + name, Pos: v.Pos, Given: given, Unknown: template.HasUnknown}, diags
}

// policies judges CreationPolicy and UpdatePolicy, and says where they do
// nothing.
func (p *Planner) policies(r *template.Resource, properties map[string]any) {
	_, diags := p.After.Awaited(r.LogicalID, properties, p)
	_, more := p.After.UpdatePolicy(r.LogicalID, p)
	p.Diags = append(p.Diags, slices.Concat(diags, more)...)
	if r.CreationPolicy != nil && !slices.Contains(pace.SignalTypes, r.Type) {
		p.Diags.Warnf(r.CreationPolicy.Pos, "CreationPolicy has no effect on %s: it is complete when it is ready", r.LogicalID).
			Hint = "signals are awaited by " + strings.Join(pace.SignalTypes, ", ")
	}
	if r.UpdatePolicy != nil && (r.Type != pace.GroupType || !p.Support(r.Type).Groups) {
		p.Diags.Warnf(r.UpdatePolicy.Pos, "UpdatePolicy has no effect on %s, which is of type %s: it is updated at once", r.LogicalID, r.Type)
	}
}

// policyChanges adds changes of CreationPolicy and UpdatePolicy to those of a
// resource that changes. Alone they are no change: no resource is touched.
func (p *Planner) policyChanges(c *ResourceChange) {
	if p.Before == nil || len(c.Details) == 0 {
		return
	}
	if c.Type == pace.ConditionType && slices.Contains(c.Scope, "Properties") {
		p.Diags.Errorf(p.After.Template.Resources[c.LogicalID].Pos, "Update to resource type %s is not supported", c.Type).
			Hint = "give it another logical id, and a handle of its own"
	}
	was, is := p.Before.Template.Resources[p.beforeID(c.LogicalID)], p.After.Template.Resources[c.LogicalID]
	if was == nil {
		return
	}
	shown := func(of *Program, v *template.Value) any {
		if v == nil {
			return nil
		}
		value, _, _ := of.Template.Resolve(v, of.scope(p, false)) // mistakes are those of policies
		return marked(value)
	}
	for _, x := range []struct {
		name          string
		before, after *template.Value
	}{{"CreationPolicy", was.CreationPolicy, is.CreationPolicy}, {"UpdatePolicy", was.UpdatePolicy, is.UpdatePolicy}} {
		before, after := shown(p.Before, x.before), shown(p.After, x.after)
		if !reflect.DeepEqual(before, after) {
			c.Scope = append(c.Scope, x.name)
			c.Details = append(c.Details, Detail{Evaluation: static, ChangeSource: directModification, Target: Target{Attribute: x.name,
				RequiresRecreation: registry.Never, BeforeValue: before, AfterValue: after, AttributeChangeType: changeType(before != nil, after != nil)}})
		}
	}
}
