// Package policy is a stack's policy: a document of the service's form that says
// what updates may do to which resources. It reads and applies one, and must not
// know stacks or change sets.
package policy

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"makeitso/internal/fault"
)

// What an update may do to a resource, in a policy's words.
const (
	Modify  = "Update:Modify"
	Replace = "Update:Replace"
	Delete  = "Update:Delete"
)

// LogicalResource begins the name that a policy has for a resource.
const LogicalResource = "LogicalResourceId/"

// Policy is a stack policy. Once there is one, what it does not allow is
// denied, and what one statement denies no other allows.
type Policy struct {
	Statement []statement
}

type statement struct {
	Effect      string
	Principal   string
	Action      words
	NotAction   words
	Resource    words
	NotResource words
	Condition   map[string]struct {
		ResourceType words
	}
}

// words is one word or a list of them.
type words []string

// UnmarshalJSON reads a text or a list of texts.
func (w *words) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*w = words{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(w))
}

// Parse reads a policy.
func Parse(text string) (Policy, error) {
	var p Policy
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return p, invalidPolicy(err.Error())
	}
	if len(p.Statement) == 0 {
		return p, invalidPolicy("it has no Statement")
	}
	for i, s := range p.Statement {
		if wrong := s.check(); wrong != "" {
			return p, invalidPolicy(fmt.Sprintf("statement %d: %s", i+1, wrong))
		}
	}
	return p, nil
}

// check says what is wrong with a statement, "" if nothing is.
func (s statement) check() string {
	switch {
	case s.Effect != "Allow" && s.Effect != "Deny":
		return "Effect is Allow or Deny, not " + s.Effect
	case s.Principal != "*":
		return `Principal is "*", not ` + s.Principal
	case (len(s.Action) == 0) == (len(s.NotAction) == 0):
		return "a statement has either Action or NotAction"
	case (len(s.Resource) == 0) == (len(s.NotResource) == 0):
		return "a statement has either Resource or NotResource"
	}
	for _, action := range slices.Concat(s.Action, s.NotAction) {
		if !slices.Contains([]string{Modify, Replace, Delete, "Update:*"}, action) {
			return "unknown action " + action
		}
	}
	for _, resource := range slices.Concat(s.Resource, s.NotResource) {
		if _, err := path.Match(resource, ""); err != nil || resource != "*" && !strings.HasPrefix(resource, LogicalResource) {
			return "a resource is * or " + LogicalResource + "NAME, not " + resource
		}
	}
	for operator := range s.Condition {
		if operator != "StringEquals" && operator != "StringLike" {
			return "a condition is StringEquals or StringLike, not " + operator
		}
	}
	return ""
}

func invalidPolicy(reason string) error {
	return fault.New(fault.Invalid, "Error validating stack policy: Invalid stack policy: %s", reason)
}

// Allows says whether a policy allows something to be done to a resource of a
// type.
func (p Policy) Allows(action, logicalID, typ string) bool {
	allowed := false
	for _, s := range p.Statement {
		if !s.applies(action, logicalID, typ) {
			continue
		}
		if s.Effect == "Deny" {
			return false
		}
		allowed = true
	}
	return allowed
}

func (s statement) applies(action, logicalID, typ string) bool {
	is := func(a string) bool { return a == action || a == "Update:*" }
	names := func(pattern string) bool {
		ok, err := path.Match(pattern, LogicalResource+logicalID)
		return pattern == "*" || err == nil && ok
	}
	if len(s.Action) > 0 && !slices.ContainsFunc(s.Action, is) || slices.ContainsFunc(s.NotAction, is) {
		return false
	}
	if len(s.Resource) > 0 && !slices.ContainsFunc(s.Resource, names) || slices.ContainsFunc(s.NotResource, names) {
		return false
	}
	for operator, condition := range s.Condition {
		like := func(pattern string) bool {
			return pattern == typ || operator == "StringLike" && wildcard(pattern, typ)
		}
		if !slices.ContainsFunc(condition.ResourceType, like) {
			return false
		}
	}
	return true
}

// wildcard says whether a pattern with * for any letters matches a text.
func wildcard(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return pattern == text
	}
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, part := range parts[1 : len(parts)-1] { // each as early as it can be
		_, after, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = after
	}
	return true
}
