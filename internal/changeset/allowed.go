package changeset

import (
	"makeitso/internal/fault"
	"makeitso/internal/policy"
)

// policyActions gives what a change does to its resource, in a policy's words.
func (c ResourceChange) policyActions() []string {
	switch {
	case c.Action == Remove:
		return []string{policy.Delete}
	case c.Action != Modify:
		return nil
	case c.Replacement == ReplaceTrue:
		return []string{policy.Replace}
	case c.Replacement == ReplaceConditional:
		return []string{policy.Modify, policy.Replace}
	}
	return []string{policy.Modify}
}

// Allowed says why a stack's policy does not allow the set. Policies are for
// updates alone.
func (cs *Set) Allowed(rules string) error {
	if rules == "" || cs.Action != Update {
		return nil
	}
	p, err := policy.Parse(rules)
	if err != nil {
		return err
	}
	return allow(p, cs.Changes)
}

// allow says why a policy does not allow changes.
func allow(p policy.Policy, changes []ResourceChange) error {
	for _, c := range changes {
		for _, action := range c.policyActions() {
			if !p.Allows(action, c.LogicalID, c.Type) {
				return fault.New(fault.Denied, "Action denied by stack policy: no statement allows [%s] for resource [%s%s]", action, policy.LogicalResource, c.LogicalID).
					WithHint("leave %s as it is, or apply with a policy for this one change", c.LogicalID)
			}
		}
	}
	return nil
}
