package model

// undenied is the note of what only says who may do what.
const undenied = "nothing is denied on this machine"

// identity is the types of IAM, and of keys, certificates and secrets.
func identity() map[string]Type {
	return map[string]Type{
		"AWS::IAM::Role": {
			Note: undenied, ref: "{name RoleName 64}",
			attributes: map[string]any{"Arn": "arn:aws:iam::{account}:role{path}{ref}", "RoleId": "AROA{id 17}"},
			checks:     []check{document("AssumeRolePolicyDocument"), each("Policies", inline), path},
		},
		"AWS::IAM::Policy": {Note: undenied, ref: "{name - 128}", attributes: map[string]any{"Id": "{ref}"}, checks: []check{document("PolicyDocument")}},
		"AWS::IAM::ManagedPolicy": {
			Note: undenied, ref: "arn:aws:iam::{account}:policy{path}{name ManagedPolicyName 128}",
			attributes: map[string]any{
				"PolicyArn": "{ref}", "PolicyId": "ANPA{id 17}", "DefaultVersionId": "v{version}", "IsAttachable": "true",
				"AttachmentCount": "0", "PermissionsBoundaryUsageCount": "0", "CreateDate": "{made}", "UpdateDate": "{changed}",
			},
			checks: []check{document("PolicyDocument"), path},
		},
		"AWS::IAM::InstanceProfile": {
			Note: undenied, ref: "{name InstanceProfileName 128}",
			attributes: map[string]any{"Arn": "arn:aws:iam::{account}:instance-profile{path}{ref}"},
			checks:     []check{atMost("Roles", 1), path},
		},
		"AWS::IAM::User": {
			Note: undenied, ref: "{name UserName 64}", attributes: map[string]any{"Arn": "arn:aws:iam::{account}:user{path}{ref}"},
			checks: []check{each("Policies", inline), path},
		},
		"AWS::IAM::Group": {
			Note: undenied, ref: "{name GroupName 128}", attributes: map[string]any{"Arn": "arn:aws:iam::{account}:group{path}{ref}"},
			checks: []check{each("Policies", inline), path},
		},
		"AWS::IAM::AccessKey": {
			Note: "opens nothing on this machine", ref: "AKIA{id 16}", attributes: map[string]any{"Id": "{ref}", "SecretAccessKey": "{hex 40 secret}"},
			checks: []check{words("Status", "Active", "Inactive")},
		},
		"AWS::KMS::Key": {
			Note: "an encryption key, which seals secrets", ref: "{uuid}",
			attributes: map[string]any{"Arn": "arn:aws:kms:{region}:{account}:key/{ref}", "KeyId": "{ref}"},
			checks:     []check{document("KeyPolicy"), number("PendingWindowInDays", 7, 30)},
		},
		"AWS::KMS::Alias": {Note: "another name of a key", ref: "{property AliasName}", checks: []check{begins("AliasName", "alias/")}},
		"AWS::CertificateManager::Certificate": {
			Note: "issued at once; sites have the certificates of the edge", ref: "arn:aws:acm:{region}:{account}:certificate/{uuid}",
			attributes: map[string]any{"Id": "{ref}"}, checks: []check{words("ValidationMethod", "DNS", "EMAIL", "HTTP")},
		},
		"AWS::SecretsManager::Secret": {
			Note: "sealed by its key, in versions; {{resolve:secretsmanager:…}} reads it", ref: "arn:aws:secretsmanager:{region}:{account}:secret:{name Name 512}-{hex 6}", unique: []string{"Name"},
			attributes: map[string]any{"Id": "{ref}"}, checks: []check{notBoth("SecretString", "GenerateSecretString")},
		},
		"AWS::SSM::Parameter": {
			Note: "in versions; {{resolve:ssm:…}} reads it", ref: "{name Name 2048}",
			attributes: map[string]any{"Type": "{property Type}", "Value": "{property Value}"}, checks: []check{words("Type", "String", "StringList")},
		},
	}
}
