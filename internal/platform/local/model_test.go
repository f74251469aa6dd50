package local

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/record"
	"makeitso/internal/stack"
)

func TestModelsAreWellFormed(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{Options: machine.Options{Account: "111111111111", Region: "eu-west-1"}})
	role := machinetest.Create(t, p, machinetest.Request("AWS::IAM::Role", "Role", map[string]any{"Path": "/app/", "AssumeRolePolicyDocument": map[string]any{"Statement": []any{}}}))
	want := "arn:aws:iam::111111111111:role/app/" + role.PhysicalID
	if got := machinetest.Attribute(t, role, "Arn"); got != want || !strings.HasPrefix(role.PhysicalID, "data-Role-") {
		t.Errorf("role %s has the ARN %s; want %s", role.PhysicalID, got, want)
	}
	vpc := machinetest.Create(t, p, machinetest.Request("AWS::EC2::VPC", "Vpc", map[string]any{"CidrBlock": "10.0.0.0/16"}))
	if len(vpc.PhysicalID) != len("vpc-")+17 || machinetest.Attribute(t, vpc, "CidrBlock") != "10.0.0.0/16" {
		t.Errorf("VPC %s %v", vpc.PhysicalID, vpc.Attributes)
	}
	bad := machinetest.Request("AWS::EC2::VPC", "Vpc", map[string]any{"CidrBlock": "10.0.0.0"})
	if err := machinetest.Handler(t, p, bad.Type).Check(t.Context(), bad); err == nil {
		t.Error("10.0.0.0 passed for a network")
	}
}

// TestModelsOutliveTheProcess opens an environment again, and then destroys it
// without one of another name losing anything.
func TestModelsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	records := record.NewMemory()
	p := newPlatform(t, Options{Options: machine.Options{Records: records}})
	other, err := New("local-2", p.o)
	if err != nil {
		t.Fatal(err)
	}
	r := machinetest.Request("AWS::EC2::InternetGateway", "Gate", map[string]any{})
	made := machinetest.Create(t, p, r)
	machinetest.Create(t, other, r)
	again, err := New("local", p.o)
	if err != nil {
		t.Fatal(err)
	}
	if read, err := machinetest.Handler(t, again, r.Type).Read(t.Context(), r); err != nil || read.PhysicalID != made.PhysicalID {
		t.Errorf("read %+v, %v; want %s", read, err, made.PhysicalID)
	}
	if err := again.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := machinetest.Handler(t, again, r.Type).Read(t.Context(), r); !fault.Is(err, fault.NotFound) {
		t.Errorf("read after the environment was destroyed: %v, want not_found", err)
	}
	if _, err := machinetest.Handler(t, other, r.Type).Read(t.Context(), r); err != nil {
		t.Errorf("read in the other environment: %v", err)
	}
	if err := other.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestNamesBelongToOne looks at names that templates give.
