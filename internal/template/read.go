package template

import (
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"makeitso/internal/diag"
)

// Limits of a source, far above CloudFormation's own, so that aliases of
// aliases cannot fill the memory.
const (
	maxValues = 500_000
	maxDepth  = 100
)

// reader turns YAML nodes into values.
type reader struct {
	file   string
	json   bool
	diags  diag.List
	values int

	t         *Template
	options   Options
	final     bool // all parameters have their values
	src       []byte
	section   string     // the section being read
	nest      [][]string // the identifiers of the loops being written out
	bytes     int        // of what loops have written out
	fragments int
	origins   map[*yaml.Node]*diag.Pos // of nodes that AWS::Include or a macro brought; they have lines of their own
	literal   bool                     // loops and transforms are left as they are written

	macros      int // that were asked
	transformed int // bytes that they were given and have answered
}

// document parses src up to the root mapping; nil if there is none.
func (r *reader) document(src []byte) *yaml.Node {
	r.json = strings.HasPrefix(strings.TrimSpace(string(src)), "{")
	var doc yaml.Node
	if err := yaml.Unmarshal(src, &doc); err != nil {
		r.syntax(err)
		return nil
	}
	if doc.Kind == 0 || len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		r.diags.Errorf(diag.Pos{File: r.file, Line: 1, Column: 1}, "Template format error: unsupported structure.").
			Hint = "a template is a map with at least Resources"
		return nil
	}
	return doc.Content[0]
}

var lineOfMessage = regexp.MustCompile(`line (\d+)`)

func (r *reader) syntax(err error) {
	pos := diag.Pos{File: r.file}
	message := err.Error()
	var load *yaml.LoadError
	if errors.As(err, &load) {
		pos.Line, pos.Column = load.Mark.Line, load.Mark.Column+1
		message = load.Message
	}
	if m := lineOfMessage.FindStringSubmatch(err.Error()); m != nil && pos.Line == 0 {
		pos.Line, _ = strconv.Atoi(m[1]) // the pattern gives digits only
	}
	format := "YAML"
	if r.json {
		format = "JSON"
	}
	r.diags.Errorf(pos, "Template format error: %s not well-formed. (line %d, column %d): %s", format, pos.Line, pos.Column, message)
}

func (r *reader) pos(n *yaml.Node) diag.Pos {
	pos := diag.Pos{File: r.file}
	if origin, brought := r.origins[n]; brought {
		pos = *origin
	}
	pos.Line, pos.Column = n.Line, n.Column
	return pos
}

// tooMuch counts what is read and says, once, when it is more than a template
// can be.
func (r *reader) tooMuch(n *yaml.Node, values, depth int) bool {
	most := r.mostValues()
	if r.values > most {
		return true
	}
	if r.values += values; r.values <= most && depth <= maxDepth {
		return false
	}
	r.diags.Errorf(r.pos(n), "Template format error: more than %d values, or nested more than %d deep", most, maxDepth)
	r.values = most + 1
	return true
}

// mostValues is how many values there may be: as many as can be written out in
// the source, however long it is, and maxValues where aliases and loops make
// them.
func (r *reader) mostValues() int { return max(maxValues, len(r.src)) }

// pair is a key of a mapping node and its value.
type pair struct {
	key   string
	pos   diag.Pos
	value *yaml.Node
}

// pairs gives the entries of a mapping with merges applied, loops written out
// and fragments included, and reports keys that stand twice.
func (r *reader) pairs(n *yaml.Node, depth int) []pair {
	if r.tooMuch(n, len(n.Content)/2, depth) {
		return nil
	}
	var all []pair
	at := map[string]int{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.ShortTag() == "!!merge" {
			merged = append(merged, value)
			continue
		}
		if key.Kind != yaml.ScalarNode {
			r.diags.Errorf(r.pos(key), "Template format error: a key is a text, not a map or a list")
			continue
		}
		for _, p := range r.standsFor(pair{key.Value, r.pos(key), value}, depth) {
			if first, twice := at[p.key]; twice {
				r.diags.Errorf(p.pos, "key %q stands twice, first in line %d", p.key, all[first].pos.Line).Hint = "remove or rename one"
				continue
			}
			at[p.key] = len(all)
			all = append(all, p)
		}
	}
	for _, m := range merged {
		for _, p := range r.mergeSources(m, depth) {
			if _, has := at[p.key]; !has {
				at[p.key] = len(all)
				all = append(all, p)
			}
		}
	}
	return all
}

