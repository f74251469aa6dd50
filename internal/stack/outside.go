package stack

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/template"
)

// ParameterStore is a Platform that has the parameters of Systems Manager. On
// one that has not, those are found that stacks of the environment have made.
type ParameterStore interface {
	// Parameter gives the value of a parameter, named "name" or "name:version",
	// fault.NotFound if there is none.
	Parameter(ctx context.Context, name string) (string, error)
}

// FragmentStore is a Platform that has what AWS::Include names.
type FragmentStore interface {
	// Fragment gives the text at a location, such as s3://bucket/key.
	Fragment(ctx context.Context, location string) ([]byte, error)
}

// outside looks up what a template takes from elsewhere, each thing once, and
// notes it in the change set.
func (e *Engine) outside(ctx context.Context, cs *changeset.Set) changeset.Lookups {
	cs.Outside = changeset.Outside{Parameters: map[string]string{}, Fragments: map[string][]byte{}, Macros: map[string]json.RawMessage{}}
	known := recorded(nil, cs.Outside)
	out := changeset.Lookups{Parameter: func(name string) (string, error) {
		if value, err := known.Parameter(name); err == nil {
			return value, nil
		}
		value, err := e.parameter(ctx, name)
		if err == nil {
			cs.Outside.Parameters[name] = value
		}
		return value, err
	}}
	out.Macro = func(r template.MacroRequest) (json.RawMessage, error) {
		id, err := macroID(r)
		if err != nil {
			return nil, err
		}
		if answer, known := cs.Outside.Macros[id]; known {
			return answer, nil
		}
		answer, err := e.macro(ctx, r, id)
		if err == nil {
			cs.Outside.Macros[id] = answer
		}
		return answer, veiled(err, func() []string { return r.Secrets })
	}
	if fragments, ok := offered[FragmentStore](e.platform); ok {
		out.Fragment = func(location string) ([]byte, error) {
			if text, err := known.Fragment(location); err == nil {
				return text, nil
			}
			text, err := fragments.Fragment(ctx, location)
			if err == nil {
				cs.Outside.Fragments[location] = text
			}
			return text, err
		}
	}
	return out
}

const parameterType = "AWS::SSM::Parameter"

// parameter looks a parameter of Systems Manager up, by "name" or
// "name:version".
func (e *Engine) parameter(ctx context.Context, name string) (string, error) {
	if store, ok := offered[ParameterStore](e.platform); ok {
		value, err := store.Parameter(ctx, name)
		if !fault.Is(err, fault.NotFound) {
			return value, err
		}
	}
	name, version, _ := strings.Cut(name, ":")
	made, err := e.made(ctx, parameterType, name)
	if err != nil {
		return "", err
	}
	value, there := made["Value"].(string)
	switch {
	case !there:
		return "", fault.New(fault.NotFound, "there is no parameter %s", name).
			WithHint("make it with a resource of type %s", parameterType)
	case version != "":
		return "", fault.New(fault.Unsupported, "of parameter %s, which a stack has made, there is the newest version alone", name).
			WithHint("leave the version out: {{resolve:ssm:%s}}", name)
	}
	return value, nil
}

// noExport says it in the service's words.
func noExport(name string) error {
	return fault.New(fault.NotFound, "No export named %s found", name).
		WithHint("apply the stack that shall export it before this one, or together with it: makeitso apply STACK STACK")
}

// importValue gives the value of an export as a template takes it.
func importValue(name, value string) any {
	if value == changeset.KnownAfterApply {
		return template.Unknown{Because: "export " + name}
	}
	return value
}

// recorded looks up among what a change set was made with.
func recorded(imports map[string]string, o changeset.Outside) changeset.Lookups {
	return changeset.Lookups{
		Export: func(name string) (any, error) {
			value, ok := imports[name]
			if !ok {
				return nil, noExport(name)
			}
			return importValue(name, value), nil
		},
		Parameter: func(name string) (string, error) {
			value, ok := o.Parameters[name]
			if !ok {
				return "", errors.New("there is no parameter " + name)
			}
			return value, nil
		},
		Fragment: func(location string) ([]byte, error) {
			text, ok := o.Fragments[location]
			if !ok {
				return nil, errors.New("there is no fragment " + location)
			}
			return text, nil
		},
		Macro: func(r template.MacroRequest) (json.RawMessage, error) {
			id, err := macroID(r)
			if answer, ok := o.Macros[id]; ok || err != nil {
				return answer, err
			}
			return nil, errors.New("there is no answer of macro " + r.Name)
		},
	}
}
