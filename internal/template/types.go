package template

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"makeitso/internal/diag"
	"makeitso/internal/registry"
)

var typeName = regexp.MustCompile(`^(AWS::[A-Za-z0-9]+::[A-Za-z0-9]+(::MODULE)?|Custom::[A-Za-z0-9_@-]+(::[A-Za-z0-9_@-]+)*|[A-Za-z0-9]+::[A-Za-z0-9]+(::[A-Za-z0-9]+)?(::MODULE)?)$`)

// CheckTypes judges the resources by what the registry says of their types:
// that they exist, that required properties are given, that none is set which
// only the service gives, that attributes exist, and that none depends on one
// that may be absent. It needs no parameter values; where the conditions are
// decided, only what they let through is judged.
func (t *Template) CheckTypes(conditions map[string]bool) diag.List {
	c := typeChecker{t: t, conditions: conditions}
	for _, id := range slices.Sorted(maps.Keys(t.Resources)) {
		r := t.Resources[id]
		if r.Type == "" || c.absent(r.Condition) {
			continue // a missing type was reported by Parse
		}
		facts, known := registry.Type(r.Type)
		if strings.HasPrefix(r.Type, "Custom::") {
			facts, known = registry.Facts{Required: []string{"ServiceToken"}}, true
		}
		if !known {
			c.unknownType(r)
		} else if len(t.early.unready) == 0 {
			c.required(r, facts)
			c.readOnly(r, facts)
			c.spelling(r, facts)
		}
		c.module(r)
		if conditions == nil {
			c.dependsOn(r)
		}
		c.attributes(r.Properties)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Outputs)) {
		if o := t.Outputs[name]; !c.absent(o.Condition) {
			c.attributes(o.Value)
		}
	}
	c.diags.Sort()
	return c.diags
}

type typeChecker struct {
	t          *Template
	conditions map[string]bool // nil if they are not decided
	diags      diag.List
}

// absent says whether a condition takes away what has it.
func (c *typeChecker) absent(condition string) bool {
	return c.conditions != nil && condition != "" && !c.conditions[condition]
}

// unknownType reports a type that is not AWS's where it says that it is. Types
// of others cannot be known here.
func (c *typeChecker) unknownType(r *Resource) {
	switch {
	case strings.HasPrefix(r.Type, "AWS::Serverless::") && slices.Contains(c.t.Transforms, serverless):
	case typeName.MatchString(r.Type) && (!strings.HasPrefix(r.Type, "AWS::") || strings.HasSuffix(r.Type, "::MODULE")):
	case len(c.t.early.unready) > 0: // a macro may make of it what it likes
	default:
		d := c.diags.Errorf(r.TypePos, "Template format error: Unrecognized resource types: [%s]", r.Type)
		switch {
		case strings.HasPrefix(r.Type, "AWS::Serverless::"):
			d.Hint = "it needs Transform: " + serverless
		default:
			d.Hint = didYouMean(r.Type, registry.Names())
		}
	}
}

// module reports what the resources of a module cannot have.
func (c *typeChecker) module(r *Resource) {
	if !strings.HasSuffix(r.Type, "::MODULE") {
		return
	}
	for what, v := range map[string]*Value{"CreationPolicy": r.CreationPolicy, "UpdatePolicy": r.UpdatePolicy, "property Tags": r.Properties.Get("Tags")} {
		if v != nil {
			c.diags.Errorf(v.Pos, "Template error: module %s cannot have %s", r.LogicalID, what)
		}
	}
}

// dependsOn reports a resource that always exists and depends on one that a
// condition may take away.
func (c *typeChecker) dependsOn(r *Resource) {
	for _, d := range r.DependsOn {
		if on := c.t.Resources[d.Text]; on != nil && on.Condition != "" && r.Condition == "" {
			c.diags.Errorf(d.Pos, "Template format error: Unresolved resource dependencies [%s] in the Resources block of the template", d.Text).
				Hint = "where its condition " + on.Condition + " does not hold; give " + r.LogicalID + " the same condition"
		}
	}
}

