package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dbos-inc/dbos-transact-golang/dbos"

	"makeitso/internal/fault"
	"makeitso/internal/project"
	"makeitso/internal/record"
	"makeitso/internal/span"
	"makeitso/internal/stack"
)

// attempt is the input of a run's workflow: one try at a run.
type attempt struct {
	Run     string `json:"run"`
	Attempt int    `json:"attempt"`
}

func (a attempt) workflowID() string { return fmt.Sprintf("%s.%d", a.Run, a.Attempt) }

// flow is a run's workflow while it is in this process.
type flow struct {
	engine  *Engine
	run     Run
	project *project.Project
	folder  string // the files the commands run in
	// interrupt ends what is at work; it goes on at the next start.
	interrupt context.CancelCauseFunc
	index     map[string]int  // step ids to their place in run.Steps
	ended     []chan struct{} // closed when the step of that place has ended
	results   []StageRun      // valid once ended
}

// runWorkflow drives one attempt of a run. All stages begin as steps at once,
// in the order of the file, so that their numbers are the same whatever ends
// first; each then waits for its needs in memory. A stage that has ended is
// not run again: neither after a crash nor in a later attempt.
func (e *Engine) runWorkflow(ctx dbos.Context, a attempt) (Status, error) {
	if err := e.drive(ctx, a); err != nil {
		if ctx.Err() != nil {
			return "", err // interrupted: it goes on at the next start
		}
		if endErr := e.end(ctx, a.Run, Failed, err.Error()); endErr != nil {
			// Ended here, it would not go on when the store can be written again.
			e.breakOff(fmt.Errorf("keep the state of run %s: %w", a.Run, endErr))
			<-ctx.Done()
			return "", endErr
		}
		return Failed, nil
	}
	run, err := e.runs.get(ctx, a.Run)
	return run.Status, err
}

func (e *Engine) drive(ctx dbos.Context, a attempt) error {
	stopping, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	e.setActive(a.Run, stop)
	defer e.setActive(a.Run, nil)

	begun := false
	run, err := e.setStatus(ctx, a.Run, func(r *Run) bool {
		if r.Attempt != a.Attempt || r.Status.Ended() || r.Status == Running {
			return false
		}
		r.Status, r.Reason, r.Started = Running, "", e.o.Now().UTC()
		begun = true
		return true
	})
	if err != nil || run.Attempt != a.Attempt || run.Status.Ended() { // makeitso stopped when all was done but the workflow's own end
		return err
	}
	if !begun {
		if err := e.emit(ctx, Event{Kind: "run", Run: run.ID, Status: string(Running), Message: "goes on after makeitso was interrupted"}); err != nil {
			return err
		}
	}
	if run.Cancel != "" {
		stop(errStop)
	}
	f, err := e.newFlow(stopping, run)
	if err != nil {
		return err
	}
	f.interrupt = stop
	outcomes := make([]<-chan dbos.StepOutcome[StageRun], len(run.Steps))
	for i, step := range run.Steps {
		outcomes[i], err = dbos.Go(ctx, func(stepCtx context.Context) (StageRun, error) {
			// A stage is stopped because somebody asked for it, or suspended
			// because makeitso ends: what it changes tells the two apart.
			stageCtx, cancel := context.WithCancelCause(context.WithoutCancel(stepCtx))
			defer cancel(nil)
			defer context.AfterFunc(stopping, func() {
				if errors.Is(context.Cause(stopping), errStop) {
					cancel(errStop)
					return
				}
				cancel(stack.ErrSuspend)
			})()
			return f.stage(stageCtx, i)
		}, dbos.WithStepName(step.ID))
		if err != nil {
			return fmt.Errorf("begin stage %s: %w", step.ID, err)
		}
	}
	return f.collect(ctx, outcomes)
}

// collect waits for all stages and ends the run.
func (f *flow) collect(ctx dbos.Context, outcomes []<-chan dbos.StepOutcome[StageRun]) error {
	var interrupted error
	arrived := make(chan error, len(outcomes))
	for i, outcome := range outcomes {
		go func() { // ends with its step, which ends with ctx
			o := <-outcome
			if o.Err != nil {
				// It has not ended but was interrupted, and with it all that
				// wait for it.
				f.interrupt(o.Err)
			} else {
				f.results[i] = o.Result
				close(f.ended[i])
			}
			arrived <- o.Err
		}()
	}
	for range outcomes {
		interrupted = errors.Join(interrupted, <-arrived)
	}
	if interrupted != nil {
		return interrupted
	}
	status, reason := f.outcome()
	if err := f.engine.end(ctx, f.run.ID, status, reason); err != nil {
		return err
	}
	return f.engine.sweepCheckouts(ctx, f.run.Pipeline)
}

// outcome gives the run's status from those of its stages.
func (f *flow) outcome() (Status, string) {
	for _, want := range []Status{Superseded, Canceled, Failed, Skipped} {
		for _, s := range f.results {
			if s.Status != want {
				continue
			}
			if want == Skipped { // nothing failed, and yet not all was done: never a success
				want = Failed
			}
			return want, fmt.Sprintf("%s: %s", s.ID, s.Reason)
		}
	}
	return Succeeded, ""
}