// standsFor gives the entries that one entry stands for: itself, or what a loop
// or a fragment makes.
func (r *reader) standsFor(p pair, depth int) []pair {
	switch {
	case r.literal:
	case strings.HasPrefix(p.key, loopKey):
		return r.loop(p, depth)
	case p.key == macroKey:
		var all []pair
		for _, u := range r.uses(p.value, depth+1) {
			all = append(all, r.macro(u, depth+1)...)
		}
		return all
	}
	return []pair{p}
}

func (r *reader) mergeSources(n *yaml.Node, depth int) []pair {
	if r.tooMuch(n, 1, depth) {
		return nil
	}
	switch n.Kind {
	case yaml.AliasNode:
		return r.mergeSources(n.Alias, depth+1)
	case yaml.MappingNode:
		return r.pairs(n, depth+1)
	case yaml.SequenceNode:
		var all []pair
		for _, item := range n.Content {
			all = append(all, r.mergeSources(item, depth+1)...)
		}
		return all
	}
	r.diags.Errorf(r.pos(n), "Template format error: << merges maps only")
	return nil
}

// value reads one value and what is below it; nil if it had a mistake that
// leaves nothing to go on with. In conditions, {Condition: name} is a function.
func (r *reader) value(n *yaml.Node, conditions bool, depth int) *Value {
	if r.tooMuch(n, 1, depth) {
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return r.value(n.Alias, conditions, depth+1)
	}
	if tag := n.Tag; strings.HasPrefix(tag, "!") && !strings.HasPrefix(tag, "!!") && len(tag) > 1 {
		return r.short(n, tag[1:], conditions, depth)
	}
	switch n.Kind {
	case yaml.SequenceNode:
		v := &Value{Kind: List, Pos: r.pos(n)}
		for _, item := range n.Content {
			if x := r.value(item, conditions, depth+1); x != nil {
				v.Items = append(v.Items, x)
			}
		}
		return v
	case yaml.MappingNode:
		return r.mapping(n, conditions, depth)
	}
	if n.ShortTag() == "!!null" {
		r.diags.Errorf(r.pos(n), "'null' values are not allowed in templates").Hint = "write a value, remove the key, or use !Ref AWS::NoValue"
		return nil
	}
	return &Value{Kind: Text, Pos: r.pos(n), Text: r.text(n), bare: isBare(n)}
}

// isBare says whether a scalar is a number or a boolean where JSON is made of it.
func isBare(n *yaml.Node) bool {
	switch n.ShortTag() {
	case "!!int", "!!float", "!!bool":
		return json.Valid([]byte(n.Value))
	}
	return false
}

// text gives a scalar as CloudFormation hands it on: YAML 1.1's plain yes, no,
// on and off are booleans.
func (r *reader) text(n *yaml.Node) string {
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return n.Value
	}
	switch strings.ToLower(n.Value) {
	case "yes", "on", "true":
		return "true"
	case "no", "off", "false":
		return "false"
	}
	return n.Value
}

func (r *reader) mapping(n *yaml.Node, conditions bool, depth int) *Value {
	unready := len(r.t.early.unready)
	pairs := r.pairs(n, depth)
	if len(r.t.early.unready) > unready && child(n, macroKey) != nil {
		return &Value{Kind: Call, Pos: r.pos(n), Func: macroKey} // anything may come of it
	}
	for _, p := range pairs {
		isCall := p.key == "Ref" || strings.HasPrefix(p.key, "Fn::") || conditions && p.key == "Condition"
		if !isCall {
			continue
		}
		if len(pairs) > 1 {
			r.diags.Errorf(p.pos, "function %s stands beside other keys", p.key).Hint = "a function is a map with that one key"
			return nil
		}
		return r.call(p.key, p.pos, p.value, conditions, depth)
	}
	v := &Value{Kind: Map, Pos: r.pos(n), Entries: make([]Entry, 0, len(pairs))}
	for _, p := range pairs {
		if x := r.value(p.value, conditions, depth+1); x != nil {
			v.Entries = append(v.Entries, Entry{Key: p.key, Pos: p.pos, Value: x})
		}
	}
	return v
}

