package registry

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

type properties = map[string]any

func TestDifferences(t *testing.T) {
	for _, test := range []struct {
		name, typ        string
		expected, actual properties
		want             []Difference
	}{
		{name: "written otherwise", typ: "AWS::SQS::Queue",
			expected: properties{"DelaySeconds": "5", "FifoQueue": "true", "RedrivePolicy": properties{"maxReceiveCount": "3"}},
			actual:   properties{"DelaySeconds": 5.0, "FifoQueue": "True", "RedrivePolicy": `{"maxReceiveCount": 3}`}},
		{name: "a list as a text", typ: "Test::Thing", expected: properties{"Names": []any{"a", "1"}}, actual: properties{"Names": `["a", 1]`}},
		{name: "what is not set", typ: "AWS::SQS::Queue", expected: properties{}, actual: properties{"DelaySeconds": "5"}},
		{name: "what cannot be read", typ: "AWS::RDS::DBInstance", expected: properties{"MasterUserPassword": "x"}, actual: properties{}},
		{name: "keys for encryption", typ: "AWS::RDS::DBInstance", expected: properties{"KmsKeyId": "alias/a"}, actual: properties{"KmsKeyId": "arn:b"}},
		{name: "below the first level", typ: "Test::Thing",
			expected: properties{"A": properties{"x/y": "1", "z": "2"}, "B": []any{"1", "2"}},
			actual:   properties{"A": properties{"z": "3", "new": "4"}, "B": []any{"1", "5"}},
			want: []Difference{
				{Type: "ADD", Path: "/A/new", Actual: "4"},
				{Type: "REMOVE", Path: "/A/x~1y", Expected: "1"},
				{Type: "NOT_EQUAL", Path: "/A/z", Expected: "2", Actual: "3"},
				{Type: "NOT_EQUAL", Path: "/B/1", Expected: "2", Actual: "5"},
			}},
	} {
		facts, _ := Type(test.typ)
		got := facts.Differences(test.expected, test.actual)
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v", test.name, got)
		}
		if again := facts.Differences(Adopt(test.expected, got), test.actual); again != nil {
			t.Errorf("%s: adopted, %+v differ", test.name, again)
		}
	}
}

func TestAdoptLeavesWhatItIsGiven(t *testing.T) {
	before := properties{"A": properties{"b": "1"}}
	after := Adopt(before, []Difference{{Type: "NOT_EQUAL", Path: "/A/b", Actual: 2.0}})
	if want := (properties{"A": properties{"b": "2"}}); !reflect.DeepEqual(after, want) {
		t.Errorf("adopted %v", after)
	}
	if want := (properties{"A": properties{"b": "1"}}); !reflect.DeepEqual(before, want) {
		t.Errorf("before is %v now", before)
	}
}

