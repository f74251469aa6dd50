package changeset

import (
	"maps"
	"slices"
	"strings"
)

// Joint is what a change goes by as a part of a plan of several stacks. A
// change that keeps it can be planned again after the others were applied, and
// its change set has the same digest.
type Joint struct {
	// Stacks are changed after this one and use exports of it that change or
	// go: they may, since what the exports name is kept until the last of these
	// stacks has moved.
	Stacks []string `json:"stacks,omitempty"`
	// Exports are taken as known after apply, whatever they are now.
	Exports []string `json:"exports,omitempty"`
	// Parameters are taken as known after apply, whatever is given for them.
	Parameters []string `json:"parameters,omitempty"`
	// Tags are those of the stack, by their keys, whose values are taken as known
	// after apply, whatever they are now.
	Tags []string `json:"tags,omitempty"`
	// Alarms are those of Rollback, by their places, whose ARNs are taken as
	// known after apply, whatever they are now.
	Alarms []int `json:"alarms,omitempty"`
}

// Planned is the change as it is compared: with KnownAfterApply for the
// parameters, tags and alarms that were not known in the plan.
func (c Change) Planned() Change {
	if len(c.Joint.Parameters) > 0 {
		c.Parameters = maps.Clone(c.Parameters)
	}
	for _, name := range c.Joint.Parameters {
		c.Parameters[name] = KnownAfterApply
	}
	c.Tags = maps.Clone(c.Tags)
	for key, value := range c.Tags {
		if slices.Contains(c.Joint.Tags, key) || strings.Contains(value, KnownAfterApply) {
			c.Tags[key] = KnownAfterApply
		}
	}
	c.Rollback.ARNs = slices.Clone(c.Rollback.ARNs)
	for _, i := range c.Joint.Alarms {
		if i < len(c.Rollback.ARNs) { // the file can have changed since
			c.Rollback.ARNs[i] = KnownAfterApply
		}
	}
	return c
}

// Exports gives what the stack, and those nested in it, will export.
func (cs *Set) Exports() map[string]string {
	all := map[string]string{}
	for _, o := range cs.After {
		if o.Export != "" {
			all[o.Export] = o.Value
		}
	}
	for _, nested := range cs.Nested {
		maps.Copy(all, nested.Exports())
	}
	return all
}