// short reads a value with a tag, e.g. !Sub text.
func (r *reader) short(n *yaml.Node, tag string, conditions bool, depth int) *Value {
	name := longName(tag)
	if _, ok := functions[name]; !ok {
		if strings.Contains(tag, "::") { // a tool's own directive, which it takes away before the service sees it
			r.diags.Warnf(r.pos(n), "tag !%s is of another tool", tag).Hint = "the template is judged without it and cannot be applied before that tool has written it out"
			r.t.early.unready = append(r.t.early.unready, unready{r.pos(n), "tag !" + tag + " is of another tool, which must write the template out first"})
			return &Value{Kind: Call, Pos: r.pos(n), Func: macroKey}
		}
		short := make([]string, 0, len(functions))
		for f := range functions {
			short = append(short, "!"+strings.TrimPrefix(f, "Fn::"))
		}
		d := r.diags.Errorf(r.pos(n), "unknown tag !%s", tag)
		d.Allowed = "the short forms of functions, such as !Ref, !GetAtt, !Sub"
		d.Hint = didYouMean("!"+tag, short)
		return nil
	}
	if name == macroKey {
		return r.mapping(r.long(n), conditions, depth+1)
	}
	return r.call(name, r.pos(n), r.untagged(n), conditions, depth)
}

// long gives the mapping that a short form stands for.
func (r *reader) long(n *yaml.Node) *yaml.Node {
	long, key, arg := r.like(n), r.like(n), r.untagged(n)
	long.Kind, long.Tag, long.Style, long.Value = yaml.MappingNode, "!!map", 0, ""
	key.Kind, key.Tag, key.Style, key.Value, key.Content = yaml.ScalarNode, "!!str", yaml.DoubleQuotedStyle, longName(n.Tag[1:]), nil
	if id, attribute, both := strings.Cut(n.Value, "."); both && n.Tag == "!GetAtt" {
		arg.Kind, arg.Tag, arg.Style, arg.Value = yaml.SequenceNode, "!!seq", 0, ""
		for _, text := range []string{id, attribute} {
			part := r.untagged(n)
			part.Value = text
			arg.Content = append(arg.Content, part)
		}
	}
	long.Content = []*yaml.Node{key, arg}
	return long
}

// longName gives the full name of a function by its tag.
func longName(tag string) string {
	if tag == "Ref" || tag == "Condition" {
		return tag
	}
	return "Fn::" + tag
}

// like gives a copy of a node that stands at the same place.
func (r *reader) like(n *yaml.Node) *yaml.Node {
	c := *n
	if origin, brought := r.origins[n]; brought {
		r.origins[&c] = origin
	}
	return &c
}

// untagged gives a node without its short form's tag.
func (r *reader) untagged(n *yaml.Node) *yaml.Node {
	plain := r.like(n)
	plain.Tag, plain.Style = "", n.Style&^yaml.TaggedStyle
	if n.Kind == yaml.ScalarNode { // a name such as On is no boolean here
		plain.Tag, plain.Style = "!!str", yaml.DoubleQuotedStyle
	}
	return plain
}

// call reads a function's argument and brings it into its one shape.
func (r *reader) call(name string, pos diag.Pos, arg *yaml.Node, conditions bool, depth int) *Value {
	f, ok := functions[name]
	if !ok {
		r.diags.Errorf(pos, "unknown function %s", name).Hint = didYouMean(name, functionNames())
		return nil
	}
	v := r.value(arg, conditions || f.condition, depth+1)
	if v == nil {
		return nil
	}
	if f.extension && !r.t.early.extensions {
		r.diags.Errorf(pos, "Template error: %s needs Transform: AWS::LanguageExtensions", name).Hint = "add Transform: AWS::LanguageExtensions to the template"
	}
	call := &Value{Kind: Call, Pos: pos, Func: name, arg: v}
	if f.name {
		if v = r.nameOf(v); v == nil {
			return &Value{Kind: Call, Pos: pos, Func: macroKey} // known when the values are
		}
	}
	call.Items = f.shape(v)
	if call.Items == nil {
		r.diags.Errorf(pos, "%s", f.message)
		return nil
	}
	if name == "Fn::Sub" {
		r.sub(call)
	}
	return call
}

// nameOf decides the functions in a name that Ref or Fn::GetAtt take: with
// LanguageExtensions they give one before there are resources. nil if it is
// not known yet.
func (r *reader) nameOf(v *Value) *Value {
	if !r.t.early.extensions {
		return v
	}
	switch {
	case v.Kind == List && len(v.Items) > 0 && v.Items[0].Kind == Call:
		name := r.nameOf(v.Items[0])
		if name == nil {
			return nil
		}
		return &Value{Kind: List, Pos: v.Pos, Items: append([]*Value{name}, v.Items[1:]...)}
	case v.Kind == Call:
		text, known := r.textEarly(v, "a name")
		if !known || r.tentative(v) {
			r.t.early.late = true
			return nil
		}
		return &Value{Kind: Text, Pos: v.Pos, Text: text}
	}
	return v
}

// didYouMean gives the hint with the nearest right spelling, "" if none is near.
func didYouMean(word string, candidates []string) string {
	if near := diag.Nearest(word, candidates); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}
