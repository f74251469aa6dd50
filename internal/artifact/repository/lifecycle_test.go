package repository

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/statefile"
)

// rules writes a policy of rules, each "PRIORITY SELECTION".
func rules(all ...string) string {
	var written []string
	for _, r := range all {
		priority, selection, _ := strings.Cut(r, " ")
		written = append(written, fmt.Sprintf(`{"rulePriority": %s, "description": "d", "selection": {%s}, "action": {"type": "expire"}}`, priority, selection))
	}
	return `{"rules": [` + strings.Join(written, ",\n") + `]}`
}

const (
	keepOne     = `"countType": "imageCountMoreThan", "countNumber": 1`
	keepADay    = `"countType": "sinceImagePushed", "countUnit": "days", "countNumber": 1`
	ofUntagged  = `"tagStatus": "untagged", `
	ofAny       = `"tagStatus": "any", `
	ofProd      = `"tagStatus": "tagged", "tagPrefixList": ["prod"], `
	ofBeta      = `"tagStatus": "tagged", "tagPrefixList": ["beta"], `
	ofBoth      = `"tagStatus": "tagged", "tagPrefixList": ["prod", "beta"], `
	ofNumbers   = `"tagStatus": "tagged", "tagPatternList": ["*-1", "p*d-*"], `
	wrongNumber = `"countType": "imageCountMoreThan", "countNumber": 0`
)

func TestPolicyExpires(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 20, 0, 0, 0, 0, time.UTC)
	ago := func(digest string, hours int, tags ...string) aged {
		return aged{digest, now.Add(-time.Duration(hours) * time.Hour), tags}
	}
	images := []aged{
		ago("a", 100, "beta-1", "prod-1"), ago("b", 90, "beta-2", "prod-2"), ago("c", 20, "beta-3"), ago("d", 50), ago("e", 24), ago("f", 1),
	}
	for _, c := range []struct{ policy, want string }{
		{rules("1 " + ofProd + keepOne), "a"},
		// What a rule is about, no later one expires: b stays.
		{rules("1 "+ofProd+keepOne, "2 "+ofBeta+keepOne), "a"},
		{rules("2 "+ofProd+keepOne, "1 "+ofBeta+keepOne), "a b"},
		{rules("1 " + ofBoth + keepOne), "a"},
		{rules("1 " + ofNumbers + keepADay), "a"},
		{rules("1 " + ofUntagged + keepOne), "d e"},
		{rules("1 " + ofUntagged + keepADay), "d"},
		{rules("1 " + ofAny + keepADay), "a b d"},
		{rules("1 "+ofUntagged+keepOne, "9 "+ofAny+keepADay), "a b d e"},
		{rules("9 "+ofAny+keepOne, "1 "+ofProd+keepADay), "a b c d e"},
	} {
		p, err := ParsePolicy(c.policy)
		if err != nil {
			t.Fatalf("%s: %v", c.policy, err)
		}
		got := p.expired(images, now)
		slices.Sort(got)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s lets %v expire; want %s", c.policy, got, c.want)
		}
	}
}

func TestPolicyIsChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ policy, want string }{
		{`{}`, "rules: is missing"},
		{``, "line 1, column 1: EOF"},
		{"{\n  \"rules\": [}", "line 2, column"},
		{`{"rules": [{"rulePriority": "one"}]}`, "line 1, column"},
		{`{"rules": [{"priority": 1}]}`, `unknown field "priority"`},
		{rules("1 "+ofProd+keepOne) + " {}", "more behind its end"},
		{rules("0 " + ofProd + keepOne), "rules[0].rulePriority: is 0"},
		{rules("1 "+ofProd+keepOne, "1 "+ofBeta+keepOne), "rules[1].rulePriority: is 1, which rules[0] has"},
		{rules("1 "+ofAny+keepOne, "2 "+ofBeta+keepOne), "rules[0].rulePriority: is 1; the rule with tagStatus any must have the highest"},
		{rules("1 "+ofAny+keepOne, "2 "+ofAny+keepOne), "rules[0].rulePriority: is 1; the rule with tagStatus any"},
		{rules(`1 "tagStatus": "some", ` + keepOne), `rules[0].selection.tagStatus: is "some"`},
		{rules(`1 "tagStatus": "tagged", ` + keepOne), "rules[0].selection: with tagStatus tagged needs either"},
		{rules(`1 "tagPatternList": ["a"], ` + ofProd + keepOne), "rules[0].selection: with tagStatus tagged needs either"},
		{rules(`1 "tagPrefixList": ["a"], ` + ofUntagged + keepOne), "rules[0].selection: has tags"},
		{rules(`1 "tagStatus": "tagged", "tagPatternList": ["a b"], ` + keepOne), "rules[0].selection.tagPatternList: has a pattern"},
		{rules(`1 "tagStatus": "tagged", "tagPatternList": ["*a*b*c*d*"], ` + keepOne), "rules[0].selection.tagPatternList: has a pattern"},
		{rules(`1 "tagStatus": "tagged", "tagPrefixList": [""], ` + keepOne), "rules[0].selection.tagPrefixList: has an empty"},
		{rules("1 " + ofAny + `"countType": "moon", "countNumber": 1`), `rules[0].selection.countType: is "moon"`},
		{rules("1 " + ofAny + `"countType": "sinceImagePushed", "countNumber": 1`), `rules[0].selection.countUnit: is ""; sinceImagePushed wants days`},
		{rules("1 " + ofAny + `"countUnit": "days", ` + keepOne), "rules[0].selection.countUnit: stands only beside"},
		{rules("1 " + ofAny + wrongNumber), "rules[0].selection.countNumber: is 0"},
		{strings.Replace(rules("1 "+ofAny+keepOne), "expire", "archive", 1), `rules[0].action.type: is "archive"`},
	} {
		if _, err := ParsePolicy(c.policy); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", c.policy, err, c.want)
		}
	}
}

