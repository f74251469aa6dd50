// Package control is what a person can do with makeitso: one method each, with
// plain requests and answers. It knows the engines; it must not know HTTP, SQL
// or platforms.
package control

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"

	"makeitso/internal/fault"
	"makeitso/internal/pipeline"
	"makeitso/internal/project"
	"makeitso/internal/release"
	"makeitso/internal/stack"
)

// Environment is a place in the hands of a person.
type Environment struct {
	Name     string
	Stacks   *stack.Engine
	Services *release.Controller
	// Addresses gives where the edge serves, by what is served.
	Addresses func(ctx context.Context) ([]Address, error)
	// Resources lists the real resources and what stands for each.
	Resources func(ctx context.Context) ([]Resource, error)
	// SetAlarm says in what state an alarm is, by its name or ARN.
	SetAlarm func(ctx context.Context, name, state, reason string) error
	// Keys gives what clients of AWS sign with who mean this environment.
	Keys func(ctx context.Context) (Keys, error)
	// Empty removes what holds back the deletion of stacks, such as the
	// content of buckets.
	Empty func(ctx context.Context) error
	// Clear stops every process of the environment and removes its data.
	Clear func(ctx context.Context) error
}

// Address is where something answers.
type Address struct {
	Name string `json:"name"` // e.g. service api, site www.shop.localhost
	URL  string `json:"url"`
	// Secure is where it answers by HTTPS, "" for nowhere or where URL says so.
	Secure string `json:"secure,omitempty"`
}

// Options are what Control works with; all are required.
type Options struct {
	Engine *pipeline.Engine
	// Folder is the project's folder.
	Folder string
	// Project reads the working tree's makeitso.yaml.
	Project func() (*project.Project, []byte, error)
	// Known gives the project for what does not change by it: the working
	// tree's, or while that has mistakes the last that had none.
	Known func() (*project.Project, error)
	// Environment opens an environment of a project, which may be one of the
	// past: its name and platform count.
	Environment func(ctx context.Context, p *project.Project, name string) (*Environment, error)
	// Exists says whether anything of the environment was ever made.
	Exists func(name string) bool
	// Only is the one environment that this process serves, "" for all.
	Only string
	// Server is what Status says of this process.
	Server func() ServerStatus
	// Closing ends when the server does; its cause is what stops an apply
	// where it is, to go on later.
	Closing context.Context
	// Commit gives what the working tree stands on, "" if it has no commit.
	Commit func(ctx context.Context) (hash, branch, subject string)
}

// Control is the one way in for everybody: command line, API and triggers.
type Control struct{ o Options }

// New makes a Control.
func New(o Options) *Control { return &Control{o: o} }

// open opens the environment that a request names, by default the only one or
// "local".
func (c *Control) open(ctx context.Context, name string) (*Environment, error) {
	p, err := c.o.Known()
	if err != nil {
		return nil, err
	}
	if name, err = c.environmentName(p, name); err != nil {
		return nil, err
	}
	return c.o.Environment(ctx, p, name)
}

func (c *Control) environmentName(p *project.Project, name string) (string, error) {
	var names []string // those that makeitso.yaml has
	for _, name := range slices.Sorted(maps.Keys(p.Environments)) {
		if !p.Environments[name].Former {
			names = append(names, name)
		}
	}
	switch {
	case name == "" && c.o.Only != "":
		return c.o.Only, nil
	case name == "" && slices.Contains(names, "local"):
		return "local", nil
	case name == "" && len(names) == 1:
		return names[0], nil
	case name == "":
		return "", fault.New(fault.Invalid, "the project has several environments: %v", names).WithHint("name one with --environment")
	case p.Environments[name] == nil:
		return "", unknown("environment", name, p.Environments)
	}
	return name, nil
}

// detached gives a context for changing something: a caller who leaves does
// not stop it halfway, the end of the server does.
func (c *Control) detached(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(c.o.Closing, func() { cancel(context.Cause(c.o.Closing)) })
	return ctx, func() { stop(); cancel(nil) }
}

// commit gives the hash of the commit that the working tree stands on, "" if it
// has none.
func (c *Control) commit(ctx context.Context) string {
	hash, _, _ := c.o.Commit(ctx)
	return hash
}

// StartRequest begins runs from the working tree as it is.
type StartRequest struct {
	Pipelines   []string `json:"pipelines"`             // none means all
	Environment string   `json:"environment,omitempty"` // in place of the pipelines' own lists
	By          string   `json:"by"`
}

// StartResponse is the runs begun, and the number of the last event before.
type StartResponse struct {
	Runs  []pipeline.Run `json:"runs"`
	After int64          `json:"after"`
}

