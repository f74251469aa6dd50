package metric

import (
	"math"
	"slices"
	"strings"

	"makeitso/internal/fault"
)

// shape says what a formula gives: a number, a value for each period, or a list
// of such series.
type shape int

const (
	aNumber shape = iota
	aSeries
	aList
)

func (s shape) String() string { return [...]string{"a number", "a series", "a list of series"}[s] }

// row is a value for each period, the newest first, NaN where there is none. A
// number is a row that has it everywhere.
type row []float64

// formula is metric math made ready to compute.
type formula struct {
	shape shape
	rows  func(*frame) []row
}

// frame is what formulas compute from: one evaluation of an alarm.
type frame struct {
	periods int
	seconds float64 // of one period
	known   map[string][]row
	queries map[string]*query
}

// fill gives a row that has a value everywhere.
func (f *frame) fill(value float64) row {
	r := make(row, f.periods)
	for i := range r {
		r[i] = value
	}
	return r
}

// of gives what an id stands for, which is computed once.
func (f *frame) of(id string) []row {
	rows, known := f.known[id]
	if !known {
		rows = f.queries[id].formula.rows(f)
		f.known[id] = rows
	}
	return rows
}

// maxExpression is how long an expression may be, as with the service.
const maxExpression = 2048

// formulaScanner reads an expression.
type formulaScanner struct {
	scanner
	// refer gives what an id stands for; metrics are the ids of the series that
	// expressions are made over.
	refer   func(id string) (formula, error)
	metrics []string
}

// parseFormula reads an expression that is all there is.
func parseFormula(text string, refer func(id string) (formula, error), metrics []string) (formula, error) {
	if len(text) > maxExpression {
		return formula{}, fault.New(fault.Invalid, "it has %d characters; allowed are %d", len(text), maxExpression)
	}
	s := &formulaScanner{scanner{text: text}, refer, metrics}
	f, err := s.binary(0)
	if err == nil && !s.ended() {
		err = s.wrong("an operator or the end")
	}
	return f, err
}

func (s *formulaScanner) wrong(wanted string) error {
	rest := s.text[min(s.at, len(s.text)):]
	if rest == "" {
		return fault.New(fault.Invalid, "it ends where %s is wanted", wanted)
	}
	return fault.New(fault.Invalid, "at %d %s is wanted in place of %q", s.at+1, wanted, rest[:min(len(rest), 20)])
}

// operators are those of two operands, those that bind least first; of those
// that begin alike the longer comes first.
var operators = [][]string{{"||", "OR"}, {"&&", "AND"}, {"==", "!=", "<=", ">=", "<", ">"}, {"+", "-"}, {"*", "/"}}

// operator takes one of a level's operators, "" if none comes next.
func (s *formulaScanner) operator(level int) string {
	s.space()
	for _, op := range operators[level] {
		begin := s.at
		if isWord(op[0]) {
			if s.name() == op {
				return op
			}
			s.at = begin // the word goes on
		} else if s.take(op) {
			return op
		}
	}
	return ""
}