func (e *Engine) newFlow(ctx context.Context, run Run) (*flow, error) {
	p, err := e.project(ctx, run.Project)
	if err != nil {
		return nil, err
	}
	f := &flow{
		engine: e, run: run, project: p, index: map[string]int{},
		ended: make([]chan struct{}, len(run.Steps)), results: make([]StageRun, len(run.Steps)),
	}
	for i, step := range run.Steps {
		f.index[step.ID], f.ended[i] = i, make(chan struct{})
	}
	f.folder, err = e.checkout(ctx, run)
	return f, err
}

// end writes the run's end.
func (e *Engine) end(ctx context.Context, id string, status Status, reason string) error {
	k, err := runKey(id)
	if err != nil {
		return err
	}
	_, err = e.setStatus(ctx, id, func(r *Run) bool {
		if r.Status.Ended() {
			return false
		}
		r.Status, r.Reason, r.Ended = status, reason, e.o.Now().UTC()
		return true
	}, e.runs.open.DeleteOp(k))
	return err
}

// setStatus changes a run's status by change, which answers false to leave it
// as it is, tells the new one and does the other ops: all of it or nothing.
func (e *Engine) setStatus(ctx context.Context, id string, change func(*Run) bool, others ...record.Op) (Run, error) {
	for {
		run, version, err := e.runs.getVersion(ctx, id)
		if err != nil || !change(&run) {
			return run, err
		}
		op, err := e.runs.runs.PutOp(key(run.Number), run, version)
		if err != nil {
			return Run{}, err
		}
		message := run.Reason
		switch {
		case run.Status == Running:
			message = run.Source.Message
		case run.Status == Waiting:
			message = fmt.Sprintf("attempt %d", run.Attempt)
		}
		err = e.emit(ctx, Event{Kind: "run", Run: id, Status: string(run.Status), Message: message}, append(others, op)...)
		if !fault.Is(err, fault.Conflict) {
			return run, err
		}
	}
}

func (e *Engine) setActive(run string, stop context.CancelCauseFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if stop == nil {
		delete(e.active, run)
		return
	}
	e.active[run] = stop
}

// stage runs the step of that place, unless it has ended before, and gives its
// end. An error means that it was interrupted and is to be run again.
func (f *flow) stage(ctx context.Context, i int) (StageRun, error) {
	e, step := f.engine, f.run.Steps[i]
	// Even where the run has just been stopped: its end is to be written.
	s, version, err := e.runs.stages.GetVersion(context.WithoutCancel(ctx), e.runs.stageKey(f.run, i))
	if err != nil {
		return StageRun{}, err
	}
	if s.Status == Succeeded || s.Attempt == f.run.Attempt && s.Status.Ended() {
		return s, nil
	}
	resumed := s.Status == Running // it was at work when makeitso stopped
	s.Attempt, s.Code = f.run.Attempt, ""
	w := &stageWork{flow: f, step: step, place: i, run: s, version: version, resumed: resumed}
	result, err := w.whenReady(ctx)
	switch {
	case err == nil:
		w.run.Result = result
		return w.finish(ctx, Succeeded, "")
	case errors.Is(context.Cause(ctx), errStop):
		return w.stopped(ctx)
	case ctx.Err() != nil:
		return StageRun{}, context.Cause(ctx)
	}
	var skip skipped
	switch {
	case errors.As(err, &skip) && (skip.status == Canceled || skip.status == Superseded):
		return w.stopped(ctx)
	case errors.As(err, &skip):
		return w.finish(ctx, Skipped, err.Error())
	}
	w.run.Result, w.run.Code = result, fault.CodeOf(err)
	return w.finish(ctx, Failed, fault.Text(err))
}

// skipped is why a stage is not run: something it needs did not succeed.
type skipped struct {
	need   string
	status Status // the need's
}

func (s skipped) Error() string { return s.need + " did not succeed" }

// stageWork is one stage at work.
type stageWork struct {
	*flow
	step    project.Step
	place   int
	run     StageRun
	version int64
	resumed bool // it was running when makeitso stopped: look for what it had begun
	log     *Log
}

// write stores the stage's status and tells it.
func (w *stageWork) write(ctx context.Context, status Status, reason string) error {
	e := w.engine
	w.run.Status, w.run.Reason = status, reason
	switch {
	case status.Ended():
		w.run.Ended = e.o.Now().UTC()
	case status == Running && w.run.Started.IsZero():
		w.run.Started = e.o.Now().UTC()
	}
	op, err := e.runs.stages.PutOp(e.runs.stageKey(w.flow.run, w.place), w.run, w.version)
	if err != nil {
		return err
	}
	message := reason
	if status == Succeeded {
		message = w.run.Result.Summary
	}
	w.version++
	return e.emit(ctx, Event{Kind: "stage", Run: w.run.Run, Stage: w.run.ID, Environment: w.run.Environment, Status: string(status), Message: message}, op)
}

// finish writes the stage's end and gives it.
func (w *stageWork) finish(ctx context.Context, status Status, reason string) (StageRun, error) {
	err := w.write(ctx, status, reason)
	return w.run, err
}

