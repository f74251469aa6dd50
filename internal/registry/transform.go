package registry

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// transformed says whether a value that is, is what one of the registry's
// transforms makes of the property at path. parent is what holds it among what
// was set. A transform that is not understood says nothing.
func (c comparer) transformed(path []string, parent map[string]any, actual any) bool {
	got, isText := plainValue(actual, false).(string)
	if !isText {
		return false
	}
	for key, expression := range c.facts.Transforms {
		fact := strings.TrimPrefix(strings.TrimPrefix(key, "/"), "properties/")
		if strings.Count(fact, "/")+1 != len(path) || !matches(fact, path) {
			continue
		}
		for _, want := range forms(expression, parent, c.root) {
			whole, err := regexp.Compile("^(?:" + want.pattern + ")$")
			if want.text == got || err == nil && whole.MatchString(got) {
				return true
			}
		}
	}
	return false
}

// forms gives what the alternatives of a transform make of what was set, those
// that are understood. The expressions are JSONata with a word $OR of their
// own; understood are texts, names, &, and the functions of call. Names are
// looked up beside the property, and else among all that was set.
func forms(expression string, beside, root map[string]any) []form {
	var found []form
	for alternative := range strings.SplitSeq(expression, "$OR") {
		r := &transformReader{rest: alternative, beside: beside, root: root}
		f := r.sum()
		if r.skip(); !r.failed && r.rest == "" && f.list == nil {
			found = append(found, f)
		}
	}
	return found
}

// form is a text that a transform makes; a service may tell any text that its
// pattern matches. A list of texts is a form too.
type form struct {
	text, pattern string
	list          []form
}

func plain(text string) form { return form{text: text, pattern: regexp.QuoteMeta(text)} }

// literal is a text in a transform, which may be a pattern. A dot alone means
// itself: it ends host names and parts versions.
func literal(text string) form {
	if strings.ContainsAny(text, `*+?[({^$|`) {
		return form{text: text, pattern: text}
	}
	return plain(text)
}

func (f form) plus(more form) form {
	return form{text: f.text + more.text, pattern: f.pattern + more.pattern}
}

// transformReader evaluates an expression while it reads it.
type transformReader struct {
	rest         string
	failed       bool
	beside, root map[string]any
}

func (r *transformReader) fail() form {
	r.failed = true
	return form{}
}

func (r *transformReader) skip() { r.rest = strings.TrimLeft(r.rest, " \t\n") }

// take reads a sign if it comes next.
func (r *transformReader) take(sign string) bool {
	r.skip()
	rest, found := strings.CutPrefix(r.rest, sign)
	r.rest = rest
	return found
}

// sum reads terms joined by &.
func (r *transformReader) sum() form {
	f := r.term()
	for !r.failed && r.take("&") {
		f = f.plus(r.term())
	}
	return f
}

var (
	transformText   = regexp.MustCompile(`^(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')`)
	transformNumber = regexp.MustCompile(`^[0-9]+`)
	transformRegexp = regexp.MustCompile(`^/((?:[^/\\]|\\.)+)/`)
	transformName   = regexp.MustCompile(`^\$?[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*)*`)
	transformIndex  = regexp.MustCompile(`^\[(-?[0-9]+)\]`)
)

