package template

import (
	"maps"
	"slices"

	"go.yaml.in/yaml/v4"

	"makeitso/internal/diag"
)

// Rule is one member of Rules: what must hold of the parameters before
// anything is made.
type Rule struct {
	Name       string
	Pos        diag.Pos
	Condition  *Value // nil if it always applies
	Assertions []Assertion
}

// Assertion is what a Rule says.
type Assertion struct {
	Pos         diag.Pos
	Assert      *Value
	Description string
}

func (p *parser) rule(m pair) {
	if m.value.Kind != yaml.MappingNode {
		p.diags.Errorf(m.pos, "Template format error: Every Rules member must be an object.")
		return
	}
	r := &Rule{Name: m.key, Pos: m.pos}
	for _, a := range p.pairs(m.value, 0) {
		switch a.key {
		case "RuleCondition":
			r.Condition = p.ruleFunction(a)
		case "Assertions":
			p.assertions(r, a)
		default:
			p.diags.Errorf(a.pos, "Invalid template rule property '%s'", a.key).Hint = didYouMean(a.key, []string{"RuleCondition", "Assertions"})
		}
	}
	if len(r.Assertions) == 0 {
		p.diags.Errorf(m.pos, "Template format error: rule %s has no Assertions", m.key).Allowed = "a list of {Assert, AssertDescription}"
	}
	p.t.Rules[m.key] = r
}

func (p *parser) assertions(r *Rule, a pair) {
	n := plain(a.value)
	if n.Kind != yaml.SequenceNode {
		p.diags.Errorf(p.pos(n), "Template format error: Assertions of rule %s must be a list", r.Name)
		return
	}
	for _, item := range n.Content {
		item = plain(item)
		if item.Kind != yaml.MappingNode {
			p.diags.Errorf(p.pos(item), "Template format error: an assertion of rule %s must be an object", r.Name)
			continue
		}
		one := Assertion{Pos: p.pos(item)}
		for _, part := range p.pairs(item, 0) {
			switch part.key {
			case "Assert":
				one.Assert = p.ruleFunction(part)
			case "AssertDescription":
				one.Description = p.scalar(part)
			default:
				p.diags.Warnf(part.pos, "Invalid template assertion property '%s'", part.key).Hint = didYouMean(part.key, []string{"Assert", "AssertDescription"})
			}
		}
		if one.Assert == nil {
			p.diags.Errorf(one.Pos, "Template format error: an assertion of rule %s must have an Assert", r.Name)
		}
		r.Assertions = append(r.Assertions, one)
	}
}

func (p *parser) ruleFunction(a pair) *Value {
	v := p.value(a.value, true, 0)
	if v != nil && (v.Kind != Call || !slices.Contains(conditionFunctions, v.Func) && !functions[v.Func].rule) {
		p.diags.Errorf(v.Pos, "Template format error: %s takes a function that is true or false, found %s", a.key, found(v)).
			Allowed = "Fn::And, Fn::Contains, Fn::EachMemberEquals, Fn::EachMemberIn, Fn::Equals, Fn::Not, Fn::Or"
		return nil
	}
	return v
}

// rules checks the names and functions of all rules.
func (c *checker) rules() {
	c.block = "Rules"
	for _, name := range slices.Sorted(maps.Keys(c.t.Rules)) {
		c.value(c.t.Rules[name].Condition)
		for _, a := range c.t.Rules[name].Assertions {
			c.value(a.Assert)
		}
	}
}

// ruleFunction reports a rule function outside Rules.
func (c *checker) ruleFunction(f *Value) {
	if functions[f.Func].rule && c.block != "Rules" {
		c.diags.Errorf(f.Pos, "Template error: function %s stands outside Rules", f.Func)
	}
}

// assert reports the assertions that do not hold for the bound parameters.
func (t *Template) assert(bound map[string]any) diag.List {
	r := &resolver{t: t, s: &Scope{Parameters: bound, Pseudo: t.source.options.Pseudo, Conditions: map[string]bool{}}}
	var failed diag.List
	for _, name := range slices.Sorted(maps.Keys(t.Rules)) {
		rule := t.Rules[name]
		if rule.Condition != nil && !r.truth(rule.Condition) {
			continue
		}
		for _, a := range rule.Assertions {
			before := len(r.diags)
			if a.Assert == nil || r.truth(a.Assert) || len(r.diags) > before {
				continue
			}
			description := a.Description
			if description == "" {
				description = "its assertion does not hold"
			}
			failed.Errorf(a.Pos, "Template validation error: rule %s: %s", name, description)
		}
	}
	return append(r.diags, failed...)
}

// ruleTruth evaluates Fn::Contains, Fn::EachMemberEquals and Fn::EachMemberIn.
func (r *resolver) ruleTruth(v *Value) bool {
	if len(v.Items) != 2 {
		r.diags.Errorf(v.Pos, "Template error: %s is not true or false", v.Func)
		return false
	}
	list, unknown := r.listOf(v, v.Items[0])
	if unknown != nil {
		return false
	}
	switch v.Func {
	case "Fn::Contains":
		want := text(r.value(v.Items[1]))
		return slices.ContainsFunc(list, func(item any) bool { return text(item) == want })
	case "Fn::EachMemberEquals":
		want := text(r.value(v.Items[1]))
		return !slices.ContainsFunc(list, func(item any) bool { return text(item) != want })
	case "Fn::EachMemberIn":
		within, unknown := r.listOf(v, v.Items[1])
		if unknown != nil {
			return false
		}
		have := map[string]bool{}
		for _, item := range within {
			have[text(item)] = true
		}
		return !slices.ContainsFunc(list, func(item any) bool { return !have[text(item)] })
	}
	r.diags.Errorf(v.Pos, "Template error: %s is not true or false", v.Func)
	return false
}

// ruleValue gives the values of parameters, or attributes of what they name.
func (r *resolver) ruleValue(v *Value) any {
	if v.Func == "Fn::ValueOf" {
		d := r.t.Parameters[v.Items[0].Text]
		if d == nil {
			r.diags.Errorf(v.Pos, "Template error: Fn::ValueOf names parameter %s, which there is not", v.Items[0].Text)
			return Unknown{Because: v.Func}
		}
		values := r.attributes(v, d)
		if len(values) == 1 && !d.isList() {
			return values[0]
		}
		return values
	}
	all := []any{}
	for _, name := range slices.Sorted(maps.Keys(r.t.Parameters)) {
		if d := r.t.Parameters[name]; d.Type == v.Items[0].Text {
			if v.Func == "Fn::RefAll" {
				all = append(all, each(r.s.Parameters[name])...)
			} else {
				all = append(all, r.attributes(v, d)...)
			}
		}
	}
	return all
}

func each(value any) []any {
	if list, ok := value.([]any); ok {
		return list
	}
	return []any{value}
}

// attributes asks for the attribute of everything that a parameter names.
func (r *resolver) attributes(v *Value, d *Parameter) []any {
	ask := r.t.source.options.ValueOf
	if ask == nil {
		r.diags.Errorf(v.Pos, "Template error: %s: there is nothing that tells attributes of %s", v.Func, d.Type)
		return nil
	}
	all := []any{}
	for _, value := range each(r.s.Parameters[d.Name]) {
		attribute, err := ask(d.Type, text(value), v.Items[1].Text)
		if err != nil {
			r.diags.Errorf(v.Pos, "%v", err)
			continue
		}
		all = append(all, attribute)
	}
	return all
}
