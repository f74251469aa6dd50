package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"makeitso/internal/changeset"
)

// adopt makes real what an older makeitso has only modelled, hosted zones and
// health checks, and puts the records into them that it has kept.
func (p *Platform) adopt(ctx context.Context) error {
	models, err := p.models.List(ctx, p.modelKey(""))
	if err != nil {
		return fmt.Errorf("list modelled resources: %w", err)
	}
	var real []*resource
	for i := range models {
		k := p.kinds[models[i].Type]
		if _, stays := k.maker.(recorded); !stays && k.support.Level == changeset.Real {
			real = append(real, &models[i])
		}
	}
	if len(real) == 0 {
		return nil
	}
	records, err := p.complete("AWS::Route53::RecordSet")
	if err != nil {
		return err
	}
	// Records last: they need their zones and health checks.
	isRecords := func(r *resource) bool { return strings.HasPrefix(r.Type, "AWS::Route53::RecordSet") }
	slices.SortStableFunc(real, func(a, b *resource) int {
		switch {
		case isRecords(a) == isRecords(b):
			return 0
		case isRecords(a):
			return 1
		}
		return -1
	})
	var failures []error
	for _, r := range append(real, records...) {
		err := p.kinds[r.Type].maker.make(ctx, r)
		if err == nil {
			err = p.save(r)
		}
		if err == nil {
			err = p.models.Delete(ctx, p.modelKey(r.Token)) // there is none of what was real before
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("take over %s: %w", r.name(), err))
		}
	}
	return errors.Join(failures...)
}
