package registry

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Difference is one property that is not as it was set.
type Difference struct {
	Type     string `json:"type"` // ADD, REMOVE, NOT_EQUAL
	Path     string `json:"path"` // a JSON pointer into the properties
	Expected any    `json:"expected,omitempty"`
	Actual   any    `json:"actual,omitempty"`
}

// Differences compares properties that were set with those that are. What was
// not set and what cannot be read is not looked at, as far as the first level
// goes; below it, what was added counts.
func (f Facts) Differences(expected, actual map[string]any) []Difference {
	return f.differences(nil, expected, actual)
}

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
			d.Type = "REMOVE"
			found = append(found, d)
		case !set:
			d.Type = "ADD"
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
	return []Difference{{Type: "NOT_EQUAL", Path: "/" + strings.Join(path, "/"), Expected: expected, Actual: actual}}
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
	if reflect.DeepEqual(x, y) {
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
