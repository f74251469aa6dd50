package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/process"
)

// commandGrace is how long a command that is told to end may take, before it
// is killed.
const commandGrace = 5 * time.Second

// commandMark is the variable that a stage's command and all its children have
// in their environment.
func (e *Engine) commandMark(s StageRun) string {
	return "MAKEITSO_STAGE=" + e.o.Folder + ":" + s.Run + "/" + s.ID
}

// command runs a run stage: a shell command in the run's files, in a process
// group of its own. Its group is marked by a variable of its environment, so
// that what a crash left behind is found and killed before it is run again.
func (w *stageWork) command(ctx context.Context) (_ Result, err error) {
	mark := w.engine.commandMark(w.run)
	if w.resumed {
		killed, err := process.KillTagged(mark)
		if err != nil {
			return Result{}, fmt.Errorf("end what an interrupted attempt left: %w", err)
		}
		if err := w.log.Printf("makeitso was interrupted here; %d process groups of the first try were ended, and the command is run again", killed); err != nil {
			return Result{}, err
		}
	}
	env, err := w.variables(ctx, mark)
	if err != nil {
		return Result{}, err
	}
	if w.step.Stage.Serve != "" {
		address, stop, err := w.serve(ctx)
		if err != nil {
			return Result{}, err
		}
		defer func() { err = errors.Join(err, stop(context.WithoutCancel(ctx))) }()
		env = append(env, "SERVICE_URL=http://"+address)
	}
	if err := w.shell(ctx, env); err != nil {
		return Result{}, err
	}
	if size := w.log.Size(); size > 10<<20 {
		return Result{Summary: fmt.Sprintf("%d MB of output (kept whole: makeitso logs %s %s)", size>>20, w.run.Run, w.run.ID)}, nil
	}
	return Result{}, nil
}

// shell runs the stage's command to its end.
func (w *stageWork) shell(ctx context.Context, env []string) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", w.step.Stage.Run)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = w.folder, env, w.log, w.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = commandGrace
	if err := cmd.Start(); err != nil {
		return fault.Wrap(fault.Failed, err, "start the command")
	}
	err := cmd.Wait()
	// Whatever the command left in its group ends with it: a stage leaves
	// nothing running.
	if kill := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); kill != nil && !errors.Is(kill, syscall.ESRCH) {
		return fmt.Errorf("end the command's processes: %w", kill)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, exec.ErrWaitDelay):
		return w.log.Printf("the command left processes behind; they were ended")
	case errors.As(err, &exit):
		return fault.New(fault.Failed, "the command ended with %s", exit.ProcessState).WithHint("see: makeitso logs %s %s", w.run.Run, w.run.ID)
	}
	return fault.Wrap(fault.Failed, err, "run the command")
}

// variables gives the command's whole environment.
func (w *stageWork) variables(ctx context.Context, mark string) ([]string, error) {
	env := make([]string, 0, 32)
	for _, kv := range os.Environ() { // a makeitso run by a stage of makeitso is not that stage
		if !strings.HasPrefix(kv, "MAKEITSO_STAGE=") {
			env = append(env, kv)
		}
	}
	env = append(env, mark, "MAKEITSO_RUN="+w.run.Run, "MAKEITSO_COMMIT="+w.flow.run.Source.Commit, "MAKEITSO_ENVIRONMENT="+w.environmentName())
	own, err := w.expandAll(ctx, w.step.Stage.Env)
	if err != nil {
		return nil, err
	}
	for name, value := range own {
		env = append(env, name+"="+value)
	}
	return env, nil
}
