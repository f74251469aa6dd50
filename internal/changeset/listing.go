package changeset

import (
	"slices"
	"strings"
)

// Listing gives the changes of resources as the service's DescribeChangeSet
// does, by logical id. With values, it is what is proven to change, with
// contexts and values. Without, it is what the template lets one expect: what
// depends on an attribute of a changed resource is listed even if the values
// turn out to be equal.
func (cs *Set) Listing(values bool) []ResourceChange {
	list := slices.Clone(cs.Changes)
	if !values {
		for i := range list {
			list[i] = list[i].withoutValues()
		}
		for _, c := range cs.Likely {
			at := slices.IndexFunc(list, func(x ResourceChange) bool { return x.LogicalID == c.LogicalID })
			if at < 0 {
				list = append(list, ResourceChange{Action: c.Action, LogicalID: c.LogicalID, PhysicalID: c.PhysicalID, Type: c.Type,
					Replacement: ReplaceFalse, Level: c.Level})
				at = len(list) - 1
			}
			list[at].expect(c)
		}
	}
	slices.SortFunc(list, func(a, b ResourceChange) int { return strings.Compare(a.LogicalID, b.LogicalID) })
	return list
}

// expect adds what may change besides to a change.
func (c *ResourceChange) expect(likely ResourceChange) {
	for _, d := range likely.Details {
		c.Details = append(slices.Clone(c.Details), d)
		c.Replacement = replacement(c.Replacement, d, false)
	}
	if !slices.Contains(c.Scope, "Properties") {
		c.Scope = append(slices.Clone(c.Scope), "Properties")
	}
	if c.Replacement != ReplaceFalse && c.PolicyAction == "" {
		c.PolicyAction = likely.PolicyAction
	}
}

// withoutValues leaves out of a change what only values tell.
func (c ResourceChange) withoutValues() ResourceChange {
	c.BeforeContext, c.AfterContext = nil, nil
	var kept []Detail
	for _, d := range c.Details {
		if d.ChangeSource == directModification && d.Evaluation == dynamic && c.explained(d.Target.Name) {
			continue
		}
		d.Target = Target{Attribute: d.Target.Attribute, Name: d.Target.Name, RequiresRecreation: d.Target.RequiresRecreation}
		kept = append(kept, d)
	}
	c.Details = kept
	return c
}

// explained says whether resources alone are the cause of a property's change.
func (c ResourceChange) explained(property string) bool {
	resources := false
	for _, d := range c.Details {
		if d.Target.Name != property {
			continue
		}
		switch d.ChangeSource {
		case resourceAttribute, resourceReference:
			resources = true
		case parameterReference:
			return false
		}
	}
	return resources
}