var unquote = strings.NewReplacer(`\\`, `\`, `\/`, `/`, `\"`, `"`, `\n`, "\n")

// term reads a text, a name, a list or a call, and an index after it.
func (r *transformReader) term() form {
	r.skip()
	var f form
	if number := transformNumber.FindString(r.rest); number != "" {
		r.rest = r.rest[len(number):]
		f = plain(number)
	} else if quoted := transformText.FindString(r.rest); quoted != "" {
		r.rest = r.rest[len(quoted):]
		f = literal(unquote.Replace(quoted[1 : len(quoted)-1]))
	} else if name := transformName.FindString(r.rest); name != "" {
		r.rest = r.rest[len(name):]
		if function, isCall := strings.CutPrefix(name, "$"); isCall {
			f = r.call(function)
		} else {
			f = r.value(name)
		}
	} else if r.take("[") {
		f.list = r.until("]")
	} else {
		return r.fail()
	}
	if index := transformIndex.FindStringSubmatch(r.rest); index != nil && !r.failed {
		r.rest = r.rest[len(index[0]):]
		n, err := strconv.Atoi(index[1])
		if n < 0 {
			n += len(f.list)
		}
		if err != nil || n < 0 || n >= len(f.list) {
			return r.fail()
		}
		f = f.list[n]
	}
	return f
}

// until reads forms with commas between them up to the sign.
func (r *transformReader) until(sign string) []form {
	list := []form{}
	for !r.failed {
		list = append(list, r.sum())
		if r.take(sign) {
			return list
		}
		if !r.take(",") {
			r.fail()
		}
	}
	return nil
}

// value looks a name up, as A or A.B.
func (r *transformReader) value(name string) form {
	for _, from := range []map[string]any{r.beside, r.root} {
		var at any = from
		for part := range strings.SplitSeq(name, ".") {
			holder, _ := at.(map[string]any)
			at = holder[part]
		}
		if text, ok := plainValue(at, false).(string); ok {
			return plain(text)
		}
	}
	return r.fail()
}

// call reads the arguments of a function and does what it says.
func (r *transformReader) call(function string) form {
	if !r.take("(") {
		return r.fail()
	}
	if function == "replace" {
		return r.replace()
	}
	arguments := r.until(")")
	if r.failed || !slices.Contains(functions[function], len(arguments)) {
		return r.fail()
	}
	first := arguments[0]
	switch function {
	case "string":
		return first
	case "lowercase":
		return plain(strings.ToLower(first.text))
	case "uppercase":
		return plain(strings.ToUpper(first.text))
	case "substringAfter":
		_, after, found := strings.Cut(first.text, arguments[1].text)
		if !found {
			return first
		}
		return plain(after)
	case "split":
		var parts form
		for part := range strings.SplitSeq(first.text, arguments[1].text) {
			parts.list = append(parts.list, plain(part))
		}
		if len(arguments) == 3 {
			most, err := strconv.Atoi(arguments[2].text)
			if err != nil {
				return r.fail()
			}
			parts.list = parts.list[:min(most, len(parts.list))]
		}
		return parts
	}
	var joined form
	for i, part := range first.list {
		if i > 0 && len(arguments) == 2 {
			joined = joined.plus(arguments[1])
		}
		joined = joined.plus(part)
	}
	return joined
}

// functions are those of call, with how many arguments each may have.
var functions = map[string][]int{
	"string": {1}, "lowercase": {1}, "uppercase": {1}, "substringAfter": {2}, "split": {2, 3}, "join": {1, 2},
}

// replace reads "text, what, by)": what is a text or a /pattern/.
func (r *transformReader) replace() form {
	from := r.sum()
	if r.failed || !r.take(",") {
		return r.fail()
	}
	r.skip()
	var what *regexp.Regexp
	if pattern := transformRegexp.FindStringSubmatch(r.rest); pattern != nil {
		r.rest = r.rest[len(pattern[0]):]
		var err error
		if what, err = regexp.Compile(pattern[1]); err != nil {
			return r.fail()
		}
	} else {
		what = regexp.MustCompile(regexp.QuoteMeta(r.sum().text))
	}
	if !r.take(",") {
		return r.fail()
	}
	by := r.sum()
	if r.failed || !r.take(")") || strings.Contains(by.text, "$1") {
		return r.fail()
	}
	var made form
	begin := 0
	for _, at := range what.FindAllStringIndex(from.text, -1) {
		made, begin = made.plus(plain(from.text[begin:at[0]])).plus(by), at[1]
	}
	return made.plus(plain(from.text[begin:]))
}
