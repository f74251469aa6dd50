package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/process"
	"makeitso/internal/project"
	"makeitso/internal/record"
)

// Start is what begins a run.
type Start struct {
	Project      []byte // the text of makeitso.yaml
	Pipeline     string
	Environments []string // default: those of the pipeline
	Source       Source
	By           string
	After        []string // see Run.After
}

// Start begins a run and gives it before its first stage. Older runs of the
// same pipeline, branch and environments that only wait are superseded.
func (e *Engine) Start(ctx context.Context, s Start) (Run, error) {
	run, err := e.newRun(ctx, s)
	if err != nil {
		return Run{}, err
	}
	if err := e.keepRun(ctx, run); err != nil {
		return Run{}, err
	}
	if err := e.emit(ctx, Event{Kind: "run", Run: run.ID, Status: string(Waiting), Message: run.Source.Message}); err != nil {
		return Run{}, err
	}
	if err := e.supersedeOlder(ctx, run); err != nil {
		return Run{}, err
	}
	return run, e.begin(run)
}

func (e *Engine) newRun(ctx context.Context, s Start) (Run, error) {
	p, mistakes := project.Parse(project.File, s.Project)
	if err := mistakes.Err(); err != nil {
		return Run{}, err
	}
	pl := p.Pipelines[s.Pipeline]
	if pl == nil {
		names := slices.Sorted(maps.Keys(p.Pipelines))
		return Run{}, fault.New(fault.NotFound, "%s has no pipeline %q", project.File, s.Pipeline).
			WithHint("%s", hintNames("pipelines", s.Pipeline, names))
	}
	environments := s.Environments
	if len(environments) == 0 {
		environments = pl.Environments
	}
	for _, name := range environments { // what cannot be done is refused before anything is
		if _, err := e.o.Environment(ctx, p, name); err != nil {
			return Run{}, err
		}
	}
	steps, err := p.Steps(s.Pipeline, environments)
	if err != nil {
		return Run{}, err
	}
	digest, err := e.keepProject(ctx, s.Project)
	if err != nil {
		return Run{}, err
	}
	number, err := e.runs.number(ctx)
	if err != nil {
		return Run{}, err
	}
	return Run{
		ID: fmt.Sprintf("%s-%d", s.Pipeline, number), Number: number, Pipeline: s.Pipeline, Environments: environments,
		Source: s.Source, By: s.By, Project: digest, Steps: steps, After: s.After,
		Status: Waiting, Reason: "for its turn", Attempt: 1, Created: e.o.Now().UTC(),
	}, nil
}

func hintNames(what, word string, names []string) string {
	if near := diag.Nearest(word, names); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return fmt.Sprintf("its %s are: %s", what, strings.Join(names, ", "))
}

// keepRun stores a new run, its stages and its place among the open ones, all
// or nothing.
func (e *Engine) keepRun(ctx context.Context, run Run) error {
	op, err := e.runs.runs.PutOp(key(run.Number), run, record.Absent)
	if err != nil {
		return err
	}
	ops := []record.Op{op, e.runs.openOp(run)}
	for i, step := range run.Steps {
		op, err := e.runs.stages.PutOp(e.runs.stageKey(run, i), StageRun{
			Run: run.ID, ID: step.ID, Kind: string(step.Stage.Kind()), Environment: step.Environment, Status: Waiting, Reason: "for its turn",
		}, record.Absent)
		if err != nil {
			return err
		}
		ops = append(ops, op)
	}
	return e.o.Store.Write(ctx, ops...)
}

// begin hands the run's attempt to the workflow engine; doing so again is fine.
func (e *Engine) begin(run Run) error {
	a := attempt{Run: run.ID, Attempt: run.Attempt}
	options := []dbos.WorkflowOption{dbos.WithWorkflowID(a.workflowID())}
	if !e.o.Direct {
		options = append(options, dbos.WithQueue(e.queue), dbos.WithQueuePartitionKey(run.Pipeline))
	}
	if _, err := dbos.RunWorkflow(e.dbos, e.runWorkflow, a, options...); err != nil {
		return fault.Wrap(fault.Unavailable, err, "begin run %s", run.ID)
	}
	return nil
}

// supersedeOlder stops older runs of the same kind that only wait.
func (e *Engine) supersedeOlder(ctx context.Context, newer Run) error {
	open, err := e.Open(ctx)
	if err != nil {
		return err
	}
	for _, old := range open {
		if old.Number >= newer.Number || old.Pipeline != newer.Pipeline || old.Source.Branch != newer.Source.Branch || !slices.Equal(old.Environments, newer.Environments) {
			continue
		}
		stages, err := e.runs.stagesOf(ctx, old)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(stages, func(s StageRun) bool { return s.Status == Running }) {
			continue // it changes something: it is never overtaken
		}
		if err := e.stop(ctx, old.ID, Superseded, "run "+newer.ID); err != nil {
			return err
		}
	}
	return nil
}

// Cancel stops a run: what it is doing is ended, what it has done stays.
func (e *Engine) Cancel(ctx context.Context, id, by string) error {
	run, err := e.runs.get(ctx, id)
	if err != nil {
		return err
	}
	if run.Status.Ended() {
		return fault.New(fault.Conflict, "run %s has already ended as %s", id, run.Status)
	}
	return e.stop(ctx, id, Canceled, by)
}

