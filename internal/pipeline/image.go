package pipeline

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"makeitso/internal/artifact/image"
	"makeitso/internal/fault"
	"makeitso/internal/project"
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

// Artifact gives the digest that an artifact has in the last run which changed
// an environment with it: what stands there is compared with that outside of
// runs. fault.NotFound before the first such run.
func (e *Engine) Artifact(ctx context.Context, environment, artifact string) (string, error) {
	all, err := e.runs.runs.List(ctx, "")
	if err != nil {
		return "", err
	}
	for _, run := range slices.Backward(all) {
		if !slices.Contains(run.Environments, environment) {
			continue
		}
		stages, err := e.runs.stagesOf(ctx, run)
		if err != nil {
			return "", err
		}
		if digest := usedIn(environment, artifact, stages); digest != "" {
			return digest, nil
		}
	}
	return "", fault.New(fault.NotFound, "no run has changed environment %s with the artifact %s yet", environment, artifact).
		WithHint("run a pipeline that makes it: makeitso run PIPELINE --environment %s", environment)
}

// usedIn gives the digest of an artifact that stages of a run have made, ""
// unless others of them have changed the environment.
func usedIn(environment, artifact string, stages []StageRun) (digest string) {
	changed := false
	for _, s := range stages {
		if s.Status == Succeeded && s.Result.Artifact == artifact {
			digest = s.Result.Digest
		}
		changes := s.Kind == string(project.ApplyStage) || s.Kind == string(project.ReleaseStage)
		changed = changed || changes && s.Environment == environment && s.Status == Succeeded
	}
	if !changed {
		return ""
	}
	return digest
}

// short gives the part of a digest or hash that people compare.
func short(digest string) string {
	_, hex, ok := cutLast(digest, ":")
	if !ok {
		hex = digest
	}
	return hex[:min(12, len(hex))]
}
