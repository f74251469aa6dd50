package template

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
)

// MacroRequest is one question to a macro: what it is to work on, and what it
// may know. Two questions that are equal are one.
type MacroRequest struct {
	Name       string          `json:"name"`
	Place      string          `json:"place"`      // where the template names it
	Fragment   json.RawMessage `json:"fragment"`   // with functions in their long form
	Params     json.RawMessage `json:"params"`     // what it is given there
	Parameters map[string]any  `json:"parameters"` // the values of the template's parameters
	Secrets    []string        `json:"-"`          // what of those may not be shown
}

// Limits of what macros may make of a template.
const (
	maxMacros      = 100
	maxTransformed = 16 << 20 // bytes, of all that macros are given and answer
)

const macroKey = "Fn::Transform"

// ofAccount says whether a transform is a macro, and none of CloudFormation's own.
func ofAccount(name string) bool { return !strings.HasPrefix(name, "AWS::") }

// use is one place where a transform is named.
type use struct {
	node   *yaml.Node // the whole
	name   *yaml.Node // a text
	params *yaml.Node // nil if there are none
}

const nameMessage = "Template format error: Key Name of transform definition must be a string."

// uses reads the name of a transform, {Name: …, Parameters: {…}}, or a list of
// such. What has a mistake is reported and left out.
func (r *reader) uses(n *yaml.Node, depth int) []use {
	n = plain(n)
	all := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode && !isShort(n) {
		all = n.Content
	}
	var found []use
	for _, one := range all {
		u := use{node: plain(one)}
		switch {
		case isText(u.node):
			u.name = u.node
		case u.node.Kind == yaml.MappingNode && !isShort(u.node):
			r.namedUse(&u, depth)
		}
		if u.name == nil || !isText(u.name) || u.name.Value == "" {
			r.diags.Errorf(r.pos(u.node), nameMessage)
			continue
		}
		found = append(found, u)
	}
	return found
}

func (r *reader) namedUse(u *use, depth int) {
	for _, p := range r.pairs(u.node, depth) {
		switch p.key {
		case "Name":
			u.name = plain(p.value)
		case "Parameters":
			u.params = plain(p.value)
		default:
			r.diags.Errorf(p.pos, "Template format error: unknown key %s of a transform", p.key).Allowed = "Name, Parameters"
		}
	}
}

// isText says whether n is a text and no function's short form.
func isText(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" && !isShort(n)
}

// isShort says whether n has the tag of a function.
func isShort(n *yaml.Node) bool {
	return strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") && len(n.Tag) > 1
}

// namesMacros says whether a macro is named anywhere in a template.
func namesMacros(root *yaml.Node) bool {
	seen := map[*yaml.Node]bool{}
	var anywhere func(n *yaml.Node) bool
	anywhere = func(n *yaml.Node) bool {
		n = plain(n)
		if n.Anchor != "" && seen[n] { // only what has one is met twice
			return false
		}
		if n.Anchor != "" {
			seen[n] = true
		}
		return n.Tag == "!Transform" && namesMacro(n) || n.Kind == yaml.MappingNode && namesMacro(child(n, macroKey)) || slices.ContainsFunc(n.Content, anywhere)
	}
	return namesMacro(child(root, "Transform")) || anywhere(root)
}

// namesMacro is namesMacros for the uses at one place.
func namesMacro(n *yaml.Node) bool {
	switch {
	case n == nil:
		return false
	case n.Kind == yaml.SequenceNode:
		return slices.ContainsFunc(n.Content, func(one *yaml.Node) bool {
			one = plain(one)
			return one.Kind != yaml.SequenceNode && namesMacro(one)
		})
	case n.Kind == yaml.MappingNode:
		n = child(n, "Name")
	}
	return n != nil && n.Kind == yaml.ScalarNode && n.Value != "" && ofAccount(n.Value)
}

// parametersFirst reads of a template with macros only what these must be told:
// what else there will be is known when they have answered.
func (p *parser) parametersFirst(root *yaml.Node) {
	p.t.early.late = true
	p.literal = true
	sections := p.pairs(root, 0)
	p.literal = false
	for _, s := range sections {
		if s.key == "Parameters" {
			p.members(s, p.parameter)
		}
	}
	p.diags = slices.DeleteFunc(p.diags, func(d diag.Diagnostic) bool { return d.Severity == diag.Warning }) // they come again
}

// expansion carries out the macros of a template. It works on the nodes, before
// any meaning is read from them, since only what the last macro answers must
// be a template.
type expansion struct {
	*reader
	bound   map[string]any
	secrets []string // among what is bound
	done    map[site]*yaml.Node
}

