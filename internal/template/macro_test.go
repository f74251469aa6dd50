package template_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/template"
)

// macros answers for the macros that tests name.
func macros(r template.MacroRequest) (json.RawMessage, error) {
	switch r.Name {
	case "Echo":
		return r.Fragment, nil
	case "Show": // what it was asked, as a text
		raw, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		return json.Marshal(map[string]any{"Shown": string(raw)})
	case "Mark": // writes its parameter before each "<here>"
		var params struct{ With string }
		if err := json.Unmarshal(r.Params, &params); err != nil {
			return nil, err
		}
		here, err := json.Marshal(params.With + " <here>")
		return json.RawMessage(strings.ReplaceAll(string(r.Fragment), "<here>", strings.Trim(string(here), `"`))), err
	case "Count":
		return count(r.Fragment)
	case "Double":
		return json.RawMessage("[" + string(r.Fragment) + "," + string(r.Fragment) + "]"), nil
	case "Text":
		return json.RawMessage(`"a text"`), nil
	case "Large":
		return json.Marshal(strings.Repeat("x", 17<<20))
	case "Deep":
		return json.RawMessage(strings.Repeat("[", 2000) + strings.Repeat("]", 2000)), nil
	case "Null":
		return json.RawMessage("null"), nil
	case "Names":
		return json.RawMessage(`{"A": {"Fn::Transform": {"Name": "Echo"}}}`), nil
	case "Garbage":
		return json.RawMessage(`{"A": `), nil
	case "Wrong":
		return json.RawMessage(strings.Replace(string(r.Fragment), "{", `{"Added": {"Type": "T::A", "Prperties": {}, "DependsOn": "Nothing"},`, 1)), nil
	}
	return nil, errors.New("No transform named " + r.Name + " found.")
}

// count writes each resource as often as its key Count says.
func count(fragment json.RawMessage) (json.RawMessage, error) {
	var whole map[string]any
	if err := json.Unmarshal(fragment, &whole); err != nil {
		return nil, err
	}
	resources := whole["Resources"].(map[string]any)
	for _, id := range slices.Sorted(maps.Keys(resources)) {
		resource := resources[id].(map[string]any)
		times, counted := resource["Count"].(float64)
		if !counted {
			continue
		}
		delete(resource, "Count")
		delete(resources, id)
		for i := range int(times) {
			resources[fmt.Sprint(id, i+1)] = resource
		}
	}
	whole["Parameters"] = map[string]any{"Added": map[string]any{"Type": "String", "Default": "by a macro"}}
	return json.Marshal(whole)
}

