package control

import (
	"context"

	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

// GuardRequest is about one stack that exists.
type GuardRequest struct {
	Environment string `json:"environment,omitempty"`
	Stack       string `json:"stack"`
	// Protected, for Protect, says whether the stack must not be deleted.
	Protected bool `json:"protected,omitempty"`
	// Policy, for StackPolicy, is the policy that the stack shall have, a JSON
	// document; "" leaves it as it is.
	Policy string `json:"policy,omitempty"`
	// Skip, for RollbackStack, is resources to take for rolled back.
	Skip []string `json:"skip,omitempty"`
}

// Protect says whether a stack may be deleted.
func (c *Control) Protect(ctx context.Context, r GuardRequest) (Nothing, error) {
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return Nothing{}, err
	}
	return Nothing{}, env.Stacks.Protect(ctx, r.Stack, r.Protected)
}

// StackPolicy gives a stack's policy, after replacing it if one is given.
func (c *Control) StackPolicy(ctx context.Context, r GuardRequest) (string, error) {
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return "", err
	}
	if r.Policy != "" {
		if err := env.Stacks.SetPolicy(ctx, r.Stack, r.Policy); err != nil {
			return "", err
		}
	}
	s, err := env.Stacks.Stack(ctx, r.Stack)
	return s.Policy, err
}

// CancelUpdate has an update of a stack that is under way roll back, whoever
// began it.
func (c *Control) CancelUpdate(ctx context.Context, r GuardRequest) (Nothing, error) {
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return Nothing{}, err
	}
	return Nothing{}, env.Stacks.CancelUpdate(ctx, r.Stack)
}

// RollbackStack rolls back a stack whose change failed and was left as it was,
// or goes on with a roll back that failed.
func (c *Control) RollbackStack(ctx context.Context, r GuardRequest, send func(stack.Event) error) error {
	ctx, done := c.detached(ctx)
	defer done()
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return err
	}
	s, err := env.Stacks.Stack(ctx, r.Stack)
	if err != nil {
		return err
	}
	if s.Status != stack.UpdateRollbackFailed && len(r.Skip) > 0 {
		return fault.New(fault.Invalid, "there is nothing to skip: stack %s is in %s state", s.Name, s.Status).
			WithHint("resources can be skipped when a roll back has failed (%s)", stack.UpdateRollbackFailed)
	}
	return c.observe(ctx, env, send, func(see func(stack.Event)) error {
		if s.Status == stack.UpdateRollbackFailed {
			return env.Stacks.ContinueRollback(ctx, r.Stack, r.Skip, see)
		}
		return env.Stacks.Rollback(ctx, r.Stack, see)
	})
}

// AlarmRequest says in what state an alarm is.
type AlarmRequest struct {
	Environment string `json:"environment,omitempty"`
	Alarm       string `json:"alarm"` // its name or ARN
	State       string `json:"state"` // OK, ALARM, INSUFFICIENT_DATA
	Reason      string `json:"reason,omitempty"`
}

// SetAlarm says in what state an alarm is. Changes that it watches over are
// rolled back when it goes off.
func (c *Control) SetAlarm(ctx context.Context, r AlarmRequest) (Nothing, error) {
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return Nothing{}, err
	}
	return Nothing{}, env.SetAlarm(ctx, r.Alarm, r.State, r.Reason)
}

// SignalRequest is a signal for a resource of a stack.
type SignalRequest struct {
	Environment string       `json:"environment,omitempty"`
	Stack       string       `json:"stack"`
	Resource    string       `json:"resource"` // its logical id
	Signal      stack.Signal `json:"signal"`
}

// Signal takes a signal for a resource that its stack waits for.
func (c *Control) Signal(ctx context.Context, r SignalRequest) (Nothing, error) {
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return Nothing{}, err
	}
	return Nothing{}, env.Stacks.Signal(ctx, r.Stack, r.Resource, r.Signal)
}
