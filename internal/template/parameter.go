package template

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"makeitso/internal/diag"
)

// Parameter is one member of Parameters.
type Parameter struct {
	Name                  string
	Pos                   diag.Pos
	Type                  string
	Description           string
	Default               *string // nil if a value must be given
	AllowedValues         []string
	AllowedPattern        *regexp.Regexp // matches the whole value
	ConstraintDescription string
	MinLength, MaxLength  *int
	MinValue, MaxValue    *float64
	NoEcho                bool // the value is a secret
}

// Secrets gives those of the values of parameters that may not be shown, and
// each item of a list.
func (t *Template) Secrets(values map[string]any) []string {
	var found []string
	for name, d := range t.Parameters {
		if d.NoEcho {
			Rewrite(values[name], func(leaf any) any {
				if text, ok := leaf.(string); ok {
					found = append(found, text)
				}
				return leaf
			})
		}
	}
	return found
}

// Limits of CloudFormation.
const (
	maxParameterValue       = 4096
	maxParameterDescription = 4000
)

var parameterKeys = []string{"Type", "Description", "Default", "AllowedValues", "AllowedPattern", "ConstraintDescription",
	"MinLength", "MaxLength", "MinValue", "MaxValue", "NoEcho"}

func (p *parser) parameter(m pair) {
	if !alphanumeric.MatchString(m.key) {
		p.diags.Errorf(m.pos, "Template format error: Parameter name %s is non alphanumeric.", m.key).Allowed = "letters and digits"
	}
	if m.value.Kind != yaml.MappingNode {
		p.diags.Errorf(m.pos, "Template format error: Every Parameters member must be an object.")
		return
	}
	d := &Parameter{Name: m.key, Pos: m.pos}
	before := len(p.diags)
	for _, a := range p.pairs(m.value, 0) {
		p.parameterAttribute(d, a)
	}
	if d.Type == "" {
		p.diags.Errorf(m.pos, "Template format error: Every Parameters object must contain a Type member.")
	}
	p.t.Parameters[m.key] = d
	if d.Default != nil && len(p.diags) == before {
		if _, wrong := d.bind(*d.Default); wrong != "" {
			p.diags.Errorf(m.pos, "default of parameter %s: %s", m.key, wrong)
		}
	}
}

func (p *parser) parameterAttribute(d *Parameter, a pair) {
	switch a.key {
	case "Type":
		d.Type = p.scalar(a)
		p.parameterType(d.Type, a)
	case "Description":
		d.Description = p.scalar(a)
		p.longerThan(a.value, "Description of a parameter", maxParameterDescription)
	case "ConstraintDescription":
		d.ConstraintDescription = p.scalar(a)
	case "Default":
		if v := p.value(a.value, false, 0); v != nil {
			text := v.Text
			if v.Kind != Text {
				p.diags.Errorf(p.pos(a.value), "Template format error: Every Default member must be a string.")
			}
			d.Default = &text
		}
	case "AllowedValues":
		if a.value.Kind != yaml.SequenceNode {
			p.diags.Errorf(p.pos(a.value), "Template format error: AllowedValues must be a list")
			return
		}
		for _, n := range a.value.Content {
			d.AllowedValues = append(d.AllowedValues, p.text(n))
		}
	case "AllowedPattern":
		pattern, err := regexp.Compile("^(?:" + p.scalar(a) + ")$")
		if err != nil { // CloudFormation takes Java's, which has more
			p.diags.Warnf(p.pos(a.value), "AllowedPattern cannot be checked here: %v", err).Hint = "values of " + d.Name + " are taken unchecked"
			return
		}
		d.AllowedPattern = pattern
	case "MinLength", "MaxLength", "MinValue", "MaxValue":
		p.parameterBound(d, a)
	case "NoEcho":
		d.NoEcho = p.text(a.value) == "true"
	default:
		p.diags.Errorf(a.pos, "Invalid template parameter property '%s'", a.key).Hint = didYouMean(a.key, parameterKeys)
	}
}

func (p *parser) parameterBound(d *Parameter, a pair) {
	x, err := strconv.ParseFloat(p.scalar(a), 64)
	if err != nil {
		p.diags.Errorf(p.pos(a.value), "Template format error: %s must be a number", a.key)
		return
	}
	n := int(x)
	switch a.key {
	case "MinLength":
		d.MinLength = &n
	case "MaxLength":
		d.MaxLength = &n
	case "MinValue":
		d.MinValue = &x
	case "MaxValue":
		d.MaxValue = &x
	}
}

