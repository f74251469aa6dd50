// Package model is the resource types for which nothing runs on this machine:
// what their properties may say, what Ref and Fn::GetAtt give of them, and
// which of them share a name. It only computes; it must not know where such
// resources are kept, nor stacks and their plans.
package model

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/registry"
	"makeitso/internal/template"
)

// Resource is what is known of one resource.
type Resource struct {
	Token      string         `json:"token"`
	Type       string         `json:"type"`
	Stack      string         `json:"stack"`
	LogicalID  string         `json:"logicalId"`
	PhysicalID string         `json:"physicalId,omitempty"`
	Properties map[string]any `json:"properties,omitempty"`
	Attributes map[string]any `json:"attributes,omitempty"`

	Created time.Time `json:"created,omitzero"`
	Changed time.Time `json:"changed,omitzero"` // when its properties were last set to others
	// Changes counts how often its properties were set to others.
	Changes int `json:"changes,omitempty"`
	// Number is the place of the resource in a series of its type, from 1.
	Number int `json:"number,omitempty"`
}

// Name is what a user calls the resource.
func (r *Resource) Name() string { return r.Stack + "/" + r.LogicalID }

// Text gives a property that is a string, "" if it is absent or another kind.
func (r *Resource) Text(property string) string {
	s, _ := r.Properties[property].(string)
	return s
}

// Invalid is a mistake in one property.
func (r *Resource) Invalid(property, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "%s (%s): %s %s", r.Name(), r.Type, property, fmt.Sprintf(format, args...))
}

// GeneratedName is the name of a resource whose template gives none: stack,
// logical id and something unique, at most limit letters.
func (r *Resource) GeneratedName(limit int) string {
	name := r.Stack + "-" + r.LogicalID
	suffix := "-" + Digits(r.Token, "name", 12)
	return name[:max(0, min(len(name), limit-len(suffix)))] + suffix
}

// Digits gives n hexadecimal digits that belong to this token and salt for ever.
func Digits(token, salt string, n int) string {
	var all string
	for more := ""; len(all) < n; more += "+" {
		sum := sha256.Sum256([]byte(token + "\x00" + salt + more))
		all += hex.EncodeToString(sum[:])
	}
	return all[:n]
}

// Unknown says whether a value is decided only when other resources exist.
func Unknown(v any) bool {
	s, isText := v.(string)
	return isText && strings.Contains(s, template.KnownAfterApply)
}

// Place is where resources are said to be.
type Place struct{ Region, Account string }

// Type is a modelled type.
type Type struct {
	// Note says what a user must know of it.
	Note string

	ref        string         // the pattern of Ref
	attributes map[string]any // patterns in texts, lists and maps, by the names of Fn::GetAtt
	// unique names properties that no two resources may have in common, besides
	// the identifier of the type. All are create-only.
	unique []string
	// series is the property by which the resources of the type are numbered.
	series string
	// replaces names conditionally create-only properties of which a change needs
	// a new resource, with the one value that they can take in place, or "".
	replaces map[string]string
	checks   []check
}

// when is a pattern of an attribute that there is only if a property is given.
type when struct {
	property string
	pattern  any
}

// Types gives the modelled types by name.
func Types() map[string]Type {
	all := map[string]Type{}
	for _, some := range []map[string]Type{network(), balancing(), identity(), compute(), serverless(), storage(), web(), operations()} {
		maps.Copy(all, some)
	}
	return all
}

// Make gives the physical id and the attributes of r. They are the same for
// every call with one token, as far as properties do not change them.
func (t Type) Make(r Resource, at Place) (id string, attributes map[string]any, err error) {
	e := &expansion{r: &r, at: at}
	r.PhysicalID = e.text(t.ref)
	attributes = map[string]any{}
	for name, pattern := range t.attributes {
		if w, conditional := pattern.(when); conditional {
			if _, given := r.Properties[w.property]; !given {
				continue
			}
			pattern = w.pattern
		}
		attributes[name] = template.Rewrite(pattern, func(leaf any) any { return e.text(fmt.Sprint(leaf)) })
	}
	t.wholes(r.Type, attributes)
	if e.wrong != "" {
		return "", nil, fault.New(fault.Internal, "the pattern %q of type %s has an unknown part", e.wrong, r.Type)
	}
	return r.PhysicalID, attributes, nil
}