// name takes the letters, digits and underscores that come next.
func (s *formulaScanner) name() string {
	begin := s.at
	for s.at < len(s.text) && isWord(s.text[s.at]) {
		s.at++
	}
	return s.text[begin:s.at]
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// binary reads what the operators from a level on join, from left to right.
func (s *formulaScanner) binary(level int) (formula, error) {
	if level == len(operators) {
		return s.signed()
	}
	left, err := s.binary(level + 1)
	for err == nil {
		at := s.at
		op := s.operator(level)
		if op == "" {
			break
		}
		var right formula
		if right, err = s.binary(level + 1); err == nil {
			left, err = s.join(at, op, left, right)
		}
	}
	return left, err
}

// deeper reads something that lies within what is read.
func (s *formulaScanner) deeper(read func() (formula, error)) (formula, error) {
	if s.depth++; s.depth > maxDepth {
		return formula{}, s.wrong("a shallower expression")
	}
	defer func() { s.depth-- }()
	return read()
}

// signed reads a power, or one with a sign.
func (s *formulaScanner) signed() (formula, error) {
	if !s.take("-") {
		return s.power()
	}
	f, err := s.deeper(s.signed)
	return each(f, func(v float64) float64 { return -v }), err
}

// power reads a value, or one raised to another: the right ones first.
func (s *formulaScanner) power() (formula, error) {
	base, err := s.value()
	at := s.at
	if err != nil || !s.take("^") {
		return base, err
	}
	exponent, err := s.deeper(s.signed)
	if err != nil {
		return base, err
	}
	return s.join(at, "^", base, exponent)
}

// value reads a number, an id, a function, a list or what is in parentheses.
func (s *formulaScanner) value() (formula, error) {
	s.space()
	begin := s.at
	switch {
	case s.take("("):
		f, err := s.deeper(func() (formula, error) { return s.binary(0) })
		if err == nil && !s.take(")") {
			err = s.wrong("an operator or a )")
		}
		return f, err
	case s.take("["):
		return s.deeper(s.list)
	case s.at < len(s.text) && strings.IndexByte(".0123456789", s.text[s.at]) >= 0:
		return s.number()
	}
	name := s.name()
	switch {
	case name == "":
		return formula{}, s.wrong("a number, an id, a function or a (")
	case s.take("("):
		return s.deeper(func() (formula, error) { return s.call(begin, name) })
	}
	f, err := s.refer(name)
	if err != nil {
		return f, fault.Wrap(fault.Invalid, err, "at %d", begin+1)
	}
	return f, nil
}

func (s *formulaScanner) number() (formula, error) {
	begin := s.at
	s.until(" \t\r\n()[],+-*/^<>=!&|")
	if text := s.text[begin:s.at]; s.at < len(s.text) && strings.IndexByte("+-", s.text[s.at]) >= 0 && strings.HasSuffix(strings.ToLower(text), "e") {
		s.at++ // the sign of an exponent
		s.until(" \t\r\n()[],+-*/^<>=!&|")
	}
	value, isNumber := numberOf(s.text[begin:s.at])
	if !isNumber {
		s.at = begin
		return formula{}, s.wrong("a number")
	}
	return constant(value), nil
}

func constant(value float64) formula {
	return formula{aNumber, func(f *frame) []row { return []row{f.fill(value)} }}
}

// list reads [m1, m2, 300].
func (s *formulaScanner) list() (formula, error) {
	begin := s.at
	items, err := s.items("]")
	if err != nil {
		return formula{}, err
	}
	for _, item := range items {
		if item.shape == aList {
			return formula{}, fault.New(fault.Invalid, "at %d a list lies within a list; allowed are numbers and series", begin)
		}
	}
	return formula{aList, func(f *frame) []row {
		var all []row
		for _, item := range items {
			all = append(all, item.rows(f)...)
		}
		return all
	}}, nil
}

// items reads what commas part, up to a closing mark.
func (s *formulaScanner) items(closing string) (all []formula, err error) {
	if s.take(closing) {
		return nil, nil
	}
	for {
		item, err := s.binary(0)
		if err != nil {
			return nil, err
		}
		if all = append(all, item); s.take(closing) {
			return all, nil
		}
		if !s.take(",") {
			return nil, s.wrong("an operator, a comma or a " + closing)
		}
	}
}

// join gives what an operator makes of two operands: for each period of each
// series.
func (s *formulaScanner) join(at int, op string, left, right formula) (formula, error) {
	if left.shape == aList && right.shape == aList {
		return left, fault.New(fault.Invalid, "at %d %s joins two lists of series; allowed is one", at+1, op)
	}
	return pairs(left, right, func(a, b float64) float64 { return operate(op, a, b) }), nil
}

// operate gives what an operator makes of two numbers. What is no number then
// counts as missing.
func operate(op string, a, b float64) float64 {
	holds := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	switch op {
	case "+":
		return a + b
	case "-":
		return a - b
	case "*":
		return a * b
	case "/":
		return a / b
	case "^":
		return math.Pow(a, b)
	case "==":
		return holds(a == b)
	case "!=":
		return holds(a != b)
	case "<":
		return holds(a < b)
	case "<=":
		return holds(a <= b)
	case ">":
		return holds(a > b)
	case ">=":
		return holds(a >= b)
	case "&&", "AND":
		return holds(a != 0 && b != 0)
	}
	return holds(a != 0 || b != 0)
}

// each gives a formula whose values are made of another's, one by one.
func each(of formula, make func(float64) float64) formula {
	return pairs(of, constant(0), func(value, _ float64) float64 { return make(value) })
}

// pairs gives a formula whose values are made of two others'. Where one is
// missing, or nothing finite comes of them, it has none.
func pairs(left, right formula, make func(a, b float64) float64) formula {
	return formula{max(left.shape, right.shape), func(f *frame) []row {
		a, b := left.rows(f), right.rows(f)
		many, few := a, b // a list may be empty; its other operand is one row
		if right.shape == aList {
			many, few = b, a
		}
		all := slices.Clone(many)
		for i := range many {
			x, y := many[i], few[0]
			if right.shape == aList {
				x, y = y, x
			}
			all[i] = f.fill(math.NaN())
			for at := range all[i] {
				if math.IsNaN(x[at]) || math.IsNaN(y[at]) {
					continue
				}
				if v := make(x[at], y[at]); !math.IsInf(v, 0) {
					all[i][at] = v
				}
			}
		}
		return all
	}}
}
