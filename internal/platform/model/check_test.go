package model

import (
	"strings"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/platform/model/modeltest"
	"makeitso/internal/template"
)

func TestChecks(t *testing.T) {
	type object = map[string]any
	statement := func(s object) object { return object{"Statement": []any{s}} }
	for _, test := range []struct {
		typ      string
		property string
		value    any    // nil takes the property away
		want     string // "" passes
	}{
		{"AWS::EC2::VPC", "CidrBlock", "10.0.0.0", `CidrBlock "10.0.0.0" is not a network such as 10.0.0.0/16`},
		{"AWS::EC2::VPC", "CidrBlock", "10.0.0.0/8", `allowed are 16 to 28`},
		{"AWS::EC2::VPC", "CidrBlock", "fd00::/56", `is not a network`},
		{"AWS::EC2::VPC", "CidrBlock", nil, "CidrBlock or Ipv4IpamPoolId is required and missing"},
		{"AWS::EC2::VPC", "Ipv4IpamPoolId", "pool", "CidrBlock and Ipv4IpamPoolId cannot be given together"},
		{"AWS::EC2::VPC", "CidrBlock", template.KnownAfterApply, ""},
		{"AWS::EC2::SecurityGroup", "SecurityGroupIngress", []any{object{"IpProtocol": "tcp", "FromPort": "80", "ToPort": "443", "CidrIp": "0.0.0.0/0"}}, ""},
		{"AWS::EC2::SecurityGroup", "SecurityGroupIngress", []any{object{}, object{"IpProtocol": "tcp", "FromPort": "80", "ToPort": "70000"}}, "SecurityGroupIngress[1].ToPort is 70000; allowed are 0 to 65535"},
		{"AWS::EC2::SecurityGroup", "SecurityGroupIngress", []any{object{"IpProtocol": "icmp", "FromPort": "-1", "ToPort": "-1"}}, ""},
		{"AWS::EC2::SecurityGroup", "SecurityGroupIngress", []any{object{"IpProtocol": "http"}}, `SecurityGroupIngress[0].IpProtocol is "http"`},
		{"AWS::EC2::SecurityGroup", "SecurityGroupEgress", []any{object{"IpProtocol": "-1", "CidrIp": "all"}}, `SecurityGroupEgress[0].CidrIp "all" is not a network`},
		{"AWS::EC2::SecurityGroup", "SecurityGroupEgress", []any{"x"}, "SecurityGroupEgress[0] is not an object"},
		{"AWS::EC2::SecurityGroup", "SecurityGroupEgress", "x", "SecurityGroupEgress is not a list"},
		{"AWS::EC2::SecurityGroup", "SecurityGroupEgress", []any{template.KnownAfterApply}, ""},
		{"AWS::EC2::SecurityGroupIngress", "GroupId", nil, "GroupId or GroupName is required"},
		{"AWS::EC2::Volume", "VolumeType", "floppy", `VolumeType is "floppy"; allowed are gp2, gp3`},
		{"AWS::IAM::Role", "AssumeRolePolicyDocument", object{"Version": "2012-10-17"}, "AssumeRolePolicyDocument is not an object with a Statement"},
		{"AWS::IAM::Role", "AssumeRolePolicyDocument", statement(object{"Effect": "Permit", "Action": "*"}), `AssumeRolePolicyDocument.Statement[0].Effect is "Permit"; allowed are Allow, Deny`},
		{"AWS::IAM::Role", "AssumeRolePolicyDocument", statement(object{"Effect": "Allow"}), "Statement[0].Action or NotAction is required"},
		{"AWS::IAM::Role", "AssumeRolePolicyDocument", `{"Statement": {"Effect": "Allow", "Action": "*"}}`, ""},
		{"AWS::IAM::Role", "AssumeRolePolicyDocument", `{"Statement": {"Action": "*"}}`, "Statement[0].Effect is required"},
		{"AWS::IAM::Role", "AssumeRolePolicyDocument", "allow all", "is not an object with a Statement"},
		{"AWS::IAM::Role", "Policies", []any{object{"PolicyName": "p", "PolicyDocument": object{}}}, "Policies[0].PolicyDocument is not an object with a Statement"},
		{"AWS::IAM::Role", "Path", "/app", `Path "/app" does not begin and end with /`},
		{"AWS::IAM::InstanceProfile", "Roles", []any{"a", "b"}, "Roles has 2 items; allowed are 1"},
		{"AWS::KMS::Alias", "AliasName", "shop", `AliasName "shop" does not begin with alias/`},
		{"AWS::SQS::Queue", "DelaySeconds", "901", "DelaySeconds is 901; allowed are 0 to 900"},
		{"AWS::SQS::Queue", "DelaySeconds", "soon", "DelaySeconds is soon; allowed are"},
		{"AWS::SQS::Queue", "QueueName", "jobs.fifo", `QueueName "jobs.fifo" ends with .fifo, although FifoQueue is not true`},
		{"AWS::SQS::Queue", "FifoQueue", "true", ""},
		{"AWS::SNS::Subscription", "Protocol", "pigeon", `Protocol is "pigeon"`},
		{"AWS::AutoScaling::AutoScalingGroup", "MinSize", "3", "MaxSize is 2, which is less than MinSize, 3"},
		{"AWS::AutoScaling::AutoScalingGroup", "DesiredCapacity", "many", `DesiredCapacity is "many", which is no whole number`},
		{"AWS::DynamoDB::Table", "AttributeDefinitions", []any{object{"AttributeName": "key", "AttributeType": "S"}}, `KeySchema[0].AttributeName "id" is none of the AttributeDefinitions: key`},
		{"AWS::DynamoDB::Table", "AttributeDefinitions", []any{object{"AttributeName": template.KnownAfterApply}}, ""},
		{"AWS::ECS::TaskDefinition", "ContainerDefinitions", []any{object{"Name": "web"}}, "ContainerDefinitions[0].Image is required and missing"},
		{"AWS::Lambda::Function", "Code", "code.zip", "Code is not an object"},
		{"AWS::Events::Rule", "ScheduleExpression", nil, "ScheduleExpression or EventPattern is required"},
		{"AWS::Events::Rule", "ScheduleExpression", "daily", `"daily" is neither rate(…) nor cron(…)`},
		{"AWS::CloudWatch::Dashboard", "DashboardBody", "{", "DashboardBody is not a JSON object"},
		{"AWS::ElasticLoadBalancingV2::TargetGroup", "Name", "my group", `Name "my group" is not 1 to 32 letters`},
		{"AWS::ElasticLoadBalancingV2::Listener", "DefaultActions", []any{object{"Type": "drop"}}, `DefaultActions[0].Type is "drop"`},
		{"AWS::ElasticLoadBalancing::LoadBalancer", "Listeners", []any{object{"LoadBalancerPort": "0"}}, "Listeners[0].LoadBalancerPort is 0; allowed are 1 to 65535"},
	} {
		r := Resource{Type: test.typ, Stack: "web", LogicalID: "Thing", Properties: modeltest.Properties(test.typ)}
		if r.Properties[test.property] = test.value; test.value == nil {
			delete(r.Properties, test.property)
		}
		err := Types()[test.typ].Check(r, func(string) ([]Resource, error) { return nil, nil })
		if test.want == "" && err != nil || test.want != "" && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s with %s %v: %v, want %q", test.typ, test.property, test.value, err, test.want)
		}
	}
}
