package template

import (
	"regexp"
	"slices"
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
	if args.Kind != yaml.SequenceNode || len(args.Content) != 3 || plain(args.Content[2]).Kind != yaml.MappingNode {
		r.diags.Errorf(p.pos, "Template error: every %s object requires a list of three: an identifier, a collection and a map of what is made for each of its items", p.key)
		return nil
	}
	ids := r.identifiers(args.Content[0], depth)
	if ids == nil {
		return nil
	}
	items, sure := r.collection(args.Content[1], len(ids), depth)
	body := plain(args.Content[2])
	if !sure {
		r.t.early.late = true
		r.openNames(body, ids)
	}
	outer := r.nest
	r.nest = append(slices.Clone(outer), ids)
	defer func() { r.nest = outer }()
	var all []pair
	seen := map[string]bool{}
	for _, item := range items {
		w := newWriter(r, ids, item)
		for _, made := range r.pairs(w.node(body, depth), depth+1) {
			if seen[made.key] {
				r.diags.Errorf(made.pos, "Template error: %s makes %s twice", p.key, made.key).
					Hint = "the items must differ, and each key must hold ${" + ids[0] + "}"
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

// identifiers gives the names that stand for an item: one, or a list for the
// parts of an item. nil if there is a mistake.
func (r *reader) identifiers(n *yaml.Node, depth int) []string {
	v := r.value(n, false, depth+1)
	if v == nil {
		return nil
	}
	all := []*Value{v}
	if v.Kind == List {
		all = v.Items
	}
	var ids []string
	for _, one := range all {
		id, known := one.Text, one.Kind == Text
		if one.Kind == Call {
			id, known = r.textEarly(one, "an identifier of a Fn::ForEach")
			if !known {
				r.t.early.open = append(r.t.early.open, anyName)
			}
		}
		if !known || !r.identifier(id, one) || slices.Contains(ids, id) {
			if known && slices.Contains(ids, id) || one.Kind == List || one.Kind == Map {
				r.diags.Errorf(one.Pos, "Template error: the identifiers of a Fn::ForEach must be texts that differ")
			}
			return nil
		}
		ids = append(ids, id)
	}
	return ids
}

// identifier judges a name that stands for an item.
func (r *reader) identifier(id string, v *Value) bool {
	if !alphanumeric.MatchString(id) {
		r.diags.Errorf(v.Pos, "Template error: identifier %q of a Fn::ForEach is not alphanumeric", id).Allowed = "letters and digits"
		return false
	}
	if r.t.Parameters[id] != nil {
		r.diags.Errorf(v.Pos, "Template error: identifier %s of a Fn::ForEach has the name of a parameter", id).Hint = "rename the identifier"
		return false
	}
	for _, outer := range r.nest {
		if slices.Contains(outer, id) {
			r.diags.Errorf(v.Pos, "Template error: identifier %s is the one of a loop around this one", id).Hint = "rename one of them"
			return false
		}
	}
	return true
}

// collection gives the items of a loop, each with as many parts as there are
// identifiers; the second answer is false if they can be others when Bind has
// the values of all parameters.
func (r *reader) collection(n *yaml.Node, parts, depth int) ([][]string, bool) {
	v := r.value(n, false, depth+1)
	if v == nil {
		return nil, true // reported
	}
	if v.Kind == Map { // its keys and values are the items
		list := &Value{Kind: List, Pos: v.Pos}
		for _, e := range v.Entries {
			list.Items = append(list.Items, &Value{Kind: List, Pos: e.Pos, Items: []*Value{{Kind: Text, Pos: e.Pos, Text: e.Key}, e.Value}})
		}
		v = list
	}
	value, known := r.early(v)
	if !known {
		return [][]string{slices.Repeat([]string{sample}, parts)}, false
	}
	list, ok := value.([]any)
	if !ok {
		r.diags.Errorf(v.Pos, "Template error: the collection of a Fn::ForEach must be a list, found %s", describe(value))
		return nil, true
	}
	if parts == 1 { // a list among the items, such as a Ref to a list, gives its own
		var flat []any
		for _, item := range list {
			flat = append(flat, each(item)...)
		}
		list = flat
	}
	items := make([][]string, 0, len(list))
	for _, item := range list {
		var texts []string
		for _, part := range each(item) {
			if text, ok := part.(string); ok {
				texts = append(texts, text)
			}
		}
		if len(texts) != parts || len(each(item)) != parts {
			r.diags.Errorf(v.Pos, "Template error: every item of a Fn::ForEach must have one text for each of its %d identifiers", parts)
			return nil, true
		}
		items = append(items, texts)
	}
	return items, !r.tentative(v)
}

// openNames keeps the names that a loop over unknown items can make.
func (r *reader) openNames(body *yaml.Node, ids []string) {
	for i := 0; i+1 < len(body.Content); i += 2 {
		key := body.Content[i].Value
		if strings.HasPrefix(key, loopKey) {
			r.t.early.open = append(r.t.early.open, anyName)
			continue
		}
		pattern := regexp.QuoteMeta(key)
		for _, id := range ids {
			for _, mark := range []string{"${" + id + "}", "&{" + id + "}"} {
				pattern = strings.ReplaceAll(pattern, regexp.QuoteMeta(mark), ".*")
			}
		}
		if re, err := regexp.Compile("^" + pattern + "$"); err == nil { // quoted texts always compile
			r.t.early.open = append(r.t.early.open, re)
		}
	}
}

var notAlphanumeric = regexp.MustCompile(`[^A-Za-z0-9]`)

// writer copies a loop's body for one item: ${Id}, &{Id} and Ref of each
// identifier are replaced.
type writer struct {
	r     *reader
	items map[string]string // by identifier
	marks *strings.Replacer
}

func newWriter(r *reader, ids, item []string) *writer {
	w := &writer{r: r, items: map[string]string{}}
	var marks []string
	for i, id := range ids {
		w.items[id] = item[i]
		marks = append(marks, "${"+id+"}", item[i], "&{"+id+"}", notAlphanumeric.ReplaceAllString(item[i], ""))
	}
	w.marks = strings.NewReplacer(marks...)
	return w
}

func (w *writer) node(n *yaml.Node, depth int) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if w.r.tooMuch(n, 1, depth) {
		return &yaml.Node{Kind: n.Kind, Tag: "!!null", Line: n.Line, Column: n.Column}
	}
	if item, isRef := w.ref(n); isRef {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: item, Line: n.Line, Column: n.Column}
	}
	c := w.r.like(n)
	c.Value = w.marks.Replace(n.Value)
	w.r.bytes += len(c.Value)
	if w.r.bytes > maxLoopBytes {
		w.r.tooMuch(n, w.r.mostValues(), depth)
	}
	c.Content = make([]*yaml.Node, len(n.Content))
	for i, inner := range n.Content {
		c.Content[i] = w.node(inner, depth+1)
	}
	return c
}

// ref gives the item's part if n is a Ref to an identifier, in either form.
func (w *writer) ref(n *yaml.Node) (string, bool) {
	name := ""
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!Ref":
		name = n.Value
	case n.Kind == yaml.MappingNode && len(n.Content) == 2 && n.Content[0].Value == "Ref" && n.Content[1].Kind == yaml.ScalarNode:
		name = n.Content[1].Value
	}
	item, isRef := w.items[name]
	return item, isRef && name != ""
}

// plain follows an alias.
func plain(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}
