package stack

import (
	"context"
	"encoding/json"
	"fmt"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/template"
)

// SecretStore is a Platform that has secrets. On one that has not, those are
// found that stacks of the environment have made with a SecretString.
type SecretStore interface {
	// Secret gives the text of a secret, by its name or ARN, at a stage or with
	// the id of a version; "" is the current one. fault.NotFound if there is
	// none.
	Secret(ctx context.Context, id, stage, version string) (string, error)
}

const (
	secretType   = "AWS::SecretsManager::Secret"
	currentStage = "AWSCURRENT"
)

// reveal gives a request in which secure references are replaced by what they
// stand for.
func (e *Engine) reveal(ctx context.Context, r Request) (Request, error) {
	lookup := func(d template.DynamicReference) (string, error) { return e.secret(ctx, d) }
	for _, properties := range []*map[string]any{&r.Properties, &r.Previous} {
		if *properties == nil {
			continue
		}
		value, err := template.ReplaceDynamic(*properties, lookup)
		if err != nil {
			return r, fault.Wrap(fault.CodeOf(err), err, "resource %s", r.LogicalID)
		}
		*properties = value.(map[string]any)
	}
	return r, nil
}

// secret looks up what a secure reference stands for.
func (e *Engine) secret(ctx context.Context, d template.DynamicReference) (string, error) {
	if d.Service == "ssm-secure" {
		return e.parameter(ctx, changeset.Versioned(d))
	}
	text, err := e.secretText(ctx, d)
	if err != nil || d.Key == "" {
		return text, err
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		return "", fault.New(fault.Invalid, "secret %s is no JSON object, so it has no key %s", d.Name, d.Key)
	}
	value, has := fields[d.Key]
	if !has {
		return "", fault.New(fault.NotFound, "secret %s has no key %s", d.Name, d.Key)
	}
	if text, ok := value.(string); ok {
		return text, nil
	}
	raw, err := json.Marshal(value)
	return string(raw), err
}

func (e *Engine) secretText(ctx context.Context, d template.DynamicReference) (string, error) {
	if store, ok := offered[SecretStore](e.platform); ok {
		text, err := store.Secret(ctx, d.Name, d.Stage, d.VersionID)
		if !fault.Is(err, fault.NotFound) {
			return text, err
		}
	}
	made, err := e.made(ctx, secretType, d.Name)
	if err != nil {
		return "", err
	}
	text, given := made["SecretString"].(string)
	switch {
	case !given:
		return "", fault.New(fault.NotFound, "Secrets Manager can't find the specified secret: %s", d.Name).
			WithHint("make it with a resource of type %s that has a SecretString", secretType)
	case d.VersionID != "" || d.Stage != "" && d.Stage != currentStage:
		return "", fault.New(fault.Unsupported, "of secret %s, which a stack has made, there is its current version alone", d.Name).
			WithHint("leave stage and version out")
	}
	return text, nil
}

// made gives the properties of the resource of a type that stacks of the
// environment have made and that has the name, nil if there is none.
func (e *Engine) made(ctx context.Context, typ, name string) (map[string]any, error) {
	states, err := e.resources.List(ctx, e.key(""))
	if err != nil {
		return nil, fmt.Errorf("list resources: %w", err)
	}
	for _, s := range states {
		if c := s.Current; c != nil && c.Type == typ && (c.Properties["Name"] == name || c.PhysicalID == name) {
			return c.Properties, nil
		}
	}
	return nil, nil
}
