package changeset

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"makeitso/internal/registry"
	"makeitso/internal/template"
)

// shortestSecret is how long a secret must be for Scrub to look for it; shorter
// ones would hide half of every text.
const shortestSecret = 4

// mask gives parameters with those of NoEcho masked; a list keeps its length,
// so that what a template makes of it can be made.
func mask(t *template.Template, parameters map[string]any) map[string]any {
	masked := maps.Clone(parameters)
	for name, p := range t.Parameters {
		if p.NoEcho {
			masked[name] = maskAll(masked[name])
		}
	}
	return masked
}

// maskAll masks all of a value that is known.
func maskAll(v any) any {
	return template.Rewrite(v, func(leaf any) any {
		if _, unknown := leaf.(template.Unknown); unknown {
			return leaf
		}
		return Masked
	})
}

// maskedAttributes gives the attributes of a world with those masked that are
// secrets, as far as the world knows that.
func maskedAttributes(w World) func(id, attribute string) (any, error) {
	return func(id, attribute string) (any, error) {
		value, err := w.GetAtt(id, attribute)
		if of, knows := w.(interface{ hides(id string) bool }); knows && of.hides(id) {
			value = maskAll(value)
		}
		return value, err
	}
}

// Secrets gives the true values of the NoEcho parameters, and each item of a
// list.
func (p *Program) Secrets() []string {
	if p == nil {
		return nil
	}
	return p.Template.Secrets(p.parameters)
}

// Scrub masks secrets in a value that is shown. Masked parameters keep most of
// them out; this finds those that came through a resource's attribute.
func Scrub(v any, secrets []string) any {
	longestFirst := withParts(secrets) // one may be a part of another
	slices.SortFunc(longestFirst, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	var forms []string
	for _, secret := range longestFirst {
		if len(secret) >= shortestSecret {
			forms = append(forms, quoted(secret)...)
		}
	}
	return template.Rewrite(v, func(leaf any) any {
		text, ok := leaf.(string)
		if !ok {
			return leaf
		}
		for _, form := range forms {
			text = strings.ReplaceAll(text, form, Masked)
		}
		return text
	})
}

// withParts gives secrets, and the texts in those that are JSON.
func withParts(secrets []string) []string {
	all := slices.Clone(secrets)
	for _, secret := range secrets {
		var value any
		if json.Unmarshal([]byte(secret), &value) != nil {
			continue // it is no JSON
		}
		template.Rewrite(value, func(leaf any) any {
			if text, ok := leaf.(string); ok {
				all = append(all, text)
			}
			return leaf
		})
	}
	return all
}

// quoted gives a secret as it is, in Base64, and as it stands in a text that
// quotes it.
func quoted(secret string) []string {
	forms := append([]string{secret, unquoted(strconv.Quote(secret))}, inBase64(secret)...)
	for _, html := range []bool{true, false} {
		var b strings.Builder
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(html)
		if encoder.Encode(secret) == nil { // a text is always written
			forms = append(forms, unquoted(strings.TrimSpace(b.String())))
		}
	}
	return slices.Compact(forms)
}

// inBase64 gives what Base64 makes of a secret that begins anywhere in a longer
// text: three bytes become four letters, of which those are left out that the
// text around it has a part in.
func inBase64(secret string) []string {
	var forms []string
	for before := range 3 {
		raw := append(make([]byte, before), secret...)
		for _, coding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			forms = append(forms, coding.EncodeToString(raw)[(before*8+5)/6:len(raw)*8/6])
		}
	}
	return slices.Compact(forms)
}

// ScrubText is Scrub of a text.
func ScrubText(text string, secrets []string) string { return Scrub(text, secrets).(string) }

// Shown gives the properties that a resource was made with, secrets masked.
func (p *Planner) Shown(id string) map[string]any {
	physical, was := p.Exists[id], p.beforeID(id)
	if p.Before != nil {
		if _, active := p.Before.Graph[was]; active {
			shown, diags := p.Before.Properties(was, p.standing(), false)
			if len(diags) == 0 {
				p.showAdopted(shown, was, physical)
				return Scrub(marked(shown), p.Secrets).(map[string]any)
			}
		}
	}
	// What cannot be derived again is not shown, since it may hold a secret.
	hidden := map[string]any{}
	for name := range physical.Properties {
		hidden[name] = Masked
	}
	return hidden
}

// showAdopted puts in what a resource was found to have. Where the template
// said a secret, what was found is one too.
func (p *Planner) showAdopted(shown map[string]any, was string, physical Physical) {
	if len(physical.Adopted) == 0 {
		return
	}
	said, _ := p.Before.Properties(was, p.standing(), true) // masked, it had no mistakes
	for _, name := range physical.Adopted {
		value, is := physical.Properties[name]
		switch {
		case !is:
			delete(shown, name)
		case jsonEqual(said[name], shown[name]):
			shown[name] = value
		default:
			shown[name] = Masked
		}
	}
}

// Conceal gives the differences between a resource as it was made and as it is
// in the form in which they may be shown: what stands in the place of a secret
// is one, whatever it is by now.
func (p *Planner) Conceal(id string, found []registry.Difference) []registry.Difference {
	if len(found) == 0 {
		return nil
	}
	shown, concealed := p.Shown(id), slices.Clone(found)
	for i, d := range concealed {
		masked := d.In(shown)
		if jsonEqual(d.In(p.Exists[id].Properties), masked) {
			concealed[i].Expected, concealed[i].Actual = Scrub(d.Expected, p.Secrets), Scrub(d.Actual, p.Secrets)
			continue
		}
		if d.Expected != nil && masked != nil {
			concealed[i].Expected = masked
		} else if d.Expected != nil {
			concealed[i].Expected = Masked
		}
		if d.Actual != nil {
			concealed[i].Actual = Masked
		}
	}
	return concealed
}

// unquoted gives a quoted text without the quotes around it.
func unquoted(text string) string { return text[1 : len(text)-1] }
