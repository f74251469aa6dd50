package pace

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"
)

// Group makes groups of instances, which an UpdatePolicy replaces step by step.
// R is what names a group and says its properties. An update of a group brings
// it to its size, and leaves the other instances as they are. All methods may be
// called again.
type Group[R any] interface {
	// Fleet gives the instances that there are.
	Fleet(ctx context.Context, r R) (Fleet, error)
	// Resize brings the group to n instances, without changing how many it is
	// to have in the end. New ones are made as its properties say.
	Resize(ctx context.Context, r R, n int) error
	// Terminate ends instances, and none comes in their place.
	Terminate(ctx context.Context, r R, ids []string) error
	// Suspend keeps the group's own processes of these names, and no others,
	// from running.
	Suspend(ctx context.Context, r R, processes []string) error
}

// Fleet is the instances of a group.
type Fleet struct {
	Size, Most int // how many there are to be, and may be at most
	Instances  []Instance
}

// Instance is one of a group's.
type Instance struct {
	ID      string
	Current bool // made as the group's properties say now
}

// Roller does what Rolling decides. Which instances are old, the group itself
// says; how far the waiting has come is in Waiting.
type Roller[R any] struct {
	Box
	Policy  Rolling
	Group   Group[R]
	Request R
	Address string                                         // of the group's signals
	Waiting *Waiting                                       // nil if the update has not begun
	Note    func(ctx context.Context, w Waiting) error     // stores how far it has come
	Tell    func(ctx context.Context, reason string) error // as an event

	heard *Heard
}

// Run replaces the instances that are not as they shall be.
func (r *Roller[R]) Run(ctx context.Context) error {
	total, err := r.begin(ctx)
	if err == nil {
		err = r.Group.Suspend(ctx, r.Request, r.Policy.Suspend)
	}
	for err == nil {
		var s State
		var next Move
		if s, err = r.state(ctx); err == nil {
			next, err = r.Policy.Next(s)
		}
		if err != nil || next.Await+next.Grow+len(next.Terminate) == 0 {
			break
		}
		err = r.do(ctx, next, total)
	}
	if e := r.Group.Suspend(context.WithoutCancel(ctx), r.Request, nil); err == nil {
		err = e
	}
	return err
}

// begin notes, once, from where signals count and which instances need none,
// and gives how many are to be replaced.
func (r *Roller[R]) begin(ctx context.Context) (total int, err error) {
	first := r.Waiting == nil
	if first {
		last, err := r.Last(ctx, r.Address)
		if err != nil {
			return 0, err
		}
		r.Waiting = &Waiting{After: last}
	}
	r.heard = &Heard{Address: r.Address, Last: r.Waiting.After}
	s, err := r.state(ctx)
	if err != nil || !first {
		return len(s.Old), err
	}
	if err := r.note(ctx, Waiting{After: r.Waiting.After, Kept: s.Fresh}); err != nil || len(s.Old) == 0 {
		return 0, err
	}
	if err := r.Tell(ctx, r.Policy.Announce(s)); err != nil {
		return 0, err
	}
	return len(s.Old), r.Tell(ctx, fmt.Sprintf("Temporarily setting autoscaling group MinSize and DesiredCapacity to %d.", r.Policy.Width(s)))
}

func (r *Roller[R]) note(ctx context.Context, w Waiting) error {
	r.Waiting = &w
	return r.Note(ctx, w)
}

// state asks the group how it stands.
func (r *Roller[R]) state(ctx context.Context) (State, error) {
	fleet, err := r.Group.Fleet(ctx, r.Request)
	if err != nil {
		return State{}, err
	}
	s := State{Size: fleet.Size, Most: fleet.Most, Kept: r.Waiting.Kept}
	if r.Policy.Signals {
		s.Good, s.Late = len(r.heard.Good), r.Waiting.Late+len(r.heard.Failed)
	}
	for _, i := range fleet.Instances {
		if i.Current {
			s.Fresh++
		} else {
			s.Old = append(s.Old, i.ID)
		}
	}
	return s, nil
}

// do does one move.
func (r *Roller[R]) do(ctx context.Context, m Move, total int) error {
	switch {
	case m.Await > 0:
		return r.await(ctx, m.Await)
	case m.Grow > 0:
		return r.Group.Resize(ctx, r.Request, m.Grow)
	}
	gone := strings.Join(m.Terminate, ",")
	if err := r.Tell(ctx, fmt.Sprintf("Terminating instance(s) [%s]; replacing with %d new instance(s).", gone, m.Replaced)); err != nil {
		return err
	}
	if err := r.Group.Terminate(ctx, r.Request, m.Terminate); err != nil {
		return err
	}
	s, err := r.state(ctx)
	if err != nil {
		return err
	}
	progress := math.Round(100 * float64(total-len(s.Old)) / float64(total))
	return r.Tell(ctx, fmt.Sprintf("Successfully terminated instance(s) [%s] (Progress %.0f%%).", gone, progress))
}

// await waits for the signals of n new instances, or until their pause is over.
func (r *Roller[R]) await(ctx context.Context, n int) error {
	w := *r.Waiting
	if w.Until.IsZero() {
		w.Until = time.Now().UTC().Add(r.Policy.Pause)
		if err := r.note(ctx, w); err != nil {
			return err
		}
		if r.Policy.Signals {
			text := fmt.Sprintf("New instance(s) added to autoscaling group - Waiting on %d resource signal(s) with a timeout of %s.", n, ISO(r.Policy.Pause))
			if err := r.Tell(ctx, text); err != nil {
				return err
			}
		}
	}
	want := math.MaxInt // in a pause, signals end nothing
	if r.Policy.Signals {
		want = r.heard.Count() + n
	}
	late, err := r.Hear(ctx, r.heard, w.Until, r.Tell, func() bool { return r.heard.Count() >= want })
	if err != nil {
		return err
	}
	w.Until = time.Time{}
	switch {
	case !r.Policy.Signals:
		w.Kept += n
	case late:
		missing := want - r.heard.Count()
		w.Late += missing
		if err := r.Tell(ctx, fmt.Sprintf("Failed to receive %d resource signal(s) for the current batch.  Each resource signal timeout is counted as a FAILURE.", missing)); err != nil {
			return err
		}
	}
	return r.note(ctx, w)
}
