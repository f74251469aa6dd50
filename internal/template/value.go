// Package template is the CloudFormation language: it reads YAML and JSON into
// a tree with positions, binds parameters, decides conditions, resolves
// functions as far as what they refer to is known, and gives the graph of
// dependencies. It knows the language and nothing else: no state, no I/O, and
// not what any resource type means.
package template

import (
	"maps"
	"slices"

	"makeitso/internal/diag"
)

// Kind is what stands at a place of a template.
type Kind int

// The kinds of a Value.
const (
	Text Kind = iota // a scalar; numbers and booleans are texts too
	List
	Map
	Call // a function
)

// Value is a part of a template before it is resolved.
type Value struct {
	Kind    Kind
	Pos     diag.Pos
	Text    string   // Text
	Items   []*Value // List: the items; Call: the arguments, as many as the function takes
	Entries []Entry  // Map, in the order of the source
	Func    string   // Call: the function's full name, e.g. Ref, Fn::Sub

	pieces []piece // Fn::Sub: its text, taken apart
	arg    *Value  // Call: the argument as it is written
	bare   bool    // Text: a number or a boolean without quotes
}

// Entry is a key of a map and what it leads to.
type Entry struct {
	Key   string
	Pos   diag.Pos // of the key
	Value *Value
}

// Get gives the value under key, nil if v is no map or has no such key.
func (v *Value) Get(key string) *Value {
	if v == nil || v.Kind != Map {
		return nil
	}
	for i := range v.Entries {
		if v.Entries[i].Key == key {
			return v.Entries[i].Value
		}
	}
	return nil
}

// isMacro says whether v is what a macro or a tool gives that is not here.
func (v *Value) isMacro() bool { return v.Kind == Call && v.Func == "Fn::Transform" }

// Equal says whether two values are written the same, whatever their places.
// The order of a map's keys does not matter.
func (v *Value) Equal(w *Value) bool {
	if v == nil || w == nil {
		return v == w
	}
	if v.Kind != w.Kind || v.Text != w.Text || v.Func != w.Func || len(v.Items) != len(w.Items) || len(v.Entries) != len(w.Entries) {
		return false
	}
	for i := range v.Items {
		if !v.Items[i].Equal(w.Items[i]) {
			return false
		}
	}
	for _, e := range v.Entries {
		if other := w.Get(e.Key); other == nil || !e.Value.Equal(other) {
			return false
		}
	}
	return true
}

// Unknown is a resolved value that depends on something not there yet. It is
// never guessed: whatever is made with it is Unknown too.
type Unknown struct {
	// Because names what it waits for: a logical id or "id.attribute".
	Because string
}

// KnownAfterApply is how an Unknown is written in a change set.
const KnownAfterApply = "{{changeSet:KNOWN_AFTER_APPLY}}"

// MarshalJSON writes the service's mark for a value that is known later.
func (Unknown) MarshalJSON() ([]byte, error) { return []byte(`"` + KnownAfterApply + `"`), nil }

// Rewrite gives a copy of a resolved value in which leaf has had its way with
// every part that is no list and no map, in the order of lists and sorted keys.
func Rewrite(value any, leaf func(any) any) any {
	switch value := value.(type) {
	case []any:
		list := make([]any, len(value))
		for i, item := range value {
			list[i] = Rewrite(item, leaf)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(value))
		for _, key := range slices.Sorted(maps.Keys(value)) {
			m[key] = Rewrite(value[key], leaf)
		}
		return m
	}
	return leaf(value)
}

// HasUnknown says whether any part of a resolved value is Unknown.
func HasUnknown(v any) bool {
	switch v := v.(type) {
	case Unknown:
		return true
	case []any:
		for _, item := range v {
			if HasUnknown(item) {
				return true
			}
		}
	case map[string]any:
		for _, item := range v {
			if HasUnknown(item) {
				return true
			}
		}
	}
	return false
}
