package model

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"makeitso/internal/platform/model/modeltest"
	"makeitso/internal/registry"
	"makeitso/internal/template"
)

var at = Place{Region: "eu-west-1", Account: "123456789012"}

// resource is one of the stack "web" with the properties that its type needs.
func resource(typ, token string) Resource {
	day := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	return Resource{Token: token, Type: typ, Stack: "web", LogicalID: "Thing", Properties: modeltest.Properties(typ), Created: day, Changed: day.AddDate(0, 0, 1)}
}

var (
	arn      = regexp.MustCompile(`^arn:aws:[a-z0-9-]+:([a-z0-9-]*):(\d{12})?:[^{}\s]+$`)
	wellKept = map[string]*regexp.Regexp{
		"vpc-": hexadecimal, "subnet-": hexadecimal, "sg-": hexadecimal, "igw-": hexadecimal, "rtb-": hexadecimal, "nat-": hexadecimal, "eni-": hexadecimal,
		"eipalloc-": hexadecimal, "i-": hexadecimal, "lt-": hexadecimal, "vol-": hexadecimal, "vpce-": hexadecimal, "acl-": hexadecimal,
		"aclassoc-": hexadecimal, "rtbassoc-": hexadecimal, "vpc-cidr-assoc-": hexadecimal, "sgr-": hexadecimal,
	}
	hexadecimal = regexp.MustCompile(`^[0-9a-f]{17}$`)
)

// texts gives every text in a value.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, item := range v {
			all = append(all, texts(item)...)
		}
		return all
	case map[string]any:
		return texts(slices.Collect(maps.Values(map[string]any(v))))
	case []string:
		return v
	}
	return nil
}

// TestEveryAttribute looks at what each type gives.
func TestEveryAttribute(t *testing.T) {
	for typ, m := range Types() {
		facts, known := registry.Type(typ)
		if !known || m.Note == "" {
			t.Errorf("%s is no type of the registry, or has no note", typ)
		}
		r, other := resource(typ, "web-Thing-1"), resource(typ, "web-Thing-2")
		if err := m.Check(r, func(string) ([]Resource, error) { return nil, nil }); err != nil {
			t.Errorf("the properties of the test: %v", err)
		}
		id, attributes, err := m.Make(r, at)
		if err != nil || id == "" {
			t.Fatalf("%s: %q, %v", typ, id, err)
		}
		again, sameAttributes, _ := m.Make(r, at)
		otherID, others, _ := m.Make(other, at)
		if again != id || fmt.Sprint(sameAttributes) != fmt.Sprint(attributes) {
			t.Errorf("%s: made again it is %s %v", typ, again, sameAttributes)
		}
		for _, name := range facts.ReadOnly {
			name = strings.ReplaceAll(name, "/", ".")
			if v := attributes[name]; v == nil || v == "" {
				t.Errorf("%s: attribute %s is %v", typ, name, v)
			}
		}
		for name := range attributes {
			if texts(attributes[name]) == nil && name != "Ipv6CidrBlocks" && name != "LoadBalancerArns" && !isMap(attributes[name]) {
				t.Errorf("%s: attribute %s is %v", typ, name, attributes[name])
			}
			for _, text := range texts(attributes[name]) {
				wellFormed(t, typ, name, text)
			}
		}
		wellFormed(t, typ, "Ref", id)
		names, err := m.Names(r, at)
		if err != nil {
			t.Fatal(err)
		}
		if id == otherID && len(names) == 0 && m.series == "" {
			t.Errorf("%s: two resources are %s, and nothing says so", typ, id)
		}
		for name := range attributes {
			namesIt := strings.HasSuffix(strings.ToLower(name), "arn") && name != "SnsTopicArn" // which its property says
			if namesIt && attributes[name] == others[name] && len(names) == 0 && m.series == "" {
				t.Errorf("%s: two resources have the %s %v", typ, name, attributes[name])
			}
		}
		for _, name := range facts.PrimaryIdentifier {
			if slices.Contains(facts.ReadOnly, name) && attributes[name] == others[name] && len(names) == 0 && m.series == "" {
				t.Errorf("%s: two resources have the %s %v", typ, name, attributes[name])
			}
		}
	}
}

func isMap(v any) bool {
	m, is := v.(map[string]any)
	return is && len(m) > 0
}

