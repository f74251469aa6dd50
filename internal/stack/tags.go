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

// tagsFor gives the stack's tags that a resource shall have.
func (o *operation) tagsFor(current *changeset.Physical, typ string) map[string]string {
	return changeset.TagsFor(current, typ, o.set.Change.Tags, o.retag)
}

// sameThing says whether two states of a resource need no call of its handler.
func sameThing(a, b changeset.Physical) bool {
	return changeset.SameProperties(a.Properties, b.Properties) && maps.Equal(a.StackTags(), b.StackTags())
}

// addTags gives a request the tags that the stack gives a thing and the
// service's own.
func (r *Request) addTags(p changeset.Physical) {
	facts, _ := registry.Type(r.Type)
	if !facts.Tagging.Taggable {
		return
	}
	r.Tags = map[string]string{}
	maps.Copy(r.Tags, p.StackTags())
	if facts.Tagging.System {
		r.Tags["aws:cloudformation:stack-name"] = r.Stack
		r.Tags["aws:cloudformation:stack-id"] = r.StackID
		r.Tags["aws:cloudformation:logical-id"] = r.LogicalID
	}
}
