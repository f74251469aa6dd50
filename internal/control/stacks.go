package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"makeitso/internal/changeset"
	"makeitso/internal/dag"
	"makeitso/internal/fault"
	"makeitso/internal/pipeline"
	"makeitso/internal/project"
	"makeitso/internal/stack"
)

// StacksRequest names stacks of an environment.
type StacksRequest struct {
	Environment string   `json:"environment,omitempty"`
	Stacks      []string `json:"stacks,omitempty"` // none means all of the project
	After       int64    `json:"after,omitempty"`  // StackEvents: only those with higher numbers
	// Force, for Destroy, goes on where something cannot be deleted and ends
	// every process and removes every file all the same.
	Force bool `json:"force,omitempty"`
	// Digests, for Apply, are what a person said yes to, by stack; a stack
	// whose change set has another by now is refused.
	Digests map[string]string `json:"digests,omitempty"`
	// DisableRollback, for Plan and Apply, leaves a change that fails as it is.
	DisableRollback bool `json:"disableRollback,omitempty"`
	// Policy, for Drift, is what becomes of drift; by default it is reported.
	Policy stack.DriftPolicy `json:"policy,omitempty"`
	// OnFailure, for Plan and Apply, stands in for that of makeitso.yaml.
	OnFailure string `json:"onFailure,omitempty"`
	// StackPolicy, for Plan and Apply, stands in for the stacks' own policies
	// during this change.
	StackPolicy string `json:"stackPolicy,omitempty"`
	// Import, for Plan and Apply of one stack, is what is taken into it, by
	// logical id: the values of the type's primary identifier.
	Import map[string]map[string]string `json:"import,omitempty"`
	// ImportExisting, for Plan and Apply, takes in what exists under the names
	// that templates give and belongs to no stack.
	ImportExisting bool `json:"importExisting,omitempty"`
}

// Plan compares the working tree's templates with what exists. It gives the
// change sets in the order in which they are applied.
func (c *Control) Plan(ctx context.Context, r StacksRequest) ([]*changeset.Set, error) {
	_, sets, _, err := c.plan(ctx, r)
	for i := range sets {
		sets[i] = sets[i].Public()
	}
	return sets, err
}

// Await waits until nobody else changes the stacks, and sends for whom it waits.
func (c *Control) Await(ctx context.Context, r StacksRequest, send func(string) error) error {
	p, _, err := c.o.Project()
	if err != nil {
		return err
	}
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return err
	}
	names := r.Stacks
	if len(names) == 0 {
		names = applyOrder(p)
	}
	for _, name := range names {
		var failed error
		err := env.Stacks.Await(ctx, name, func(holder string) {
			failed = send(fmt.Sprintf("stack %s is being changed by %s", name, holder))
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
	}
	return nil
}

// Apply makes the stacks so and sends each event as it happens.
func (c *Control) Apply(ctx context.Context, r StacksRequest, send func(stack.Event) error) error {
	ctx, done := c.detached(ctx)
	defer done()
	env, sets, wanted, err := c.plan(ctx, r)
	if err != nil {
		return err
	}
	for _, cs := range sets {
		if digest, ok := r.Digests[cs.Stack]; ok && digest != cs.Digest {
			return fault.New(fault.Conflict, "stack %s has moved since its change set was shown", cs.Stack).WithHint("look at it again: makeitso plan %s", cs.Stack)
		}
	}
	for _, cs := range sets {
		if cs.Empty() {
			continue
		}
		if cs, err = pipeline.Replan(ctx, env.Stacks, cs, wanted); err != nil {
			return err
		}
		err := c.observe(ctx, env, send, func(see func(stack.Event)) error { return env.Stacks.Apply(ctx, cs, see) })
		if err != nil {
			return err
		}
	}
	return nil
}

// observe runs do with an observer that sends, and notes in the project's events
// what stacks come to, as runs do. What could not be sent or noted is reported
// after do has ended: a reader who leaves must not stop an apply halfway.
func (c *Control) observe(ctx context.Context, env *Environment, send func(stack.Event) error, do func(see func(stack.Event)) error) error {
	var failed error
	err := do(func(ev stack.Event) {
		if failed != nil {
			return
		}
		if ev.Type == changeset.NestedType {
			failed = c.o.Engine.Emit(ctx, pipeline.Event{Kind: "stack", Environment: env.Name, Subject: ev.LogicalID, Status: ev.Status, Message: strings.TrimSpace(ev.Status + "  " + ev.Reason)})
		}
		failed = cmp.Or(send(ev), failed)
	})
	if err != nil {
		return err
	}
	return failed
}

// plan plans the stacks of a request together. It also gives what is wanted of
// them.
func (c *Control) plan(ctx context.Context, r StacksRequest) (*Environment, []*changeset.Set, stack.Wanted, error) {
	p, _, err := c.o.Project()
	if err != nil {
		return nil, nil, nil, err
	}
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return nil, nil, nil, err
	}
	names := r.Stacks
	if len(names) == 0 {
		names = applyOrder(p)
	}
	if len(r.Import) > 0 && len(names) != 1 {
		return nil, nil, nil, fault.New(fault.Invalid, "resources are imported into one stack, not into %d", len(names))
	}
	for _, name := range names {
		if p.Stacks[name] == nil {
			return nil, nil, nil, unknown("stack", name, p.Stacks)
		}
	}
	values := pipeline.Values{
		Project: p, Environment: env.Name, Commit: c.commit, Tags: map[string]string{"makeitso:environment": env.Name},
		Stacks: func(context.Context) (pipeline.Stacks, error) { return env.Stacks, nil },
		Artifact: func(ctx context.Context, name string) (string, error) {
			return c.o.Engine.Artifact(ctx, env.Name, name)
		},
	}
	wanted := func(name string, will stack.OutputOf) (changeset.Change, error) {
		change, err := values.Change(ctx, c.o.Folder, name, will)
		change.DisableRollback, change.ResourcesToImport, change.ImportExisting, change.Policy = r.DisableRollback, r.Import, r.ImportExisting, r.StackPolicy
		if r.DisableRollback || r.OnFailure != "" { // what is asked for now goes before the file
			change.OnFailure = pipeline.OnFailure(r.OnFailure)
		}
		return change, err
	}
	sets, err := env.Stacks.PlanAll(ctx, names, wanted)
	return env, sets, wanted, err
}

