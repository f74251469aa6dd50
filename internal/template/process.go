package template

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"go.yaml.in/yaml/v4"

	"makeitso/internal/diag"
)

// Process gives a template as its transforms leave it: macros have answered,
// fragments are included, loops are written out, and the functions of
// AWS::LanguageExtensions have their values where these do not depend on
// resources, secret parameters masked. It is JSON, with functions in their long
// form; a template that no transform touches is given as it is written.
func Process(file string, src []byte, o Options) ([]byte, diag.List) {
	var last *parser
	var sections []pair
	o.read = func(p *parser, all []pair) { last, sections = p, all }
	t, diags := ParseWith(file, src, o)
	if !diags.HasErrors() {
		_, more := t.Bind(o.Parameters)
		diags = append(diags, more...)
	}
	if diags.HasErrors() || last == nil {
		return nil, diags
	}
	if len(t.Transforms) == 0 && last.macros == 0 && last.fragments == 0 {
		return src, diags
	}
	last.final = true
	last.diags, last.values, last.bytes, last.fragments = nil, 0, 0, 0 // each was counted and reported once
	text := last.processed(sections)
	return text, append(diags, last.diags...)
}

// processed writes the sections of a template but Transform.
func (r *reader) processed(sections []pair) json.RawMessage {
	var kept []pair
	for _, name := range sectionNames {
		at := slices.IndexFunc(sections, func(s pair) bool { return s.key == name })
		if at >= 0 && name != "Transform" {
			kept = append(kept, sections[at])
		}
	}
	var b bytes.Buffer
	writeMap(&b, kept, func(s pair) {
		r.section = s.key
		if s.key != "Resources" {
			r.writeLong(&b, s.value, 0)
			return
		}
		writeMap(&b, r.pairs(plain(s.value), 0), func(member pair) { r.writeResource(&b, member) })
	})
	return b.Bytes()
}

// writeResource writes a resource with its policies as they were decided.
func (r *reader) writeResource(b *bytes.Buffer, member pair) {
	decided := r.t.Resources[member.key]
	writeMap(b, r.pairs(plain(member.value), 1), func(a pair) {
		policy := map[string]string{"DeletionPolicy": decided.DeletionPolicy, "UpdateReplacePolicy": decided.UpdateReplacePolicy}[a.key]
		if policy != "" {
			b.WriteString(jsonText(policy))
			return
		}
		r.writeLong(b, a.value, 2)
	})
}

// writeExtension writes what AWS::LanguageExtensions makes of a function: its
// value, or a name that was computed. False is for what it leaves as it is, for
// one because it has no value before there are resources.
func (r *reader) writeExtension(b *bytes.Buffer, n *yaml.Node, pairs []pair, depth int) bool {
	functions := []string{"Fn::FindInMap", "Fn::GetAtt", "Fn::Length", "Fn::ToJsonString", "Ref"}
	if !r.final || !r.t.early.extensions || len(pairs) != 1 || !slices.Contains(functions, pairs[0].key) {
		return false
	}
	before := len(r.diags)
	defer func() { r.diags = r.diags[:before] }() // what cannot be known yet is no mistake
	v := r.value(n, false, depth)
	switch {
	case v == nil || v.Kind != Call:
		return false
	case v.Func == "Ref":
		b.WriteString(jsonText(map[string]string{v.Func: v.Items[0].Text}))
		return true
	case v.Func == "Fn::GetAtt" && v.Items[1].Kind == Text:
		b.WriteString(jsonText(map[string][]string{v.Func: {v.Items[0].Text, v.Items[1].Text}}))
		return true
	case v.Func == "Fn::GetAtt":
		return false
	}
	bound := r.t.early.bound
	r.t.early.bound = r.masked(bound)
	value, known := r.early(v)
	r.t.early.bound = bound
	if !known {
		return false
	}
	if text, ok := value.(string); ok && v.Func == "Fn::Length" {
		b.WriteString(text)
		return true
	}
	b.WriteString(jsonText(value))
	return true
}

// masked gives the values of parameters without the secret ones.
func (r *reader) masked(bound map[string]any) map[string]any {
	shown := maps.Clone(bound)
	for name, d := range r.t.Parameters {
		if d.NoEcho {
			shown[name] = "****"
		}
	}
	return shown
}

// writeMap writes a map as JSON; write writes the value of an entry.
func writeMap(b *bytes.Buffer, pairs []pair, write func(pair)) {
	b.WriteByte('{')
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(jsonText(p.key) + ":")
		write(p)
	}
	b.WriteByte('}')
}
