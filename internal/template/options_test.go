package template_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/diag"
	"makeitso/internal/template"
)

// fragments gives what AWS::Include reads.
func fragments(location string) ([]byte, error) {
	switch location {
	case "s3://b/resources.yaml":
		return []byte("Included:\n  Type: T::I\n  Properties: {X: !Ref Own, Y: !Ref Nowhere}\n"), nil
	case "s3://b/sections.yaml":
		return []byte("Mappings: {M: {a: {b: c}}}\nResources: {FromSection: {Type: \"T::S\"}}\n"), nil
	case "s3://b/properties.json":
		return []byte(`{"A": "included", "B": {"Ref": "Own"}}`), nil
	case "s3://b/nested.yaml":
		return []byte("Fn::Transform: {Name: AWS::Include, Parameters: {Location: s3://b/nested.yaml}}\n"), nil
	case "s3://b/wrong.yaml":
		return []byte("a: [b\n"), nil
	}
	return nil, errors.New("the specified key does not exist")
}

// TestInclude puts fragments in place of AWS::Include, wherever it stands.
func TestInclude(t *testing.T) {
	src := `
Transform: [AWS::LanguageExtensions, {Name: AWS::Include, Parameters: {Location: "s3://b/sections.yaml"}}]
Parameters: {File: {Type: String, Default: properties.json}}
Mappings: {Own: {a: {b: c}}}
Resources:
  Own:
    Type: T::A
    Properties:
      Sibling: s
      Mapped: !FindInMap [M, a, b]
  Holds:
    Type: T::B
    Properties:
      Sibling: s
      Fn::Transform: {Name: AWS::Include, Parameters: {Location: !Sub "s3://b/${File}"}}
  Fn::Transform: {Name: AWS::Include, Parameters: {Location: s3://b/resources.yaml}}
`
	tmpl, diags := template.ParseWith("template.yaml", []byte(src), template.Options{Include: fragments})
	want := "s3://b/resources.yaml:3:32: error: Template format error: Unresolved resource dependencies [Nowhere] in the Resources block of the template"
	if diags.Error() != want {
		t.Errorf("got %v, want a mistake with the fragment's place, %s", diags, want)
	}
	if got := fmt.Sprint(slices.Sorted(maps.Keys(tmpl.Resources))); got != "[FromSection Holds Included Own]" {
		t.Errorf("got resources %s", got)
	}
	got := tmpl.References(tmpl.Resources["Holds"].Properties.Get("B"), nil)
	if len(got) != 1 || got[0].LogicalID != "Own" || tmpl.Resources["Holds"].Properties.Get("Sibling") == nil {
		t.Errorf("Holds has %v", got)
	}
}

func TestIncludeMistakes(t *testing.T) {
	for location, want := range map[string]string{
		"s3://b/absent":      "Transform AWS::Include failed with: the specified key does not exist",
		"s3://b/nested.yaml": "a fragment cannot hold AWS::Include",
		"s3://b/wrong.yaml":  "s3://b/wrong.yaml:2:2: error: Template format error: YAML not well-formed.",
	} {
		src := "Resources:\n  A: {Type: \"T::A\"}\n  Fn::Transform: {Name: AWS::Include, Parameters: {Location: \"" + location + "\"}}\n"
		if _, diags := template.ParseWith("template.yaml", []byte(src), template.Options{Include: fragments}); !strings.Contains(diags.Error(), want) {
			t.Errorf("%s: got %v, want %s", location, diags, want)
		}
	}
}

// TestNotReady holds that what cannot be carried out is judged without it, and
// refused when it is to be applied.
func TestNotReady(t *testing.T) {
	for _, c := range []struct{ name, src, want string }{
		{"serverless", "Transform: AWS::Serverless-2016-10-31\nResources: {A: {Type: \"T::A\"}}", "transform AWS::Serverless-2016-10-31 is not supported yet"},
		{"macro", "Resources: {A: {Type: \"T::A\", Properties: {X: {\"Fn::Transform\": {Name: Mine}}}}}", "macro Mine is not run here"},
		{"macros", "Resources: {A: {Type: \"T::A\", Properties: {X: x, \"Fn::Transform\": [{Name: Mine}, {Name: Yours}]}}}", "macro Yours is not run here"},
		{"fragment", "Resources: {A: {Type: \"T::A\"}, \"Fn::Transform\": {Name: AWS::Include, Parameters: {Location: s3://a/b}}}", "nothing to read the fragment"},
		{"tool", "Resources: {A: {Type: \"T::A\", Properties: {X: !Rain::Embed x}}}", "tag !Rain::Embed is of another tool"},
		{"empty", "Resources: {}", "At least one Resources member must be defined."},
		{"loop over what is not known", "Transform: AWS::LanguageExtensions\nResources: {\"Fn::ForEach::L\": [N, [!Ref \"AWS::Region\"], {\"A&{N}\": {Type: \"T::A\"}}]}", "goes by a value that is not known"},
		{"hooks", "Hooks: {H: {Type: x}}\nResources: {A: {Type: \"T::A\"}}", "section Hooks is not supported yet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmpl, diags := template.Parse("template.yaml", []byte(c.src))
			if diags.HasErrors() {
				t.Fatalf("judging: %v", diags)
			}
			_, diags = tmpl.Bind(nil)
			if !diags.HasErrors() || !strings.Contains(diags.Error(), c.want) {
				t.Errorf("binding: got %v, want %s", diags, c.want)
			}
		})
	}
}