// applyOrder gives all stacks: those that pipelines apply in their order
// there, then the others by name.
func applyOrder(p *project.Project) []string {
	var names []string
	for _, pl := range slices.Sorted(maps.Keys(p.Pipelines)) {
		for _, stage := range p.Pipelines[pl].Stages {
			names = append(names, stage.Apply...)
		}
	}
	names = append(names, slices.Sorted(maps.Keys(p.Stacks))...)
	seen := map[string]bool{}
	return slices.DeleteFunc(names, func(name string) bool {
		defer func() { seen[name] = true }()
		return seen[name]
	})
}

// Outputs gives the outputs of stacks, by stack and key.
func (c *Control) Outputs(ctx context.Context, r StacksRequest) (map[string]map[string]string, error) {
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return nil, err
	}
	names, err := env.standing(ctx, r.Stacks)
	if err != nil {
		return nil, err
	}
	all := map[string]map[string]string{}
	for _, name := range names {
		all[name], err = env.Stacks.Outputs(ctx, name)
		if fault.Is(err, fault.NotFound) {
			err = cmp.Or(c.knownStack(name), err)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// standing gives the stacks asked for, or all that exist.
func (e *Environment) standing(ctx context.Context, asked []string) ([]string, error) {
	if len(asked) > 0 {
		return asked, nil
	}
	stacks, err := e.Stacks.Stacks(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range stacks {
		if s.Root == "" {
			names = append(names, s.Name)
		}
	}
	return names, nil
}

// Drift reads what exists of stacks, compares it with what they were made to
// be, and does with the drift what the request says.
func (c *Control) Drift(ctx context.Context, r StacksRequest) ([]stack.StackDrift, error) {
	policy := cmp.Or(r.Policy, stack.ReportDrift)
	if policy != stack.ReportDrift {
		var done func()
		ctx, done = c.detached(ctx)
		defer done()
	}
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return nil, err
	}
	names, err := env.standing(ctx, r.Stacks)
	if err != nil {
		return nil, err
	}
	all := make([]stack.StackDrift, len(names))
	for i, name := range names {
		all[i], err = env.Stacks.Drift(ctx, name, policy, nil)
		if fault.Is(err, fault.NotFound) {
			err = cmp.Or(c.knownStack(name), err)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// StackEvents gives the events of one stack.
func (c *Control) StackEvents(ctx context.Context, r StacksRequest) ([]stack.Event, error) {
	if len(r.Stacks) != 1 {
		return nil, fault.New(fault.Invalid, "events are asked of one stack, not of %d", len(r.Stacks))
	}
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return nil, err
	}
	events, err := env.Stacks.Events(ctx, r.Stacks[0], r.After)
	if err == nil && len(events) == 0 {
		return []stack.Event{}, c.knownStack(r.Stacks[0])
	}
	return events, err
}

// knownStack refuses the name of a stack that makeitso.yaml does not have.
func (c *Control) knownStack(name string) error {
	p, err := c.o.Known()
	if err == nil && p.Stacks[name] == nil {
		err = unknown("stack", name, p.Stacks)
	}
	return err
}

// DestroyResponse says what Destroy removes.
type DestroyResponse struct {
	Environment string           `json:"environment"`
	Runs        []string         `json:"runs"` // those under way there, which are cancelled
	Services    []string         `json:"services"`
	Stacks      []*changeset.Set `json:"stacks"`
}

// PlanDestroy says what Destroy would remove.
func (c *Control) PlanDestroy(ctx context.Context, r StacksRequest) (DestroyResponse, error) {
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return DestroyResponse{}, err
	}
	response := DestroyResponse{Environment: env.Name}
	open, err := c.o.Engine.Open(ctx)
	if err != nil {
		return response, err
	}
	for _, run := range open {
		if slices.Contains(run.Environments, env.Name) {
			response.Runs = append(response.Runs, run.ID)
		}
	}
	services, err := env.Services.Services(ctx)
	if err != nil {
		return response, err
	}
	for _, s := range services {
		response.Services = append(response.Services, s.Service)
	}
	names, err := c.deleteOrder(ctx, env)
	if err != nil {
		return response, err
	}
	for i, name := range names {
		cs, err := env.Stacks.PlanDelete(ctx, name, names[:i]...)
		if err != nil {
			return response, err
		}
		response.Stacks = append(response.Stacks, cs.Public())
	}
	return response, nil
}

// deleteOrder gives the stacks so that each comes before those it imports
// from.
func (c *Control) deleteOrder(ctx context.Context, env *Environment) ([]string, error) {
	stacks, err := env.Stacks.Stacks(ctx)
	if err != nil {
		return nil, err
	}
	exports, err := env.Stacks.Exports(ctx)
	if err != nil {
		return nil, err
	}
	root, importers := map[string]string{}, map[string][]string{} // nested stacks go with their roots
	for _, s := range stacks {
		root[s.Name] = cmp.Or(s.Root, s.Name)
		importers[root[s.Name]] = nil
	}
	for _, e := range exports {
		for _, importer := range e.Importers {
			importers[root[e.Stack]] = append(importers[root[e.Stack]], root[importer])
		}
	}
	return dag.InOrder(importers), nil
}

// Destroy removes everything of an environment: its services, its stacks and
// their data, its processes and folders. What fails to go is named, and stops
// it unless force is asked for.
func (c *Control) Destroy(ctx context.Context, r StacksRequest, send func(stack.Event) error) error {
	ctx, done := c.detached(ctx)
	defer done()
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return err
	}
	if err := c.cancelRuns(ctx, r); err != nil {
		return err
	}
	err = c.deleteAll(ctx, env, r, send)
	if err != nil && !r.Force {
		return err
	}
	return errors.Join(err, env.Clear(ctx))
}

// cancelRuns cancels what is under way in the environment and waits for its
// end: nothing may make what is being removed.
func (c *Control) cancelRuns(ctx context.Context, r StacksRequest) error {
	plan, err := c.PlanDestroy(ctx, r)
	if err != nil {
		return err
	}
	for _, id := range plan.Runs {
		if err := c.o.Engine.Cancel(ctx, id, "destroy"); err != nil && !fault.Is(err, fault.Conflict) { // Conflict: it has just ended
			return err
		}
		if _, err := c.o.Engine.Wait(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// deleteAll deletes the services and stacks of an environment.
func (c *Control) deleteAll(ctx context.Context, env *Environment, r StacksRequest, send func(stack.Event) error) error {
	plan, err := c.PlanDestroy(ctx, r)
	if err != nil {
		return err
	}
	for _, service := range plan.Services {
		if err := env.Services.Remove(ctx, service); err != nil {
			return fmt.Errorf("remove service %s: %w", service, err)
		}
	}
	if err := env.Empty(ctx); err != nil {
		return err
	}
	for _, cs := range plan.Stacks {
		err := c.observe(ctx, env, send, func(see func(stack.Event)) error { return env.Stacks.Delete(ctx, cs.Stack, see) })
		if err != nil {
			return fmt.Errorf("delete stack %s: %w", cs.Stack, err)
		}
	}
	return nil
}
