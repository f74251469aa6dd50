package stack

import (
	"context"
	"fmt"

	"makeitso/internal/changeset"
	"makeitso/internal/dag"
	"makeitso/internal/pace"
)

// made goes on where a handler has answered: the step is complete, or what
// it made is to be waited for.
func (o *operation) made(ctx context.Context, s resourceState, result Result) error {
	complete := func(ctx context.Context) error { return o.complete(ctx, s, result) }
	if s.Step.Kind == stepUpdate {
		return o.rollOut(ctx, s, *s.Step.Next, o.after, complete)
	}
	p, diags := o.after.Awaited(s.LogicalID, s.Step.Next.Properties, o)
	if err := diags.Err(); err != nil {
		return o.failed(ctx, s, err)
	}
	if p == nil {
		return complete(ctx)
	}
	return o.await(ctx, s, result, *p)
}

// madeBack does the same for a resource that got its old properties again. It
// goes by the policy that it had with them.
func (o *operation) madeBack(ctx context.Context, s resourceState, old changeset.Physical, result Result) error {
	restored := func(ctx context.Context) error { return o.restored(ctx, s, old, result) }
	if s.Step.Wait == nil || !s.Step.Wait.Back {
		s = o.restoring(s)
		s.Step.Wait = nil
	}
	return o.rollOut(ctx, s, old, o.before, restored)
}

// update brings a resource to other properties, by the policy it has in p.
func (o *operation) update(ctx context.Context, h Handler, r Request, p *changeset.Program) (Result, error) {
	u, diags := p.UpdatePolicy(r.LogicalID, o)
	if err := diags.Err(); err != nil {
		return Result{}, err
	}
	if u.IgnoreSizes {
		is, err := h.Read(ctx, r)
		if err != nil {
			return Result{}, fmt.Errorf("read how large the group is: %w", err)
		}
		r.Properties = u.Sizes(r.Properties, r.Previous, is.Properties)
	}
	return h.Update(ctx, r)
}

// rollOut replaces the instances of a group that are not as wanted says, by the
// policy of p, and then calls done. Anything else is done at once.
func (o *operation) rollOut(ctx context.Context, s resourceState, wanted changeset.Physical, p *changeset.Program, done func(context.Context) error) error {
	h, err := o.e.handler(wanted.Type) // itself, since a confidant is no Group
	if err != nil {
		return o.failed(ctx, s, err)
	}
	u, diags := p.UpdatePolicy(s.LogicalID, o)
	if err := diags.Err(); err != nil {
		return o.failed(ctx, s, err)
	}
	group, able := h.(Group)
	if !able || u.Rolling == nil {
		return done(ctx)
	}
	request, secrets, err := o.e.reveal(ctx, o.request(s.LogicalID, wanted), false)
	if err != nil {
		return o.failed(ctx, s, err)
	}
	return dag.Aside(func(ctx context.Context) error {
		r := &pace.Roller[Request]{Box: o.e.box(o.idle), Policy: *u.Rolling, Group: group, Request: request,
			Address: wanted.Token, Waiting: s.Step.Wait, Tell: o.teller(s)}
		r.Note = func(ctx context.Context, w pace.Waiting) error {
			kept := *s.Step
			w.Back = p == o.before
			kept.Wait, s.Step = &w, &kept
			return o.keep(ctx, s)
		}
		if err := r.Run(ctx); err != nil {
			return o.gaveUp(ctx, s, veiled(err, func() []string { return append(secrets, o.hidden()...) }))
		}
		return done(ctx)
	})
}