// scalarTypes are the parameter types whose values are taken as they are; all
// but KeyPair also stand in List<…>.
var scalarTypes = []string{"String", "Number", "AWS::EC2::AvailabilityZone::Name", "AWS::EC2::Image::Id", "AWS::EC2::Instance::Id",
	"AWS::EC2::KeyPair::KeyName", "AWS::EC2::SecurityGroup::GroupName", "AWS::EC2::SecurityGroup::Id", "AWS::EC2::Subnet::Id",
	"AWS::EC2::Volume::Id", "AWS::EC2::VPC::Id", "AWS::Route53::HostedZone::Id", "AWS::SSM::Parameter::Name"}

func (p *parser) parameterType(typ string, a pair) {
	whole := typ
	if inner := ssmType(typ); inner != "" {
		typ = inner
	}
	item := strings.TrimSuffix(strings.TrimPrefix(typ, "List<"), ">")
	if typ == "" || typ == "CommaDelimitedList" || slices.Contains(scalarTypes, item) {
		return
	}
	d := p.diags.Errorf(p.pos(a.value), "Template format error: Unrecognized parameter type: %s", whole)
	d.Allowed = "String, Number, CommaDelimitedList, List<…> and the AWS-specific types"
	d.Hint = didYouMean(typ, append([]string{"CommaDelimitedList", "List<Number>", "List<String>"}, scalarTypes...))
}

// ssmType gives the type of the values that a parameter's value names in
// Systems Manager, "" if it names none.
func (d *Parameter) ssmType() string { return ssmType(d.Type) }

func ssmType(typ string) string {
	inner, named := strings.CutPrefix(typ, "AWS::SSM::Parameter::Value<")
	if !named || !strings.HasSuffix(inner, ">") {
		return ""
	}
	return strings.TrimSuffix(inner, ">")
}

// lookup gives what Ref gives for a parameter whose value names one of Systems
// Manager.
func (d *Parameter) lookup(name string, ssm func(string) (string, error)) (value any, wrong, hint string) {
	if ssm == nil {
		return nil, fmt.Sprintf("parameter %s is of type %s, and there is no Systems Manager here", d.Name, d.Type), "give the value itself, with type " + d.ssmType()
	}
	text, err := ssm(name)
	if err != nil {
		return nil, fmt.Sprintf("Unable to fetch parameters [%s] from parameter store for this account: %v", name, err), ""
	}
	inner := *d
	inner.Type = d.ssmType()
	if inner.isList() {
		list := []any{}
		for item := range strings.SplitSeq(text, ",") {
			list = append(list, strings.TrimSpace(item))
		}
		return list, "", ""
	}
	return text, "", ""
}

// isList says whether values of the parameter are lists.
func (d *Parameter) isList() bool {
	return d.Type == "CommaDelimitedList" || strings.HasPrefix(d.Type, "List<")
}

// bind checks a value given as text and gives what Ref gives: a string or a
// list. The second answer says what is wrong, in the service's words.
func (d *Parameter) bind(text string) (value any, wrong string) {
	if !d.isList() {
		return text, d.checkOne(text)
	}
	items := []any{}
	one := *d
	if slices.Contains(d.AllowedValues, text) { // a whole list may be among them
		one.AllowedValues = nil
	}
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if wrong := one.checkOne(item); wrong != "" {
			return nil, wrong
		}
		items = append(items, item)
	}
	return items, ""
}

// checkOne judges one scalar by the parameter's type and constraints, and
// says what is wrong.
func (d *Parameter) checkOne(text string) string {
	fail := func(format string, args ...any) string {
		reason := fmt.Sprintf(format, args...)
		if d.ConstraintDescription != "" {
			reason = d.ConstraintDescription
		}
		return fmt.Sprintf("Parameter %s failed to satisfy constraint: %s", d.Name, reason)
	}
	if d.Type == "Number" || d.Type == "List<Number>" {
		x, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		switch {
		case err != nil:
			return fmt.Sprintf("Parameter '%s' must be a number.", d.Name)
		case d.MinValue != nil && x < *d.MinValue:
			return fail("must be at least %v", *d.MinValue)
		case d.MaxValue != nil && x > *d.MaxValue:
			return fail("must be at most %v", *d.MaxValue)
		}
	}
	switch length := len([]rune(text)); {
	case d.MinLength != nil && length < *d.MinLength:
		return fail("must have at least %d characters", *d.MinLength)
	case d.MaxLength != nil && length > *d.MaxLength:
		return fail("must have at most %d characters", *d.MaxLength)
	case len(d.AllowedValues) > 0 && !slices.Contains(d.AllowedValues, text):
		return fail("must be one of [%s]", join(d.AllowedValues))
	case d.AllowedPattern != nil && !d.AllowedPattern.MatchString(text):
		return fail("must match pattern %s", strings.TrimSuffix(strings.TrimPrefix(d.AllowedPattern.String(), "^(?:"), ")$"))
	}
	return ""
}

