package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"makeitso/internal/changeset"
	"makeitso/internal/platform/machine"
)

// adopt makes real what an older makeitso has only modelled, hosted zones and
// health checks, and puts the records into them that it has kept.
func (p *Platform) adopt(ctx context.Context) error {
	models, err := p.Models.List(ctx, p.ModelKey(""))
	if err != nil {
		return fmt.Errorf("list modelled resources: %w", err)
	}
	var real []*machine.Resource
	for i := range models {
		k := p.Kind(models[i].Type)
		if _, stays := k.Maker.(recorded); !stays && k.Support.Level == changeset.Real {
			real = append(real, &models[i])
		}
	}
	if len(real) == 0 {
		return nil
	}
	records, err := p.Complete("AWS::Route53::RecordSet")
	if err != nil {
		return err
	}
	// Records last: they need their zones and health checks.
	isRecords := func(r *machine.Resource) bool { return strings.HasPrefix(r.Type, "AWS::Route53::RecordSet") }
	slices.SortStableFunc(real, func(a, b *machine.Resource) int {
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
		err := p.Kind(r.Type).Maker.Make(ctx, r)
		if err == nil {
			err = p.Save(r)
		}
		if err == nil {
			err = p.Models.Delete(ctx, p.ModelKey(r.Token)) // there is none of what was real before
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("take over %s: %w", r.Name(), err))
		}
	}
	return errors.Join(failures...)
}
