package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/cfnapi"
	"makeitso/internal/control"
	"makeitso/internal/edge"
	"makeitso/internal/edge/certificate"
	"makeitso/internal/fault"
	"makeitso/internal/pipeline"
	"makeitso/internal/platform/custom"
	"makeitso/internal/platform/local"
	"makeitso/internal/platform/machine"
	"makeitso/internal/project"
	"makeitso/internal/publish"
	"makeitso/internal/release"
	"makeitso/internal/stack"
)

// environment is one place of the project, tied to its platform.
type environment struct {
	name     string
	project  string
	server   *Server
	platform *local.Platform
	stacks   *stack.Engine
	services *release.Controller
}

// environment opens an environment; the first time it adopts what runs there.
func (s *Server) environment(ctx context.Context, p *project.Project, name string) (*environment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if env := s.environments[name]; env != nil {
		return env, nil
	}
	wanted := p.Environments[name]
	if wanted == nil {
		return nil, fault.New(fault.NotFound, "%s has no environment %q", project.File, name)
	}
	if wanted.Platform != "local" {
		return nil, fault.New(fault.Unsupported, "environment %s stands on platform %s, which this makeitso does not have yet", name, wanted.Platform).
			WithHint("run it for an environment on platform local, e.g. --environment local")
	}
	if err := s.keep(ctx, name, wanted); err != nil {
		return nil, err
	}
	env := &environment{name: name, project: p.Name, server: s}
	if err := env.open(wanted); err != nil {
		return nil, err
	}
	if err := env.adopt(ctx); err != nil {
		env.platform.Close()
		return nil, err
	}
	s.environments[name] = env
	return env, nil
}

func (env *environment) open(wanted *project.Environment) (err error) {
	s := env.server
	env.platform, err = local.New(env.name, local.Options{
		Options: machine.Options{
			State: s.o.State, Records: s.records, Key: s.key, Region: wanted.Region, Account: wanted.Account,
			Embedded: s.o.Embedded || wanted.Embedded, Command: []string{s.o.Self, "internal"}, Announce: s.o.Announce,
		},
		Project:      env.project,
		SitesChanged: env.sitesChanged,
		Edge:         s.edge,
		AlarmChanged: env.observeAlarm, Events: pipeline.Stream,
		Signal: func(ctx context.Context, address string, signal stack.Signal) error {
			return env.stacks.Receive(ctx, address, signal)
		},
		Unpack: func(ctx context.Context, digest, into string) (entrypoint, variables []string, err error) {
			c, err := s.images.Unpack(ctx, digest, into)
			return c.Entrypoint, c.Env, err
		},
		Pull: func(ctx context.Context, reference, user, password string) (string, error) {
			img, err := s.images.Pull(ctx, reference, user, password)
			return img.Digest, err
		},
	})
	if err != nil {
		return err
	}
	holder, err := s.holder()
	if err != nil {
		return err
	}
	env.stacks = stack.New(env.name, custom.Over(env.platform, custom.Options{Folder: s.o.Folder}), s.records, stack.Options{Account: wanted.Account, Region: wanted.Region, Holder: holder, Beat: s.beat(), Drifted: env.observeDrift})
	env.services = release.New(env.name, env.platform, s.edge, s.records, release.Options{Observe: env.observe, Failures: s.edge.failures, Hooks: s.engine, Alarms: env.platform, Forget: s.forgetImage})
	return nil
}

// adopt finds again what runs in the environment and goes on with what was
// interrupted there.
func (env *environment) adopt(ctx context.Context) error {
	s := env.server
	if s.o.Duty < Keep {
		return env.supervise()
	}
	// What cannot be brought back must not keep the rest from being looked
	// at, repaired or destroyed.
	if err := env.platform.Resume(ctx); err != nil {
		s.o.Announce(fmt.Sprintf("environment %s: not everything came back: %s", env.name, fault.Text(err)))
	}
	// A change can have been interrupted before it had made anything, and may
	// wait for a signal, which only comes when this has returned.
	wait := env.stacks.Continue(s.ctx, func(stack.Event) {})
	s.working.Go(func() {
		if err := wait(); err != nil && s.ctx.Err() == nil {
			s.o.Announce(fmt.Sprintf("environment %s: a change that was interrupted could not go on: %s", env.name, fault.Text(err)))
		}
	})
	if s.exists(env.name) {
		if err := errors.Join(env.sitesChanged(ctx), env.platform.Balance(ctx)); err != nil {
			return err
		}
	}
	return env.supervise()
}

