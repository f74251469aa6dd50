package rollout

import (
	"fmt"
	"reflect"
	"slices"
	"time"
)

// EventKind is what has happened.
type EventKind string

const (
	Tick     EventKind = "tick"     // time has passed
	Healthy  EventKind = "healthy"  // Member answers its health check
	Unwell   EventKind = "unwell"   // Member, not healthy yet, says why (Reason)
	Lost     EventKind = "lost"     // Member's instance has ended or must be destroyed (Reason)
	InForce  EventKind = "in force" // the traffic numbered Route is in force
	Hindered EventKind = "hindered" // the traffic could not be put in force yet (Reason)
	Drained  EventKind = "drained"  // Member has finished what it had
	Stopped  EventKind = "stopped"  // Member's instance has ended for good
	Verified EventKind = "verified" // the old version was asked and answers
	RollBack EventKind = "rollback" // a verdict or a person wants the old version back (Reason)
)

// Event is something that has happened at a time.
type Event struct {
	Kind   EventKind
	At     time.Time
	Member Member
	Route  int
	Reason string
}

// CommandKind is what is to be done.
type CommandKind string

const (
	Start  CommandKind = "start"  // have an instance in Member's place; say Healthy, Unwell, Lost
	Drain  CommandKind = "drain"  // say Drained when Member has no request under way
	Stop   CommandKind = "stop"   // end Member's instance; say Stopped
	Shift  CommandKind = "shift"  // put Arms in force, as number Route; say InForce
	Verify CommandKind = "verify" // ask the old version whether it answers; say Verified
	Watch  CommandKind = "watch"  // compare the two versions; say RollBack if the new one is worse
)

// Command is something to be done. It may be given again, after a crash or a
// failure, and is then finished, not done twice.
type Command struct {
	Kind   CommandKind
	Member Member
	Route  int
}

// Begin starts a rollout at a time. The service's state before (the zero State
// for a new service) must be final, and nothing of the new version may be left.
func Begin(before State, plan Plan, at time.Time) (State, error) {
	if before.Phase != "" && !before.Phase.Final() {
		return before, fmt.Errorf("begin rollout of %s: the one of %s is under way", plan.New.Release, before.Plan.New.Release)
	}
	for _, p := range before.Places {
		if p.Release == plan.New.Release {
			return before, fmt.Errorf("begin rollout of %s: its instance %s is still %s", plan.New.Release, p.Member, p.Status)
		}
	}
	plan.Limits = plan.Limits.normalize()
	m := machine{now: at, s: State{Plan: plan, Places: slices.Clone(before.Places), Route: before.Route, InForce: before.InForce}}
	m.enterStep(0)
	m.settle()
	return m.s, nil
}

// Next is the state after an event. Events that do not concern the state, or
// come late or twice, change nothing.
func Next(s State, e Event) State {
	s.Places = slices.Clone(s.Places)
	m := machine{s: s, now: e.At}
	m.take(e)
	m.settle()
	return m.s
}

// Commands are all that is outstanding in a state: what has been begun and not
// answered by its event, and what is to begin.
func Commands(s State) []Command {
	var out []Command
	if s.Route != s.InForce { // traffic first
		out = append(out, Command{Kind: Shift, Route: s.Route})
	}
	for _, p := range s.Places {
		switch p.Status {
		case Begun:
			out = append(out, Command{Kind: Start, Member: p.Member})
		case Leaving:
			if s.Route == s.InForce {
				out = append(out, Command{Kind: Drain, Member: p.Member})
			}
		case Stopping:
			out = append(out, Command{Kind: Stop, Member: p.Member})
		}
	}
	if s.Phase == Verifying {
		out = append(out, Command{Kind: Verify})
	}
	if _, ok := s.Coin(); ok && s.Phase.Forward() && s.Route == s.InForce {
		out = append(out, Command{Kind: Watch})
	}
	return out
}

// machine is one transition under way.
type machine struct {
	s   State
	now time.Time
}

func (m *machine) take(e Event) {
	i := slices.IndexFunc(m.s.Places, func(p Place) bool { return p.Member == e.Member })
	switch e.Kind {
	case InForce:
		m.s.InForce = max(m.s.InForce, min(e.Route, m.s.Route))
		m.s.Trouble = ""
	case Hindered:
		if m.s.Route != m.s.InForce {
			m.s.Trouble = e.Reason
		}
	case RollBack:
		if m.s.Phase.Forward() {
			m.restore(e.Reason)
		}
	case Verified:
		if m.s.Phase == Verifying {
			m.finish(RolledBack, m.s.Cause)
		}
	case Healthy, Unwell, Lost, Drained, Stopped:
		if i >= 0 {
			m.takeMember(e, i)
		}
	}
}

