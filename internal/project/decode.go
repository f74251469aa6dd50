package project

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"makeitso/internal/diag"
)

// maxValues bounds the work that aliases of aliases can make of a short file.
const maxValues = 20_000

// decoder turns YAML nodes into the types of this package by their tags, and
// notes every mistake. It goes on after a mistake, so that all are seen.
type decoder struct {
	file   string
	list   diag.List
	places map[string]place // by path; a key that is there but wrong has a place too
	refs   []refText        // the texts that may hold references
	values int
}

// place is where a key and its value stand.
type place struct{ key, value *yaml.Node }

// refText is a text that may hold references.
type refText struct {
	path string
	node *yaml.Node
}

func (d *decoder) pos(n *yaml.Node) diag.Pos {
	return diag.Pos{File: d.file, Line: n.Line, Column: n.Column}
}

// valuePos gives the place of the value at path, or of what holds it.
func (d *decoder) valuePos(path string) diag.Pos {
	for ; path != ""; path = parentPath(path) {
		if p, ok := d.places[path]; ok {
			return d.pos(p.value)
		}
	}
	return diag.Pos{File: d.file, Line: 1, Column: 1}
}

// keyPos gives the place of the key at path, or of what holds it.
func (d *decoder) keyPos(path string) diag.Pos {
	for ; path != ""; path = parentPath(path) {
		if p, ok := d.places[path]; ok {
			return d.pos(p.key)
		}
	}
	return diag.Pos{File: d.file, Line: 1, Column: 1}
}

func (d *decoder) has(path string) bool {
	_, ok := d.places[path]
	return ok
}

// mistake notes at n that path holds found where allowed should be.
func (d *decoder) mistake(n *yaml.Node, path, found, allowed string) *diag.Diagnostic {
	if path != "" {
		found = path + ": " + found
	}
	m := d.list.Errorf(d.pos(n), "%s", found)
	m.Allowed = allowed
	return m
}

// full says, once with a message, that the file has too many values.
func (d *decoder) full(n *yaml.Node) bool {
	d.values++
	if d.values == maxValues {
		d.mistake(n, "", "found more than "+strconv.Itoa(maxValues)+" values, counting aliases", "fewer").Hint = "write out less by aliases"
	}
	return d.values >= maxValues
}

// value decodes n into v, which is addressable and zero. r is the rule of the
// key that holds it.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, r rule) {
	n = resolve(n)
	if d.full(n) {
		return
	}
	if n.Tag != "" && !strings.HasPrefix(n.Tag, "!!") {
		d.mistake(n, path, "found the tag "+n.Tag, "a value without a tag")
		return
	}
	if n.Tag == "!!null" {
		d.mistake(n, path, "found no value", describe(v.Type(), r)).Hint = writeOne(r)
		return
	}
	if short, ok := v.Addr().Interface().(shortened); ok && n.Kind == yaml.ScalarNode {
		if !slices.Contains(short.words(), n.Value) {
			d.wrong(n, path, v.Type(), r).Hint = suggestShort(n.Value, short.words(), v.Type())
			return
		}
		short.take(n.Value)
		return
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		d.duration(n, v, path, r)
	case v.Type() == reflect.TypeFor[Percent]():
		d.percent(n, v, path, r)
	case v.Type() == reflect.TypeFor[Size]():
		d.size(n, v, path, r)
	case v.Type() == reflect.TypeFor[Watch]() && n.Kind == yaml.ScalarNode:
		d.watch(n, v, path, r)
	case v.Type() == reflect.TypeFor[Amount]():
		d.amount(n, v, path, r)
	default:
		d.byKind(n, v, path, r)
	}
}

func (d *decoder) byKind(n *yaml.Node, v reflect.Value, path string, r rule) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), path, r)
	case reflect.Struct:
		d.structure(n, v, path, r)
	case reflect.Map:
		d.mapping(n, v, path, r)
	case reflect.Slice:
		d.sequence(n, v, path, r)
	case reflect.String:
		d.text(n, v, path, r)
	case reflect.Int:
		d.number(n, v, path, r)
	case reflect.Bool:
		d.boolean(n, v, path, r)
	default:
		panic("project: no way to decode " + v.Type().String()) // a mistake in project.go
	}
}

// wrong notes that n is not of the type that path wants.
func (d *decoder) wrong(n *yaml.Node, path string, t reflect.Type, r rule) *diag.Diagnostic {
	return d.mistake(n, path, "found "+found(n), describe(t, r))
}

