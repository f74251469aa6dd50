package server

import (
	"context"
	"fmt"
	"maps"
	"reflect"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/pipeline"
	"makeitso/internal/record"
)

// keptPages is what the sites of a bucket answer with beside its files, as it
// was last published.
type keptPages struct {
	Bucket string `json:"bucket"`
	pipeline.Pages
}

func (s *Server) keptPages() record.Collection[keptPages] {
	return record.Of[keptPages](s.records, "site pages")
}

// SetPages implements pipeline.Sites.
func (env *environment) SetPages(ctx context.Context, bucket string, p pipeline.Pages) error {
	for i, m := range p.Redirects {
		if problem := m.Problem(); problem != "" {
			return fault.New(fault.Invalid, "the redirect %d of the site, from %s to %s, cannot be served: %s", i+1, m.From, m.To, problem).
				WithHint("change it under redirects of the site in makeitso.yaml")
		}
	}
	all, key, next := env.server.keptPages(), env.name+"/"+bucket, keptPages{bucket, p}
	was, err := all.Get(ctx, key)
	switch {
	case err != nil && !fault.Is(err, fault.NotFound):
		return fmt.Errorf("read the pages of %s: %w", bucket, err)
	case err != nil && reflect.DeepEqual(p, pipeline.Pages{}):
		return nil
	case err != nil || !reflect.DeepEqual(was, next):
		if err := all.Put(ctx, key, next); err != nil {
			return fmt.Errorf("keep the pages of %s: %w", bucket, err)
		}
	}
	return env.sitesChanged(ctx) // again too: it may have been cut off between the two
}

// paged gives sites with the pages of their buckets, which come before those
// that their distributions name.
func (env *environment) paged(ctx context.Context, sites []edge.Site) ([]edge.Site, error) {
	all, err := env.server.keptPages().List(ctx, env.name+"/")
	if err != nil {
		return nil, fmt.Errorf("list the pages of sites: %w", err)
	}
	for _, p := range all {
		for i := range sites {
			if s := &sites[i]; env.platform.Serves(s.Behavior, p.Bucket) {
				s.Pages = p.Pages.Pages
				errors := maps.Clone(s.Errors)
				if errors == nil && len(p.Errors) > 0 {
					errors = map[int]edge.Error{}
				}
				maps.Copy(errors, p.Errors)
				s.Errors = errors
			}
		}
	}
	return sites, nil
}

// forgetPages forgets those of an environment.
func (env *environment) forgetPages(ctx context.Context) error {
	all, err := env.server.keptPages().List(ctx, env.name+"/")
	for _, p := range all {
		if err == nil {
			err = env.server.keptPages().Delete(ctx, env.name+"/"+p.Bucket)
		}
	}
	return err
}
