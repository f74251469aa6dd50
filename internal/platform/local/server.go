package local

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/process"
)

// startTime is how long a server may take until it answers.
const startTime = 60 * time.Second

// serve starts the server of a port unless it runs, and waits until ready
// succeeds. A server that does not come up is stopped again.
func (p *Platform) serve(ctx context.Context, spec process.Spec, port int, ready func(context.Context) error) error {
	if found, err := p.keeper.Find(spec.Name); err != nil || !found.Alive() {
		// Else another program could answer in its place.
		if err := portIsFree(port); err != nil {
			return err
		}
	}
	running, err := p.keeper.Start(ctx, spec)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	err = awaitReady(ctx, running.Exited(), ready)
	if err == nil {
		return nil
	}
	// Not ctx: what does not work is to be stopped even if nobody waits.
	stopping, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*stopTime)
	defer stop()
	if stopErr := running.Stop(stopping, stopTime); stopErr != nil {
		return fmt.Errorf("%w; then stop it: %w", err, stopErr)
	}
	return err
}

// serveAll starts the server that a hidden command of makeitso's is, for all
// resources of a kind, unless it runs. what is what people call it, file what it
// reads, and its folder is the file's.
func (p *Platform) serveAll(ctx context.Context, hidden, what, file string, port int, ready func(context.Context) error) error {
	log, err := p.logFile(hidden)
	if err != nil {
		return err
	}
	command := p.command(hidden, file)
	spec := process.Spec{
		Name: "_" + hidden, Path: command[0], Args: command[1:], Log: log,
		Dir: filepath.Dir(file), Env: []string{"PATH=" + os.Getenv("PATH")},
	}
	if err := p.serve(ctx, spec, port, ready); err != nil {
		return withLastWords(fault.Wrap(fault.Failed, err, "start %s of environment %s on port %d", what, p.env, port), log)
	}
	return nil
}

// readyInterval is the time between two looks whether a server is ready.
const readyInterval = 20 * time.Millisecond

// awaitReady tries ready again and again until it succeeds, answers
// fault.Failed for good, or the server has ended.
func awaitReady(ctx context.Context, exited <-chan struct{}, ready func(context.Context) error) error {
	tick := time.NewTicker(readyInterval)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if fault.Is(err, fault.Failed) {
			return err
		}
		select {
		case <-exited: // whoever answered, it was another
			return fault.New(fault.Failed, "it ended before it was ready")
		default:
		}
		if err == nil {
			return nil
		}
		select {
		case <-exited:
		case <-ctx.Done():
			return fault.Wrap(fault.Failed, err, "it was not ready in time")
		case <-tick.C:
		}
	}
}

// stopServer stops the process of that name, if there is one.
func (p *Platform) stopServer(ctx context.Context, name string) error {
	running, err := p.keeper.Find(name)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return running.Stop(ctx, stopTime)
}

// alive looks whether the server of a resource runs, fault.Unavailable if not.
func (p *Platform) alive(r *resource) error {
	return p.running(r.Token, fmt.Sprintf("the server of %s (%s)", r.name(), r.PhysicalID))
}

// running looks whether the process of that name, called what for people, runs:
// fault.Unavailable if not.
func (p *Platform) running(process, what string) error {
	found, err := p.keeper.Find(process)
	if err == nil && found.Alive() {
		return nil
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return fault.New(fault.Unavailable, "%s does not run", what).
		WithHint("start what is missing, with its data: makeitso up")
}

// stop stops what serves r; it is started again by its make.
func (p *Platform) stop(ctx context.Context, r *resource) error {
	if r.By == byDocker {
		return p.stopContainer(ctx, r)
	}
	return p.stopServer(ctx, r.Token)
}

// leastRoom is what a server needs to write its data.
const leastRoom = 1 << 20

// isFull says whether the disk that a folder lies on has no room for data.
func isFull(folder string) bool {
	var disk syscall.Statfs_t
	return syscall.Statfs(folder, &disk) == nil && uint64(disk.Bavail)*uint64(disk.Bsize) < leastRoom
}

// stopAfterLast stops the process that serves all resources of a type when
// none is left but gone, which is being removed.
func (p *Platform) stopAfterLast(ctx context.Context, gone *resource, process string) error {
	all, err := p.resources()
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Type == gone.Type && r.Token != gone.Token {
			return nil
		}
	}
	return p.stopServer(ctx, process)
}

// failedToStart explains why a resource's server does not come up.
func (p *Platform) failedToStart(r *resource, log string, err error) error {
	if isFull(p.folder(r)) {
		return fault.Wrap(fault.Failed, err, "start the server of %s on port %d, with no room left on the disk", r.name(), r.Port).
			WithHint("make room: df -h %s; then: makeitso up", p.folder(r))
	}
	return withLastWords(fault.Wrap(fault.Failed, err, "start the server of %s on port %d", r.name(), r.Port), log)
}

// withLastWords adds what a program printed last, unless a hint is known that
// says what to do.
func withLastWords(f *fault.Error, log string) error {
	if last := tail(log); last != "" && fault.HintOf(f) == "" {
		return f.WithHint("its last words (%s):\n%s", log, last)
	}
	return f
}

// tail gives the last lines of a log, for people; "" if there are none.
func tail(log string) string {
	const most, lines = 4096, 5
	f, err := os.Open(log)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return ""
		}
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	last := strings.Split(string(bytes.TrimSpace(text)), "\n")
	return strings.Join(last[max(0, len(last)-lines):], "\n")
}
