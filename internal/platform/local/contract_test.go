package local

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/pace"
	"makeitso/internal/platform/balance"
	"makeitso/internal/platform/beanstalk"
	"makeitso/internal/platform/database/databasetest"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/platform/model/modeltest"
	"makeitso/internal/registry"
	"makeitso/internal/stack/stacktest"
	"makeitso/internal/testneed"
)

// realCases gives each real type its smallest resource, and a change in place
// where the type has one.
func realCases(t *testing.T, p *Platform) map[string]stacktest.Case {
	with := func(properties object, name string, value any) object {
		properties[name] = value
		return properties
	}
	key := machinetest.Create(t, p, machinetest.Request(keyType, "Key", nil))
	files := machinetest.Create(t, p, machinetest.Request("AWS::S3::Bucket", "Origin", nil))
	bundle(t, p, files.PhysicalID, "app.zip", "one")
	bundled := object{"S3Bucket": files.PhysicalID, "S3Key": "app.zip"}
	first := machinetest.Create(t, p, machinetest.Request(beanstalk.VersionType, "First", object{"ApplicationName": "a", "SourceBundle": bundled}))
	balancer := machinetest.Create(t, p, machinetest.Request(balance.LoadBalancerType, "Front", nil))
	targets := machinetest.Create(t, p, machinetest.Request(balance.TargetGroupType, "Targets", object{"Port": "80", "Protocol": "HTTP"}))
	action := object{"Type": "forward", "TargetGroupArn": targets.PhysicalID}
	listener := object{"LoadBalancerArn": balancer.PhysicalID, "Port": "80", "DefaultActions": []any{action}}
	listening := machinetest.Create(t, p, machinetest.Request(balance.ListenerType, "Front80", listener))
	rule := object{"ListenerArn": listening.PhysicalID, "Priority": "1", "Conditions": []any{object{"Field": "path-pattern", "Values": []any{"/a"}}}, "Actions": []any{action}}
	template := machinetest.Create(t, p, machinetest.Request(templateType, "Launch", object{"LaunchTemplateData": object{"ImageId": "sha256:1"}}))
	instances := object{"MinSize": "1", "MaxSize": "1", "LaunchTemplate": object{"LaunchTemplateId": template.PhysicalID, "Version": "1"}}
	group := object{"CacheParameterGroupFamily": "redis7", "Description": "ours"}
	policy := object{"Bucket": files.PhysicalID, "PolicyDocument": object{"Statement": []any{object{
		"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::" + files.PhysicalID + "/*",
	}}}}
	zone := machinetest.Create(t, p, machinetest.Request("AWS::Route53::HostedZone", "Zone", object{"Name": "shop.localhost"})).PhysicalID
	record := func(typ string, value any) object {
		return object{"HostedZoneId": zone, "Name": "a.shop.localhost", "Type": typ, "TTL": "60", "ResourceRecords": []any{value}}
	}
	records := func(value any) object { return object{"HostedZoneId": zone, "RecordSets": []any{record("A", value)}} }
	check := func(threshold any) object {
		return object{"HealthCheckConfig": object{"Type": "TCP", "IPAddress": "127.0.0.1", "Port": 9, "FailureThreshold": threshold}}
	}
	lines := machinetest.Create(t, p, machinetest.Request(logGroupType, "Lines", nil)).PhysicalID
	filter := object{"LogGroupName": lines, "FilterPattern": "ERROR", "MetricTransformations": []any{object{"MetricName": "m", "MetricNamespace": "n", "MetricValue": "1"}}}
	all := map[string]stacktest.Case{}
	for typ, c := range map[string]struct{ properties, update, invalid object }{
		"AWS::ElastiCache::CacheCluster": {databasetest.Cluster(), with(databasetest.Cluster(), "CacheNodeType", "cache.m7g.large"), with(databasetest.Cluster(), "Engine", "memcached")},
		"AWS::ElastiCache::ParameterGroup": {
			group, object{"CacheParameterGroupFamily": "redis7", "Description": "theirs"}, object{"Description": "ours"},
		},
		"AWS::ElastiCache::ReplicationGroup": {databasetest.Group(), with(databasetest.Group(), "NumCacheClusters", "3"), with(databasetest.Group(), "NumNodeGroups", "2")},
		"AWS::RDS::DBParameterGroup": {
			object{"Family": "postgres15", "Description": "ours", "Parameters": object{"work_mem": "8MB"}},
			object{"Family": "postgres15", "Description": "ours", "Parameters": object{"work_mem": "9MB"}}, object{"Description": "ours"},
		},
		"AWS::RDS::DBInstance":          {databasetest.Instance(), with(databasetest.Instance(), "MasterUserPassword", "another secret"), with(databasetest.Instance(), "MasterUsername", "1st")},
		"AWS::S3::Bucket":               {object{"BucketName": "shop-files"}, object{"BucketName": "shop-files", "VersioningConfiguration": object{"Status": "Enabled"}}, object{"BucketName": "Shop_Files"}},
		"AWS::S3::BucketPolicy":         {policy, nil, object{"Bucket": files.PhysicalID}},
		repositoryType:                  {object{"RepositoryName": "shop/web"}, object{"RepositoryName": "shop/web", "ImageTagMutability": "IMMUTABLE"}, object{"RepositoryName": "Shop"}},
		"AWS::CloudFront::Distribution": {distributionProperties(files.Attributes["DomainName"], "www.shop.localhost"), distributionProperties(files.Attributes["DomainName"], "shop.localhost"), object{"DistributionConfig": "x"}},
		"AWS::CloudFront::OriginAccessControl": {
			object{"OriginAccessControlConfig": object{"Name": "a"}}, object{"OriginAccessControlConfig": object{"Name": "b"}}, object{"OriginAccessControlConfig": "x"},
		},
		"AWS::CloudFront::CloudFrontOriginAccessIdentity": {
			object{"CloudFrontOriginAccessIdentityConfig": object{"Comment": "a"}}, object{"CloudFrontOriginAccessIdentityConfig": object{"Comment": "b"}}, object{},
		},
		"AWS::Route53::HostedZone":     {object{"Name": "example.com"}, object{"Name": "example.com", "HostedZoneConfig": object{"Comment": "ours"}}, object{"Name": "a..b"}},
		"AWS::Route53::RecordSet":      {record("A", "127.0.0.1"), record("A", "127.0.0.2"), record("B", "127.0.0.1")},
		"AWS::Route53::RecordSetGroup": {records("127.0.0.1"), records("127.0.0.2"), records("x")},
		"AWS::Route53::HealthCheck":    {check(1), check("2"), check(11)},
		"AWS::Logs::LogGroup":          {object{"LogGroupName": "/shop/api"}, object{"LogGroupName": "/shop/api", "RetentionInDays": "7"}, object{"LogGroupName": "/shop/api", "RetentionInDays": "2"}},
		"AWS::Logs::LogStream":         {object{"LogGroupName": lines, "LogStreamName": "a/b"}, nil, object{"LogGroupName": lines, "LogStreamName": "a:b"}},
		"AWS::Logs::MetricFilter":      {filter, with(maps.Clone(filter), "FilterPattern", "[a, b=1]"), with(maps.Clone(filter), "FilterPattern", "[a")},
		"AWS::CloudTrail::Trail": {
			object{"S3BucketName": files.PhysicalID, "IsLogging": "true"}, object{"S3BucketName": files.PhysicalID, "IsLogging": "false"},
			object{"S3BucketName": files.PhysicalID, "IsLogging": "perhaps"},
		},
		alarmType:     {object{"EvaluationPeriods": "2", "ComparisonOperator": "GreaterThanThreshold"}, object{"EvaluationPeriods": "3", "ComparisonOperator": "GreaterThanThreshold"}, object{"EvaluationPeriods": "2", "Period": "45"}},
		compositeType: {object{"AlarmRule": "ALARM(a)"}, object{"AlarmRule": "OK(a)"}, object{"AlarmRule": "ALARM(a"}},

		keyType:       {object{"Description": "ours"}, object{"Description": "theirs"}, object{"KeyPolicy": "x"}},
		keyAliasType:  {object{"AliasName": "alias/contract", "TargetKeyId": key.PhysicalID}, nil, object{"AliasName": "alias/contract", "TargetKeyId": "none"}},
		secretType:    {object{"Name": "contract", "GenerateSecretString": object{}}, object{"Name": "contract", "SecretString": "open sesame"}, object{"GenerateSecretString": object{"PasswordLength": 0}}},
		parameterType: {object{"Name": "/contract", "Type": "String", "Value": "1"}, object{"Name": "/contract", "Type": "String", "Value": "2"}, object{"Type": "String", "Value": "x", "AllowedPattern": "^[0-9]+$"}},

		balance.LoadBalancerType:  {object{"Name": "contract"}, object{"Name": "contract", "SecurityGroups": []any{"sg-1"}}, object{"Type": "moon"}},
		balance.TargetGroupType:   {object{"Port": "80", "Protocol": "HTTP"}, object{"Port": "80", "Protocol": "HTTP", "HealthCheckPath": "/well"}, object{"TargetType": "ip", "Targets": []any{object{"Id": "10.0.0.1"}}}},
		balance.ListenerType:      {listener, with(maps.Clone(listener), "Port", "81"), with(maps.Clone(listener), "Port", "x")},
		balance.RuleType:          {rule, with(maps.Clone(rule), "Priority", "2"), with(maps.Clone(rule), "Conditions", []any{object{"Field": "moon"}})},
		templateType:              {object{"LaunchTemplateData": object{"ImageId": "sha256:1"}}, object{"LaunchTemplateData": object{"ImageId": "sha256:1", "KeyName": "a"}}, object{"LaunchTemplateData": "x"}},
		configurationType:         {object{"ImageId": "sha256:1", "InstanceType": "t3.micro"}, nil, object{"ImageId": "sha256:1"}},
		beanstalk.ApplicationType: {object{"Description": "ours"}, object{"Description": "theirs"}, nil},
		beanstalk.TemplateType:    {object{"ApplicationName": "a"}, object{"ApplicationName": "a", "Description": "b"}, object{}},
		beanstalk.VersionType:     {object{"ApplicationName": "a", "SourceBundle": bundled}, object{"ApplicationName": "a", "SourceBundle": bundled, "Description": "b"}, object{"ApplicationName": "a"}},
		beanstalk.EnvironmentType: {object{"ApplicationName": "a", "VersionLabel": first.PhysicalID}, object{"ApplicationName": "a", "VersionLabel": first.PhysicalID, "Description": "b"}, object{"ApplicationName": "a", "OptionSettings": []any{option("aws:autoscaling:asg", "MinSize", "x")}}},
		pace.GroupType:            {instances, with(maps.Clone(instances), "MaxSize", "2"), with(maps.Clone(instances), "MinSize", "2")},

		"AWS::CloudFormation::WaitConditionHandle": {},
		"AWS::CloudFormation::WaitCondition":       {},
	} {
		all[typ] = stacktest.Case{Request: machinetest.Request(typ, "Contract", c.properties), Update: c.update, Invalid: c.invalid}
	}
	return all
}

