package local

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"makeitso/internal/stack"
)

const publicSite = `
Resources:
  Site:
    Type: AWS::S3::Bucket
    Properties: {BucketName: site, VersioningConfiguration: {Status: Enabled}, WebsiteConfiguration: {IndexDocument: index.html}}
  Open:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref Site
      PolicyDocument:
        Statement:
          - {Effect: Allow, Principal: "*", Action: "s3:GetObject", Resource: "arn:aws:s3:::site/*"}
`

func TestDriftOfABucket(t *testing.T) {
	t.Parallel()
	d := newDrifting(t, publicSite)
	c, err := d.Platform.storeConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, name := c.Client(), aws.String("site")
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	d.WantInSync(stack.ReportDrift)

	must(client.DeleteBucketPolicy(t.Context(), &s3.DeleteBucketPolicyInput{Bucket: name}))
	if drifted := d.Look(stack.ReportDrift); len(drifted) != 1 || drifted["Open"].Status != stack.Deleted {
		t.Errorf("without its policy: %+v", drifted)
	}
	d.WantInSync(stack.RepairDrift)
	must(client.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: name}))

	wider := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::site/*"}]}`
	must(client.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: name, Policy: &wider}))
	d.WantModified("Open", "/PolicyDocument/Statement/0/Action", "s3:GetObject", "s3:*")
	d.WantInSync(stack.RepairDrift)

	must(client.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: name, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusSuspended},
	}))
	d.WantModified("Site", "/VersioningConfiguration/Status", "Enabled", "Suspended")
	d.WantInSync(stack.RepairDrift)

	must(client.DeleteBucketWebsite(t.Context(), &s3.DeleteBucketWebsiteInput{Bucket: name}))
	if drifted := d.Look(stack.ReportDrift); len(drifted) != 1 || drifted["Site"].Status != stack.Modified {
		t.Errorf("without its website: %+v", drifted)
	}
	d.WantInSync(stack.RepairDrift)

	// Gone whole, it is given up, and made anew under its name by the next apply.
	must(client.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: name}))
	if drifted := d.Look(stack.ReportDrift); drifted["Site"].Status != stack.Deleted || drifted["Open"].Status != stack.Deleted {
		t.Errorf("without the bucket: %+v", drifted)
	}
	d.WantInSync(stack.AdoptDrift)
	d.Apply(publicSite)
	d.WantInSync(stack.ReportDrift)
	must(client.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: name}))
}