// entry is a key and its value in a YAML map.
type entry struct{ key, value *yaml.Node }

// entries gives the entries of the map n, those merged by << last; a key that
// stands there twice or is no text is a mistake.
func (d *decoder) entries(n *yaml.Node, path string) []entry {
	var own, merged []entry
	first := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), n.Content[i+1]
		switch {
		case d.full(key):
			return nil
		case key.Tag == "!!merge":
			merged = append(merged, d.merged(value, path)...)
		case key.Kind != yaml.ScalarNode || key.Tag == "!!null":
			d.mistake(n.Content[i], path, "found "+found(key)+" as a key", "a string")
		case first[key.Value] != nil:
			d.mistake(key, path, fmt.Sprintf("found the key %q twice", key.Value), "each key once").Hint =
				fmt.Sprintf("the first is on line %d", first[key.Value].Line)
		default:
			first[key.Value] = key
			own = append(own, entry{key, value})
		}
	}
	for _, e := range merged {
		if first[e.key.Value] == nil {
			first[e.key.Value] = e.key
			own = append(own, e)
		}
	}
	return own
}

// merged gives the entries that "<<: value" brings.
func (d *decoder) merged(value *yaml.Node, path string) []entry {
	value = resolve(value)
	switch value.Kind {
	case yaml.MappingNode:
		return d.entries(value, path)
	case yaml.SequenceNode:
		var all []entry
		for _, item := range value.Content {
			if d.full(item) {
				break
			}
			all = append(all, d.merged(item, path)...)
		}
		return all
	}
	d.mistake(value, pathJoin(path, "<<"), "found "+found(value), "a map or a list of maps")
	return nil
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string, r rule) {
	if n.Kind != yaml.MappingNode {
		d.wrong(n, path, v.Type(), r)
		return
	}
	rules, later := rulesOf(v.Type())
	soon := false // a kind of a later version stands here, and is told
	var misspelt []string
	for _, e := range d.entries(n, path) {
		i := slices.IndexFunc(rules, func(r rule) bool { return r.key == e.key.Value })
		if i < 0 {
			misspelt = append(misspelt, d.unknownKey(e.key, path, rules, later))
			soon = soon || slices.Contains(later, e.key.Value)
			continue
		}
		at := pathJoin(path, e.key.Value)
		d.places[at] = place{e.key, resolve(e.value)}
		d.value(e.value, v.FieldByIndex(rules[i].index), at, rules[i])
	}
	d.together(n, path, rules, misspelt)
	if !soon {
		d.oneKind(n, path, keysOf(rules, func(r rule) bool { return r.kind }))
	}
	for _, r := range rules {
		if r.preset != "" && !d.has(pathJoin(path, r.key)) {
			preset(v.FieldByIndex(r.index), r.preset)
		}
	}
}

// unknownKey notes a key that no rule has, and gives the one that was probably
// meant.
func (d *decoder) unknownKey(key *yaml.Node, path string, rules []rule, later []string) string {
	keys := keysOf(rules, func(rule) bool { return true })
	if slices.Contains(later, key.Value) {
		kinds := keysOf(rules, func(r rule) bool { return r.kind })
		d.mistake(key, path, fmt.Sprintf("found the kind %q, which this version of makeitso cannot do yet", key.Value), orList(kinds))
		return ""
	}
	d.mistake(key, path, fmt.Sprintf("found the unknown key %q", key.Value), orList(keys)).Hint = suggest(key.Value, keys)
	return nearest(key.Value, keys)
}

// together checks which keys of one map must and must not stand together; one
// that is there misspelt has been told.
func (d *decoder) together(n *yaml.Node, path string, rules []rule, misspelt []string) {
	for _, r := range rules {
		at := pathJoin(path, r.key)
		switch {
		case r.required && !d.has(at) && !slices.Contains(misspelt, r.key):
			d.mistake(n, path, fmt.Sprintf("the key %q is missing", r.key), describe(r.typ, r))
		case r.with != "" && d.has(at) && !d.has(pathJoin(path, r.with)):
			d.mistake(d.places[at].key, at, "found without "+r.with, r.key+" only beside "+r.with)
		}
	}
}

