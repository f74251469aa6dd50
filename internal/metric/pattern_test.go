package metric

import (
	"strings"
	"testing"
)

func TestPattern(t *testing.T) {
	const request = `127.0.0.1 - frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534`
	const document = `{"status": 500, "path": "/x/1", "ok": false, "none": null, "tags": ["a", "b"], "at": [{"n": 1}, {"n": 7}], "a.b": "dot", "text": "500"}`
	for _, c := range []struct {
		pattern, line string
		want          bool
	}{
		{"", "anything", true},
		{"ERROR", "an ERRORCODE", true},
		{"ERROR", "an error", false},
		{"ERROR disk", "disk: ERROR", true},
		{"ERROR disk", "ERROR", false},
		{`"no space"`, "no space left", true},
		{`"no space"`, "space no", false},
		{`"say \"a\""`, `say "a"`, true},
		{"ERROR -Exiting", "ERROR", true},
		{"ERROR -Exiting", "Exiting: ERROR", false},
		{`-"x y"`, "x y", false},
		{"?ERROR ?WARN", "WARN", true},
		{"?ERROR ?WARN", "INFO", false},
		{"INFO ?WARN", "INFO", true}, // ? beside others counts for nothing
		{"%err[0-9]+%", "err12", true},
		{"%err[0-9]+%", "err", false},
		{"*", "a*b", true},
		{"*", "ab", false},
		{"-", "a - b", true},

		{"[ip, user, name, time, request, status, size]", request, true},
		{"[ip, user, name, time, request, status]", request, false},
		{"[..., status = 4*, size]", request, true},
		{"[..., status = 5*, size]", request, false},
		{"[ip, ..., size > 1000]", request, true},
		{"[ip, ..., size > 2000]", request, false},
		{"[ip = 127.*, ...]", request, true},
		{`[..., request = "*index.html*", status = 404 || status = 500, size]`, request, true},
		{`[..., request != "*index.html*", status, size]`, request, false},
		{"[..., (status = 403 || status = 404) && status != 500, size]", request, true},
		{"[a, b]", "", false},
		{"[..., a=%[,]%]", "x ,", true},

		{"{ $.status = 500 }", document, true},
		{"{ $.status = 501 }", document, false},
		{"{ $.status = 5* }", document, true},
		{"{ $.status >= 500 && $.path = \"/x*\" }", document, true},
		{"{ $.status > 500 || $.path = /y* }", document, false},
		{"{ ($.status < 400 || $.ok IS FALSE) && $.none IS NULL }", document, true},
		{"{ $.ok IS TRUE }", document, false},
		{"{ $.missing NOT EXISTS }", document, true},
		{"{ $.none NOT EXISTS }", document, false},
		{"{ $.status EXISTS }", document, true},
		{"{ $.missing != 1 }", document, false},
		{"{ $.path != 1 }", document, true},
		{"{ $.tags[1] = b }", document, true},
		{"{ $.tags[2] = b }", document, false},
		{"{ $.at[*].n = 7 }", document, true},
		{"{ $.at[*].n = 8 }", document, false},
		{"{ $.['a.b'] = dot }", document, true},
		{"{ $['a.b'] = \"d*\" }", document, true},
		{"{ $.path = %/x/[0-9]% }", document, true},
		{"{ $.text = 500 }", document, true},
		{"{ $.status = 500 }", "no document", false},
		{"{ $.status = 500 }", `{"status": 500} and more`, false},
		{"{ $[0] = 1 }", "[1]", true},
	} {
		p, err := ParsePattern(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		if _, got := p.Match(c.line); got != c.want {
			t.Errorf("%s of %s: %v, want %v", c.pattern, c.line, got, c.want)
		}
	}
}

func TestPatternMistakes(t *testing.T) {
	for pattern, want := range map[string]string{
		`"open`:                   "it ends where a closing \" is wanted",
		"{ $.a = 1":               "a } at its end",
		"{ a = 1 }":               `a selector such as $.status is wanted in place of "a = 1`,
		"{ $ = 1 }":               "a selector such as $.status",
		"{ $. = 1 }":              "the name of a member",
		"{ $.a }":                 "NOT EXISTS is wanted",
		"{ $.a IS OPEN }":         "NOT EXISTS is wanted",
		"{ $.a = }":               "it ends where a value is wanted",
		"{ $.a > x }":             `> compares numbers, and "x" is none`,
		"{ ($.a = 1 }":            "a ) is wanted",
		"{ $.a = 1 $.b = 1 }":     "&& or || is wanted",
		"{ $.a[x] = 1 }":          "[x] is neither a number nor *",
		"{ $.a[-1] = 1 }":         "neither a number",
		"{ $.a = %(% }":           "is no regular expression",
		"[a, b":                   "it ends where a ] is wanted",
		"[a] b":                   `the end is wanted in place of " b"`,
		"[a, ..., b, ...]":        "more than one",
		"[a, a]":                  "two fields a",
		"[1]":                     "the name of a field",
		"[a, ]":                   "the name of a field",
		strings.Repeat("x", 1025): "1025 characters",
		"{" + strings.Repeat("(", 100) + "$.a=1" + strings.Repeat(")", 100) + "}": "fewer parentheses",
	} {
		if _, err := ParsePattern(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", pattern, err, want)
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, seed := range []string{"ERROR -x ?y", `"a b"`, "[a, b=4*, ...]", `{ ($.a[*].b = "x*" && $.c NOT EXISTS) || $['d'] >= 1 }`, "{$.a=%x%}", "[..., a=1||a=2]"} {
		f.Add(seed, `{"a": [{"b": "x"}], "c": 1}`)
	}
	f.Fuzz(func(t *testing.T, pattern, line string) {
		p, err := ParsePattern(pattern)
		if err == nil {
			p.Match(line)
		} else if err.Error() == "" {
			t.Error("a mistake without words")
		}
	})
}

func TestFilter(t *testing.T) {
	filter := func(pattern string, more map[string]any) map[string]any {
		m := map[string]any{"MetricName": "n", "MetricNamespace": "s", "MetricValue": "1"}
		for k, v := range more {
			m[k] = v
		}
		return map[string]any{"LogGroupName": "g", "FilterPattern": pattern, "MetricTransformations": []any{m}}
	}
	by := func(key, value string) map[string]any {
		return map[string]any{"MetricValue": "$.ms", "Dimensions": []any{map[string]any{"Key": key, "Value": value}}}
	}
	for _, c := range []struct {
		properties map[string]any
		line       string
		want       []Sample
	}{
		{filter("x", nil), "x", []Sample{{SeriesOf("s", "n"), 1}}},
		{filter("x", nil), "y", nil},
		{filter("x", map[string]any{"DefaultValue": 0}), "y", []Sample{{SeriesOf("s", "n"), 0}}},
		{filter("x", map[string]any{"MetricValue": 2.5}), "x", []Sample{{SeriesOf("s", "n"), 2.5}}},
		{filter("[a, size]", map[string]any{"MetricValue": "$size"}), "x 12", []Sample{{SeriesOf("s", "n"), 12}}},
		{filter("[a, size]", map[string]any{"MetricValue": "$size", "DefaultValue": "7"}), "x y", nil},
		{filter("{$.ms > 0}", by("Code", "$.code")), `{"ms": 1.5, "code": 500}`, []Sample{{SeriesOf("s", "n", "Code=500"), 1.5}}},
		{filter("{$.ms > 0}", by("Code", "$.code")), `{"ms": 1.5}`, nil},
	} {
		f, err := ReadFilter(c.properties)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := f.Read(c.line); len(got) != len(c.want) || len(got) > 0 && got[0] != c.want[0] {
			t.Errorf("%v of %s: %v, want %v", c.properties, c.line, got, c.want)
		}
	}
	both := by("Code", "$.code")
	both["DefaultValue"] = 0
	for want, properties := range map[string]map[string]any{
		"FilterPattern is not a text":          {"MetricTransformations": []any{map[string]any{}}},
		"MetricTransformations has 0 items":    {"FilterPattern": ""},
		"MetricName is required":               filter("x", map[string]any{"MetricName": ""}),
		`MetricValue is "many"`:                filter("x", map[string]any{"MetricValue": "many"}),
		`MetricValue is "$.a", which`:          filter("x", map[string]any{"MetricValue": "$.a"}),
		`MetricValue is "$b", which`:           filter("[a]", map[string]any{"MetricValue": "$b"}),
		`"Code" has the value "500"`:           filter("{$.ms > 0}", by("Code", "500")),
		"cannot be given together":             filter("{$.ms > 0}", both),
		"DefaultValue is none, which is no":    filter("x", map[string]any{"DefaultValue": "none"}),
		"it ends where a closing \" is wanted": filter(`"`, nil),
	} {
		if _, err := ReadFilter(properties); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v; want %q", properties, err, want)
		}
	}
}
