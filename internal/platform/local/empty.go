package local

import (
	"context"
	"fmt"
)

// Empty removes everything that is in the environment's buckets and image
// repositories, so that they can be deleted. Only who gives the whole
// environment up wants that: one that is deleted alone must be empty.
func (p *Platform) Empty(ctx context.Context) error {
	all, err := p.resources()
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Type == repositoryType && r.Complete {
			if err := p.repositories().Empty(r.PhysicalID); err != nil {
				return fmt.Errorf("empty repository %s: %w", r.PhysicalID, err)
			}
		}
		if r.Type != "AWS::S3::Bucket" || !r.Complete {
			continue
		}
		c, err := p.runStore(ctx)
		if err != nil {
			return err
		}
		if err := c.Bucket(r.PhysicalID).Empty(ctx); err != nil {
			return fmt.Errorf("empty bucket %s: %w", r.PhysicalID, err)
		}
	}
	return nil
}
