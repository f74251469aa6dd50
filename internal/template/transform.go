package template

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v4"

	"makeitso/internal/diag"
)

const (
	languageExtensions = "AWS::LanguageExtensions"
	include            = "AWS::Include"
	serverless         = "AWS::Serverless-2016-10-31"
)

// transforms reads the section Transform. It comes before all others, which
// depend on it.
func (p *parser) transforms(n *yaml.Node) {
	for _, u := range p.uses(n, 0) {
		p.t.Transforms = append(p.t.Transforms, u.name.Value)
		if u.name.Value == languageExtensions {
			p.t.early.extensions = true
			continue
		}
		p.included = append(p.included, p.macro(u, 0)...)
	}
}

// unsupported says that a part of a template is not carried out: the rest is
// judged without it, and Bind refuses the template.
func (r *reader) unsupported(n *yaml.Node, what string) {
	r.diags.Warnf(r.pos(n), "%s is not supported yet", what).Hint = "the template is judged without it and cannot be applied here"
	r.unready(n, what+" is not supported yet")
}

// unready keeps a reason why Bind refuses the template: what stands there may
// make any name.
func (r *reader) unready(n *yaml.Node, why string) {
	r.t.early.unready = append(r.t.early.unready, unready{r.pos(n), why})
	r.t.early.open = append(r.t.early.open, anyName)
}

// macro carries out one use of a transform and gives the entries of the
// fragment that it names; none if there is nothing that gives them.
func (r *reader) macro(u use, depth int) []pair {
	switch name := u.name.Value; {
	case ofAccount(name):
		what := "macro " + name + " is not run here"
		r.diags.Warnf(r.pos(u.name), "%s", what).Hint = "the template is judged without it; a plan runs it"
		r.unready(u.name, what)
	case name != include:
		r.unsupported(u.name, "transform "+name)
	case u.params == nil || child(u.params, "Location") == nil:
		r.diags.Errorf(r.pos(u.node), "Template error: AWS::Include needs the parameter Location").Hint = "Location is the s3:// address of the fragment"
	case r.options.Include == nil:
		r.unready(u.node, "there is nothing to read the fragment of AWS::Include from")
	default:
		return r.fragment(child(u.params, "Location"), depth)
	}
	return nil
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return plain(n.Content[i+1])
		}
	}
	return nil
}

// fragment reads what AWS::Include names: keys and values that stand where the
// transform stood.
func (r *reader) fragment(location *yaml.Node, depth int) []pair {
	if r.fragments++; r.fragments > maxFragments {
		r.diags.Errorf(r.pos(location), "Template error: more than %d fragments", maxFragments)
		return nil
	}
	v := r.value(location, false, depth)
	if v == nil {
		return nil
	}
	value, known := r.early(v)
	where, isText := value.(string)
	switch {
	case !known:
		r.t.early.late = true
		r.t.early.open = append(r.t.early.open, anyName)
		return nil
	case !isText:
		r.diags.Errorf(v.Pos, "Template error: Location of AWS::Include must be a text, found %s", describe(value))
		return nil
	}
	src, err := r.options.Include(where)
	if err != nil {
		r.diags.Errorf(v.Pos, "Transform AWS::Include failed with: %v", err)
		return nil
	}
	inner := &reader{file: where}
	root := inner.document(src)
	r.diags = append(r.diags, inner.diags...)
	if root == nil {
		return nil
	}
	if child(root, macroKey) != nil {
		r.diags.Errorf(diag.Pos{File: where, Line: 1, Column: 1}, "Transform AWS::Include failed with: a fragment cannot hold AWS::Include")
		return nil
	}
	r.from(root, &diag.Pos{File: where}, map[*yaml.Node]bool{})
	return r.pairs(root, depth+1)
}

const maxFragments = 100

// from keeps the file that nodes come from, for their positions.
func (r *reader) from(n *yaml.Node, file *diag.Pos, seen map[*yaml.Node]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	r.origins[n] = file
	if n.Alias != nil {
		r.from(n.Alias, file, seen)
	}
	for _, inner := range n.Content {
		r.from(inner, file, seen)
	}
}

// ready says what keeps a template from being bound.
func (t *Template) ready() diag.List {
	var diags diag.List
	for _, u := range t.early.unready {
		diags.Errorf(u.pos, "%s", u.message)
	}
	return diags
}

// again reads the template once more, with the values that are bound, if
// anything in it goes by values: then its macros are carried out.
func (t *Template) again(given map[string]string, bound map[string]any) (diags diag.List) {
	if !t.early.late {
		return nil
	}
	o := t.source.options
	o.Parameters = given
	expanded, diags := parse(t.File, t.source.src, o, t, bound)
	if diags.HasErrors() {
		return diags
	}
	if expanded.early.undecided {
		diags.Errorf(diag.Pos{File: t.File}, "Template error: a Fn::ForEach, a policy or a fragment goes by a value that is not known before there are resources").
			Allowed = "parameters, mappings and pseudo parameters"
		return diags
	}
	for name, d := range t.Parameters { // a value that was given may be a secret, whatever macros leave of it
		if expanded.Parameters[name] == nil {
			expanded.Parameters[name] = d
		}
	}
	*t = *expanded
	t.early.late = true
	return nil
}

// sectionsOf gives the sections of a template, those of included fragments
// among them, in the order in which they must be read.
func (p *parser) sectionsOf(root *yaml.Node) []pair {
	if n := child(root, "Transform"); n != nil {
		p.transforms(n)
	}
	all := p.pairs(root, 0)
	for _, extra := range p.included {
		at := slices.IndexFunc(all, func(s pair) bool { return s.key == extra.key })
		if at < 0 {
			all = append(all, extra)
			continue
		}
		both := *plain(all[at].value)
		both.Content = slices.Concat(both.Content, plain(extra.value).Content)
		all[at].value = &both
	}
	order := func(s pair) int { return slices.Index(readingOrder, s.key) }
	slices.SortStableFunc(all, func(a, b pair) int { return order(a) - order(b) })
	return all
}

// readingOrder puts sections after those that they depend on.
var readingOrder = []string{"Transform", "Globals", "Metadata", "Parameters", "Mappings", "Conditions", "Rules", "Hooks", "Resources", "Outputs"}

// limit reports a section with more members than CloudFormation takes.
func (p *parser) limit(section pair, n, most int, what string) {
	if most > 0 && n > most {
		p.diags.Errorf(section.pos, "Template format error: Number of %s, %d, is greater than maximum allowed, %d", what, n, most)
	}
}

// longerThan reports a text that is longer than CloudFormation takes.
func (p *parser) longerThan(n *yaml.Node, what string, most int) {
	if len(n.Value) > most {
		p.diags.Errorf(p.pos(n), "Template format error: %s is %d bytes long", what, len(n.Value)).Allowed = fmt.Sprintf("at most %d", most)
	}
}
