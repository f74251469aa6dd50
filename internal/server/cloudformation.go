package server

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"

	"makeitso/internal/artifact/repository"
	"makeitso/internal/cfnapi"
	"makeitso/internal/changeset"
	"makeitso/internal/control"
	"makeitso/internal/fault"
	"makeitso/internal/pipeline"
	"makeitso/internal/stack"
)

// cloudFormation answers the API of CloudFormation for the environments.
func (s *Server) cloudFormation() http.Handler {
	return cfnapi.Handler(cfnapi.Options{
		Environment: s.environmentOf, Store: s.records, Go: s.working.Go, Closing: s.ctx, Observe: s.observeStack,
		Failed: func(action string, err error) {
			if s.ctx.Err() == nil {
				s.o.Announce(fmt.Sprintf("a request to CloudFormation (%s) could not be answered: %s", action, fault.Text(err)))
			}
		},
	})
}

// environmentOf gives the environment that an access key is of.
func (s *Server) environmentOf(ctx context.Context, accessKey string) (cfnapi.Environment, string, error) {
	var none cfnapi.Environment
	p, err := s.known()
	if err != nil {
		return none, "", err
	}
	for _, name := range slices.Sorted(maps.Keys(p.Environments)) {
		if s.o.Only != "" && name != s.o.Only || !s.exists(name) {
			continue
		}
		env, err := s.environment(ctx, p, name)
		if fault.Is(err, fault.Unsupported) { // it stands on another platform, and has no keys here
			continue
		}
		if err != nil {
			return none, "", err
		}
		keys, err := env.platform.Keys()
		switch {
		case fault.Is(err, fault.NotFound):
			continue
		case err != nil:
			return none, "", err
		case keys.Access == accessKey:
			return cfnapi.Environment{Name: name, Stacks: env.stacks, Object: env.platform.Fragment}, keys.Secret, nil
		}
	}
	return none, "", nil
}

// observeStack notes in the project's events what stacks come to, as runs do.
func (s *Server) observeStack(environment string, ev stack.Event) {
	if ev.Type != changeset.NestedType {
		return
	}
	err := s.engine.Emit(s.ctx, pipeline.Event{Kind: "stack", Environment: environment, Subject: ev.LogicalID, Status: ev.Status,
		Message: strings.TrimSpace(ev.Status + "  " + ev.Reason)})
	if err != nil && s.ctx.Err() == nil {
		s.o.Announce(fmt.Sprintf("an event could not be stored: %v", err))
	}
}

// reachable gives an address at which this machine reaches what listens on all.
func reachable(listens string) string {
	host, port, err := net.SplitHostPort(listens)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listens
}

// keys gives what clients of AWS need to drive the environment.
func (env *environment) keys(context.Context) (control.Keys, error) {
	k, err := env.platform.MakeKeys()
	if err != nil {
		return control.Keys{}, err
	}
	keys := control.Keys{AccessKey: k.Access, SecretKey: k.Secret, Region: k.Region, S3: k.S3}
	if at := env.server.listensAt(); at != "" {
		keys.CloudFormation = "http://" + reachable(at)
	}
	images, err := env.platform.ImageRegistry()
	if fault.Is(err, fault.NotFound) {
		return keys, nil
	}
	keys.Registry = &control.RegistryKeys{Address: images.Address(), User: repository.User, Password: images.Password}
	return keys, err
}