// supervise keeps the environment's services and servers alive for as long as the server
// lives.
func (env *environment) supervise() error {
	s := env.server
	if s.o.Duty < Keep {
		return nil
	}
	s.working.Go(func() { env.platform.Keep(s.ctx) })
	s.working.Go(func() {
		env.stacks.Watch(s.ctx, func(err error) {
			s.o.Announce(fmt.Sprintf("environment %s: a change that was left half done cannot go on yet: %s", env.name, fault.Text(err)))
		})
	})
	s.working.Go(func() {
		if err := env.services.Run(s.ctx); err != nil && s.ctx.Err() == nil {
			s.o.Announce(fmt.Sprintf("environment %s is not kept alive any more: %v", env.name, err))
		}
	})
	if s.pushes == nil { // a command that ends soon: what it does shall not meet a repair
		return nil
	}
	s.working.Go(func() {
		if err := env.platform.Watch(s.ctx); err != nil {
			s.o.Announce(fmt.Sprintf("environment %s: its logs and alarms are not watched any more: %v", env.name, err))
		}
	})
	s.working.Go(func() { env.sweep(s.ctx) })
	s.working.Go(func() {
		if err := env.lookForDrift(s.ctx); err != nil {
			s.o.Announce(fmt.Sprintf("environment %s is not looked at for drift any more: %v", env.name, err))
		}
	})
	return nil
}

// forgetImage removes an image that a service needs no more, unless another one
// or a run that is under way does.
func (s *Server) forgetImage(ctx context.Context, digest string) error {
	used, err := release.Uses(ctx, s.records, digest)
	if err == nil && !used {
		used, err = s.engine.Uses(ctx, digest)
	}
	if err != nil || used {
		return err
	}
	if err := s.images.Remove(ctx, digest); !fault.Is(err, fault.NotFound) {
		return err
	}
	return nil // it was removed before, or never made here
}

// holder names this process in leases. It has the name of the process that used
// the state folder before, which is gone, since the folder is locked; on another
// machine that shares the database, a folder of the same path is another's.
func (s *Server) holder() (string, error) {
	name := "makeitso of " + s.o.State
	if s.o.Database == "" {
		return name, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the name of this machine, for leases: %w", err)
	}
	return name + " on " + host, nil
}

// beat is how often a lease is renewed: on a database of its own, which the
// lock of the state folder guards, never.
func (s *Server) beat() time.Duration {
	if s.o.Database == "" {
		return 0
	}
	return 5 * time.Second
}

// observe turns what a release tells into events.
func (env *environment) observe(ev release.Event) {
	err := env.server.engine.Emit(env.server.ctx, pipeline.Event{
		Kind: "release", Environment: ev.Environment, Subject: cmp.Or(ev.Release, ev.Service), Status: ev.Kind, Message: ev.Message,
	})
	if err != nil {
		env.server.o.Announce(fmt.Sprintf("an event could not be stored: %v", err))
	}
}

// observeAlarm turns what an alarm says into an event of the project.
func (env *environment) observeAlarm(ctx context.Context, alarm, state, reason string) {
	err := env.server.engine.Emit(ctx, pipeline.Event{
		Kind: "alarm", Environment: env.name, Subject: alarm, Status: state, Message: strings.TrimRight("alarm "+alarm+" is "+state+": "+reason, ": "),
	})
	if err != nil {
		env.server.o.Announce(fmt.Sprintf("an event could not be stored: %v", err))
	}
}

// sitesChanged puts the environment's sites in force.
func (env *environment) sitesChanged(ctx context.Context) error {
	sites, err := env.platform.Sites()
	if err == nil {
		sites, err = env.paged(ctx, sites)
	}
	if err != nil {
		return err
	}
	return env.server.edge.SetSites(ctx, env.name, sites)
}

// hosts gives the host names of a service: without the environment's name
// where that is "local".
func (env *environment) hosts(service string) []string {
	if env.name == "local" {
		return []string{service + "." + env.project + ".localhost"}
	}
	return []string{service + "." + env.name + "." + env.project + ".localhost"}
}

// pipelineEnvironment gives an environment as runs see it.
func (s *Server) pipelineEnvironment(ctx context.Context, p *project.Project, name string) (*pipeline.Environment, error) {
	env, err := s.environment(ctx, p, name)
	if err != nil {
		return nil, err
	}
	if err := s.certify(ctx, name, p.Environments[name]); err != nil {
		return nil, err
	}
	return &pipeline.Environment{Name: name, Stacks: env.stacks, Services: env.services, Sites: env, Hosts: env.hostsIn(p), PullImage: env.platform.PullImage}, nil
}

// Bucket implements pipeline.Sites.
func (env *environment) Bucket(_ context.Context, name string) (publish.Bucket, error) {
	return env.platform.Bucket(name)
}

// Invalidate implements pipeline.Sites.
func (env *environment) Invalidate(ctx context.Context, bucket string, paths []string) error {
	sites, err := env.platform.SitesOf(bucket)
	if err != nil {
		return err
	}
	for _, site := range sites {
		if err := env.server.edge.Invalidate(ctx, site.Name, paths...); err != nil {
			return err
		}
	}
	return nil
}

