package local

import (
	"slices"

	"makeitso/internal/fault"
	"makeitso/internal/platform/objectserver"
)

// Bucket gives the content of a bucket of this environment by its name.
func (p *Platform) Bucket(name string) (*objectserver.Bucket, error) {
	all, err := p.complete("AWS::S3::Bucket")
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(all, func(r *resource) bool { return r.PhysicalID == name }) {
		return nil, fault.New(fault.NotFound, "environment %s has no bucket %s", p.env, name).
			WithHint("see what its stacks made: makeitso outputs")
	}
	c, err := p.storeConfig()
	if err != nil {
		return nil, err
	}
	return c.Bucket(name), nil
}
