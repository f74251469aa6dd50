package pipeline

import (
	"context"
	"slices"

	"makeitso/internal/release"
)

// migrate changes data for the release that comes after it. Like every command
// it is run again where makeitso was interrupted in it.
func (w *stageWork) migrate(ctx context.Context) (Result, error) {
	m := w.step.Stage.Migrate
	subject := migrationSubject(w.step.ID, m)
	if err := w.checkApproved(subject, digestOf(m)); err != nil {
		return Result{}, err
	}
	env, err := w.commandEnv(ctx, m.Env)
	if err != nil {
		return Result{}, err
	}
	if err := w.log.Printf("%s: %s", subject, m.Run); err != nil {
		return Result{}, err
	}
	if err := w.stageShell(ctx, m.Run, env); err != nil {
		return Result{}, err
	}
	return Result{Summary: m.Describe(), Migration: &release.Migration{Name: w.step.Stage.Name, Reversible: *m.Reversible, Undo: m.Undo}}, nil
}

// migrations gives what the stages before this one have done to the data of its
// environment, in the order of the run.
func (w *stageWork) migrations() []release.Migration {
	var done []release.Migration
	before := w.before(w.place)
	slices.Sort(before)
	for _, i := range before {
		if r := w.results[i]; r.Environment == w.step.Environment && r.Result.Migration != nil {
			done = append(done, *r.Result.Migration)
		}
	}
	return done
}
