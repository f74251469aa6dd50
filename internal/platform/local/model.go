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
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
	"makeitso/internal/platform/watch"
	"makeitso/internal/record"
	"makeitso/internal/stack"
)

// modelled makes the resources of one type for which nothing runs.
type modelled struct {
	p *Platform
	t model.Type
}

func (m modelled) Check(ctx context.Context, r *machine.Resource) error {
	if err := m.judge(ctx, r); err != nil {
		return err
	}
	names, err := m.t.Names(r.Resource, m.p.place())
	if err != nil {
		return err
	}
	_, err = m.p.NameOps(ctx, r, names)
	return err
}

// judge judges what the properties say.
func (m modelled) judge(ctx context.Context, r *machine.Resource) error {
	return m.t.Check(r.Resource, func(typ string) ([]model.Resource, error) { return m.p.modelsOf(ctx, typ) })
}

func (m modelled) Make(_ context.Context, r *machine.Resource) (err error) {
	r.PhysicalID, r.Attributes, err = m.t.Make(r.Resource, m.p.place())
	return err
}

// Wrap implements machine.Wrapper.
func (m modelled) Wrap(h *machine.Handler) stack.Handler { return &modelHandler{h, m.p, m.t} }

func (m modelled) Read(context.Context, *machine.Resource) error   { return nil }
func (m modelled) Remove(context.Context, *machine.Resource) error { return nil }

// place is where the platform says its resources to be.
func (p *Platform) place() model.Place { return model.Place{Region: p.o.Region, Account: p.o.Account} }

// modelHandler is the stack.Handler of a modelled type. Nothing stands for such
// a resource but what is known of it, which is a record beside those of its
// stack: one sync of the store keeps many.
type modelHandler struct {
	*machine.Handler
	p *Platform
	t model.Type
}

// modelsOf gives what exists of a modelled type.
func (p *Platform) modelsOf(ctx context.Context, typ string) ([]model.Resource, error) {
	recorded, err := p.recordsOf(ctx, typ)
	all := make([]model.Resource, len(recorded))
	for i, r := range recorded {
		all[i] = r.Resource
	}
	return all, err
}

// recordsOf gives what exists of modelled types, with all that is kept of each.
func (p *Platform) recordsOf(ctx context.Context, types ...string) ([]machine.Resource, error) {
	all, err := p.Models.List(ctx, p.ModelKey(""))
	if err != nil {
		return nil, fmt.Errorf("list modelled resources: %w", err)
	}
	return slices.DeleteFunc(all, func(r machine.Resource) bool { return !slices.Contains(types, r.Type) }), nil
}

// load gives the modelled resource of a token, fault.NotFound if there is none.
func (h *modelHandler) load(ctx context.Context, token string) (*machine.Resource, error) {
	res, err := h.p.Models.Get(ctx, h.p.ModelKey(token))
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.NotFound, "no resource %s exists in environment %s", token, h.p.Env)
	}
	return &res, err
}