// wellFormed judges the form of one value.
func wellFormed(t *testing.T, typ, name, text string) {
	t.Helper()
	if text == "" || strings.ContainsAny(text, "{} ") || strings.Contains(text, "%!") {
		t.Errorf("%s: %s is %q", typ, name, text)
	}
	if parts := arn.FindStringSubmatch(text); strings.HasPrefix(text, "arn:") {
		global := strings.HasPrefix(text, "arn:aws:iam:")
		if parts == nil || !global && parts[1] != at.Region || parts[2] != at.Account {
			t.Errorf("%s: %s is no ARN of here: %q", typ, name, text)
		}
	}
	if strings.HasSuffix(strings.ToLower(name), "arn") && !strings.HasPrefix(text, "arn:aws:") {
		t.Errorf("%s: %s is %q", typ, name, text)
	}
	for prefix, rest := range wellKept {
		if end, is := strings.CutPrefix(text, prefix); is && !strings.ContainsAny(end, "-.|") && len(end) > 8 && !rest.MatchString(end) {
			t.Errorf("%s: %s is %q", typ, name, text)
		}
	}
	for _, stamp := range []string{"Date", "Time", "Timestamp"} {
		if _, err := time.Parse(time.RFC3339, text); strings.HasSuffix(name, stamp) && err != nil {
			t.Errorf("%s: %s is %q: %v", typ, name, text, err)
		}
	}
}

// TestRefs holds Ref of each type against the examples of the service's own
// documentation.
func TestRefs(t *testing.T) {
	const uuid = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`
	const generated = `web-Thing-[0-9a-f]{12}`
	for typ, want := range map[string]string{
		"AWS::ApiGateway::RestApi":                  `[0-9a-f]{10}`,
		"AWS::ApiGateway::Stage":                    generated,
		"AWS::ApiGatewayV2::Stage":                  `prod`,
		"AWS::AutoScaling::AutoScalingGroup":        generated,
		"AWS::AutoScaling::ScalingPolicy":           `arn:aws:autoscaling:eu-west-1:123456789012:scalingPolicy:` + uuid + `:autoScalingGroupName/machines:policyName/` + generated,
		"AWS::CertificateManager::Certificate":      `arn:aws:acm:eu-west-1:123456789012:certificate/` + uuid,
		"AWS::CloudFront::OriginAccessControl":      `E[0-9A-Z]{13}`,
		"AWS::CodeDeploy::DeploymentGroup":          generated,
		"AWS::DynamoDB::Table":                      generated,
		"AWS::EC2::EIP":                             `198\.18\.\d+\.\d+`,
		"AWS::EC2::LaunchTemplate":                  `lt-[0-9a-f]{17}`,
		"AWS::EC2::Route":                           `rtb-1\|0\.0\.0\.0/0`,
		"AWS::EC2::VPCGatewayAttachment":            `IGW\|vpc-1`,
		"AWS::EC2::Volume":                          `vol-[0-9a-f]{17}`,
		"AWS::ECS::Service":                         `arn:aws:ecs:eu-west-1:123456789012:service/default/` + generated,
		"AWS::ECS::TaskDefinition":                  `arn:aws:ecs:eu-west-1:123456789012:task-definition/` + generated + `:1`,
		"AWS::ElasticLoadBalancing::LoadBalancer":   generated,
		"AWS::ElasticLoadBalancingV2::Listener":     `arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/front/50dc6c495c0c9188/[0-9a-f]{16}`,
		"AWS::ElasticLoadBalancingV2::ListenerRule": `arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener-rule/app/front/50dc6c495c0c9188/f2f7dc8efc522ab2/[0-9a-f]{16}`,
		"AWS::ElasticLoadBalancingV2::LoadBalancer": `arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/` + generated + `/[0-9a-f]{16}`,
		"AWS::ElasticLoadBalancingV2::TargetGroup":  `arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/` + generated + `/[0-9a-f]{16}`,
		"AWS::Events::Rule":                         generated,
		"AWS::IAM::AccessKey":                       `AKIA[0-9A-Z]{16}`,
		"AWS::IAM::ManagedPolicy":                   `arn:aws:iam::123456789012:policy/` + generated,
		"AWS::IAM::Role":                            generated,
		"AWS::KMS::Alias":                           `alias/shop`,
		"AWS::KMS::Key":                             uuid,
		"AWS::Lambda::Alias":                        `arn:aws:lambda:eu-west-1:123456789012:function:shop:live`,
		"AWS::Lambda::EventSourceMapping":           uuid,
		"AWS::Lambda::Function":                     generated,
		"AWS::Lambda::LayerVersion":                 `arn:aws:lambda:eu-west-1:123456789012:layer:` + generated + `:1`,
		"AWS::Lambda::Url":                          `arn:aws:lambda:eu-west-1:123456789012:function:shop`,
		"AWS::Lambda::Version":                      `arn:aws:lambda:eu-west-1:123456789012:function:shop:1`,
		"AWS::RDS::DBCluster":                       `web-thing-[0-9a-f]{12}`,
		"AWS::SNS::Subscription":                    `arn:aws:sns:eu-west-1:123456789012:news:` + uuid,
		"AWS::SNS::Topic":                           `arn:aws:sns:eu-west-1:123456789012:` + generated,
		"AWS::SQS::Queue":                           `https://sqs\.eu-west-1\.amazonaws\.com/123456789012/` + generated,
		"AWS::SecretsManager::Secret":               `arn:aws:secretsmanager:eu-west-1:123456789012:secret:` + generated + `-[0-9a-f]{6}`,
	} {
		id, _, err := Types()[typ].Make(resource(typ, "web-Thing-1"), at)
		if err != nil || !regexp.MustCompile("^(?:"+want+")$").MatchString(id) {
			t.Errorf("Ref of %s is %q (%v), want %s", typ, id, err, want)
		}
	}
}

