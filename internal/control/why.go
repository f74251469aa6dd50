package control

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/pipeline"
	"makeitso/internal/project"
	"makeitso/internal/release"
)

// WhyRequest asks why something went wrong.
type WhyRequest struct {
	Environment string `json:"environment,omitempty"`
	// Subject is a service, a release or a run; "": whatever went wrong last.
	Subject string `json:"subject,omitempty"`
}

// WhyResponse is why: of a run, of a rollout, or of a run because of rollouts.
type WhyResponse struct {
	Run     *pipeline.Run       `json:"run,omitempty"`
	Stages  []pipeline.StageRun `json:"stages"` // those that failed
	Reports []release.Report    `json:"reports"`
}

// Why says why a rollout went back or a run failed.
func (c *Control) Why(ctx context.Context, r WhyRequest) (WhyResponse, error) {
	p, err := c.o.Known()
	if err != nil {
		return WhyResponse{}, err
	}
	switch service, isRelease := serviceOf(p, r.Subject); {
	case r.Subject == "":
		return c.lastTrouble(ctx, p, r)
	case p.Services[r.Subject] != nil:
		return c.report(ctx, r, r.Subject, "")
	case isRelease:
		why, err := c.report(ctx, r, service, r.Subject)
		if !fault.Is(err, fault.NotFound) {
			return why, err
		}
		// A pipeline may have the name of a service.
		if run, runErr := c.whyRun(ctx, p, r.Subject); runErr == nil && run.Run.Status == pipeline.Failed {
			return run, nil
		}
		return why, err
	}
	return c.whyRun(ctx, p, r.Subject)
}

// serviceOf finds the service whose release has that id.
func serviceOf(p *project.Project, id string) (service string, ok bool) {
	at := strings.LastIndexByte(id, '-')
	if at < 0 || p.Services[id[:at]] == nil {
		return "", false
	}
	_, err := strconv.Atoi(id[at+1:])
	return id[:at], err == nil
}

// report gives what a rollout of a service went back for.
func (c *Control) report(ctx context.Context, r WhyRequest, service, id string) (WhyResponse, error) {
	why := WhyResponse{Stages: []pipeline.StageRun{}, Reports: []release.Report{}}
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return why, err
	}
	report, err := env.Services.Report(ctx, service, id)
	if err != nil {
		return why, err
	}
	why.Reports = append(why.Reports, report)
	return why, nil
}

// whyRun gives the stages of a run that failed, with the reports on their
// releases.
func (c *Control) whyRun(ctx context.Context, p *project.Project, id string) (WhyResponse, error) {
	why := WhyResponse{Stages: []pipeline.StageRun{}, Reports: []release.Report{}}
	run, stages, err := c.o.Engine.Run(ctx, id)
	if err != nil {
		return why, err
	}
	why.Run = &run
	for _, s := range stages {
		if s.Status != pipeline.Failed {
			continue
		}
		why.Stages = append(why.Stages, s)
		service, ok := serviceOf(p, s.Result.Release)
		if !ok {
			continue
		}
		of, err := c.report(ctx, WhyRequest{Environment: s.Environment}, service, s.Result.Release)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return why, err
		}
		why.Reports = append(why.Reports, of.Reports...)
	}
	return why, nil
}

// lastTrouble gives what went wrong last: a run, or a rollout that no run
// waited for.
func (c *Control) lastTrouble(ctx context.Context, p *project.Project, r WhyRequest) (WhyResponse, error) {
	var last WhyResponse
	var at time.Time
	for name := range p.Services {
		why, err := c.report(ctx, r, name, "")
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return why, err
		}
		if of := why.Reports[0]; of.Time.After(at) {
			last, at = why, of.Time
		}
	}
	runs, err := c.o.Engine.Runs(ctx, "", 100)
	if err != nil {
		return last, err
	}
	failed := slices.IndexFunc(runs, func(run pipeline.Run) bool { return run.Status == pipeline.Failed })
	if failed >= 0 && runs[failed].Ended.After(at) {
		return c.whyRun(ctx, p, runs[failed].ID)
	}
	if at.IsZero() {
		return last, fault.New(fault.NotFound, "nothing went wrong: no rollout went back and no run failed, as far as is kept").
			WithHint("`makeitso runs` lists what was done")
	}
	return last, nil
}