func (h *modelHandler) Create(ctx context.Context, r stack.Request) (stack.Result, error) {
	// The folder says that there is something of the environment.
	if err := os.MkdirAll(h.p.Dir, 0o700); err != nil {
		return stack.Result{}, fmt.Errorf("make the folder of environment %s: %w", h.p.Env, err)
	}
	res, err := h.load(ctx, r.Token)
	if fault.Is(err, fault.NotFound) {
		res, err = machine.Requested(r), nil
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
	return resultOf(res), nil
}

// Find implements stack.Importer.
func (h *modelHandler) Find(ctx context.Context, _ stack.Request, identifier map[string]string) (string, stack.Result, error) {
	every, err := h.p.modelsOf(ctx, h.Type)
	if err != nil {
		return "", stack.Result{}, err
	}
	var all []*machine.Resource
	for _, r := range every {
		all = append(all, &machine.Resource{Resource: r})
	}
	res, err := h.Among(all, identifier)
	if err != nil {
		return "", stack.Result{}, err
	}
	return res.Token, resultOf(res), nil
}

// resultOf is what the engine is told of a modelled resource.
func resultOf(r *machine.Resource) stack.Result {
	return stack.Result{PhysicalID: r.PhysicalID, Attributes: r.Attributes, Properties: r.Properties}
}

func (h *modelHandler) Update(ctx context.Context, r stack.Request) (stack.Result, error) {
	res, err := h.load(ctx, r.Token)
	if err == nil {
		err = res.InPlace(r.Properties)
	}
	if err == nil && h.t.Replaces(res.Properties, r.Properties) {
		err = fault.New(fault.Unsupported, "%s (%s) has to be replaced for this change", res.Name(), res.Type)
	}
	if err != nil {
		return stack.Result{}, err
	}
	return h.put(ctx, *res, r)
}

// put keeps a resource with the properties and tags it shall have. If another
// one takes its name or number meanwhile, it looks again.
func (h *modelHandler) put(ctx context.Context, was machine.Resource, r stack.Request) (stack.Result, error) {
	defer h.p.Hold()()
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
			return stack.Result{}, fmt.Errorf("keep %s: %w", res.Name(), err)
		}
		if isAlarm(h.Type) {
			h.p.Notify() // it is evaluated from now on
		}
		return stack.Result{PhysicalID: res.PhysicalID, Attributes: res.Attributes}, h.p.announce(ctx, &res)
	}
}

// ops makes what res declares and gives what keeps it, with its names.
func (h *modelHandler) ops(ctx context.Context, res *machine.Resource) ([]record.Op, error) {
	ops, err := h.p.NumberOp(ctx, res, h.t.Series(res.Resource))
	if err == nil {
		err = h.Maker.Make(ctx, res)
	}
	if err != nil {
		return nil, err
	}
	names, err := h.t.Names(res.Resource, h.p.place())
	if err != nil {
		return nil, err
	}
	claims, err := h.p.NameOps(ctx, res, names)
	if err != nil {
		return nil, err
	}
	op, err := h.p.Models.PutOp(h.p.ModelKey(res.Token), *res, record.Any)
	return slices.Concat(ops, claims, []record.Op{op}), err
}

func (h *modelHandler) Delete(ctx context.Context, r stack.Request) error {
	defer h.p.Hold()()
	res, err := h.load(ctx, r.Token)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := h.Maker.Remove(ctx, res); err != nil {
		return err
	}
	names, err := h.t.Names(res.Resource, h.p.place())
	if err != nil {
		return err
	}
	ops, err := h.p.FreeOps(ctx, res, names)
	if err != nil {
		return err
	}
	ops = append(ops, h.p.Models.DeleteOp(h.p.ModelKey(r.Token)))
	if isAlarm(h.Type) {
		err = h.p.changeAlarm(ctx, res.PhysicalID, append(ops, h.p.alarmStates().DeleteOp(h.p.ModelKey(r.Token)))...)
	} else {
		err = h.p.o.Records.Write(ctx, ops...)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", res.Name(), err)
	}
	return h.p.announce(ctx, res)
}

// modelKind is the kind of records of modelled resources.
const modelKind = "local-model"

// forgetModels removes the records of all modelled resources, what they are
// called, what was said of alarms, and what is kept for what is watched.
func (p *Platform) forgetModels(ctx context.Context) error {
	ops, err := watch.ForgetAll(ctx, p.o.Records, p.Env)
	if err != nil {
		return err
	}
	for _, kind := range []string{modelKind, "local-name", "local-alarm", fleet.Kind} {
		all, err := p.o.Records.List(ctx, kind, p.Env+"/")
		if err != nil {
			return fmt.Errorf("list modelled resources: %w", err)
		}
		for _, e := range all {
			ops = append(ops, record.Op{Kind: kind, Key: e.Key})
		}
	}
	return p.o.Records.Write(ctx, slices.Clip(ops)...)
}
