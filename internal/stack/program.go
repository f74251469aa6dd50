package stack

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/template"
)

// Physical is one thing that stands for a resource, as the stack remembers it.
type Physical struct {
	Token      string         `json:"token"`
	Type       string         `json:"type"`
	PhysicalID string         `json:"physicalId,omitempty"` // "" until Create has answered
	Properties map[string]any `json:"properties,omitempty"`
	Attributes map[string]any `json:"attributes,omitempty"`
	DependsOn  []string       `json:"dependsOn,omitempty"` // logical ids that must exist before and go after
	Adopted    []string       `json:"adopted,omitempty"`   // properties that are as they were found, not as a template said

	DeletionPolicy      string `json:"deletionPolicy,omitempty"`
	UpdateReplacePolicy string `json:"updateReplacePolicy,omitempty"`

	// Snapshot says of a doomed thing that its data is to be kept first.
	Snapshot bool `json:"snapshot,omitempty"`
	// Held says of a doomed thing that it is kept while other stacks use what
	// was exported of it.
	Held bool `json:"held,omitempty"`
}

// program is a template with its parameters bound and its conditions decided:
// all that is known of a stack before its resources are.
type program struct {
	t          *template.Template
	parameters map[string]any
	given      map[string]any // parameters, before values were looked up by name
	masked     map[string]any // parameters, with **** for the secret ones
	conditions map[string]bool
	pseudo     map[string]string
	graph      map[string][]string // dependencies of the active resources
	imports    func(name string) (any, error)
	ssm        func(name string) (string, error)
	open       []string // parameters that decide what there is and are not known yet
}

// lookups is what a template takes from outside of its stack.
type lookups struct {
	export    func(name string) (any, error)        // or template.Unknown
	parameter func(name string) (string, error)     // of Systems Manager
	fragment  func(location string) ([]byte, error) // of AWS::Include
	macro     func(template.MacroRequest) (json.RawMessage, error)
}

// newProgram reads a change's template. The mistakes found are all that can be
// found without the platform. How many resources there are is no mistake: the
// service's limit is none of this engine. The program of a template that cannot
// be decided yet is open: it has nothing but its template.
func newProgram(c Change, pseudo map[string]string, out lookups) (*program, diag.List) {
	t, diags := template.ParseWith(c.File, c.Template, template.Options{Parameters: c.Parameters, Pseudo: pseudo, SSM: out.parameter, Include: out.fragment, Macro: out.macro})
	if diags.HasErrors() {
		return nil, diags
	}
	p := &program{t: t, pseudo: pseudo, imports: out.export, ssm: out.parameter}
	if p.open = t.Undecided(c.Parameters); len(p.open) > 0 {
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
	p.graph, more = t.Graph(p.conditions)
	if diags = append(diags, more...); diags.HasErrors() {
		return nil, diags
	}
	return p, diags
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

func mask(t *template.Template, parameters map[string]any) map[string]any {
	masked := maps.Clone(parameters)
	for name, p := range t.Parameters {
		if p.NoEcho {
			masked[name] = Masked
		}
	}
	return masked
}

// shortestSecret is how long a secret must be for scrub to look for it; shorter
// ones would hide half of every text.
const shortestSecret = 4

// secrets gives the true values of the NoEcho parameters.
func (p *program) secrets() []string {
	if p == nil {
		return nil
	}
	var found []string
	for name, d := range p.t.Parameters {
		if text, ok := p.parameters[name].(string); ok && d.NoEcho && len(text) >= shortestSecret {
			found = append(found, text)
		}
	}
	return found
}

// scrub masks secrets in a value that is shown. Masked parameters keep most of
// them out; this finds those that came through a resource's attribute.
func scrub(v any, secrets []string) any {
	switch v := v.(type) {
	case string:
		for _, secret := range secrets {
			v = strings.ReplaceAll(v, secret, Masked)
		}
		return v
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = scrub(item, secrets)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, item := range v {
			m[key] = scrub(item, secrets)
		}
		return m
	}
	return v
}

// world is what a program refers to: the resources, as far as they are known.
type world interface {
	Ref(logicalID string) any
	GetAtt(logicalID, attribute string) (any, error)
}

// scope joins a program and a world; secret says whether true values of NoEcho
// parameters are wanted.
func (p *program) scope(w world, secret bool) *template.Scope {
	s := &template.Scope{Parameters: p.masked, Pseudo: p.pseudo, Conditions: p.conditions, Ref: w.Ref, GetAtt: w.GetAtt, Import: p.imports}
	if secret {
		s.Parameters = p.parameters
	}
	return s
}

// properties resolves a resource's properties.
func (p *program) properties(id string, w world, secret bool) (map[string]any, diag.List) {
	r := p.t.Resources[id]
	if r.Properties == nil {
		return map[string]any{}, nil
	}
	value, exists, diags := p.t.Resolve(r.Properties, p.scope(w, secret))
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
func (p *program) metadata(id string, w world) any {
	r := p.t.Resources[id]
	if r.Metadata == nil {
		return nil
	}
	value, exists, diags := p.t.Resolve(r.Metadata, p.scope(w, false))
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
func (p *program) dynamic(d template.DynamicReference) (string, error) {
	if secure(d) {
		return d.Text, nil
	}
	return p.ssm(versioned(d))
}

// outputs resolves the active outputs; an unknown value is KnownAfterApply.
func (p *program) outputs(w world, secret bool) ([]Output, diag.List) {
	var diags diag.List
	scope := p.scope(w, secret)
	outputs := []Output{}
	for _, name := range slices.Sorted(maps.Keys(p.t.Outputs)) {
		o := p.t.Outputs[name]
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

// exportNames gives the names of the active exports, which depend on no
// resource.
func (p *program) exportNames() []string {
	var names []string
	scope := p.scope(standing{}, true)
	for _, name := range slices.Sorted(maps.Keys(p.t.Outputs)) {
		if o := p.t.Outputs[name]; o.Export != nil && (o.Condition == "" || p.conditions[o.Condition]) {
			var diags diag.List // told when the stack is planned
			names = append(names, p.outputText(o.Export, scope, &diags))
		}
	}
	return names
}

// outputText resolves an output's value, which must be a text.
func (p *program) outputText(v *template.Value, s *template.Scope, diags *diag.List) string {
	value, exists, more := p.t.Resolve(v, s)
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

// describe sets what the executor stores with a resource besides its properties.
func (p *program) describe(id string, ph *Physical) {
	r := p.t.Resources[id]
	ph.Type, ph.DependsOn = r.Type, p.graph[id]
	ph.DeletionPolicy, ph.UpdateReplacePolicy = r.DeletionPolicy, r.UpdateReplacePolicy
}
