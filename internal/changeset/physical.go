package changeset

import (
	"encoding/json"
	"fmt"
	"maps"

	"makeitso/internal/registry"
	"makeitso/internal/template"
)

// Physical is one thing that stands for a resource, as the stack remembers it.
type Physical struct {
	Token      string         `json:"token"`
	Type       string         `json:"type"`
	PhysicalID string         `json:"physicalId,omitempty"` // "" until Create has answered
	Properties map[string]any `json:"properties,omitempty"`
	Attributes map[string]any `json:"attributes,omitempty"`
	DependsOn  []string       `json:"dependsOn,omitempty"` // logical ids that must exist before and go after
	Adopted    []string       `json:"adopted,omitempty"`   // properties that are as they were found, not as a template said

	// NoEcho says that the attributes hold secrets.
	NoEcho bool `json:"noEcho,omitempty"`
	// Tags are those that the stack gives it. One that its properties set as
	// well is not given: see StackTags.
	Tags map[string]string `json:"tags,omitempty"`

	DeletionPolicy      string `json:"deletionPolicy,omitempty"`
	UpdateReplacePolicy string `json:"updateReplacePolicy,omitempty"`

	// Snapshot says of a doomed thing that its data is to be kept first.
	Snapshot bool `json:"snapshot,omitempty"`
	// Held says of a doomed thing that it is kept while other stacks use what
	// was exported of it.
	Held bool `json:"held,omitempty"`
}

// Fate is the thing's DeletionPolicy, or what the service does where none is
// given: it keeps a snapshot of a database.
func (p Physical) Fate() string {
	_, ofCluster := p.Properties["DBClusterIdentifier"]
	if p.DeletionPolicy == "" && (p.Type == "AWS::RDS::DBCluster" || p.Type == "AWS::RDS::DBInstance" && !ofCluster) {
		return "Snapshot"
	}
	return p.DeletionPolicy
}

// secrets gives what of the thing may not be shown.
func (p Physical) secrets() []string {
	var found []string
	if p.NoEcho {
		template.Rewrite(p.Attributes, func(leaf any) any {
			found = append(found, fmt.Sprint(leaf))
			return leaf
		})
	}
	return found
}

// StackTags gives the tags that the thing has from its stack: its own count
// before those.
func (p Physical) StackTags() map[string]string {
	facts, _ := registry.Type(p.Type)
	tags := maps.Clone(p.Tags)
	for _, key := range facts.OwnTags(p.Properties) {
		delete(tags, key)
	}
	return tags
}

// TagsFor gives the tags of a stack that a resource of a type shall have: one
// that exists keeps those it has, unless the stack's tags change and its type
// can follow. current is what stands for it, nil if nothing does.
func TagsFor(current *Physical, typ string, wanted map[string]string, change bool) map[string]string {
	facts, _ := registry.Type(typ)
	if current != nil && current.Type == typ && !(change && facts.Tagging.Updatable) {
		return current.Tags
	}
	if !facts.Tagging.Taggable {
		return nil
	}
	return wanted
}

// DeletesFirst says whether the thing goes before another one of a type comes in
// its place, since the two cannot stand side by side.
func (p Physical) DeletesFirst(typ string) bool {
	facts, _ := registry.Type(typ)
	return p.Type == typ && facts.DeleteFirst() && p.UpdateReplacePolicy != "Retain"
}

// SameProperties says whether properties are the same; none are as none given.
func SameProperties(a, b map[string]any) bool {
	return len(a)+len(b) == 0 || jsonEqual(a, b)
}

// jsonEqual compares as records do: what is written the same is the same.
func jsonEqual(a, b any) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && string(x) == string(y)
}
