package template_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"makeitso/internal/template"
)

// TestProcessed says that a processed template means what the one means that it
// was made of, and needs no transform for it.
func TestProcessed(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	processed := 0
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sections, name := map[string]string{}, ""
		for _, f := range archive.Files {
			sections[f.Name] = string(f.Data)
			if strings.HasPrefix(f.Name, "template") {
				name = f.Name
			}
		}
		given := map[string]string{}
		for line := range strings.Lines(sections["parameters"]) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			given[key] = value
		}
		text, diags := template.Process(name, []byte(sections[name]), template.Options{Parameters: given, Macro: macros, Include: fragments,
			Pseudo: map[string]string{"AWS::Region": "eu-west-1", "AWS::StackName": "test", "AWS::Partition": "aws", "AWS::AccountId": "111111111111"}})
		if diags.HasErrors() || string(text) == sections[name] {
			continue
		}
		processed++
		delete(sections, "macros")
		want := outcome(t, name, map[string]string{name: sections[name], "parameters": sections["parameters"], "unknown": sections["unknown"], "macros": ""})
		sections["processed.json"] = string(text)
		if strings.Contains(string(text), "Fn::ToJsonString") { // of what only an apply will know
			sections["processed.json"] = `{"Transform":"AWS::LanguageExtensions",` + string(text[1:])
		}
		if got := outcome(t, "processed.json", sections); got != want {
			t.Errorf("%s: processed, it is\n%s\nand means:\n%s\nwant:\n%s", file, text, got, want)
		}
	}
	if processed < 3 {
		t.Errorf("only %d templates were processed", processed)
	}
}

// TestProcess shows what a processed template looks like.
func TestProcess(t *testing.T) {
	const plain = "Resources: {A: {Type: T::A}} # as it is\n"
	for _, c := range []struct{ src, want string }{
		{plain, plain},
		{`
Transform: AWS::LanguageExtensions
Parameters: {Policy: {Type: String, Default: Retain}, Names: {Type: CommaDelimitedList, Default: "x,y"}}
Mappings: {M: {a: {b: c}}}
Conditions: {Never: !Equals [a, b]}
Resources:
  Fn::ForEach::Each: [Name, !Ref Names, {"R${Name}": {Type: T::A, DeletionPolicy: !Ref Policy, Properties: {Name: !Ref Name}}}]
  Last:
    Type: T::B
    Condition: Never
    Properties: {N: !Length [1, 2], J: !ToJsonString {a: !Ref Policy}, Later: !ToJsonString [!Ref Rx], M: !FindInMap [M, z, b, {DefaultValue: d}], On: yes}
`, `{"Parameters":{"Policy":{"Type":"String","Default":"Retain"},"Names":{"Type":"CommaDelimitedList","Default":"x,y"}},"Mappings":{"M":{"a":{"b":"c"}}},` +
			`"Conditions":{"Never":{"Fn::Equals":["a","b"]}},"Resources":{"Rx":{"Type":"T::A","DeletionPolicy":"Retain","Properties":{"Name":"x"}},` +
			`"Ry":{"Type":"T::A","DeletionPolicy":"Retain","Properties":{"Name":"y"}},"Last":{"Type":"T::B","Condition":"Never","Properties":{"N":2,` +
			`"J":"{\"a\":\"Retain\"}","Later":{"Fn::ToJsonString":[{"Ref":"Rx"}]},"M":"d","On":true}}}}`},
		{`{"Resources": {"A": {"Type": "T::A", "Properties": {"Fn::Transform": {"Name": "AWS::Include", "Parameters": {"Location": "s3://b/properties.json"}}}}, "Own": {"Type": "T::A"}}}`,
			`{"Resources":{"A":{"Type":"T::A","Properties":{"A":"included","B":{"Ref":"Own"}}},"Own":{"Type":"T::A"}}}`},
		{"Transform: AWS::LanguageExtensions\nParameters: {Key: {Type: String, NoEcho: true, Default: 'a\"b'}}\nResources: {A: {Type: T::A, Properties: {J: !ToJsonString {k: !Ref Key}, R: !Ref Key}}}",
			`{"Parameters":{"Key":{"Type":"String","NoEcho":true,"Default":"a\"b"}},"Resources":{"A":{"Type":"T::A","Properties":{"J":"{\"k\":\"****\"}","R":{"Ref":"Key"}}}}}`},
		{"Transform: Mark\nResources: {A: {Type: T::A, Properties: {P: \"<here>\"}}}", `{"Resources":{"A":{"Type":"T::A","Properties":{"P":" <here>"}}}}`},
	} {
		got, diags := template.Process("t.yaml", []byte(c.src), template.Options{Macro: macros, Include: fragments})
		if diags.HasErrors() || string(got) != c.want {
			t.Errorf("%s\nbecomes %s (%v), want %s", c.src, got, diags, c.want)
		}
	}
	if _, diags := template.Process("t.yaml", []byte("Resources: {A: {Type: T::A, Properties: {V: !Ref Gone}}}"), template.Options{}); !diags.HasErrors() {
		t.Error("a template with mistakes is processed")
	}
}
