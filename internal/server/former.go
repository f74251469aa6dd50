package server

import (
	"context"
	"fmt"
	"reflect"

	"makeitso/internal/fault"
	"makeitso/internal/project"
	"makeitso/internal/record"
)

// kept is an environment as it is remembered when it is first opened, for the
// time when makeitso.yaml does not have it any more.
type kept struct {
	Name string
	project.Environment
}

func (s *Server) keptEnvironments() record.Collection[kept] {
	return record.Of[kept](s.records, "environment")
}

// keep remembers an environment of which something is made.
func (s *Server) keep(ctx context.Context, name string, wanted *project.Environment) error {
	all := s.keptEnvironments()
	now := kept{name, *wanted}
	was, err := all.Get(ctx, name)
	if err == nil && reflect.DeepEqual(was, now) {
		return nil
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("read environment %s: %w", name, err)
	}
	if err := all.Put(ctx, name, now); err != nil {
		return fmt.Errorf("keep environment %s: %w", name, err)
	}
	return nil
}

// withFormer adds to a project the environments that it does not have any more
// and of which something is left: they are kept alive, can be looked at and can
// be destroyed.
func (s *Server) withFormer(p *project.Project) (*project.Project, error) {
	all, err := s.keptEnvironments().List(s.ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list environments: %w", err)
	}
	for _, former := range all {
		if p.Environments[former.Name] == nil && s.exists(former.Name) {
			former.Former = true
			p.Environments[former.Name] = &former.Environment
		}
	}
	return p, nil
}
