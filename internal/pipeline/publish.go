package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"makeitso/internal/publish"
)

// publish puts a site's files into its bucket and drops what changed from the
// caches.
func (w *stageWork) publish(ctx context.Context) (Result, error) {
	env, err := w.environment(ctx)
	if err != nil {
		return Result{}, err
	}
	name := w.step.Stage.Publish
	site := w.project.Sites[name]
	done, err := w.takeTurn(ctx, env.Name, "site", name)
	if err != nil {
		return Result{}, err
	}
	defer done()
	bucketName, err := w.expand(ctx, site.Bucket)
	if err != nil {
		return Result{}, err
	}
	folder := filepath.Join(w.folder, site.From)
	if w.approvedHere() {
		digest, err := folderDigest(folder)
		if err != nil {
			return Result{}, err
		}
		if err := w.checkApproved(siteSubject(name), digest); err != nil {
			return Result{}, err
		}
	}
	bucket, err := env.Sites.Bucket(ctx, bucketName)
	if err != nil {
		return Result{}, err
	}
	report, err := publish.Publish(ctx, folder, bucket, publish.Options{})
	stale := report
	if w.resumed { // what the interrupted try had put counts as unchanged now
		stale.Put = slices.Concat(report.Put, report.Unchanged)
	}
	if paths := stale.Invalid(); len(paths) > 0 { // after half of a publish too
		if invalid := env.Sites.Invalidate(ctx, bucketName, paths); invalid != nil {
			err = errors.Join(err, fmt.Errorf("invalidate caches: %w", invalid))
		}
	}
	if err != nil {
		return Result{}, err
	}
	for _, list := range []struct {
		verb string
		keys []string
	}{{"put", report.Put}, {"delete", report.Deleted}} {
		for _, key := range list.keys {
			if err := w.log.Printf("%-6s %s", list.verb, key); err != nil {
				return Result{}, err
			}
		}
	}
	return Result{Summary: fmt.Sprintf("%s: %d put, %d deleted, %d unchanged", name, len(report.Put), len(report.Deleted), len(report.Unchanged))}, nil
}
