package stack

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"makeitso/internal/pace"
)

// settle goes on where a handler has answered: the step is complete, or what
// it made is to be waited for.
func (o *operation) settle(ctx context.Context, s resourceState, result Result) error {
	complete := func(ctx context.Context) error { return o.complete(ctx, s, result) }
	if s.Step.Kind == stepUpdate {
		return o.rollOut(ctx, s, *s.Step.Next, o.after, complete)
	}
	p, diags := o.after.awaited(s.LogicalID, s.Step.Next.Properties, o)
	if err := diags.Err(); err != nil {
		return o.failed(ctx, s, err)
	}
	if p == nil {
		return complete(ctx)
	}
	return o.await(ctx, s, result, *p)
}

// settleBack does the same for a resource that got its old properties again. It
// goes by the policy that it had with them.
func (o *operation) settleBack(ctx context.Context, s resourceState, old Physical, result Result) error {
	restored := func(ctx context.Context) error { return o.restored(ctx, s, old, result) }
	if s.Step.Wait == nil || !s.Step.Wait.Back {
		s = o.restoring(s)
		s.Step.Wait = nil
	}
	return o.rollOut(ctx, s, old, o.before, restored)
}

// update brings a resource to other properties, by the policy it has in p.
func (o *operation) update(ctx context.Context, h Handler, r Request, p *program) (Result, error) {
	u, diags := p.updatePolicy(r.LogicalID, o)
	if err := diags.Err(); err != nil {
		return Result{}, err
	}
	if u.IgnoreSizes {
		is, err := h.Read(ctx, r)
		if err != nil {
			return Result{}, fmt.Errorf("read how large the group is: %w", err)
		}
		r.Properties = u.Sizes(r.Properties, r.Previous, is.Properties)
	}
	return h.Update(ctx, r)
}

// rollOut replaces the instances of a group that are not as wanted says, by the
// policy of p, and then calls done. Anything else is done at once.
func (o *operation) rollOut(ctx context.Context, s resourceState, wanted Physical, p *program, done func(context.Context) error) error {
	h, err := o.handler(wanted.Type)
	if err != nil {
		return o.failed(ctx, s, err)
	}
	u, diags := p.updatePolicy(s.LogicalID, o)
	if err := diags.Err(); err != nil {
		return o.failed(ctx, s, err)
	}
	group, able := h.(Group)
	if !able || u.Rolling == nil {
		return done(ctx)
	}
	return o.aside(func(ctx context.Context) error {
		r := &roller{o: o, s: s, group: group, policy: *u.Rolling, request: o.request(s.LogicalID, wanted), back: p == o.before}
		err := r.run(ctx)
		if halted(err) {
			return err
		}
		if err != nil {
			return o.failed(ctx, r.s, err)
		}
		return done(ctx)
	})
}

// roller does what rolling decides. Which instances are old, the group itself
// says; how far the waiting has come is in the step's record.
type roller struct {
	o       *operation
	s       resourceState
	group   Group
	policy  pace.Rolling
	request Request
	back    bool
	heard   *signals
}

func (r *roller) run(ctx context.Context) error {
	total, err := r.begin(ctx)
	if err == nil {
		err = r.group.Suspend(ctx, r.request, r.policy.Suspend)
	}
	for err == nil {
		var f pace.Group
		var next pace.Move
		if f, err = r.state(ctx); err == nil {
			next, err = r.policy.Next(f)
		}
		if err != nil || next.Await+next.Grow+len(next.Terminate) == 0 {
			break
		}
		err = r.do(ctx, next, total)
	}
	if e := r.group.Suspend(context.WithoutCancel(ctx), r.request, nil); err == nil {
		err = e
	}
	return err
}