// TestLoopsOverUnknown judges what loops over parameters without values make,
// and reads them once more with the values.
func TestLoopsOverUnknown(t *testing.T) {
	src := `
Transform: AWS::LanguageExtensions
Parameters: {Names: {Type: CommaDelimitedList}, Keep: {Type: String}}
Resources:
  Fn::ForEach::L: [N, !Ref Names, {"Bucket${N}": {Type: "T::A", DeletionPolicy: !Ref Keep}}]
Outputs:
  Right: {Value: !Ref Bucketone}
`
	tmpl, diags := template.Parse("template.yaml", []byte(src))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if _, diags := template.Parse("template.yaml", []byte(strings.ReplaceAll(src, "!Ref Bucketone", "!Ref Other"))); !strings.Contains(diags.Error(), "[Other]") {
		t.Errorf("a name that no loop can make is told: %v", diags)
	}
	if _, diags := tmpl.Bind(map[string]string{"Names": "two", "Keep": "Retain"}); !strings.Contains(diags.Error(), "[Bucketone] in the Outputs block") {
		t.Errorf("with other values the name is not there: %v", diags)
	}
	if _, diags := tmpl.Bind(map[string]string{"Names": "one,two", "Keep": "Retain"}); diags.HasErrors() {
		t.Fatal(diags)
	}
	if r := tmpl.Resources["Buckettwo"]; len(tmpl.Resources) != 2 || r == nil || r.DeletionPolicy != "Retain" {
		t.Errorf("got %v", tmpl.Resources)
	}
	if _, diags := tmpl.Bind(map[string]string{"Names": "one", "Keep": "Retain"}); diags.HasErrors() || len(tmpl.Resources) != 1 {
		t.Errorf("bound once more: %v %v", tmpl.Resources, diags)
	}
}

// TestSSM looks the values of parameters up.
func TestSSM(t *testing.T) {
	src := `
Parameters:
  Image: {Type: "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>", Default: /images/latest}
  List: {Type: "AWS::SSM::Parameter::Value<List<String>>"}
Resources: {A: {Type: "T::A"}}
`
	ssm := func(name string) (string, error) {
		if name == "/images/latest" {
			return "ami-1", nil
		}
		if name == "/list" {
			return "a, b", nil
		}
		return "", errors.New("no such parameter")
	}
	tmpl, diags := template.ParseWith("template.yaml", []byte(src), template.Options{SSM: ssm})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	bound, diags := tmpl.Bind(map[string]string{"List": "/list"})
	if diags.HasErrors() || fmt.Sprint(bound) != "map[Image:ami-1 List:[a b]]" {
		t.Errorf("got %v %v", bound, diags)
	}
	if _, diags := tmpl.Bind(map[string]string{"List": "/none"}); !strings.Contains(diags.Error(), "Unable to fetch parameters [/none] from parameter store for this account: no such parameter") {
		t.Errorf("got %v", diags)
	}
	tmpl, _ = template.Parse("template.yaml", []byte(src))
	if _, diags := tmpl.Bind(map[string]string{"List": "/list"}); !strings.Contains(diags.Error(), "there is no Systems Manager here") {
		t.Errorf("got %v", diags)
	}
}

