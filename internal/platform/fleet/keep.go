package fleet

import (
	"context"
	"fmt"
	"sync"
	"time"

	"makeitso/internal/fault"
)

// How long a group that could not be mended waits before it is tried again.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Keep replaces what ends or fails its checks, and goes on with what was
// interrupted, in all groups until ctx ends.
func (r *Runner) Keep(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	ended := make(chan string)
	watched := map[string]bool{}
	for {
		all, err := r.Groups(ctx)
		if err != nil && ctx.Err() == nil {
			r.o.Announce(fmt.Sprintf("environment %s: its groups of instances cannot be watched: %v", r.o.Environment, err))
		}
		for _, g := range all {
			if !watched[g.Name] {
				watched[g.Name] = true
				watching.Go(func() {
					r.watch(ctx, g.Name)
					select {
					case ended <- g.Name:
					case <-ctx.Done():
					}
				})
			}
		}
		select {
		case <-r.wake:
		case name := <-ended:
			delete(watched, name)
		case <-ctx.Done():
			return
		}
	}
}

// watch keeps one group until it is gone or ctx ends.
func (r *Runner) watch(ctx context.Context, name string) {
	wait := firstRetry
	failures := map[string]int{} // of checks in a row, by instance
	for ctx.Err() == nil {
		g, err := r.groups.Get(ctx, r.key(name))
		if fault.Is(err, fault.NotFound) {
			return
		}
		if err == nil {
			err = r.mend(ctx, name, failures)
		}
		if err == nil && wait > firstRetry { // what was broken off may have to be put in force yet
			err = r.o.Route(ctx)
		}
		var again <-chan time.Time
		if err == nil {
			wait = firstRetry
			if g.Failures > 0 {
				again = time.After(g.Interval)
			}
		} else if ctx.Err() == nil {
			r.o.Announce(fmt.Sprintf("environment %s: a group of instances is not complete, and is tried again in %s: %s", r.o.Environment, wait, fault.Text(err)))
			again = time.After(wait)
			wait = min(2*wait, lastRetry)
		}
		r.untilSomethingHappens(ctx, name, again)
	}
}

// mend replaces the instances of a group that have ended or failed too many
// checks in a row, and settles it.
func (r *Runner) mend(ctx context.Context, name string, failures map[string]int) error {
	defer r.o.Hold()()
	defer r.lock(name)()
	g, err := r.groups.Get(ctx, r.key(name))
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	lost := map[string]string{} // why, by id
	for _, m := range g.Members {
		if m.Leaving || !m.Ready {
			continue
		}
		if _, err := r.o.Instances.Find(ctx, m.ID); fault.Is(err, fault.NotFound) {
			lost[m.ID] = err.Error()
		} else if err != nil {
			return err
		} else if reason := r.failing(ctx, g, m, failures); reason != "" {
			lost[m.ID] = reason
		}
	}
	if !g.runs("ReplaceUnhealthy") {
		clear(lost)
	}
	for id, reason := range lost {
		r.o.Announce(fmt.Sprintf("group %s: instance %s is replaced: %s", g.Title, id, reason))
		delete(failures, id)
	}
	g.leave(func(m Member) bool { return lost[m.ID] != "" })
	return r.settle(ctx, &g)
}

// failing checks an instance, and says why it has to go, "" if it has not.
func (r *Runner) failing(ctx context.Context, g Group, m Member, failures map[string]int) string {
	if g.Failures == 0 || time.Since(m.Since) < g.Grace {
		return ""
	}
	reason := unwell(ctx, g.Checks, m.Address)
	if reason == "" {
		failures[m.ID] = 0
		return ""
	}
	if failures[m.ID]++; failures[m.ID] < g.Failures || ctx.Err() != nil {
		return ""
	}
	return fmt.Sprintf("it failed its check %d times in a row: %s", failures[m.ID], reason)
}

// untilSomethingHappens waits until an instance of the group has ended, the
// group was changed, or it is time again.
func (r *Runner) untilSomethingHappens(ctx context.Context, name string, again <-chan time.Time) {
	ctx, stop := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer stop()
	ended := make(chan struct{}, 1)
	g, err := r.Get(ctx, name)
	if err == nil {
		for _, m := range g.Members {
			if !m.Ready || m.Leaving {
				continue // whoever starts or stops it waits for it
			}
			watchers.Go(func() {
				select {
				case <-r.o.Instances.Exited(m.ID):
					select {
					case ended <- struct{}{}:
					default:
					}
				case <-ctx.Done():
				}
			})
		}
	}
	lost := ended
	if !g.runs("ReplaceUnhealthy") {
		lost = nil
	}
	select {
	case <-lost:
	case <-r.poked(name):
	case <-again:
	case <-ctx.Done():
	}
}
