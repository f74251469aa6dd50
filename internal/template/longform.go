package template

import (
	"bytes"
	"encoding/json"

	"go.yaml.in/yaml/v4"

	"makeitso/internal/diag"
)

// longForm writes nodes as JSON, the short forms of functions as long ones.
// Mistakes are reported; the JSON is then not whole.
func (r *reader) longForm(n *yaml.Node, depth int) json.RawMessage {
	var b bytes.Buffer
	r.writeLong(&b, n, depth)
	return b.Bytes()
}

func (r *reader) writeLong(b *bytes.Buffer, n *yaml.Node, depth int) {
	if b.Len() > maxTransformed || r.tooMuch(n, 1, depth) {
		return
	}
	switch {
	case n.Kind == yaml.AliasNode:
		r.writeLong(b, n.Alias, depth+1)
	case isShort(n):
		r.writeLong(b, r.long(n), depth)
	case n.Kind == yaml.MappingNode:
		pairs := r.pairs(n, depth)
		if !r.writeExtension(b, n, pairs, depth) {
			writeMap(b, pairs, func(p pair) { r.writeLong(b, p.value, depth+1) })
		}
	case n.Kind == yaml.SequenceNode:
		b.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			r.writeLong(b, item, depth+1)
		}
		b.WriteByte(']')
	default:
		b.WriteString(r.scalarJSON(n))
	}
}

// scalarJSON keeps numbers, booleans and null what they are.
func (r *reader) scalarJSON(n *yaml.Node) string {
	text := r.text(n)
	switch {
	case n.ShortTag() == "!!null":
		return "null"
	case isBare(n) && text == n.Value, text != n.Value: // yes and off are booleans too
		return text
	}
	return jsonText(text)
}

// answered turns what a macro answers into nodes. What stands where it stood in
// the fragment keeps its place, and what is new has the nearest, so that
// messages speak of the template that somebody wrote.
func (x *expansion) answered(answer json.RawMessage, u use, fragment *yaml.Node, depth int) *yaml.Node {
	d := json.NewDecoder(bytes.NewReader(answer))
	d.UseNumber()
	a := answers{expansion: x, d: d, macro: u.name.Value, fresh: &diag.Pos{File: x.file, By: "macro " + u.name.Value}}
	at := fragment
	if len(fragment.Content) == 0 { // it was given nothing to work on
		at = u.node
	}
	return a.node(at, at == fragment, depth)
}

// answers reads one answer, which is valid JSON.
type answers struct {
	*expansion
	d     *json.Decoder
	macro string
	fresh *diag.Pos // the origin of what is new
}

func (a *answers) token() json.Token {
	t, _ := a.d.Token() // it was found valid
	return t
}

// node reads one value. at is where it stands; same says that at is what stood
// there before.
func (a *answers) node(at *yaml.Node, same bool, depth int) *yaml.Node {
	at = plain(at)
	if isShort(at) {
		at = a.long(at)
	}
	n := &yaml.Node{Kind: yaml.ScalarNode}
	switch t := a.token().(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
		if t == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
	case string:
		n.Tag, n.Style, n.Value = "!!str", yaml.DoubleQuotedStyle, t
	case json.Number:
		n.Value = t.String()
	case bool:
		n.Value = "false"
		if t {
			n.Value = "true"
		}
	default:
		n.Tag, n.Value = "!!null", "null"
	}
	same = same && at.Kind == n.Kind && at.Value == n.Value
	a.place(n, at, same)
	if a.tooMuch(n, 1, depth) {
		return n
	}
	switch n.Kind {
	case yaml.MappingNode:
		a.members(n, at, same, depth)
	case yaml.SequenceNode:
		for i := 0; a.d.More() && !a.diags.HasErrors(); i++ {
			if same && i < len(at.Content) {
				n.Content = append(n.Content, a.node(at.Content[i], true, depth+1))
			} else {
				n.Content = append(n.Content, a.node(at, false, depth+1))
			}
		}
		a.token() // its end
	}
	return n
}

func (a *answers) members(n, at *yaml.Node, same bool, depth int) {
	for a.d.More() && !a.diags.HasErrors() {
		name, _ := a.token().(string) // a key is one
		key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: name}
		was, value := at, at
		for i := 0; same && i+1 < len(at.Content); i += 2 {
			if at.Content[i].Value == name {
				was, value = at.Content[i], at.Content[i+1]
			}
		}
		a.place(key, was, was != at)
		if name == macroKey {
			a.nested(a.pos(key), a.macro, macroKey)
			return
		}
		n.Content = append(n.Content, key, a.node(value, was != at, depth+1))
	}
	a.token() // its end
}

// place gives n the place of another node.
func (a *answers) place(n, at *yaml.Node, same bool) {
	n.Line, n.Column = at.Line, at.Column
	origin, brought := a.origins[at]
	if !same {
		file := a.file
		if brought {
			file = origin.File
		}
		if a.fresh.File != file { // most share one
			a.fresh = &diag.Pos{File: file, By: "macro " + a.macro}
		}
		origin, brought = a.fresh, true
	}
	if brought {
		a.origins[n] = origin
	}
}