func (m *machine) takeMember(e Event, i int) {
	p := &m.s.Places[i]
	switch {
	case e.Kind == Lost:
		m.lose(i, e.Reason)
	case e.Kind == Unwell && p.Status == Begun:
		p.Note = e.Reason
	case e.Kind == Healthy && p.Status == Begun:
		p.Note = ""
		if m.stable(p.Release) {
			m.set(p, Routed)
			m.s.Route++
		} else {
			m.set(p, Ready)
		}
	case e.Kind == Drained && p.Status == Leaving && m.s.Route == m.s.InForce:
		m.set(p, Stopping)
	case e.Kind == Stopped && p.Status == Stopping:
		m.s.Places = slices.Delete(m.s.Places, i, i+1)
	}
}

// stable says whether a release's instances are replaced when lost and routed
// when healthy, without asking for more: those of the version that is kept.
func (m *machine) stable(release string) bool { return release == m.s.Live().Release }

// lose deals with an instance that is gone. One of the stable version is
// replaced; one of the new version speaks against it while it is rolled out.
func (m *machine) lose(i int, reason string) {
	p := &m.s.Places[i]
	if p.Status == Stopping {
		return
	}
	if p.Status == Routed || p.Status == Leaving {
		m.s.Route++
	}
	if m.stable(p.Release) && p.Status != Leaving {
		m.set(p, Begun)
		p.Note = reason
		return
	}
	member := p.Member
	m.set(p, Stopping)
	p.Note = reason
	if m.s.Phase.Forward() && member.Release == m.s.Plan.New.Release {
		m.restore(fmt.Sprintf("instance %s failed while it was %s: %s", member, m.s.Phase, reason))
	}
}

func (m *machine) set(p *Place, s Status) {
	p.Status, p.Since = s, m.now
}

func (m *machine) enter(phase Phase, reason string) {
	m.s.Phase, m.s.Since, m.s.Reason = phase, m.now, reason
}

func (m *machine) finish(phase Phase, reason string) {
	m.enter(phase, reason)
	m.s.Deadline = time.Time{}
}

// settle goes on through every phase whose condition holds already.
func (m *machine) settle() {
	for {
		before := m.s
		before.Places = slices.Clone(m.s.Places)
		m.expire()
		m.advance()
		if reflect.DeepEqual(before, m.s) {
			break
		}
	}
	m.describe()
}

// expire ends the waits of single members: whoever does not drain or stop in
// time does not hold up the rest.
func (m *machine) expire() {
	for i := range m.s.Places {
		p := &m.s.Places[i]
		if p.Status == Leaving && m.s.Route == m.s.InForce && m.over(p.Since, m.s.Plan.Limits.Drain) {
			m.set(p, Stopping)
		}
	}
	m.s.Places = slices.DeleteFunc(m.s.Places, func(p Place) bool {
		return p.Status == Stopping && m.over(p.Since, m.s.Plan.Limits.Stop)
	})
}

func (m *machine) over(since time.Time, limit time.Duration) bool {
	return !m.now.Before(since.Add(limit))
}

func (m *machine) advance() {
	switch m.s.Phase {
	case Starting:
		m.advanceStarting()
	case Shifting:
		switch {
		case m.s.Route == m.s.InForce:
			m.enter(Draining, "")
		case m.over(m.s.Since, m.s.Plan.Limits.Route):
			m.restore(fmt.Sprintf("the traffic could not be changed within %s%s", m.s.Plan.Limits.Route, after(m.s.Trouble)))
		}
	case Draining:
		switch {
		case !m.going(m.s.Plan.New.Release):
			m.enter(Watching, "")
		case m.s.Route != m.s.InForce && m.over(m.s.Since, m.s.Plan.Limits.Drain+m.s.Plan.Limits.Stop):
			m.restore("the old instances could not be taken out of the traffic in time" + after(m.s.Trouble))
		}
	case Watching:
		if m.over(m.s.Since, m.step().Watch) {
			m.nextStep()
		}
	case Restoring, Verifying:
		m.advanceRestoring()
	case RollbackFailed: // the end is told, but the old version is still wanted back
		m.ensureOld()
		m.handBack()
	}
}

func (m *machine) step() Step { return m.s.Plan.Steps[m.s.Step] }

