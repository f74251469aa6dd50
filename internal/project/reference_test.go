package project

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/fault"
)

func TestReferences(t *testing.T) {
	got, err := References("a ${stacks.data.outputs.RedisAddress}:${environment.name} $${run.commit} $5 ${run.commit}")
	if err != nil {
		t.Fatal(err)
	}
	want := []Reference{
		{Kind: StackOutput, Name: "data", Attribute: "RedisAddress", Offset: 2},
		{Kind: EnvironmentValue, Attribute: "name", Offset: 38},
		{Kind: RunValue, Attribute: "commit", Offset: 76},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, text := range []string{"", "$", "{}", "$$", "plain", "$${x}", "$5 and }"} {
		if refs, err := References(text); err != nil || len(refs) != 0 {
			t.Errorf("%q: %v, %v", text, refs, err)
		}
	}
	for _, text := range []string{"${", "${}", "${ run.commit }", "${run}", "${run.commits}", "${stacks.a.outputs}", "${stacks..outputs.K}", "${stacks.a.outputs.K.L}", "${stacks.a.outputs.K-L}", "${environment}", "x ${run.commit"} {
		if refs, err := References(text); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
			t.Errorf("%q: %v, %v", text, refs, err)
		}
	}
}

func TestExpand(t *testing.T) {
	lookup := func(r Reference) (string, error) {
		if r.Attribute == "Missing" {
			return "", fault.New(fault.NotFound, "no such output")
		}
		return "<" + r.Name + ":" + r.Attribute + "${run.commit}>", nil // a value is not expanded again
	}
	for text, want := range map[string]string{
		"":                        "",
		"plain $HOME":             "plain $HOME",
		"${stacks.a.outputs.K}":   "<a:K${run.commit}>",
		"x${run.commit}y$${z}":    "x<:commit${run.commit}>y${z}",
		"$${run.commit}":          "${run.commit}",
		"$$${run.commit}":         "$${run.commit}",
		"${environment.region}$$": "<:region${run.commit}>$$",
	} {
		if got, err := Expand(text, lookup); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
	_, err := Expand("a ${stacks.x.outputs.Missing}", lookup)
	if !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "${stacks.x.outputs.Missing}") {
		t.Errorf("a failed lookup: %v", err)
	}
	var f *fault.Error
	if _, err := Expand("${nothing}", lookup); !errors.As(err, &f) || f.Code != fault.Invalid {
		t.Errorf("an unknown form: %v", err)
	}
}
