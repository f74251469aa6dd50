package template

import (
	"regexp"
	"slices"

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
	Resources   map[string]*Resource
	Outputs     map[string]*Output
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
	p := &parser{reader: reader{file: file}}
	root := p.document(src)
	if root == nil {
		return nil, p.diags
	}
	p.t = &Template{
		File: file, Parameters: map[string]*Parameter{}, Mappings: map[string]*Value{}, Conditions: map[string]*Value{},
		Resources: map[string]*Resource{}, Outputs: map[string]*Output{},
	}
	p.sections(root)
	if !p.diags.HasErrors() {
		p.diags = append(p.diags, p.t.check()...)
	}
	p.diags.Sort()
	return p.t, p.diags
}

// parser fills a Template.
type parser struct {
	reader
	t *Template
}

var sectionNames = []string{"AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules", "Mappings", "Conditions", "Transform", "Resources", "Outputs", "Hooks"}

func (p *parser) sections(root *yaml.Node) {
	hasResources := false
	for _, s := range p.pairs(root, 0) {
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
		case "Metadata":
		case "Parameters":
			p.members(s, p.parameter)
		case "Mappings":
			p.members(s, p.mapping2)
		case "Conditions":
			p.members(s, p.condition)
		case "Resources":
			hasResources = true
			p.members(s, p.resource)
			if len(s.value.Content) == 0 && s.value.Kind == yaml.MappingNode {
				hasResources = false
			}
		case "Outputs":
			p.members(s, p.output)
		case "Rules", "Transform", "Hooks":
			p.diags.Errorf(s.pos, "section %s is not supported yet", s.key)
		default:
			d := p.diags.Errorf(s.pos, "Invalid template property or properties [%s]", s.key)
			d.Hint = didYouMean(s.key, sectionNames)
		}
	}
	if !hasResources {
		p.diags.Errorf(p.pos(root), "Template format error: At least one Resources member must be defined.")
	}
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
	for _, m := range p.pairs(n, 0) {
		if m.value.Kind == yaml.AliasNode {
			m.value = m.value.Alias
		}
		read(m)
	}
}

var alphanumeric = regexp.MustCompile(`^[A-Za-z0-9]+$`)

func (p *parser) mapping2(m pair) {
	v := p.value(m.value, false, 0)
	if v == nil {
		return
	}
	if v.Kind != Map {
		p.diags.Errorf(m.pos, "Template format error: Every Mappings member %s must be a map", m.key)
		return
	}
	for _, first := range v.Entries {
		if first.Value.Kind != Map {
			p.diags.Errorf(first.Pos, "Template format error: Every Mappings member %s must be a map", m.key)
			continue
		}
		for _, second := range first.Value.Entries {
			if k := second.Value.Kind; k != Text && k != List {
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
	if m.value.Kind != yaml.MappingNode {
		p.diags.Errorf(m.pos, "Template format error: Any Resources member must be an object.")
		return
	}
	r := &Resource{LogicalID: m.key, Pos: m.pos, TypePos: m.pos}
	for _, a := range p.pairs(m.value, 0) {
		p.resourceAttribute(r, a)
	}
	if r.Type == "" {
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
		r.DeletionPolicy = p.oneOf(a, "Delete", "Retain", "RetainExceptOnCreate", "Snapshot")
	case "UpdateReplacePolicy":
		r.UpdateReplacePolicy = p.oneOf(a, "Delete", "Retain", "Snapshot")
	case "CreationPolicy", "UpdatePolicy":
		p.diags.Errorf(a.pos, "attribute %s is not supported yet", a.key)
	case "Version": // of a custom resource's provider; it changes nothing here
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
	if o.Value != nil {
		p.t.Outputs[m.key] = o
	}
}

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

func (p *parser) oneOf(a pair, allowed ...string) string {
	text := p.scalar(a)
	if text != "" && !slices.Contains(allowed, text) {
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