// oneKind checks that exactly one of the keys that name a kind is there.
func (d *decoder) oneKind(n *yaml.Node, path string, kinds []string) {
	set := slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return !d.has(pathJoin(path, k)) })
	switch {
	case len(kinds) == 0 || len(set) == 1:
	case len(set) == 0 && len(kinds) == 1:
		d.mistake(n, path, "found no kind", kinds[0])
	case len(set) == 0:
		d.mistake(n, path, "found no kind", "exactly one of "+orList(kinds))
	default:
		at := d.places[pathJoin(path, set[1])].key
		d.mistake(at, path, "found "+strings.Join(set, " and "), "exactly one of "+orList(kinds)).Hint = "make two of it, one for each"
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string, r rule) {
	if n.Kind != yaml.MappingNode {
		d.wrong(n, path, v.Type(), r)
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range d.entries(n, path) {
		at := pathJoin(path, e.key.Value)
		d.places[at] = place{e.key, resolve(e.value)}
		d.matches(e.key, at, r)
		item := newItem(v.Type().Elem())
		d.value(e.value, item, at, rule{refs: r.refs, typ: item.Type()})
		v.SetMapIndex(reflect.ValueOf(e.key.Value), item)
	}
}

// matches checks the form of a name (a scalar or a key) by r's pattern.
func (d *decoder) matches(n *yaml.Node, path string, r rule) {
	if r.pattern == "" {
		return
	}
	p := patterns[r.pattern]
	if p.expr.MatchString(n.Value) {
		return
	}
	m := d.mistake(n, path, fmt.Sprintf("found %q", n.Value), p.allowed)
	if better := nameLike(n.Value); r.pattern == "name" && better != "" {
		m.Hint = fmt.Sprintf("did you mean %q?", better)
	}
}

// sequence decodes a list; a single value stands for a list of one.
func (d *decoder) sequence(n *yaml.Node, v reflect.Value, path string, r rule) {
	items := n.Content
	elem := v.Type().Elem()
	if n.Kind != yaml.SequenceNode {
		if n.Kind != yaml.ScalarNode || elem.Kind() == reflect.Pointer {
			d.wrong(n, path, v.Type(), r)
			return
		}
		items = []*yaml.Node{n}
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, len(items)))
	if r.min != nil && len(items) < *r.min {
		d.mistake(n, path, "found an empty list", describe(v.Type(), r)).Hint = "write an item or leave the key out"
	}
	for i, item := range items {
		at := itemPath(path, i)
		d.places[at] = place{resolve(item), resolve(item)}
		value := newItem(elem)
		d.value(item, value, at, rule{refs: r.refs, typ: elem})
		v.Set(reflect.Append(v, value))
	}
}

// newItem makes a value for a map or a list. A pointer is never nil, so that
// an item with a mistake keeps its place and the checks need not look.
func newItem(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	if t.Kind() == reflect.Pointer {
		v.Set(reflect.New(t.Elem()))
	}
	return v
}

// text decodes any scalar as it is written: "run: true" is a command.
func (d *decoder) text(n *yaml.Node, v reflect.Value, path string, r rule) {
	if n.Kind != yaml.ScalarNode {
		d.wrong(n, path, v.Type(), r)
		return
	}
	inMap := r.key == "" // a value of env or parameters may be empty
	switch {
	case n.Value == "" && !inMap:
		d.wrong(n, path, v.Type(), r).Hint = writeOne(r)
		return
	case r.enum != nil && !slices.Contains(r.enum, n.Value):
		d.wrong(n, path, v.Type(), r).Hint = suggest(n.Value, r.enum)
		return
	case r.refs == "true":
		d.refs = append(d.refs, refText{path, n})
	case r.refs == "" && strings.Contains(n.Value, "${"):
		d.mistake(n, path, fmt.Sprintf("found %q", n.Value), "a plain string; ${…} has a meaning only in parameters, tags, alarms, env and bucket")
		return
	}
	d.matches(n, path, r)
	v.SetString(n.Value)
}

func (d *decoder) number(n *yaml.Node, v reflect.Value, path string, r rule) {
	number, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || n.Tag != "!!int" {
		m := d.wrong(n, path, v.Type(), r)
		if err == nil {
			m.Hint = "leave out the quotes"
		}
		return
	}
	if r.min != nil && number < *r.min || r.max != nil && number > *r.max {
		d.wrong(n, path, v.Type(), r)
		return
	}
	v.SetInt(int64(number))
}

