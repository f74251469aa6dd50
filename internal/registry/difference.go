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

// parts gives the names and indices that the path is made of.
func (d Difference) parts() []string {
	parts := strings.Split(d.Path, "/")[1:]
	for i, part := range parts {
		parts[i] = unescape.Replace(part)
	}
	return parts
}

// Property is the name of the property that differs, or in which something does.
func (d Difference) Property() string { return d.parts()[0] }

// In gives what properties have in the place of the difference, nil if there is
// nothing. Of what was added, that is what it was added to.
func (d Difference) In(properties map[string]any) any {
	path := d.parts()
	if d.Type == add {
		path = path[:len(path)-1]
	}
	var at any = properties
	for _, part := range path {
		switch holder := at.(type) {
		case map[string]any:
			at = holder[part]
		case []any:
			n, err := strconv.Atoi(part)
			if err != nil || n >= len(holder) {
				return nil
			}
			at = holder[n]
		default:
			return nil
		}
	}
	return at
}

// Kinds of a Difference, in the service's words.
const (
	add      = "ADD"
	remove   = "REMOVE"
	notEqual = "NOT_EQUAL"
)

// Differences compares properties that were set with those that are. What was
// not set and what cannot be read is not looked at, as far as the first level
// goes; below it, what was added counts. Keys for encryption have many names
// and are not compared, as the service does it.
func (f Facts) Differences(expected, actual map[string]any) []Difference {
	return comparer{f, expected}.properties(nil, expected, actual)
}

// comparer compares properties by the facts of a type. root is all that was
// set, to which a transform may refer.
type comparer struct {
	facts Facts
	root  map[string]any
}

func (c comparer) properties(path []string, expected, actual map[string]any) []Difference {
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
		if strings.EqualFold(name, "KMSKeyId") || slices.ContainsFunc(c.facts.WriteOnly, func(fact string) bool { return matches(fact, at) }) {
			continue
		}
		want, set := expected[name]
		got, is := actual[name]
		switch d := (Difference{Path: pointer(at), Expected: want, Actual: got}); {
		case !is:
			d.Type = remove
			found = append(found, d)
		case !set:
			d.Type = add
			found = append(found, d)
		case !c.transformed(at, expected, got):
			found = append(found, c.values(at, want, got)...)
		}
	}
	return found
}

// values compares two values of a property.
func (c comparer) values(path []string, expected, actual any) []Difference {
	want, ok := expected.(map[string]any)
	got, ok2 := actual.(map[string]any)
	if ok && ok2 {
		return c.properties(path, want, got)
	}
	wants, ok := expected.([]any)
	gots, ok2 := actual.([]any)
	if ok && ok2 && len(wants) == len(gots) {
		var found []Difference
		for i := range wants {
			found = append(found, c.values(append(slices.Clone(path), strconv.Itoa(i)), wants[i], gots[i])...)
		}
		return found
	}
	if sameValue(expected, actual) {
		return nil
	}
	return []Difference{{Type: notEqual, Path: pointer(path), Expected: expected, Actual: actual}}
}

// Adopt gives properties with what differs taken over from what is. Scalars
// become texts, as stacks keep them.
func Adopt(properties map[string]any, differences []Difference) map[string]any {
	adopted, _ := plainValue(properties, false).(map[string]any)
	for _, d := range differences {
		var at any = adopted
		path := d.parts()
		for i, part := range path {
			last := i == len(path)-1
			switch holder := at.(type) {
			case map[string]any:
				switch {
				case !last:
					at = holder[part]
				case d.Type == remove:
					delete(holder, part)
				default:
					holder[part] = plainValue(d.Actual, false)
				}
			case []any:
				n, err := strconv.Atoi(part)
				switch {
				case err != nil || n >= len(holder): // no path of Differences
				case !last:
					at = holder[n]
				default:
					holder[n] = plainValue(d.Actual, false)
				}
			}
		}
	}
	return adopted
}

// pointer writes a path as a JSON pointer.
func pointer(path []string) string {
	var b strings.Builder
	for _, part := range path {
		b.WriteString("/" + escape.Replace(part))
	}
	return b.String()
}

var (
	escape   = strings.NewReplacer("~", "~0", "/", "~1")
	unescape = strings.NewReplacer("~1", "/", "~0", "~")
)

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
	x, y := plainValue(a, true), plainValue(b, true)
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

// plainValue copies a value into the form in which stacks keep it: scalars are
// texts. With documents, a text that holds a JSON document is that document.
func plainValue(v any, documents bool) any {
	switch v := v.(type) {
	case string:
		var document any
		if text := strings.TrimSpace(v); documents && (strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[")) && json.Unmarshal([]byte(text), &document) == nil {
			return plainValue(document, documents)
		}
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case int:
		return strconv.Itoa(v)
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = plainValue(item, documents)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, item := range v {
			m[key] = plainValue(item, documents)
		}
		return m
	}
	return v
}
