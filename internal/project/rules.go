package project

import (
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rule is what the tags of a struct's field say about a key of the file.
type rule struct {
	key, doc string
	index    []int // of the field
	typ      reflect.Type
	required bool
	kind     bool
	enum     []string
	preset   string // the value of a key that is left out
	min, max *int
	pattern  string // name of a pattern, see patternOf
	refs     string // "true", "shell" or ""
	with     string // the key beside which alone this one makes sense
}

// rulesOf reads the tags of t's fields, in the order of the fields, and the
// keys that a later version brings.
func rulesOf(t reflect.Type) (rules []rule, later []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if keys := f.Tag.Get("later"); keys != "" {
			later = strings.Split(keys, ",")
		}
		if f.Anonymous { // its keys stand among the others
			inner, _ := rulesOf(f.Type)
			for _, r := range inner {
				r.index = append([]int{i}, r.index...)
				rules = append(rules, r)
			}
			continue
		}
		key := f.Tag.Get("yaml")
		if key == "" || key == "-" {
			continue
		}
		r := rule{
			key: key, doc: f.Tag.Get("doc"), index: []int{i}, typ: f.Type,
			required: f.Tag.Get("required") != "", kind: f.Tag.Get("kind") != "",
			preset: f.Tag.Get("default"), pattern: f.Tag.Get("pattern"),
			refs: f.Tag.Get("refs"), with: f.Tag.Get("with"),
			min: limit(f.Tag.Get("min")), max: limit(f.Tag.Get("max")),
		}
		if enum := f.Tag.Get("enum"); enum != "" {
			r.enum = strings.Split(enum, ",")
		}
		rules = append(rules, r)
	}
	return rules, later
}

func limit(tag string) *int {
	if tag == "" {
		return nil
	}
	n, err := strconv.Atoi(tag)
	if err != nil {
		panic("project: a min or max tag is no number: " + tag) // a mistake in project.go
	}
	return &n
}

func keysOf(rules []rule, which func(rule) bool) []string {
	var keys []string
	for _, r := range rules {
		if which(r) {
			keys = append(keys, r.key)
		}
	}
	return keys
}

// pattern is the form of a name or of a short text.
type pattern struct {
	expr    *regexp.Regexp
	allowed string
}

var patterns = map[string]pattern{
	"name":      {regexp.MustCompile(`^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$`), "up to 40 lower-case letters, digits and hyphens, a letter first and no hyphen last"},
	"parameter": {regexp.MustCompile(`^[A-Za-z0-9]{1,255}$`), "letters and digits"},
	"variable":  {regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`), "letters, digits and underscores, no digit first"},
	"account":   {regexp.MustCompile(`^[0-9]{12}$`), `twelve digits, e.g. "111111111111"`},
	"cookie":    {regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), "a cookie's name: letters, digits and !#$%&'*+-.^_`|~"},
	"status":    {regexp.MustCompile(`^[45][0-9]{2}$`), "a status from 400 to 599"},
	"host":      {regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`), "a host name in lower case, without scheme, port and *"},
	"region":    {regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]+$`), "a region's name, e.g. eu-west-1"},
}

// nameLike makes a valid name from text, "" if no letter is in it.
func nameLike(text string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		switch {
		case r >= 'a' && r <= 'z', b.Len() > 0 && r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	name := b.String()
	return strings.TrimRight(name[:min(len(name), 40)], "-")
}

// pathJoin names a key of the file, e.g. stacks.data.template.
func pathJoin(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

func itemPath(at string, i int) string { return at + "[" + strconv.Itoa(i) + "]" }

// parentPath gives the path that holds path, "" at the top.
func parentPath(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// orList joins words for a message: a, b or c.
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func sortedKeys[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// valuesOf gives the values of m in the order of its keys.
func valuesOf(m map[string]string) []string {
	values := make([]string, 0, len(m))
	for _, key := range sortedKeys(m) {
		values = append(values, m[key])
	}
	return values
}
