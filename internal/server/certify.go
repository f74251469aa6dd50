package server

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/edge/certificate"
	"makeitso/internal/project"
)

// lookAtCertificates is how often certificates are asked for what troubles them.
const lookAtCertificates = 10 * time.Second

// certify has the edge speak HTTPS for an environment by the certificates that
// a project names for it.
func (s *Server) certify(ctx context.Context, name string, wanted *project.Environment) error {
	from := certificate.Source{Name: name}
	if wanted != nil && wanted.Edge != nil {
		for _, files := range wanted.Edge.Certificates {
			cert, key := files.Files(s.o.Folder)
			from.Pairs = append(from.Pairs, certificate.Pair{Certificate: cert, Key: key})
		}
		if a := wanted.Edge.ACME; a != nil {
			from.ACME = &certificate.ACME{Directory: a.Directory, Email: a.Email, Hosts: a.Hosts}
		}
	}
	if s.edge.certifiedBy(from) {
		return nil
	}
	for _, pair := range from.Pairs {
		if err := certificate.Check(pair); err != nil {
			return fmt.Errorf("environments.%s.edge.certificates: %w", name, err)
		}
	}
	if err := s.edge.SetCertificates(ctx, from); err != nil {
		return err
	}
	if s.edge.secure == "" && !empty(from) {
		s.o.Announce(fmt.Sprintf("environment %s has certificates, and HTTPS is spoken nowhere but at ports of load balancers: give it an address with --edge-tls", name))
	}
	s.tellTroubles(ctx)
	return nil
}

// tellTroubles announces what newly keeps HTTPS from a host.
func (s *Server) tellTroubles(ctx context.Context) {
	for _, text := range s.edge.newTroubles(ctx) {
		s.o.Announce("HTTPS: " + text)
	}
}

// watchCertificates does so until ctx ends.
func (s *Server) watchCertificates(ctx context.Context) {
	each := time.NewTicker(lookAtCertificates)
	defer each.Stop()
	for {
		select {
		case <-each.C:
			s.tellTroubles(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// hostsIn gives the host names of a service: its own and those that a project
// names for it in the environment.
func (env *environment) hostsIn(p *project.Project) func(service string) []string {
	return func(service string) []string {
		all := env.hosts(service)
		if e := p.Environments[env.name]; e != nil && e.Edge != nil {
			all = append(all, e.Edge.Hosts[service]...)
		}
		return all
	}
}

func empty(from certificate.Source) bool { return len(from.Pairs) == 0 && from.ACME == nil }

// certifiedBy says whether these are the certificates of their owner.
func (e *edgeProcess) certifiedBy(from certificate.Source) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.config.TLS != nil {
		for _, known := range e.config.TLS.Sources {
			if known.Name == from.Name {
				return reflect.DeepEqual(known, from)
			}
		}
	}
	return empty(from)
}

// SetCertificates puts the certificates of an environment in force, in place of
// those it had.
func (e *edgeProcess) SetCertificates(ctx context.Context, from certificate.Source) error {
	return e.change(ctx, func(c *edge.Config) {
		c.TLS.Sources = slices.DeleteFunc(c.TLS.Sources, func(old certificate.Source) bool { return old.Name == from.Name })
		if !empty(from) {
			c.TLS.Sources = append(c.TLS.Sources, from)
			slices.SortFunc(c.TLS.Sources, func(a, b certificate.Source) int { return cmp.Compare(a.Name, b.Name) })
		}
	})
}

// newTroubles gives what keeps HTTPS from hosts and was not given before, or was
// away since.
func (e *edgeProcess) newTroubles(ctx context.Context) []string {
	_, now := e.HTTPS(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	fresh := slices.DeleteFunc(slices.Clone(now), func(text string) bool { return slices.Contains(e.troubles, text) })
	e.troubles = now
	return fresh
}

// tlsOf gives how a configuration speaks HTTPS at an address, free to be changed.
func tlsOf(c edge.Config, listen string) *edge.TLS {
	t := &edge.TLS{Listen: listen}
	if c.TLS != nil {
		t.Sources = slices.Clone(c.TLS.Sources)
	}
	return t
}