func (c *typeChecker) required(r *Resource, facts registry.Facts) {
	if r.Properties != nil && r.Properties.Kind != Map {
		return // a function gives them
	}
	for _, name := range facts.Required {
		if v := r.Properties.Get(name); v != nil && !v.isNoValue() {
			continue
		}
		d := c.diags.Errorf(r.Pos, "Property validation failure: [The property {/%s} is required]", name)
		if r.Properties == nil {
			continue
		}
		given := make([]string, len(r.Properties.Entries))
		for i, e := range r.Properties.Entries {
			given[i] = e.Key
		}
		if near := diag.Nearest(name, given); near != "" {
			d.Hint = "is " + near + " meant to be " + name + "?"
		}
	}
}

// isNoValue says whether v is a Ref to AWS::NoValue.
func (v *Value) isNoValue() bool {
	return v.Kind == Call && v.Func == "Ref" && v.Items[0].Text == "AWS::NoValue"
}

// readOnly reports properties that only the service gives.
func (c *typeChecker) readOnly(r *Resource, facts registry.Facts) {
	if r.Properties == nil || r.Properties.Kind != Map {
		return
	}
	settable := facts.Settable()
	for _, e := range r.Properties.Entries {
		if slices.Contains(facts.ReadOnly, e.Key) && !slices.Contains(settable, e.Key) {
			c.diags.Errorf(e.Pos, "Property validation failure: [Encountered unsupported properties in {/}: [%s]]", e.Key).
				Hint = e.Key + " is an attribute that the service gives; read it with Fn::GetAtt"
		}
	}
}

// spelling warns of properties that the registry does not speak of and that are
// nearly one it speaks of. It does not know all, so another name may be right.
func (c *typeChecker) spelling(r *Resource, facts registry.Facts) {
	if r.Properties == nil || r.Properties.Kind != Map {
		return
	}
	var names []string
	for _, path := range slices.Concat(facts.Settable(), facts.ReadOnly) {
		name, _, _ := strings.Cut(path, "/")
		names = append(names, name)
	}
	for _, e := range r.Properties.Entries {
		near := diag.Slip(e.Key, names)
		missing := slices.Contains(facts.Required, near) && r.Properties.Get(near) == nil // which required says
		if near == "" || missing || slices.Contains(names, e.Key) || e.Key == facts.TagProperty() {
			continue
		}
		c.diags.Warnf(e.Pos, "%s may have no property %s", r.Type, e.Key).Hint = "is it meant to be " + near + "?"
	}
}

// attributes judges every Fn::GetAtt in v.
func (c *typeChecker) attributes(v *Value) {
	for _, ref := range c.t.References(v, c.conditions) {
		typ := c.t.Resources[ref.LogicalID].Type
		facts, known := registry.Type(typ)
		if ref.Attribute == "" || !known || len(facts.ReadOnly) == 0 || openAttributes[typ] {
			continue
		}
		path := strings.ReplaceAll(ref.Attribute, ".", "/")
		var names []string
		found := false
		for _, fact := range slices.Concat(facts.ReadOnly, facts.Settable()) {
			found = found || fact == path || strings.HasPrefix(fact, path+"/") || strings.HasPrefix(path, fact+"/")
			names = append(names, strings.ReplaceAll(fact, "/", "."))
		}
		if found {
			continue
		}
		d := c.diags.Errorf(ref.Pos, "Resource type %s does not support attribute {%s}.", typ, ref.Attribute)
		if d.Hint = didYouMean(ref.Attribute, names); d.Hint == "" {
			d.Severity = diag.Warning // some types give their properties too, which the registry does not say
		}
		if len(facts.ReadOnly) <= 12 {
			d.Allowed = strings.ReplaceAll(strings.Join(facts.ReadOnly, ", "), "/", ".")
		}
	}
}

// openAttributes are the types whose attributes are named by somebody else.
var openAttributes = map[string]bool{
	"AWS::CloudFormation::Stack": true, "AWS::CloudFormation::CustomResource": true, "AWS::ServiceCatalog::CloudFormationProvisionedProduct": true,
}
