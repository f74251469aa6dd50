package project

import (
	"encoding/json"
	"reflect"
	"strconv"
	"time"
)

// Schema gives the JSON Schema (draft 2020-12) of makeitso.yaml, for editors.
// It is made from the tags that the decoder reads, so the two agree.
func Schema() []byte {
	s := schemaMaker{defs: map[string]any{}}
	top := s.structure(reflect.TypeFor[Project]())
	top["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	top["title"] = File
	top["$defs"] = s.defs
	text, err := json.MarshalIndent(top, "", "  ")
	if err != nil {
		panic("project: " + err.Error()) // only strings, numbers, lists and maps are in it
	}
	return append(text, '\n')
}

// schema is a JSON object.
type schema = map[string]any

// schemaMaker gathers the definitions of the struct types it meets.
type schemaMaker struct{ defs map[string]any }

// of gives the schema of a value of type t at a key with rule r.
func (s schemaMaker) of(t reflect.Type, r rule) schema {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return schema{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
	case reflect.TypeFor[Percent]():
		return schema{"type": "string", "pattern": percentPattern.String()}
	case reflect.TypeFor[Size]():
		return schema{"type": "string", "pattern": sizePattern.String()}
	}
	if t == reflect.TypeFor[Amount]() {
		return schema{"anyOf": []any{schema{"type": "integer", "minimum": 0}, s.of(reflect.TypeFor[Percent](), rule{})}}
	}
	if t == reflect.TypeFor[Watch]() {
		return schema{"anyOf": []any{schema{"enum": []string{autoWatch}}, s.of(reflect.TypeFor[time.Duration](), rule{}), s.reference(t)}}
	}
	if short, ok := reflect.New(t).Interface().(shortened); ok {
		return schema{"anyOf": []any{schema{"enum": short.words()}, s.reference(t)}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem(), r)
	case reflect.Struct:
		return s.reference(t)
	case reflect.Map:
		m := schema{"type": "object", "additionalProperties": s.of(t.Elem(), rule{})}
		if t.Elem().Kind() == reflect.String { // any scalar is taken as it is written
			m["additionalProperties"] = schema{"type": []string{"string", "number", "boolean"}}
		}
		if r.pattern != "" {
			m["propertyNames"] = schema{"pattern": patterns[r.pattern].expr.String()}
		}
		return m
	case reflect.Slice:
		return s.list(t, r)
	case reflect.Int:
		return number(r)
	case reflect.Bool:
		return schema{"type": "boolean"}
	}
	return text(r)
}

// reference gives a reference to the definition of the struct type t.
func (s schemaMaker) reference(t reflect.Type) schema {
	if s.defs[t.Name()] == nil {
		s.defs[t.Name()] = schema{} // met, should t hold itself
		s.defs[t.Name()] = s.structure(t)
	}
	return schema{"$ref": "#/$defs/" + t.Name()}
}

func (s schemaMaker) structure(t reflect.Type) schema {
	properties, beside := schema{}, schema{}
	var required, kinds []any
	rules, _ := rulesOf(t)
	for _, r := range rules {
		property := s.of(r.typ, r)
		property["description"] = r.doc
		properties[r.key] = property
		if r.required {
			required = append(required, r.key)
		}
		if r.kind {
			kinds = append(kinds, schema{"required": []string{r.key}})
		}
		if r.with != "" {
			beside[r.key] = []string{r.with}
		}
	}
	object := schema{"type": "object", "additionalProperties": false, "properties": properties}
	if required != nil {
		object["required"] = required
	}
	if kinds != nil {
		object["oneOf"] = kinds
	}
	if len(beside) > 0 {
		object["dependentRequired"] = beside
	}
	return object
}

// list gives the schema of a list; a single value stands for a list of one.
func (s schemaMaker) list(t reflect.Type, r rule) schema {
	list := schema{"type": "array", "items": s.of(t.Elem(), rule{})}
	if r.min != nil {
		list["minItems"] = *r.min
	}
	if t.Elem().Kind() == reflect.Pointer {
		return list
	}
	return schema{"anyOf": []any{s.of(t.Elem(), rule{}), list}}
}

func number(r rule) schema {
	n := schema{"type": "integer"}
	if r.min != nil {
		n["minimum"] = *r.min
	}
	if r.max != nil {
		n["maximum"] = *r.max
	}
	if preset, err := strconv.Atoi(r.preset); err == nil {
		n["default"] = preset
	}
	return n
}

func text(r rule) schema {
	if r.enum != nil {
		return schema{"type": "string", "enum": r.enum}
	}
	// What YAML reads as a number or a truth value is taken as it is written,
	// e.g. run: true.
	t := schema{"type": []string{"string", "number", "boolean"}, "minLength": 1}
	if r.pattern != "" {
		t["pattern"] = patterns[r.pattern].expr.String()
	}
	if r.preset != "" {
		t["default"] = r.preset
	}
	return t
}
