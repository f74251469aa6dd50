package local

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/platform/fleet"
	"makeitso/internal/platform/model"
	"makeitso/internal/platform/watch"
	"makeitso/internal/record"
	"makeitso/internal/stack"
)

// recorded is a maker for whose resources no software runs: what is known of
// them is all that there is.
type recorded interface {
	maker
	table() model.Type
}

// modelled makes the resources of one type for which nothing runs.
type modelled struct {
	p *Platform
	t model.Type
}

func (m modelled) check(ctx context.Context, r *resource) error {
	if err := m.t.Check(r.Resource, func(typ string) ([]model.Resource, error) { return m.p.modelsOf(ctx, typ) }); err != nil {
		return err
	}
	names, err := m.t.Names(r.Resource, m.p.place())
	if err != nil {
		return err
	}
	_, err = m.p.nameOps(ctx, r, names)
	return err
}

func (m modelled) make(_ context.Context, r *resource) (err error) {
	r.PhysicalID, r.Attributes, err = m.t.Make(r.Resource, m.p.place())
	return err
}

func (m modelled) table() model.Type                       { return m.t }
func (m modelled) read(context.Context, *resource) error   { return nil }
func (m modelled) remove(context.Context, *resource) error { return nil }

// place is where the platform says its resources to be.
func (p *Platform) place() model.Place { return model.Place{Region: p.o.Region, Account: p.o.Account} }

// modelHandler is the stack.Handler of a modelled type. Nothing stands for such
// a resource but what is known of it, which is a record beside those of its
// stack: one sync of the store keeps many.
type modelHandler struct {
	handler
	t model.Type
}

// modelKey is the key of a modelled resource's record.
func (p *Platform) modelKey(token string) string { return p.env + "/" + token }

// modelsOf gives what exists of a modelled type.
func (p *Platform) modelsOf(ctx context.Context, typ string) ([]model.Resource, error) {
	recorded, err := p.recordsOf(ctx, typ)
	all := make([]model.Resource, len(recorded))
	for i, r := range recorded {
		all[i] = r.Resource
	}
	return all, err
}

// recordsOf is modelsOf with all that is kept of each.
func (p *Platform) recordsOf(ctx context.Context, typ string) ([]resource, error) {
	all, err := p.models.List(ctx, p.modelKey(""))
	if err != nil {
		return nil, fmt.Errorf("list modelled resources: %w", err)
	}
	return slices.DeleteFunc(all, func(r resource) bool { return r.Type != typ }), nil
}

// numberOp gives a resource the next number of its series, and what claims it;
// nothing if it has one or needs none.
func (h *modelHandler) numberOp(ctx context.Context, res *resource) ([]record.Op, error) {
	series := h.t.Series(res.Resource)
	if series == "" || res.Number > 0 {
		return nil, nil
	}
	key := h.p.nameKey(res.Type, series+":")
	taken, err := h.p.claims().List(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("list the numbers of %s: %w", series, err)
	}
	for _, c := range taken {
		res.Number = max(res.Number, c.Number)
	}
	res.Number++
	op, err := h.p.claims().PutOp(fmt.Sprintf("%s%d", key, res.Number), claim{Token: res.Token, Number: res.Number}, record.Absent)
	return []record.Op{op}, err
}

// load gives the modelled resource of a token, fault.NotFound if there is none.
func (h *modelHandler) load(ctx context.Context, token string) (*resource, error) {
	res, err := h.p.models.Get(ctx, h.p.modelKey(token))
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.NotFound, "no resource %s exists in environment %s", token, h.p.env)
	}
	return &res, err
}

func (h *modelHandler) Create(ctx context.Context, r stack.Request) (stack.Result, error) {
	// The folder says that there is something of the environment.
	if err := os.MkdirAll(h.p.dir, 0o700); err != nil {
		return stack.Result{}, fmt.Errorf("make the folder of environment %s: %w", h.p.env, err)
	}
	res, err := h.load(ctx, r.Token)
	if fault.Is(err, fault.NotFound) {
		res, err = requested(r), nil
	}
	if err != nil {
		return stack.Result{}, err
	}
	return h.put(ctx, *res, r)
}

func (h *modelHandler) Read(ctx context.Context, r stack.Request) (stack.Result, error) {
	res, err := h.load(ctx, r.Token)
	if err != nil {
		return stack.Result{}, err
	}
	return res.result(), nil
}

// Find implements stack.Importer.
func (h *modelHandler) Find(ctx context.Context, _ stack.Request, identifier map[string]string) (string, stack.Result, error) {
	every, err := h.p.modelsOf(ctx, h.typ)
	if err != nil {
		return "", stack.Result{}, err
	}
	var all []*resource
	for _, r := range every {
		all = append(all, &resource{Resource: r})
	}
	res, err := h.among(all, identifier)
	if err != nil {
		return "", stack.Result{}, err
	}
	return res.Token, res.result(), nil
}

