package pipeline

import (
	"context"
	"maps"
	"slices"

	"makeitso/internal/fault"
	"makeitso/internal/project"
	"makeitso/internal/stack"
)

// environmentName gives the environment the stage works in: its own, or for a
// stage that makes artifacts the first of the run.
func (w *stageWork) environmentName() string {
	if w.step.Environment != "" {
		return w.step.Environment
	}
	if len(w.flow.run.Environments) > 0 {
		return w.flow.run.Environments[0]
	}
	return ""
}

// environment opens the environment the stage works in.
func (w *stageWork) environment(ctx context.Context) (*Environment, error) {
	name := w.environmentName()
	if name == "" {
		return nil, fault.New(fault.Invalid, "stage %s needs an environment and its pipeline names none", w.step.ID).
			WithHint("add environments: [local] to pipeline %s in %s", w.flow.run.Pipeline, project.File)
	}
	return w.engine.o.Environment(ctx, w.project, name)
}

// expandAll replaces the ${…} references in all values.
func (w *stageWork) expandAll(ctx context.Context, texts map[string]string) (map[string]string, error) {
	expanded := make(map[string]string, len(texts))
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		value, err := w.expand(ctx, texts[name])
		if err != nil {
			return nil, err
		}
		expanded[name] = value
	}
	return expanded, nil
}

// expand replaces the ${…} references in text.
func (w *stageWork) expand(ctx context.Context, text string) (string, error) {
	return w.values().Expand(ctx, text)
}

// values gives what references stand for in the environment the stage works in.
func (w *stageWork) values() Values {
	return Values{Project: w.project, Environment: w.environmentName(), Commit: func(context.Context) string { return w.flow.run.Source.Commit },
		Stacks: func(ctx context.Context) (Stacks, error) {
			env, err := w.environment(ctx)
			if err != nil {
				return nil, err
			}
			return env.Stacks, nil
		},
		Artifact: func(_ context.Context, name string) (string, error) { return w.digestOf(name) },
	}
}

// Values is what references stand for in one environment.
type Values struct {
	Project     *project.Project
	Environment string // its name, "" for none
	// Commit gives the commit's hash; it is called only for a reference to it.
	Commit func(context.Context) string
	// Stacks gives the environment's stacks; it is called only for a reference
	// to one.
	Stacks func(context.Context) (Stacks, error)
	// Artifact gives the digest of an artifact.
	Artifact func(ctx context.Context, name string) (string, error)
	Tags     map[string]string // of the stacks

	will stack.OutputOf // while stacks are planned together
}

// Expand replaces the ${…} references in text. What a reference names and does
// not exist is fault.NotFound.
func (v Values) Expand(ctx context.Context, text string) (string, error) {
	return project.Expand(text, func(r project.Reference) (string, error) {
		switch r.Kind {
		case project.RunValue:
			return v.Commit(ctx), nil
		case project.EnvironmentValue:
			return v.environment(r)
		case project.ArtifactValue:
			return v.Artifact(ctx, r.Name)
		}
		return v.output(ctx, r)
	})
}

func (v Values) output(ctx context.Context, r project.Reference) (string, error) {
	if v.will != nil {
		if value, planned, err := v.will(r.Name, r.Attribute); planned || err != nil {
			return value, err
		}
	}
	stacks, err := v.Stacks(ctx)
	if err != nil {
		return "", err
	}
	outputs, err := stacks.Outputs(ctx, r.Name)
	if fault.Is(err, fault.NotFound) {
		return "", fault.Wrap(fault.NotFound, err, "stack %s does not exist in environment %s yet", r.Name, v.Environment).
			WithHint("apply it first, by a pipeline or with: makeitso apply %s --environment %s", r.Name, v.Environment)
	}
	if err != nil {
		return "", err
	}
	value, ok := outputs[r.Attribute]
	if !ok {
		return "", fault.New(fault.NotFound, "stack %s has no output %q", r.Name, r.Attribute).
			WithHint("%s", hintNames("outputs", r.Attribute, slices.Sorted(maps.Keys(outputs))))
	}
	return value, nil
}

func (v Values) environment(r project.Reference) (string, error) {
	env := v.Project.Environments[v.Environment]
	switch {
	case env == nil:
		return "", fault.New(fault.Invalid, "there is no environment to take %s from", r)
	case r.Attribute == "name":
		return v.Environment, nil
	case r.Attribute == "region":
		return env.Region, nil
	}
	return env.Account, nil
}
