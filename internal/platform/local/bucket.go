package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
	"makeitso/internal/platform/objectserver"
)

// bucket makes AWS::S3::Bucket.
type bucket struct{ p *Platform }

var validBucket = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func (h bucket) Check(_ context.Context, r *machine.Resource) error {
	name := r.Text("BucketName")
	if name != "" && !model.Unknown(name) && !validBucket.MatchString(name) {
		return r.Invalid("BucketName", "%q is not 3 to 63 small letters, digits, '.' and '-'", name)
	}
	return nil
}

func (h bucket) Named(r *machine.Resource) string { return r.Text("BucketName") }

func (h bucket) Make(ctx context.Context, r *machine.Resource) error {
	c, err := h.p.runStore(ctx)
	if err != nil {
		return err
	}
	name := r.Text("BucketName")
	if name == "" {
		name = strings.ToLower(r.GeneratedName(63))
	}
	client := c.Client()
	_, err = client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name})
	var mine *types.BucketAlreadyOwnedByYou
	if err != nil && !errors.As(err, &mine) {
		return fault.Wrap(fault.Failed, err, "create bucket %s", name)
	}
	r.PhysicalID = name
	if err := h.configure(ctx, client, r); err != nil {
		return err
	}
	if err := h.tag(ctx, client, r); err != nil {
		return err
	}
	if err := h.p.applyPolicy(ctx, r, nil); err != nil {
		return err
	}
	domain := fmt.Sprintf("%s.%s:%d", name, objectserver.Domain, c.Port)
	r.Attributes = map[string]any{
		"Arn":                 "arn:aws:s3:::" + name,
		"DomainName":          domain,
		"RegionalDomainName":  domain,
		"DualStackDomainName": domain,
		"WebsiteURL":          fmt.Sprintf("http://%s.%s:%d", name, objectserver.WebsiteDomain, c.WebsitePort),
	}
	return nil
}

// tag gives a bucket its own tags and those of its stack. The service's, which
// begin with "aws:", no client may set.
func (h bucket) tag(ctx context.Context, client *s3.Client, r *machine.Resource) error {
	tags := maps.Clone(r.Tags)
	maps.DeleteFunc(tags, func(key, _ string) bool { return strings.HasPrefix(key, "aws:") })
	if tags == nil {
		tags = map[string]string{}
	}
	own, _ := r.Properties["Tags"].([]any)
	for _, item := range own {
		tags[machine.TextIn(item, "Key")] = machine.TextIn(item, "Value")
	}
	var err error
	if len(tags) == 0 {
		_, err = client.DeleteBucketTagging(ctx, &s3.DeleteBucketTaggingInput{Bucket: &r.PhysicalID})
	} else {
		set := &types.Tagging{}
		for _, key := range slices.Sorted(maps.Keys(tags)) {
			set.TagSet = append(set.TagSet, types.Tag{Key: &key, Value: aws.String(tags[key])})
		}
		_, err = client.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{Bucket: &r.PhysicalID, Tagging: set})
	}
	if err != nil {
		return fault.Wrap(fault.Failed, err, "tag bucket %s", r.PhysicalID)
	}
	return nil
}

// configure puts versioning, origins and the website in force; what else a bucket can
// declare is kept and has no effect on this machine.
func (h bucket) configure(ctx context.Context, client *s3.Client, r *machine.Resource) error {
	status := types.BucketVersioningStatus(machine.TextIn(r.Properties["VersioningConfiguration"], "Status"))
	if status != "" {
		_, err := client.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
			Bucket: &r.PhysicalID, VersioningConfiguration: &types.VersioningConfiguration{Status: status},
		})
		if err != nil {
			return fault.Wrap(fault.Failed, err, "set the versioning of bucket %s", r.PhysicalID)
		}
	}
	if err := h.shareOrigins(ctx, client, r); err != nil {
		return err
	}
	website, declared := r.Properties["WebsiteConfiguration"]
	if !declared {
		_, err := client.DeleteBucketWebsite(ctx, &s3.DeleteBucketWebsiteInput{Bucket: &r.PhysicalID})
		if err != nil {
			return fault.Wrap(fault.Failed, err, "take the website of bucket %s away", r.PhysicalID)
		}
		return nil
	}
	_, err := client.PutBucketWebsite(ctx, &s3.PutBucketWebsiteInput{Bucket: &r.PhysicalID, WebsiteConfiguration: websiteOf(website)})
	if err != nil {
		return fault.Wrap(fault.Failed, err, "set the website of bucket %s", r.PhysicalID)
	}
	return nil
}

func (h bucket) Read(_ context.Context, _ *machine.Resource) error { return h.p.storeAlive() }

