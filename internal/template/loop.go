package template

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Limits of what loops may make, so that five of them, one in another, cannot
// fill the memory.
const (
	maxLoops     = 5
	maxLoopBytes = 16 << 20
	loopKey      = "Fn::ForEach::"
)

// sample stands for an item of a collection that is not known yet.
const sample = "Each"

// loopSections are the sections that loops may stand in.
var loopSections = map[string]bool{"Conditions": true, "Resources": true, "Outputs": true}

// loop gives the entries that a Fn::ForEach stands for.
func (r *reader) loop(p pair, depth int) []pair {
	if !r.loopAllowed(p) {
		return nil
	}
	args := plain(p.value)
	if args.Kind != yaml.SequenceNode || len(args.Content) != 3 || plain(args.Content[0]).Kind != yaml.ScalarNode || plain(args.Content[2]).Kind != yaml.MappingNode {
		r.diags.Errorf(p.pos, "Template error: every %s object requires a list of three: an identifier, a collection and a map of what is made for each of its items", p.key)
		return nil
	}
	id := plain(args.Content[0]).Value
	if !r.identifier(id, args.Content[0]) {
		return nil
	}
	items, sure := r.collection(args.Content[1], depth)
	body := plain(args.Content[2])
	if !sure {
		r.t.early.late = true
		r.openNames(body, id)
	}
	r.nest = append(r.nest, id)
	defer func() { r.nest = r.nest[:len(r.nest)-1] }()
	var all []pair
	seen := map[string]bool{}
	for _, item := range items {
		for _, made := range r.pairs(r.written(body, id, item, depth), depth+1) {
			if seen[made.key] {
				r.diags.Errorf(made.pos, "Template error: %s makes %s twice", p.key, made.key).
					Hint = "the items must differ, and each key must hold ${" + id + "}"
				return all
			}
			seen[made.key] = true
			all = append(all, made)
		}
	}
	return all
}

func (r *reader) loopAllowed(p pair) bool {
	name := strings.TrimPrefix(p.key, loopKey)
	switch {
	case !r.t.early.extensions:
		r.diags.Errorf(p.pos, "Template error: Fn::ForEach needs Transform: AWS::LanguageExtensions").Hint = "add Transform: AWS::LanguageExtensions to the template"
	case !loopSections[r.section]:
		r.diags.Errorf(p.pos, "Template error: Fn::ForEach cannot stand in %s", r.section).Allowed = "Conditions, Resources, Outputs"
	case !alphanumeric.MatchString(name):
		r.diags.Errorf(p.pos, "Template error: the name of %s is not alphanumeric", p.key).Allowed = "letters and digits"
	case r.t.Parameters[name] != nil:
		r.diags.Errorf(p.pos, "Template error: loop %s has the name of a parameter", name).Hint = "rename the loop"
	case len(r.nest) >= maxLoops:
		r.diags.Errorf(p.pos, "Template error: more than %d loops, one in another", maxLoops)
	default:
		return true
	}
	return false
}

// identifier judges the name that stands for an item.
func (r *reader) identifier(id string, n *yaml.Node) bool {
	if !alphanumeric.MatchString(id) {
		r.diags.Errorf(r.pos(n), "Template error: identifier %q of a Fn::ForEach is not alphanumeric", id).Allowed = "letters and digits"
		return false
	}
	if r.t.Parameters[id] != nil {
		r.diags.Errorf(r.pos(n), "Template error: identifier %s of a Fn::ForEach has the name of a parameter", id).Hint = "rename the identifier"
		return false
	}
	for _, outer := range r.nest {
		if outer == id {
			r.diags.Errorf(r.pos(n), "Template error: identifier %s is the one of a loop around this one", id).Hint = "rename one of them"
			return false
		}
	}
	return true
}

// collection gives the items of a loop; the second answer is false if they can
// be others when Bind has the values of all parameters.
func (r *reader) collection(n *yaml.Node, depth int) ([]string, bool) {
	v := r.value(n, false, depth+1)
	if v == nil {
		return nil, true // reported
	}
	value, known := r.early(v)
	if !known {
		return []string{sample}, false
	}
	list, ok := value.([]any)
	if !ok {
		r.diags.Errorf(v.Pos, "Template error: the collection of a Fn::ForEach must be a list, found %s", describe(value))
		return nil, true
	}
	items := make([]string, 0, len(list))
	for _, item := range list {
		switch item := item.(type) {
		case string:
			items = append(items, item)
		case []any: // a list among the items, such as a Ref to a list
			for _, inner := range item {
				items = append(items, text(inner))
			}
		default:
			r.diags.Errorf(v.Pos, "Template error: the items of a Fn::ForEach must be texts, found %s", describe(item))
		}
	}
	return items, !r.tentative(v)
}

// openNames keeps the names that a loop over unknown items can make.
func (r *reader) openNames(body *yaml.Node, id string) {
	for i := 0; i+1 < len(body.Content); i += 2 {
		key := body.Content[i].Value
		if strings.HasPrefix(key, loopKey) {
			r.t.early.open = append(r.t.early.open, anyName)
			continue
		}
		parts := strings.Split(strings.ReplaceAll(key, "&{"+id+"}", "${"+id+"}"), "${"+id+"}")
		for j := range parts {
			parts[j] = regexp.QuoteMeta(parts[j])
		}
		if pattern, err := regexp.Compile("^" + strings.Join(parts, ".*") + "$"); err == nil { // quoted texts always compile
			r.t.early.open = append(r.t.early.open, pattern)
		}
	}
}

// written gives a copy of a loop's body for one item: ${Id}, &{Id} and Ref of
// the identifier are replaced.
func (r *reader) written(n *yaml.Node, id, item string, depth int) *yaml.Node {
	w := writer{r: r, id: id, item: item, plain: notAlphanumeric.ReplaceAllString(item, "")}
	return w.node(n, depth)
}

var notAlphanumeric = regexp.MustCompile(`[^A-Za-z0-9]`)

type writer struct {
	r               *reader
	id, item, plain string
}

func (w *writer) node(n *yaml.Node, depth int) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if w.r.tooMuch(n, 1, depth) {
		return &yaml.Node{Kind: n.Kind, Tag: "!!null", Line: n.Line, Column: n.Column}
	}
	if w.isRef(n) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: w.item, Line: n.Line, Column: n.Column}
	}
	c := *n
	c.Value = strings.ReplaceAll(strings.ReplaceAll(n.Value, "${"+w.id+"}", w.item), "&{"+w.id+"}", w.plain)
	w.r.bytes += len(c.Value)
	if w.r.bytes > maxLoopBytes {
		w.r.tooMuch(n, maxValues, depth)
	}
	c.Content = make([]*yaml.Node, len(n.Content))
	for i, inner := range n.Content {
		c.Content[i] = w.node(inner, depth+1)
	}
	if file, included := w.r.files[n]; included {
		w.r.files[&c] = file
	}
	return &c
}

// isRef says whether n is a Ref to the identifier, in either form.
func (w *writer) isRef(n *yaml.Node) bool {
	if n.Kind == yaml.ScalarNode {
		return n.Tag == "!Ref" && n.Value == w.id
	}
	return n.Kind == yaml.MappingNode && len(n.Content) == 2 && n.Content[0].Value == "Ref" &&
		n.Content[1].Kind == yaml.ScalarNode && n.Content[1].Value == w.id
}

// plain follows an alias.
func plain(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}
