package pipeline

import (
	"context"
	"fmt"
	"path/filepath"

	"makeitso/internal/artifact/image"
	"makeitso/internal/fault"
)

// image makes the OCI image of an artifact from what the run's commands built.
func (w *stageWork) image(ctx context.Context) (Result, error) {
	name := w.step.Stage.Image
	spec := w.project.Artifacts[name].Image
	img, err := w.engine.o.Images.Build(ctx, image.Spec{
		Name: name, Base: spec.Base, Binary: filepath.Join(w.folder, spec.Binary),
	})
	if err != nil {
		return Result{}, err
	}
	if err := w.log.Printf("image %s\n  digest %s\n  base   %s\n  size   %d bytes", name, img.Digest, img.Base, img.Size); err != nil {
		return Result{}, err
	}
	return Result{
		Summary:  fmt.Sprintf("%s %s, %.1f MB", name, short(img.Digest), float64(img.Size)/1e6),
		Artifact: name, Digest: img.Digest,
	}, nil
}

// digestOf gives the digest that this run's image stage gave an artifact.
func (w *stageWork) digestOf(artifact string) (string, error) {
	for _, i := range w.before(w.place) {
		if r := w.results[i].Result; r.Artifact == artifact {
			return r.Digest, nil
		}
	}
	return "", fault.New(fault.Invalid, "stage %s needs the image of artifact %s, and no stage before it made one", w.step.ID, artifact).
		WithHint("add the stage - image: %s before it (and name it in needs, where needs is written)", artifact)
}

// short gives the part of a digest or hash that people compare.
func short(digest string) string {
	_, hex, ok := cutLast(digest, ":")
	if !ok {
		hex = digest
	}
	return hex[:min(12, len(hex))]
}
