package template

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"makeitso/internal/diag"
)

// Template is a stack's description, read and checked as far as that is
// possible without parameter values.
type Template struct {
	File        string
	Description string
	Parameters  map[string]*Parameter
	Mappings    map[string]*Value // two levels of maps
	Conditions  map[string]*Value
	Rules       map[string]*Rule
	Transforms  []string // the names in Transform
	Resources   map[string]*Resource
	Outputs     map[string]*Output

	early    early
	source   *reader                    // what Bind reads once more
	declared map[string]map[string]bool // all names of each section, those with mistakes too
}

// Resource is one member of Resources.
type Resource struct {
	LogicalID           string
	Type                string
	Pos                 diag.Pos // of the logical id
	TypePos             diag.Pos
	Properties          *Value // a map or a function that gives one; nil if there are none
	Metadata            *Value
	Condition           string // "" if it always exists
	DependsOn           []Name
	CreationPolicy      *Value // a map; nil if there is none
	UpdatePolicy        *Value // a map; nil if there is none
	DeletionPolicy      string // Delete, Retain, RetainExceptOnCreate, Snapshot; "" if not given
	UpdateReplacePolicy string
}

// Output is one member of Outputs.
type Output struct {
	Name        string
	Pos         diag.Pos
	Description string
	Value       *Value
	Condition   string
	Export      *Value // the export's name; nil if it is not exported
}

// Name is a name with its place.
type Name struct {
	Text string
	Pos  diag.Pos
}

// Parse reads a template and reports every mistake that can be seen without
// parameter values. The template is nil if nothing can be made of the source.
func Parse(file string, src []byte) (*Template, diag.List) {
	return ParseWith(file, src, Options{})
}

// ParseWith is Parse for a caller that knows values that the template depends
// on. Loops over parameters go by these; Bind reads the template once more if
// it is given others.
func ParseWith(file string, src []byte, o Options) (*Template, diag.List) {
	o.Parameters = maps.Clone(o.Parameters)
	maps.DeleteFunc(o.Parameters, func(_, text string) bool { return isUnknown(text) })
	return parse(file, src, o, nil, nil)
}

// parse reads a template. former, if there is one, is what an earlier reading
// made of it; then all its parameters have their values.
func parse(file string, src []byte, o Options, former *Template, bound map[string]any) (*Template, diag.List) {
	p := &parser{reader: reader{file: file, options: o, final: former != nil, src: src, origins: map[*yaml.Node]*diag.Pos{}}}
	p.t = &Template{
		File: file, Parameters: map[string]*Parameter{}, Mappings: map[string]*Value{}, Conditions: map[string]*Value{}, Rules: map[string]*Rule{},
		Resources: map[string]*Resource{}, Outputs: map[string]*Output{}, declared: map[string]map[string]bool{},
	}
	root := p.document(src)
	if root == nil {
		return nil, p.diags
	}
	p.t.source = &p.reader
	if o.Macro != nil && namesMacros(root) {
		if former == nil {
			p.parametersFirst(root)
		} else {
			root = p.expand(root, former, bound)
		}
		if former == nil || root == nil {
			p.diags.Sort()
			return p.t, p.diags
		}
	}
	p.sections(root)
	if p.values <= p.mostValues() { // else names are missing that were not read
		p.diags = append(p.diags, p.t.check()...)
	}
	if o.Macro == nil && namesMacro(child(root, "Transform")) { // what a macro takes need not be a template
		for i := range p.diags {
			p.diags[i].Severity = diag.Warning
		}
	}
	p.diags.Sort()
	return p.t, p.diags
}

// parser fills a Template.
type parser struct {
	reader
	included []pair // the sections that AWS::Include in Transform brought
}

var sectionNames = []string{"AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules", "Mappings", "Conditions", "Transform", "Resources", "Outputs", "Hooks"}

// Limits of CloudFormation that hold everywhere.
const (
	maxMembers     = 200 // parameters, mappings, outputs
	maxName        = 255
	maxDescription = 1024
)

