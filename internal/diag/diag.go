// Package diag is how makeitso reports mistakes in a user's text: each with
// its place, what was found, what is allowed and a hint, collected so that all
// mistakes of a file are shown at once. It knows nothing of the languages that
// are checked.
package diag

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Severity says whether a diagnostic stops the work.
type Severity string

const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Pos is a place in a file. Line and Column count from 1; 0 means unknown.
type Pos struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	// By names what made the text that is spoken of, if it is not written there.
	By string `json:"by,omitempty"`
}

// String gives file:line:column, leaving out what is unknown.
func (p Pos) String() string {
	if by := p.By; by != "" {
		p.By = ""
		return p.String() + " (made by " + by + ")"
	}
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Diagnostic is one mistake (or warning) in a user's text.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	Pos      Pos      `json:"pos"`
	Summary  string   `json:"summary"`           // one line: what is wrong and what was found
	Allowed  string   `json:"allowed,omitempty"` // what may stand there
	Hint     string   `json:"hint,omitempty"`    // the next step, e.g. the nearest right spelling
}

// String gives one line: place, severity, summary, what is allowed, hint.
func (d Diagnostic) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %s", d.Pos, d.Severity, d.Summary)
	if d.Allowed != "" {
		fmt.Fprintf(&b, "; allowed: %s", d.Allowed)
	}
	if d.Hint != "" {
		fmt.Fprintf(&b, "; %s", d.Hint)
	}
	return b.String()
}

// List is the diagnostics of one or more texts.
type List []Diagnostic

// Errorf appends an error at pos and returns it for adding Allowed and Hint.
func (l *List) Errorf(pos Pos, format string, args ...any) *Diagnostic {
	*l = append(*l, Diagnostic{Severity: Error, Pos: pos, Summary: fmt.Sprintf(format, args...)})
	return &(*l)[len(*l)-1]
}

// Warnf appends a warning at pos and returns it for adding Allowed and Hint.
func (l *List) Warnf(pos Pos, format string, args ...any) *Diagnostic {
	d := l.Errorf(pos, format, args...)
	d.Severity = Warning
	return d
}

// HasErrors says whether any diagnostic of l is an error.
func (l List) HasErrors() bool {
	return slices.ContainsFunc(l, func(d Diagnostic) bool { return d.Severity == Error })
}

// Sort orders l by file, line and column; equal places keep their order.
func (l List) Sort() {
	slices.SortStableFunc(l, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Pos.File, b.Pos.File), cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
}

// Error gives all diagnostics, one a line, so that a List with errors can
// travel as an error.
func (l List) Error() string {
	lines := make([]string, len(l))
	for i, d := range l {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// Err gives l as an error if it has errors, else nil.
func (l List) Err() error {
	if l.HasErrors() {
		return l
	}
	return nil
}

// Print writes l to w, each diagnostic with the line of source it speaks of
// and a caret below the column. source gives a file's text; where it gives
// nothing, the line is left out.
func (l List) Print(w io.Writer, source func(file string) []byte) error {
	var b strings.Builder
	for _, d := range l {
		fmt.Fprintf(&b, "%s: %s: %s\n", d.Pos, d.Severity, d.Summary)
		if line, ok := sourceLine(source(d.Pos.File), d.Pos.Line); ok {
			fmt.Fprintf(&b, "  %4d | %s\n", d.Pos.Line, line)
			if d.Pos.Column > 0 {
				fmt.Fprintf(&b, "       | %s^\n", caretIndent(line, d.Pos.Column))
			}
		}
		if d.Allowed != "" {
			fmt.Fprintf(&b, "       allowed: %s\n", d.Allowed)
		}
		if d.Hint != "" {
			fmt.Fprintf(&b, "       %s\n", d.Hint)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func sourceLine(source []byte, line int) (string, bool) {
	if line == 0 || source == nil {
		return "", false
	}
	lines := strings.Split(string(source), "\n")
	if line > len(lines) {
		return "", false
	}
	return strings.TrimRight(lines[line-1], "\r"), true
}

// caretIndent keeps the line's tabs, so that the caret stands under its column
// whatever the terminal's tab width.
func caretIndent(line string, column int) string {
	indent := []rune(line)
	if column-1 < len(indent) {
		indent = indent[:column-1]
	}
	for i, r := range indent {
		if r != '\t' {
			indent[i] = ' '
		}
	}
	return string(indent)
}

// Nearest gives the candidate most like word, or "" if none is near: at most
// a third of the word's letters (at least one) may differ, by edit distance
// without regard to case.
func Nearest(word string, candidates []string) string {
	return nearest(word, candidates, max(1, len(word)/3))
}

// Slip gives the candidate that word is but for one letter or its case, ""
// if there is none.
func Slip(word string, candidates []string) string { return nearest(word, candidates, 1) }

// nearest gives the candidate most like word of which at most so many letters differ.
func nearest(word string, candidates []string, most int) string {
	best, bestDistance := "", most+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the Damerau-Levenshtein distance (optimal string alignment).
func distance(a, b string) int {
	before, previous, current := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return previous[len(b)]
}
