package changeset

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/template"
)

// Program is a template with its parameters bound and its conditions decided:
// all that is known of a stack before its resources are.
type Program struct {
	Template   *template.Template
	parameters map[string]any
	given      map[string]any // parameters, before values were looked up by name
	masked     map[string]any // parameters, with **** for the secret ones
	conditions map[string]bool
	pseudo     map[string]string
	notified   []string            // AWS::NotificationARNs
	Graph      map[string][]string // dependencies of the active resources
	imports    func(name string) (any, error)
	ssm        func(name string) (string, error)
	Open       []string // parameters that decide what there is and are not known yet
}

// Lookups is what a template takes from outside of its stack.
type Lookups struct {
	Export    func(name string) (any, error)        // or template.Unknown
	Parameter func(name string) (string, error)     // of Systems Manager
	Fragment  func(location string) ([]byte, error) // of AWS::Include
	Macro     func(template.MacroRequest) (json.RawMessage, error)
}

// NewProgram reads a change's template. The mistakes found are all that can be
// found without the platform. How many resources there are is no mistake: the
// service's limit is none of this engine. The program of a template that cannot
// be decided yet is open: it has nothing but its template.
func NewProgram(c Change, pseudo map[string]string, out Lookups) (*Program, diag.List) {
	t, diags := template.ParseWith(c.File, c.Template, reading(c, pseudo, out))
	if diags.HasErrors() {
		return nil, diags
	}
	p := &Program{Template: t, pseudo: pseudo, notified: c.Noted.NotificationARNs, imports: out.Export, ssm: out.Parameter}
	if p.Open = t.Undecided(c.Parameters); len(p.Open) > 0 {
		return p, diags
	}
	parameters, more := t.Bind(c.Parameters)
	if diags = append(diags, more...); diags.HasErrors() {
		return nil, diags
	}
	p.given, p.parameters, p.masked = written(t, c, parameters), parameters, mask(t, parameters)
	p.conditions, more = t.Decide(parameters, pseudo)
	if diags = append(diags, more...); diags.HasErrors() {
		return nil, diags
	}
	p.Graph, more = t.Graph(p.conditions)
	if diags = append(diags, more...); diags.HasErrors() {
		return nil, diags
	}
	return p, diags
}

// reading is what a change's template goes by while it is read.
func reading(c Change, pseudo map[string]string, out Lookups) template.Options {
	return template.Options{Parameters: c.Parameters, Pseudo: pseudo, NotificationARNs: c.Noted.NotificationARNs, SSM: out.Parameter, Include: out.Fragment, Macro: out.Macro}
}

// Processed gives a change's template as its transforms leave it, secrets
// masked; as it is written if no transform touches it.
func Processed(c Change, pseudo map[string]string, out Lookups) (string, error) {
	p, diags := NewProgram(c, pseudo, out)
	if diags.HasErrors() {
		return "", diags
	}
	text, diags := template.Process(c.File, c.Template, reading(c, pseudo, out))
	if diags.HasErrors() || string(text) == string(c.Template) {
		return string(text), diags.Err()
	}
	return ScrubText(string(text), p.Secrets()), nil
}

// written gives parameters with the names of those whose values were looked up
// by name.
func written(t *template.Template, c Change, parameters map[string]any) map[string]any {
	given := maps.Clone(parameters)
	for name, d := range t.Parameters {
		if !strings.HasPrefix(d.Type, "AWS::SSM::Parameter::Value<") {
			continue
		}
		if text, ok := c.Parameters[name]; ok {
			given[name] = text
		} else if d.Default != nil {
			given[name] = *d.Default
		}
	}
	return given
}

// World is what a program refers to: the resources, as far as they are known.
type World interface {
	Ref(logicalID string) any
	GetAtt(logicalID, attribute string) (any, error)
}

// scope joins a program and a world; secret says whether true values of what is
// NoEcho are wanted.
func (p *Program) scope(w World, secret bool) *template.Scope {
	s := &template.Scope{Parameters: p.parameters, Pseudo: p.pseudo, NotificationARNs: p.notified, Conditions: p.conditions, Ref: w.Ref, GetAtt: w.GetAtt, Import: p.imports}
	if !secret {
		s.Parameters, s.GetAtt = p.masked, maskedAttributes(w)
	}
	return s
}