// Bind checks the values given for the template's parameters, adds defaults,
// and gives what Ref gives for each. Messages never show a secret's value.
// Bind checks the rules too, looks SSM parameters up, carries macros out, and
// writes loops out once more if they go by values: t is then what these values
// make of it.
func (t *Template) Bind(given map[string]string) (map[string]any, diag.List) {
	diags := t.ready()
	bound, more := t.bindAll(given)
	if diags = append(diags, more...); diags.HasErrors() {
		return bound, diags
	}
	if diags = append(diags, t.again(given, bound)...); diags.HasErrors() {
		return bound, diags
	}
	if t.source.macros > 0 { // they may have added parameters
		bound, more = t.bindAll(given)
		if diags = append(diags, append(more, t.ready()...)...); diags.HasErrors() {
			return bound, diags
		}
	}
	return bound, append(diags, t.assert(bound)...)
}

// bindAll is Bind for the parameters alone.
func (t *Template) bindAll(given map[string]string) (bound map[string]any, diags diag.List) {
	bound = map[string]any{}
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(t.Parameters)) {
		d := t.Parameters[name]
		text, ok := given[name]
		if !ok && d.Default == nil {
			missing = append(missing, name)
			continue
		}
		if !ok {
			text = *d.Default
		}
		if isUnknown(text) {
			bound[name] = Unknown{Because: name}
			continue
		}
		value, wrong := d.bind(text)
		if len(text) > maxParameterValue {
			wrong = fmt.Sprintf("Parameter %s has a value of %d bytes, at most %d are allowed", name, len(text), maxParameterValue)
		}
		hint := ""
		if wrong == "" && d.ssmType() != "" {
			value, wrong, hint = d.lookup(text, t.source.options.SSM)
		}
		if wrong != "" {
			diags.Errorf(d.Pos, "%s", wrong).Hint = hint
			continue
		}
		bound[name] = value
	}
	if len(missing) > 0 {
		diags.Errorf(t.Parameters[missing[0]].Pos, "Parameters: [%s] must have values", join(missing)).
			Hint = "give them under parameters: of the stack in makeitso.yaml"
	}
	var surplus []string
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if t.Parameters[name] == nil {
			surplus = append(surplus, name)
		}
	}
	if len(surplus) > 0 {
		diags.Errorf(diag.Pos{File: t.File}, "Parameters: [%s] do not exist in the template", join(surplus)).
			Hint = didYouMean(surplus[0], slices.Collect(maps.Keys(t.Parameters)))
	}
	return bound, diags
}

// isUnknown says of a parameter's value, or of an item of a list, that only an
// apply will know it.
func isUnknown(text string) bool { return strings.Contains(text, KnownAfterApply) }

// Undecided gives the parameters, given as KnownAfterApply, by which the
// template decides what there is: in conditions, rules and loops. With any, it
// cannot be bound until their values are known.
func (t *Template) Undecided(given map[string]string) []string {
	decides, all := map[string]bool{}, t.early.late
	note := func(v *Value) {
		walk(v, nil, func(f *Value) {
			switch f.Func {
			case "Ref", "Fn::ValueOf":
				decides[f.Items[0].Text] = true
			case "Fn::RefAll", "Fn::ValueOfAll":
				all = true
			}
		})
	}
	for _, v := range t.Conditions {
		note(v)
	}
	for _, r := range t.Rules {
		note(r.Condition)
		for _, a := range r.Assertions {
			note(a.Assert)
		}
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if isUnknown(given[name]) && (all || decides[name]) {
			names = append(names, name)
		}
	}
	return names
}

func join(words []string) string { return strings.Join(words, ", ") }
