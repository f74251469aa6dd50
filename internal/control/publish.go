package control

import (
	"context"
	"maps"
	"slices"

	"makeitso/internal/publish"
)

// PublishRequest names sites of the project.
type PublishRequest struct {
	Environment string   `json:"environment,omitempty"`
	Sites       []string `json:"sites,omitempty"` // none means all
}

// Published is what was done for one site.
type Published struct {
	Site string `json:"site"`
	publish.Report
}

// Publish makes the buckets of sites hold the files of the working tree, one
// site after the other.
func (c *Control) Publish(ctx context.Context, r PublishRequest) ([]Published, error) {
	ctx, done := c.detached(ctx)
	defer done()
	p, _, err := c.o.Project()
	if err != nil {
		return nil, err
	}
	environment, err := c.environmentName(p, r.Environment)
	if err != nil {
		return nil, err
	}
	names := r.Sites
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(p.Sites))
	}
	for _, name := range names {
		if p.Sites[name] == nil {
			return nil, unknown("site", name, p.Sites)
		}
	}
	all := make([]Published, len(names))
	for i, name := range names {
		report, err := c.o.Engine.Publish(ctx, p, c.o.Folder, environment, name, c.commit)
		if err != nil {
			return nil, err
		}
		all[i] = Published{name, report}
	}
	return all, nil
}
