package registry

import (
	"encoding/json"
	"slices"
	"testing"
)

// TestTaggingDefaults reads what schemas say of tags, and do not say.
func TestTaggingDefaults(t *testing.T) {
	for typ, want := range map[string]Tagging{
		"AWS::S3::Bucket":                     {Taggable: true, Updatable: true, System: true, Property: "/properties/Tags"},
		"AWS::Redshift::Cluster":              {Taggable: true, Updatable: true, System: true}, // says only that it is taggable
		"AWS::RDS::Integration":               {Taggable: true, Updatable: true, System: true, Property: "/properties/Tags"},
		"AWS::CodeBuild::Project":             {Taggable: true, Updatable: true, System: true, Property: "/properties/Tags"}, // has Tags, and no word about them
		"AWS::MediaLive::InputSecurityGroup":  {Taggable: true, System: true, Property: "/properties/Tags"},                  // which are set once for all
		"AWS::ACMPCA::Certificate":            {},
		"AWS::CloudFormation::CustomResource": {}, // has no word about tags
		"Test::Thing":                         {},
	} {
		if facts, _ := Type(typ); facts.Tagging != want {
			t.Errorf("%s: %+v, want %+v", typ, facts.Tagging, want)
		}
	}
	var said Tagging
	if err := json.Unmarshal([]byte(`{}`), &said); err != nil || said != (Tagging{Taggable: true, Updatable: true, System: true}) {
		t.Errorf("nothing said is %+v (%v)", said, err)
	}
	if err := json.Unmarshal([]byte(`{"taggable":"yes"}`), &said); err == nil {
		t.Errorf("a text was read as %+v", said)
	}
}

func TestOwnTags(t *testing.T) {
	list := func(keys ...string) []any {
		var tags []any
		for _, key := range keys {
			tags = append(tags, properties{"Key": key, "Value": "v", "PropagateAtLaunch": "true"})
		}
		return tags
	}
	for _, test := range []struct {
		typ, property string
		properties    properties
		want          []string
	}{
		{"AWS::S3::Bucket", "Tags", properties{"Tags": list("b", "a", "b")}, []string{"a", "b"}},
		{"AWS::AutoScaling::AutoScalingGroup", "Tags", properties{"Tags": list("a")}, []string{"a"}},
		{"AWS::SSM::Parameter", "Tags", properties{"Tags": properties{"b": "1", "a": "2"}}, []string{"a", "b"}},
		{"AWS::ApiGatewayV2::Stage", "Tags", properties{"Tags": properties{"a": "1"}}, []string{"a"}},
		{"AWS::CertificateManager::Certificate", "Tags", properties{"Tags": list("a")}, []string{"a"}},
		{"AWS::Glue::Job", "Tags", properties{"Tags": `{"a": "1"}`}, []string{"a"}},
		{"AWS::Route53::HostedZone", "HostedZoneTags", properties{"HostedZoneTags": list("a"), "Tags": list("b")}, []string{"a"}},
		{"AWS::EC2::CapacityReservation", "TagSpecifications", properties{"TagSpecifications": []any{properties{"Tags": list("a")}, properties{"Tags": list("b")}, "x"}}, []string{"a", "b"}},
		{"AWS::Redshift::Cluster", "Tags", properties{"Tags": list("a")}, []string{"a"}},
		{"AWS::S3::Bucket", "Tags", properties{"Tags": []any{"x", properties{"Value": "a"}}}, nil},
		{"AWS::S3::Bucket", "Tags", nil, nil},
		{"Test::Thing", "Tags", nil, nil},
	} {
		facts, _ := Type(test.typ)
		if got := facts.OwnTags(test.properties); !slices.Equal(got, test.want) || facts.TagProperty() != test.property {
			t.Errorf("%s %v: %v in %s, want %v", test.typ, test.properties, got, facts.TagProperty(), test.want)
		}
	}
}
