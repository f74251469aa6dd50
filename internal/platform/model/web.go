package model

// web is the types of CloudFront that no site needs to be served.
func web() map[string]Type {
	return map[string]Type{
		"AWS::CloudFront::CachePolicy": {
			Note: "the edge caches by its own rules", ref: "{uuid}", attributes: map[string]any{"Id": "{ref}", "LastModifiedTime": "{changed}"},
			checks: []check{object("CachePolicyConfig")},
		},
		"AWS::CloudFront::CloudFrontOriginAccessIdentity": {
			Note: "who names it reads its bucket with keys; others see what everybody may", ref: "E{id 13}",
			attributes: map[string]any{"Id": "{ref}", "S3CanonicalUserId": "{hex 96 user}"}, checks: []check{object("CloudFrontOriginAccessIdentityConfig")},
		},
		"AWS::CloudFront::OriginAccessControl": {
			Note: "who names it reads its bucket with keys; others see what everybody may", ref: "E{id 13}", attributes: map[string]any{"Id": "{ref}"},
			checks: []check{object("OriginAccessControlConfig")},
		},
	}
}