func (p *parser) sections(root *yaml.Node) {
	hasResources := false
	all := p.sectionsOf(root)
	if p.options.read != nil {
		p.options.read(p, all)
	}
	for _, s := range all {
		p.section = s.key
		switch s.key {
		case "AWSTemplateFormatVersion":
			if s.value.Value != "2010-09-09" {
				p.diags.Errorf(p.pos(s.value), "Template format error: unsupported value for AWSTemplateFormatVersion.").Allowed = `"2010-09-09"`
			}
		case "Description":
			if s.value.Kind != yaml.ScalarNode {
				p.diags.Errorf(p.pos(s.value), "Template format error: Description is a text")
			}
			p.t.Description = s.value.Value
			p.longerThan(s.value, "Description", maxDescription)
		case "Metadata", "Transform":
		case "Parameters":
			p.members(s, p.parameter)
			p.bindKnown()
		case "Rules":
			p.members(s, p.rule)
		case "Mappings":
			p.members(s, p.mapping2)
		case "Conditions":
			p.members(s, p.condition)
		case "Resources":
			hasResources = true
			p.members(s, p.resource)
			if len(p.t.declared["Resources"]) == 0 && plain(s.value).Kind == yaml.MappingNode && len(p.t.early.open) == 0 {
				p.empty(s)
			}
		case "Outputs":
			p.members(s, p.output)
		case "Hooks":
			p.unsupported(s.value, "section Hooks")
		case "Globals":
			if !slices.Contains(p.t.Transforms, serverless) {
				p.diags.Errorf(s.pos, "Invalid template property or properties [Globals]").Hint = "Globals needs Transform: " + serverless
			}
		default:
			d := p.diags.Errorf(s.pos, "Invalid template property or properties [%s]", s.key)
			d.Hint = didYouMean(s.key, sectionNames)
		}
	}
	if !hasResources && len(p.t.early.open) == 0 {
		p.diags.Errorf(p.pos(root), noResourcesMessage)
	}
}

const noResourcesMessage = "Template format error: At least one Resources member must be defined."

// empty tells of a section Resources without members: the template is one, but
// it cannot be applied.
func (p *parser) empty(section pair) {
	p.diags.Warnf(section.pos, noResourcesMessage).Hint = "it cannot be applied like this"
	p.t.early.unready = append(p.t.early.unready, unready{section.pos, noResourcesMessage})
}

// members calls read for each member of a section.
func (p *parser) members(section pair, read func(pair)) {
	n := section.value
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		p.diags.Errorf(p.pos(n), "Template format error: section %s must be a map", section.key)
		return
	}
	names := map[string]bool{}
	p.t.declared[section.key] = names
	for _, m := range p.pairs(n, 0) {
		if m.value.Kind == yaml.AliasNode {
			m.value = m.value.Alias
		}
		names[m.key] = true
		if len(m.key) > maxName {
			p.diags.Errorf(m.pos, "Template format error: a name in %s is %d characters long", section.key, len(m.key)).Allowed = "at most 255"
		}
		read(m)
	}
	switch section.key {
	case "Parameters", "Mappings", "Outputs":
		p.limit(section, len(names), maxMembers, strings.ToLower(section.key))
	case "Resources":
		p.limit(section, len(names), p.options.MaxResources, "resources")
	}
}

var alphanumeric = regexp.MustCompile(`^[A-Za-z0-9]+$`)

func (p *parser) mapping2(m pair) {
	if !alphanumeric.MatchString(m.key) {
		p.diags.Errorf(m.pos, "Template format error: Mappings name '%s' is non alphanumeric.", m.key).Allowed = "letters and digits"
	}
	v := p.value(m.value, false, 0)
	if v == nil {
		return
	}
	if v.isMacro() {
		p.t.early.open = append(p.t.early.open, anyName)
		return
	}
	if v.Kind != Map {
		p.diags.Errorf(m.pos, "Template format error: Every Mappings member %s must be a map", m.key)
		return
	}
	p.limit(m, len(v.Entries), maxMembers, "attributes of mapping "+m.key)
	for _, first := range v.Entries {
		if first.Value.isMacro() {
			continue
		}
		if first.Value.Kind != Map {
			p.diags.Errorf(first.Pos, "Template format error: Every Mappings member %s must be a map", m.key)
			continue
		}
		for _, second := range first.Value.Entries {
			if k := second.Value.Kind; k != Text && k != List && !second.Value.isMacro() {
				p.diags.Errorf(second.Pos, "Template format error: Every Mappings attribute must be a String or a List.")
			}
		}
	}
	p.t.Mappings[m.key] = v
}