// TestValuesFromProperties looks at values that properties decide.
func TestValuesFromProperties(t *testing.T) {
	type properties = map[string]any
	for _, test := range []struct {
		typ        string
		properties properties
		attribute  string // "" is Ref
		want       any
	}{
		{"AWS::IAM::Role", properties{"RoleName": "deploy", "Path": "/ci/"}, "Arn", "arn:aws:iam::123456789012:role/ci/deploy"},
		{"AWS::EC2::Subnet", properties{"VpcId": "vpc-7", "CidrBlock": "10.0.1.0/24"}, "CidrBlock", "10.0.1.0/24"},
		{"AWS::EC2::Subnet", properties{"VpcId": "vpc-7", "AvailabilityZone": "eu-west-1c"}, "AvailabilityZone", "eu-west-1c"},
		{"AWS::EC2::Route", properties{"RouteTableId": "rtb-1", "DestinationIpv6CidrBlock": "::/0"}, "CidrBlock", "::/0"},
		{"AWS::EC2::VPCGatewayAttachment", properties{"VpcId": "vpc-1", "VpnGatewayId": "vgw-1"}, "", "VGW|vpc-1"},
		{"AWS::EC2::Instance", properties{"PrivateIpAddress": "10.1.2.3"}, "PrivateIp", "10.1.2.3"},
		{"AWS::SQS::Queue", properties{"QueueName": "jobs"}, "Arn", "arn:aws:sqs:eu-west-1:123456789012:jobs"},
		{"AWS::SQS::Queue", properties{"FifoQueue": "true"}, "QueueName", "web-Thing-" + Digits("t", "name", 12) + ".fifo"},
		{"AWS::Events::Rule", properties{"Name": "nightly", "EventBusName": "arn:aws:events:x:1:event-bus/shop"}, "", "shop|nightly"},
		{"AWS::Events::Rule", properties{"Name": "nightly", "EventBusName": "shop"}, "Arn", "arn:aws:events:eu-west-1:123456789012:rule/shop/nightly"},
		{"AWS::Events::Rule", properties{"Name": "nightly", "EventBusName": "default"}, "Arn", "arn:aws:events:eu-west-1:123456789012:rule/nightly"},
		{"AWS::ApiGatewayV2::Api", properties{"ProtocolType": "WEBSOCKET"}, "ApiEndpoint", "wss://" + Digits("t", "", 10) + ".execute-api.eu-west-1.amazonaws.com"},
		{"AWS::ElasticLoadBalancingV2::LoadBalancer", properties{"Type": "network", "Name": "front"}, "LoadBalancerFullName", "net/front/" + Digits("t", "", 16)},
		{"AWS::ECS::Service", properties{"ServiceName": "web", "Cluster": "arn:aws:ecs:x:1:cluster/main"}, "", "arn:aws:ecs:eu-west-1:123456789012:service/main/web"},
		{"AWS::Lambda::Url", properties{"TargetFunctionArn": "arn:aws:lambda:x:1:function:shop", "Qualifier": "live"}, "", "arn:aws:lambda:eu-west-1:123456789012:function:shop:live"},
		{"AWS::Lambda::Function", properties{"SnapStart": properties{"ApplyOn": "PublishedVersions"}}, "SnapStartResponse.ApplyOn", "PublishedVersions"},
		{"AWS::DynamoDB::Table", properties{"TableName": "orders"}, "StreamArn", nil},
		{"AWS::SSM::Parameter", properties{"Name": "/a", "Type": "String", "Value": "x"}, "Value", "x"},
	} {
		r := Resource{Token: "t", Type: test.typ, Stack: "web", LogicalID: "Thing", Properties: test.properties}
		id, attributes, err := Types()[test.typ].Make(r, at)
		got := attributes[test.attribute]
		if test.attribute == "" {
			got = id
		}
		if err != nil || got != test.want {
			t.Errorf("%s %v: %s is %v (%v), want %v", test.typ, test.properties, test.attribute, got, err, test.want)
		}
	}
}

