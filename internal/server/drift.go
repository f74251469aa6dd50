package server

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"makeitso/internal/fault"
	"makeitso/internal/pipeline"
	"makeitso/internal/project"
	"makeitso/internal/stack"
)

// lookForDrift has each stack of the environment looked at as often as
// makeitso.yaml says, until the server ends. When one is due follows from the
// last look, which is stored: a restart neither forgets one nor repeats it.
func (env *environment) lookForDrift(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer func() { _ = watcher.Close() }() // its folder may be gone by then
	if err := watcher.Add(env.server.o.Folder); err != nil {
		return err
	}
	l := looks{tried: map[string]time.Time{}, told: map[string]string{}}
	for {
		due, next, err := env.dueLooks(ctx, l)
		if ctx.Err() != nil {
			return nil
		}
		if l.tell(env, "what is due is not known", err); err != nil {
			next = time.Now().Add(afterFailure)
		}
		for _, d := range due {
			_, err := env.stacks.Drift(ctx, d.stack, d.policy, nil)
			if ctx.Err() != nil {
				return nil
			}
			l.tried[d.stack] = time.Now()
			l.tell(env, "stack "+d.stack, err)
		}
		if len(due) > 0 {
			continue
		}
		if !untilChanged(ctx, watcher, time.Until(next)) {
			return nil
		}
	}
}

// looks is what the schedule remembers beside the looks that are stored.
type looks struct {
	tried map[string]time.Time // when a stack was looked at, or could not be
	told  map[string]string    // why something could not be looked at
}

// afterFailure is when it is asked again what is due, if that could not be told.
const afterFailure = time.Minute

// tell announces why a stack was passed over or could not be brought back, once
// for each reason.
func (l looks) tell(env *environment, about string, err error) {
	text := ""
	if err != nil {
		text = fault.Text(err)
	}
	if text != "" && text != l.told[about] {
		env.server.o.Announce(fmt.Sprintf("environment %s: drift: %s: %s", env.name, about, text))
	}
	l.told[about] = text
}

// untilChanged waits until makeitso.yaml has changed or the time is over; it
// gives false when ctx ended first.
func untilChanged(ctx context.Context, watcher *fsnotify.Watcher, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case event := <-watcher.Events:
			if filepath.Base(event.Name) == project.File {
				return true
			}
		case <-watcher.Errors: // some changes were lost: look
			return true
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// look is a look at a stack that is due.
type look struct {
	stack  string
	policy stack.DriftPolicy
}

// dueLooks gives the looks that are due, and when the next one is.
func (env *environment) dueLooks(ctx context.Context, l looks) ([]look, time.Time, error) {
	p, err := env.server.known()
	if err != nil {
		return nil, time.Time{}, err
	}
	stacks, err := env.stacks.Stacks(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	wanted, last := map[string]project.Drift{}, map[string]time.Time{}
	for name, s := range p.Stacks {
		wanted[name] = s.Drift
	}
	for _, s := range stacks {
		if root := p.Stacks[s.Root]; root != nil { // a nested one is treated as its root
			wanted[s.Name] = root.Drift
		}
		found, err := env.stacks.LastDrift(ctx, s)
		if err != nil {
			return nil, time.Time{}, err
		}
		last[s.Name] = latest(s.Updated, found.Time, l.tried[s.Name])
	}
	due, next := schedule(wanted, last, time.Now())
	return due, next, nil
}

// schedule says which looks are due now, and when the next is. last is when each
// stack that exists was changed or looked at. One that comes to exist meanwhile
// is in time for its first look, which is no sooner than any stack's interval.
func schedule(stacks map[string]project.Drift, last map[string]time.Time, now time.Time) (due []look, next time.Time) {
	next = now.Add(project.DefaultDriftEvery)
	for name, wanted := range stacks {
		at := now.Add(wanted.Every)
		if t, exists := last[name]; exists {
			at = t.Add(wanted.Every)
		}
		if !at.After(now) {
			due = append(due, look{name, stack.DriftPolicy(wanted.Then)})
		}
		if at.Before(next) {
			next = at
		}
	}
	return due, next
}

func latest(times ...time.Time) time.Time {
	var newest time.Time
	for _, t := range times {
		if t.After(newest) {
			newest = t
		}
	}
	return newest
}

// observeDrift turns what a look found into an event of the project.
func (env *environment) observeDrift(d stack.StackDrift) {
	err := env.server.engine.Emit(env.server.ctx, pipeline.Event{
		Kind: "drift", Environment: env.name, Subject: d.Stack, Status: d.Status, Message: strings.TrimRight("drift "+d.Status+": "+d.String(), ": "),
	})
	if err != nil {
		env.server.o.Announce(fmt.Sprintf("an event could not be stored: %v", err))
	}
}
