package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

const tagged = `
Resources:
  Bucket: {Type: "AWS::S3::Bucket", Properties: {BucketName: q, Tags: [{Key: team, Value: own}]}}
  Plain: {Type: "Test::Thing"}
`

func withTags(template string, tags ...string) changeset.Change {
	c := changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(template), Tags: map[string]string{}}
	for i := 0; i < len(tags); i += 2 {
		c.Tags[tags[i]] = tags[i+1]
	}
	return c
}

// tagsOf gives the tags that a resource has been given, without the service's.
func (b *bench) tagsOf(id string) string {
	tags := map[string]string{}
	for _, t := range b.platform.Things() {
		for key, value := range t.Tags {
			if t.LogicalID == id && !strings.HasPrefix(key, "aws:") {
				tags[key] = value
			}
		}
	}
	return fmt.Sprint(tags)
}

// TestTags gives the stack's tags to the resources that take them, shows a
// change of them, and takes it back.
func TestTags(t *testing.T) {
	b := newBench(t)
	if err := b.applyChange(withTags(tagged, "team", "stack", "cost", "1")); err != nil {
		t.Fatal(err)
	}
	if got := b.tagsOf("Bucket"); got != "map[cost:1]" { // its own team counts
		t.Errorf("the bucket has %s", got)
	}
	if got := b.tagsOf("Plain"); got != "map[]" {
		t.Errorf("what takes no tags has %s", got)
	}
	bucket := b.platform.Things()[0]
	if bucket.Tags["aws:cloudformation:stack-name"] != "app" || bucket.Tags["aws:cloudformation:logical-id"] != "Bucket" {
		t.Errorf("the service's tags are %v", bucket.Tags)
	}
	cs := b.planChange(withTags(tagged, "team", "stack", "cost", "2", "new", "x"))
	if len(cs.Changes) != 1 || fmt.Sprint(cs.Changes[0].Scope) != "[Tags]" || len(cs.Changes[0].Details) != 2 || len(cs.Other) != 0 || cs.Changes[0].Replacement != changeset.ReplaceFalse {
		t.Fatalf("the changes are %+v, also %v", cs.Changes, cs.Other)
	}
	d := cs.Changes[0].Details[0].Target
	if want := (changeset.Target{Attribute: "Tags", Name: "cost", RequiresRecreation: "Never", BeforeValue: "1", AfterValue: "2", AttributeChangeType: changeset.Modify}); d != want {
		t.Errorf("the detail is %+v, want %+v", d, want)
	}
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Fatal(err)
	}
	if got := b.tagsOf("Bucket"); got != "map[cost:2 new:x]" {
		t.Errorf("the bucket has %s", got)
	}
	if cs := b.planChange(withTags(tagged, "team", "stack", "cost", "2", "new", "x")); !cs.Empty() {
		t.Errorf("applied, it plans %v", cs.Changes)
	}

	more := tagged + "  Last: {Type: Test::Thing, DependsOn: Bucket}\n"
	b.platform.Fail("create", "Last", errors.New("broken"))
	if err := b.applyChange(withTags(more, "cost", "3")); !fault.Is(err, fault.Failed) {
		t.Errorf("answered %v", err)
	}
	if got := b.tagsOf("Bucket"); got != "map[cost:2 new:x]" {
		t.Errorf("rolled back, the queue has %s", got)
	}
	b.platform.On("update", "Bucket", func(context.Context, stack.Request) error { t.Error("the bucket was updated"); return nil })
	b.platform.On("create", "Last", nil)
	if err := b.applyChange(withTags(more, "team", "stack", "cost", "2", "new", "x")); err != nil {
		t.Error(err)
	}
}

func TestTagLimits(t *testing.T) {
	b := newBench(t)
	many := withTags(tagged)
	for i := range 51 {
		many.Tags[fmt.Sprint(i)] = ""
	}
	for want, c := range map[string]changeset.Change{
		"51 tags; allowed are 50": many,
		"aws: prefixed tag key names are not allowed for external use: found aws:x": withTags(tagged, "aws:x", "y"),
		"has 1 to 128 characters":                        withTags(tagged, strings.Repeat("k", 129), "y"),
		"the value of tag k has 257 characters; allowed": withTags(tagged, "k", strings.Repeat("v", 257)),
	} {
		if _, err := b.engine.Plan(t.Context(), c); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("answered %v, want %s", err, want)
		}
	}
}

// TestNestedTagsHideSecrets shows a change of a nested stack's tags without the
// secret that its parent puts there.
func TestNestedTagsHideSecrets(t *testing.T) {
	b := newBench(t)
	family := func(secret string) changeset.Change {
		return changeset.Change{Stack: "app", File: "app.yaml", Parameters: map[string]string{"S": secret}, Template: []byte(`
Parameters: {S: {Type: String, NoEcho: true}}
Resources: {Inner: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: inner.yaml, Tags: [{Key: k, Value: !Ref S}]}}}
`), Files: map[string][]byte{"inner.yaml": []byte(`Resources: {Files: {Type: AWS::S3::Bucket}}`)}}
	}
	if err := b.applyChange(family("secret-one")); err != nil {
		t.Fatal(err)
	}
	public, err := json.Marshal(b.planChange(family("secret-two")).Public())
	if err != nil || strings.Contains(string(public), "secret-two") || !strings.Contains(string(public), `"Tags"`) {
		t.Errorf("shown is %s (%v)", public, err)
	}
}
