package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Lines says how a line tells an outcome: by Pattern or by Field.
type Lines struct {
	// Pattern is a regular expression whose group named status is the status.
	Pattern string `json:"pattern,omitempty"`
	// Field is the field of a JSON object that is the status; dots lead into
	// objects within.
	Field string `json:"field,omitempty"`
	// Except is a regular expression for lines that do not count, "" for none.
	Except string `json:"except,omitempty"`
}

// StatusGroup is the name of the group of a Pattern that is the status.
const StatusGroup = "status"

// String says how lines are read, e.g. “by the field status”.
func (l Lines) String() string {
	text := "by the field " + l.Field
	if l.Pattern != "" {
		text = fmt.Sprintf("by the pattern %q", l.Pattern)
	}
	if l.Except != "" {
		text += fmt.Sprintf(" except %q", l.Except)
	}
	return text
}

// reading says what a line is.
type reading int

const (
	noOutcome reading = iota // not understood
	excepted                 // not to be counted
	good
	bad
)

// parser makes the function that reads a line.
func (l Lines) parser() (func(line []byte) reading, error) {
	status := func(line []byte) []byte { return field(line, l.Field) }
	if l.Pattern != "" {
		pattern, err := regexp.Compile(l.Pattern)
		if err != nil {
			return nil, fmt.Errorf("the pattern of outcomes: %w", err)
		}
		group := pattern.SubexpIndex(StatusGroup)
		if group < 0 {
			return nil, fmt.Errorf("the pattern of outcomes, %q, has no group named %s", l.Pattern, StatusGroup)
		}
		status = func(line []byte) []byte {
			if match := pattern.FindSubmatch(line); match != nil {
				return match[group]
			}
			return nil
		}
	}
	except, err := regexp.Compile(l.Except)
	if err != nil {
		return nil, fmt.Errorf("the lines that are no outcomes: %w", err)
	}
	return func(line []byte) reading {
		if l.Except != "" && except.Match(line) {
			return excepted
		}
		switch number, err := strconv.Atoi(string(status(line))); {
		case err != nil || number < 100 || number > 599:
			return noOutcome
		case number >= 500:
			return bad
		}
		return good
	}, nil
}

// field gives the text of a field of a JSON object, nil if it is not there. The
// path as a whole may be a name, else its dots lead into objects within.
func field(object []byte, path string) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(object, &fields) != nil {
		return nil
	}
	if value, ok := fields[path]; ok {
		return bytes.Trim(value, `"`)
	}
	head, rest, _ := strings.Cut(path, ".")
	if rest == "" {
		return nil
	}
	return field(fields[head], rest)
}

const (
	// longestLine is how much of a line is looked at.
	longestLine = 1 << 20
	// sampleWidth is how much of a line is shown.
	sampleWidth = 200
)

// counter counts the outcomes of a release in lines.
type counter struct {
	parse   func([]byte) reading
	release string
	into    *Reading
}

// add counts one line. Empty ones are nothing.
func (c counter) add(line []byte) {
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return
	}
	switch c.parse(line) {
	case good:
		c.into.count(c.release, Count{OK: 1})
	case bad:
		c.into.count(c.release, Count{Bad: 1})
	case noOutcome:
		c.into.Ignored++
		c.into.Sample = sample(line)
	}
}

// sample is the beginning of a line.
func sample(line []byte) string {
	text := strings.ToValidUTF8(string(line[:min(len(line), sampleWidth)]), "")
	if len(line) > sampleWidth {
		text += "…"
	}
	return text
}

// splitter cuts what is written to it into lines, and keeps the last one until
// it is whole.
type splitter struct {
	each    func(line []byte)
	rest    []byte // of the line begun
	pending int64  // how long that is in truth: of a long one not all is kept
}

func (s *splitter) Write(p []byte) (int, error) {
	written := len(p)
	for {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			s.keep(p)
			return written, nil
		}
		s.keep(p[:end])
		s.end()
		p = p[end+1:]
	}
}

func (s *splitter) keep(p []byte) {
	s.pending += int64(len(p))
	s.rest = append(s.rest, p[:min(len(p), max(0, longestLine-len(s.rest)))]...)
}

// end ends the line begun.
func (s *splitter) end() {
	s.each(s.rest)
	s.rest, s.pending = s.rest[:0], 0
}
