package project

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
)

// ReferenceKind is the first word of a reference: what it asks.
type ReferenceKind string

const (
	StackOutput      ReferenceKind = "stacks"      // an output of a stack in the run's environment
	ArtifactValue    ReferenceKind = "artifacts"   // the digest of what the run has built
	EnvironmentValue ReferenceKind = "environment" // name, region or account of the run's environment
	RunValue         ReferenceKind = "run"         // commit of the run
)

// Reference is a ${…} in a text.
type Reference struct {
	Kind      ReferenceKind
	Name      string // of the stack or the artifact, "" for other kinds
	Attribute string // the output's key, or the word after the kind
	Offset    int    // of the $ in the text, in bytes
}

// String gives the reference as it is written.
func (r Reference) String() string {
	switch r.Kind {
	case StackOutput:
		return "${stacks." + r.Name + ".outputs." + r.Attribute + "}"
	case ArtifactValue:
		return "${artifacts." + r.Name + "." + r.Attribute + "}"
	}
	return "${" + string(r.Kind) + "." + r.Attribute + "}"
}

// References gives the references in s, in their order. "$${" stands for a
// plain "${".
func References(s string) ([]Reference, error) {
	var found []Reference
	_, err := Expand(s, func(r Reference) (string, error) {
		found = append(found, r)
		return "", nil
	})
	return found, err
}

// Expand gives s with each reference replaced by what lookup says, and "$${"
// by "${". A reference of an unknown form is fault.Invalid; lookup's error is
// given back with the reference's text before it.
func Expand(s string, lookup func(Reference) (string, error)) (string, error) {
	var b strings.Builder
	err := eachReference(s, func(plain string) { b.WriteString(plain) }, func(r Reference, bad *badReference) error {
		if bad != nil {
			return fault.New(fault.Invalid, "%s", bad.summary).WithHint("%s", bad.next())
		}
		value, err := lookup(r)
		if err != nil {
			return fmt.Errorf("look up %s: %w", r, err)
		}
		b.WriteString(value)
		return nil
	})
	if err != nil {
		return "", err
	}
	return b.String(), nil
}

// eachReference goes through s: plain gets the text between, each the
// references, well-formed or bad. The first error of each ends it.
func eachReference(s string, plain func(string), each func(Reference, *badReference) error) error {
	done := 0
	for {
		i := strings.Index(s[done:], "${")
		if i < 0 {
			plain(s[done:])
			return nil
		}
		start := done + i
		if start > done && s[start-1] == '$' {
			plain(s[done:start-1] + "${")
			done = start + 2
			continue
		}
		plain(s[done:start])
		end := strings.IndexByte(s[start:], '}')
		text := s[start:]
		if end >= 0 {
			text = s[start : start+end+1]
		}
		r, bad := parseReference(text)
		r.Offset = start
		if err := each(r, bad); err != nil {
			return err
		}
		done = start + len(text)
	}
}

// badReference says what is wrong with a ${…}.
type badReference struct{ summary, allowed, hint string }

func (b badReference) next() string {
	if b.hint != "" {
		return b.hint
	}
	return "allowed: " + b.allowed
}

const (
	outputForm  = "${stacks.NAME.outputs.KEY}"
	digestForm  = "${artifacts.NAME.digest}"
	allForms    = outputForm + ", " + digestForm + ", ${environment.name}, ${environment.region}, ${environment.account} or ${run.commit}"
	escapedForm = "; $${ for a plain ${"
)

var outputKey = regexp.MustCompile(`^[A-Za-z0-9]+$`)

// parseReference reads one reference, from its ${ to its }.
func parseReference(text string) (Reference, *badReference) {
	inner, closed := strings.CutSuffix(text[2:], "}")
	if !closed {
		return Reference{}, &badReference{fmt.Sprintf("found %q without its closing brace", text), allForms + escapedForm, "close it with }"}
	}
	bad := &badReference{fmt.Sprintf("found the unknown reference %q", text), allForms + escapedForm, ""}
	words := strings.Split(inner, ".")
	attributes := map[ReferenceKind][]string{
		EnvironmentValue: {"name", "region", "account"},
		RunValue:         {"commit"},
	}
	kind := ReferenceKind(words[0])
	switch {
	case kind == StackOutput && len(words) == 4 && words[2] == "outputs" && outputKey.MatchString(words[3]) && words[1] != "":
		return Reference{Kind: kind, Name: words[1], Attribute: words[3]}, nil
	case kind == ArtifactValue && len(words) == 3 && words[2] == "digest" && words[1] != "":
		return Reference{Kind: kind, Name: words[1], Attribute: words[2]}, nil
	case len(words) == 2 && slices.Contains(attributes[kind], words[1]):
		return Reference{Kind: kind, Attribute: words[1]}, nil
	}
	bad.hint = nearestReference(words, attributes)
	return Reference{}, bad
}

// nearestReference proposes what words were meant to say.
func nearestReference(words []string, attributes map[ReferenceKind][]string) string {
	kind := ReferenceKind(diag.Nearest(words[0], []string{string(StackOutput), string(ArtifactValue), string(EnvironmentValue), string(RunValue)}))
	switch {
	case kind == StackOutput && len(words) >= 3 && outputKey.MatchString(words[len(words)-1]):
		return fmt.Sprintf("did you mean %q?", Reference{Kind: kind, Name: words[1], Attribute: words[len(words)-1]})
	case kind == StackOutput:
		return "write it as " + outputForm
	case kind == ArtifactValue && len(words) > 1 && words[1] != "":
		return fmt.Sprintf("did you mean %q?", Reference{Kind: kind, Name: words[1], Attribute: "digest"})
	case kind == ArtifactValue:
		return "write it as " + digestForm
	case kind != "" && len(words) == 2:
		if near := diag.Nearest(words[1], attributes[kind]); near != "" {
			return fmt.Sprintf("did you mean %q?", Reference{Kind: kind, Attribute: near})
		}
	}
	return ""
}
