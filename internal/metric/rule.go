package metric

import (
	"fmt"
	"slices"
	"strings"

	"makeitso/internal/fault"
)

// Rule is the rule of a composite alarm, such as
// ALARM("a") AND NOT (OK(b) OR INSUFFICIENT_DATA(c)).
type Rule struct {
	either []conjunction
	names  []string
}

// conjunction is parts of a rule of which all must hold.
type conjunction []part

// part is one function, or a rule in parentheses.
type part struct {
	not   bool
	state State // of the alarm called name
	name  string
	fixed *bool // TRUE and FALSE
	group *Rule
}

// maxRule is how long a rule may be, as with the service.
const maxRule = 10240

// ParseRule reads an AlarmRule.
func ParseRule(text string) (Rule, error) {
	if len(text) > maxRule {
		return Rule{}, fault.New(fault.Invalid, "AlarmRule has %d characters; allowed are %d", len(text), maxRule)
	}
	s := &ruleScanner{scanner: scanner{text: text}}
	r, err := s.rule()
	if err == nil && !s.ended() {
		err = s.wrong("AND or OR")
	}
	r.names = s.names
	return r, err
}

// Names gives the names or ARNs of the alarms that the rule asks about.
func (r Rule) Names() []string { return r.names }

// Holds says whether the rule holds when the alarms have these states.
func (r Rule) Holds(state func(name string) State) bool {
	return slices.ContainsFunc(r.either, func(all conjunction) bool {
		return !slices.ContainsFunc(all, func(p part) bool { return !p.holds(state) })
	})
}

func (p part) holds(state func(name string) State) bool {
	is := false
	switch {
	case p.fixed != nil:
		is = *p.fixed
	case p.group != nil:
		is = p.group.Holds(state)
	default:
		is = state(p.name) == p.state
	}
	return is != p.not
}

// ruleScanner reads a rule.
type ruleScanner struct {
	scanner
	names []string
}

func (s *ruleScanner) wrong(wanted string) error {
	rest := s.text[min(s.at, len(s.text)):]
	if rest == "" {
		return fault.New(fault.Invalid, "AlarmRule ends where %s is wanted", wanted)
	}
	return fault.New(fault.Invalid, "AlarmRule: %s is wanted in place of %q", wanted, rest[:min(len(rest), 20)])
}

// word gives the word that comes next, and passes over it if it is the wanted
// one.
func (s *ruleScanner) word(wanted string) bool {
	s.space()
	end := strings.IndexAny(s.text[s.at:], " \t\r\n()")
	if end < 0 {
		end = len(s.text) - s.at
	}
	return strings.EqualFold(s.text[s.at:s.at+end], wanted) && s.take(s.text[s.at:s.at+end])
}

func (s *ruleScanner) rule() (Rule, error) {
	var r Rule
	for {
		var all conjunction
		for {
			p, err := s.part()
			if err != nil {
				return r, err
			}
			if all = append(all, p); !s.word("AND") {
				break
			}
		}
		if r.either = append(r.either, all); !s.word("OR") {
			return r, nil
		}
	}
}

func (s *ruleScanner) part() (part, error) {
	var p part
	for s.word("NOT") {
		p.not = !p.not
	}
	for _, fixed := range []bool{true, false} {
		if s.word(fmt.Sprint(fixed)) {
			p.fixed = &fixed
			return p, nil
		}
	}
	for _, state := range States() {
		if s.word(string(state)) {
			p.state = state
			return p, s.called(&p)
		}
	}
	if !s.take("(") {
		return p, s.wrong("ALARM(…), OK(…), INSUFFICIENT_DATA(…), TRUE, FALSE, NOT or a (")
	}
	if s.depth++; s.depth > maxDepth {
		return p, s.wrong("fewer parentheses")
	}
	defer func() { s.depth-- }()
	group, err := s.rule()
	p.group = &group
	if err == nil && !s.take(")") {
		err = s.wrong("AND, OR or a )")
	}
	return p, err
}

// called reads the ("name") after a function.
func (s *ruleScanner) called(p *part) error {
	if !s.take("(") {
		return s.wrong("a (")
	}
	s.space()
	var err error
	if s.at < len(s.text) && (s.text[s.at] == '"' || s.text[s.at] == '\'') {
		p.name, err = s.quoted(s.text[s.at])
	} else {
		p.name = strings.TrimSpace(s.until(")"))
	}
	switch {
	case err != nil:
		return s.wrong("a closing quote")
	case p.name == "":
		return s.wrong("the name of an alarm")
	case !s.take(")"):
		return s.wrong("a )")
	}
	s.names = append(s.names, p.name)
	return nil
}
