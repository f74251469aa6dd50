package custom

import (
	"cmp"
	"context"
	"strings"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/span"
	"makeitso/internal/stack"
	"makeitso/internal/template"
)

const (
	macroType    = "AWS::CloudFormation::Macro"
	macroTimeout = 5 * time.Minute
	maxFragment  = 16 << 20 // as much as all macros of a template may answer
)

// CallMacro makes the platform a stack.MacroCaller.
func (p platform) CallMacro(ctx context.Context, function string, request []byte) ([]byte, error) {
	limit := cmp.Or(p.o.MacroTimeout, macroTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fault.New(fault.Failed, "%s gave no answer in %v", function, span.Text(limit)))
	defer cancel()
	said, err := p.o.call(ctx, function, request, maxFragment)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return nil, cause
	}
	if len(said) > maxFragment {
		return nil, fault.New(fault.Failed, "Transformation data limit exceeded")
	}
	return said, err
}

// macroHandler is the stack.Handler of macros. They are only kept: the engine
// finds them by Name when a template names them.
type macroHandler struct{}

func (macroHandler) Check(_ context.Context, r stack.Request) error {
	switch name, ok := r.Properties["Name"].(string); {
	case !ok || name == "":
		return invalid(r, "Name is required and must be a text")
	case strings.HasPrefix(name, "AWS::") && name != template.KnownAfterApply:
		return invalid(r, "Name %s is of a transform of the service", name)
	}
	return checkProvider(r, "FunctionName")
}

func (macroHandler) Create(_ context.Context, r stack.Request) (stack.Result, error) {
	name, _ := r.Properties["Name"].(string) // checked
	return stack.Result{PhysicalID: name}, nil
}

func (macroHandler) Read(_ context.Context, r stack.Request) (stack.Result, error) {
	if r.PhysicalID == "" {
		return stack.Result{}, fault.New(fault.NotFound, "%s/%s was never made", r.Stack, r.LogicalID)
	}
	return stack.Result{PhysicalID: r.PhysicalID, Properties: r.Properties}, nil
}

func (macroHandler) Update(_ context.Context, r stack.Request) (stack.Result, error) {
	return stack.Result{PhysicalID: r.PhysicalID}, nil
}

func (macroHandler) Delete(context.Context, stack.Request) error { return nil }