// TestValueOf asks for attributes of what parameters name.
func TestValueOf(t *testing.T) {
	src := `
Parameters:
  Net: {Type: "AWS::EC2::VPC::Id", Default: vpc-1}
  Subnets: {Type: "List<AWS::EC2::Subnet::Id>", Default: "s-1,s-2"}
Rules:
  R:
    Assertions:
      - {Assert: {"Fn::EachMemberEquals": [{"Fn::ValueOf": [Subnets, VpcId]}, !Ref Net]}, AssertDescription: all in one net}
      - {Assert: {"Fn::EachMemberIn": [{"Fn::ValueOfAll": ["List<AWS::EC2::Subnet::Id>", VpcId]}, {"Fn::RefAll": "AWS::EC2::VPC::Id"}]}}
Resources: {A: {Type: "T::A"}}
`
	for net, want := range map[string]string{"vpc-1": "", "vpc-2": "rule R: all in one net"} {
		tmpl, diags := template.ParseWith("template.yaml", []byte(src), template.Options{
			ValueOf: func(typ, value, attribute string) (string, error) {
				if typ != "List<AWS::EC2::Subnet::Id>" || attribute != "VpcId" || !strings.HasPrefix(value, "s-") {
					return "", fmt.Errorf("asked for %s of %s %s", attribute, typ, value)
				}
				return net, nil
			},
		})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		if _, diags = tmpl.Bind(nil); want == "" && diags.HasErrors() || !strings.Contains(diags.Error(), want) {
			t.Errorf("%s: %v", net, diags)
		}
	}
}

// TestDynamic finds and replaces dynamic references in resolved values.
func TestDynamic(t *testing.T) {
	value := map[string]any{
		"a": "x{{resolve:ssm:/p/q:3}}y",
		"b": []any{"{{resolve:secretsmanager:db:SecretString:password}}", "{{resolve:ssm:/p/q:3}}"},
		"c": "{{resolve:secretsmanager:arn:aws:secretsmanager:eu-west-1:111111111111:secret:db-x:SecretString:user:AWSPREVIOUS}}",
		"d": template.Unknown{Because: "A"},
	}
	var got []string
	replaced, err := template.ReplaceDynamic(value, func(d template.DynamicReference) (string, error) {
		got = append(got, strings.Join([]string{d.Service, d.Name, d.Version, d.Key, d.Stage, d.VersionID}, "|"))
		return "<" + d.Key + ">", nil
	})
	want := []string{"ssm|/p/q|3|||", "secretsmanager|db||password||", "ssm|/p/q|3|||", "secretsmanager|arn:aws:secretsmanager:eu-west-1:111111111111:secret:db-x||user|AWSPREVIOUS|"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if m, _ := replaced.(map[string]any); err != nil || m["a"] != "x<>y" || fmt.Sprint(m["b"]) != "[<password> <>]" {
		t.Errorf("got %v %v", replaced, err)
	}
	absent := errors.New("no such secret")
	if _, err := template.ReplaceDynamic(value, func(template.DynamicReference) (string, error) { return "", absent }); !errors.Is(err, absent) {
		t.Errorf("got %v", err)
	}
}

// TestLimits holds CloudFormation's limits.
func TestLimits(t *testing.T) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Description: %s\nParameters:\n", strings.Repeat("d", 1025))
	for i := range 201 {
		fmt.Fprintf(&b, "  P%d: {Type: String, Default: a}\n", i)
	}
	fmt.Fprintf(&b, "Resources:\n  %s: {Type: \"T::A\"}\n", strings.Repeat("R", 256))
	for i := range 3 {
		fmt.Fprintf(&b, "  A%d: {Type: \"T::A\"}\n", i)
	}
	_, diags := template.ParseWith("template.yaml", b.Bytes(), template.Options{MaxResources: 3})
	for _, want := range []string{
		"Description is 1025 bytes long", "Number of parameters, 201, is greater than maximum allowed, 200",
		"Number of resources, 4, is greater than maximum allowed, 3", "256 characters long",
	} {
		if !slices.ContainsFunc(diags, func(d diag.Diagnostic) bool { return strings.Contains(d.Summary, want) }) {
			t.Errorf("%q is not among %v", want, diags)
		}
	}
	tmpl, _ := template.Parse("template.yaml", []byte("Parameters: {P: {Type: String}}\nResources: {A: {Type: \"T::A\"}}\n"))
	if _, diags := tmpl.Bind(map[string]string{"P": strings.Repeat("x", 4097)}); !strings.Contains(diags.Error(), "value of 4097 bytes") {
		t.Errorf("a long value: %v", diags)
	}
	if _, diags := template.Parse("template.yaml", b.Bytes()); strings.Contains(diags.Error(), "Number of resources") {
		t.Errorf("without a limit: %v", diags)
	}
}

func TestDynamicPaths(t *testing.T) {
	value := map[string]any{
		"Name": "{{resolve:ssm:/name}}", "Plain": "text", "Number": 5,
		"List": []any{"a", map[string]any{"Secret": "x{{resolve:ssm:/other}}y"}},
	}
	if got, want := fmt.Sprint(template.DynamicPaths(value)), "[List/1/Secret Name]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
