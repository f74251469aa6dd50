package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
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
	env, err := w.commandEnv(ctx, w.step.Stage.Env)
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
	if err := w.stageShell(ctx, w.step.Stage.Run, env); err != nil {
		return Result{}, err
	}
	if size := w.log.Size(); size > 10<<20 {
		return Result{Summary: fmt.Sprintf("%d MB of output (kept whole: makeitso logs %s %s)", size>>20, w.run.Run, w.run.ID)}, nil
	}
	return Result{}, nil
}

// commandEnv ends what an interrupted attempt left, and gives the environment
// of the stage's command, with values of its own.
func (w *stageWork) commandEnv(ctx context.Context, own map[string]string) ([]string, error) {
	mark := w.engine.commandMark(w.run)
	if w.resumed {
		killed, err := process.KillTagged(mark)
		if err != nil {
			return nil, fmt.Errorf("end what an interrupted attempt left: %w", err)
		}
		if err := w.log.Printf("makeitso was interrupted here; %d process groups of the first try were ended, and the command is run again", killed); err != nil {
			return nil, err
		}
	}
	return w.variables(ctx, mark, own)
}

// stageShell runs a command of the stage to its end.
func (w *stageWork) stageShell(ctx context.Context, command string, env []string) error {
	err := shell(ctx, command, w.folder, env, streams{w.log, w.log})
	if failed, ok := errors.AsType[*fault.Error](err); ok && failed.Code == fault.Failed {
		return failed.WithHint("see: makeitso logs %s %s", w.run.Run, w.run.ID)
	}
	return err
}

// streams take what a command prints.
type streams struct{ output, errors io.Writer }

// shell runs a command in a process group of its own to its end.
func shell(ctx context.Context, command, folder string, env []string, to streams) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = folder, env, to.output, to.errors
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
		_, err := fmt.Fprintln(to.errors, "the command left processes behind; they were ended")
		return err
	case errors.As(err, &exit):
		return fault.New(fault.Failed, "the command ended with %s", exit.ProcessState)
	}
	return fault.Wrap(fault.Failed, err, "run the command")
}

// outerEnv is this process's environment for a command. A makeitso run by a
// stage of makeitso is not that stage.
func outerEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "MAKEITSO_STAGE=") })
}

// variables gives the command's whole environment.
func (w *stageWork) variables(ctx context.Context, mark string, texts map[string]string) ([]string, error) {
	env := append(outerEnv(), mark, "MAKEITSO_RUN="+w.run.Run, "MAKEITSO_COMMIT="+w.flow.run.Source.Commit, "MAKEITSO_ENVIRONMENT="+w.environmentName())
	own, err := w.expandAll(ctx, texts)
	if err != nil {
		return nil, err
	}
	for name, value := range own {
		env = append(env, name+"="+value)
	}
	return env, nil
}
