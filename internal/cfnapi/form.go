package cfnapi

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// decode reads a form into a struct whose fields have the service's names:
// texts, numbers, booleans, structs, pointers to these, and lists and maps of
// them. The tag cfn of a field says what it must be: "required", and "1-128" for
// a number's bounds or those of a length. A list that is given without members is
// empty and not nil. What the struct does not have is refused: it would change
// nothing, and nobody would know.
func decode(form url.Values, into any) error {
	d := decoder{form: form, used: map[string]bool{}, lists: map[string]bool{}}
	d.structure(reflect.ValueOf(into).Elem(), "")
	switch n := len(d.violations); {
	case n == 1:
		return violated(d.violations[0])
	case n > 1:
		return invalid("%d validation errors detected: %s", n, strings.Join(d.violations, "; "))
	}
	for _, key := range slices.Sorted(maps.Keys(form)) {
		list, isList := listOfKey(key)
		switch {
		case len(form[key]) > 1:
			return malformed("the parameter " + key + " is given more than once")
		case d.used[key]:
		case isList && d.lists[list]:
			return malformed("the members of " + list + " are not numbered from 1 without gaps: see " + key)
		default:
			return invalid("the parameter %s is not known for this action here; leave it out", key)
		}
	}
	return nil
}

// malformed is what the service says of a form that can have no meaning.
func malformed(text string) error {
	return &problem{Status: http.StatusBadRequest, Code: "MalformedQueryString", Message: "The query string contains a syntax error: " + text}
}

// listOfKey gives the innermost list that a key names a member of.
func listOfKey(key string) (list string, is bool) {
	at := max(strings.LastIndex(key, ".member."), strings.LastIndex(key, ".entry."))
	if at < 0 {
		return "", false
	}
	return key[:at], true
}

type decoder struct {
	form       url.Values
	used       map[string]bool
	lists      map[string]bool // places of lists and maps
	violations []string
}

func (d *decoder) violation(text string) { d.violations = append(d.violations, text) }

// given says whether the form has anything at a place.
func (d *decoder) given(at string) bool {
	if _, ok := d.form[at]; ok {
		return true
	}
	for key := range d.form {
		if strings.HasPrefix(key, at+".") {
			return true
		}
	}
	return false
}

func (d *decoder) structure(v reflect.Value, at string) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Anonymous {
			d.structure(v.Field(i), at)
			continue
		}
		name := field.Name
		if at != "" {
			name = at + "." + name
		}
		rules := strings.Fields(field.Tag.Get("cfn"))
		if d.given(name) {
			d.value(v.Field(i), name)
			d.bounds(v.Field(i), name, rules)
		} else if slices.Contains(rules, "required") {
			d.violation(violation("null", name, "Member must not be null"))
		}
	}
}

// bounds judges a number, or the length of a text or a list, by a rule "from-to".
func (d *decoder) bounds(v reflect.Value, at string, rules []string) {
	for _, rule := range rules {
		from, to, is := strings.Cut(rule, "-")
		if !is {
			continue
		}
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		size, what, shown := 0, "length", fmt.Sprint(v)
		switch v.Kind() {
		case reflect.Int:
			size, what = int(v.Int()), "value"
		case reflect.String:
			size = utf8.RuneCountInString(v.String())
		default:
			size = v.Len()
		}
		if least, err := strconv.Atoi(from); err == nil && size < least {
			d.violation(violation(quoted(shown), at, "Member must have "+what+" greater than or equal to "+from))
		}
		if most, err := strconv.Atoi(to); err == nil && size > most {
			d.violation(violation(quoted(shown), at, "Member must have "+what+" less than or equal to "+to))
		}
	}
}

// quoted shows a value that somebody gave, the beginning of a long one.
func quoted(text string) string {
	const most = 100
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "..."
	}
	return "'" + text + "'"
}

func (d *decoder) value(v reflect.Value, at string) {
	text := d.form.Get(at)
	if _, ok := d.form[at]; ok {
		d.used[at] = true
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(v.Elem(), at)
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		on, err := strconv.ParseBool(text)
		if err != nil {
			d.violation(violation(quoted(text), at, "Member must be true or false"))
		}
		v.SetBool(on)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			d.violation(violation(quoted(text), at, "Member must be a number"))
		}
		v.SetInt(int64(n))
	case reflect.Struct:
		if f, ok := v.Type().FieldByName("Members"); ok && f.Tag.Get("xml") == "member" { // a list
			d.value(v.FieldByIndex(f.Index), at)
			return
		}
		d.structure(v, at)
	case reflect.Slice:
		d.lists[at] = true
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		for n := 1; d.given(at + ".member." + strconv.Itoa(n)); n++ {
			item := reflect.New(v.Type().Elem()).Elem()
			d.value(item, at+".member."+strconv.Itoa(n))
			v.Set(reflect.Append(v, item))
		}
	case reflect.Map:
		d.lists[at] = true
		v.Set(reflect.MakeMap(v.Type()))
		for n := 1; d.given(at + ".entry." + strconv.Itoa(n)); n++ {
			entry := at + ".entry." + strconv.Itoa(n)
			d.used[entry+".key"], d.used[entry+".value"] = true, true
			v.SetMapIndex(reflect.ValueOf(d.form.Get(entry+".key")), reflect.ValueOf(d.form.Get(entry+".value")))
		}
	}
}

// violation says that a parameter cannot have a value, as the service does.
func violation(value, at, must string) string {
	parts := strings.Split(at, ".")
	for i, name := range parts {
		r := []rune(name)
		r[0] = unicode.ToLower(r[0])
		parts[i] = string(r)
	}
	return fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: %s", value, strings.Join(parts, "."), must)
}

// violated is the error for one violation.
func violated(text string) error { return invalid("1 validation error detected: %s", text) }

// constraint is the service's error for a value that a parameter cannot have.
func constraint(value, at, must string) error { return violated(violation(quoted(value), at, must)) }

// oneOf refuses a text that is given and not among those allowed.
func oneOf(value, at string, allowed ...string) error {
	if value == "" || slices.Contains(allowed, value) {
		return nil
	}
	return constraint(value, at, "Member must satisfy enum value set: ["+strings.Join(allowed, ", ")+"]")
}
