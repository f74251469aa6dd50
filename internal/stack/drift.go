package stack

import (
	"context"
	"slices"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/registry"
)

// What a look at reality finds, in the service's words.
const (
	InSync     = "IN_SYNC"
	Drifted    = "DRIFTED"
	Modified   = "MODIFIED"
	Deleted    = "DELETED"
	NotChecked = "NOT_CHECKED"
	Unknown    = "UNKNOWN"
)

// StackDrift is how far a stack is from what it was made to be.
type StackDrift struct {
	Stack     string          `json:"stack"`
	Status    string          `json:"status"` // IN_SYNC, DRIFTED, UNKNOWN
	Resources []ResourceDrift `json:"resources"`
}

// ResourceDrift is how far one resource is from what it was made to be.
type ResourceDrift struct {
	LogicalID   string                `json:"logicalId"`
	PhysicalID  string                `json:"physicalId,omitempty"`
	Type        string                `json:"type"`
	Status      string                `json:"status"` // IN_SYNC, MODIFIED, DELETED, UNKNOWN, NOT_CHECKED
	Reason      string                `json:"reason,omitempty"`
	Differences []registry.Difference `json:"differences,omitempty"`
}

// Drift reads what exists of a stack and compares it, property by property,
// with what the stack was made to be. It changes nothing; Repair makes again
// what is gone.
func (e *Engine) Drift(ctx context.Context, name string) (StackDrift, error) {
	s, err := e.Stack(ctx, name)
	if err != nil {
		return StackDrift{}, err
	}
	switch s.Status {
	case CreateComplete, UpdateComplete, UpdateRollbackComplete, UpdateRollbackFailed:
	default:
		return StackDrift{}, fault.New(fault.Conflict, "drift of stack %s cannot be detected in status %s", name, s.Status).
			WithHint("wait until its change has ended: makeitso events %s", name)
	}
	p := &planner{exists: map[string]Physical{}}
	if err := e.fill(ctx, s, p); err != nil {
		return StackDrift{}, err
	}
	all := map[string][]string{}
	for id := range p.exists {
		all[id] = nil
	}
	found := make(chan ResourceDrift, len(all))
	err = walk(ctx, all, e.o.Parallel, func(ctx context.Context, id string) error {
		found <- e.resourceDrift(ctx, s.Name, id, p.exists[id])
		return ctx.Err()
	})
	close(found)
	if err != nil {
		return StackDrift{}, err
	}
	drift := StackDrift{Stack: name, Status: InSync, Resources: []ResourceDrift{}}
	secrets := p.before.secrets()
	for r := range found {
		for i, d := range r.Differences {
			r.Differences[i].Expected, r.Differences[i].Actual = scrub(d.Expected, secrets), scrub(d.Actual, secrets)
		}
		drift.add(r)
	}
	slices.SortFunc(drift.Resources, func(a, b ResourceDrift) int { return strings.Compare(a.LogicalID, b.LogicalID) })
	return drift, nil
}

// add takes a resource into account: what has drifted outweighs what is unknown.
func (d *StackDrift) add(r ResourceDrift) {
	d.Resources = append(d.Resources, r)
	switch {
	case r.Status == Modified || r.Status == Deleted:
		d.Status = Drifted
	case r.Status == Unknown && d.Status == InSync:
		d.Status = Unknown
	}
}

// resourceDrift looks at one resource.
func (e *Engine) resourceDrift(ctx context.Context, stack, id string, p Physical) ResourceDrift {
	r := ResourceDrift{LogicalID: id, PhysicalID: p.PhysicalID, Type: p.Type, Status: InSync}
	h, err := e.handler(p.Type)
	var actual Result
	if err == nil {
		actual, err = h.Read(ctx, Request{Environment: e.environment, Stack: stack, LogicalID: id, Type: p.Type, Token: p.Token,
			PhysicalID: p.PhysicalID, Properties: orEmpty(p.Properties), Attributes: p.Attributes})
	}
	switch {
	case fault.Is(err, fault.NotFound):
		r.Status, r.Reason = Deleted, err.Error()
	case err != nil:
		r.Status, r.Reason = Unknown, err.Error()
	case actual.Properties == nil && len(p.Properties) > 0:
		r.Status, r.Reason = NotChecked, "what reads this type does not tell its properties"
	default:
		facts, _ := registry.Type(p.Type)
		r.Differences = facts.Differences(p.Properties, actual.Properties)
		if len(r.Differences) > 0 {
			r.Status = Modified
		}
	}
	return r
}
