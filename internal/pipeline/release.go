package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"makeitso/internal/analysis"
	"makeitso/internal/fault"
	"makeitso/internal/project"
	"makeitso/internal/release"
	"makeitso/internal/rollout"
	"makeitso/internal/stack"
)

// release gives a service its next release and waits for the rollout's end.
func (w *stageWork) release(ctx context.Context) (Result, error) {
	env, err := w.environment(ctx)
	if err != nil {
		return Result{}, err
	}
	name := w.step.Stage.Release
	// It waits for nobody: a rollout that is under way is replaced by this one.
	service, artifact, config, err := w.wanted(ctx, env, name)
	if err != nil {
		return Result{}, err
	}
	subject, digest := w.serviceDigest(name, artifact.Digest)
	if err := w.checkApproved(subject, digest); err != nil {
		return Result{}, err
	}
	// The key tells attempts apart: a retry begins a new rollout, a restart
	// goes on with the one under way.
	attempt := fmt.Sprintf("%s.%d/%s", w.run.Run, w.run.Attempt, w.run.ID)
	r, err := env.Services.Release(ctx, service, artifact, config, attempt)
	result := Result{Release: r.ID, Digest: artifact.Digest}
	if err != nil && ctx.Err() != nil && !errors.Is(context.Cause(ctx), stack.ErrSuspend) {
		// Cancelled, or out of time: its rollout must not go on without it.
		if stop := env.Services.Abandon(context.WithoutCancel(ctx), name, attempt); stop != nil {
			err = errors.Join(err, w.log.Printf("the rollout could not be stopped: %s", fault.Text(stop)))
		}
	}
	if err != nil {
		return result, err
	}
	result.Summary = r.ID + " is live"
	return result, w.log.Printf("%s", strings.TrimSpace(fmt.Sprintf("release %s of %s: %s %s", r.ID, name, r.Status, r.Reason)))
}

// wanted gives everything a release of the service is made of.
func (w *stageWork) wanted(ctx context.Context, env *Environment, name string) (release.Service, release.Artifact, map[string]string, error) {
	s := w.project.Services[name]
	digest, err := w.imageOf(ctx, env, name)
	if err != nil {
		return release.Service{}, release.Artifact{}, nil, err
	}
	config, err := w.expandAll(ctx, s.Env)
	if err != nil {
		return release.Service{}, release.Artifact{}, nil, err
	}
	service := Service(name, s, env.Hosts(name))
	service.Commands.Folder, service.Commands.Log = w.folder, w.log.path
	return service, release.Artifact{Digest: digest, Commit: w.flow.run.Source.Commit, Migrations: w.migrations()}, config, nil
}

// imageOf gives the digest of what a service is to run: of what this run has made,
// or of what the environment's registry has under its image's name.
func (w *stageWork) imageOf(ctx context.Context, env *Environment, name string) (digest string, err error) {
	s := w.project.Services[name]
	if s.Image == "" {
		return w.digestOf(s.Artifact)
	}
	reference, err := w.expand(ctx, s.Image)
	if err == nil {
		digest, err = env.PullImage(ctx, reference)
	}
	if err != nil {
		return "", fmt.Errorf("services.%s.image: %w", name, err)
	}
	return digest, nil
}

// Service gives a project's service as releases know it.
func Service(name string, s *project.Service, hosts []string) release.Service {
	r := &s.Rollout
	return release.Service{Name: name, Hosts: hosts, Health: s.Health, Instances: max(1, s.Instances), Keep: s.KeepReleases,
		Strategy: strategy(r), Judge: judge(r.Analysis), Commands: release.Commands{Before: r.Before, After: r.After}}
}

// strategy gives a project's rollout as releases know it.
func strategy(r *project.Rollout) rollout.Strategy {
	switch {
	case r.AllAtOnce != nil:
		return rollout.Strategy{Kind: rollout.AtOnce}
	case r.BlueGreen != nil:
		return rollout.Strategy{Kind: rollout.BlueGreen, Soak: r.BlueGreen.Soak, Keep: r.BlueGreen.Keep}
	case len(r.Canary) > 0:
		s := rollout.Strategy{Kind: rollout.Canary, Watch: r.Watch.AtMost, Bake: r.Watch.AtLeast}
		for _, share := range r.Canary {
			s.Shares = append(s.Shares, float64(share)/100)
		}
		return s
	}
	s := rollout.Strategy{Kind: rollout.Rolling, Surge: rollout.Amount{Count: 1}}
	if r.Rolling != nil {
		s.Surge = amount(r.Rolling.Surge, s.Surge)
		s.Unavailable = amount(r.Rolling.Unavailable, s.Unavailable)
	}
	return s
}

// judge gives how a project's canary is judged as releases know it.
func judge(a project.Analysis) release.Judge {
	return release.Judge{Hold: a.Inconclusive == "hold", Options: analysis.Options{
		Max5xx: float64(a.Max5xx) / 100, Guard5xx: float64(a.Guard5xx) / 100,
		IgnoreLatency: a.Latency.Off, Slower: float64(a.Latency.Margin) / 100, Slack: a.Latency.Slack,
	}}
}

func amount(a *project.Amount, standard rollout.Amount) rollout.Amount {
	if a == nil {
		return standard
	}
	return rollout.Amount{Count: a.Count, Part: float64(a.Part) / 100}
}

// serve starts an instance for an acceptance test.
func (w *stageWork) serve(ctx context.Context) (string, func(context.Context) error, error) {
	env, err := w.environment(ctx)
	if err != nil {
		return "", nil, err
	}
	service, artifact, config, err := w.wanted(ctx, env, w.step.Stage.Serve)
	if err != nil {
		return "", nil, err
	}
	address, stop, err := env.Services.Serve(ctx, service, artifact.Digest, config)
	if err != nil {
		return "", nil, fmt.Errorf("serve %s: %w", service.Name, err)
	}
	return address, stop, w.log.Printf("%s %s answers at http://%s", service.Name, short(artifact.Digest), address)
}

// Uses says whether a run that is under way has made the artifact of that
// digest.
func (e *Engine) Uses(ctx context.Context, digest string) (bool, error) {
	open, err := e.Open(ctx)
	if err != nil {
		return false, err
	}
	for _, run := range open {
		stages, err := e.runs.stagesOf(ctx, run)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(stages, func(s StageRun) bool { return s.Result.Digest == digest }) {
			return true, nil
		}
	}
	return false, nil
}
