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

// TestOwnTags changes tags of the stack that resources set themselves, in the
// properties that their types have for it: nobody is called for that.
func TestOwnTags(t *testing.T) {
	b := newBench(t)
	owners := `
Resources:
  Bucket: {Type: "AWS::S3::Bucket", Properties: {BucketName: q, Tags: [{Key: team, Value: own}]}}
  Name: {Type: "AWS::SSM::Parameter", Properties: {Type: String, Value: x, Tags: {team: own}}}
  Zone: {Type: "AWS::Route53::HostedZone", Properties: {Name: example.com, HostedZoneTags: [{Key: team, Value: own}]}}
`
	if err := b.applyChange(withTags(owners, "team", "one")); err != nil {
		t.Fatal(err)
	}
	calls := len(b.platform.Calls())
	cs := b.planChange(withTags(owners, "team", "two"))
	if len(cs.Changes) != 0 || fmt.Sprint(cs.Other) != "[Tags]" {
		t.Errorf("the changes are %+v, also %v", cs.Changes, cs.Other)
	}
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Fatal(err)
	}
	if got := b.platform.Calls(); len(got) != calls {
		t.Errorf("it called %v", got[calls:])
	}
	for _, id := range []string{"Bucket", "Name", "Zone"} {
		if got := b.tagsOf(id); got != "map[]" {
			t.Errorf("%s was given %s", id, got)
		}
	}

	// What a resource sets itself no longer, the stack gives it, and the other way round.
	left := withTags(strings.Replace(owners, "q, Tags: [{Key: team, Value: own}]", "q", 1), "team", "two")
	cs = b.planChange(left)
	if len(cs.Changes) != 1 || fmt.Sprint(cs.Changes[0].Scope) != "[Properties Tags]" {
		t.Fatalf("the changes are %+v", cs.Changes)
	}
	want := changeset.Target{Attribute: "Tags", Name: "team", RequiresRecreation: "Never", AfterValue: "two", AttributeChangeType: changeset.Add}
	if got := cs.Changes[0].Details[1].Target; got != want {
		t.Errorf("the detail is %+v, want %+v", got, want)
	}
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil || b.tagsOf("Bucket") != "map[team:two]" {
		t.Errorf("the bucket has %s (%v)", b.tagsOf("Bucket"), err)
	}
	cs = b.planChange(withTags(owners, "team", "three"))
	if len(cs.Changes) != 1 || fmt.Sprint(cs.Changes[0].Scope) != "[Properties]" {
		t.Fatalf("the changes are %+v", cs.Changes)
	}
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil || b.tagsOf("Bucket") != "map[]" {
		t.Errorf("the bucket has %s (%v)", b.tagsOf("Bucket"), err)
	}
}

// TestOwnTagsTouchNoAttributes changes tags in a property of another name: what
// is asked of the resource besides stays known.
func TestOwnTagsTouchNoAttributes(t *testing.T) {
	b := newBench(t)
	template := `
Resources:
  Files: {Type: "AWS::EFS::FileSystem", Properties: {FileSystemTags: [{Key: team, Value: one}]}}
  User: {Type: "Test::Thing", Properties: {Arn: !GetAtt Files.Arn}}
`
	b.mustApply("app", template)
	if cs := b.plan("app", strings.Replace(template, "one", "two", 1), nil); len(cs.Changes) != 1 {
		t.Errorf("the changes are %+v", cs.Changes)
	}
}

// TestTagNamedLikeAProperty tells a tag from the property of the same name.
func TestTagNamedLikeAProperty(t *testing.T) {
	b := newBench(t)
	template := `
Resources:
  A: {Type: "AWS::SNS::Topic", Properties: {TopicName: a}}
  B: {Type: "AWS::SNS::Topic", Properties: {TopicName: b, DisplayName: !GetAtt A.TopicName}}
`
	if err := b.applyChange(withTags(template, "DisplayName", "1", "TopicName", "1")); err != nil {
		t.Fatal(err)
	}
	cs := b.planChange(withTags(strings.Replace(template, "TopicName: a", "TopicName: a, DisplayName: x", 1), "DisplayName", "2", "TopicName", "2"))
	var text strings.Builder
	if err := cs.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	want := `stack app in local: 2 to change
  ~   A  AWS::SNS::Topic
        DisplayName: (none) → x
        tag DisplayName: 1 → 2
        tag TopicName: 1 → 2
  ~   B  AWS::SNS::Topic
        tag DisplayName: 1 → 2
        tag TopicName: 1 → 2
`
	if text.String() != want {
		t.Errorf("the change set is\n%swant\n%s", &text, want)
	}
	if len(cs.Likely) != 1 || cs.Likely[0].Details[0].Target.Name != "DisplayName" {
		t.Errorf("listed besides is %+v", cs.Likely)
	}
}

