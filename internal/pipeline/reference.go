package pipeline

import (
	"context"
	"maps"
	"slices"

	"makeitso/internal/fault"
	"makeitso/internal/project"
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
	return project.Expand(text, func(r project.Reference) (string, error) {
		switch r.Kind {
		case project.RunValue:
			return w.flow.run.Source.Commit, nil
		case project.EnvironmentValue:
			return w.environmentValue(r.Attribute)
		}
		env, err := w.environment(ctx)
		if err != nil {
			return "", err
		}
		outputs, err := env.Stacks.Outputs(ctx, r.Name)
		if fault.Is(err, fault.NotFound) {
			return "", fault.Wrap(fault.NotFound, err, "stack %s does not exist in environment %s yet", r.Name, env.Name).
				WithHint("run the pipeline that applies it first, e.g. makeitso apply %s --environment %s", r.Name, env.Name)
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
	})
}

func (w *stageWork) environmentValue(attribute string) (string, error) {
	name := w.environmentName()
	env := w.project.Environments[name]
	switch {
	case attribute == "name":
		return name, nil
	case env == nil:
		return "", fault.New(fault.Invalid, "stage %s has no environment to take %s from", w.step.ID, attribute)
	case attribute == "region":
		return env.Region, nil
	}
	return env.Account, nil
}
