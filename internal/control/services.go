package control

import (
	"context"
	"maps"
	"slices"

	"makeitso/internal/changeset"
	"makeitso/internal/pipeline"
	"makeitso/internal/project"
	"makeitso/internal/release"
	"makeitso/internal/stack"
)

// StatusRequest asks how things stand.
type StatusRequest struct {
	Environment string `json:"environment,omitempty"` // default: every one that exists
}

// StatusResponse is how things stand.
type StatusResponse struct {
	Project      string              `json:"project"`
	Mistakes     string              `json:"mistakes,omitempty"` // why makeitso.yaml cannot be followed now
	Server       ServerStatus        `json:"server"`
	Environments []EnvironmentStatus `json:"environments"`
	Runs         []pipeline.Run      `json:"runs"` // those under way
}

// ServerStatus is the process that answers.
type ServerStatus struct {
	PID     int    `json:"pid"`
	Push    string `json:"push,omitempty"`    // the URL that takes pushes, "" if none
	Listen  string `json:"listen,omitempty"`  // where pushes are taken, "" if nowhere
	Edge    string `json:"edge,omitempty"`    // where the edge listens, "" while it does not run
	EdgeTLS string `json:"edgeTLS,omitempty"` // where it speaks HTTPS, "" for nowhere
	// Troubles tells what keeps HTTPS from hosts, or soon will.
	Troubles []string `json:"troubles,omitempty"`
}

// EnvironmentStatus is how one environment stands.
type EnvironmentStatus struct {
	Name      string        `json:"name"`
	Former    bool          `json:"former,omitempty"` // makeitso.yaml does not have it any more
	Addresses []Address     `json:"addresses"`
	Stacks    []stack.Stack `json:"stacks"`
	// Drift is what was found when each stack was last looked at.
	Drift     []stack.StackDrift `json:"drift"`
	Resources []Resource         `json:"resources"` // the real ones
	Services  []release.Status   `json:"services"`
}

// Resource is a real resource and what stands for it.
type Resource struct {
	Name    string `json:"name"` // stack/LogicalId
	Type    string `json:"type"`
	By      string `json:"by"`
	Address string `json:"address,omitempty"`
	// LeftBehind is the physical id of what belongs to no stack any more; Name
	// is what it was.
	LeftBehind string `json:"leftBehind,omitempty"`
}

// Status tells how things stand.
func (c *Control) Status(ctx context.Context, r StatusRequest) (StatusResponse, error) {
	p, err := c.o.Known()
	if err != nil {
		return StatusResponse{}, err
	}
	status := StatusResponse{Project: p.Name, Server: c.o.Server(), Environments: []EnvironmentStatus{}}
	if _, _, err := c.o.Project(); err != nil { // Known has looked at an earlier one then
		status.Mistakes = err.Error()
	}
	if status.Runs, err = c.o.Engine.Open(ctx); err != nil {
		return status, err
	}
	if r.Environment != "" {
		if _, err := c.environmentName(p, r.Environment); err != nil {
			return status, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Environments)) {
		if r.Environment != "" && name != r.Environment || !c.o.Exists(name) {
			continue
		}
		es, err := c.environmentStatus(ctx, p, name)
		if err != nil {
			return status, err
		}
		es.Former = p.Environments[name].Former
		status.Environments = append(status.Environments, es)
	}
	return status, nil
}

func (c *Control) environmentStatus(ctx context.Context, p *project.Project, name string) (EnvironmentStatus, error) {
	status := EnvironmentStatus{Name: name}
	env, err := c.o.Environment(ctx, p, name)
	if err != nil {
		return status, err
	}
	if status.Stacks, err = env.Stacks.Stacks(ctx); err != nil {
		return status, err
	}
	status.Drift = make([]stack.StackDrift, len(status.Stacks))
	for i, s := range status.Stacks {
		if status.Drift[i], err = env.Stacks.LastDrift(ctx, s); err != nil {
			return status, err
		}
	}
	if status.Services, err = env.Services.Services(ctx); err != nil {
		return status, err
	}
	if status.Resources, err = env.Resources(ctx); err != nil {
		return status, err
	}
	status.Addresses, err = env.Addresses(ctx)
	return status, err
}

// ServiceRequest names a service and perhaps one of its releases.
type ServiceRequest struct {
	Environment string `json:"environment,omitempty"`
	Service     string `json:"service"`
	Release     string `json:"release,omitempty"` // Rollback: where to; default: the last good one before
	Force       bool   `json:"force,omitempty"`   // Rollback: past migrations that cannot be taken back too
	By          string `json:"by,omitempty"`      // Rollback, Abort: who asks
}

// Releases lists the releases of a service, the newest first.
func (c *Control) Releases(ctx context.Context, r ServiceRequest) ([]release.Release, error) {
	env, err := c.service(ctx, r)
	if err != nil {
		return nil, err
	}
	releases, err := env.Services.Releases(ctx, r.Service)
	for i := range releases { // what was resolved into the configuration may be secret
		config := make(map[string]string, len(releases[i].Config))
		for key := range releases[i].Config {
			config[key] = changeset.Masked
		}
		releases[i].Config = config
	}
	return releases, err
}

// Rollback puts an earlier release of a service back: its image, its
// configuration and its traffic.
func (c *Control) Rollback(ctx context.Context, r ServiceRequest) (release.Release, error) {
	env, err := c.service(ctx, r)
	if err != nil {
		return release.Release{}, err
	}
	ctx, done := c.detached(ctx)
	defer done()
	return env.Services.Rollback(ctx, release.Return{Service: r.Service, To: r.Release, Force: r.Force, By: r.By})
}

// Abort stops the rollout of a service that is under way, and puts the release
// before back.
func (c *Control) Abort(ctx context.Context, r ServiceRequest) (release.Release, error) {
	env, err := c.service(ctx, r)
	if err != nil {
		return release.Release{}, err
	}
	ctx, done := c.detached(ctx)
	defer done()
	return env.Services.Rollback(ctx, release.Return{Service: r.Service, Only: true, By: r.By})
}

// SteerRequest says what becomes of the rollout of a service that is under way.
type SteerRequest struct {
	ServiceRequest
	Wish release.Wish `json:"wish"` // pause, resume or promote
}

// Steer pauses a rollout, lets it go on, or promotes it without watching.
func (c *Control) Steer(ctx context.Context, r SteerRequest) (release.RolloutStatus, error) {
	env, err := c.service(ctx, r.ServiceRequest)
	if err != nil {
		return release.RolloutStatus{}, err
	}
	return env.Services.Steer(ctx, r.Service, r.Wish)
}

func (c *Control) service(ctx context.Context, r ServiceRequest) (*Environment, error) {
	p, err := c.o.Known()
	if err != nil {
		return nil, err
	}
	if p.Services[r.Service] == nil {
		return nil, unknown("service", r.Service, p.Services)
	}
	return c.open(ctx, r.Environment)
}
