package machine

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/process"
)

// InstanceProcess begins the name of a process that Keep does not bring back.
const InstanceProcess = "_instance-"

// How long Keep waits before it tries again what did not come back.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Keep brings back every server of the environment that ends by itself, with
// its data and at its address, until ctx ends. Instances are not its matter:
// their release replaces them.
func (m *Machine) Keep(ctx context.Context) {
	wait := firstRetry
	given := map[string]bool{} // ended, and nothing wants them back
	for {
		ended, ok := m.untilMissing(ctx, given, wait)
		if !ok {
			return
		}
		begun := time.Now()
		err := m.Resume(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if len(ended) == 0 {
				m.Options.Announce(fmt.Sprintf("environment %s: what had not come back is there again", m.Env))
			}
			for _, name := range ended {
				if given[name] = !m.Runs(name); !given[name] {
					m.Options.Announce(fmt.Sprintf("environment %s: the server %s had ended and was started again in %s", m.Env, name, time.Since(begun).Round(time.Millisecond)))
				}
			}
			wait = firstRetry
			continue
		}
		wait = min(2*wait, lastRetry)
		m.Options.Announce(fmt.Sprintf("environment %s: what had ended does not come back, and is tried again in %s: %s", m.Env, wait, fault.Text(err)))
	}
}

// untilMissing waits until something has to be brought back: a server that has
// ended, or after a pause what the last Resume could not bring back. It gives
// the names of those that have ended; ok is false when ctx ended first.
func (m *Machine) untilMissing(ctx context.Context, given map[string]bool, pause time.Duration) (ended []string, ok bool) {
	if !m.missing.Load() {
		return m.untilServerEnds(ctx, given)
	}
	again := time.NewTimer(pause)
	defer again.Stop()
	select {
	case <-again.C:
		return nil, true
	case <-ctx.Done():
		return nil, false
	}
}

// Runs says whether the process of that name is recorded and alive.
func (m *Machine) Runs(name string) bool {
	found, err := m.Keeper.Find(name)
	return err == nil && found.Alive()
}

// untilServerEnds waits until a recorded server has ended that is not among
// the given up, and gives the names of those; ok is false when ctx ended first.
func (m *Machine) untilServerEnds(ctx context.Context, given map[string]bool) (ended []string, ok bool) {
	for {
		changed := m.changed.next()
		all, err := m.Keeper.List()
		if err != nil {
			m.Options.Announce(fmt.Sprintf("environment %s: its processes cannot be watched: %v", m.Env, err))
			return nil, false
		}
		var servers []*process.Process
		for _, running := range all {
			switch {
			case strings.HasPrefix(running.Name, InstanceProcess):
			case running.Alive():
				delete(given, running.Name)
				servers = append(servers, running)
			case !given[running.Name]:
				ended = append(ended, running.Name)
			}
		}
		if len(ended) > 0 {
			return ended, true
		}
		if !untilAny(ctx, servers, changed) {
			return nil, false
		}
	}
}

// untilAny waits until one of the processes has ended or changed is closed; it
// gives false when ctx ended first.
func untilAny(ctx context.Context, all []*process.Process, changed <-chan struct{}) bool {
	waiting, stop := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer stop()
	any := make(chan struct{}, len(all))
	for _, running := range all {
		watchers.Go(func() {
			select {
			case <-running.Exited():
				any <- struct{}{}
			case <-waiting.Done():
			}
		})
	}
	select {
	case <-any:
	case <-changed:
	case <-ctx.Done():
		return false
	}
	return true
}

// notice wakes everybody who waits for its next giving. The zero value is
// ready.
type notice struct {
	mu   sync.Mutex
	wait chan struct{}
}

// next gives a channel that is closed at the next giving.
func (n *notice) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.wait == nil {
		n.wait = make(chan struct{})
	}
	return n.wait
}

func (n *notice) give() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.wait != nil {
		close(n.wait)
		n.wait = nil
	}
}

// Notify wakes everybody who waits for a change of the environment.
func (m *Machine) Notify() { m.changed.give() }

// Next gives a channel that is closed at the next change.
func (m *Machine) Next() <-chan struct{} { return m.changed.next() }