// site is a node, and whether it lies in what a macro is given: there the
// service's own transforms are carried out first too.
type site struct {
	n      *yaml.Node
	inside bool
}

// expand gives the template that its macros make, nil if they make none. former
// is the template as far as it is known, with the values of its parameters.
func (p *parser) expand(root *yaml.Node, former *Template, bound map[string]any) *yaml.Node {
	p.t.Parameters, p.t.early.bound, p.literal = former.Parameters, bound, true
	x := &expansion{reader: &p.reader, bound: bound, secrets: former.Secrets(bound), done: map[site]*yaml.Node{}}
	whole := x.whole(root)
	p.t.Parameters, p.t.early.bound, p.literal = map[string]*Parameter{}, nil, false
	if p.diags.HasErrors() {
		return nil
	}
	p.values = 0
	return whole
}

// whole carries out the nested macros, then those of the section Transform.
func (x *expansion) whole(root *yaml.Node) *yaml.Node {
	body, section := x.without(root, "Transform"), child(root, "Transform")
	var macros, others []use
	if section != nil {
		for _, u := range x.uses(section, 0) {
			if ofAccount(u.name.Value) {
				macros = append(macros, u)
			} else {
				others = append(others, u)
			}
		}
	}
	if body = x.node(body, len(macros) > 0, 0); body.Kind != yaml.MappingNode {
		return x.noTemplate(root)
	}
	for _, u := range macros {
		if body = x.run(u, body, 0); x.diags.HasErrors() {
			return nil
		}
		if body.Kind != yaml.MappingNode {
			return x.noTemplate(u.name)
		}
		if child(body, "Transform") != nil {
			x.nested(x.pos(body), u.name.Value, "Transform")
		}
	}
	if len(others) == 0 {
		return body
	}
	rest := x.like(section)
	rest.Kind, rest.Tag, rest.Value, rest.Alias, rest.Content = yaml.SequenceNode, "!!seq", "", nil, nil
	for _, u := range others {
		rest.Content = append(rest.Content, u.node)
	}
	return x.with(body, pair{"Transform", x.pos(section), rest})
}

// noTemplate says that what a macro answered stands for a whole template and is
// none.
func (x *expansion) noTemplate(n *yaml.Node) *yaml.Node {
	x.diags.Errorf(x.pos(n), "Template format error: unsupported structure.").Hint = "a macro of the whole template answers with a template"
	return nil
}

// nested says that a macro's answer asks for a transform.
func (x *expansion) nested(pos diag.Pos, name, key string) {
	x.diags.Errorf(pos, "the answer of macro %s holds %s: what a macro answers cannot name transforms", name, key).
		Hint = "name them in the template, beside " + name
}

// node gives a node with the macros in it carried out, the node itself if there
// are none.
func (x *expansion) node(n *yaml.Node, inside bool, depth int) *yaml.Node {
	at := site{n, inside}
	if made, done := x.done[at]; done {
		return made
	}
	if x.diags.HasErrors() || x.tooMuch(n, 1, depth) {
		return n
	}
	x.done[at] = n // an alias to what it stands in ends here
	made := x.expanded(n, inside, depth)
	x.done[at] = made
	return made
}

func (x *expansion) expanded(n *yaml.Node, inside bool, depth int) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		if made := x.node(n.Alias, inside, depth+1); made != n.Alias {
			return made
		}
		return n
	}
	if n.Tag == "!Transform" {
		n = x.long(n)
	}
	here := child(n, macroKey)
	if here == nil || !inside && !namesMacro(here) {
		return x.inner(n, inside, depth)
	}
	fragment := x.inner(x.without(n, macroKey), true, depth)
	if x.diags.HasErrors() {
		return n
	}
	for _, u := range x.uses(here, depth) {
		if u.params != nil {
			u.params = x.node(u.params, true, depth+1)
		}
		fragment = x.run(u, fragment, depth)
	}
	return fragment
}

// inner is node for what stands below n.
func (x *expansion) inner(n *yaml.Node, inside bool, depth int) *yaml.Node {
	whole := n
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			continue
		}
		made := x.node(c, inside, depth+1)
		if made == c {
			continue
		}
		if whole == n {
			whole = x.like(n)
			whole.Content = slices.Clone(n.Content)
		}
		whole.Content[i] = made
	}
	return whole
}

