package rollout

import (
	"fmt"
	"slices"
	"time"

	"makeitso/internal/span"
)

// describe sets the deadline and the reason of a state that is not final.
func (m *machine) describe() {
	if m.s.Phase.Final() {
		return
	}
	m.s.Deadline = m.s.due()
	m.s.Reason = m.s.waiting() + aside(m.s.Remark)
	if !m.s.Paused.IsZero() && m.s.Phase != Watching {
		m.s.Reason += "; then it pauses"
	}
	if _, coin := m.s.Coin(); coin && !m.s.Unseen.Since.IsZero() && (m.s.Phase != Watching || !m.s.Paused.IsZero()) {
		m.s.Reason += aside(m.s.Unseen.String())
	}
	if !m.s.Phase.Forward() {
		m.s.Reason = fmt.Sprintf("going back to %s: %s", orNothing(m.s.Plan.Old.Release), m.s.Reason)
	}
}

// due is when the phase ends at the latest.
func (s State) due() time.Time {
	limits := s.Plan.Limits
	switch s.Phase {
	case Starting:
		return s.Since.Add(limits.Start)
	case Shifting:
		return s.Since.Add(limits.Route)
	case Checking, Confirming:
		return s.Since.Add(limits.Hook)
	case Watching:
		switch {
		case !s.Paused.IsZero():
			return s.Paused.Add(limits.Pause)
		case s.blind():
			return later(s.Unseen.Since, s.Since).Add(limits.Pause)
		}
		return s.Since.Add(s.Plan.Steps[s.Step].Watch)
	case Draining:
		// Leaving and then stopping: both at their longest.
		return s.Since.Add(limits.Drain + limits.Stop)
	default:
		return s.Since.Add(limits.Rollback)
	}
}

// Due is the next time at which the state changes by itself, zero if none.
func (s State) Due() time.Time {
	var due time.Time
	sooner := func(t time.Time) {
		if due.IsZero() || t.Before(due) {
			due = t
		}
	}
	// Draining waits for its members, unless it cannot tell the edge of them.
	if !s.Phase.Final() && s.Phase != "" && (s.Phase != Draining || s.Route != s.InForce) {
		sooner(s.due())
	}
	for _, p := range s.Places {
		switch {
		case p.Status == Stopping:
			sooner(p.Since.Add(s.Plan.Limits.Stop))
		case p.Status == Leaving && s.Route == s.InForce:
			sooner(p.Since.Add(s.Plan.Limits.Drain))
		case p.Status == Spare && s.Phase.Final():
			sooner(p.Since.Add(s.Plan.Keep))
		}
	}
	return due
}

// waiting says what is waited for.
func (s State) waiting() string {
	limits := s.Plan.Limits
	switch {
	case s.Phase == Watching && !s.Paused.IsZero():
		return fmt.Sprintf("paused with %s at %s; it goes back if nobody goes on within %s", s.Plan.New.Release, Percent(s.Share), span.Text(limits.Pause))
	case s.Phase == Watching && s.blind():
		return fmt.Sprintf("%s; the watch of %s at %s goes on when it answers, and goes back after %s", s.Unseen, s.Plan.New.Release, Percent(s.Share), span.Text(limits.Pause))
	case s.Phase == Watching && s.Plan.Steps[s.Step].Watch > 0:
		return s.watching()
	case s.Phase == Checking || s.Phase == Confirming:
		return fmt.Sprintf("the command %s the traffic of step %d of %d runs, at most %s", s.Phase.side(), s.Step+1, len(s.Plan.Steps), span.Text(limits.Hook))
	case s.Phase == Verifying:
		return fmt.Sprintf("waiting for %s to answer, at most %s%s", s.Plan.Old.Release, span.Text(limits.Rollback), after(s.Trouble))
	case s.Route != s.InForce && s.Phase != Starting:
		return fmt.Sprintf("waiting for the traffic to change, at most %s%s", span.Text(limits.Route), after(s.Trouble))
	}
	for _, p := range s.Places {
		switch {
		case p.Status == Begun && (!s.Phase.Forward() || p.Release == s.Plan.New.Release):
			return fmt.Sprintf("waiting for instance %s to become healthy, at most %s%s", p.Member, span.Text(limits.Start), after(p.Note))
		case p.Status == Leaving:
			return fmt.Sprintf("waiting for instance %s to finish its requests, at most %s", p.Member, span.Text(limits.Drain))
		case p.Status == Stopping:
			return fmt.Sprintf("waiting for instance %s to end, at most %s", p.Member, span.Text(limits.Stop))
		}
	}
	return "waiting for the next step"
}

// lack is what a way back waits for.
func (s State) lack() Lack {
	switch {
	case s.Phase == Verifying:
		return LackAnswer
	case s.Route != s.InForce:
		return LackTraffic
	case slices.ContainsFunc(s.Places, func(p Place) bool { return p.Status == Begun }):
		return LackInstance
	}
	return LackEnd
}

func (s State) watching() string {
	step := s.Plan.Steps[s.Step]
	text := fmt.Sprintf("watching %s at %s for %s", s.Plan.New.Release, Percent(s.Share), span.Text(step.Watch))
	switch {
	case s.Share == 0:
		text = fmt.Sprintf("%s runs beside %s for %s before it takes traffic", s.Plan.New.Release, s.Plan.Old.Release, span.Text(step.Watch))
	case step.Bake > 0:
		text += fmt.Sprintf(", or from %s on until the evidence allows more", span.Text(step.Bake))
	}
	return text
}

// String is how it stands in words: neither for the new version nor against it.
func (u Unseen) String() string {
	return fmt.Sprintf("no data: no outcomes since %s: %s", u.Since.Format(time.TimeOnly), u.Why)
}

// aside is a remark behind a reason.
func aside(remark string) string {
	if remark == "" {
		return ""
	}
	return "; " + remark
}

func orNothing(release string) string {
	if release == "" {
		return "nothing"
	}
	return release
}

// Percent is a share as people write it, e.g. 10 %.
func Percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }
