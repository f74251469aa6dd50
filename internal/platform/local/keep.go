package local

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/process"
)

// How long Keep waits before it tries again what did not come back.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Keep brings back every server of the environment that ends by itself, with
// its data and at its address, and replaces the instances of groups that end,
// until ctx ends. Those of a release are not its matter: it replaces them.
func (p *Platform) Keep(ctx context.Context) {
	var groups sync.WaitGroup
	defer groups.Wait()
	groups.Go(func() { p.fleets.Keep(ctx) })
	wait := firstRetry
	given := map[string]bool{} // ended, and nothing wants them back
	for {
		ended, ok := p.untilServerEnds(ctx, given)
		if !ok {
			return
		}
		begun := time.Now()
		err := p.Resume(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			for _, name := range ended {
				if given[name] = !p.runs(name); !given[name] {
					p.o.Announce(fmt.Sprintf("environment %s: the server %s had ended and was started again in %s", p.env, name, time.Since(begun).Round(time.Millisecond)))
				}
			}
			wait = firstRetry
			continue
		}
		p.o.Announce(fmt.Sprintf("environment %s: what had ended does not come back, and is tried again in %s: %s", p.env, wait, fault.Text(err)))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, lastRetry)
	}
}

// runs says whether the process of that name is recorded and alive.
func (p *Platform) runs(name string) bool {
	found, err := p.keeper.Find(name)
	return err == nil && found.Alive()
}

// untilServerEnds waits until a recorded server has ended that is not among
// the given up, and gives the names of those; ok is false when ctx ended first.
func (p *Platform) untilServerEnds(ctx context.Context, given map[string]bool) (ended []string, ok bool) {
	for {
		changed := p.changed.next()
		all, err := p.keeper.List()
		if err != nil {
			p.o.Announce(fmt.Sprintf("environment %s: its processes cannot be watched: %v", p.env, err))
			return nil, false
		}
		var servers []*process.Process
		for _, running := range all {
			switch {
			case strings.HasPrefix(running.Name, instanceProcess):
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
