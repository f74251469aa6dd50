package release

import (
	"context"
	"fmt"
	"slices"

	"makeitso/internal/record"
)

// sweep gives the ops that remove the releases which are not kept, and notes
// the images that none of the others has.
func (k *keeper) sweep(ctx context.Context) (ops []record.Op, err error) {
	all, err := k.c.Releases(ctx, k.name)
	if err != nil {
		return nil, err
	}
	state := k.rec.State
	keep := keptReleases
	pinned := []string{state.Plan.New.Release, state.Plan.Old.Release, k.rec.Next}
	for _, p := range state.Places {
		pinned = append(pinned, p.Release)
	}
	for _, r := range all {
		if r.ID == state.Plan.New.Release && r.Service.Keep > 0 {
			keep = r.Service.Keep
		}
	}
	if good, err := k.target(ctx, state.Live().Release, ""); err == nil {
		pinned = append(pinned, good.ID)
	}
	needed := map[string]bool{}
	var gone []Release
	for i, r := range all {
		if i < keep || slices.Contains(pinned, r.ID) {
			needed[r.Artifact.Digest] = true
			continue
		}
		gone = append(gone, r)
		key := k.c.releaseKey(k.name, r.Number)
		ops = append(ops, k.c.releases.DeleteOp(key), k.c.reports.DeleteOp(key))
	}
	for _, r := range gone {
		if !needed[r.Artifact.Digest] && !slices.Contains(k.rec.Unneeded, r.Artifact.Digest) && k.c.o.Forget != nil {
			k.rec.Unneeded = append(k.rec.Unneeded, r.Artifact.Digest)
		}
	}
	return ops, nil
}

// forget has the images removed that are needed no more.
func (k *keeper) forget(ctx context.Context) {
	for _, digest := range k.rec.Unneeded {
		k.begin(ctx, "forget "+digest, func(ctx context.Context) error { return k.c.o.Forget(ctx, digest) }, func(ctx context.Context) {
			k.rec.Unneeded = slices.DeleteFunc(k.rec.Unneeded, func(d string) bool { return d == digest })
			k.saveOrBreak(ctx)
		})
	}
}

// Uses says whether a release that is kept runs the artifact of that digest, in
// any environment.
func Uses(ctx context.Context, store record.Store, digest string) (bool, error) {
	all, err := record.Of[Release](store, "release").List(ctx, "")
	if err != nil {
		return false, fmt.Errorf("list releases: %w", err)
	}
	return slices.ContainsFunc(all, func(r Release) bool { return r.Artifact.Digest == digest }), nil
}
