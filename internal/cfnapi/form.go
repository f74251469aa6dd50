package cfnapi

import (
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// decode reads a form into a struct whose fields have the service's names:
// texts, numbers, booleans, structs, pointers to these, and lists and maps of
// them. A field with the tag cfn:"required" must be given. A list that is given
// without members is empty and not nil. What the struct does not have is
// refused: it would change nothing, and nobody would know.
func decode(form url.Values, into any) error {
	d := decoder{form: form, used: map[string]bool{}}
	d.structure(reflect.ValueOf(into).Elem(), "")
	if d.err != nil {
		return d.err
	}
	for _, key := range slices.Sorted(maps.Keys(form)) {
		if !d.used[key] {
			return invalid("the parameter %s is not known for this action here; leave it out", key)
		}
	}
	return nil
}

type decoder struct {
	form url.Values
	used map[string]bool
	err  error // the first
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

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
		if d.given(name) {
			d.value(v.Field(i), name)
		} else if field.Tag.Get("cfn") == "required" {
			d.fail(constraint("null", name, "Member must not be null"))
		}
	}
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
			d.fail(constraint("'"+text+"'", at, "Member must be true or false"))
		}
		v.SetBool(on)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			d.fail(constraint("'"+text+"'", at, "Member must be a number"))
		}
		v.SetInt(int64(n))
	case reflect.Struct:
		if f, ok := v.Type().FieldByName("Members"); ok && f.Tag.Get("xml") == "member" { // a list
			d.value(v.FieldByIndex(f.Index), at)
			return
		}
		d.structure(v, at)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		for n := 1; d.given(at + ".member." + strconv.Itoa(n)); n++ {
			item := reflect.New(v.Type().Elem()).Elem()
			d.value(item, at+".member."+strconv.Itoa(n))
			v.Set(reflect.Append(v, item))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for n := 1; d.given(at + ".entry." + strconv.Itoa(n)); n++ {
			entry := at + ".entry." + strconv.Itoa(n)
			d.used[entry+".key"], d.used[entry+".value"] = true, true
			v.SetMapIndex(reflect.ValueOf(d.form.Get(entry+".key")), reflect.ValueOf(d.form.Get(entry+".value")))
		}
	}
}

// constraint is the service's error for a value that a parameter cannot have.
func constraint(value, at, must string) error {
	name := []rune(at)
	name[0] = unicode.ToLower(name[0])
	return invalid("1 validation error detected: Value %s at '%s' failed to satisfy constraint: %s", value, string(name), must)
}

// oneOf refuses a text that is given and not among those allowed.
func oneOf(value, at string, allowed ...string) error {
	if value == "" || slices.Contains(allowed, value) {
		return nil
	}
	return constraint("'"+value+"'", at, "Member must satisfy enum value set: ["+strings.Join(allowed, ", ")+"]")
}
