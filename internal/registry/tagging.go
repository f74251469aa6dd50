package registry

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
)

// Tagging is how resources of a type take tags. The zero value is that of a type
// whose schema does not speak of it: such a type takes none. The schemas' former
// word for it, taggable, is to be read as true where it is missing, but most of
// the types without tagging have no property for tags (wait conditions, record
// sets, permissions), and which of the others pass on a stack's tags is nowhere
// said: what cannot take tags must not be given any.
type Tagging struct {
	Taggable  bool   `json:"taggable"`
	Updatable bool   `json:"tagUpdatable"`
	System    bool   `json:"cloudFormationSystemTags"` // those of the service itself too
	Property  string `json:"tagProperty"`              // that holds a resource's own, e.g. "/properties/Tags"
}

// UnmarshalJSON reads what a schema says. What it leaves out is true, by the
// definition of schemas.
func (t *Tagging) UnmarshalJSON(raw []byte) error {
	type plain Tagging
	said := plain{Taggable: true, Updatable: true, System: true}
	err := json.Unmarshal(raw, &said)
	*t = Tagging(said)
	return err
}

// path gives the parts of the path of the property that holds a resource's own
// tags.
func (t Tagging) path() []string {
	return strings.Split(strings.TrimPrefix(cmp.Or(t.Property, "/properties/Tags"), "/properties/"), "/")
}

// TagProperty names the property in which a resource sets tags of its own.
func (f Facts) TagProperty() string { return f.Tagging.path()[0] }

// OwnTags gives the keys of the tags that a resource sets itself, sorted: a type
// takes them as a list of Key and Value, as a map, or as that written in JSON.
func (f Facts) OwnTags(properties map[string]any) []string {
	var keys []string
	for _, tags := range valuesAt(properties, f.Tagging.path()) {
		switch tags := plainValue(tags, true).(type) {
		case map[string]any:
			for key := range tags {
				keys = append(keys, key)
			}
		case []any:
			for _, item := range tags {
				tag, _ := item.(map[string]any)
				if key, ok := tag["Key"].(string); ok {
					keys = append(keys, key)
				}
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// valuesAt gives the values at a path below v.
func valuesAt(v any, path []string) []any {
	if len(path) == 0 {
		return []any{v}
	}
	switch v := v.(type) {
	case map[string]any:
		if below, ok := v[path[0]]; ok {
			return valuesAt(below, path[1:])
		}
	case []any:
		var found []any
		for _, item := range v {
			found = append(found, valuesAt(item, path[1:])...)
		}
		return found
	}
	return nil
}
