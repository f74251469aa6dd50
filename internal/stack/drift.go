package stack

import (
	"context"
	"slices"
	"strings"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/dag"
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
	Status    string          `json:"status"` // IN_SYNC, DRIFTED, UNKNOWN; NOT_CHECKED before the first look
	Revision  int64           `json:"revision"`
	Time      time.Time       `json:"time,omitzero"`
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
	// Expected is the properties that it was made with, if it was compared.
	Expected map[string]any `json:"expected,omitempty"`

	actual Result
	cause  error // why it could not be read
}

// Actual gives the properties that it has of those that it was made with; nil if
// it is gone or was not compared.
func (r ResourceDrift) Actual() map[string]any {
	if r.Expected == nil || r.Status == Deleted {
		return nil
	}
	return registry.Adopt(r.Expected, r.Differences)
}

// amiss says whether there is something to repair: it differs, is gone, or
// does not answer.
func (r ResourceDrift) amiss() bool {
	return r.Status == Modified || r.Status == Deleted || fault.Is(r.cause, fault.Unavailable)
}

// what says in short how a resource has drifted.
func (r ResourceDrift) what() string {
	var paths []string
	for _, d := range r.Differences {
		paths = append(paths, d.Path)
	}
	return strings.TrimRight(r.Status+" "+r.Reason+strings.Join(paths, ", "), " ")
}

// String names what is not as it was made.
func (d StackDrift) String() string {
	var all []string
	for _, r := range d.Resources {
		if r.Status != InSync && r.Status != NotChecked {
			all = append(all, r.LogicalID+" "+r.Status)
		}
	}
	return strings.Join(all, ", ")
}

// look reads what exists of a stack and compares it, property by property,
// with what the stack was made to be. It changes nothing. Secrets are masked.
func (e *Engine) look(ctx context.Context, s Stack) (StackDrift, error) {
	p := &changeset.Planner{Exists: map[string]changeset.Physical{}}
	if err := e.fill(ctx, s, p); err != nil {
		return StackDrift{}, err
	}
	all := map[string][]string{}
	for id := range p.Exists {
		all[id] = nil
	}
	found := make(chan ResourceDrift, len(all))
	err := dag.Walk(ctx, all, e.o.Parallel, func(ctx context.Context, id string) error {
		found <- e.resourceDrift(ctx, s, id, p)
		return ctx.Err()
	})
	close(found)
	if err != nil {
		return StackDrift{}, err
	}
	drift := StackDrift{Stack: s.Name, Status: InSync, Revision: s.Revision, Time: now(), Resources: []ResourceDrift{}}
	p.Secrets = p.Hidden()
	for r := range found {
		r.Differences = p.Conceal(r.LogicalID, r.Differences)
		if r.Status == InSync || r.Status == Modified || r.Status == Deleted {
			r.Expected = p.Shown(r.LogicalID)
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

// resourceDrift looks at one resource of those that p says exist.
func (e *Engine) resourceDrift(ctx context.Context, s Stack, id string, p *changeset.Planner) ResourceDrift {
	is := p.Exists[id]
	r := ResourceDrift{LogicalID: id, PhysicalID: is.PhysicalID, Type: is.Type, Status: InSync}
	if is.Type == changeset.NestedType {
		r.Status, r.Reason = NotChecked, "a nested stack is looked at by itself"
		return r
	}
	var h Handler
	if h, r.cause = e.confidant(is.Type, p.Hidden); r.cause == nil {
		o := operation{e: e, stack: s}
		r.actual, r.cause = h.Read(ctx, o.request(id, is))
	}
	switch {
	case fault.Is(r.cause, fault.NotFound):
		r.Status, r.Reason = Deleted, r.cause.Error()
	case r.cause != nil:
		r.Status, r.Reason = Unknown, r.cause.Error()
	case r.actual.Properties == nil && len(is.Properties) > 0:
		r.Status, r.Reason = NotChecked, "what reads this type does not tell its properties"
	default:
		facts, _ := registry.Type(is.Type)
		facts.WriteOnly = append(slices.Clip(facts.WriteOnly), p.Before.LookedUp(id, changeset.Standing(p.Exists))...)
		r.Differences = facts.Differences(is.Properties, r.actual.Properties)
		if len(r.Differences) > 0 {
			r.Status = Modified
		}
	}
	return r
}
