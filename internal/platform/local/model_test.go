package local

import (
	"slices"
	"strings"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/registry"
	"makeitso/internal/stack/stacktest"
)

// modelProperties gives each modelled type what it requires.
func modelProperties(typ string) map[string]any {
	properties := map[string]any{
		"CidrBlock": "10.0.0.0/16", "VpcId": "vpc-1", "RouteTableId": "rtb-1", "SubnetId": "subnet-1",
		"DestinationCidrBlock": "0.0.0.0/0", "AliasName": "alias/shop", "Name": "shop.localhost",
	}
	facts, _ := registry.Type(typ)
	for _, required := range facts.Required {
		if _, given := properties[required]; !given {
			properties[required] = "x"
		}
	}
	return properties
}

func TestModels(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	for typ := range models() {
		t.Run(typ, func(t *testing.T) {
			r := request(typ, strings.ReplaceAll(typ, "::", ""), modelProperties(typ))
			stacktest.Handler(t, handlerOf(t, p, typ), stacktest.Case{Name: "model", Request: r})
			made := create(t, p, r)
			if strings.ContainsAny(made.PhysicalID, "{}") {
				t.Errorf("Ref %q", made.PhysicalID)
			}
			facts, _ := registry.Type(typ)
			for _, name := range facts.ReadOnly {
				// What depends on a clock has no honest value in a model.
				if slices.Contains([]string{"CreateDate", "UpdateDate", "BlockPublicAccessStates"}, name) {
					continue
				}
				if v := made.Attributes[name]; v == nil || v == "" {
					t.Errorf("attribute %s is missing", name)
				}
			}
		})
	}
}

func TestModelsAreWellFormed(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{Account: "111111111111", Region: "eu-west-1"})
	role := create(t, p, request("AWS::IAM::Role", "Role", map[string]any{"Path": "/app/", "AssumeRolePolicyDocument": map[string]any{}}))
	want := "arn:aws:iam::111111111111:role/app/" + role.PhysicalID
	if got := attribute(t, role, "Arn"); got != want || !strings.HasPrefix(role.PhysicalID, "data-Role-") {
		t.Errorf("role %s has the ARN %s; want %s", role.PhysicalID, got, want)
	}
	vpc := create(t, p, request("AWS::EC2::VPC", "Vpc", map[string]any{"CidrBlock": "10.0.0.0/16"}))
	if len(vpc.PhysicalID) != len("vpc-")+17 || attribute(t, vpc, "CidrBlock") != "10.0.0.0/16" {
		t.Errorf("VPC %s %v", vpc.PhysicalID, vpc.Attributes)
	}
	bad := request("AWS::EC2::VPC", "Vpc", map[string]any{"CidrBlock": "10.0.0.0"})
	if err := handlerOf(t, p, bad.Type).Check(t.Context(), bad); err == nil {
		t.Error("10.0.0.0 passed for a network")
	}
}

// TestModelsOutliveTheProcess opens an environment again, and then destroys it
// without one of another name losing anything.
func TestModelsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	records := record.NewMemory()
	p := newPlatform(t, Options{Records: records})
	other, err := New("local-2", p.o)
	if err != nil {
		t.Fatal(err)
	}
	r := request("AWS::EC2::InternetGateway", "Gate", map[string]any{})
	made := create(t, p, r)
	create(t, other, r)
	again, err := New("local", p.o)
	if err != nil {
		t.Fatal(err)
	}
	if read, err := handlerOf(t, again, r.Type).Read(t.Context(), r); err != nil || read.PhysicalID != made.PhysicalID {
		t.Errorf("read %+v, %v; want %s", read, err, made.PhysicalID)
	}
	if err := again.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := handlerOf(t, again, r.Type).Read(t.Context(), r); !fault.Is(err, fault.NotFound) {
		t.Errorf("read after the environment was destroyed: %v, want not_found", err)
	}
	if _, err := handlerOf(t, other, r.Type).Read(t.Context(), r); err != nil {
		t.Errorf("read in the other environment: %v", err)
	}
	if err := other.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
}