// run carries out one transform and gives what stands in place of the fragment.
func (x *expansion) run(u use, fragment *yaml.Node, depth int) *yaml.Node {
	if x.diags.HasErrors() {
		return fragment
	}
	name := u.name.Value
	if ofAccount(name) {
		return x.ask(u, fragment, depth)
	}
	included := x.macro(u, depth)
	if fragment.Kind != yaml.MappingNode {
		x.diags.Errorf(x.pos(u.name), "Template error: what %s gives cannot stand beside what the macro before it has answered, which is no map", name)
		return fragment
	}
	return x.with(fragment, included...)
}

// ask hands a fragment to a macro and gives its answer.
func (x *expansion) ask(u use, fragment *yaml.Node, depth int) *yaml.Node {
	pos, name := x.pos(u.name), u.name.Value
	if x.macros++; x.macros > maxMacros {
		x.diags.Errorf(pos, "Template error: more than %d macros", maxMacros)
		return fragment
	}
	params, ok := x.params(u, depth)
	if !ok {
		return fragment
	}
	read := x.values
	x.values = 0 // what is handed over is bounded by its bytes, what is answered counts
	given := x.longForm(fragment, depth)
	if x.diags.HasErrors() || x.tooLarge(pos, len(given)) {
		return fragment
	}
	x.values = read
	place := pos
	if place.By = ""; place.File == x.file { // a template may be read under another name later
		place.File = ""
	}
	answer, err := x.options.Macro(MacroRequest{Name: name, Place: strings.TrimPrefix(place.String(), ":"), Fragment: given, Params: params, Parameters: x.bound, Secrets: x.secrets})
	switch {
	case err != nil:
		x.diags.Errorf(pos, "%v", err).Hint = fault.HintOf(err)
	case x.tooLarge(pos, len(answer)): // reported
	case !json.Valid(answer):
		x.diags.Errorf(pos, "the answer of macro %s is no JSON", name)
	default:
		return x.answered(answer, u, fragment, depth)
	}
	return fragment
}

// tooLarge counts bytes given to macros or answered by them.
func (x *expansion) tooLarge(pos diag.Pos, bytes int) bool {
	if x.transformed += bytes; x.transformed <= maxTransformed {
		return false
	}
	x.diags.Errorf(pos, "Transformation data limit exceeded").Hint = "macros of one template may take and give 16 MB together"
	return true
}

// params gives the parameters of a macro with their values.
func (x *expansion) params(u use, depth int) (json.RawMessage, bool) {
	if u.params == nil {
		return json.RawMessage("{}"), true
	}
	v := x.value(u.params, false, depth+1)
	if v == nil {
		return nil, false
	}
	if v.Kind != Map {
		x.diags.Errorf(v.Pos, "Template format error: Parameters of a transform must be an object")
		return nil, false
	}
	var b bytes.Buffer
	for _, e := range v.Entries {
		before := len(x.diags)
		conditional := false
		walk(e.Value, nil, func(f *Value) { conditional = conditional || f.Func == "Fn::If" })
		text, known := x.early(&Value{Kind: Call, Pos: e.Value.Pos, Func: "Fn::ToJsonString", Items: []*Value{e.Value}})
		if known && !conditional {
			b.WriteString("," + jsonText(e.Key) + ":" + text.(string)) // it always gives a text
			continue
		}
		hint := ""
		if conditional {
			hint = "conditions are decided when macros have answered"
		} else if len(x.diags) > before {
			hint = x.diags[before].Summary
		}
		x.diags = x.diags[:before]
		x.diags.Errorf(e.Value.Pos, "The value of parameter %s under transform %s must resolve to a string, number, boolean or a list of any of these.", e.Key, u.name.Value).Hint = hint
		return nil, false
	}
	return json.RawMessage("{" + strings.TrimPrefix(b.String(), ",") + "}"), true
}

// without gives a mapping without one of its keys.
func (x *expansion) without(n *yaml.Node, key string) *yaml.Node {
	rest := x.like(n)
	rest.Content = nil
	found := false
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != key {
			rest.Content = append(rest.Content, n.Content[i], n.Content[i+1])
			continue
		}
		if found {
			x.diags.Errorf(x.pos(n.Content[i]), "key %q stands twice", key).Hint = "give Fn::Transform a list"
		}
		found = true
	}
	return rest
}

// with gives a mapping with more entries.
func (x *expansion) with(n *yaml.Node, more ...pair) *yaml.Node {
	whole := x.like(n)
	whole.Content = slices.Clone(n.Content)
	for _, p := range more {
		key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: p.key, Line: p.pos.Line, Column: p.pos.Column}
		x.origins[key] = &p.pos
		whole.Content = append(whole.Content, key, p.value)
	}
	return whole
}
