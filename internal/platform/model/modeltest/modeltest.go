// Package modeltest is the test kit of package model: properties that resources
// of each modelled type may have.
package modeltest

import (
	"maps"

	"makeitso/internal/registry"
)

// Properties gives a resource of a type what it requires, and what the
// attributes are made from that it has only then.
func Properties(typ string) map[string]any {
	type object = map[string]any
	allow := object{"Statement": []any{object{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}}
	known := object{
		"PolicyDocument": allow, "AssumeRolePolicyDocument": allow, "AliasName": "alias/shop", "SubnetIds": []any{"subnet-1"}, "Roles": []any{"web"},
		"VpcId": "vpc-1", "RouteTableId": "rtb-1", "SubnetId": "subnet-1", "CidrBlock": "10.0.0.0/16", "IpProtocol": "-1",
		"MinSize": "1", "MaxSize": "2", "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING", "AutoScalingGroupName": "machines",
		"FunctionName": "shop", "TargetFunctionArn": "shop", "AuthType": "NONE", "Code": object{"ZipFile": "x"}, "Content": object{"S3Bucket": "b"},
		"HttpMethod": "GET", "IntegrationType": "MOCK", "ProtocolType": "HTTP", "TopicArn": "arn:aws:sns:eu-west-1:123456789012:news", "Protocol": "sqs",
		"KeySchema":       []any{object{"AttributeName": "id", "KeyType": "HASH"}},
		"LoadBalancerArn": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/front/50dc6c495c0c9188",
		"ListenerArn":     "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/front/50dc6c495c0c9188/f2f7dc8efc522ab2",
		"DefaultActions":  []any{object{"Type": "forward"}}, "Actions": []any{object{"Type": "forward"}}, "Conditions": []any{object{"Field": "path-pattern"}},
		"Priority": "1", "Listeners": []any{object{"LoadBalancerPort": "80", "InstancePort": "8080", "Protocol": "HTTP"}},
		"DestinationArn": "arn:aws:lambda:eu-west-1:123456789012:function:shop",
		"DashboardBody":  "{}", "Stages": []any{object{"Name": "build", "Actions": []any{}}},
		"Artifacts": object{}, "Environment": object{}, "Source": object{}, "SourceBundle": object{}, "LaunchTemplateData": object{},
		"CachePolicyConfig": object{}, "CloudFrontOriginAccessIdentityConfig": object{}, "OriginAccessControlConfig": object{}, "HealthCheckConfig": object{},
		"StageName": "prod",
	}
	// What a type needs besides what the registry says, or gets to have all its
	// attributes.
	besides := map[string]object{
		"AWS::EC2::VPC":                             {"CidrBlock": "10.0.0.0/16"},
		"AWS::EC2::Subnet":                          {"CidrBlock": "10.0.0.0/24"},
		"AWS::EC2::SecurityGroup":                   {"VpcId": "vpc-1"},
		"AWS::EC2::SecurityGroupIngress":            {"GroupId": "sg-1"},
		"AWS::EC2::VPCGatewayAttachment":            {"InternetGatewayId": "igw-1"},
		"AWS::EC2::Route":                           {"DestinationCidrBlock": "0.0.0.0/0"},
		"AWS::EC2::VPCEndpoint":                     {"SubnetIds": []any{"subnet-1"}, "ServiceName": "com.amazonaws.eu-west-1.s3"},
		"AWS::EC2::Instance":                        {"ImageId": "ami-1"},
		"AWS::DynamoDB::Table":                      {"StreamSpecification": object{"StreamViewType": "NEW_IMAGE"}},
		"AWS::RDS::DBCluster":                       {"ManageMasterUserPassword": "true"},
		"AWS::Events::Rule":                         {"ScheduleExpression": "rate(1 day)"},
		"AWS::ApiGatewayV2::Api":                    {"ProtocolType": "HTTP"},
		"AWS::Lambda::Alias":                        {"Name": "live"},
		"AWS::ElasticLoadBalancingV2::ListenerRule": {"ListenerArn": known["ListenerArn"]},
		"AWS::SSM::Parameter":                       {"Type": "String"},
		"AWS::ElasticLoadBalancingV2::TargetGroup":  {"Port": "80", "Protocol": "HTTP"},
	}
	facts, _ := registry.Type(typ)
	properties := object{}
	for _, required := range facts.Required {
		properties[required] = "x"
		if value, is := known[required]; is {
			properties[required] = value
		}
	}
	maps.Copy(properties, besides[typ])
	return properties
}