func (p *parser) condition(m pair) {
	v := p.value(m.value, true, 0)
	if v == nil {
		return
	}
	if v.Kind != Call || !slices.Contains(conditionFunctions, v.Func) {
		p.diags.Errorf(v.Pos, "Template format error: Conditions can only be boolean operations on parameters and other conditions").
			Allowed = "Fn::Equals, Fn::And, Fn::Or, Fn::Not, Condition"
		return
	}
	p.t.Conditions[m.key] = v
}

var conditionFunctions = []string{"Condition", "Fn::And", "Fn::Equals", "Fn::Not", "Fn::Or"}

var resourceKeys = []string{"Type", "Properties", "DependsOn", "Condition", "Metadata", "DeletionPolicy", "UpdateReplacePolicy", "CreationPolicy", "UpdatePolicy"}

func (p *parser) resource(m pair) {
	if !alphanumeric.MatchString(m.key) {
		p.diags.Errorf(m.pos, "Template format error: Resource name %s is non alphanumeric.", m.key).Allowed = "letters and digits"
	}
	if p.t.Parameters[m.key] != nil {
		p.diags.Errorf(m.pos, "Template format error: resource %s has the name of a parameter", m.key).Hint = "rename one of them"
	}
	if m.value.Kind != yaml.MappingNode {
		p.diags.Errorf(m.pos, "Template format error: Any Resources member must be an object.")
		return
	}
	r := &Resource{LogicalID: m.key, Pos: m.pos, TypePos: m.pos}
	unready := len(p.t.early.unready)
	hasType := false
	for _, a := range p.pairs(m.value, 0) {
		hasType = hasType || a.key == "Type"
		p.resourceAttribute(r, a)
	}
	if strings.HasSuffix(r.Type, "::MODULE") { // its resources have names that begin with its own
		p.t.early.open = append(p.t.early.open, regexp.MustCompile("^"+regexp.QuoteMeta(m.key)))
	}
	if !hasType && len(p.t.early.unready) == unready {
		p.diags.Errorf(m.pos, "Template format error: [/Resources/%s] Every Resources object must contain a Type member.", m.key)
	}
	p.t.Resources[m.key] = r
}

func (p *parser) resourceAttribute(r *Resource, a pair) {
	switch a.key {
	case "Type":
		r.Type, r.TypePos = p.scalar(a), p.pos(a.value)
	case "Properties":
		r.Properties = p.value(a.value, false, 0)
		if r.Properties != nil && r.Properties.Kind != Map && r.Properties.Kind != Call {
			p.diags.Errorf(r.Properties.Pos, "Template format error: [/Resources/%s/Properties] must be an object.", r.LogicalID)
			r.Properties = nil
		}
	case "Metadata":
		r.Metadata = p.value(a.value, false, 0)
	case "Condition":
		r.Condition = p.scalar(a)
	case "DependsOn":
		r.DependsOn = p.names(a)
	case "DeletionPolicy":
		r.DeletionPolicy = p.policy(a, "Delete", "Retain", "RetainExceptOnCreate", "Snapshot")
	case "UpdateReplacePolicy":
		r.UpdateReplacePolicy = p.policy(a, "Delete", "Retain", "Snapshot")
	case "CreationPolicy":
		r.CreationPolicy = p.policies(a, "AutoScalingCreationPolicy", "ResourceSignal", "StartFleet")
	case "UpdatePolicy":
		r.UpdatePolicy = p.policies(a, "AutoScalingReplacingUpdate", "AutoScalingRollingUpdate", "AutoScalingScheduledAction",
			"CodeDeployLambdaAliasUpdate", "EnableVersionUpgrade", "UseOnlineResharding")
	case "Version": // of a custom resource's provider; it changes nothing here
	case "Connectors", "IgnoreGlobals":
		if !slices.Contains(p.t.Transforms, serverless) {
			p.diags.Errorf(a.pos, "Invalid template resource property '%s'", a.key).Hint = a.key + " needs Transform: " + serverless
		}
	default:
		d := p.diags.Errorf(a.pos, "Invalid template resource property '%s'", a.key)
		d.Hint = didYouMean(a.key, resourceKeys)
	}
}