// stopped ends the stage because the run was cancelled or superseded.
func (w *stageWork) stopped(ctx context.Context) (StageRun, error) {
	run, err := w.engine.runs.get(context.WithoutCancel(ctx), w.run.Run)
	if err != nil {
		return StageRun{}, err
	}
	return w.finish(ctx, run.Cancel, "stopped by "+run.CancelBy)
}

// whenReady waits for what the stage needs, then runs it.
func (w *stageWork) whenReady(ctx context.Context) (Result, error) {
	for _, need := range w.before(w.place) {
		select {
		case <-w.ended[need]:
		case <-ctx.Done():
			return Result{}, context.Cause(ctx)
		}
		if w.results[need].Status != Succeeded {
			return Result{}, skipped{w.results[need].ID, w.results[need].Status}
		}
	}
	if err := w.afterOtherRuns(ctx); err != nil {
		return Result{}, err
	}
	log, err := w.engine.logs.begin(w.engine.logs.path(w.run.Run, w.run.ID, w.run.Attempt))
	if err != nil {
		return Result{}, err
	}
	w.log = log
	result, err := w.work(ctx)
	if closeErr := log.Close(); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	return result, err
}

// before gives the places of all steps that the one at place needs, directly
// or through others, the nearest first. All of them are waited for, since after
// a restart the ends of earlier steps arrive in any order.
func (f *flow) before(place int) []int {
	var all []int
	for _, need := range f.run.Steps[place].Needs {
		if at := f.index[need]; !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	for i := 0; i < len(all); i++ {
		for _, need := range f.run.Steps[all[i]].Needs {
			if at := f.index[need]; !slices.Contains(all, at) {
				all = append(all, at)
			}
		}
	}
	return all
}

// work runs the stage by its kind, within its time limit.
func (w *stageWork) work(ctx context.Context) (Result, error) {
	stage := w.step.Stage
	if stage.Timeout > 0 {
		var cancel context.CancelFunc
		limit := fault.New(fault.Failed, "took longer than its timeout of %s", span.Text(stage.Timeout)).WithHint("raise the stage's timeout, or find out what it waits for: makeitso logs %s %s", w.run.Run, w.run.ID)
		ctx, cancel = context.WithTimeoutCause(ctx, stage.Timeout, errors.Join(limit, context.DeadlineExceeded))
		defer cancel()
	}
	if stage.Kind() == project.ApproveStage { // it waits, and tells so itself
		return w.approve(ctx)
	}
	if err := w.write(ctx, Running, ""); err != nil {
		return Result{}, err
	}
	result, err := w.kind(ctx)
	if err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		err = context.Cause(ctx)
	}
	return result, err
}

func (w *stageWork) kind(ctx context.Context) (Result, error) {
	switch w.step.Stage.Kind() {
	case project.RunStage:
		return w.command(ctx)
	case project.ImageStage:
		return w.image(ctx)
	case project.ApplyStage:
		return w.apply(ctx)
	case project.MigrateStage:
		return w.migrate(ctx)
	case project.ReleaseStage:
		return w.release(ctx)
	case project.PublishStage:
		return w.publish(ctx)
	}
	return Result{}, fault.New(fault.Internal, "stage %s has no kind that this makeitso knows", w.step.ID)
}

// afterOtherRuns waits, before the first stage that touches an environment,
// for the runs of the same push whose stacks this one refers to.
func (w *stageWork) afterOtherRuns(ctx context.Context) error {
	if w.step.Environment == "" && w.step.Stage.Serve == "" {
		return nil
	}
	for _, id := range w.flow.run.After {
		for told := false; ; {
			other, err := w.engine.runs.get(ctx, id)
			if err != nil {
				return err
			}
			if other.Status == Succeeded {
				break
			}
			if other.Status.Ended() {
				return fault.New(fault.Failed, "run %s, whose stacks this run refers to, has ended as %s", id, other.Status).
					WithHint("mend it and retry it (makeitso retry %s), then retry this one", id)
			}
			if !told {
				if err := w.write(ctx, Waiting, "for run "+id+", whose stacks it refers to"); err != nil {
					return err
				}
				told = true
			}
			if err := w.engine.untilRunEnds(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// untilRunEnds waits for the event that a run has ended.
func (e *Engine) untilRunEnds(ctx context.Context, id string) error {
	after, err := e.o.Store.Last(ctx, Stream)
	if err != nil {
		return err
	}
	run, err := e.runs.get(ctx, id) // it may have ended before we began to listen
	if err != nil || run.Status.Ended() {
		return err
	}
	err = e.Follow(ctx, after, func(ev Event) bool {
		return !(ev.Kind == "run" && ev.Run == id && Status(ev.Status).Ended())
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Wait waits until the run has ended and gives it.
func (e *Engine) Wait(ctx context.Context, id string) (Run, error) {
	for {
		run, err := e.runs.get(ctx, id)
		if err != nil || run.Status.Ended() {
			return run, err
		}
		if err := e.untilRunEnds(ctx, id); err != nil {
			return run, err
		}
	}
}