// result is what the engine is told of a modelled resource.
func (r *resource) result() stack.Result {
	return stack.Result{PhysicalID: r.PhysicalID, Attributes: r.Attributes, Properties: r.Properties}
}

func (h *modelHandler) Update(ctx context.Context, r stack.Request) (stack.Result, error) {
	res, err := h.load(ctx, r.Token)
	if err == nil {
		err = res.inPlace(r.Properties)
	}
	if err == nil && h.t.Replaces(res.Properties, r.Properties) {
		err = fault.New(fault.Unsupported, "%s (%s) has to be replaced for this change", res.name(), res.Type)
	}
	if err != nil {
		return stack.Result{}, err
	}
	return h.put(ctx, *res, r)
}

// put keeps a resource with the properties and tags it shall have. If another
// one takes its name or number meanwhile, it looks again.
func (h *modelHandler) put(ctx context.Context, was resource, r stack.Request) (stack.Result, error) {
	h.p.changing.RLock()
	defer h.p.changing.RUnlock()
	for {
		res := was
		now := time.Now().UTC().Truncate(time.Second)
		switch {
		case res.Created.IsZero():
			res.Created, res.Changed = now, now
		case !changeset.SameProperties(res.Properties, r.Properties):
			res.Changed, res.Changes = now, res.Changes+1
		}
		res.Properties, res.Tags, res.Complete = r.Properties, r.Tags, true
		ops, err := h.ops(ctx, &res)
		if err == nil {
			err = h.p.o.Records.Write(ctx, ops...)
		}
		if fault.Is(err, fault.Conflict) && ops != nil && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return stack.Result{}, fmt.Errorf("keep %s: %w", res.name(), err)
		}
		if isAlarm(h.typ) {
			h.p.changed.give() // it is evaluated from now on
		}
		return stack.Result{PhysicalID: res.PhysicalID, Attributes: res.Attributes}, h.p.announce(ctx, &res, false)
	}
}

// ops makes what res declares and gives what keeps it, with its names.
func (h *modelHandler) ops(ctx context.Context, res *resource) ([]record.Op, error) {
	ops, err := h.numberOp(ctx, res)
	if err == nil {
		err = h.maker.make(ctx, res)
	}
	if err != nil {
		return nil, err
	}
	names, err := h.t.Names(res.Resource, h.p.place())
	if err != nil {
		return nil, err
	}
	claims, err := h.p.nameOps(ctx, res, names)
	if err != nil {
		return nil, err
	}
	op, err := h.p.models.PutOp(h.p.modelKey(res.Token), *res, record.Any)
	return slices.Concat(ops, claims, []record.Op{op}), err
}

func (h *modelHandler) Delete(ctx context.Context, r stack.Request) error {
	h.p.changing.RLock()
	defer h.p.changing.RUnlock()
	res, err := h.load(ctx, r.Token)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := h.maker.remove(ctx, res); err != nil {
		return err
	}
	names, err := h.t.Names(res.Resource, h.p.place())
	if err != nil {
		return err
	}
	ops, err := h.p.freeOps(ctx, res, names)
	if err != nil {
		return err
	}
	ops = append(ops, h.p.models.DeleteOp(h.p.modelKey(r.Token)))
	if isAlarm(h.typ) {
		err = h.p.changeAlarm(ctx, res.PhysicalID, append(ops, h.p.alarmStates().DeleteOp(h.p.modelKey(r.Token)))...)
	} else {
		err = h.p.o.Records.Write(ctx, ops...)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", res.name(), err)
	}
	return h.p.announce(ctx, res, false)
}

// modelKind is the kind of records of modelled resources.
const modelKind = "local-model"

// forgetModels removes the records of all modelled resources, what they are
// called, what was said of alarms, and what is kept for what is watched.
func (p *Platform) forgetModels(ctx context.Context) error {
	ops, err := watch.ForgetAll(ctx, p.o.Records, p.env)
	if err != nil {
		return err
	}
	for _, kind := range []string{modelKind, "local-name", "local-alarm", fleet.Kind} {
		all, err := p.o.Records.List(ctx, kind, p.env+"/")
		if err != nil {
			return fmt.Errorf("list modelled resources: %w", err)
		}
		for _, e := range all {
			ops = append(ops, record.Op{Kind: kind, Key: e.Key})
		}
	}
	return p.o.Records.Write(ctx, slices.Clip(ops)...)
}
