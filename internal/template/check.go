package template

import (
	"maps"
	"slices"

	"makeitso/internal/diag"
)

// PseudoParameters are the names that every template can refer to.
func PseudoParameters() []string {
	return []string{"AWS::AccountId", "AWS::NoValue", "AWS::NotificationARNs", "AWS::Partition", "AWS::Region", "AWS::StackId", "AWS::StackName", "AWS::URLSuffix"}
}

// check finds what is wrong with a template whose parts are well formed.
func (t *Template) check() diag.List {
	c := checker{t: t, pseudo: PseudoParameters()}
	for _, name := range slices.Sorted(maps.Keys(t.Conditions)) {
		c.block = "Conditions"
		c.value(t.Conditions[name])
	}
	c.rules()
	for _, id := range slices.Sorted(maps.Keys(t.Resources)) {
		r := t.Resources[id]
		c.block = "Resources"
		c.conditionName(r.Condition, r.Pos)
		c.value(r.Properties)
		c.value(r.Metadata)
		c.value(r.CreationPolicy)
		c.value(r.UpdatePolicy)
		c.dynamic(r)
		for _, d := range r.DependsOn {
			if !t.has("Resources", d.Text) {
				c.unresolved(d.Text, d.Pos, slices.Collect(maps.Keys(t.Resources)))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Outputs)) {
		o := t.Outputs[name]
		c.block = "Outputs"
		c.conditionName(o.Condition, o.Pos)
		c.value(o.Value)
		c.listValue(o)
		c.exportName(o.Export)
	}
	c.conditionCycles()
	if !c.diags.HasErrors() {
		// Edges through Fn::If and of conditional resources are judged when
		// the conditions are decided (Graph).
		c.diags = append(c.diags, t.cycles(t.edges(nil))...)
	}
	return c.diags
}

// has says whether a section has a member of a name, even one with mistakes,
// or may come to have it.
func (t *Template) has(section, name string) bool {
	return t.declared[section][name] || t.early.mayExist(name)
}

// listValue reports an output that a list parameter gives.
func (c *checker) listValue(o *Output) {
	if o.Value.Kind != Call || o.Value.Func != "Ref" {
		return
	}
	if d := c.t.Parameters[o.Value.Items[0].Text]; d != nil && d.isList() {
		c.diags.Errorf(o.Value.Pos, "Template format error: The Value field of every Outputs member must evaluate to a String.").
			Hint = "parameter " + d.Name + " is a list; join it with Fn::Join"
	}
}

type checker struct {
	t          *Template
	pseudo     []string
	block      string // the section being checked, as the service names it
	references int    // dynamic ones
	diags      diag.List
}

func (c *checker) value(v *Value) {
	walk(v, nil, func(f *Value) {
		c.nesting(f)
		switch f.Func {
		case "Ref":
			c.ref(f.Items[0])
		case "Fn::GetAtt":
			c.getAtt(f.Items[0])
		case "Condition":
			c.conditionName(f.Items[0].Text, f.Items[0].Pos)
		case "Fn::If":
			if name := f.Items[0]; !c.t.has("Conditions", name.Text) {
				c.diags.Errorf(name.Pos, "Template error: unresolved condition dependency %s in Fn::If", name.Text).
					Hint = didYouMean(name.Text, slices.Collect(maps.Keys(c.t.Conditions)))
			}
		case "Fn::FindInMap":
			c.mapName(f)
		case "Fn::And", "Fn::Or", "Fn::Not":
			if c.block != "Conditions" && c.block != "Rules" {
				c.diags.Errorf(f.Pos, "Template error: function %s stands outside Conditions", f.Func).Hint = "give it a name in Conditions and use that in Fn::If"
			}
		case "Fn::ImportValue":
			c.noResources(f.Items[0], "Fn::ImportValue")
		case "Fn::ToJsonString":
			c.noNotifications(f)
		default:
			c.ruleFunction(f)
		}
	})
}

func (c *checker) ref(name *Value) {
	t := c.t
	if t.has("Parameters", name.Text) || slices.Contains(c.pseudo, name.Text) {
		return
	}
	if t.has("Resources", name.Text) {
		if c.block == "Conditions" || c.block == "Rules" {
			c.diags.Errorf(name.Pos, "Template error: %s cannot depend on resource %s", oneOf[c.block], name.Text).Allowed = "parameters, mappings and other conditions"
		}
		return
	}
	candidates := slices.Concat(c.pseudo, slices.Collect(maps.Keys(t.Parameters)), slices.Collect(maps.Keys(t.Resources)))
	c.unresolved(name.Text, name.Pos, candidates)
}

// noNotifications reports AWS::NotificationARNs where JSON is made.
func (c *checker) noNotifications(f *Value) {
	walk(f.Items[0], nil, func(inner *Value) {
		if inner.Func == "Ref" && inner.Items[0].Text == "AWS::NotificationARNs" {
			c.diags.Errorf(inner.Pos, "Template error: AWS::NotificationARNs cannot stand in Fn::ToJsonString")
		}
	})
}

func (c *checker) getAtt(id *Value) {
	if !c.t.has("Resources", id.Text) {
		c.unresolved(id.Text, id.Pos, slices.Collect(maps.Keys(c.t.Resources)))
	} else if c.block == "Conditions" || c.block == "Rules" {
		c.diags.Errorf(id.Pos, "Template error: %s cannot depend on resource %s", oneOf[c.block], id.Text).Allowed = "parameters, mappings and other conditions"
	}
}

// oneOf names a member of a section in which there are no resources.
var oneOf = map[string]string{"Conditions": "a condition", "Rules": "a rule"}

func (c *checker) unresolved(name string, pos diag.Pos, candidates []string) {
	c.diags.Errorf(pos, "Template format error: Unresolved resource dependencies [%s] in the %s block of the template", name, c.block).
		Hint = didYouMean(name, candidates)
}

func (c *checker) conditionName(name string, pos diag.Pos) {
	if name == "" || c.t.has("Conditions", name) {
		return
	}
	c.diags.Errorf(pos, "Template format error: Unresolved condition dependency %s in the %s block of the template", name, c.block).
		Hint = didYouMean(name, slices.Collect(maps.Keys(c.t.Conditions)))
}

func (c *checker) mapName(f *Value) {
	name := f.Items[0]
	if name.Kind != Text || c.t.has("Mappings", name.Text) || len(f.Items) == 4 {
		return
	}
	c.diags.Errorf(name.Pos, "Template error: Unable to get mapping for %s", name.Text).
		Hint = didYouMean(name.Text, slices.Collect(maps.Keys(c.t.Mappings)))
}

func (c *checker) exportName(name *Value) {
	if name == nil {
		return
	}
	if name.Kind != Text && name.Kind != Call {
		c.diags.Errorf(name.Pos, "Template format error: an export's Name must be a string or a function that gives one")
		return
	}
	c.value(name)
	c.noResources(name, "an export's Name")
	walk(name, nil, func(f *Value) {
		if f.Func == "Fn::GetStackOutput" {
			c.diags.Errorf(f.Pos, "Template error: an export's Name cannot depend on Fn::GetStackOutput")
		}
	})
}

// noResources reports references to resources where none may stand.
func (c *checker) noResources(v *Value, where string) {
	walk(v, nil, func(f *Value) {
		if (f.Func == "Ref" || f.Func == "Fn::GetAtt") && c.t.Resources[f.Items[0].Text] != nil {
			c.diags.Errorf(f.Pos, "Template error: %s cannot depend on resources, found %s", where, f.Items[0].Text)
		}
	})
}

// walk calls visit for every function in v, those of a Fn::Sub's text
// included. With conditions decided, only the branches of Fn::If that are
// taken are gone through.
func walk(v *Value, conditions map[string]bool, visit func(*Value)) {
	if v == nil {
		return
	}
	for _, e := range v.Entries {
		walk(e.Value, conditions, visit)
	}
	if v.Kind == Call {
		visit(v)
		for i := range v.pieces {
			walk(v.pieces[i].ref, conditions, visit)
		}
		if v.Func == "Fn::If" && conditions != nil {
			walk(v.branch(conditions), conditions, visit)
			return
		}
	}
	for _, item := range v.Items {
		walk(item, conditions, visit)
	}
}

// branch gives the branch of a Fn::If that is taken.
func (v *Value) branch(conditions map[string]bool) *Value {
	if conditions[v.Items[0].Text] {
		return v.Items[1]
	}
	return v.Items[2]
}

// conditionCycles reports conditions that depend on themselves.
func (c *checker) conditionCycles() {
	edges := map[string][]string{}
	for name, v := range c.t.Conditions {
		edges[name] = nil
		walk(v, nil, func(f *Value) {
			if (f.Func == "Condition" || f.Func == "Fn::If") && c.t.Conditions[f.Items[0].Text] != nil {
				edges[name] = append(edges[name], f.Items[0].Text)
			}
		})
	}
	for _, cycle := range cyclesOf(edges) {
		c.diags.Errorf(c.t.Conditions[cycle[0]].Pos, "Template format error: Circular dependency between conditions: [%s]", join(cycle))
	}
}
