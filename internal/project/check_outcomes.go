package project

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"makeitso/internal/span"
)

// statusGroup is the name of the group of a pattern that is the status.
const statusGroup = "status"

// outcomes checks where the outcomes of a rollout come from, and that nothing is
// asked of them that they cannot tell.
func (c checker) outcomes(at string, r *Rollout) {
	from, source := r.Analysis.From, at+".analysis.from"
	kind := ""
	switch {
	case from.Log != nil:
		kind = "log"
		c.lines(source+".log", *from.Log)
	case from.Command != nil:
		kind = "command"
		c.lines(source+".command", from.Command.Lines)
	case from.Prometheus != nil:
		kind = "prometheus"
		c.prometheus(source+".prometheus", from.Prometheus)
	default:
		return
	}
	if latency := at + ".analysis.latency"; c.has(latency) && !r.Analysis.Latency.Off {
		c.keyErrorf(latency, "found beside from: %s, which does not send requests by a coin", kind).Allowed = "latency only by the edge"
	}
	if r.Watch.Auto() {
		m := c.errorf(at+".watch", "found beside from: %s, by which nothing is promoted early", kind)
		m.Allowed, m.Hint = "a duration like 2m", fmt.Sprintf("write watch: %s", span.Text(r.Watch.AtMost))
	}
}

func (c checker) lines(at string, l Lines) {
	pattern := c.expression(at+".pattern", l.Pattern)
	if pattern != nil && l.Pattern != "" && pattern.SubexpIndex(statusGroup) < 0 {
		m := c.errorf(at+".pattern", "found no group named %s", statusGroup)
		m.Allowed, m.Hint = "a group for the HTTP status, like (?P<status>[0-9]{3})", suggest(strings.Join(pattern.SubexpNames(), ""), []string{statusGroup})
	}
	c.expression(at+".except", l.Except)
}

// expression checks a regular expression, and gives it if it is one.
func (c checker) expression(at, text string) *regexp.Regexp {
	re, err := regexp.Compile(text)
	if err == nil {
		return re
	}
	pos := c.valuePos(at)
	if wrong, ok := errors.AsType[*syntax.Error](err); ok {
		if column, ok := columnIn(c.places[at].value, max(0, strings.Index(text, wrong.Expr))); ok {
			pos.Column = column
		}
		err = fmt.Errorf("%s: %s", wrong.Code, wrong.Expr)
	}
	m := c.list.Errorf(pos, "%s: found %q, which is no regular expression: %v", at, text, err)
	m.Allowed = "a regular expression as Go has them (RE2)"
	return nil
}

// armWord is what may be meant as a word for a version in a query.
var armWord = regexp.MustCompile(`\$[A-Za-z_]+`)

func (c checker) prometheus(at string, p *Prometheus) {
	address, err := url.Parse(p.URL)
	if p.URL != "" && !strings.Contains(p.URL, "${") && (err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https") {
		c.errorf(at+".url", "found %q", p.URL).Allowed = "an address like http://localhost:9090"
	}
	words := []string{"$release", "$commit", "$instances"}
	for _, one := range []struct{ key, query string }{{"errors", p.Errors}, {"total", p.Total}} {
		key, query := at+"."+one.key, one.query
		found := armWord.FindAllString(query, -1)
		for _, word := range found {
			if !slices.Contains(words, word) {
				m := c.errorf(key, "found the unknown word %q", word)
				m.Allowed, m.Hint = orList(words), suggest(word, words)
			}
		}
		if query != "" && len(found) == 0 {
			m := c.errorf(key, "found none of %s: both versions would have the same number", orList(words))
			m.Hint = "tell the versions apart by a label"
		}
	}
}