// Start begins runs.
func (c *Control) Start(ctx context.Context, r StartRequest) (StartResponse, error) {
	p, src, err := c.o.Project()
	if err != nil {
		return StartResponse{}, err
	}
	if r.Environment == "" {
		r.Environment = c.o.Only
	}
	if r.Environment != "" {
		if _, err := c.environmentName(p, r.Environment); err != nil {
			return StartResponse{}, err
		}
	}
	names := r.Pipelines
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(p.Pipelines))
	}
	for _, name := range names {
		if p.Pipelines[name] == nil {
			return StartResponse{}, unknown("pipeline", name, p.Pipelines)
		}
	}
	after, err := c.o.Engine.LastEvent(ctx)
	if err != nil {
		return StartResponse{}, err
	}
	hash, branch, subject := c.o.Commit(ctx)
	runs, err := c.o.Engine.StartAll(ctx, p, names, pipeline.Start{
		Project: src, By: r.By,
		Source: pipeline.Source{WorkTree: c.o.Folder, Commit: hash, Branch: branch, Message: subject},
	}, r.Environment)
	return StartResponse{Runs: runs, After: after}, err
}

// Pushed begins runs for commits that arrived.
func (c *Control) Pushed(ctx context.Context, push pipeline.Push) ([]pipeline.Run, error) {
	push.Environment = c.o.Only
	return c.o.Engine.Pushed(ctx, push)
}

// RunsRequest asks for runs, the newest first.
type RunsRequest struct {
	Pipeline string `json:"pipeline,omitempty"`
	Limit    int    `json:"limit,omitempty"` // default 20
}

// Runs lists runs.
func (c *Control) Runs(ctx context.Context, r RunsRequest) ([]pipeline.Run, error) {
	if r.Limit == 0 {
		r.Limit = 20
	}
	return c.o.Engine.Runs(ctx, r.Pipeline, r.Limit)
}

// RunRequest names a run and perhaps one of its stages.
type RunRequest struct {
	Run    string `json:"run"`
	Stage  string `json:"stage,omitempty"`
	Digest string `json:"digest,omitempty"` // Approve: what is meant
	By     string `json:"by,omitempty"`
	Follow bool   `json:"follow,omitempty"` // Logs: wait for what is to come
	Tail   int64  `json:"tail,omitempty"`   // Logs of one stage: only the last bytes, at most so many
}

// RunResponse is a run and its stages.
type RunResponse struct {
	Run    pipeline.Run        `json:"run"`
	Stages []pipeline.StageRun `json:"stages"`
}

// Run gives a run and its stages.
func (c *Control) Run(ctx context.Context, r RunRequest) (RunResponse, error) {
	run, stages, err := c.o.Engine.Run(ctx, r.Run)
	return RunResponse{run, stages}, err
}

// Cancel stops a run.
func (c *Control) Cancel(ctx context.Context, r RunRequest) (Nothing, error) {
	return Nothing{}, c.o.Engine.Cancel(ctx, r.Run, r.By)
}

// Retry begins a run that has ended without success again.
func (c *Control) Retry(ctx context.Context, r RunRequest) (StartResponse, error) {
	after, err := c.o.Engine.LastEvent(ctx)
	if err != nil {
		return StartResponse{}, err
	}
	run, err := c.o.Engine.Retry(ctx, r.Run)
	return StartResponse{Runs: []pipeline.Run{run}, After: after}, err
}

// Approve says yes to the stage of a run that waits for it.
func (c *Control) Approve(ctx context.Context, r RunRequest) (pipeline.StageRun, error) {
	return c.o.Engine.Approve(ctx, pipeline.Answer{Run: r.Run, Stage: r.Stage, Digest: r.Digest, By: r.By, Yes: true})
}

// Reject says no to the stage of a run that waits for approval.
func (c *Control) Reject(ctx context.Context, r RunRequest) (pipeline.StageRun, error) {
	return c.o.Engine.Approve(ctx, pipeline.Answer{Run: r.Run, Stage: r.Stage, Digest: r.Digest, By: r.By})
}

// Logs writes what a run's stages have printed to w.
func (c *Control) Logs(ctx context.Context, r RunRequest, w io.Writer) error {
	if r.Tail > 0 {
		return c.o.Engine.Tail(ctx, r.Run, r.Stage, r.Tail, w)
	}
	return c.o.Engine.Logs(ctx, r.Run, r.Stage, r.Follow, w)
}

// Nothing is the request of a method that needs none.
type Nothing struct{}

// LastEvent gives the number of the newest event, to follow from now on.
func (c *Control) LastEvent(ctx context.Context, _ Nothing) (int64, error) {
	return c.o.Engine.LastEvent(ctx)
}

// FollowRequest asks for events as they come.
type FollowRequest struct {
	After int64    `json:"after"`
	Runs  []string `json:"runs,omitempty"` // end when these have ended
}

// Follow sends the events after the number given as they come: without end,
// or until all the runs named have ended.
func (c *Control) Follow(ctx context.Context, r FollowRequest, send func(pipeline.Event) error) error {
	waiting := map[string]bool{}
	for _, id := range r.Runs {
		waiting[id] = true
	}
	var failed error
	err := c.o.Engine.Follow(ctx, r.After, func(ev pipeline.Event) bool {
		if failed = send(ev); failed != nil {
			return false
		}
		if ev.Kind == "run" && pipeline.Status(ev.Status).Ended() {
			delete(waiting, ev.Run)
		}
		return len(r.Runs) == 0 || len(waiting) > 0
	})
	return errors.Join(failed, err)
}