// forControl gives an environment as people see it.
func (env *environment) forControl() *control.Environment {
	return &control.Environment{
		Name: env.name, Stacks: env.stacks, Services: env.services,
		Addresses: env.addresses, Resources: env.resources, SetAlarm: env.platform.SetAlarm, Keys: env.keys, Empty: env.platform.Empty, Clear: env.clear,
	}
}

// resources lists the real resources and what stands for each, those too that
// a stack has left behind.
func (env *environment) resources(ctx context.Context) ([]control.Resource, error) {
	serving, err := env.platform.Serving(ctx)
	if err != nil {
		return nil, err
	}
	names, err := env.stacks.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]control.Resource, len(serving))
	for i, s := range serving {
		list[i] = control.Resource{Name: names[s.Token], Type: s.Type, By: s.By, Address: s.Address}
		if list[i].Name == "" {
			list[i].Name = s.Resource
		}
		if names[cmp.Or(s.Group, s.Token)] == "" {
			list[i].LeftBehind = s.Name
		}
	}
	return list, nil
}

// addresses tells where the environment's sites, services and hosted zones answer.
func (env *environment) addresses(ctx context.Context) ([]control.Address, error) {
	stats, err := env.server.edge.Stats(ctx)
	if err != nil && !fault.Is(err, fault.Unavailable) {
		return nil, err
	}
	ports := edgePorts{plain: env.server.edge.Port(), refused: stats.PortsRefused}
	if secure := stats.Secure[env.server.o.EdgeTLS]; secure != "" {
		_, ports.secure, _ = net.SplitHostPort(secure)
	}
	all := []control.Address{}
	for _, s := range env.server.edge.Services(env.name) {
		for _, host := range s.Hosts {
			all = append(all, ports.of("service "+strings.TrimPrefix(s.Name, env.name+"/"), host))
		}
	}
	for _, b := range env.server.edge.Balancers(env.name) {
		if len(b.Hosts) > 0 {
			all = append(all, ports.ofBalancer("load balancer "+strings.TrimPrefix(b.Name, env.name+"/balancer/"), b))
		}
	}
	sites, err := env.platform.Sites()
	if err != nil {
		return nil, err
	}
	for _, site := range sites {
		if len(site.Hosts) > 0 {
			all = append(all, ports.of("site", shortest(site.Hosts)))
		}
	}
	zones, err := env.platform.Zones()
	if err != nil {
		return nil, err
	}
	for _, zone := range zones {
		all = append(all, control.Address{Name: "hosted zone", URL: "dns://" + zone.Address + "/" + zone.Zone})
	}
	return all, nil
}

// edgePorts are the ports by which what the edge serves is reached.
type edgePorts struct {
	plain, secure string         // of all that it serves; secure is "" for none
	refused       map[int]string // those of load balancers that it has not got
}

// of gives where a host name answers.
func (p edgePorts) of(name, host string) control.Address {
	a := control.Address{Name: name, URL: "http://" + host + ":" + p.plain}
	if p.secure != "" {
		a.Secure = "https://" + host + ":" + p.secure
	}
	return a
}

// ofBalancer gives where a listener of a load balancer answers.
func (p edgePorts) ofBalancer(name string, b edge.Balancer) control.Address {
	_, refused := p.refused[b.Port]
	host, own := b.Hosts[0], ":"+strconv.Itoa(b.Port)
	switch {
	case b.TLS && b.Port == 443 && !refused:
		return control.Address{Name: name, URL: "https://" + host}
	case b.TLS && p.secure != "":
		return control.Address{Name: name, URL: p.of(name, host).Secure}
	case b.TLS && !refused:
		return control.Address{Name: name, URL: "https://" + host + own}
	case b.Port == 80 && !refused:
		return control.Address{Name: name, URL: "http://" + host}
	}
	// Without HTTPS at a port of its own the edge gives of two at one host that for HTTPS.
	if last := b.Hosts[len(b.Hosts)-1]; p.secure == "" && strings.HasPrefix(last, own[1:]+".") {
		host = last
	}
	return control.Address{Name: name, URL: "http://" + host + ":" + p.plain}
}

// shortest gives the name that a person would choose.
func shortest(hosts []string) string {
	best := hosts[0]
	for _, host := range hosts[1:] {
		if len(host) < len(best) {
			best = host
		}
	}
	return best
}

// clear stops everything of the environment and removes its data, and the edge
// with the last of them.
func (env *environment) clear(ctx context.Context) error {
	s := env.server
	err := errors.Join(env.platform.Destroy(ctx), s.edge.SetSites(ctx, env.name, nil), s.edge.SetBalancing(ctx, env.name, nil, nil), s.edge.SetCertificates(ctx, certificate.Source{Name: env.name}), cfnapi.Forget(ctx, s.records, env.name), env.forgetPages(ctx))
	if err == nil {
		err = s.keptEnvironments().Delete(ctx, env.name)
	}
	if err != nil {
		return err
	}
	return s.edge.StopIfIdle(ctx)
}