// wholes adds the attributes that are objects of others: of "Endpoint.Address"
// and "Endpoint.Port" the "Endpoint", where the registry has it.
func (t Type) wholes(typ string, attributes map[string]any) {
	facts, _ := registry.Type(typ)
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		whole, part, nested := strings.Cut(name, ".")
		if !nested || !slices.Contains(facts.ReadOnly, whole) {
			continue
		}
		if attributes[whole] == nil {
			attributes[whole] = map[string]any{}
		}
		attributes[whole].(map[string]any)[part] = attributes[name]
	}
}

// Replaces says whether a change of properties needs a new resource, which the
// registry leaves open.
func (t Type) Replaces(before, after map[string]any) bool {
	for property, inPlace := range t.replaces {
		if !reflect.DeepEqual(before[property], after[property]) && (inPlace == "" || after[property] != inPlace) {
			return true
		}
	}
	return false
}

// Series gives what the resources are numbered by that r is one of, "" for a
// type that has no numbers.
func (t Type) Series(r Resource) string {
	if t.series == "" {
		return ""
	}
	e := &expansion{r: &r}
	return e.text("{after " + t.series + " : =" + r.GeneratedName(255) + "}")
}

// Names gives what no other resource of the type may be called, each as the
// service shows it: the identifier, and other names that the template gives.
// What is made up for r alone is not among them, nor what is not known yet.
func (t Type) Names(r Resource, at Place) ([]string, error) {
	identifier, err := t.identifier(r, at)
	if err != nil {
		return nil, err
	}
	other := r
	other.Token += "+"
	made, err := t.identifier(other, at)
	if err != nil {
		return nil, err
	}
	var names, given []string
	if identifier == made && t.series == "" {
		names = append(names, identifier)
	}
	for _, property := range t.unique {
		if text := r.Text(property); text != "" {
			given = append(given, text)
		}
	}
	if len(given) > 0 && len(given) == len(t.unique) {
		names = append(names, strings.Join(given, "|"))
	}
	return slices.DeleteFunc(names, func(name string) bool { return Unknown(name) }), nil
}

// identifier gives the values of the primary identifier, "|" between them. What
// is neither attribute nor property is the physical id.
func (t Type) identifier(r Resource, at Place) (string, error) {
	id, attributes, err := t.Make(r, at)
	if err != nil {
		return "", err
	}
	facts, _ := registry.Type(r.Type)
	var values []string
	for _, name := range facts.PrimaryIdentifier {
		attribute, _ := attributes[name].(string)
		property := r.Text(name)
		if len(facts.PrimaryIdentifier) == 1 {
			property = id // which may be the property in small letters
		}
		values = append(values, cmp.Or(attribute, property, id))
	}
	return strings.Join(values, "|"), nil
}

// expansion replaces each {word …} of patterns for one resource.
type expansion struct {
	r     *Resource
	at    Place
	wrong string // the first pattern that was not understood
}

