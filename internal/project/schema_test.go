package project

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v4"

	"makeitso/internal/testneed"
)

func TestSchemaIsCurrent(t *testing.T) {
	path := filepath.Join(testneed.Root(t), "docs", "makeitso.schema.json")
	if update() {
		if err := os.WriteFile(path, Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, Schema()) {
		t.Error("docs/makeitso.schema.json is not what the types say: run UPDATE=1 go test ./internal/project and commit it")
	}
}

// TestSchemaAgrees judges texts by the schema: those without a mistake must
// pass, and those whose mistakes are in single keys must not.
func TestSchemaAgrees(t *testing.T) {
	var top schema
	if err := json.Unmarshal(Schema(), &top); err != nil {
		t.Fatal(err)
	}
	judge := func(text []byte) string {
		var value any
		if err := yaml.Load(text, &value); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		plain, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(plain, &value); err != nil {
			t.Fatal(err)
		}
		return judged{top["$defs"].(map[string]any)}.value(value, top, "")
	}
	if wrong := judge([]byte(design)); wrong != "" {
		t.Errorf("the design's example: %s", wrong)
	}
	bySchema := []string{"unknown-at-the-top", "unknown-below", "missing", "no-kind", "two-kinds", "later-kinds", "beside-the-wrong-kind", "lists-for-texts", "numbers", "enums", "rollouts", "shares", "strategies", "names", "keys-of-maps", "empty-texts", "edge", "limits"}
	seen := 0
	for _, file := range []string{"clean", "keys", "types", "names"} {
		archive, err := txtar.ParseFile("testdata/" + file + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			name := f.Name[:len(f.Name)-len(filepath.Ext(f.Name))]
			if filepath.Ext(f.Name) != ".yaml" || file != "clean" && !slices.Contains(bySchema, name) {
				continue
			}
			seen++
			if wrong := judge(f.Data); (wrong == "") != (file == "clean") {
				t.Errorf("%s: %q", name, wrong)
			}
		}
	}
	if seen != len(bySchema)+6 {
		t.Errorf("judged %d texts", seen)
	}
}

// judged is as much of a JSON Schema validator as the schema uses words; a
// word it does not know is an error.
type judged struct{ defs map[string]any }

func (j judged) value(v any, s map[string]any, at string) string {
	for word, rule := range s {
		if wrong := j.word(v, word, rule, s, at); wrong != "" {
			return wrong
		}
	}
	return ""
}

func (j judged) word(v any, word string, rule any, s map[string]any, at string) string {
	object, _ := v.(map[string]any)
	text, isText := v.(string)
	n, isNumber := v.(float64)
	list, _ := v.([]any)
	bad := false
	switch word {
	case "$schema", "$defs", "title", "description", "default":
	case "$ref":
		return j.value(v, j.defs[filepath.Base(rule.(string))].(map[string]any), at)
	case "type":
		bad = !isType(v, rule)
	case "enum":
		bad = !slices.Contains(rule.([]any), v)
	case "pattern":
		bad = isText && !regexp.MustCompile(rule.(string)).MatchString(text)
	case "minLength":
		bad = isText && utf8.RuneCountInString(text) < int(rule.(float64))
	case "minimum":
		bad = isNumber && n < rule.(float64)
	case "maximum":
		bad = isNumber && n > rule.(float64)
	case "minItems":
		bad = list != nil && len(list) < int(rule.(float64))
	case "items":
		for i, item := range list {
			if wrong := j.value(item, rule.(map[string]any), itemPath(at, i)); wrong != "" {
				return wrong
			}
		}
	case "required":
		for _, key := range rule.([]any) {
			_, has := object[key.(string)]
			bad = bad || object != nil && !has
		}
	case "dependentRequired":
		for key, beside := range rule.(map[string]any) {
			_, has := object[key]
			_, hasOther := object[beside.([]any)[0].(string)]
			bad = bad || has && !hasOther
		}
	case "anyOf", "oneOf":
		fits := 0
		for _, one := range rule.([]any) {
			if j.value(v, one.(map[string]any), at) == "" {
				fits++
			}
		}
		bad = fits == 0 || word == "oneOf" && fits > 1
	case "propertyNames":
		for key := range object {
			if wrong := j.value(key, rule.(map[string]any), pathJoin(at, key)); wrong != "" {
				return wrong
			}
		}
	case "properties", "additionalProperties":
		return j.properties(object, s, at)
	default:
		return fmt.Sprintf("%s: the schema has the word %s, which this test does not know", at, word)
	}
	if bad {
		return fmt.Sprintf("%s: %v is against %s: %v", at, v, word, rule)
	}
	return ""
}

func (j judged) properties(object, s map[string]any, at string) string {
	known, _ := s["properties"].(map[string]any)
	for key, value := range object {
		rule, ok := known[key].(map[string]any)
		if !ok {
			rule, ok = s["additionalProperties"].(map[string]any)
		}
		if !ok {
			return fmt.Sprintf("%s: the key %s is not allowed", at, key)
		}
		if wrong := j.value(value, rule, pathJoin(at, key)); wrong != "" {
			return wrong
		}
	}
	return ""
}

func isType(v, types any) bool {
	if list, ok := types.([]any); ok {
		return slices.ContainsFunc(list, func(t any) bool { return isType(v, t) })
	}
	n, isNumber := v.(float64)
	switch types {
	case "integer":
		return isNumber && n == float64(int64(n))
	case "number":
		return isNumber
	case "null":
		return v == nil
	}
	kinds := map[any]reflect.Kind{"string": reflect.String, "boolean": reflect.Bool, "object": reflect.Map, "array": reflect.Slice}
	return v != nil && reflect.TypeOf(v).Kind() == kinds[types]
}
