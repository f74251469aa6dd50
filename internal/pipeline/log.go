package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"makeitso/internal/fault"
)

// Logs keeps what stages print: one file for each attempt of a stage.
type Logs struct {
	folder string

	mu   sync.Mutex
	open map[string]*Log // by path, while a stage writes
}

func newLogs(folder string) *Logs {
	return &Logs{folder: filepath.Join(folder, "logs", "runs"), open: map[string]*Log{}}
}

// Log is the output of a stage at work. It is safe for concurrent use.
type Log struct {
	logs *Logs
	path string
	file *os.File

	mu    sync.Mutex
	size  int64
	grown chan struct{} // closed and replaced whenever the log has grown; closed for good at the end
	ended bool
}

func (l *Logs) path(run, stage string, attempt int) string {
	return filepath.Join(l.folder, run, fmt.Sprintf("%s.%d.log", stage, attempt))
}

// begin opens the log of an attempt, going on where it ended after a crash.
func (l *Logs) begin(path string) (*Log, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	log := &Log{logs: l, path: path, file: file, grown: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[path] = log
	return log, nil
}

// Write appends p.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended { // a rollout's command may outlive the stage that began it
		return 0, fs.ErrClosed
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	close(l.grown)
	l.grown = make(chan struct{})
	return n, err
}

// Printf appends a line.
func (l *Log) Printf(format string, args ...any) error {
	_, err := fmt.Fprintf(l, format+"\n", args...)
	return err
}

// Size gives how many bytes this process has written.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// Close ends the log; followers get the rest and end.
func (l *Log) Close() error {
	l.logs.mu.Lock()
	delete(l.logs.open, l.path)
	l.logs.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	close(l.grown)
	return l.file.Close()
}

// copy writes a log to w, and with follow goes on until the stage has ended.
func (l *Logs) copy(ctx context.Context, path string, follow bool, w io.Writer) (err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a stage that was skipped or stopped before it began has printed nothing
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for {
		l.mu.Lock()
		log := l.open[path]
		l.mu.Unlock()
		var grown chan struct{}
		if log != nil {
			log.mu.Lock()
			grown = log.grown
			log.mu.Unlock()
		}
		if _, err := io.Copy(w, file); err != nil {
			return err
		}
		if log == nil || !follow {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Logs writes what a run's stages have printed to w: of one stage, or of all
// in their order under a heading each. With follow it waits for what is still
// to come.
func (e *Engine) Logs(ctx context.Context, id, stage string, follow bool, w io.Writer) error {
	run, stages, err := e.Run(ctx, id)
	if err != nil {
		return err
	}
	if stage != "" {
		i, err := placeOf(run, stages, stage)
		if err != nil {
			return err
		}
		return e.stageLog(ctx, run, i, follow, w)
	}
	for i, s := range stages {
		if _, err := fmt.Fprintf(w, "=== %s\n", s.ID); err != nil {
			return err
		}
		if err := e.stageLog(ctx, run, i, follow, w); err != nil {
			return err
		}
	}
	return nil
}

// placeOf finds a stage of a run by its id.
func placeOf(run Run, stages []StageRun, stage string) (int, error) {
	ids := make([]string, len(stages))
	for i, s := range stages {
		ids[i] = s.ID
	}
	if i := slices.Index(ids, stage); i >= 0 {
		return i, nil
	}
	return 0, fault.New(fault.NotFound, "run %s has no stage %q", run.ID, stage).WithHint("%s", hintNames("stages", stage, ids))
}

func (e *Engine) stageLog(ctx context.Context, run Run, place int, follow bool, w io.Writer) error {
	s, err := e.runs.stages.Get(ctx, e.runs.stageKey(run, place))
	if err == nil && follow {
		s, err = e.untilStageBegins(ctx, run, place)
	}
	if err != nil {
		return err
	}
	return e.logs.copy(ctx, e.logs.path(run.ID, s.ID, s.Attempt), follow, w)
}

// untilStageBegins waits until the stage is at work or has ended.
func (e *Engine) untilStageBegins(ctx context.Context, run Run, place int) (StageRun, error) {
	for {
		after, err := e.LastEvent(ctx)
		if err != nil {
			return StageRun{}, err
		}
		s, err := e.runs.stages.Get(ctx, e.runs.stageKey(run, place))
		if err != nil || s.Status != Waiting || s.Result.Digest != "" { // what asks for approval has printed what for
			return s, err
		}
		err = e.Follow(ctx, after, func(ev Event) bool { return ev.Run != run.ID })
		if err != nil {
			return s, err
		}
	}
}

// Tail writes the last of what a stage has printed to w, at most so many
// bytes.
func (e *Engine) Tail(ctx context.Context, id, stage string, most int64, w io.Writer) (err error) {
	run, stages, err := e.Run(ctx, id)
	if err != nil {
		return err
	}
	i, err := placeOf(run, stages, stage)
	if err != nil {
		return err
	}
	file, err := os.Open(e.logs.path(id, stage, stages[i].Attempt))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has printed nothing
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if _, err := file.Seek(max(0, info.Size()-most), io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(w, file)
	return err
}
