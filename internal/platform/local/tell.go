package local

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/objectserver"
)

// Tell gives a bucket's versioning, website and public access as the S3 server
// has them.
func (h bucket) Tell(ctx context.Context, r *machine.Resource) (map[string]any, error) {
	c, err := h.p.storeConfig()
	if err != nil {
		return nil, err
	}
	client := c.Client()
	if _, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &r.PhysicalID}); err != nil {
		return nil, notThere(err, r.PhysicalID)
	}
	told := maps.Clone(r.Properties)
	if wanted := machine.TextIn(told["VersioningConfiguration"], "Status"); wanted != "" {
		is, err := client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &r.PhysicalID})
		if err != nil {
			return nil, notThere(err, r.PhysicalID)
		}
		if is.Status != "" || wanted != string(types.BucketVersioningStatusSuspended) { // never switched on is off
			told["VersioningConfiguration"] = map[string]any{"Status": string(is.Status)}
		}
	}
	if err := tellWebsite(ctx, client, r, told); err != nil {
		return nil, err
	}
	if err := tellCORS(ctx, client, r, told); err != nil {
		return nil, err
	}
	if granted := publicAccess(r); len(granted) > 0 {
		is, err := bucketStatements(ctx, client, r.PhysicalID)
		if err != nil {
			return nil, err
		}
		if len(without(granted, is)) > 0 {
			told["AccessControl"] = "Private"
		}
	}
	return told, nil
}

// tellWebsite sets the website among what is told, if one was declared.
func tellWebsite(ctx context.Context, client *s3.Client, r *machine.Resource, told map[string]any) error {
	declared, ok := told["WebsiteConfiguration"].(map[string]any)
	if !ok {
		return nil
	}
	is, err := client.GetBucketWebsite(ctx, &s3.GetBucketWebsiteInput{Bucket: &r.PhysicalID})
	if objectserver.Code(err) == "NoSuchWebsiteConfiguration" {
		delete(told, "WebsiteConfiguration")
		return nil
	}
	if err != nil {
		return notThere(err, r.PhysicalID)
	}
	told["WebsiteConfiguration"] = toldWebsite(declared, is)
	return nil
}

// Tell gives a bucket policy with the public statements that are in force in
// place of those declared: the others have no effect on this machine.
func (h bucketPolicy) Tell(ctx context.Context, r *machine.Resource) (map[string]any, error) {
	on, err := h.bucket(r)
	if fault.Is(err, fault.Invalid) {
		return nil, fault.Wrap(fault.NotFound, err, "the bucket of the policy is gone")
	}
	if err == nil {
		err = h.p.storeAlive()
	}
	if err != nil {
		return nil, err
	}
	c, err := h.p.storeConfig()
	if err != nil {
		return nil, err
	}
	inForce, err := bucketStatements(ctx, c.Client(), on.PhysicalID)
	if err != nil {
		return nil, err
	}
	policies, err := h.p.Complete(r.Type)
	if err != nil {
		return nil, err
	}
	others := publicAccess(on)
	for _, policy := range policies {
		if policy.PhysicalID == on.PhysicalID && policy.Token != r.Token {
			others = append(others, publicStatements(policy)...)
		}
	}
	public := publicStatements(r)
	missing, more := without(public, inForce), without(inForce, slices.Concat(public, others))
	if len(missing)+len(more) == 0 {
		return r.Properties, nil
	}
	if len(missing) == len(public) && len(more) == 0 {
		return nil, fault.New(fault.NotFound, "bucket %s has no such policy", on.PhysicalID)
	}
	declared, _ := r.Properties["PolicyDocument"].(map[string]any)
	document := maps.Clone(declared)
	document["Statement"] = append(without(statementsOf(declared), missing), more...)
	told := maps.Clone(r.Properties)
	told["PolicyDocument"] = document
	return told, nil
}

// bucketStatements gives the statements of the policy that a bucket has.
func bucketStatements(ctx context.Context, client *s3.Client, bucket string) ([]any, error) {
	is, err := client.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: &bucket})
	if objectserver.Code(err) == "NoSuchBucketPolicy" {
		return nil, nil
	}
	if err != nil {
		return nil, notThere(err, bucket)
	}
	var document map[string]any
	if err := json.Unmarshal([]byte(aws.ToString(is.Policy)), &document); err != nil {
		return nil, fmt.Errorf("read the policy of bucket %s: %w", bucket, err)
	}
	return statementsOf(document), nil
}

// without gives the statements of all that are not among some.
func without(all, some []any) []any {
	written := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(text)
	}
	var left []any
	for _, v := range all {
		if !slices.ContainsFunc(some, func(other any) bool { return written(other) == written(v) }) {
			left = append(left, v)
		}
	}
	return left
}

// notThere says of a failure whether the bucket is gone.
func notThere(err error, bucket string) error {
	if code := objectserver.Code(err); code == "NotFound" || code == "NoSuchBucket" {
		return fault.Wrap(fault.NotFound, err, "the S3 server has no bucket %s", bucket)
	}
	return fault.Wrap(fault.Unavailable, err, "ask the S3 server for bucket %s", bucket)
}
