package template

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

func (r *resolver) zones(region string) any {
	names := []string{region + "a", region + "b", region + "c"}
	if r.s.Zones != nil {
		names = r.s.Zones(region)
	}
	list := make([]any, len(names))
	for i, name := range names {
		list[i] = name
	}
	return list
}

func (r *resolver) stackOutput(v *Value) any {
	args := [3]string{}
	for i, item := range v.Items {
		if unknown := r.onText(v, item, func(s string) any { args[i] = s; return nil }); unknown != nil {
			return unknown
		}
	}
	if r.s.StackOutput == nil {
		r.diags.Errorf(v.Pos, "Fn::GetStackOutput: there are no other stacks here")
		return Unknown{Because: args[0] + "." + args[1]}
	}
	value, err := r.s.StackOutput(args[0], args[1], args[2])
	if err != nil {
		r.diags.Errorf(v.Pos, "%v", err)
		return Unknown{Because: args[0] + "." + args[1]}
	}
	return value
}

// toJSON writes the argument of a Fn::ToJsonString, keys in the order of the
// source. It is Unknown if any part is.
func (r *resolver) toJSON(v *Value) any {
	var b bytes.Buffer
	if unknown := r.writeJSON(&b, v.Items[0]); unknown != nil {
		return unknown
	}
	return r.made(v, b.String())
}

// writeJSON answers nil, or what the text waits for.
func (r *resolver) writeJSON(b *bytes.Buffer, v *Value) any {
	v = r.taken(v)
	switch {
	case v.Kind == Text && v.bare:
		b.WriteString(v.Text)
		return nil
	case v.Kind == List:
		return r.writeList(b, v)
	case v.Kind == Map:
		return r.writeMap(b, v)
	}
	value := r.value(v)
	if unknown := firstUnknown(value); unknown != nil {
		return unknown
	}
	b.WriteString(jsonText(value))
	return nil
}

func (r *resolver) writeList(b *bytes.Buffer, v *Value) any {
	b.WriteByte('[')
	first := true
	for _, item := range v.Items {
		if r.isNone(item) {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		if unknown := r.writeJSON(b, item); unknown != nil {
			return unknown
		}
	}
	b.WriteByte(']')
	return nil
}

func (r *resolver) writeMap(b *bytes.Buffer, v *Value) any {
	b.WriteByte('{')
	first := true
	for _, e := range v.Entries {
		if r.isNone(e.Value) {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		b.WriteString(jsonText(e.Key))
		b.WriteByte(':')
		if unknown := r.writeJSON(b, e.Value); unknown != nil {
			return unknown
		}
	}
	b.WriteByte('}')
	return nil
}

// isNone says whether v is AWS::NoValue, seen through Fn::If.
func (r *resolver) isNone(v *Value) bool {
	return r.taken(v).isNoValue()
}

// taken follows the branches of Fn::If.
func (r *resolver) taken(v *Value) *Value {
	for v.Kind == Call && v.Func == "Fn::If" {
		r.named(v.Items[0].Text)
		v = v.branch(r.s.Conditions)
	}
	return v
}

// jsonText writes a resolved value without escaping what only HTML needs.
func jsonText(value any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil { // texts, lists and maps can always be written
		return text(value)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// firstUnknown gives an Unknown in a resolved value, nil if there is none.
func firstUnknown(value any) any {
	switch value := value.(type) {
	case Unknown:
		return value
	case []any:
		for _, item := range value {
			if u := firstUnknown(item); u != nil {
				return u
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			if u := firstUnknown(value[key]); u != nil {
				return u
			}
		}
	}
	return nil
}