// TestVersions looks at what changes with a resource.
func TestVersions(t *testing.T) {
	r := resource("AWS::EC2::LaunchTemplate", "t")
	r.Changes = 2
	if _, attributes, _ := Types()[r.Type].Make(r, at); attributes["LatestVersionNumber"] != "3" || attributes["DefaultVersionNumber"] != "1" {
		t.Errorf("a template changed twice has %v", attributes)
	}
	v := resource("AWS::Lambda::Version", "t")
	v.Number = 4
	if id, attributes, _ := Types()[v.Type].Make(v, at); attributes["Version"] != "4" || !strings.HasSuffix(id, ":shop:4") {
		t.Errorf("the fourth version is %s %v", id, attributes)
	}
	if series := Types()[v.Type].Series(v); series != "shop" {
		t.Errorf("the series is %q", series)
	}
	if series := Types()[r.Type].Series(r); series != "" {
		t.Errorf("a launch template is one of %q", series)
	}
}

// TestUnknownPattern says that a pattern that nobody understands is told.
func TestUnknownPattern(t *testing.T) {
	for _, pattern := range []string{"{nothing}", "{name - x}", "{ref", "{choose X a=b}"} {
		if _, _, err := (Type{ref: pattern}).Make(Resource{PhysicalID: "x"}, at); err == nil {
			t.Errorf("%s passed", pattern)
		}
	}
}

// TestNames looks at what no two resources may share.
func TestNames(t *testing.T) {
	type properties = map[string]any
	for _, test := range []struct {
		typ        string
		properties properties
		want       string
	}{
		{"AWS::IAM::Role", properties{"RoleName": "deploy"}, "[deploy]"},
		{"AWS::IAM::Role", nil, "[]"},
		{"AWS::IAM::Policy", properties{"PolicyName": "p"}, "[]"},
		{"AWS::SQS::Queue", properties{"QueueName": "jobs"}, "[https://sqs.eu-west-1.amazonaws.com/123456789012/jobs]"},
		{"AWS::RDS::DBSubnetGroup", properties{"DBSubnetGroupName": "Shop"}, "[shop]"},
		{"AWS::ElasticLoadBalancingV2::TargetGroup", properties{"Name": "front"}, "[front]"},
		{"AWS::EC2::SecurityGroup", properties{"GroupName": "web", "VpcId": "vpc-1"}, "[web|vpc-1]"},
		{"AWS::EC2::SecurityGroup", properties{"GroupName": "web", "VpcId": template.KnownAfterApply}, "[]"},
		{"AWS::Lambda::Version", properties{"FunctionName": "shop"}, "[]"},
		{"AWS::EC2::VPC", properties{"CidrBlock": "10.0.0.0/16"}, "[]"},
	} {
		r := Resource{Token: "t", Type: test.typ, Stack: "web", LogicalID: "Thing", Properties: test.properties}
		names, err := Types()[test.typ].Names(r, at)
		if err != nil || fmt.Sprint(names) != test.want {
			t.Errorf("%s %v: %v (%v), want %s", test.typ, test.properties, names, err, test.want)
		}
	}
	for typ, m := range Types() {
		facts, _ := registry.Type(typ)
		for _, property := range m.unique {
			if facts.Recreation(property) != registry.Always && property != "RouteKey" {
				t.Errorf("%s: %s names the resource and may change", typ, property)
			}
		}
	}
}
