package stack

import (
	"context"
	"encoding/json"
	"errors"
	"path"
	"slices"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/record"
)

// Protect says whether a stack may be deleted. Nothing but a call with on
// being false makes a protected stack deletable again.
func (e *Engine) Protect(ctx context.Context, stack string, on bool) error {
	return e.amend(ctx, stack, func(s *Stack) { s.Protected = on })
}

// SetPolicy gives a stack its policy, a JSON document of the service's form
// that says what updates may do to which resources. A policy can be replaced
// but not be removed.
func (e *Engine) SetPolicy(ctx context.Context, stack, policy string) error {
	if _, err := parsePolicy(policy); err != nil {
		return err
	}
	return e.amend(ctx, stack, func(s *Stack) { s.Policy = policy })
}

// amend changes the record of a stack that nobody else is changing.
func (e *Engine) amend(ctx context.Context, name string, change func(*Stack)) (err error) {
	ctx, release, err := e.leases.Acquire(ctx, name, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	s, err := e.Stack(ctx, name)
	if err != nil {
		return err
	}
	if err := whole(s); err != nil {
		return err
	}
	change(&s)
	op, err := e.stacks.PutOp(e.key(name), s, record.Any)
	if err != nil {
		return err
	}
	return e.store.Write(ctx, op)
}

// deletable says why a stack may not be deleted.
func deletable(s Stack) error {
	if !s.Protected {
		return nil
	}
	return fault.New(fault.Denied, "Stack [%s] cannot be deleted while TerminationProtection is enabled", s.Name).
		WithHint("if it shall really go: makeitso stack unprotect %s", s.Name)
}

// policy is a stack policy. Once there is one, what it does not allow is
// denied, and what one statement denies no other allows.
type policy struct {
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

func parsePolicy(text string) (policy, error) {
	var p policy
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return p, invalidPolicy(err.Error())
	}
	if len(p.Statement) == 0 {
		return p, invalidPolicy("it has no Statement")
	}
	for _, s := range p.Statement {
		if err := s.check(); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (s statement) check() error {
	switch {
	case s.Effect != "Allow" && s.Effect != "Deny":
		return invalidPolicy("Effect is Allow or Deny, not " + s.Effect)
	case s.Principal != "*":
		return invalidPolicy(`Principal is "*", not ` + s.Principal)
	case (len(s.Action) == 0) == (len(s.NotAction) == 0):
		return invalidPolicy("a statement has either Action or NotAction")
	case (len(s.Resource) == 0) == (len(s.NotResource) == 0):
		return invalidPolicy("a statement has either Resource or NotResource")
	}
	for _, action := range slices.Concat(s.Action, s.NotAction) {
		if !slices.Contains([]string{updateModify, updateReplace, updateDelete, "Update:*"}, action) {
			return invalidPolicy("unknown action " + action)
		}
	}
	for _, resource := range slices.Concat(s.Resource, s.NotResource) {
		if _, err := path.Match(resource, ""); err != nil || resource != "*" && !strings.HasPrefix(resource, logicalResource) {
			return invalidPolicy("a resource is * or " + logicalResource + "NAME, not " + resource)
		}
	}
	for operator := range s.Condition {
		if operator != "StringEquals" && operator != "StringLike" {
			return invalidPolicy("a condition is StringEquals or StringLike, not " + operator)
		}
	}
	return nil
}

func invalidPolicy(reason string) error {
	return fault.New(fault.Invalid, "Error validating stack policy: Invalid stack policy: %s", reason)
}

const (
	updateModify  = "Update:Modify"
	updateReplace = "Update:Replace"
	updateDelete  = "Update:Delete"

	logicalResource = "LogicalResourceId/"
)

// policyActions gives what a change does to its resource, in a policy's words.
func (c ResourceChange) policyActions() []string {
	switch {
	case c.Action == Remove:
		return []string{updateDelete}
	case c.Action != Modify:
		return nil
	case c.Replacement == ReplaceTrue:
		return []string{updateReplace}
	case c.Replacement == ReplaceConditional:
		return []string{updateModify, updateReplace}
	}
	return []string{updateModify}
}

// allowed says why a stack's policy does not allow a change set. Policies are
// for updates alone.
func allowed(rules string, cs *ChangeSet) error {
	if rules == "" || cs.Action != Update {
		return nil
	}
	p, err := parsePolicy(rules)
	if err != nil {
		return err
	}
	return p.allow(cs.Changes)
}

// allow says why a policy does not allow changes.
func (p policy) allow(changes []ResourceChange) error {
	for _, c := range changes {
		for _, action := range c.policyActions() {
			if !p.allows(action, c) {
				return fault.New(fault.Denied, "Action denied by stack policy: no statement allows [%s] for resource [%s%s]", action, logicalResource, c.LogicalID).
					WithHint("leave %s as it is, or apply with a policy for this one change", c.LogicalID)
			}
		}
	}
	return nil
}

func (p policy) allows(action string, c ResourceChange) bool {
	allowed := false
	for _, s := range p.Statement {
		if !s.applies(action, c) {
			continue
		}
		if s.Effect == "Deny" {
			return false
		}
		allowed = true
	}
	return allowed
}

func (s statement) applies(action string, c ResourceChange) bool {
	is := func(a string) bool { return a == action || a == "Update:*" }
	names := func(pattern string) bool {
		ok, err := path.Match(pattern, logicalResource+c.LogicalID)
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
			return pattern == c.Type || operator == "StringLike" && wildcard(pattern, c.Type)
		}
		if !slices.ContainsFunc(condition.ResourceType, like) {
			return false
		}
	}
	return true
}

// wildcard says whether a pattern with * for any letters matches a text.
func wildcard(pattern, text string) bool {
	head, rest, found := strings.Cut(pattern, "*")
	if !found {
		return pattern == text
	}
	if !strings.HasPrefix(text, head) {
		return false
	}
	for text = text[len(head):]; ; text = text[1:] {
		if wildcard(rest, text) {
			return true
		}
		if text == "" {
			return false
		}
	}
}