// stop asks the run to end with that status. One that is at work in this
// process ends by itself; one that still waits for its turn is ended here.
func (e *Engine) stop(ctx context.Context, id string, status Status, by string) error {
	run, err := e.runs.update(ctx, id, func(r *Run) bool {
		if r.Status.Ended() || r.Cancel != "" {
			return false
		}
		r.Cancel, r.CancelBy = status, by
		return true
	})
	if err != nil || run.Status.Ended() {
		return err
	}
	e.mu.Lock()
	cancel := e.active[id]
	e.mu.Unlock()
	if cancel != nil {
		cancel(errStop)
		return nil
	}
	// Not begun: take it out of the queue. If it begins at this very moment it
	// finds the wish in its record.
	if err := dbos.CancelWorkflow(e.dbos, attempt{run.ID, run.Attempt}.workflowID()); err != nil && !errors.Is(err, dbos.ErrNonExistentWorkflow) {
		return fault.Wrap(fault.Unavailable, err, "take run %s out of the queue", id)
	}
	return e.endUnbegun(ctx, run)
}

// endUnbegun ends a run that no workflow will end.
func (e *Engine) endUnbegun(ctx context.Context, run Run) error {
	reason := "stopped by " + run.CancelBy
	for i := range run.Steps {
		s, version, err := e.runs.stages.GetVersion(ctx, e.runs.stageKey(run, i))
		if err != nil {
			return err
		}
		if s.Status.Ended() {
			continue
		}
		if s.Status == Running { // when makeitso stopped: its command may still be at work
			if _, err := process.KillTagged(e.commandMark(s)); err != nil {
				return err
			}
		}
		s.Status, s.Reason = run.Cancel, reason
		// A conflict means that it began at this very moment: its flow ends it.
		if err := e.runs.stages.PutIf(ctx, e.runs.stageKey(run, i), s, version); err != nil && !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return e.end(ctx, run.ID, run.Cancel, reason)
}

// Retry begins a run that has ended without success again: stages that
// succeeded are kept, the others run.
func (e *Engine) Retry(ctx context.Context, id string) (Run, error) {
	run, err := e.runs.get(ctx, id)
	if err != nil {
		return Run{}, err
	}
	if !run.Status.Ended() || run.Status == Succeeded {
		return Run{}, fault.New(fault.Conflict, "run %s is %s: only one that has ended without success can be retried", id, run.Status)
	}
	p, err := e.project(ctx, run.Project)
	if err != nil {
		return Run{}, err
	}
	for _, name := range run.Environments {
		if _, err := e.o.Environment(ctx, p, name); err != nil {
			return Run{}, err
		}
	}
	ops, err := e.waitAgain(ctx, run)
	if err != nil {
		return Run{}, err
	}
	last := run.Attempt
	run, err = e.setStatus(ctx, id, func(r *Run) bool {
		if r.Attempt != last { // somebody else retries it too: that is one more attempt, not two
			return false
		}
		r.Attempt++
		r.Status, r.Reason, r.Cancel, r.CancelBy, r.Ended = Waiting, "for its turn", "", "", time.Time{}
		return true
	}, ops...)
	if err != nil {
		return Run{}, err
	}
	return run, e.begin(run)
}

// waitAgain gives the ops that put an ended run among the open ones and let
// its stages wait again, but those that succeeded. They need no conditions of
// their own: nobody writes them before the run has its next attempt.
func (e *Engine) waitAgain(ctx context.Context, run Run) ([]record.Op, error) {
	stages, err := e.runs.stagesOf(ctx, run)
	if err != nil {
		return nil, err
	}
	ops := []record.Op{e.runs.openOp(run)}
	for i, s := range stages {
		if s.Status == Succeeded {
			continue
		}
		s = StageRun{Run: s.Run, ID: s.ID, Kind: s.Kind, Environment: s.Environment, Attempt: s.Attempt, Status: Waiting, Reason: "for its turn"}
		op, err := e.runs.stages.PutOp(e.runs.stageKey(run, i), s, record.Any)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// Open gives the runs that have not ended, oldest first.
func (e *Engine) Open(ctx context.Context) ([]Run, error) {
	ids, err := e.runs.open.List(ctx, "")
	if err != nil {
		return nil, err
	}
	open := []Run{}
	for _, id := range ids {
		run, err := e.runs.get(ctx, id)
		if err != nil {
			return nil, err
		}
		open = append(open, run)
	}
	return open, nil
}

// Runs gives up to limit runs, the newest first; of one pipeline if its name
// is given.
func (e *Engine) Runs(ctx context.Context, pipeline string, limit int) ([]Run, error) {
	all, err := e.runs.runs.List(ctx, "")
	if err != nil {
		return nil, err
	}
	slices.Reverse(all)
	if pipeline != "" {
		all = slices.DeleteFunc(all, func(r Run) bool { return r.Pipeline != pipeline })
	}
	return all[:min(limit, len(all))], nil
}

// Run gives a run and its stages.
func (e *Engine) Run(ctx context.Context, id string) (Run, []StageRun, error) {
	run, err := e.runs.get(ctx, id)
	if err != nil {
		return Run{}, nil, err
	}
	stages, err := e.runs.stagesOf(ctx, run)
	return run, stages, err
}
