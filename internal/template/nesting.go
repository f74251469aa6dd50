package template

import (
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The files of nesting say, for each function, which functions may stand in
// which part of its argument. They are facts of the language in JSON Schema,
// with cfnContext for the functions of a place.
//
//go:embed nesting/*.json
var nestingFiles embed.FS

// nestingFacts gives the facts by the functions' names in lower case, without
// Fn::. They are read when first asked for and never changed.
var nestingFacts = sync.OnceValue(func() map[string]map[string]any {
	facts := map[string]map[string]any{}
	entries, err := nestingFiles.ReadDir("nesting")
	if err != nil {
		panic(fmt.Sprintf("embedded nesting facts: %v", err))
	}
	for _, e := range entries {
		raw, err := nestingFiles.ReadFile(path.Join("nesting", e.Name()))
		var fact map[string]any
		if err == nil {
			err = json.Unmarshal(raw, &fact)
		}
		if err != nil {
			panic(fmt.Sprintf("embedded nesting facts: %s: %v", e.Name(), err))
		}
		facts[strings.TrimSuffix(e.Name(), ".json")] = fact
	}
	return facts
})

// nesting judges which functions stand in the argument of f.
func (c *checker) nesting(f *Value) {
	fact := nestingFacts()[strings.ToLower(strings.TrimPrefix(f.Func, "Fn::"))]
	if fact == nil || f.arg == nil {
		return
	}
	n := nest{c: c, f: f, fact: fact}
	n.judge(f.arg, fact)
}

// nest judges the argument of one function by its fact.
type nest struct {
	c    *checker
	f    *Value
	fact map[string]any
}

// judge goes through v and the part of the fact that speaks of it.
func (n *nest) judge(v *Value, at map[string]any) {
	if pointer, ok := at["$ref"].(string); ok {
		at = object(n.find(pointer))
	}
	if when := object(object(at["if"])["dynamicValidation"]); when != nil {
		branch := "else"
		if n.holds(when) {
			branch = "then"
		}
		n.judge(v, object(at[branch]))
	}
	if context := object(at["cfnContext"]); context != nil {
		if v.Kind == Call {
			n.function(v, context["functions"])
			return
		}
		n.judge(v, object(context["schema"]))
	}
	prefix := array(at["prefixItems"])
	for i, item := range v.Items {
		switch {
		case v.Kind != List:
		case i < len(prefix):
			n.judge(item, object(prefix[i]))
		default:
			n.judge(item, object(at["items"]))
		}
	}
	for _, e := range v.Entries {
		part := object(object(at["properties"])[e.Key])
		for _, any := range object(at["patternProperties"]) {
			part = object(any) // there is one pattern, for all names
		}
		n.judge(e.Value, part)
	}
}

func (n *nest) holds(when map[string]any) bool {
	if when["transformCheck"] == languageExtensions {
		return n.c.t.early.extensions
	}
	return when["pathCheck"] == n.c.block
}

// function reports f at a place that takes other functions.
func (n *nest) function(f *Value, functions any) {
	if pointer, ok := object(functions)["$ref"].(string); ok {
		functions = n.find(pointer)
	}
	var allowed []string
	for _, name := range array(functions) {
		if name, ok := name.(string); ok && !strings.HasPrefix(name, loopKey) {
			allowed = append(allowed, name)
		}
	}
	if f.isMacro() || slices.Contains(allowed, f.Func) {
		return
	}
	d := n.c.diags.Errorf(f.Pos, "Template error: function %s cannot stand at this place of %s", f.Func, n.f.Func)
	if d.Allowed = join(allowed); d.Allowed == "" {
		d.Allowed = "no function"
	}
}

// find follows a JSON pointer in the fact.
func (n *nest) find(pointer string) any {
	var at any = n.fact
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "#/"), "/") {
		if list := array(at); list != nil {
			if i, err := strconv.Atoi(part); err == nil && i < len(list) {
				at = list[i]
				continue
			}
		}
		at = object(at)[part]
	}
	return at
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any) // nil if it is none
	return m
}

func array(v any) []any {
	list, _ := v.([]any) // nil if it is none
	return list
}
