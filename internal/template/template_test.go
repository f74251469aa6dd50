package template_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"makeitso/internal/diag"
	"makeitso/internal/template"
)

// TestGolden reads each case of testdata: a template, perhaps parameters
// (name=value), the ids that do not exist yet (unknown), whether there are
// macros (macros), and what comes of it (want). UPDATE=1 rewrites what comes of it.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			golden(t, file)
		})
	}
}

func golden(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	name := ""
	for _, f := range archive.Files {
		sections[f.Name] = string(f.Data)
		if strings.HasPrefix(f.Name, "template") {
			name = f.Name
		}
	}
	got := outcome(t, name, sections)
	if got == sections["want"] {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Errorf("got:\n%s\nwant:\n%s", got, sections["want"])
		return
	}
	archive.Files = append(slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" }),
		txtar.File{Name: "want", Data: []byte(got)})
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// outcome is the mistakes of a template, or all its values.
func outcome(t *testing.T, name string, sections map[string]string) string {
	given := map[string]string{}
	for line := range strings.Lines(sections["parameters"]) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		given[key] = value
	}
	options := template.Options{}
	if _, ok := sections["macros"]; ok {
		options = template.Options{Parameters: given, Macro: macros, Include: fragments}
	}
	tmpl, diags := template.ParseWith(name, []byte(sections[name]), options)
	if !diags.HasErrors() {
		var b strings.Builder
		var more diag.List
		if more = values(t, &b, tmpl, given, strings.Fields(sections["unknown"])); !more.HasErrors() {
			return b.String()
		}
		diags = more
	}
	var b bytes.Buffer
	diags.Sort()
	if err := diags.Print(&b, func(string) []byte { return []byte(sections[name]) }); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func values(t *testing.T, b *strings.Builder, tmpl *template.Template, given map[string]string, unknown []string) diag.List {
	pseudo := map[string]string{"AWS::Region": "eu-west-1", "AWS::StackName": "test", "AWS::Partition": "aws", "AWS::AccountId": "111111111111"}
	bound, diags := tmpl.Bind(given)
	if diags.HasErrors() {
		return diags
	}
	conditions, diags := tmpl.Decide(bound, pseudo)
	if diags.HasErrors() {
		return diags
	}
	graph, diags := tmpl.Graph(conditions)
	if diags.HasErrors() {
		return diags
	}
	scope := world(unknown)
	scope.Parameters, scope.Pseudo, scope.Conditions = bound, pseudo, conditions
	resolve := func(what string, v *template.Value) {
		if v == nil {
			return
		}
		value, exists, more := tmpl.Resolve(v, scope)
		diags = append(diags, more...)
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if !exists {
			raw = []byte("no value")
		}
		fmt.Fprintf(b, "%s = %s\n", what, raw)
	}
	for _, id := range slices.Sorted(maps.Keys(graph)) {
		fmt.Fprintf(b, "%s needs %v\n", id, graph[id])
		if p := tmpl.Resources[id].Properties; p != nil && p.Kind == template.Map {
			for _, e := range p.Entries {
				resolve("  "+e.Key, e.Value)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tmpl.Outputs)) {
		resolve("output "+name, tmpl.Outputs[name].Value)
		resolve("export "+name, tmpl.Outputs[name].Export)
	}
	return diags
}

// world knows every resource but the unknown ones, and what it gives for each
// shows by its text where it comes from.
func world(unknown []string) *template.Scope {
	return &template.Scope{
		Ref: func(id string) any {
			if slices.Contains(unknown, id) {
				return template.Unknown{Because: id}
			}
			return "ref-" + id
		},
		GetAtt: func(id, attribute string) (any, error) {
			switch {
			case slices.Contains(unknown, id):
				return template.Unknown{Because: id + "." + attribute}, nil
			case attribute == "Port":
				return 6379.0, nil
			case attribute == "List":
				return []any{"x", "y"}, nil
			case attribute == "None":
				return nil, fmt.Errorf("%s has no attribute %s", id, attribute)
			}
			return id + "." + attribute, nil
		},
		Import: func(name string) (any, error) {
			if name == "absent" {
				return "", fmt.Errorf("No export named %s found", name)
			}
			return "imported-" + name, nil
		},
	}
}

// TestNestedAliases gives templates that would be huge if they were written
// out: they are refused in little time.
func TestNestedAliases(t *testing.T) {
	for name, level := range map[string]string{"aliases": "[*a%[3]d, *a%[3]d, *a%[3]d, *a%[3]d, *a%[3]d, *a%[3]d]", "merges": "{<<: [*a%[3]d, *a%[3]d, *a%[3]d, *a%[3]d, *a%[3]d, *a%[3]d]}"} {
		var b strings.Builder
		b.WriteString("Metadata: {}\nMappings:\n  a0: &a0 {k: v}\n")
		for i := range 12 {
			fmt.Fprintf(&b, "  a%d: &a%d "+level+"\n", i+1, i+1, i)
		}
		b.WriteString("Resources: {A: {Type: \"T::A\", Properties: {X: *a12}}}\n")
		_, diags := template.Parse("template.yaml", []byte(b.String()))
		if !strings.Contains(diags.Error(), "more than 500000 values") {
			t.Errorf("%s: %v", name, diags)
		}
	}
}