func TestNamesBelongToOne(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	queue := func(id, name string) stack.Request {
		return machinetest.Request("AWS::SQS::Queue", id, map[string]any{"QueueName": name})
	}
	h := machinetest.Handler(t, p, "AWS::SQS::Queue")
	first := queue("First", "jobs")
	made := machinetest.Create(t, p, first)
	const exists = "Resource of type 'AWS::SQS::Queue' with identifier 'https://sqs.us-east-1.amazonaws.com/000000000000/jobs' already exists."
	second := queue("Second", "jobs")
	_, err := h.Create(t.Context(), second)
	planned := second
	planned.Token = ""
	for what, err := range map[string]error{"check": h.Check(t.Context(), second), "create": err, "plan": h.Check(t.Context(), planned)} {
		if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), exists) || !strings.Contains(fault.HintOf(err), "it is data/First") {
			t.Errorf("%s of a second queue: %v (%s)", what, err, fault.HintOf(err))
		}
	}
	if _, err := h.Read(t.Context(), second); !fault.Is(err, fault.NotFound) {
		t.Errorf("the second queue was kept: %v", err)
	}

	again := first
	again.Token, again.PhysicalID = "", made.PhysicalID
	if err := h.Check(t.Context(), again); err != nil {
		t.Errorf("planned again: %v", err)
	}
	again.Properties = map[string]any{"QueueName": "jobs.fifo", "FifoQueue": "true"}
	if err := h.Check(t.Context(), again); err != nil {
		t.Errorf("replaced with another name: %v", err)
	}
	group := machinetest.Request("AWS::EC2::SecurityGroup", "Group", map[string]any{"GroupName": "web", "VpcId": "vpc-1", "GroupDescription": "a"})
	group.PhysicalID = machinetest.Create(t, p, group).PhysicalID
	group.Token, group.Properties = "", map[string]any{"GroupName": "web", "VpcId": "vpc-1", "GroupDescription": "b"}
	const rename = "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename web|vpc-1 and update the stack again."
	if err := machinetest.Handler(t, p, group.Type).Check(t.Context(), group); !fault.Is(err, fault.Invalid) || err.Error() != rename {
		t.Errorf("replaced with the same name: %v", err)
	}

	if err := h.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	machinetest.Create(t, p, second) // the name is free
	if err := h.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Create(t.Context(), first); !fault.Is(err, fault.Conflict) {
		t.Errorf("a delete of what is gone freed the name of another: %v", err)
	}
	other, err := New("local-2", p.o)
	if err != nil {
		t.Fatal(err)
	}
	machinetest.Create(t, other, first)
	if err := other.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	machinetest.Create(t, other, second)
	if err := other.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestNamesAndNumbersAtOnce has many resources want one name, and numbers of
// one series.
func TestNamesAndNumbersAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	const many = 8
	var named, numbered [many]error
	var ids [many]string
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			r := machinetest.Request("AWS::IAM::Role", fmt.Sprint("R", i), map[string]any{"RoleName": "deploy"})
			_, named[i] = machinetest.Handler(t, p, r.Type).Create(t.Context(), r)
			v := machinetest.Request("AWS::Lambda::Version", fmt.Sprint("V", i), map[string]any{"FunctionName": "shop"})
			var made stack.Result
			made, numbered[i] = machinetest.Handler(t, p, v.Type).Create(t.Context(), v)
			ids[i] = made.PhysicalID
		})
	}
	all.Wait()
	succeeded := 0
	for i := range many {
		if named[i] == nil {
			succeeded++
		} else if !fault.Is(named[i], fault.Conflict) {
			t.Errorf("a role: %v", named[i])
		}
		if numbered[i] != nil {
			t.Errorf("a version: %v", numbered[i])
		}
	}
	slices.Sort(ids[:])
	if succeeded != 1 || len(slices.Compact(ids[:])) != many || ids[many-1] != fmt.Sprint("arn:aws:lambda:us-east-1:000000000000:function:shop:", many) {
		t.Errorf("%d roles were made, and the versions %v", succeeded, ids)
	}
	last := machinetest.Request("AWS::Lambda::Version", fmt.Sprint("V", many), map[string]any{"FunctionName": "shop"})
	for n := range 2 { // a number is never used again
		made := machinetest.Create(t, p, last)
		if want := fmt.Sprint(many + 1 + n); made.Attributes["Version"] != want {
			t.Errorf("the next version is %v, want %s", made.Attributes["Version"], want)
		}
		if err := machinetest.Handler(t, p, last.Type).Delete(t.Context(), last); err != nil {
			t.Fatal(err)
		}
	}
}

