package machine

import (
	"context"
	"fmt"

	"makeitso/internal/fault"
	"makeitso/internal/platform/model"
	"makeitso/internal/record"
	"makeitso/internal/registry"
)

// Namer is a Maker whose resources may have a name that their template gives.
type Namer interface {
	// Named gives that name, "" if the template gives none.
	Named(r *Resource) string
}

// namesOf gives the names by which no other resource of r's type may go.
func (h *Handler) namesOf(r *Resource) []string {
	if n, is := h.Maker.(Namer); is {
		if name := n.Named(r); name != "" && !model.Unknown(name) {
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

func (m *Machine) claims() record.Collection[claim] {
	return record.Of[claim](m.Options.Records, "local-name")
}

// nameKey is the key of a claim.
func (m *Machine) nameKey(typ, name string) string { return m.Env + "/" + typ + "/" + name }

// NameOps gives what claims names for r; nothing for those that are r's already.
// A name of another resource is refused.
func (m *Machine) NameOps(ctx context.Context, r *Resource, names []string) ([]record.Op, error) {
	var ops []record.Op
	for _, name := range names {
		key := m.nameKey(r.Type, name)
		is, version, err := m.claims().GetVersion(ctx, key)
		if fault.Is(err, fault.NotFound) {
			is, version, err = claim{}, record.Absent, nil
		}
		if err != nil {
			return nil, fmt.Errorf("look who is called %s: %w", name, err)
		}
		if is.Token != "" {
			owner, err := m.any(ctx, is.Token)
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
		op, err := m.claims().PutOp(key, claim{Token: r.Token}, version)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// any gives the resource of a token, whatever stands for it.
func (m *Machine) any(ctx context.Context, token string) (*Resource, error) {
	r, err := m.Models.Get(ctx, m.ModelKey(token))
	if fault.Is(err, fault.NotFound) {
		return m.Load(token)
	}
	return &r, err
}

// mayBe says whether r may have a name that owner has.
func (r *Resource) mayBe(name string, owner *Resource) error {
	facts, _ := registry.Type(r.Type)
	switch {
	case !r.Is(owner):
		return fault.New(fault.Conflict, "Resource of type '%s' with identifier '%s' already exists.", r.Type, name).
			WithHint("it is %s; give %s another name, or none; what a stack left behind is taken back with: makeitso import", owner.Name(), r.Name())
	case r.Token == "" && owner.replacedBy(r.Properties) && !facts.DeleteFirst():
		return fault.New(fault.Invalid, "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename %s and update the stack again.", name)
	}
	return nil
}

// claim writes down that the names of a resource are its own, before it is made.
func (h *Handler) claim(ctx context.Context, res *Resource) error {
	for {
		ops, err := h.m.NameOps(ctx, res, h.namesOf(res))
		if err != nil || len(ops) == 0 {
			return err
		}
		err = h.m.Options.Records.Write(ctx, ops...)
		if !fault.Is(err, fault.Conflict) {
			return err
		}
	}
}

// FreeOps gives what gives up names of r.
func (m *Machine) FreeOps(ctx context.Context, r *Resource, names []string) ([]record.Op, error) {
	var ops []record.Op
	for _, name := range names {
		key := m.nameKey(r.Type, name)
		is, err := m.claims().Get(ctx, key)
		if err == nil && is.Token == r.Token {
			ops = append(ops, m.claims().DeleteOp(key))
		}
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, fmt.Errorf("look who is called %s: %w", name, err)
		}
	}
	return ops, nil
}

// NumberOp gives a resource the next number of a series, and what claims it;
// nothing if it has one or series is "".
func (m *Machine) NumberOp(ctx context.Context, r *Resource, series string) ([]record.Op, error) {
	if series == "" || r.Number > 0 {
		return nil, nil
	}
	key := m.nameKey(r.Type, series+":")
	taken, err := m.claims().List(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("list the numbers of %s: %w", series, err)
	}
	for _, c := range taken {
		r.Number = max(r.Number, c.Number)
	}
	r.Number++
	op, err := m.claims().PutOp(fmt.Sprintf("%s%d", key, r.Number), claim{Token: r.Token, Number: r.Number}, record.Absent)
	return []record.Op{op}, err
}
