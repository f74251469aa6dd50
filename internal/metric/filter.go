package metric

import (
	"strconv"
	"strings"

	"makeitso/internal/fault"
)

// Filter is an AWS::Logs::MetricFilter.
type Filter struct {
	// Group is the log group whose lines are read.
	Group   string
	pattern Pattern
	counts  []transformation
}

// transformation is what a filter makes of a line.
type transformation struct {
	namespace, name string
	value           string // a number, or what of the line is one
	fallback        float64
	hasFallback     bool        // counts where the pattern does not match
	dimensions      [][2]string // name, and what of the line is its value
}

// Sample is one value that a line adds to a series.
type Sample struct {
	Series Series
	Value  float64
}

// ReadFilter reads the properties of a metric filter.
func ReadFilter(properties map[string]any) (Filter, error) {
	var f Filter
	f.Group, _ = properties["LogGroupName"].(string)
	text, isText := properties["FilterPattern"].(string)
	if !isText {
		return f, fault.New(fault.Invalid, "FilterPattern is not a text")
	}
	var err error
	if f.pattern, err = ParsePattern(text); err != nil {
		return f, err
	}
	list, _ := properties["MetricTransformations"].([]any)
	if len(list) != 1 {
		return f, fault.New(fault.Invalid, "MetricTransformations has %d items; allowed is one", len(list))
	}
	for _, item := range list {
		m, _ := item.(map[string]any)
		t, err := f.transformation(m)
		if err != nil {
			return f, err
		}
		f.counts = append(f.counts, t)
	}
	return f, nil
}

func (f Filter) transformation(m map[string]any) (transformation, error) {
	var t transformation
	for name, into := range map[string]*string{"MetricName": &t.name, "MetricNamespace": &t.namespace, "MetricValue": &t.value} {
		if *into, _ = m[name].(string); *into == "" {
			if n, isNumber := numberOf(m[name]); isNumber && name == "MetricValue" {
				*into = strconv.FormatFloat(n, 'g', -1, 64)
				continue
			}
			return t, fault.New(fault.Invalid, "MetricTransformations: %s is required and missing", name)
		}
	}
	if err := f.refers("MetricValue", t.value); err != nil {
		return t, err
	}
	t.dimensions = dimensionsOf(m["Dimensions"], "Key")
	for _, d := range t.dimensions {
		if !strings.HasPrefix(d[1], "$") || f.pattern.form == byTerms {
			return t, fault.New(fault.Invalid, "MetricTransformations: Dimensions: %q has the value %q; allowed are $.field of a JSON pattern and $name of a field of the pattern", d[0], d[1])
		}
		if err := f.refers("Dimensions", d[1]); err != nil {
			return t, err
		}
	}
	if v, given := m["DefaultValue"]; given {
		if t.fallback, t.hasFallback = numberOf(v); !t.hasFallback {
			return t, fault.New(fault.Invalid, "MetricTransformations: DefaultValue is %v, which is no number", v)
		}
		if len(t.dimensions) > 0 {
			return t, fault.New(fault.Invalid, "MetricTransformations: DefaultValue cannot be given together with Dimensions")
		}
	}
	return t, nil
}

// refers judges a value that may be a number or refer to a part of a line.
func (f Filter) refers(property, value string) error {
	if !strings.HasPrefix(value, "$") {
		if _, isNumber := numberOf(value); !isNumber {
			return fault.New(fault.Invalid, "MetricTransformations: %s is %q; allowed are a number, $.field of a JSON pattern and $name of a field of the pattern", property, value)
		}
		return nil
	}
	to, err := parseSelector(value)
	known := err == nil && f.pattern.form == byJSON && to.name == ""
	for _, field := range f.pattern.fields {
		known = known || err == nil && to.name != "" && field.name == to.name
	}
	if !known {
		return fault.New(fault.Invalid, "MetricTransformations: %s is %q, which FilterPattern does not have", property, value)
	}
	return nil
}

// Read gives what one line counts.
func (f Filter) Read(line string) []Sample {
	fields, matches := f.pattern.Match(line)
	var all []Sample
	for _, t := range f.counts {
		s, counts := t.sample(fields)
		if !matches || !counts {
			s, counts = Sample{SeriesOf(t.namespace, t.name), t.fallback}, t.hasFallback && !matches
		}
		if counts {
			all = append(all, s)
		}
	}
	return all
}

// sample gives what a line that matches counts: nothing, if the value is no
// number or a dimension is not there.
func (t transformation) sample(of Fields) (Sample, bool) {
	text, found := t.value, true
	if strings.HasPrefix(text, "$") {
		text, found = of.Text(text)
	}
	value, isNumber := numberOf(text)
	if !found || !isNumber {
		return Sample{}, false
	}
	var dimensions []string
	for _, d := range t.dimensions {
		text, found := of.Text(d[1])
		if !found {
			return Sample{}, false
		}
		dimensions = append(dimensions, d[0]+"="+text)
	}
	return Sample{SeriesOf(t.namespace, t.name, dimensions...), value}, true
}
