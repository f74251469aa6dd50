package local

import (
	"strings"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/record"
)

func TestModelsAreWellFormed(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{Account: "111111111111", Region: "eu-west-1"})
	role := create(t, p, request("AWS::IAM::Role", "Role", map[string]any{"Path": "/app/", "AssumeRolePolicyDocument": map[string]any{"Statement": []any{}}}))
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