func (e *expansion) text(pattern string) string {
	var b strings.Builder
	for rest := pattern; ; {
		before, part, found := strings.Cut(rest, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		words, after, closed := strings.Cut(part, "}")
		value, known := e.value(strings.Fields(words))
		if (!closed || !known) && e.wrong == "" {
			e.wrong = pattern
		}
		b.WriteString(value)
		rest = after
	}
}

// value is what the words of one part of a pattern stand for. Generated values
// belong to the resource's token and never change.
func (e *expansion) value(words []string) (value string, known bool) {
	words = append(words, "", "", "")
	n, _ := strconv.Atoi(words[1])
	switch token := e.r.Token; words[0] {
	case "ref":
		return e.r.PhysicalID, true
	case "hex": // length, what for
		return Digits(token, words[2], n), true
	case "id":
		return strings.ToUpper(Digits(token, cmp.Or(words[2], "id"), n)), true
	case "decimal":
		return decimal(token, n), true
	case "uuid":
		d := Digits(token, "uuid", 32)
		return d[:8] + "-" + d[8:12] + "-4" + d[13:16] + "-8" + d[17:20] + "-" + d[20:], true
	case "address": // the beginning of an address of which the last two numbers are made, and what may say it
		d, _ := strconv.ParseUint(Digits(token, "address", 4), 16, 16)
		return cmp.Or(e.r.Text(words[2]), fmt.Sprintf("%s.%d.%d", words[1], d>>8, d&0xff)), true
	case "made":
		return e.r.Created.Format(cmp.Or(words[1], time.RFC3339)), true
	case "changed":
		return e.r.Changed.Format(cmp.Or(words[1], time.RFC3339)), true
	case "version":
		return strconv.Itoa(e.r.Changes + 1), true
	case "number":
		return strconv.Itoa(max(1, e.r.Number)), true
	case "region":
		return e.at.Region, true
	case "account":
		return e.at.Account, true
	case "short": // the region as host names of caches have it: use1
		return strings.NewReplacer("north", "n", "south", "s", "east", "e", "west", "w", "central", "c", "-", "").Replace(e.at.Region), true
	}
	return e.property(words)
}

// property is value, for the words that read a property.
func (e *expansion) property(words []string) (value string, known bool) {
	limit, _ := strconv.Atoi(words[2])
	switch words[0] {
	case "name", "lower", "ending":
		return e.name(words, limit), limit > 0
	case "property": // of several the first that is given, or what stands behind "="
		for _, name := range words[1:] {
			if preset, isPreset := strings.CutPrefix(name, "="); isPreset {
				return preset, true
			}
			if text := textAt(e.r.Properties, name); text != "" {
				return text, true
			}
		}
		return "", true
	case "after": // the part of a property behind the last of a text
		text := cmp.Or(e.r.Text(words[1]), strings.TrimPrefix(words[3], "="))
		if i := strings.LastIndex(text, words[2]); i >= 0 {
			text = text[i+len(words[2]):]
		}
		return text, true
	case "bus": // of an event bus that is not the default one, the name and a text
		text := e.r.Text("EventBusName")
		if text = text[strings.LastIndex(text, "/")+1:]; text != "" && text != "default" {
			text += words[1]
		}
		return strings.TrimSuffix(text, "default"), true
	case "given":
		if _, given := e.r.Properties[words[1]]; given {
			return words[2], true
		}
		return words[3], true
	case "choose": // by the value of a property, "value=this"
		text := e.r.Text(words[1])
		for _, pair := range words[2:] {
			if when, then, _ := strings.Cut(pair, "="); pair != "" && (when == text || when == "" && value == "") {
				value = then
			}
		}
		return value, value != ""
	case "path":
		return cmp.Or(e.r.Text("Path"), "/"), true
	case "zone":
		return cmp.Or(e.r.Text("AvailabilityZone"), e.at.Region+"a"), true
	}
	return "", false
}

// name is what a property says, or a generated name of at most so many letters:
// as it is, in small letters, or with the ending of first-in-first-out kinds if
// a property asks for it.
func (e *expansion) name(words []string, limit int) string {
	ending := ""
	if words[0] == "ending" && e.r.Text(words[3]) == "true" {
		ending = ".fifo"
	}
	name := cmp.Or(e.r.Text(words[1]), e.r.GeneratedName(limit-len(ending))+ending)
	if words[0] == "lower" {
		return strings.ToLower(name)
	}
	return name
}

// textAt gives a text at a path of names with "/" between them, "" if there is none.
func textAt(values map[string]any, path string) string {
	name, rest, nested := strings.Cut(path, "/")
	if nested {
		below, _ := values[name].(map[string]any)
		return textAt(below, rest)
	}
	text, _ := values[name].(string)
	return text
}

// decimal gives n decimal digits that belong to a token for ever.
func decimal(token string, n int) string {
	digits := []byte(Digits(token, "decimal", n))
	for i, d := range digits {
		digits[i] = '0' + d%10
	}
	if digits[0] == '0' {
		digits[0] = '1'
	}
	return string(digits)
}
