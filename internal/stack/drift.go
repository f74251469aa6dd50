package stack

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"makeitso/internal/fault"
)

// What a look at reality finds, in the service's words.
const (
	InSync     = "IN_SYNC"
	Drifted    = "DRIFTED"
	Modified   = "MODIFIED"
	Deleted    = "DELETED"
	NotChecked = "NOT_CHECKED"
	Unknown    = "UNKNOWN"

	differenceAdd      = "ADD"
	differenceRemove   = "REMOVE"
	differenceNotEqual = "NOT_EQUAL"
)

// StackDrift is how far a stack is from what it was made to be.
type StackDrift struct {
	Stack     string          `json:"stack"`
	Status    string          `json:"status"` // IN_SYNC, DRIFTED, UNKNOWN
	Resources []ResourceDrift `json:"resources"`
}

// ResourceDrift is how far one resource is from what it was made to be.
type ResourceDrift struct {
	LogicalID   string       `json:"logicalId"`
	PhysicalID  string       `json:"physicalId,omitempty"`
	Type        string       `json:"type"`
	Status      string       `json:"status"` // IN_SYNC, MODIFIED, DELETED, UNKNOWN, NOT_CHECKED
	Reason      string       `json:"reason,omitempty"`
	Differences []Difference `json:"differences,omitempty"`
}

// Difference is one property that is not as it was made. Secrets are masked.
type Difference struct {
	Type     string `json:"type"` // ADD, REMOVE, NOT_EQUAL
	Path     string `json:"path"` // a JSON pointer into the properties
	Expected any    `json:"expected,omitempty"`
	Actual   any    `json:"actual,omitempty"`
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
	h, err := e.platform.Handler(p.Type)
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
		facts, _ := Registry().Type(p.Type)
		r.Differences = facts.differences(nil, orEmpty(p.Properties), actual.Properties)
		if len(r.Differences) > 0 {
			r.Status = Modified
		}
	}
	return r
}

// differences compares properties that were set with those that are. What was
// not set and what cannot be read is not looked at, as far as the first level
// goes; below it, what was added counts.
func (f Facts) differences(path []string, expected, actual map[string]any) []Difference {
	var found []Difference
	names := slices.Collect(maps.Keys(expected))
	if len(path) > 0 {
		for name := range actual {
			if _, set := expected[name]; !set {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for _, name := range names {
		at := append(slices.Clone(path), name)
		if slices.ContainsFunc(f.WriteOnly, func(fact string) bool { return matches(fact, at) }) {
			continue
		}
		want, set := expected[name]
		got, is := actual[name]
		switch d := (Difference{Path: "/" + strings.Join(at, "/"), Expected: want, Actual: got}); {
		case !is:
			d.Type = differenceRemove
			found = append(found, d)
		case !set:
			d.Type = differenceAdd
			found = append(found, d)
		default:
			found = append(found, f.unequal(at, want, got)...)
		}
	}
	return found
}

// unequal compares two values of a property.
func (f Facts) unequal(path []string, expected, actual any) []Difference {
	want, ok := expected.(map[string]any)
	got, ok2 := actual.(map[string]any)
	if ok && ok2 {
		return f.differences(path, want, got)
	}
	wants, ok := expected.([]any)
	gots, ok2 := actual.([]any)
	if ok && ok2 && len(wants) == len(gots) {
		var found []Difference
		for i := range wants {
			found = append(found, f.unequal(append(slices.Clone(path), strconv.Itoa(i)), wants[i], gots[i])...)
		}
		return found
	}
	if sameValue(expected, actual) {
		return nil
	}
	return []Difference{{Type: differenceNotEqual, Path: "/" + strings.Join(path, "/"), Expected: expected, Actual: actual}}
}

// matches says whether a path of the registry ("A/*/B") names a property or
// something that holds it.
func matches(fact string, path []string) bool {
	parts := strings.Split(fact, "/")
	if len(parts) > len(path) {
		return false
	}
	for i, part := range parts {
		if part != "*" && part != path[i] {
			return false
		}
	}
	return true
}

// sameValue says whether two values mean the same: 5 and "5", "1.0" and "1",
// True and "true", and a document and its JSON.
func sameValue(a, b any) bool {
	x, y := plainValue(a), plainValue(b)
	if jsonEqual(x, y) {
		return true
	}
	s, ok := x.(string)
	t, ok2 := y.(string)
	if ok && ok2 {
		m, err := strconv.ParseFloat(s, 64)
		n, err2 := strconv.ParseFloat(t, 64)
		return err == nil && err2 == nil && m == n || isBool(s) && strings.EqualFold(s, t)
	}
	return false
}

func isBool(text string) bool {
	return strings.EqualFold(text, "true") || strings.EqualFold(text, "false")
}

// plainValue brings a value into the form in which stacks keep it: scalars are
// texts, and a text that holds a JSON document is that document.
func plainValue(v any) any {
	switch v := v.(type) {
	case string:
		var document any
		if strings.HasPrefix(strings.TrimSpace(v), "{") && json.Unmarshal([]byte(v), &document) == nil {
			return plainValue(document)
		}
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case int:
		return strconv.Itoa(v)
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = plainValue(item)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, item := range v {
			m[key] = plainValue(item)
		}
		return m
	}
	return v
}
