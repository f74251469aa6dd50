package local

import (
	"context"
	"io"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/objectserver"
)

// Bucket gives the content of a bucket of this environment by its name.
func (p *Platform) Bucket(name string) (*objectserver.Bucket, error) {
	all, err := p.Complete("AWS::S3::Bucket")
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(all, func(r *machine.Resource) bool { return r.PhysicalID == name }) {
		return nil, fault.New(fault.NotFound, "environment %s has no bucket %s", p.Env, name).
			WithHint("see what its stacks made: makeitso outputs")
	}
	c, err := p.storeConfig()
	if err != nil {
		return nil, err
	}
	return c.Bucket(name), nil
}

// object reads what a bucket holds, fault.NotFound before the first bucket.
func (p *Platform) object(ctx context.Context, bucket, key string) (io.ReadCloser, error) {
	c, err := p.storeConfig()
	if err != nil {
		return nil, err
	}
	found, err := c.Client().GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return nil, err
	}
	return found.Body, nil
}
