package registry

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
)

// Tagging is how resources of a type take tags. The zero value is that of a type
// whose schema neither speaks of it nor has a property Tags (wait conditions,
// record sets, permissions): such a type takes none. Schemas that have Tags and
// are silent otherwise mean, by their definition, that the type takes tags: the
// facts say so of those.
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
