package cfnapi

import (
	"context"

	"makeitso/internal/stack"
)

type continueUpdateRollback struct {
	StackName          string `cfn:"required"`
	RoleARN            string `cfn:"20-2048"`
	ResourcesToSkip    []string
	ClientRequestToken string `cfn:"1-128"`
}

func (c call) continueUpdateRollback(ctx context.Context, in continueUpdateRollback) (any, error) {
	s, err := c.made(ctx, in.StackName, inBrackets)
	if err != nil {
		return nil, err
	}
	if again, err := c.repeated(ctx, s, "ContinueUpdateRollback", in.ClientRequestToken); again || err != nil {
		return nothing{}, err
	}
	return nothing{}, c.begin(func(ctx context.Context, listen func(stack.Event)) error {
		return c.env.Stacks.ContinueRollback(ctx, s.Name, in.ResourcesToSkip, listen)
	})
}

type rollbackStack struct {
	StackName            string `cfn:"required"`
	RoleARN              string `cfn:"20-2048"`
	ClientRequestToken   string `cfn:"1-128"`
	RetainExceptOnCreate bool
}

func (c call) rollbackStack(ctx context.Context, in rollbackStack) (any, error) {
	if err := noRetain(in.RetainExceptOnCreate); err != nil {
		return nil, err
	}
	s, err := c.made(ctx, in.StackName, inBrackets)
	if err != nil {
		return nil, err
	}
	if again, err := c.repeated(ctx, s, "RollbackStack", in.ClientRequestToken); again || err != nil {
		return stackID{s.ID}, err
	}
	return stackID{s.ID}, c.begin(func(ctx context.Context, listen func(stack.Event)) error {
		return c.env.Stacks.Rollback(ctx, s.Name, listen)
	})
}

type cancelUpdateStack struct {
	StackName          string `cfn:"required"`
	ClientRequestToken string `cfn:"1-128"`
}

func (c call) cancelUpdateStack(ctx context.Context, in cancelUpdateStack) (any, error) {
	s, err := c.made(ctx, in.StackName, inBrackets)
	if err != nil {
		return nil, err
	}
	if again, err := c.repeated(ctx, s, "CancelUpdateStack", in.ClientRequestToken); again || err != nil {
		return nil, err
	}
	return nil, c.env.Stacks.CancelUpdate(ctx, s.Name)
}

type setStackPolicy struct {
	StackName       string `cfn:"required"`
	StackPolicyBody string `cfn:"1-16384"`
	StackPolicyURL  string `cfn:"1-5120"`
}

func (c call) setStackPolicy(ctx context.Context, in setStackPolicy) (any, error) {
	s, err := c.made(ctx, in.StackName, inBrackets)
	if err != nil {
		return nil, err
	}
	policy, err := c.policy(ctx, "StackPolicy", in.StackPolicyBody, in.StackPolicyURL)
	if err != nil {
		return nil, err
	}
	return nil, c.env.Stacks.SetPolicy(ctx, s.Name, policy)
}

type getStackPolicy struct {
	StackName string `cfn:"required"`
}

func (c call) getStackPolicy(ctx context.Context, in getStackPolicy) (any, error) {
	s, err := c.stack(ctx, in.StackName, inBrackets)
	return struct{ StackPolicyBody *string }{optional(s.Policy)}, err
}

type updateTerminationProtection struct {
	StackName                   string `cfn:"required"`
	EnableTerminationProtection *bool  `cfn:"required"`
}

func (c call) updateTerminationProtection(ctx context.Context, in updateTerminationProtection) (any, error) {
	s, err := c.made(ctx, in.StackName, inBrackets)
	if err != nil {
		return nil, err
	}
	return stackID{s.ID}, c.env.Stacks.Protect(ctx, s.Name, *in.EnableTerminationProtection)
}
