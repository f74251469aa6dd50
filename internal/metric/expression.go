package metric

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"makeitso/internal/fault"
)

// expression says whether values are as wanted.
type expression interface {
	holds(get func(selector) []any) bool
}

// every and either are joined expressions.
type (
	every  []expression
	either []expression
)

func (e every) holds(get func(selector) []any) bool {
	return !slices.ContainsFunc(e, func(x expression) bool { return !x.holds(get) })
}

func (e either) holds(get func(selector) []any) bool {
	return slices.ContainsFunc(e, func(x expression) bool { return x.holds(get) })
}

// selector names a value: a field, or a place in a document.
type selector struct {
	name string
	path []step
}

// step is a member of an object, or an item of a list.
type step struct {
	key   string
	item  bool
	index int
	every bool
}

// comparison is one test. What is not there passes NOT EXISTS alone.
type comparison struct {
	selector
	op string
	operand
}

func (c comparison) holds(get func(selector) []any) bool {
	found := get(c.selector)
	switch c.op {
	case "EXISTS":
		return len(found) > 0
	case "NOT EXISTS":
		return len(found) == 0
	}
	return slices.ContainsFunc(found, c.one)
}

func (c comparison) one(value any) bool {
	switch c.op {
	case "IS NULL":
		return value == nil
	case "IS TRUE":
		return value == true
	case "IS FALSE":
		return value == false
	}
	text, ok := scalar(value)
	if !ok {
		return false
	}
	if c.op == "=" || c.op == "!=" {
		return c.equals(value, text) == (c.op == "=")
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return false
	}
	switch c.op {
	case "<":
		return n < c.number
	case "<=":
		return n <= c.number
	case ">":
		return n > c.number
	}
	return n >= c.number
}