// Properties resolves a resource's properties.
func (p *Program) Properties(id string, w World, secret bool) (map[string]any, diag.List) {
	r := p.Template.Resources[id]
	if r.Properties == nil {
		return map[string]any{}, nil
	}
	value, exists, diags := p.Template.Resolve(r.Properties, p.scope(w, secret))
	if !exists {
		return map[string]any{}, diags
	}
	value, err := template.ReplaceDynamic(value, p.dynamic)
	if err != nil {
		diags.Errorf(r.Properties.Pos, "%v", err).Hint = fault.HintOf(err)
	}
	properties, ok := value.(map[string]any)
	if !ok && len(diags) == 0 { // a function that gives no map
		diags.Errorf(r.Properties.Pos, "Template format error: [/Resources/%s/Properties] must be an object.", id)
	}
	return properties, diags
}

// metadata resolves a resource's metadata, without what it says to makeitso
// alone; nil if it has none. Secrets are masked.
func (p *Program) metadata(id string, w World) any {
	r := p.Template.Resources[id]
	if r.Metadata == nil {
		return nil
	}
	value, exists, diags := p.Template.Resolve(r.Metadata, p.scope(w, false))
	if m, ok := value.(map[string]any); ok {
		delete(m, "makeitso")
		exists = len(m) > 0
	}
	if !exists || diags.HasErrors() { // what only tools read must not stop a change
		return nil
	}
	return value
}

// dynamic looks up a dynamic reference, unless what it stands for must not be
// stored.
func (p *Program) dynamic(d template.DynamicReference) (string, error) {
	if Secure(d) {
		return d.Text, nil
	}
	return p.ssm(Versioned(d))
}

// Outputs resolves the active outputs; an unknown value is KnownAfterApply.
func (p *Program) Outputs(w World, secret bool) ([]Output, diag.List) {
	var diags diag.List
	scope := p.scope(w, secret)
	outputs := []Output{}
	for _, name := range slices.Sorted(maps.Keys(p.Template.Outputs)) {
		o := p.Template.Outputs[name]
		if o.Condition != "" && !p.conditions[o.Condition] {
			continue
		}
		out := Output{Name: name, Description: o.Description}
		out.Value = p.outputText(o.Value, scope, &diags)
		if o.Export != nil {
			out.Export = p.outputText(o.Export, scope, &diags)
		}
		outputs = append(outputs, out)
	}
	return outputs, diags
}

// ExportNames gives the names of the active exports, which depend on no
// resource.
func (p *Program) ExportNames() []string {
	var names []string
	scope := p.scope(Standing{}, true)
	for _, name := range slices.Sorted(maps.Keys(p.Template.Outputs)) {
		if o := p.Template.Outputs[name]; o.Export != nil && (o.Condition == "" || p.conditions[o.Condition]) {
			var diags diag.List // told when the stack is planned
			names = append(names, p.outputText(o.Export, scope, &diags))
		}
	}
	return names
}

// outputText resolves an output's value, which must be a text.
func (p *Program) outputText(v *template.Value, s *template.Scope, diags *diag.List) string {
	value, exists, more := p.Template.Resolve(v, s)
	*diags = append(*diags, more...)
	switch value := value.(type) {
	case string:
		return value
	case template.Unknown:
		return KnownAfterApply
	}
	if len(more) == 0 && exists {
		diags.Errorf(v.Pos, "Template format error: Output values must be strings").Hint = "join a list with Fn::Join"
	} else if !exists {
		diags.Errorf(v.Pos, "Template format error: an output cannot be AWS::NoValue").Hint = "give the output a Condition"
	}
	return ""
}

// Describe sets what the executor stores with a resource besides its properties.
func (p *Program) Describe(id string, ph *Physical) {
	r := p.Template.Resources[id]
	ph.Type, ph.DependsOn = r.Type, p.Graph[id]
	ph.DeletionPolicy, ph.UpdateReplacePolicy = r.DeletionPolicy, r.UpdateReplacePolicy
}