// TestModelsFollowChanges looks at what a change does to a resource.
func TestModelsFollowChanges(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	type properties = map[string]any
	r := machinetest.Request("AWS::EC2::LaunchTemplate", "Template", properties{"LaunchTemplateData": properties{"ImageId": "ami-1"}})
	made := machinetest.Create(t, p, r)
	h := machinetest.Handler(t, p, r.Type)
	for _, want := range []struct{ image, version string }{{"ami-1", "1"}, {"ami-2", "2"}, {"ami-2", "2"}, {"ami-3", "3"}} {
		r.Properties = properties{"LaunchTemplateData": properties{"ImageId": want.image}}
		got, err := h.Update(t.Context(), r)
		if err != nil || got.PhysicalID != made.PhysicalID || got.Attributes["LatestVersionNumber"] != want.version {
			t.Errorf("with %s: %+v, %v; want version %s", want.image, got, err, want.version)
		}
	}
	vpc := machinetest.Request("AWS::EC2::VPC", "Vpc", properties{"CidrBlock": "10.0.0.0/16", "InstanceTenancy": "dedicated"})
	machinetest.Create(t, p, vpc)
	for _, step := range []struct {
		tenancy string
		code    fault.Code
	}{{"default", ""}, {"dedicated", fault.Unsupported}} {
		vpc.Properties = properties{"CidrBlock": "10.0.0.0/16", "InstanceTenancy": step.tenancy}
		if _, err := machinetest.Handler(t, p, vpc.Type).Update(t.Context(), vpc); fault.CodeOf(err) != step.code {
			t.Errorf("tenancy %s: %v, want %q", step.tenancy, err, step.code)
		}
	}
}

// TestSubnetsLieInTheirVPC looks at networks that belong together.
func TestSubnetsLieInTheirVPC(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	vpc := machinetest.Create(t, p, machinetest.Request("AWS::EC2::VPC", "Vpc", map[string]any{"CidrBlock": "10.0.0.0/16"}))
	subnet := func(id, network string) stack.Request {
		return machinetest.Request("AWS::EC2::Subnet", id, map[string]any{"VpcId": vpc.PhysicalID, "CidrBlock": network})
	}
	first := subnet("A", "10.0.1.0/24")
	machinetest.Create(t, p, first)
	h := machinetest.Handler(t, p, first.Type)
	for network, want := range map[string]string{
		"10.0.2.0/24": "", "10.1.0.0/24": "lies outside of 10.0.0.0/16", "10.0.1.128/25": "overlaps with 10.0.1.0/24 of data/A",
	} {
		err := h.Check(t.Context(), subnet("B", network))
		if want == "" && err != nil || want != "" && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", network, err, want)
		}
	}
	if err := h.Check(t.Context(), first); err != nil {
		t.Errorf("looked at again: %v", err)
	}
}

// TestRealNamesBelongToOne looks at names of what software runs for, and at one
// whose resource is gone without having given it up.
func TestRealNamesBelongToOne(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	for typ, properties := range map[string]map[string]any{
		"AWS::S3::Bucket":                  {"BucketName": "shop-files"},
		"AWS::Logs::LogGroup":              {"LogGroupName": "/shop/api"},
		"AWS::ElastiCache::ParameterGroup": {"CacheParameterGroupName": "Ours", "CacheParameterGroupFamily": "redis7", "Description": "ours"},
	} {
		id := typ[strings.LastIndex(typ, ":")+1:]
		first, second := machinetest.Request(typ, "First"+id, properties), machinetest.Request(typ, "Second"+id, properties)
		h := machinetest.Handler(t, p, typ)
		machinetest.Create(t, p, first)
		_, err := h.Create(t.Context(), second)
		for what, err := range map[string]error{"create": err, "check": h.Check(t.Context(), second)} {
			if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "already exists.") {
				t.Errorf("%s of a second %s: %v", what, typ, err)
			}
		}
		for _, r := range []stack.Request{second, first} { // what a roll back does comes first
			if err := h.Delete(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		machinetest.Create(t, p, second)
		if err := os.RemoveAll(p.Folder(machine.Requested(second))); err != nil {
			t.Fatal(err)
		}
		machinetest.Create(t, p, first)
	}
}