func (d *decoder) boolean(n *yaml.Node, v reflect.Value, path string, r rule) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		m := d.wrong(n, path, v.Type(), r)
		switch strings.ToLower(n.Value) {
		case "yes", "on":
			m.Hint = "did you mean true?"
		case "no", "off":
			m.Hint = "did you mean false?"
		}
		return
	}
	v.SetBool(strings.EqualFold(n.Value, "true"))
}

// duration gives the mistake that it notes, if there is one.
func (d *decoder) duration(n *yaml.Node, v reflect.Value, path string, r rule) *diag.Diagnostic {
	length, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || length <= 0 {
		m := d.wrong(n, path, r.typ, r)
		if n.Tag == "!!int" && err != nil {
			m.Hint = fmt.Sprintf("did you mean %ss?", n.Value)
		}
		return m
	}
	v.SetInt(int64(length))
	return nil
}

var percentPattern = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?%$`)

func (d *decoder) percent(n *yaml.Node, v reflect.Value, path string, r rule) {
	share, ok := percentage(n)
	if !ok || share <= 0 || share > 100 {
		m := d.wrong(n, path, v.Type(), r)
		if percentPattern.MatchString(n.Value + "%") {
			m.Hint = fmt.Sprintf("did you mean %s%%?", n.Value)
		}
		return
	}
	v.SetFloat(share)
}

// percentage reads a share of any size, and says whether n is one.
func percentage(n *yaml.Node) (float64, bool) {
	if n.Kind != yaml.ScalarNode || !percentPattern.MatchString(n.Value) {
		return 0, false
	}
	share, err := strconv.ParseFloat(strings.TrimSuffix(n.Value, "%"), 64)
	return share, err == nil
}

var sizePattern = regexp.MustCompile(`^([1-9][0-9]{0,8})(B|KB|MB|GB|KiB|MiB|GiB)$`)

func (d *decoder) size(n *yaml.Node, v reflect.Value, path string, r rule) {
	parts := sizePattern.FindStringSubmatch(n.Value)
	if n.Kind != yaml.ScalarNode || parts == nil {
		m := d.wrong(n, path, v.Type(), r)
		for _, meant := range []string{n.Value + "B", strings.ToUpper(n.Value), strings.ToUpper(n.Value) + "B", strings.ReplaceAll(n.Value, " ", "")} {
			if m.Hint == "" && sizePattern.MatchString(meant) {
				m.Hint = fmt.Sprintf("did you mean %s?", meant)
			}
		}
		return
	}
	number, err := strconv.ParseInt(parts[1], 10, 64)
	number *= map[string]int64{"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[parts[2]]
	if err != nil || r.max != nil && number > int64(*r.max) {
		d.wrong(n, path, v.Type(), r)
		return
	}
	v.SetInt(number)
}

// autoWatch is the word for a watch that the evidence ends.
const autoWatch = "auto"

// watch decodes what stands for a map: a word or a duration.
func (d *decoder) watch(n *yaml.Node, v reflect.Value, path string, r rule) {
	if n.Value == autoWatch {
		d.structure(&yaml.Node{Kind: yaml.MappingNode}, v, path, r)
		return
	}
	if m := d.duration(n, v.FieldByName("AtMost"), path, r); m != nil && m.Hint == "" {
		m.Hint = suggestShort(n.Value, []string{autoWatch}, v.Type())
	}
}

// amount decodes a number of instances or a share of them, which may be none and,
// unless r says otherwise, more than there are.
func (d *decoder) amount(n *yaml.Node, v reflect.Value, path string, r rule) {
	if share, ok := percentage(n); ok && (r.max == nil || share <= float64(*r.max)) {
		v.Set(reflect.ValueOf(Amount{Part: Percent(share)}))
		return
	}
	number, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || n.Tag != "!!int" || number < 0 {
		d.wrong(n, path, v.Type(), r)
		return
	}
	v.Set(reflect.ValueOf(Amount{Count: number}))
}

// shortened is a map for which one word may stand.
type shortened interface {
	words() []string
	take(word string)
}

func (r *Rollout) words() []string { return []string{"rolling", "all-at-once", "blue-green"} }
func (r *Rollout) take(word string) {
	switch word {
	case "rolling":
		r.Rolling = &Rolling{}
	case "all-at-once":
		r.AllAtOnce = &AllAtOnce{}
	default:
		r.BlueGreen = &BlueGreen{}
	}
}

func (f *Drift) words() []string  { return []string{"report", "repair", "adopt"} }
func (f *Drift) take(word string) { f.Then = word }

func (f *From) words() []string { return []string{"edge"} }
func (f *From) take(string)     {}

func (l *Latency) words() []string { return []string{"off"} }
func (l *Latency) take(string)     { l.Off = true }

// preset sets v, of a key that is left out, to its default.
func preset(v reflect.Value, text string) {
	length, err := time.ParseDuration(text)
	switch {
	case v.Kind() == reflect.String:
		v.SetString(text)
		return
	case v.Type() == reflect.TypeFor[time.Duration]() && err == nil:
		v.SetInt(int64(length))
		return
	}
	v.SetInt(int64(*limit(text)))
}

// resolve follows aliases to the node that they name.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// found says what a node is, for a message.
func found(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a map"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "no value"
	case n.Tag == "!!int" || n.Tag == "!!float":
		return "the number " + n.Value
	case n.Tag == "!!bool":
		return n.Value
	}
	return fmt.Sprintf("%q", n.Value)
}

// describe says what may stand at a key of type t.
func describe(t reflect.Type, r rule) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "a duration like 30s or 2m"
	case reflect.TypeFor[Percent]():
		return "a share above 0% and up to 100%, like 10%"
	case reflect.TypeFor[Size]():
		if r.max != nil {
			return fmt.Sprintf("a size like 16KiB, up to %dKiB", *r.max>>10)
		}
		return "a size like 64KiB or 10MB"
	case reflect.TypeFor[Rollout]():
		return orList(new(Rollout).words()) + ", or a map like {canary: [10%, 50%], watch: 2m}"
	case reflect.TypeFor[Watch]():
		return "a duration like 30s or 2m, auto, or a map like {at-least: 30s, at-most: 10m}"
	case reflect.TypeFor[From]():
		return "edge, or a map like {log: {field: status}}"
	case reflect.TypeFor[Latency]():
		return "off, or a map like {margin: 25%, slack: 5ms}"
	case reflect.TypeFor[Amount]():
		if r.max != nil {
			return fmt.Sprintf("a number of instances, or a share like 25%%, up to %d%%", *r.max)
		}
		return "a number of instances, or a share like 25%"
	case reflect.TypeFor[Drift]():
		return orList(new(Drift).words()) + ", or a map like {every: 1h, then: repair}"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return describe(t.Elem(), r)
	case reflect.Slice:
		return "a list, each item " + describe(t.Elem(), rule{})
	case reflect.Int:
		return describeNumber(r)
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		if r.enum != nil {
			return orList(r.enum)
		}
		if r.pattern != "" {
			return patterns[r.pattern].allowed
		}
		return "a string"
	}
	return "a map"
}

func describeNumber(r rule) string {
	switch {
	case r.min != nil && r.max != nil:
		return fmt.Sprintf("a whole number from %d to %d", *r.min, *r.max)
	case r.min != nil:
		return fmt.Sprintf("a whole number, at least %d", *r.min)
	}
	return "a whole number"
}

// writeOne is the hint for a key without a value.
func writeOne(r rule) string {
	if r.required {
		return "write one"
	}
	return "write one or leave the key out"
}

// suggest proposes the candidate nearest to word, "" if none is near.
func suggest(word string, candidates []string) string {
	if near := nearest(word, candidates); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return ""
}

// suggestShort proposes what a word in the place of a map of type t was meant to
// be: one of the words that may stand there, or a map with that key.
func suggestShort(word string, words []string, t reflect.Type) string {
	if hint := suggest(word, words); hint != "" {
		return hint
	}
	rules, _ := rulesOf(t)
	if key := nearest(word, keysOf(rules, func(rule) bool { return true })); key != "" {
		return fmt.Sprintf("did you mean {%s: …}?", key)
	}
	return ""
}

// nearest is diag.Nearest, and else the one candidate that word begins or that
// begins word: "params" is far from "parameters" by its letters.
func nearest(word string, candidates []string) string {
	if near := diag.Nearest(word, candidates); near != "" || len(word) < 3 {
		return near
	}
	near := ""
	for _, c := range candidates {
		if strings.HasPrefix(c, strings.TrimSuffix(word, "s")) || len(c) > 2 && strings.HasPrefix(word, c) {
			if near != "" {
				return ""
			}
			near = c
		}
	}
	return near
}