func TestTagLimits(t *testing.T) {
	b := newBench(t)
	many := withTags(tagged)
	for i := range 51 {
		many.Tags[fmt.Sprint(i)] = ""
	}
	long, longer := strings.Repeat("k", 129), strings.Repeat("ü", 257)
	for want, c := range map[string]changeset.Change{
		"found 51 tags": many,
		"aws: prefixed tag key names are not allowed for external use: found AWS:x": withTags(tagged, "AWS:x", "y"),
		`found a key of 129 characters: "` + long + `"`:                             withTags(tagged, long, "y"),
		"found a value of 257 characters for the key k":                             withTags(tagged, "k", longer),
		`found a key of 0 characters: ""; ` +
			"aws: prefixed tag key names are not allowed for external use: found aws:x; " +
			"aws: prefixed tag key names are not allowed for external use: found aws:z; found a value of 257 characters for the key b": withTags(tagged, "", "y", "aws:x", "y", "aws:z", "y", "b", longer),
	} {
		_, err := b.engine.Plan(t.Context(), c)
		if !fault.Is(err, fault.Invalid) || err.Error() != "the tags of stack app are wrong: "+want {
			t.Errorf("answered %v, want %s", err, want)
		}
		if hint := fault.HintOf(err); hint != "allowed are 50 tags, keys of 1 to 128 characters that do not begin with aws:, and values of up to 256; change them, then: makeitso plan app" {
			t.Errorf("the next step is %s", hint)
		}
	}
	edge := withTags(tagged, long[1:], longer[2:], "unknown", longer+changeset.KnownAfterApply)
	if _, err := b.engine.Plan(t.Context(), edge); err != nil {
		t.Errorf("what is allowed answered %v", err)
	}
}

// TestTagsKnownAfterApply plans tags that another stack of the plan will give,
// also for what is nested: with the values, it has the digest that was approved.
func TestTagsKnownAfterApply(t *testing.T) {
	b := newBench(t)
	tagged := func(value string) changeset.Change {
		c := withTags(`
Resources:
  Bucket: {Type: "AWS::S3::Bucket"}
  Inner: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: inner.yaml}}
`, "of", value)
		c.Files = map[string][]byte{"inner.yaml": []byte(`Resources: {Topic: {Type: AWS::SNS::Topic}}`)}
		return c
	}
	if err := b.applyChange(tagged("one")); err != nil {
		t.Fatal(err)
	}
	sets, err := b.planAll(tagged("the " + changeset.KnownAfterApply))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := sets[0].WriteText(&text); err != nil || strings.Count(text.String(), "tag of: one → (known after apply)\n") != 3 {
		t.Errorf("the plan is\n%s(%v)", &text, err)
	}
	known := tagged("the two")
	known.Joint = sets[0].Change.Joint
	cs := b.planChange(known)
	if fmt.Sprint(known.Joint.Tags) != "[of]" || cs.Digest != sets[0].Digest {
		t.Fatalf("%v are unknown; with the value, the digest is another", known.Joint.Tags)
	}
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil || b.tagsOf("Bucket") != "map[of:the two]" || b.tagsOf("Topic") != "map[of:the two]" {
		t.Errorf("given are %s and %s (%v)", b.tagsOf("Bucket"), b.tagsOf("Topic"), err)
	}
	if cs := b.planChange(tagged("the two")); !cs.Empty() {
		t.Errorf("applied, it plans %s", cs.Summary())
	}

	// Nothing that can be tagged, and a value that turns out to be the same.
	plain := func(value string) changeset.Change {
		c := withTags(`Resources: {A: {Type: "Test::Thing"}}`, "of", value)
		c.Stack = "plain"
		return c
	}
	if err := b.applyChange(plain("one")); err != nil {
		t.Fatal(err)
	}
	if sets, err = b.planAll(plain(changeset.KnownAfterApply)); err != nil || fmt.Sprint(sets[0].Other) != "[Tags]" {
		t.Fatalf("planned %+v (%v)", sets, err)
	}
	same := plain("one")
	same.Joint = sets[0].Change.Joint
	if cs := b.planChange(same); cs.Digest != sets[0].Digest {
		t.Error("with the same value, the digest is another")
	}

	known.Tags["of"] = strings.Repeat("v", 257)
	if _, err := b.engine.Plan(t.Context(), known); !fault.Is(err, fault.Invalid) {
		t.Errorf("a value that is too long answered %v", err)
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
