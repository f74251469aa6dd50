package template

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"makeitso/internal/diag"
)

// Options is what a template can depend on besides its text while it is read.
// The zero value reads a template for itself: what depends on values that
// are not given is judged as far as it can be.
type Options struct {
	// Parameters are values for the template's parameters, KnownAfterApply
	// for one that is not known yet (see Undecided). Loops and what else
	// LanguageExtensions decides early go by them, or by the defaults until
	// Bind has all values.
	Parameters map[string]string
	// Pseudo are values of pseudo parameters.
	Pseudo map[string]string
	// Include gives the fragment at the location of an AWS::Include. Without
	// it a fragment may hold anything, and Bind refuses the template.
	Include func(location string) ([]byte, error)
	// Macro gives the fragment that a macro of the account makes of what it is
	// asked. With it, what a template with macros holds besides parameters is
	// read by Bind; without it, the rest is judged and Bind refuses the template.
	Macro func(MacroRequest) (json.RawMessage, error)
	// SSM gives the value of a parameter of Systems Manager. Without it Bind
	// refuses parameters that need one.
	SSM func(name string) (string, error)
	// ValueOf gives an attribute of what a parameter's value names, for the
	// rule functions Fn::ValueOf and Fn::ValueOfAll.
	ValueOf func(parameterType, value, attribute string) (string, error)
	// NotificationARNs is the value of the pseudo parameter of that name.
	NotificationARNs []string
	// MaxResources is the most resources there may be; 0 is no limit.
	MaxResources int

	read func(*parser, []pair) // is told what was read last: see Process
}

// early is what has been decided while a template is read.
type early struct {
	extensions bool             // Transform names AWS::LanguageExtensions
	bound      map[string]any   // the parameters whose values are known
	late       bool             // something went by a parameter's value, known or not
	undecided  bool             // something goes by a value that is not known
	open       []*regexp.Regexp // names that may come to be when the values are known
	unready    []unready        // what keeps the template from being bound
}

// unready is a part of the language that cannot be carried out.
type unready struct {
	pos     diag.Pos
	message string
}

// mayExist says whether a name may come to be by a loop, fragment or macro
// that is not carried out yet.
func (e *early) mayExist(name string) bool {
	for _, pattern := range e.open {
		if pattern.MatchString(name) {
			return true
		}
	}
	return false
}

var anyName = regexp.MustCompile(``)

// early resolves v with parameters, pseudo parameters, mappings and
// conditions alone. The second answer is false if a value that it needs is
// not known, or if it has a mistake, which is reported.
func (r *reader) early(v *Value) (any, bool) {
	unknown := false
	missing := func(name string) any {
		unknown = true
		return Unknown{Because: name}
	}
	scope := &Scope{
		Parameters: r.t.early.bound, Pseudo: r.options.Pseudo, NotificationARNs: r.options.NotificationARNs, Conditions: map[string]bool{},
		Ref: missing,
		GetAtt: func(id, attribute string) (any, error) {
			return nil, fmt.Errorf("Fn::GetAtt of %s.%s cannot stand where values are needed before there are resources", id, attribute)
		},
		Import: func(string) (any, error) {
			return nil, errors.New("Fn::ImportValue cannot stand where values are needed before there are resources")
		},
	}
	r.t.early.late = r.t.early.late || r.tentative(v)
	r.namesKnownEarly(v)
	res := &resolver{t: r.t, s: scope, missing: missing}
	value := res.value(v)
	if unknown {
		r.t.early.undecided = true
		return value, false
	}
	r.diags = append(r.diags, res.diags...)
	return value, !res.diags.HasErrors() && !HasUnknown(value)
}

// tentative says whether v can come out otherwise when Bind has the values of
// all parameters.
func (r *reader) tentative(v *Value) bool {
	if r.final {
		return false
	}
	found := false
	walk(v, nil, func(f *Value) {
		switch f.Func {
		case "Ref":
			_, given := r.options.Parameters[f.Items[0].Text]
			found = found || r.t.Parameters[f.Items[0].Text] != nil && !given
		case "Fn::If":
			found = true // its condition goes by parameters, most likely
		}
	})
	return found
}

// namesKnownEarly reports references to anything but parameters.
func (r *reader) namesKnownEarly(v *Value) {
	walk(v, nil, func(f *Value) {
		if f.Func != "Ref" {
			return
		}
		if name := f.Items[0].Text; r.t.Parameters[name] == nil && !strings.HasPrefix(name, "AWS::") && name != "" {
			r.diags.Errorf(f.Pos, "Template error: %s is not known before there are resources", name).Allowed = "parameters and pseudo parameters"
		}
	})
}

// bindKnown keeps the values of parameters that are given or have a default;
// what is wrong with them is told by Bind.
func (p *parser) bindKnown() {
	p.t.early.bound = map[string]any{}
	for name, d := range p.t.Parameters {
		text, given := p.options.Parameters[name]
		if !given && d.Default == nil {
			continue
		}
		if !given {
			text = *d.Default
		}
		if d.ssmType() != "" {
			continue
		}
		if value, wrong := d.bind(text); wrong == "" {
			p.t.early.bound[name] = value
		}
	}
}

// textEarly reads a value that must be a text once the early values are known:
// a policy, a name. "" if it is not known yet.
func (r *reader) textEarly(v *Value, what string) (text string, known bool) {
	if v.Kind == Text {
		return v.Text, true
	}
	if !r.t.early.extensions {
		r.diags.Errorf(v.Pos, "Template format error: %s must be a text, found %s", what, found(v)).Hint = extensionsHint
		return "", false
	}
	value, known := r.early(v)
	if !known {
		return "", false
	}
	text, ok := value.(string)
	if !ok {
		r.diags.Errorf(v.Pos, "Template error: %s must be a text, found %s", what, describe(value))
	}
	return text, ok
}

const extensionsHint = "functions may stand here with Transform: AWS::LanguageExtensions"
