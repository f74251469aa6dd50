package model

// web is the types of CloudFront and Route 53 that no site needs to be served.
func web() map[string]Type {
	return map[string]Type{
		"AWS::CloudFront::CachePolicy": {
			Note: "the edge caches by its own rules", ref: "{uuid}", attributes: map[string]any{"Id": "{ref}", "LastModifiedTime": "{changed}"},
			checks: []check{object("CachePolicyConfig")},
		},
		"AWS::CloudFront::CloudFrontOriginAccessIdentity": {
			Note: "the edge signs with the environment's keys", ref: "E{id 13}",
			attributes: map[string]any{"Id": "{ref}", "S3CanonicalUserId": "{hex 96 user}"}, checks: []check{object("CloudFrontOriginAccessIdentityConfig")},
		},
		"AWS::CloudFront::OriginAccessControl": {
			Note: "the edge signs with the environment's keys", ref: "E{id 13}", attributes: map[string]any{"Id": "{ref}"},
			checks: []check{object("OriginAccessControlConfig")},
		},
		"AWS::Route53::HostedZone": {
			Note: "its records are routed by host name at the edge", ref: "Z{id 17}",
			attributes: map[string]any{"Id": "{ref}", "NameServers": []any{"ns-1.{property Name}", "ns-2.{property Name}"}},
		},
		"AWS::Route53::RecordSetGroup": {
			Note: "its records are not looked up; use AWS::Route53::RecordSet for those of a site", ref: "{name - 255}", attributes: map[string]any{"Id": "{ref}"},
			checks: []check{oneOf("HostedZoneId", "HostedZoneName"), each("RecordSets", needs("Name", "Type"))},
		},
		"AWS::Route53::HealthCheck": {
			Note: "nothing is checked; the edge checks the instances of a release", ref: "{uuid}", attributes: map[string]any{"HealthCheckId": "{ref}"},
			checks: []check{object("HealthCheckConfig")},
		},
	}
}
