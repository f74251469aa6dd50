package local

import (
	"context"
	"fmt"

	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/registry"
)

// namer is a maker whose resources may have a name that their template gives.
type namer interface {
	// named gives that name, "" if the template gives none.
	named(r *resource) string
}

// namesOf gives the names by which no other resource of r's type may go.
func (h *handler) namesOf(r *resource) []string {
	if n, is := h.maker.(namer); is {
		if name := n.named(r); name != "" && !unknown(name) {
			return []string{name}
		}
	}
	return nil
}

// claim says whose a name is. Those of one type and environment are unique; so
// are the numbers of a series, which are not given up when a resource goes:
// another one never has the number of one that was.
type claim struct {
	Token  string `json:"token"`
	Number int    `json:"number,omitempty"`
}

func (p *Platform) claims() record.Collection[claim] {
	return record.Of[claim](p.o.Records, "local-name")
}

// nameKey is the key of a claim.
func (p *Platform) nameKey(typ, name string) string { return p.env + "/" + typ + "/" + name }

// nameOps gives what claims names for r; nothing for those that are r's already.
// A name of another resource is refused.
func (p *Platform) nameOps(ctx context.Context, r *resource, names []string) ([]record.Op, error) {
	var ops []record.Op
	for _, name := range names {
		key := p.nameKey(r.Type, name)
		is, version, err := p.claims().GetVersion(ctx, key)
		if fault.Is(err, fault.NotFound) {
			is, version, err = claim{}, record.Absent, nil
		}
		if err != nil {
			return nil, fmt.Errorf("look who is called %s: %w", name, err)
		}
		if is.Token != "" {
			owner, err := p.any(ctx, is.Token)
			if err == nil {
				err = r.mayBe(name, owner)
			}
			if err != nil && !fault.Is(err, fault.NotFound) { // a name of what is gone is free
				return nil, err
			}
		}
		if is.Token == r.Token {
			continue
		}
		op, err := p.claims().PutOp(key, claim{Token: r.Token}, version)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// any gives the resource of a token, whatever stands for it.
func (p *Platform) any(ctx context.Context, token string) (*resource, error) {
	r, err := p.models.Get(ctx, p.modelKey(token))
	if fault.Is(err, fault.NotFound) {
		return p.load(token)
	}
	return &r, err
}

// mayBe says whether r may have a name that owner has.
func (r *resource) mayBe(name string, owner *resource) error {
	facts, _ := registry.Type(r.Type)
	switch {
	case !r.is(owner):
		return fault.New(fault.Conflict, "Resource of type '%s' with identifier '%s' already exists.", r.Type, name).
			WithHint("it is %s; give %s another name, or none; what a stack left behind is taken back with: makeitso import", owner.name(), r.name())
	case r.Token == "" && owner.replacedBy(r.Properties) && !facts.DeleteFirst():
		return fault.New(fault.Invalid, "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename %s and update the stack again.", name)
	}
	return nil
}

// claim writes down that the names of a resource are its own, before it is made.
func (h *handler) claim(ctx context.Context, res *resource) error {
	for {
		ops, err := h.p.nameOps(ctx, res, h.namesOf(res))
		if err != nil || len(ops) == 0 {
			return err
		}
		err = h.p.o.Records.Write(ctx, ops...)
		if !fault.Is(err, fault.Conflict) {
			return err
		}
	}
}

// freeOps gives what gives up names of r.
func (p *Platform) freeOps(ctx context.Context, r *resource, names []string) ([]record.Op, error) {
	var ops []record.Op
	for _, name := range names {
		key := p.nameKey(r.Type, name)
		is, err := p.claims().Get(ctx, key)
		if err == nil && is.Token == r.Token {
			ops = append(ops, p.claims().DeleteOp(key))
		}
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, fmt.Errorf("look who is called %s: %w", name, err)
		}
	}
	return ops, nil
}
