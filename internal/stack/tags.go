package stack

import (
	"maps"
	"strings"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/registry"
)

// Limits of the service for the tags of a stack.
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// checkTags says what is wrong with the tags of a stack.
func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return fault.New(fault.Invalid, "the stack has %d tags; allowed are %d", len(tags), maxTags)
	}
	for key, value := range tags {
		switch {
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return fault.New(fault.Invalid, "aws: prefixed tag key names are not allowed for external use: found %s", key)
		case key == "" || len([]rune(key)) > maxTagKey:
			return fault.New(fault.Invalid, "a tag's key has 1 to %d characters; found %q", maxTagKey, key)
		case len([]rune(value)) > maxTagValue:
			return fault.New(fault.Invalid, "the value of tag %s has %d characters; allowed are %d", key, len([]rune(value)), maxTagValue)
		}
	}
	return nil
}

// tagsFor gives the stack's tags that a resource shall have: one that exists
// keeps those it has, unless the stack's change and its type can follow.
func (o *operation) tagsFor(current *changeset.Physical, typ string) map[string]string {
	facts, _ := registry.Type(typ)
	if current != nil && current.Type == typ && !(o.retag && facts.Tagging.Updatable) {
		return current.Tags
	}
	if !facts.Tagging.Taggable {
		return nil
	}
	return o.set.Change.Tags
}

// sameThing says whether two states of a resource need no call of its handler.
func sameThing(a, b changeset.Physical) bool {
	return changeset.SameProperties(a.Properties, b.Properties) && maps.Equal(a.Tags, b.Tags)
}

// addTags gives a request the stack's tags and the service's own.
func (r *Request) addTags(tags map[string]string) {
	facts, _ := registry.Type(r.Type)
	if !facts.Tagging.Taggable {
		return
	}
	r.Tags = map[string]string{}
	maps.Copy(r.Tags, tags)
	if facts.Tagging.System {
		r.Tags["aws:cloudformation:stack-name"] = r.Stack
		r.Tags["aws:cloudformation:stack-id"] = r.StackID
		r.Tags["aws:cloudformation:logical-id"] = r.LogicalID
	}
	own, _ := r.Properties["Tags"].([]any)
	for _, item := range own {
		tag, _ := item.(map[string]any)
		if key, ok := tag["Key"].(string); ok {
			delete(r.Tags, key)
		}
	}
}