func (h bucket) Remove(ctx context.Context, r *machine.Resource) error {
	if r.PhysicalID == "" {
		// It was never created under a name that is written down, but may
		// have been under the one it would have got.
		r.PhysicalID = r.Text("BucketName")
		if r.PhysicalID == "" {
			r.PhysicalID = strings.ToLower(r.GeneratedName(63))
		}
		_, err := h.p.NameOps(ctx, r, []string{r.PhysicalID})
		if fault.Is(err, fault.Conflict) { // it is another's
			return nil
		}
		if err != nil {
			return err
		}
	}
	if _, err := h.p.storeConfig(); fault.Is(err, fault.NotFound) {
		return nil
	}
	c, err := h.p.runStore(ctx)
	if err != nil {
		return err
	}
	_, err = c.Client().DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &r.PhysicalID})
	switch code := objectserver.Code(err); {
	case code == "BucketNotEmpty" || code == "VersionedBucketNotEmpty":
		return fault.New(fault.Conflict, "bucket %s of %s is not empty", r.PhysicalID, r.Name()).
			WithHint("empty it first, or remove the whole environment with everything in it: makeitso destroy")
	case err != nil && code != "NoSuchBucket":
		return fault.Wrap(fault.Failed, err, "delete bucket %s", r.PhysicalID)
	}
	h.p.buckets.Lock()
	defer h.p.buckets.Unlock()
	return h.p.StopAfterLast(ctx, r, storeProcess)
}

// bucketPolicy makes AWS::S3::BucketPolicy.
type bucketPolicy struct{ p *Platform }

func (h bucketPolicy) Check(_ context.Context, r *machine.Resource) error {
	if model.Unknown(r.Properties["PolicyDocument"]) {
		return nil
	}
	if _, isObject := r.Properties["PolicyDocument"].(map[string]any); !isObject {
		return r.Invalid("PolicyDocument", "is not a policy document")
	}
	return nil
}

func (h bucketPolicy) Make(ctx context.Context, r *machine.Resource) error {
	on, err := h.bucket(r)
	if err != nil {
		return err
	}
	r.PhysicalID, r.Attributes = on.PhysicalID, map[string]any{}
	return h.p.applyPolicy(ctx, on, r)
}

// bucket finds the bucket that a policy is about.
func (h bucketPolicy) bucket(r *machine.Resource) (*machine.Resource, error) {
	all, err := h.p.Complete("AWS::S3::Bucket")
	if err != nil {
		return nil, err
	}
	for _, b := range all {
		if b.PhysicalID == r.Text("Bucket") {
			return b, nil
		}
	}
	return nil, r.Invalid("Bucket", "%q is no bucket of environment %s", r.Text("Bucket"), h.p.Env)
}

func (h bucketPolicy) Read(context.Context, *machine.Resource) error { return nil }

func (h bucketPolicy) Remove(ctx context.Context, r *machine.Resource) error {
	on, err := h.bucket(r)
	if fault.Is(err, fault.Invalid) {
		return nil // the bucket is gone, and its policy with it
	}
	if err != nil {
		return err
	}
	gone := *r
	gone.Properties = nil
	return h.p.applyPolicy(ctx, on, &gone)
}

// applyPolicy gives a bucket the policy that its own access control and its
// policy resource make together; changed takes the place of the one written
// down with its token.
func (p *Platform) applyPolicy(ctx context.Context, on, changed *machine.Resource) error {
	c, err := p.runStore(ctx)
	if err != nil {
		return err
	}
	policies, err := p.Complete("AWS::S3::BucketPolicy")
	if err != nil {
		return err
	}
	statements := publicAccess(on)
	if changed != nil {
		statements = append(statements, publicStatements(changed)...)
	}
	for _, policy := range policies {
		if policy.PhysicalID == on.PhysicalID && (changed == nil || policy.Token != changed.Token) {
			statements = append(statements, publicStatements(policy)...)
		}
	}
	client := c.Client()
	if len(statements) == 0 {
		_, err = client.DeleteBucketPolicy(ctx, &s3.DeleteBucketPolicyInput{Bucket: &on.PhysicalID})
	} else {
		document, encodeErr := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
		if encodeErr != nil {
			return fmt.Errorf("encode the policy of bucket %s: %w", on.PhysicalID, encodeErr)
		}
		_, err = client.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: &on.PhysicalID, Policy: aws.String(string(document))})
	}
	if err != nil {
		return fault.Wrap(fault.Failed, err, "set the policy of bucket %s", on.PhysicalID)
	}
	return nil
}

// publicAccess is the policy that stands for the canned access control of a
// bucket.
func publicAccess(r *machine.Resource) []any {
	if r.Text("AccessControl") != "PublicRead" {
		return nil
	}
	return []any{map[string]any{
		"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::" + r.PhysicalID + "/*",
	}}
}

// publicStatements gives the statements of a policy that are about everybody
// and hold without a condition. The others name principals of AWS, of which
// there is only one here: this environment, which may do all. The edge reads
// with its keys, as CloudFront would by such a statement.
func publicStatements(r *machine.Resource) []any {
	document, _ := r.Properties["PolicyDocument"].(map[string]any)
	var public []any
	for _, s := range statementsOf(document) {
		statement, isObject := s.(map[string]any)
		if !isObject || statement["Condition"] != nil {
			continue
		}
		principal := statement["Principal"]
		if principal == "*" || fmt.Sprint(principal) == "map[AWS:*]" || fmt.Sprint(principal) == "map[AWS:[*]]" {
			public = append(public, s)
		}
	}
	return public
}

// statementsOf gives the statements of a policy, which may be one without a list.
func statementsOf(document map[string]any) []any {
	statements, isList := document["Statement"].([]any)
	if !isList && document["Statement"] != nil {
		return []any{document["Statement"]}
	}
	return statements
}
