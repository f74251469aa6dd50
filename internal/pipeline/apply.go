package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/project"
	"makeitso/internal/stack"
)

// apply makes the stage's stacks so, one after another: plans, shows the
// change set, checks that it is what was approved, and applies it.
func (w *stageWork) apply(ctx context.Context) (Result, error) {
	env, err := w.environment(ctx)
	if err != nil {
		return Result{}, err
	}
	var summaries []string
	for _, name := range w.step.Stage.Apply {
		summary, err := w.applyStack(ctx, env, name)
		if err != nil {
			return Result{Summary: strings.Join(summaries, "; ")}, fmt.Errorf("stack %s: %w", name, err)
		}
		summaries = append(summaries, name+": "+summary)
	}
	return Result{Summary: strings.Join(summaries, "; ")}, nil
}

func (w *stageWork) applyStack(ctx context.Context, env *Environment, name string) (string, error) {
	done, err := w.takeTurn(ctx, env.Name, "stack", name)
	if err != nil {
		return "", err
	}
	defer done()
	change, err := w.change(ctx, name)
	if err != nil {
		return "", err
	}
	cs, err := env.Stacks.Plan(ctx, change)
	if err != nil {
		return "", err
	}
	if err := w.checkApprovedStack(change, cs); err != nil {
		return "", err
	}
	if err := w.showChangeSet(ctx, cs); err != nil {
		return "", err
	}
	if cs.Empty() {
		return "no changes", nil
	}
	var observed error // Apply cannot be told to end by its observer: what went wrong is reported after
	err = env.Stacks.Apply(ctx, cs, func(ev stack.Event) {
		observed = errors.Join(observed, w.log.Printf("%s", eventLine(ev)), w.engine.emit(ctx, Event{
			Kind: "resource", Run: w.run.Run, Stage: w.run.ID, Environment: env.Name,
			Subject: ev.Stack + "/" + ev.LogicalID, Status: string(ev.Status), Message: ev.Reason,
		}))
	})
	if err != nil {
		return "", err
	}
	return cs.Summary(), observed
}

// change gives what the working files want of a stack.
func (w *stageWork) change(ctx context.Context, name string) (stack.Change, error) {
	env, err := w.environment(ctx)
	if err != nil {
		return stack.Change{}, err
	}
	return Change(w.project, w.folder, name, func(text string) (string, error) {
		return w.expand(ctx, text)
	}, map[string]string{"makeitso:environment": env.Name})
}

// Change reads the template of a project's stack from folder and gives what it
// wants. expand replaces the references in parameters.
func Change(p *project.Project, folder, name string, expand func(string) (string, error), tags map[string]string) (stack.Change, error) {
	s := p.Stacks[name]
	path := filepath.Join(folder, s.Template)
	template, err := os.ReadFile(path)
	if err != nil {
		return stack.Change{}, fault.Wrap(fault.NotFound, err, "read the template of stack %s", name).WithHint("stacks.%s.template in %s names %s", name, project.File, s.Template)
	}
	parameters := make(map[string]string, len(s.Parameters))
	for key, value := range s.Parameters {
		if parameters[key], err = expand(value); err != nil {
			return stack.Change{}, err
		}
	}
	return stack.Change{Stack: name, File: s.Template, Template: template, Parameters: parameters, Tags: tags}, nil
}

// showChangeSet writes the change set to the stage's log.
func (w *stageWork) showChangeSet(ctx context.Context, cs *stack.ChangeSet) error {
	if err := cs.WriteText(w.log); err != nil {
		return err
	}
	if cs.Empty() {
		return nil
	}
	return w.engine.emit(ctx, Event{
		Kind: "plan", Run: w.run.Run, Stage: w.run.ID, Environment: w.run.Environment,
		Subject: cs.Stack, Message: cs.Summary(),
	})
}

func eventLine(ev stack.Event) string {
	line := fmt.Sprintf("%s %-28s %s", ev.Time.Local().Format("15:04:05.000"), ev.LogicalID, ev.Status)
	if ev.Reason != "" {
		line += "  " + ev.Reason
	}
	return line
}
