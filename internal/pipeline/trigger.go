package pipeline

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/bmatcuk/doublestar/v4"

	"makeitso/internal/project"
)

// Push is commits that arrived on a branch.
type Push struct {
	Project []byte // makeitso.yaml of the newest commit
	Source  Source
	Changed []string // the paths that changed; nil means all
	By      string
	// Environment, if not "", is the one place that pipelines run for here.
	Environment string
}

// Pushed begins a run of each pipeline that the push is meant for, those that
// others refer to first.
func (e *Engine) Pushed(ctx context.Context, push Push) ([]Run, error) {
	p, mistakes := project.Parse(project.File, push.Project)
	if err := mistakes.Err(); err != nil {
		return nil, err
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(p.Pipelines)) {
		matches, err := triggers(p.Pipelines[name].On.Push, push)
		if err != nil {
			return nil, fmt.Errorf("pipeline %s: %w", name, err)
		}
		if matches {
			names = append(names, name)
		}
	}
	return e.StartAll(ctx, p, names, Start{Project: push.Project, Source: push.Source, By: push.By}, push.Environment)
}

// StartAll begins a run of each pipeline named. A run waits, before it touches
// an environment, for those others whose stacks its pipeline refers to.
// Environment, if not "", is used in place of each pipeline's own list.
func (e *Engine) StartAll(ctx context.Context, p *project.Project, names []string, like Start, environment string) ([]Run, error) {
	ids := map[string]string{}
	var begun []Run
	for _, name := range inOrder(p, names) {
		s := like
		s.Pipeline = name
		if environment != "" {
			s.Environments = []string{environment}
		}
		for _, other := range refersTo(p, name, names) {
			if id := ids[other]; id != "" {
				s.After = append(s.After, id)
			}
		}
		run, err := e.Start(ctx, s)
		if err != nil {
			return begun, fmt.Errorf("begin pipeline %s: %w", name, err)
		}
		ids[name] = run.ID
		begun = append(begun, run)
	}
	return begun, nil
}

// triggers says whether a push is meant for a pipeline.
func triggers(on *project.Push, push Push) (bool, error) {
	if on == nil {
		return false, nil
	}
	branch, err := matchAny(on.Branches, []string{push.Source.Branch})
	if err != nil || !branch {
		return false, err
	}
	if push.Changed == nil {
		return true, nil
	}
	return matchAny(on.Paths, push.Changed)
}

// matchAny says whether any name matches any pattern; no patterns match all.
func matchAny(patterns, names []string) (bool, error) {
	if len(patterns) == 0 {
		return true, nil
	}
	for _, pattern := range patterns {
		for _, name := range names {
			matches, err := doublestar.Match(pattern, name)
			if err != nil {
				return false, fmt.Errorf("pattern %q: %w", pattern, err)
			}
			if matches {
				return true, nil
			}
		}
	}
	return false, nil
}

// inOrder sorts pipelines so that those that others refer to come first; names
// that refer to each other in a circle keep their alphabetical order.
func inOrder(p *project.Project, names []string) []string {
	var sorted []string
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		for _, other := range refersTo(p, name, names) {
			visit(other)
		}
		sorted = append(sorted, name)
	}
	for _, name := range slices.Sorted(slices.Values(names)) {
		visit(name)
	}
	return sorted
}

// refersTo gives those of the other pipelines that apply a stack which the
// pipeline's services, sites or stacks refer to and which it does not apply
// itself.
func refersTo(p *project.Project, name string, others []string) []string {
	wanted, own := stacksOf(p, p.Pipelines[name])
	var found []string
	for _, other := range others {
		if other == name {
			continue
		}
		_, applied := stacksOf(p, p.Pipelines[other])
		for stack := range applied {
			if wanted[stack] && !own[stack] {
				found = append(found, other)
				break
			}
		}
	}
	slices.Sort(found)
	return found
}

// stacksOf gives the stacks a pipeline refers to and those it applies.
func stacksOf(p *project.Project, pl *project.Pipeline) (wanted, applied map[string]bool) {
	wanted, applied = map[string]bool{}, map[string]bool{}
	want := func(texts ...string) {
		for _, text := range texts {
			refs, err := project.References(text)
			if err != nil { // Parse has refused malformed references
				continue
			}
			for _, r := range refs {
				if r.Kind == project.StackOutput {
					wanted[r.Name] = true
				}
			}
		}
	}
	for _, stage := range pl.Stages {
		want(slices.Collect(maps.Values(stage.Env))...)
		for _, service := range []string{stage.Release, stage.Serve} {
			if service != "" {
				want(p.Services[service].References()...)
			}
		}
		if stage.Publish != "" {
			want(p.Sites[stage.Publish].Bucket)
		}
		for _, stack := range stage.Apply {
			applied[stack] = true
			want(p.Stacks[stack].References()...)
		}
	}
	return wanted, applied
}
