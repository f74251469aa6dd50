package stack

import (
	"context"
	"encoding/json"
	"errors"
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
// stand for, and what that is. One to what is no more stays as it is written in
// what the resource was, and with gone everywhere.
func (e *Engine) reveal(ctx context.Context, r Request, gone bool) (told Request, secrets []string, err error) {
	replace := func(properties map[string]any, gone bool) (map[string]any, error) {
		if properties == nil {
			return nil, nil
		}
		value, err := template.ReplaceDynamic(properties, func(d template.DynamicReference) (string, error) {
			text, err := e.secret(ctx, d)
			if gone && fault.Is(err, fault.NotFound) {
				return d.Text, nil
			}
			secrets = append(secrets, text)
			return text, err
		})
		if err != nil {
			return nil, fault.Wrap(fault.CodeOf(err), err, "resource %s", r.LogicalID)
		}
		return value.(map[string]any), nil
	}
	told = r
	if told.Properties, err = replace(r.Properties, gone); err != nil {
		return r, secrets, err
	}
	if told.Previous, err = replace(r.Previous, true); err != nil {
		return r, secrets, err
	}
	return told, secrets, nil
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

// confidant is a Handler as the engine calls it: it is told what secure
// references stand for, and what it says of a failure names no secret.
type confidant struct {
	h      Handler
	e      *Engine
	hidden func() []string // what may not be shown besides
}

// confidant gives the platform's handler of a type as one.
func (e *Engine) confidant(typ string, hidden func() []string) (Handler, error) {
	h, err := e.platform.Handler(typ)
	if err != nil {
		return nil, err
	}
	return confidant{h, e, hidden}, nil
}

// Check implements Handler.
func (c confidant) Check(ctx context.Context, r Request) error {
	_, err := confide(ctx, c, r, false, answering(c.h.Check))
	return err
}

// Create implements Handler.
func (c confidant) Create(ctx context.Context, r Request) (Result, error) {
	return confide(ctx, c, r, false, c.h.Create)
}

// Read implements Handler. A secret that is gone is in nobody's way.
func (c confidant) Read(ctx context.Context, r Request) (Result, error) {
	return confide(ctx, c, r, true, c.h.Read)
}

// Update implements Handler.
func (c confidant) Update(ctx context.Context, r Request) (Result, error) {
	return confide(ctx, c, r, false, c.h.Update)
}

// Delete implements Handler. A secret that is gone is in nobody's way.
func (c confidant) Delete(ctx context.Context, r Request) error {
	_, err := confide(ctx, c, r, true, answering(c.h.Delete))
	return err
}

// Snapshot implements Snapshotter; of a type that has no snapshots it keeps
// none, and tells of none.
func (c confidant) Snapshot(ctx context.Context, r Request) (where string, err error) {
	s, able := c.h.(Snapshotter)
	if !able {
		return "", nil
	}
	return confide(ctx, c, r, true, s.Snapshot)
}

// Warn implements Warner; of a type that has nothing to tell it tells nothing.
func (c confidant) Warn(ctx context.Context, r Request) ([]string, error) {
	w, able := c.h.(Warner)
	if !able {
		return nil, nil
	}
	return confide(ctx, c, r, true, w.Warn)
}

// confide calls a handler.
func confide[T any](ctx context.Context, c confidant, r Request, gone bool, call func(context.Context, Request) (T, error)) (result T, err error) {
	r, secrets, err := c.e.reveal(ctx, r, gone)
	if err == nil {
		result, err = call(ctx, r)
	}
	return result, veiled(err, func() []string { return append(secrets, c.hidden()...) })
}

// answering gives a call that answers nothing the form of one that does.
func answering(call func(context.Context, Request) error) func(context.Context, Request) (Result, error) {
	return func(ctx context.Context, r Request) (Result, error) { return Result{}, call(ctx, r) }
}

// veiled gives an error without secrets in its text and hint. Its code stays,
// and that it is a cancelling; what lies beneath it is given up with the text.
func veiled(err error, hidden func() []string) error {
	if err == nil || halted(err) {
		return err
	}
	secrets := hidden()
	text, hint := changeset.ScrubText(err.Error(), secrets), changeset.ScrubText(fault.HintOf(err), secrets)
	if text == err.Error() && hint == fault.HintOf(err) {
		return err
	}
	code := fault.CodeOf(err)
	if errors.Is(err, context.Canceled) {
		code = fault.Canceled
	}
	return fault.New(code, "%s", text).WithHint("%s", hint)
}

// hidden gives what may not be shown of a stack, as it was and as it shall be.
func (o *operation) hidden() []string {
	p := changeset.Planner{Before: o.before, After: o.after, Exists: map[string]changeset.Physical{}}
	for _, s := range o.states() {
		for _, thing := range s.all() {
			p.Exists[thing.Token] = thing
		}
	}
	hidden := p.Hidden()
	if o.outer != nil {
		hidden = append(hidden, o.outer.hidden()...)
	}
	return hidden
}
