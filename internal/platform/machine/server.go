package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/process"
)

// StartTime is how long a server may take until it answers.
const StartTime = 60 * time.Second

// Serve starts the server of a port unless it runs, and waits until ready
// succeeds. A server that does not come up is stopped again.
func (m *Machine) Serve(ctx context.Context, spec process.Spec, port int, ready func(context.Context) error) error {
	if found, err := m.Keeper.Find(spec.Name); err != nil || !found.Alive() {
		// Else another program could answer in its place.
		if err := AwaitPort(ctx, "tcp", port); err != nil {
			return err
		}
	}
	running, err := m.Keeper.Start(ctx, spec)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, StartTime)
	defer cancel()
	err = AwaitReady(ctx, running.Exited(), ready)
	if err == nil {
		return nil
	}
	// Not ctx: what does not work is to be stopped even if nobody waits.
	stopping, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*StopTime)
	defer stop()
	if stopErr := running.Stop(stopping, StopTime); stopErr != nil {
		return fmt.Errorf("%w; then stop it: %w", err, stopErr)
	}
	return err
}

// ServeAll starts the server that a hidden command of makeitso's is, for all
// resources of a kind, unless it runs. what is what people call it, file what it
// reads, and its folder is the file's.
func (m *Machine) ServeAll(ctx context.Context, hidden, what, file string, port int, ready func(context.Context) error) error {
	log, err := m.LogFile(hidden)
	if err != nil {
		return err
	}
	command := m.Command(hidden, file)
	spec := process.Spec{
		Name: "_" + hidden, Path: command[0], Args: command[1:], Log: log,
		Dir: filepath.Dir(file), Env: []string{"PATH=" + os.Getenv("PATH")},
	}
	if err := m.Serve(ctx, spec, port, ready); err != nil {
		return WithLastWords(fault.Wrap(fault.Failed, err, "start %s of environment %s on port %d", what, m.Env, port), log)
	}
	return nil
}

// Answers asks an HTTP server for a page, as a user with a password unless user
// is "". Any answer but 200 is fault.Unavailable.
func Answers(ctx context.Context, url, user, password string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if user != "" {
		request.SetBasicAuth(user, password)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fault.New(fault.Unavailable, "it answers %s", answer.Status)
	}
	return nil
}

// ReadyInterval is the time between two looks whether a server is ready.
const ReadyInterval = 10 * time.Millisecond

// AwaitReady tries ready again and again until it succeeds, answers
// fault.Failed for good, or the server has ended.
func AwaitReady(ctx context.Context, exited <-chan struct{}, ready func(context.Context) error) error {
	tick := time.NewTicker(ReadyInterval)
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

// RunOnce runs a program to its end.
func (m *Machine) RunOnce(ctx context.Context, spec process.Spec) error {
	running, err := m.Keeper.Start(ctx, spec)
	if err != nil {
		return err
	}
	var failure error
	select {
	case <-running.Exited():
		if ending := running.Ending(); ending != "exit status 0" {
			failure = fault.New(fault.Failed, "%s ended with %s", filepath.Base(spec.Path), ending)
		}
	case <-ctx.Done():
		failure = context.Cause(ctx)
	}
	if err := running.Stop(context.WithoutCancel(ctx), StopTime); err != nil {
		return errors.Join(failure, err)
	}
	return failure
}

// StopServer stops the process of that name, if there is one.
func (m *Machine) StopServer(ctx context.Context, name string) error {
	running, err := m.Keeper.Find(name)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return running.Stop(ctx, StopTime)
}

// Alive looks whether the server of a resource runs, fault.Unavailable if not.
func (m *Machine) Alive(r *Resource) error {
	return m.Running(r.Token, fmt.Sprintf("the server of %s (%s)", r.Name(), r.PhysicalID))
}

// Running looks whether the process of that name, called what for people, runs:
// fault.Unavailable if not.
func (m *Machine) Running(process, what string) error {
	found, err := m.Keeper.Find(process)
	if err == nil && found.Alive() {
		return nil
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return fault.New(fault.Unavailable, "%s does not run", what).
		WithHint("start what is missing, with its data: makeitso up")
}

// StopServing stops what serves r; it is started again by its make.
func (m *Machine) StopServing(ctx context.Context, r *Resource) error {
	if r.By == ByDocker {
		return m.stopContainer(ctx, r)
	}
	return m.StopServer(ctx, r.Token)
}

// leastRoom is what a server needs to write its data.
const leastRoom = 1 << 20

// isFull says whether the disk that a folder lies on has no room for data.
func isFull(folder string) bool {
	var disk syscall.Statfs_t
	return syscall.Statfs(folder, &disk) == nil && uint64(disk.Bavail)*uint64(disk.Bsize) < leastRoom
}

// StopAfterLast stops the process that serves all resources of a type when
// none is left but gone, which is being removed.
func (m *Machine) StopAfterLast(ctx context.Context, gone *Resource, process string) error {
	all, err := m.Resources()
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Type == gone.Type && r.Token != gone.Token {
			return nil
		}
	}
	return m.StopServer(ctx, process)
}

// FailedToStart explains why a resource's server does not come up.
func (m *Machine) FailedToStart(r *Resource, log string, err error) error {
	if isFull(m.Folder(r)) {
		return fault.Wrap(fault.Failed, err, "start the server of %s on port %d, with no room left on the disk", r.Name(), r.Port).
			WithHint("make room: df -h %s; then: makeitso up", m.Folder(r))
	}
	return WithLastWords(fault.Wrap(fault.Failed, err, "start the server of %s on port %d", r.Name(), r.Port), log)
}

// WithLastWords adds what a program printed last, unless a hint is known that
// says what to do.
func WithLastWords(f *fault.Error, log string) error {
	if last := Tail(log); last != "" && fault.HintOf(f) == "" {
		return f.WithHint("its last words (%s):\n%s", log, last)
	}
	return f
}

// Tail gives the last lines of a log, for people; "" if there are none.
func Tail(log string) string {
	const most, lines = 4096, 5
	text, err := process.Tail(log, most)
	if err != nil {
		return ""
	}
	last := strings.Split(string(bytes.TrimSpace(text)), "\n")
	return strings.Join(last[max(0, len(last)-lines):], "\n")
}

// LogFile gives the file for what a program prints, and makes its folder.
func (m *Machine) LogFile(name string) (string, error) {
	path := filepath.Join(m.Logs, name+".log")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("make the folder of logs: %w", err)
	}
	return path, nil
}