// TestEveryTypeKeepsTheContract runs the suite over all types of the platform.
func TestEveryTypeKeepsTheContract(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", "apt-get install redis-server")
	testneed.Postgres(t)
	unpacked := 0
	p := newPlatform(t, Options{Unpack: unpackProgram(&unpacked)})
	cases := realCases(t, p)
	for _, typ := range p.Types() {
		c, real := cases[typ.Name]
		if !real && typ.Level == changeset.Real {
			t.Errorf("%s is real and has no case", typ.Name)
		}
		if real && typ.Level == changeset.Modelled {
			t.Errorf("%s is real and a model hides it: take it out of the table", typ.Name)
		}
		if typ.Level == changeset.Modelled {
			c = modelledCase(typ.Name)
		}
		c.Name = typ.Name
		stacktest.Handler(t, machinetest.Handler(t, p, typ.Name), c)
	}
}

// modelledCase gives a modelled type its smallest resource. What changes in it
// is its tags, or a description: any type takes what the registry does not know.
func modelledCase(typ string) stacktest.Case {
	r := machinetest.Request(typ, "Contract", modeltest.Properties(typ))
	update := modeltest.Properties(typ)
	update["Note"] = "another"
	c := stacktest.Case{Request: r, Update: update}
	facts, _ := registry.Type(typ)
	if len(facts.Required) > 0 {
		c.Invalid = modeltest.Properties(typ)
		delete(c.Invalid, facts.Required[0])
	}
	return c
}

// TestTypes says which types there are: those of the list are real or modelled,
// or made by other parts of makeitso.
func TestTypes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/types.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	p := newPlatform(t, Options{})
	for _, typ := range p.Types() {
		got = append(got, typ.Name)
	}
	got = append(got, "AWS::CloudFormation::Stack", "AWS::CloudFormation::CustomResource")
	slices.Sort(got)
	if want := strings.Fields(string(text)); !slices.Equal(got, want) {
		t.Errorf("the types are\n%s\nwant\n%s", strings.Join(got, "\n"), text)
	}
}
