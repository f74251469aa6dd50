package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"makeitso/internal/analysis"
	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/project"
	"makeitso/internal/release"
	"makeitso/internal/rollout"
	"makeitso/internal/source"
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
	if err == nil {
		service.Alarms, err = w.alarms(ctx, name)
	}
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
	counters := &service.Judge.Source.Prometheus
	for _, text := range []*string{&counters.URL, &counters.Errors, &counters.Total} {
		if *text, err = w.expand(ctx, *text); err != nil {
			return release.Service{}, release.Artifact{}, nil, fmt.Errorf("services.%s.rollout.analysis.from.prometheus: %w", name, err)
		}
	}
	service.Commands.Folder, service.Commands.Log = w.folder, w.log.path
	return service, release.Artifact{Digest: digest, Commit: w.flow.run.Source.Commit, Migrations: w.migrations()}, config, nil
}

// alarms gives the names of the alarms that watch over a service's rollout.
func (w *stageWork) alarms(ctx context.Context, service string) (names []string, err error) {
	for i, text := range w.project.Services[service].Rollout.Alarms {
		name, err := w.expand(ctx, text)
		if err == nil && name == "" {
			err = fault.New(fault.Invalid, "found no name")
		}
		if err != nil {
			return nil, fmt.Errorf("services.%s.rollout.alarms[%d]: %w", service, i, err)
		}
		names = append(names, name)
	}
	return names, nil
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
	return release.Service{
		Name: name, Hosts: hosts, Health: s.Health, Protocol: protocol(s), Access: access(s), Instances: max(1, s.Instances), Keep: s.KeepReleases,
		Strategy: strategy(r), Judge: judge(r.Analysis), Commands: release.Commands{Before: r.Before, After: r.After},
	}
}

// protocol gives what the instances of a project's service speak as the edge
// knows it, which has no name for HTTP/1.1.
func protocol(s *project.Service) string {
	if s.Protocol == project.HTTP1 {
		return ""
	}
	return s.Protocol
}

// access gives what clients may ask of a project's service as releases know it.
func access(s *project.Service) release.Access {
	l := s.Limits
	a := release.Access{RequestTimeout: l.Answer, SlowStart: s.SlowStart, Paths: s.Paths, Limits: edge.Limits{
		HeaderBytes: int(l.Header), BodyBytes: int64(l.Body), ClientTimeout: l.ClientTimeout, Requests: l.Requests,
	}}
	if s.Sticky != nil {
		a.Sticky = &edge.Sticky{Cookie: s.Sticky.Cookie, TTL: s.Sticky.For}
	}
	return a
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

// judge gives how a project's canary is judged as releases know it. Only the edge
// knows by which coin requests were sent.
func judge(a project.Analysis) release.Judge {
	j := release.Judge{Hold: a.Inconclusive == "hold", Source: outcomes(a.From), Options: analysis.Options{
		Max5xx: float64(a.Max5xx) / 100, Guard5xx: float64(a.Guard5xx) / 100,
		IgnoreLatency: a.Latency.Off, Slower: float64(a.Latency.Margin) / 100, Slack: a.Latency.Slack,
	}}
	if !j.Source.Edge() {
		j.Options.Source = analysis.NoCoin
	}
	return j
}

// outcomes gives where a project's canary has its outcomes from.
func outcomes(f project.From) (s source.Source) {
	switch {
	case f.Log != nil:
		s.Log = source.Lines(*f.Log)
	case f.Command != nil:
		s.Command = source.Command{Run: f.Command.Run, Lines: source.Lines(f.Command.Lines)}
	case f.Prometheus != nil:
		s.Prometheus = source.Prometheus(*f.Prometheus)
	}
	return s
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
