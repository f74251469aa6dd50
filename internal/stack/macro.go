package stack

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/template"
)

// MacroCaller is a Platform that can ask macros.
type MacroCaller interface {
	// CallMacro hands a request to what the FunctionName of a macro names, and
	// gives what it says. It ends in bounded time.
	CallMacro(ctx context.Context, function string, request []byte) ([]byte, error)
}

const macroType = "AWS::CloudFormation::Macro"

// macroRequest is what a macro is told, with the service's names.
type macroRequest struct {
	Region                  string          `json:"region"`
	AccountID               string          `json:"accountId"`
	Fragment                json.RawMessage `json:"fragment"`
	TransformID             string          `json:"transformId"`
	Params                  json.RawMessage `json:"params"`
	RequestID               string          `json:"requestId"`
	TemplateParameterValues map[string]any  `json:"templateParameterValues"`
}

// macroAnswer is what a macro says.
type macroAnswer struct {
	RequestID    string          `json:"requestId"`
	Status       string          `json:"status"`
	Fragment     json.RawMessage `json:"fragment"`
	ErrorMessage string          `json:"errorMessage"`
}

// macroID names a question to a macro; an answer is kept by it.
func macroID(r template.MacroRequest) (string, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode a request to macro %s: %w", r.Name, err)
	}
	return uuid(sha256.Sum256(raw)), nil
}

// macro asks a macro of the environment. Failures are in the service's words.
func (e *Engine) macro(ctx context.Context, r template.MacroRequest, id string) (json.RawMessage, error) {
	transform := e.o.Account + "::" + r.Name
	function, err := e.macroFunction(ctx, r.Name, transform)
	if err != nil {
		return nil, err
	}
	caller, ok := offered[MacroCaller](e.platform)
	if !ok {
		return nil, fault.New(fault.Unsupported, "the platform of environment %s cannot ask macro %s", e.environment, r.Name)
	}
	request, err := json.Marshal(macroRequest{Region: e.o.Region, AccountID: e.o.Account, Fragment: r.Fragment, TransformID: transform,
		Params: r.Params, RequestID: id, TemplateParameterValues: r.Parameters})
	if err != nil {
		return nil, fmt.Errorf("encode a request to macro %s: %w", r.Name, err)
	}
	said, err := caller.CallMacro(ctx, function, request)
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	var a macroAnswer
	if err == nil {
		err = json.Unmarshal(said, &a)
	}
	if err == nil {
		err = a.judge(id, transform)
	} else {
		err = fault.Wrap(fault.Failed, err, "Received malformed response from transform %s", transform)
	}
	return a.Fragment, err
}

// judge says what is wrong with an answer.
func (a macroAnswer) judge(id, transform string) error {
	malformed := fault.New(fault.Failed, "Received malformed response from transform %s", transform)
	switch {
	case a.RequestID != id:
		return malformed.WithHint("its answer must give requestId back, as it was told")
	case strings.EqualFold(a.Status, "success") && a.Fragment == nil:
		return malformed.WithHint("its answer must have a fragment")
	case strings.EqualFold(a.Status, "success"):
		return nil
	case a.ErrorMessage == "":
		return fault.New(fault.Failed, "Transform %s failed without an error message.", transform)
	}
	return fault.New(fault.Failed, "Transform %s failed with: %s", transform, a.ErrorMessage)
}

// macroFunction gives the FunctionName of a macro that a stack of the
// environment has made.
func (e *Engine) macroFunction(ctx context.Context, name, transform string) (string, error) {
	states, err := e.resources.List(ctx, e.key(""))
	if err != nil {
		return "", fmt.Errorf("list the macros of %s: %w", e.environment, err)
	}
	var found []string
	for _, s := range states {
		if c := s.Current; c != nil && c.Type == macroType && c.Properties["Name"] == name {
			function, _ := c.Properties["FunctionName"].(string) // its handler has judged it
			found = append(found, function)
		}
	}
	switch len(found) {
	case 0:
		return "", fault.New(fault.NotFound, "No transform named %s found.", transform).
			WithHint("make it first, with a resource of type %s in a stack of environment %s", macroType, e.environment)
	case 1:
		return found[0], nil
	}
	return "", fault.New(fault.Conflict, "%d stacks of environment %s have made a macro %s", len(found), e.environment, name).
		WithHint("let one stack have it")
}
