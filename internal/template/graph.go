package template

import (
	"maps"
	"slices"

	"makeitso/internal/diag"
)

// Reference is a resource's name used in a value.
type Reference struct {
	LogicalID string
	Attribute string // "" for a Ref
	Pos       diag.Pos
}

// References gives the resources that a value refers to, with conditions
// decided, in the order of the source.
func (t *Template) References(v *Value, conditions map[string]bool) []Reference {
	var found []Reference
	walk(v, conditions, func(f *Value) {
		if (f.Func == "Ref" || f.Func == "Fn::GetAtt") && t.Resources[f.Items[0].Text] != nil {
			ref := Reference{LogicalID: f.Items[0].Text, Pos: f.Pos}
			if f.Func == "Fn::GetAtt" && f.Items[1].Kind == Text {
				ref.Attribute = f.Items[1].Text
			}
			found = append(found, ref)
		}
	})
	return found
}

// ParametersOf gives the names of the parameters that a value refers to.
func (t *Template) ParametersOf(v *Value, conditions map[string]bool) []string {
	var found []string
	walk(v, conditions, func(f *Value) {
		if f.Func == "Ref" && t.Parameters[f.Items[0].Text] != nil {
			found = append(found, f.Items[0].Text)
		}
	})
	return found
}

// Graph gives, for each active resource, the sorted active resources it
// depends on, and reports cycles and references to resources whose condition
// does not hold.
func (t *Template) Graph(conditions map[string]bool) (map[string][]string, diag.List) {
	edges := t.edges(conditions)
	diags := t.inactive(edges, conditions)
	for id, all := range edges {
		edges[id] = slices.DeleteFunc(all, func(on string) bool { _, active := edges[on]; return !active })
	}
	return edges, append(diags, t.cycles(edges)...)
}

// edges gives the dependencies as written. Without conditions it leaves out
// what a condition could take away.
func (t *Template) edges(conditions map[string]bool) map[string][]string {
	edges := map[string][]string{}
	for id, r := range t.Resources {
		if r.Condition != "" && !conditions[r.Condition] {
			continue
		}
		var on []string
		for _, d := range r.DependsOn {
			on = append(on, d.Text)
		}
		for _, v := range []*Value{r.Properties, r.Metadata, r.CreationPolicy, r.UpdatePolicy} {
			if conditions == nil {
				v = v.withoutBranches()
			}
			for _, ref := range t.References(v, conditions) {
				on = append(on, ref.LogicalID)
			}
		}
		slices.Sort(on)
		edges[id] = slices.Compact(on)
	}
	if conditions == nil {
		for id, all := range edges {
			edges[id] = slices.DeleteFunc(all, func(on string) bool { _, there := edges[on]; return !there })
		}
	}
	return edges
}

// withoutBranches gives v with every Fn::If cut out.
func (v *Value) withoutBranches() *Value {
	if v == nil || v.Kind == Call && v.Func == "Fn::If" {
		return &Value{}
	}
	w := *v
	w.Items, w.Entries = make([]*Value, len(v.Items)), make([]Entry, len(v.Entries))
	for i, item := range v.Items {
		w.Items[i] = item.withoutBranches()
	}
	for i, e := range v.Entries {
		w.Entries[i] = Entry{Key: e.Key, Pos: e.Pos, Value: e.Value.withoutBranches()}
	}
	return &w
}

// inactive reports active parts that refer to resources that do not exist
// under these conditions.
func (t *Template) inactive(edges map[string][]string, conditions map[string]bool) diag.List {
	var diags diag.List
	report := func(name, block string, pos diag.Pos) {
		d := diags.Errorf(pos, "Template format error: Unresolved resource dependencies [%s] in the %s block of the template", name, block)
		d.Hint = "its condition " + t.Resources[name].Condition + " does not hold; refer to it in a branch of Fn::If, or under the same condition"
	}
	for _, id := range slices.Sorted(maps.Keys(edges)) {
		for _, on := range edges[id] {
			if _, active := edges[on]; !active {
				report(on, "Resources", t.Resources[id].Pos)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Outputs)) {
		o := t.Outputs[name]
		if o.Condition != "" && !conditions[o.Condition] {
			continue
		}
		for _, ref := range t.References(o.Value, conditions) {
			if _, active := edges[ref.LogicalID]; !active {
				report(ref.LogicalID, "Outputs", ref.Pos)
			}
		}
	}
	return diags
}

// cycles reports each circle of dependencies once.
func (t *Template) cycles(edges map[string][]string) diag.List {
	var diags diag.List
	for _, cycle := range cyclesOf(edges) {
		diags.Errorf(t.Resources[cycle[0]].Pos, "Template error: Circular dependency between resources: [%s]", join(cycle)).
			Hint = "take one of the references or DependsOn between them away"
	}
	return diags
}

// cyclesOf gives the groups of nodes that reach one another (Tarjan's strongly
// connected components), each sorted, in the order of their first node.
func cyclesOf(edges map[string][]string) [][]string {
	s := &components{edges: edges, index: map[string]int{}, low: map[string]int{}, on: map[string]bool{}}
	for _, id := range slices.Sorted(maps.Keys(edges)) {
		if s.index[id] == 0 {
			s.visit(id)
		}
	}
	slices.SortFunc(s.found, func(a, b []string) int { return slices.Compare(a, b) })
	return s.found
}

type components struct {
	edges      map[string][]string
	index, low map[string]int // index counts from 1; 0 is not seen
	on         map[string]bool
	stack      []string
	found      [][]string
}

func (s *components) visit(id string) {
	s.index[id] = len(s.index) + 1
	s.low[id] = s.index[id]
	s.stack, s.on[id] = append(s.stack, id), true
	self := false
	for _, on := range s.edges[id] {
		self = self || on == id
		if _, known := s.edges[on]; !known {
			continue
		}
		if s.index[on] == 0 {
			s.visit(on)
			s.low[id] = min(s.low[id], s.low[on])
		} else if s.on[on] {
			s.low[id] = min(s.low[id], s.index[on])
		}
	}
	if s.low[id] != s.index[id] {
		return
	}
	from := slices.Index(s.stack, id)
	group := slices.Clone(s.stack[from:])
	s.stack = s.stack[:from]
	for _, member := range group {
		s.on[member] = false
	}
	if len(group) > 1 || self {
		slices.Sort(group)
		s.found = append(s.found, group)
	}
}
