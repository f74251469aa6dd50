package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"makeitso/internal/fault"
)

// Process is a recorded process, alive or not.
type Process struct {
	Name    string
	PID     int
	Started time.Time
	Spec    Spec

	identity string // start time as the system tells it; see identityOf
	keeper   *Keeper
}

// Alive says whether the process runs. Another process that was given the same
// pid later is not mistaken for it.
func (p *Process) Alive() bool {
	identity, running := identityOf(p.PID)
	return running && identity == p.identity
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.keeper.watch(p, nil).exited }

// Ending says how the process ended, such as "exit status 1", as far as that
// is known: "" while it runs, and for a process that an earlier makeitso
// started. Call it after Exited.
func (p *Process) Ending() string {
	p.keeper.mu.Lock()
	defer p.keeper.mu.Unlock()
	if w := p.keeper.watches[p.identity]; w != nil {
		return w.ending
	}
	return ""
}

// Stop asks the process and its group to end, kills what is left of the group
// after grace, waits until none of it runs, and removes the record. Stopping
// what has ended is fine.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	if p.Alive() {
		if err := signalGroup(p.PID, p.Spec.stopSignal()); err != nil {
			return fmt.Errorf("stop %s: %w", p.Name, err)
		}
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-p.Exited():
		case <-timer.C:
		case <-ctx.Done():
			return fmt.Errorf("stop %s: %w", p.Name, context.Cause(ctx))
		}
	}
	if err := p.killLeftovers(ctx); err != nil {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	return p.forget(ctx)
}

// forget removes the record, unless it is that of a newer process of that name.
func (p *Process) forget(ctx context.Context) error {
	lock, err := p.keeper.lock(ctx, p.Name)
	if err != nil {
		return fmt.Errorf("forget %s: %w", p.Name, err)
	}
	defer lock.Close()
	recorded, err := p.keeper.Find(p.Name)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil || recorded.identity != p.identity {
		return err
	}
	if err := os.Remove(p.keeper.path(p.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget %s: %w", p.Name, err)
	}
	p.keeper.mu.Lock()
	delete(p.keeper.watches, p.identity)
	p.keeper.mu.Unlock()
	return nil
}

// killLeftovers kills what runs of the process and its group and returns when
// all of it is gone. A group keeps its number while it has members, so no
// stranger can lead a group of that number while one of ours lives; a stranger
// that has the pid itself is told apart by its identity, and left alone.
func (p *Process) killLeftovers(ctx context.Context) error {
	identity, running := identityOf(p.PID)
	if running && identity != p.identity {
		return nil
	}
	// The end of a group is no event that could be awaited.
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		alive, err := groupAlive(p.PID)
		if err != nil || !alive {
			return err
		}
		if err := signalGroup(p.PID, syscall.SIGKILL); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// signalGroup sends a signal to every process of a group; none left is fine.
func signalGroup(group int, signal syscall.Signal) error {
	err := syscall.Kill(-group, signal)
	if err != nil && err != syscall.ESRCH {
		return fmt.Errorf("send %s to process group %d: %w", signal, group, err)
	}
	return nil
}

func groupAlive(group int) (bool, error) {
	all, err := running()
	if err != nil {
		return false, err
	}
	for _, r := range all {
		if r.group == group {
			return true, nil
		}
	}
	return false, nil
}

// Tail gives the last bytes of a log, at most so many: its first line may be
// cut. A log that does not exist is an error for which
// errors.Is(err, fs.ErrNotExist) is true.
func Tail(log string, most int64) ([]byte, error) {
	file, err := os.Open(log)
	if err != nil {
		return nil, err
	}
	defer file.Close() // only read
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-most)
	return io.ReadAll(io.NewSectionReader(file, from, info.Size()-from))
}