// scalar gives a single value as text.
func scalar(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// operand is what a value is compared with.
type operand struct {
	text     string
	number   float64
	isNumber bool           // a number that is written without quotes
	regexp   *regexp.Regexp // of %…%, or of a text with *
}

// equals compares with a value: numbers by their value, texts letter by letter,
// where * stands for any.
func (o operand) equals(value any, text string) bool {
	switch {
	case o.regexp != nil:
		return o.regexp.MatchString(text)
	case o.isNumber:
		if _, isText := value.(string); isText && text == o.text {
			return true
		}
		n, err := strconv.ParseFloat(text, 64)
		return err == nil && n == o.number
	}
	return text == o.text
}

// within says whether a line has the operand in it.
func (o operand) within(line string) bool {
	if o.regexp != nil {
		return o.regexp.MatchString(line)
	}
	return strings.Contains(line, o.text)
}

// wildcard gives the expression of a text in which * stands for anything.
func wildcard(text string) *regexp.Regexp {
	parts := strings.Split(text, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("^(?s:" + strings.Join(parts, ".*") + ")$")
}

// scanner reads the parts of a pattern.
type scanner struct {
	text     string
	at       int
	depth    int
	selector func(*scanner) (selector, error) // reads what a comparison is about
}

// wrong is a mistake at the scanner's place.
func (s *scanner) wrong(wanted string) error {
	rest := s.text[min(s.at, len(s.text)):]
	if rest == "" {
		return fault.New(fault.Invalid, "Invalid metric filter pattern: it ends where %s is wanted", wanted)
	}
	return fault.New(fault.Invalid, "Invalid metric filter pattern: %s is wanted in place of %q", wanted, rest[:min(len(rest), 20)])
}

// space passes over white space.
func (s *scanner) space() {
	for s.at < len(s.text) && strings.IndexByte(" \t\r\n", s.text[s.at]) >= 0 {
		s.at++
	}
}

// ended says whether nothing is left.
func (s *scanner) ended() bool {
	s.space()
	return s.at == len(s.text)
}

// take passes over a text if it comes next.
func (s *scanner) take(text string) bool {
	s.space()
	if !strings.HasPrefix(s.text[s.at:], text) {
		return false
	}
	s.at += len(text)
	return true
}

// until gives what comes before any of the stops.
func (s *scanner) until(stops string) string {
	begin := s.at
	for s.at < len(s.text) && strings.IndexByte(stops, s.text[s.at]) < 0 {
		s.at++
	}
	return s.text[begin:s.at]
}

// quoted gives what stands up to the closing mark; "\" takes the next letter
// as it is.
func (s *scanner) quoted(mark byte) (string, error) {
	var b strings.Builder
	for s.at++; s.at < len(s.text); s.at++ {
		c := s.text[s.at]
		if c == mark {
			s.at++
			return b.String(), nil
		}
		if c == '\\' && s.at+1 < len(s.text) && (s.text[s.at+1] == mark || s.text[s.at+1] == '\\' && mark != '%') {
			s.at++
			c = s.text[s.at]
		}
		b.WriteByte(c)
	}
	return "", s.wrong("a closing " + string(mark))
}

// operand reads a value: "text", %expression%, or what stands before any of
// the stops.
func (s *scanner) operand(stops string) (operand, error) {
	s.space()
	if s.at == len(s.text) {
		return operand{}, s.wrong("a value")
	}
	switch mark := s.text[s.at]; mark {
	case '"':
		text, err := s.quoted(mark)
		o := operand{text: text}
		if strings.Contains(text, "*") && s.selector != nil {
			o.regexp = wildcard(text)
		}
		return o, err
	case '%':
		text, err := s.quoted(mark)
		if err != nil {
			return operand{}, err
		}
		expression, err := regexp.Compile(text)
		if err != nil {
			return operand{}, fault.New(fault.Invalid, "Invalid metric filter pattern: %%%s%% is no regular expression: %v", text, err)
		}
		return operand{text: text, regexp: expression}, nil
	}
	text := s.until(stops)
	if text == "" {
		return operand{}, s.wrong("a value")
	}
	o := operand{text: text}
	o.number, o.isNumber = numberOf(text)
	if strings.Contains(text, "*") && s.selector != nil {
		o.regexp = wildcard(text)
	}
	return o, nil
}

// whole reads an expression that is all there is.
func (s *scanner) whole() (expression, error) {
	e, err := s.expression()
	if err == nil && !s.ended() {
		err = s.wrong("&& or ||")
	}
	return e, err
}

func (s *scanner) expression() (expression, error) {
	var any either
	for {
		e, err := s.all()
		if err != nil {
			return nil, err
		}
		if any = append(any, e); !s.take("||") {
			return any, nil
		}
	}
}

func (s *scanner) all() (expression, error) {
	var all every
	for {
		e, err := s.single()
		if err != nil {
			return nil, err
		}
		if all = append(all, e); !s.take("&&") {
			return all, nil
		}
	}
}

// maxDepth is how deep parentheses may lie.
const maxDepth = 50

func (s *scanner) single() (expression, error) {
	if !s.take("(") {
		return s.comparison()
	}
	if s.depth++; s.depth > maxDepth {
		return nil, s.wrong("fewer parentheses")
	}
	defer func() { s.depth-- }()
	e, err := s.expression()
	if err == nil && !s.take(")") {
		err = s.wrong("a )")
	}
	return e, err
}

// comparisons are what may stand after a selector: the longer before those
// that they begin with.
var comparisons = [...]string{"!=", "<=", ">=", "=", "<", ">"}

func (s *scanner) comparison() (expression, error) {
	var c comparison
	var err error
	if c.selector, err = s.selector(s); err != nil {
		return nil, err
	}
	for _, op := range comparisons {
		if s.take(op) {
			c.op = op
			c.operand, err = s.operand(" \t\r\n()&|")
			if err == nil && strings.ContainsAny(op, "<>") && !c.isNumber {
				err = fault.New(fault.Invalid, "Invalid metric filter pattern: %s compares numbers, and %q is none", op, c.text)
			}
			return c, err
		}
	}
	s.space()
	words := s.until(" \t\r\n()&|")
	if words == "IS" || words == "NOT" {
		s.space()
		words += " " + s.until(" \t\r\n()&|")
	}
	if c.op = words; !slices.Contains([]string{"IS NULL", "IS TRUE", "IS FALSE", "NOT EXISTS", "EXISTS"}, c.op) {
		s.at -= len(words)
		return nil, s.wrong("=, !=, <, <=, >, >=, IS NULL, IS TRUE, IS FALSE, EXISTS or NOT EXISTS")
	}
	return c, nil
}

// path reads the place of a value in a document: $.a[0].b, $.a[*], $['a.b'].
func (s *scanner) path() (selector, error) {
	var found selector
	if !s.take("$") {
		return found, s.wrong("a selector such as $.status")
	}
	for s.at < len(s.text) {
		switch {
		case s.text[s.at] == '.':
			s.at++
			if s.at < len(s.text) && s.text[s.at] == '[' { // $.['a.b']
				continue
			}
			key := s.until(". \t\r\n[]()=!<>&|")
			if key == "" {
				return found, s.wrong("the name of a member")
			}
			found.path = append(found.path, step{key: key})
		case s.text[s.at] == '[':
			at, err := s.bracket()
			if err != nil {
				return found, err
			}
			found.path = append(found.path, at)
		default:
			return found, s.some(found)
		}
	}
	return found, s.some(found)
}

func (s *scanner) some(found selector) error {
	if len(found.path) == 0 {
		return s.wrong("a selector such as $.status")
	}
	return nil
}

// bracket reads [0], [*] or ['name'].
func (s *scanner) bracket() (step, error) {
	s.at++
	if s.at < len(s.text) && (s.text[s.at] == '\'' || s.text[s.at] == '"') {
		key, err := s.quoted(s.text[s.at])
		if err == nil && !s.take("]") {
			err = s.wrong("a ]")
		}
		return step{key: key}, err
	}
	text := strings.TrimSpace(s.until("]"))
	if s.at == len(s.text) {
		return step{}, s.wrong("a ]")
	}
	s.at++
	if text == "*" {
		return step{item: true, every: true}, nil
	}
	index, err := strconv.Atoi(text)
	if err != nil || index < 0 {
		return step{}, fault.New(fault.Invalid, "Invalid metric filter pattern: [%s] is neither a number nor *", text)
	}
	return step{item: true, index: index}, nil
}

// terms reads words, "phrases" and %expressions% with an optional ? or -.
func (s *scanner) terms() ([]term, error) {
	var all []term
	for !s.ended() {
		var t term
		if c := s.text[s.at]; (c == '?' || c == '-') && s.at+1 < len(s.text) && s.text[s.at+1] != ' ' {
			t.kind = c
			s.at++
		}
		var err error
		if t.operand, err = s.operand(" \t\r\n"); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// fields reads [name, name = value || name > 5, ...].
func (s *scanner) fields() ([]field, error) {
	s.selector = func(s *scanner) (selector, error) {
		s.space()
		name := s.until(" \t\r\n()=!<>&|")
		if !validName.MatchString(name) {
			s.at -= len(name)
			return selector{}, s.wrong("the name of a field")
		}
		return selector{name: name}, nil
	}
	parts, err := s.parts()
	if err != nil {
		return nil, err
	}
	var all []field
	rest := false
	for _, text := range parts {
		part := &scanner{text: strings.TrimSpace(text), selector: s.selector}
		f := field{name: part.text}
		switch {
		case part.text == "...":
			if rest {
				return nil, fault.New(fault.Invalid, "Invalid metric filter pattern: it has more than one \"...\"")
			}
			f.rest, rest = true, true
		case !validName.MatchString(part.text):
			opening := strings.TrimLeft(part.text, "( \t")
			name, err := s.selector(&scanner{text: opening})
			if err == nil {
				f.name = name.name
				f.when, err = part.whole()
			}
			if err != nil {
				return nil, err
			}
		}
		if slices.ContainsFunc(all, func(other field) bool { return !f.rest && other.name == f.name }) {
			return nil, fault.New(fault.Invalid, "Invalid metric filter pattern: it has two fields %s", f.name)
		}
		all = append(all, f)
	}
	return all, nil
}

// parts gives what stands between the commas of […].
func (s *scanner) parts() ([]string, error) {
	var parts []string
	s.at++ // the [
	begin := s.at
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case '"', '%':
			if _, err := s.quoted(c); err != nil {
				return nil, err
			}
			continue
		case ',':
			parts, begin = append(parts, s.text[begin:s.at]), s.at+1
		case ']':
			if s.at != len(s.text)-1 {
				s.at++
				return nil, s.wrong("the end")
			}
			return append(parts, s.text[begin:s.at]), nil
		}
		s.at++
	}
	return nil, s.wrong("a ]")
}