// going says whether an instance of another release than the one named is on
// its way out.
func (m *machine) going(except string) bool {
	return slices.ContainsFunc(m.s.Places, func(p Place) bool {
		return p.Release != except && (p.Status == Leaving || p.Status == Stopping)
	})
}

// enterStep has the step's new instances started.
func (m *machine) enterStep(n int) {
	m.s.Step = n
	m.ensure(m.s.Plan.New.Release, m.step().New)
	m.enter(Starting, "")
}

// ensure makes places for the first n instances of a release.
func (m *machine) ensure(release string, n int) {
	for slot := range n {
		member := Member{release, slot}
		if _, ok := m.s.Place(member); !ok {
			m.s.Places = append(m.s.Places, Place{Member: member, Status: Begun, Since: m.now})
		}
	}
}

func (m *machine) advanceStarting() {
	for _, p := range m.s.Places {
		if p.Release != m.s.Plan.New.Release || p.Status != Begun {
			continue
		}
		if m.over(m.s.Since, m.s.Plan.Limits.Start) {
			m.restore(fmt.Sprintf("instance %s did not become healthy within %s%s", p.Member, m.s.Plan.Limits.Start, after(p.Note)))
		}
		return
	}
	m.shift()
}

func after(note string) string {
	if note == "" {
		return ""
	}
	return ": " + note
}

// shift moves the traffic to what the step wants.
func (m *machine) shift() {
	step := m.step()
	m.s.Share = step.Share
	for i := range m.s.Places {
		p := &m.s.Places[i]
		switch {
		case p.Release == m.s.Plan.New.Release:
			if p.Status == Ready {
				m.set(p, Routed)
			}
		case p.Slot >= step.Old || p.Release != m.s.Plan.Old.Release:
			m.dismiss(p)
		}
	}
	m.s.Route++
	m.enter(Shifting, "")
}

// dismiss takes a member out: by draining if it has traffic, else at once.
func (m *machine) dismiss(p *Place) {
	switch p.Status {
	case Routed:
		m.set(p, Leaving)
	case Begun, Ready:
		m.set(p, Stopping)
	}
}

func (m *machine) nextStep() {
	if m.s.Step+1 < len(m.s.Plan.Steps) {
		m.enterStep(m.s.Step + 1)
		return
	}
	m.finish(Promoted, "")
}

// restore turns round: the traffic first, then the instances.
func (m *machine) restore(cause string) {
	m.s.Cause = cause
	for i := range m.s.Places { // who was only about to leave stays
		p := &m.s.Places[i]
		if p.Release == m.s.Plan.Old.Release && p.Status == Leaving {
			m.set(p, Routed)
			m.s.Route++
		}
	}
	m.ensureOld()
	m.enter(Restoring, "")
	m.handBack()
}

// ensureOld has all instances of the old version, except those still stopping
// in their places; they are begun anew when they are gone.
func (m *machine) ensureOld() { m.ensure(m.s.Plan.Old.Release, m.s.Plan.Old.Instances) }

// handBack takes the new version out as soon as the old one can take the
// traffic, or where there is none to wait for.
func (m *machine) handBack() {
	old := m.s.Plan.Old
	if old.Instances > 0 && !m.any(old.Release, Routed) && m.any(m.s.Plan.New.Release, Routed) {
		return
	}
	if m.s.Share != 0 {
		m.s.Share = 0
		m.s.Route++
	}
	for i := range m.s.Places {
		if p := &m.s.Places[i]; p.Release != old.Release {
			if p.Status == Routed {
				m.s.Route++
			}
			m.dismiss(p)
		}
	}
}

func (m *machine) any(release string, status Status) bool {
	return slices.ContainsFunc(m.s.Places, func(p Place) bool { return p.Release == release && p.Status == status })
}

func (m *machine) advanceRestoring() {
	old := m.s.Plan.Old
	if m.over(m.s.Since, m.s.Plan.Limits.Rollback) {
		m.finish(RollbackFailed, fmt.Sprintf("%s; going back did not end within %s: %s", m.s.Cause, m.s.Plan.Limits.Rollback, m.s.waiting()))
		return
	}
	m.ensureOld()
	m.handBack()
	whole := m.s.Route == m.s.InForce
	for _, p := range m.s.Places {
		whole = whole && p.Release == old.Release && p.Status == Routed
	}
	switch {
	case whole && old.Instances == 0:
		m.finish(Failed, m.s.Cause)
	case whole && m.s.Phase == Restoring:
		m.s.Phase = Verifying // Since stays: one deadline for the whole way back
	case !whole:
		m.s.Phase = Restoring
	}
}