// TestImagesExpire pushes images under a policy.
func TestImagesExpire(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	has := func() string {
		t.Helper()
		d, _, err := r.s.read("team/app")
		if err != nil {
			t.Fatal(err)
		}
		images, err := r.s.images("team/app")
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(slices.Sorted(maps.Keys(d.Tags)), " of ", len(images))
	}
	want := func(what, want string) {
		t.Helper()
		if got := has(); got != want {
			t.Errorf("%s: there is %s; want %s", what, got, want)
		}
	}
	if err := r.s.Make("team/app", Settings{Owner: "me", Lifecycle: rules("1 " + ofUntagged + keepOne)}); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		r.image("team/app", "v1", fmt.Sprint("layer ", i))
	}
	want("the tag was given anew thrice", "[v1] of 2")
	if n := r.blobs(); n != 3 { // two layers, and the configuration that both have
		t.Errorf("%d blobs are left", n)
	}

	// What a push brings without a tag stays until the push must be over, and
	// while a list has it.
	parts := manifest{SchemaVersion: 2, MediaType: index[0]}
	for i := range 3 {
		one := r.push("team/app", fmt.Sprint("part ", i))
		text := manifestOf(t, manifest{SchemaVersion: 2, MediaType: single[0], Config: ptr(describe("c", "{}")), Layers: []descriptor{{Digest: one, Size: 6}}})
		r.must(201, "PUT", "/v2/team/app/manifests/"+digestOf([]byte(text)), text, ociType)
		parts.Manifests = append(parts.Manifests, describe(single[0], text))
		if i == 0 { // a run in between
			r.image("team/app", "v1", "layer 4")
		}
	}
	want("parts came", "[v1] of 5")
	text := manifestOf(t, parts)
	r.must(201, "PUT", "/v2/team/app/manifests/all", text, "Content-Type: "+index[0])
	want("their list came", "[all v1] of 6")
	if err := r.s.Expire(time.Now().Add(underWay)); err != nil {
		t.Fatal(err)
	}
	want("an hour later", "[all v1] of 6")
	r.must(202, "DELETE", "/v2/team/app/manifests/"+digestOf([]byte(text)), "")
	if err := r.s.Expire(time.Now().Add(underWay)); err != nil {
		t.Fatal(err)
	}
	want("without the list", "[v1] of 2")

	// By age: pushing it again does not make it younger.
	if err := r.s.Make("team/app", Settings{Owner: "me", Lifecycle: rules("1 " + ofAny + keepADay)}); err != nil {
		t.Fatal(err)
	}
	digest, err := r.s.Digest("team/app", "v1")
	if err != nil {
		t.Fatal(err)
	}
	i, err := r.s.image("team/app", digest)
	if err != nil {
		t.Fatal(err)
	}
	i.Pushed = i.Pushed.Add(-25 * time.Hour)
	if err := statefile.Write(r.s.imageFile("team/app", digest), i); err != nil {
		t.Fatal(err)
	}
	r.must(201, "PUT", "/v2/team/app/manifests/v1", string(i.Manifest), "Content-Type: "+i.MediaType)
	if err := r.s.Expire(time.Now()); err != nil {
		t.Fatal(err)
	}
	want("a day later", "[] of 1")
	if _, err := r.s.Digest("team/app", "v1"); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "has no image v1") {
		t.Errorf("an expired tag: %v", err)
	}
}

func ptr[T any](v T) *T { return &v }
