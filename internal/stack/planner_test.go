package stack_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"makeitso/internal/changeset"
	"makeitso/internal/diag"
)

// TestPlannerGolden reads each case of testdata: a stack as it is (before.yaml,
// perhaps before.parameters), as it shall be (after.yaml; none is a delete),
// and what the change set says, as text and in the service's words. UPDATE=1
// rewrites what it says.
func TestPlannerGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sections := map[string]string{}
			for _, f := range archive.Files {
				sections[f.Name] = string(f.Data)
			}
			text, raw := planned(t, sections)
			if text == sections["want.txt"] && raw == sections["want.json"] {
				return
			}
			if os.Getenv("UPDATE") == "" {
				t.Errorf("got:\n%s%s\nwant:\n%s%s", text, raw, sections["want.txt"], sections["want.json"])
				return
			}
			archive.Files = append(slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return strings.HasPrefix(f.Name, "want.") }),
				txtar.File{Name: "want.txt", Data: []byte(text)}, txtar.File{Name: "want.json", Data: []byte(raw)})
			if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// randomSuffix is the part of a token that differs from run to run.
var randomSuffix = regexp.MustCompile(`app-([A-Za-z]+)-[a-z2-7]{13}`)

func planned(t *testing.T, sections map[string]string) (text, raw string) {
	b := newBench(t)
	if before, ok := sections["before.yaml"]; ok {
		if err := b.engine.Apply(t.Context(), b.plan("app", before, parameters(sections["before.parameters"])), nil); err != nil {
			t.Fatal(err)
		}
	}
	var cs *changeset.Set
	var err error
	if after, ok := sections["after.yaml"]; ok {
		cs, err = b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "after.yaml", Template: []byte(after), Parameters: parameters(sections["after.parameters"])})
	} else {
		cs, err = b.engine.PlanDelete(t.Context(), "app")
	}
	var list diag.List
	switch {
	case errors.As(err, &list):
		return list.Error() + "\n", ""
	case err != nil:
		return err.Error() + "\n", ""
	}
	var shown strings.Builder
	if err := cs.WriteText(&shown); err != nil {
		t.Fatal(err)
	}
	indented, err := json.MarshalIndent(cs.Changes, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return randomSuffix.ReplaceAllString(shown.String(), "app-$1-RANDOM"), randomSuffix.ReplaceAllString(string(indented), "app-$1-RANDOM") + "\n"
}

func parameters(text string) map[string]string {
	given := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		given[key] = value
	}
	return given
}

// TestMetadata shows that what a template says about a resource has changed,
// and calls nobody for it.
func TestMetadata(t *testing.T) {
	b := newBench(t)
	with := func(metadata string) string {
		return `{"Parameters":{"P":{"Type":"String","NoEcho":true,"Default":"hidden"}},"Resources":{"A":{"Type":"Test::Thing","Metadata":` + metadata + `}}}`
	}
	b.mustApply("app", with(`{"Note":"one","makeitso":{"movedFrom":"X"}}`))
	if cs := b.plan("app", with(`{"Note":"one"}`), nil); !cs.Empty() {
		t.Errorf("without what is said to makeitso it plans %v", cs.Changes)
	}
	cs := b.plan("app", with(`{"Note":{"Fn::Sub":"${P} two"}}`), nil)
	want := changeset.Target{Attribute: "Metadata", Path: "/Metadata", RequiresRecreation: "Never", AttributeChangeType: changeset.Modify,
		BeforeValue: map[string]any{"Note": "one"}, AfterValue: map[string]any{"Note": "**** two"}}
	if len(cs.Changes) != 1 || !slices.Equal(cs.Changes[0].Scope, []string{"Metadata"}) || !reflect.DeepEqual(cs.Changes[0].Details[0].Target, want) {
		t.Fatalf("the changes are %+v", cs.Changes)
	}
	calls := len(b.platform.Calls())
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Fatal(err)
	}
	if got := b.platform.Calls(); len(got) != calls {
		t.Errorf("it called %v", got[calls:])
	}
	if cs := b.plan("app", with(`{"Note":{"Fn::Sub":"${P} two"}}`), nil); !cs.Empty() {
		t.Errorf("applied, it plans %v", cs.Changes)
	}
}
