package local

import (
	"context"
	"errors"
	"fmt"

	"makeitso/internal/changeset"
)

// adopt makes real what an older makeitso has only modelled, hosted zones, and
// puts the records into them that it has kept. It is done once.
func (p *Platform) adopt(ctx context.Context) error {
	models, err := p.models.List(ctx, p.modelKey(""))
	if err != nil {
		return fmt.Errorf("list modelled resources: %w", err)
	}
	var failures []error
	adopted := false
	for _, r := range models {
		k, known := p.kinds[r.Type]
		if !known || k.support.Level != changeset.Real {
			continue
		}
		adopted = true
		err := k.maker.make(ctx, &r)
		if err == nil {
			err = p.save(&r)
		}
		if err == nil {
			err = p.models.Delete(ctx, p.modelKey(r.Token))
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("take over %s: %w", r.name(), err))
		}
	}
	if !adopted {
		return nil
	}
	records, err := p.complete("AWS::Route53::RecordSet")
	if err != nil {
		return err
	}
	for _, r := range records {
		if err := p.kinds[r.Type].maker.make(ctx, r); err != nil {
			failures = append(failures, fmt.Errorf("take over %s: %w", r.name(), err))
		}
	}
	return errors.Join(failures...)
}
