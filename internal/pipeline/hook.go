package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/process"
	"makeitso/internal/release"
)

var _ release.Hooks = (*Engine)(nil)

// Hook implements release.Hooks: it runs a command of a rollout as a stage runs
// its own, and writes what it prints to the log of the stage that began the
// rollout.
func (e *Engine) Hook(ctx context.Context, h release.Hook) error {
	mark := "MAKEITSO_STAGE=" + e.o.Folder + ":" + h.ID
	if h.Again {
		if _, err := process.KillTagged(mark); err != nil {
			return fmt.Errorf("end what an interrupted attempt left: %w", err)
		}
	}
	if _, err := os.Stat(h.Folder); err != nil {
		return fault.Wrap(fault.NotFound, err, "the files of its commit are not there any more")
	}
	out, end, err := e.logs.join(h.Log)
	if err != nil {
		return fmt.Errorf("open its log: %w", err)
	}
	env := append(append(outerEnv(), mark), h.Env...)
	if h.Output != nil {
		return errors.Join(ask(ctx, h, env, out), end())
	}
	again := ""
	if h.Again {
		again = " (again, since makeitso was interrupted in it)"
	}
	if _, err := fmt.Fprintf(out, "%s%s: %s\n", h.ID, again, h.Command); err != nil {
		return errors.Join(err, end())
	}
	err = shell(ctx, h.Command, h.Folder, env, streams{out, out})
	return errors.Join(err, end())
}

// ask runs a command for what it prints. Its errors go to the log, and the last of
// them is the reason why it failed.
func ask(ctx context.Context, h release.Hook, env []string, log io.Writer) error {
	var last lastLine
	err := shell(ctx, h.Command, h.Folder, env, streams{h.Output, io.MultiWriter(log, &last)})
	if failed, ok := errors.AsType[*fault.Error](err); ok && failed.Code == fault.Failed && last.text != "" {
		return fault.New(fault.Failed, "%s: %s", failed.Message, last.text)
	}
	return err
}

// lastLine keeps the last line that is written to it and not empty.
type lastLine struct{ text, begun string }

func (l *lastLine) Write(p []byte) (int, error) {
	const longest = 300
	lines := strings.Split(l.begun+string(p), "\n")
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" {
			l.text = line[:min(longest, len(line))]
		}
	}
	l.begun = lines[len(lines)-1]
	l.begun = l.begun[:min(longest, len(l.begun))]
	return len(p), nil
}

// join gives a log to write to beside the stage that writes it, or, where that
// has ended, alone.
func (l *Logs) join(path string) (io.Writer, func() error, error) {
	l.mu.Lock()
	log := l.open[path]
	l.mu.Unlock()
	if log != nil {
		return log, func() error { return nil }, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return file, file.Close, nil
}