// begin notes, once, from where signals count and which instances need none,
// and gives how many are to be replaced.
func (r *roller) begin(ctx context.Context) (total int, err error) {
	first := r.s.Step.Wait == nil
	if first {
		last, err := r.o.e.store.Last(ctx, r.o.e.signals(r.request.Token))
		if err != nil {
			return 0, halt{fmt.Errorf("read signals: %w", err)}
		}
		kept := *r.s.Step
		kept.Wait, r.s.Step = &waiting{After: last, Back: r.back}, &kept
	}
	r.heard = &signals{address: r.request.Token, last: r.s.Step.Wait.After}
	f, err := r.state(ctx)
	if err != nil || !first {
		return len(f.Old), err
	}
	w := *r.s.Step.Wait
	w.Kept = f.Fresh
	if err := r.note(ctx, w); err != nil || len(f.Old) == 0 {
		return 0, err
	}
	return len(f.Old), r.tell(ctx, r.policy.Announce(f), fmt.Sprintf("Temporarily setting autoscaling group MinSize and DesiredCapacity to %d.", r.policy.Width(f)))
}

// note stores how far the waiting has come.
func (r *roller) note(ctx context.Context, w waiting) error {
	kept := *r.s.Step
	kept.Wait, r.s.Step = &w, &kept
	return r.o.keep(ctx, r.s)
}

func (r *roller) tell(ctx context.Context, reasons ...string) error {
	for _, reason := range reasons {
		if err := r.o.tellReason(ctx, r.s, reason); err != nil {
			return err
		}
	}
	return nil
}

// state asks the group how it stands.
func (r *roller) state(ctx context.Context) (pace.Group, error) {
	fleet, err := r.group.Fleet(ctx, r.request)
	if err != nil {
		return pace.Group{}, err
	}
	if _, err := r.heard.read(context.WithoutCancel(ctx), r.o.e); err != nil {
		return pace.Group{}, err
	}
	w := r.s.Step.Wait
	f := pace.Group{Size: fleet.Size, Most: fleet.Most, Kept: w.Kept}
	if r.policy.Signals {
		f.Good, f.Late = len(r.heard.Good), w.Late+len(r.heard.Failed)
	}
	for _, i := range fleet.Instances {
		if i.Current {
			f.Fresh++
		} else {
			f.Old = append(f.Old, i.ID)
		}
	}
	return f, nil
}

// do does one move.
func (r *roller) do(ctx context.Context, m pace.Move, total int) error {
	switch {
	case m.Await > 0:
		return r.await(ctx, m.Await)
	case m.Grow > 0:
		return r.group.Resize(ctx, r.request, m.Grow)
	}
	gone := strings.Join(m.Terminate, ",")
	if err := r.tell(ctx, fmt.Sprintf("Terminating instance(s) [%s]; replacing with %d new instance(s).", gone, m.Replaced)); err != nil {
		return err
	}
	if err := r.group.Terminate(ctx, r.request, m.Terminate); err != nil {
		return err
	}
	f, err := r.state(ctx)
	if err != nil {
		return err
	}
	progress := math.Round(100 * float64(total-len(f.Old)) / float64(total))
	return r.tell(ctx, fmt.Sprintf("Successfully terminated instance(s) [%s] (Progress %.0f%%).", gone, progress))
}

// await waits for the signals of new instances, or until their pause is over.
func (r *roller) await(ctx context.Context, n int) error {
	w := *r.s.Step.Wait
	if w.Until.IsZero() {
		w.Until = now().Add(r.policy.Pause)
		if err := r.note(ctx, w); err != nil {
			return err
		}
		if r.policy.Signals {
			text := fmt.Sprintf("New instance(s) added to autoscaling group - Waiting on %d resource signal(s) with a timeout of %s.", n, pace.ISO(r.policy.Pause))
			if err := r.tell(ctx, text); err != nil {
				return err
			}
		}
	}
	want := math.MaxInt // in a pause, signals end nothing
	if r.policy.Signals {
		want = r.heard.Count() + n
	}
	late, err := r.o.hear(ctx, r.s, r.heard, func() bool { return r.heard.Count() >= want })
	if err != nil {
		return err
	}
	w.Until = time.Time{}
	switch {
	case !r.policy.Signals:
		w.Kept += n
	case late:
		missing := want - r.heard.Count()
		w.Late += missing
		err = r.tell(ctx, fmt.Sprintf("Failed to receive %d resource signal(s) for the current batch.  Each resource signal timeout is counted as a FAILURE.", missing))
	}
	if err != nil {
		return err
	}
	return r.note(ctx, w)
}
