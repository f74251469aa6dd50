package stack

import (
	"context"
	"errors"

	"makeitso/internal/fault"
	"makeitso/internal/policy"
	"makeitso/internal/record"
)

// Protect says whether a stack may be deleted. Nothing but a call with on
// being false makes a protected stack deletable again.
func (e *Engine) Protect(ctx context.Context, stack string, on bool) error {
	return e.amend(ctx, stack, func(s *Stack) { s.Protected = on })
}

// SetPolicy gives a stack its policy, a JSON document of the service's form
// that says what updates may do to which resources. A policy can be replaced
// but not be removed.
func (e *Engine) SetPolicy(ctx context.Context, stack, text string) error {
	if _, err := policy.Parse(text); err != nil {
		return err
	}
	return e.amend(ctx, stack, func(s *Stack) { s.Policy = text })
}

// amend changes the record of a stack that nobody else is changing.
func (e *Engine) amend(ctx context.Context, name string, change func(*Stack)) (err error) {
	ctx, release, err := e.leases.Acquire(ctx, name, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	s, err := e.Stack(ctx, name)
	if err != nil {
		return err
	}
	if err := whole(s); err != nil {
		return err
	}
	change(&s)
	op, err := e.stacks.PutOp(e.key(name), s, record.Any)
	if err != nil {
		return err
	}
	return e.store.Write(ctx, op)
}

// deletable says why a stack may not be deleted.
func deletable(s Stack) error {
	if !s.Protected {
		return nil
	}
	return fault.New(fault.Denied, "Stack [%s] cannot be deleted while TerminationProtection is enabled", s.Name).
		WithHint("if it shall really go: makeitso stack unprotect %s", s.Name)
}

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

// allowed says why a stack's policy does not allow a change set. Policies are
// for updates alone.
func allowed(rules string, cs *ChangeSet) error {
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
