package stack

import (
	"context"

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
	ctx, release, err := e.acquire(ctx, name, false)
	if err != nil {
		return err
	}
	defer func() { err = release(err) }()
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
	return e.write(ctx, op)
}

// deletable says why a stack may not be deleted.
func deletable(s Stack) error {
	if !s.Protected {
		return nil
	}
	return fault.New(fault.Denied, "Stack [%s] cannot be deleted while TerminationProtection is enabled", s.Name).
		WithHint("if it shall really go: makeitso stack unprotect %s", s.Name)
}