// TestMacroMistakes tells what is wrong with macros and with what they answer,
// at the place that somebody wrote.
func TestMacroMistakes(t *testing.T) {
	property := func(macro string) string {
		return "Resources:\n  A:\n    Type: T::A\n    Properties:\n      X: " + macro + "\n"
	}
	top := func(macros string) string {
		return "Transform: " + macros + "\nResources:\n  A: {Type: \"T::A\"}\n"
	}
	for name, c := range map[string]struct{ src, want string }{
		"unknown":             {property("{Fn::Transform: {Name: Nobody}}"), "template.yaml:5:33: error: No transform named Nobody found."},
		"name":                {property("{Fn::Transform: {Name: !Ref A}}"), "template.yaml:5:26: error: Template format error: Key Name of transform definition must be a string."},
		"no macro":            {property("{Fn::Transform: [Echo, [Echo]]}"), "Key Name of transform definition must be a string."},
		"key":                 {property("{Fn::Transform: {Name: Echo, Parametres: {}}}"), "unknown key Parametres of a transform; allowed: Name, Parameters"},
		"params":              {property("{Fn::Transform: {Name: Echo, Parameters: [a]}}"), "Parameters of a transform must be an object"},
		"resource":            {property("{Fn::Transform: {Name: Echo, Parameters: {P: !GetAtt A.B}}}"), "template.yaml:5:55: error: The value of parameter P under transform Echo must resolve to a string, number, boolean or a list of any of these.; Fn::GetAtt of A.B"},
		"condition":           {property("{Fn::Transform: {Name: Echo, Parameters: {P: !If [C, a, b]}}}"), "under transform Echo must resolve to a string, number, boolean or a list of any of these.; conditions are decided when macros have answered"},
		"null":                {property("{Fn::Transform: {Name: 'Null'}}"), "template.yaml:5:26 (made by macro Null): error: 'null' values are not allowed"},
		"names macros":        {property("{Fn::Transform: Names}"), "the answer of macro Names holds Fn::Transform"},
		"no JSON":             {property("{Fn::Transform: Garbage}"), "template.yaml:5:26: error: the answer of macro Garbage is no JSON"},
		"no template":         {top("[Echo, Text]"), "template.yaml:1:19: error: Template format error: unsupported structure."},
		"no template, nested": {"Resources: {A: {Type: \"T::A\"}}\nFn::Transform: Text\n", "template.yaml:1:1: error: Template format error: unsupported structure."},
		"transform twice":     {property("{Fn::Transform: Echo, Fn::Transform: Text}"), "template.yaml:5:32: error: key \"Fn::Transform\" stands twice"},
		"after a text":        {property("{Fn::Transform: [Text, {Name: AWS::Include, Parameters: {Location: \"s3://b/properties.json\"}}]}"), "cannot stand beside what the macro before it has answered"},
		"serverless":          {top("[AWS::Serverless-2016-10-31, Echo]"), "transform AWS::Serverless-2016-10-31 is not supported yet"},
		"own mistakes":        {strings.Replace(top("Echo"), "Type", "Tpe", 1), "template.yaml:3:7: error: Invalid template resource property 'Tpe'"},
		"its mistakes":        {"Resources:\n  A: {Type: \"T::A\"}\n  Fn::Transform: Wrong\n", "template.yaml:2:3 (made by macro Wrong): error: Invalid template resource property 'Prperties'"},
		"twice":               {property("{a: b, a: c, Fn::Transform: Echo}"), `key "a" stands twice`},
		"missing value":       {"Parameters: {P: {Type: String}}\n" + top("Nobody"), "Parameters: [P] must have values"},
	} {
		t.Run(name, func(t *testing.T) {
			tmpl, diags := template.ParseWith("template.yaml", []byte(c.src), template.Options{Macro: macros, Include: fragments})
			if !diags.HasErrors() {
				_, diags = tmpl.Bind(nil)
			}
			if !diags.HasErrors() || !strings.Contains(diags.Error(), c.want) {
				t.Errorf("got %v, want %s", diags, c.want)
			}
		})
	}
}

// TestMacrosAgain binds a template with macros twice: each time they are asked
// with the values given.
func TestMacrosAgain(t *testing.T) {
	src := "Parameters: {P: {Type: String, NoEcho: true}}\nTransform: Count\nResources: {A: {Type: \"T::A\", Count: 2, Properties: {X: !Ref Added}}}\n"
	var asked []any
	tmpl, diags := template.ParseWith("template.yaml", []byte(src), template.Options{Macro: func(r template.MacroRequest) (json.RawMessage, error) {
		asked = append(asked, r.Parameters["P"])
		return macros(r)
	}})
	if diags.HasErrors() || len(asked) > 0 {
		t.Fatalf("before there are values, %v were asked: %v", asked, diags)
	}
	if open := tmpl.Undecided(map[string]string{"P": template.KnownAfterApply}); len(open) != 1 {
		t.Error("a macro may decide by any parameter, but it would be asked without its value")
	}
	for _, value := range []string{"one", "two"} {
		bound, diags := tmpl.Bind(map[string]string{"P": value})
		if diags.HasErrors() || bound["Added"] != "by a macro" || len(tmpl.Resources) != 2 {
			t.Errorf("got %v, %d resources: %v", bound, len(tmpl.Resources), diags)
		}
		if p := tmpl.Parameters["P"]; p == nil || !p.NoEcho {
			t.Error("the macro made a secret of the template's forgotten")
		}
	}
	if fmt.Sprint(asked) != "[one two]" {
		t.Errorf("asked with %v", asked)
	}
}

// TestMacroWithoutPlan judges a template whose macro is not run: what it takes
// need not be a template.
func TestMacroWithoutPlan(t *testing.T) {
	_, diags := template.Parse("template.yaml", []byte("Transform: Count\nResources: {A: {Type: \"T::A\", Count: 2}}\n"))
	if diags.HasErrors() || !strings.Contains(diags.Error(), "warning: macro Count is not run here") || !strings.Contains(diags.Error(), "warning: Invalid template resource property 'Count'") {
		t.Errorf("got %v", diags)
	}
}