func TestTransforms(t *testing.T) {
	for _, test := range []struct {
		typ, property    string
		expected, actual string
		same             bool
	}{
		{"AWS::RDS::DBInstance", "DBInstanceIdentifier", "MyData", "mydata", true},
		{"AWS::RDS::DBInstance", "DBInstanceIdentifier", "my.data", "myxdata", false},
		{"AWS::RDS::DBInstance", "DBName", "Shop", "SHOP", true},
		{"AWS::RDS::DBInstance", "DBName", "Shop", "sHOP", false},
		{"AWS::RDS::DBInstance", "EngineVersion", "16", "16.4", true},
		{"AWS::RDS::DBInstance", "EngineVersion", "16", "17.1", false},
		{"AWS::Route53::HostedZone", "Name", "Example.org", "example.org.", true},
		{"AWS::Route53::HostedZone", "Name", "example.org", "example.orgs", false},
		{"AWS::ElastiCache::CacheCluster", "EngineVersion", "7.1.5", "7.1", true},
		{"AWS::ElastiCache::CacheCluster", "EngineVersion", "7.1.5", "7.2", false},
		{"AWS::Lambda::Version", "FunctionName", "arn:aws:lambda:x:1:function:f", "f", true},
		{"AWS::DirectConnect::Connection", "LagId", "arn:x/DXLAG-1", "dxlag-1", true},
		{"AWS::RolesAnywhere::CRL", "CrlData", "text\n\n", "text", true},
		{"AWS::ResourceGroups::TagSyncTask", "Group", "arn/group/name", "group/name", true},
		{"AWS::ECS::Service", "Role", "web", "arn:aws:iam::123456789012:role/web", true},
		{"AWS::ECS::Service", "Role", "web", "arn:aws:iam::123456789012:role/other", false},
		{"AWS::EC2::EIP", "Domain", "standard", "vpc", true},
		{"AWS::GameLift::Fleet", "PeerVpcId", "a", "A", false}, // has no transform
	} {
		facts, known := Type(test.typ)
		if !known {
			t.Fatalf("no type %s", test.typ)
		}
		got := facts.Differences(properties{test.property: test.expected}, properties{test.property: test.actual})
		if (got == nil) != test.same {
			t.Errorf("%s.%s: %q and %q: %+v", test.typ, test.property, test.expected, test.actual, got)
		}
	}
	facts, _ := Type("AWS::AmazonMQ::Broker")
	set := properties{"MaintenanceWindowStartTime": properties{"DayOfWeek": "monday"}}
	if got := facts.Differences(set, properties{"MaintenanceWindowStartTime": properties{"DayOfWeek": "MONDAY"}}); got != nil {
		t.Errorf("a name from the top: %+v", got)
	}
}

// TestTransformsUnderstood counts the transforms of which at least one
// alternative is understood, and names the types of the others.
func TestTransformsUnderstood(t *testing.T) {
	understood, not := 0, map[string]bool{}
	for _, name := range Names() {
		facts, _ := Type(name)
		for key, expression := range facts.Transforms {
			parts := strings.Split(key, "/")
			last := parts[len(parts)-1]
			set := properties{last: "a/b/c"}
			at := set
			for i := len(parts) - 2; i > 1; i-- { // as seen from the top
				at = properties{parts[i]: maps.Clone(at)}
			}
			maps.Copy(set, at)
			if forms(expression, set, set) != nil {
				understood++
			} else {
				not[name] = true
			}
		}
	}
	want := []string{
		"AWS::AutoScaling::AutoScalingGroup", "AWS::Config::ConfigRule", "AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupEgress",
		"AWS::EC2::SecurityGroupIngress", "AWS::EC2::Subnet", "AWS::EC2::SubnetCidrBlock", "AWS::EFS::FileSystem", "AWS::Events::EventBusPolicy",
		"AWS::GameLift::Fleet", "AWS::LakeFormation::PrincipalPermissions", "AWS::Lambda::EventSourceMapping", "AWS::Lambda::Url",
		"AWS::MediaConnect::RouterInput", "AWS::MediaConnect::RouterOutput", "AWS::RDS::DBCluster",
	}
	if got := slices.Sorted(maps.Keys(not)); !slices.Equal(got, want) || understood != 148 {
		t.Errorf("%d are understood; not those of %q", understood, got)
	}
}

func TestPlaceOfADifference(t *testing.T) {
	set := properties{"a/~b": properties{"c": []any{"1", properties{"d": "2"}}}}
	for _, test := range []struct {
		typ, path, property string
		want                any
	}{
		{"NOT_EQUAL", "/a~1~0b/c/1/d", "a/~b", "2"},
		{"REMOVE", "/a~1~0b/c/0", "a/~b", "1"},
		{"ADD", "/a~1~0b/c/1/e", "a/~b", properties{"d": "2"}},
		{"NOT_EQUAL", "/a~1~0b/c/2", "a/~b", nil},
		{"NOT_EQUAL", "/a~1~0b/c/0/d", "a/~b", nil},
		{"REMOVE", "/other/c", "other", nil},
	} {
		d := Difference{Type: test.typ, Path: test.path}
		if got := d.In(set); d.Property() != test.property || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s %s is in property %s, where %v stands", test.typ, test.path, d.Property(), got)
		}
	}
}
