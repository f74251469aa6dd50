package metric

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"makeitso/internal/fault"
)

// maxPattern is how long a pattern may be, as with the service.
const maxPattern = 1024

// Pattern is a filter pattern of CloudWatch Logs: terms, fields between
// spaces, or an expression over JSON.
type Pattern struct {
	terms  []term
	fields []field // of [a, b=1, ...]
	when   expression
	form   form
}

type form int

const (
	byTerms form = iota
	byFields
	byJSON
)

// term is a part of a line that must be there, may be, or must not.
type term struct {
	kind byte // 0, '?' or '-'
	operand
}

// field is one place of a line; rest is any number of them.
type field struct {
	name string
	rest bool
	when expression // nil for any value
}

// Fields gives the values of a line that matched.
type Fields struct {
	document any
	named    map[string]string
}

// ParsePattern reads a filter pattern.
func ParsePattern(text string) (Pattern, error) {
	if len(text) > maxPattern {
		return Pattern{}, fault.New(fault.Invalid, "FilterPattern has %d characters; allowed are %d", len(text), maxPattern)
	}
	s := &scanner{text: strings.TrimSpace(text)}
	var p Pattern
	var err error
	switch {
	case strings.HasPrefix(s.text, "{"):
		p.form = byJSON
		if !strings.HasSuffix(s.text, "}") {
			err = s.wrong("a } at its end")
			break
		}
		s.text, s.selector = s.text[1:len(s.text)-1], (*scanner).path
		p.when, err = s.whole()
	case strings.HasPrefix(s.text, "["):
		p.form = byFields
		p.fields, err = s.fields()
	default:
		p.terms, err = s.terms()
	}
	return p, err
}

// Match says whether a line matches, and gives its values.
func (p Pattern) Match(line string) (Fields, bool) {
	switch p.form {
	case byJSON:
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.UseNumber()
		var f Fields
		if decoder.Decode(&f.document) != nil || strings.TrimSpace(line[decoder.InputOffset():]) != "" {
			return Fields{}, false
		}
		return f, p.when.holds(f.values)
	case byFields:
		return p.matchFields(line)
	default:
		return Fields{}, p.matchTerms(line)
	}
}

// matchTerms looks for terms. Those with "?" count only where there are no
// others, as with the service.
func (p Pattern) matchTerms(line string) bool {
	optional, one := len(p.terms) > 0, false
	for _, t := range p.terms {
		in := t.within(line)
		switch {
		case t.kind == '?':
			one = one || in
			continue
		case in == (t.kind == '-'):
			return false
		}
		optional = false
	}
	return one || !optional
}

func (p Pattern) matchFields(line string) (Fields, bool) {
	words := splitLine(line)
	rest := slices.IndexFunc(p.fields, func(f field) bool { return f.rest })
	if rest < 0 && len(words) != len(p.fields) || len(words) < len(p.fields)-1 {
		return Fields{}, false
	}
	f := Fields{named: map[string]string{}}
	for i, field := range p.fields {
		switch {
		case field.rest:
			continue
		case rest >= 0 && i > rest: // counted from the end
			i += len(words) - len(p.fields)
		}
		f.named[field.name] = words[i]
	}
	for _, field := range p.fields {
		if field.when != nil && !field.when.holds(f.values) {
			return Fields{}, false
		}
	}
	return f, true
}

// splitLine gives the words of a line; what stands in quotes or brackets is
// one.
func splitLine(line string) []string {
	var words []string
	for {
		line = strings.TrimLeft(line, " \t\r")
		if line == "" {
			return words
		}
		if end := map[byte]string{'"': `"`, '[': "]"}[line[0]]; end != "" {
			if word, after, closed := strings.Cut(line[1:], end); closed {
				words, line = append(words, word), after
				continue
			}
		}
		end := strings.IndexAny(line, " \t\r")
		if end < 0 {
			end = len(line)
		}
		words, line = append(words, line[:end]), line[end:]
	}
}

// values gives what a selector stands for: nothing, one value, or, where it
// has a [*], many.
func (f Fields) values(selector selector) []any {
	if selector.name != "" {
		if v, ok := f.named[selector.name]; ok {
			return []any{v}
		}
		return nil
	}
	at := []any{f.document}
	for _, step := range selector.path {
		var next []any
		for _, v := range at {
			switch in := v.(type) {
			case map[string]any:
				if member, ok := in[step.key]; ok && !step.item {
					next = append(next, member)
				}
			case []any:
				switch {
				case step.item && step.every:
					next = append(next, in...)
				case step.item && step.index < len(in):
					next = append(next, in[step.index])
				}
			}
		}
		at = next
	}
	return at
}

// Text gives the value of $.a.b or $name as text; false if the line has none,
// or one that is not a text, a number or true or false.
func (f Fields) Text(reference string) (string, bool) {
	selector, err := parseSelector(reference)
	if err != nil {
		return "", false
	}
	values := f.values(selector)
	if len(values) != 1 {
		return "", false
	}
	return scalar(values[0])
}

// parseSelector reads what MetricValue and Dimensions refer to: $.a.b or
// $name.
func parseSelector(reference string) (selector, error) {
	name, marked := strings.CutPrefix(reference, "$")
	if marked && validName.MatchString(name) {
		return selector{name: name}, nil
	}
	s := &scanner{text: reference}
	found, err := s.path()
	if err == nil && !s.ended() {
		err = s.wrong("its end")
	}
	return found, err
}

var validName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
