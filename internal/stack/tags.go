package stack

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

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

// checkTags says all that is wrong with the tags of a stack. A value that only
// the apply will know is judged then.
func checkTags(stack string, tags map[string]string) error {
	var wrong []string
	if len(tags) > maxTags {
		wrong = append(wrong, fmt.Sprintf("found %d tags", len(tags)))
	}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		if strings.HasPrefix(strings.ToLower(key), "aws:") {
			wrong = append(wrong, "aws: prefixed tag key names are not allowed for external use: found "+key)
		}
		if n := utf8.RuneCountInString(key); n < 1 || n > maxTagKey {
			wrong = append(wrong, fmt.Sprintf("found a key of %d characters: %q", n, key))
		}
		if n := utf8.RuneCountInString(tags[key]); n > maxTagValue && !strings.Contains(tags[key], changeset.KnownAfterApply) {
			wrong = append(wrong, fmt.Sprintf("found a value of %d characters for the key %s", n, key))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, "the tags of stack %s are wrong: %s", stack, strings.Join(wrong, "; ")).
		WithHint("allowed are %d tags, keys of 1 to %d characters that do not begin with aws:, and values of up to %d; change them, then: makeitso plan %s",
			maxTags, maxTagKey, maxTagValue, stack)
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