var outputKeys = []string{"Value", "Description", "Condition", "Export"}

func (p *parser) output(m pair) {
	if !alphanumeric.MatchString(m.key) {
		p.diags.Errorf(m.pos, "Template format error: Output name %s is non alphanumeric.", m.key).Allowed = "letters and digits"
	}
	if m.value.Kind != yaml.MappingNode {
		p.diags.Errorf(m.pos, "Template format error: Any Outputs member must be an object.")
		return
	}
	o := &Output{Name: m.key, Pos: m.pos}
	hasValue := false
	for _, a := range p.pairs(m.value, 0) {
		switch a.key {
		case "Value":
			hasValue = true
			o.Value = p.value(a.value, false, 0)
		case "Description":
			o.Description = p.scalar(a)
		case "Condition":
			o.Condition = p.scalar(a)
		case "Export":
			p.export(o, a)
		default:
			p.diags.Errorf(a.pos, "Invalid template output property '%s'", a.key).Hint = didYouMean(a.key, outputKeys)
		}
	}
	if !hasValue {
		p.diags.Errorf(m.pos, "Template format error: Every Outputs member must contain a Value object")
	}
	if k := o.Value; k != nil && (k.Kind == List || k.Kind == Map || k.Kind == Call && slices.Contains(listFunctions, k.Func)) {
		p.diags.Errorf(k.Pos, "Template format error: The Value field of every Outputs member must evaluate to a String.").Hint = "found " + found(k) + "; join a list with Fn::Join"
	}
	if o.Value != nil {
		p.t.Outputs[m.key] = o
	}
}

// listFunctions give lists, whatever they are given.
var listFunctions = []string{"Fn::Cidr", "Fn::GetAZs", "Fn::Split"}

func (p *parser) export(o *Output, a pair) {
	v := p.value(a.value, false, 0)
	if v == nil {
		return
	}
	if o.Export = v.Get("Name"); o.Export == nil || len(v.Entries) != 1 {
		p.diags.Errorf(a.pos, "Template format error: Export of output %s must be an object with a Name", o.Name).Allowed = "Name"
	}
}

// scalar gives a text, or reports that there is none.
func (p *parser) scalar(a pair) string {
	if a.value.Kind != yaml.ScalarNode || a.value.ShortTag() == "!!null" || len(a.value.Tag) > 1 && a.value.Tag[0] == '!' && a.value.Tag[1] != '!' {
		p.diags.Errorf(p.pos(a.value), "Template format error: %s must be a text", a.key)
		return ""
	}
	return a.value.Value
}

// policies reads an attribute whose keys are known.
func (p *parser) policies(a pair, allowed ...string) *Value {
	v := p.value(a.value, false, 0)
	if v == nil || v.Kind == Call && (a.key == "UpdatePolicy" || v.Func == "Fn::If" || v.isMacro()) {
		return v
	}
	if v.Kind != Map {
		p.diags.Errorf(v.Pos, "Template format error: %s must be an object", a.key)
		return nil
	}
	for _, e := range v.Entries {
		if !slices.Contains(allowed, e.Key) {
			d := p.diags.Errorf(e.Pos, "Template format error: Unrecognized %s %s", a.key, e.Key)
			d.Allowed = join(allowed)
			d.Hint = didYouMean(e.Key, allowed)
		}
	}
	return v
}

// policy gives one of the allowed texts, "" if it goes by values that are not
// known yet.
func (p *parser) policy(a pair, allowed ...string) string {
	v := p.value(a.value, false, 0)
	if v == nil {
		return ""
	}
	text, known := p.textEarly(v, a.key)
	if !known {
		p.t.early.late = true
		return ""
	}
	if !slices.Contains(allowed, text) {
		d := p.diags.Errorf(p.pos(a.value), "Template format error: Unrecognized %s %s", a.key, text)
		d.Allowed = join(allowed)
		d.Hint = didYouMean(text, allowed)
	}
	return text
}

func (p *parser) names(a pair) []Name {
	items := []*yaml.Node{a.value}
	if a.value.Kind == yaml.SequenceNode {
		items = a.value.Content
	}
	var names []Name
	for _, n := range items {
		if text := p.scalar(pair{a.key, a.pos, n}); text != "" {
			names = append(names, Name{text, p.pos(n)})
		}
	}
	return names
}
