package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/project"
	"makeitso/internal/stack"
	"makeitso/internal/template"
)

// apply makes the stage's stacks so: plans them together, shows the change
// sets, checks that they are what was approved, and applies one after another.
func (w *stageWork) apply(ctx context.Context) (Result, error) {
	env, err := w.environment(ctx)
	if err != nil {
		return Result{}, err
	}
	for _, name := range slices.Sorted(slices.Values(w.step.Stage.Apply)) { // in one order, so that no two stages wait for each other
		done, err := w.takeTurn(ctx, env.Name, "stack", name)
		if err != nil {
			return Result{}, fmt.Errorf("stack %s: %w", name, err)
		}
		defer done()
		if err := w.awaitStack(ctx, env, name); err != nil {
			return Result{}, fmt.Errorf("stack %s: %w", name, err)
		}
	}
	sets, err := env.Stacks.PlanAll(ctx, w.step.Stage.Apply, w.wantedStacks(ctx, env))
	if err != nil {
		return Result{}, err
	}
	for _, cs := range sets {
		if err := w.checkApprovedStack(cs); err != nil {
			return Result{}, fmt.Errorf("stack %s: %w", cs.Stack, err)
		}
		if err := w.showChangeSet(ctx, cs); err != nil {
			return Result{}, err
		}
	}
	var summaries []string
	for _, cs := range sets {
		summary, err := w.applySet(ctx, env, cs)
		if err != nil {
			return Result{Summary: strings.Join(summaries, "; ")}, fmt.Errorf("stack %s: %w", cs.Stack, err)
		}
		summaries = append(summaries, cs.Stack+": "+summary)
	}
	return Result{Summary: strings.Join(summaries, "; ")}, nil
}

func (w *stageWork) applySet(ctx context.Context, env *Environment, cs *changeset.Set) (string, error) {
	if cs.Empty() {
		return "no changes", nil
	}
	cs, err := Replan(ctx, env.Stacks, cs, w.wantedStacks(ctx, env))
	if err != nil {
		return "", err
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

// awaitStack waits until nobody changes a stack by hand, or from another
// process, and says so while it waits.
func (w *stageWork) awaitStack(ctx context.Context, env *Environment, name string) error {
	var told error
	err := env.Stacks.Await(ctx, name, func(holder string) {
		told = w.write(ctx, Waiting, "stack "+name+" is being changed by "+holder)
	})
	if err := errors.Join(err, told); err != nil || w.run.Status == Running {
		return err
	}
	return w.write(ctx, Running, "")
}

// wantedStacks gives what the working files want of stacks, as a part of what was
// approved if anything was.
func (w *stageWork) wantedStacks(ctx context.Context, env *Environment) stack.Wanted {
	v := w.values()
	v.Tags = map[string]string{"makeitso:environment": env.Name}
	return func(name string, will stack.OutputOf) (changeset.Change, error) {
		change, err := v.Change(ctx, w.folder, name, will)
		change.Joint = w.approvedResult().Joint[name]
		return change, err
	}
}

// Replan plans a set of a joint plan again when those before it were applied,
// with what these have put out. What it does must be what the set says.
func Replan(ctx context.Context, stacks Stacks, cs *changeset.Set, wanted stack.Wanted) (*changeset.Set, error) {
	change, err := wanted(cs.Stack, func(string, string) (string, bool, error) { return "", false, nil })
	if err != nil {
		return nil, err
	}
	change.Joint = cs.Change.Joint
	again, err := stacks.Plan(ctx, change)
	if err == nil && again.Digest != cs.Digest {
		err = fault.New(fault.Conflict, "stack %s has moved since its change set was shown", cs.Stack).WithHint("look at it again: makeitso plan %s", cs.Stack)
	}
	return again, err
}

// Change reads the template of a project's stack from folder and gives what it
// wants. References in its values are to what stacks of the same plan will put
// out, or to what stands.
func (v Values) Change(ctx context.Context, folder, name string, will stack.OutputOf) (changeset.Change, error) {
	s := v.Project.Stacks[name]
	v.will = will
	text, err := os.ReadFile(filepath.Join(folder, s.Template))
	if err != nil {
		return changeset.Change{}, fault.Wrap(fault.NotFound, err, "read the template of stack %s", name).WithHint("stacks.%s.template in %s names %s", name, project.File, s.Template)
	}
	change := changeset.Change{Stack: name, File: s.Template, Template: text, Parameters: make(map[string]string, len(s.Parameters)), Tags: map[string]string{},
		Timeout: s.Timeout, OnFailure: OnFailure(s.OnFailure)}
	if s.Rollback != nil {
		change.Rollback.Monitor = s.Rollback.Monitor
		for _, text := range s.Rollback.Alarms {
			arn, err := v.Expand(ctx, text)
			if err != nil {
				return changeset.Change{}, err
			}
			change.Rollback.ARNs = append(change.Rollback.ARNs, arn)
		}
	}
	for key, value := range s.Parameters {
		if change.Parameters[key], err = v.Expand(ctx, value); err != nil {
			return changeset.Change{}, err
		}
	}
	maps.Copy(change.Tags, v.Tags)
	for key, value := range s.Tags {
		if change.Tags[key], err = v.Expand(ctx, value); err != nil {
			return changeset.Change{}, err
		}
	}
	change.Files = map[string][]byte{}
	return change, readNested(folder, s.Template, text, change.Files)
}

// readNested reads the templates of nested stacks that a template names by
// their paths, and those that these name, into files. One that is not there is
// left out: the plan says where it is named.
func readNested(folder, file string, text []byte, files map[string][]byte) error {
	if !bytes.Contains(text, []byte("AWS::CloudFormation::Stack")) {
		return nil
	}
	t, _ := template.Parse(file, text) // its mistakes are the plan's to tell
	if t == nil {
		return nil
	}
	for _, r := range t.Resources {
		url := r.Properties.Get("TemplateURL")
		if r.Type != "AWS::CloudFormation::Stack" || url == nil || url.Kind != template.Text || strings.Contains(url.Text, "://") {
			continue
		}
		inner := path.Join(path.Dir(filepath.ToSlash(file)), url.Text)
		if _, read := files[inner]; read || !filepath.IsLocal(filepath.FromSlash(inner)) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(inner)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the template of a nested stack: %w", err)
		}
		files[inner] = text
		if err := readNested(folder, inner, text, files); err != nil {
			return err
		}
	}
	return nil
}

// OnFailure gives the service's word for one of makeitso.yaml, such as
// do-nothing.
func OnFailure(word string) string {
	return strings.ToUpper(strings.ReplaceAll(word, "-", "_"))
}

// showChangeSet writes the change set to the stage's log.
func (w *stageWork) showChangeSet(ctx context.Context, cs *changeset.Set) error {
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
