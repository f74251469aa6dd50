package rollout

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"makeitso/internal/span"
)

// EventKind is what has happened.
type EventKind string

const (
	Tick     EventKind = "tick"     // time has passed
	Healthy  EventKind = "healthy"  // Member answers its health check
	Unwell   EventKind = "unwell"   // Member, not healthy yet, says why (Reason)
	Lost     EventKind = "lost"     // Member's instance has ended or must be destroyed (Reason)
	InForce  EventKind = "in force" // the traffic numbered Route is in force
	Hindered EventKind = "hindered" // the traffic could not be put in force yet, or the old version did not answer (Reason)
	Drained  EventKind = "drained"  // Member has finished what it had
	Stopped  EventKind = "stopped"  // Member's instance has ended for good
	Verified EventKind = "verified" // the old version was asked and answers
	RollBack EventKind = "rollback" // a verdict or a person wants the old version back (Reason)

	HookPassed EventKind = "hook passed" // the command of Phase and Step ended well
	HookFailed EventKind = "hook failed" // it did not (Reason)
	Advance    EventKind = "advance"     // the evidence allows the next step
	Promote    EventKind = "promote"     // a person wants the rest of the way without watching
	Pause      EventKind = "pause"       // a person wants it to stay at its step
	Resume     EventKind = "resume"      // a person lets it go on
	Scale      EventKind = "scale"       // the live version is to have so many Instances
	Remark     EventKind = "remark"      // Reason is to be known of this rollout
	Blind      EventKind = "blind"       // nothing is heard any more of what becomes of requests (Reason)
	Seeing     EventKind = "seeing"      // it is again
)

// Event is something that has happened at a time.
type Event struct {
	Kind   EventKind
	At     time.Time
	Member Member
	Route  int
	Reason string
	// Of a hook: the phase and the step it belongs to.
	Phase Phase
	Step  int

	Instances int
}

// CommandKind is what is to be done.
type CommandKind string

const (
	Start  CommandKind = "start"  // have an instance in Member's place; say Healthy, Unwell, Lost
	Drain  CommandKind = "drain"  // say Drained when Member has no request under way
	Stop   CommandKind = "stop"   // end Member's instance; say Stopped
	Shift  CommandKind = "shift"  // put Arms in force, as number Route; say InForce
	Verify CommandKind = "verify" // ask the old version whether it answers; say Verified
	Watch  CommandKind = "watch"  // compare the two versions; say RollBack if the new one is worse, Advance if it is not
	Hook   CommandKind = "hook"   // run the command of Phase and Step; say HookPassed, HookFailed
)

// Command is something to be done. It may be given again, after a crash or a
// failure, and is then finished, not done twice.
type Command struct {
	Kind   CommandKind
	Member Member
	Route  int
	Phase  Phase
	Step   int
}

// Begin starts a rollout at a time. The service's state before (the zero State
// for a new service) must be final, and nothing of the new version may be left
// but instances that were kept for this.
func Begin(before State, plan Plan, at time.Time) (State, error) {
	if before.Phase != "" && !before.Phase.Final() {
		return before, fmt.Errorf("begin rollout of %s: the one of %s is under way", plan.New.Release, before.Plan.New.Release)
	}
	for _, p := range before.Places {
		if p.Release == plan.New.Release && p.Status != Spare {
			return before, fmt.Errorf("begin rollout of %s: its instance %s is still %s", plan.New.Release, p.Member, p.Status)
		}
	}
	plan.Limits = plan.Limits.normalize()
	m := machine{now: at, s: State{Plan: plan, Places: slices.Clone(before.Places), Route: before.Route, InForce: before.InForce}}
	for i := range m.s.Places {
		if p := &m.s.Places[i]; p.Status == Spare {
			m.spend(p)
		}
	}
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
	switch s.Phase {
	case Verifying:
		out = append(out, Command{Kind: Verify})
	case Checking, Confirming:
		out = append(out, Command{Kind: Hook, Phase: s.Phase, Step: s.Step})
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
		if m.s.Route != m.s.InForce || m.s.Phase == Verifying {
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
	case HookPassed, HookFailed:
		if e.Phase == m.s.Phase && e.Step == m.s.Step {
			m.takeHook(e)
		}
	case Scale:
		m.scale(e.Instances)
	default:
		if m.s.Phase.Forward() {
			m.takeWish(e)
		}
	}
}

// takeWish takes what people and the evidence want of a rollout on its way.
func (m *machine) takeWish(e Event) {
	switch e.Kind {
	case Advance:
		if step := m.step(); m.s.Phase == Watching && step.Bake > 0 && m.s.Paused.IsZero() && !m.s.blind() && m.over(m.s.Since, step.Bake) {
			m.nextStep()
		}
	case Promote:
		m.s.Hurried, m.s.Paused = true, time.Time{}
	case Pause:
		if m.s.Paused.IsZero() && !m.s.Last() {
			m.s.Paused, m.s.Hurried = m.now, false
			if e.Reason != "" {
				m.s.Remark = e.Reason
			}
		}
	case Resume:
		m.goOn(m.s.Paused, m.s.Unseen.Since)
		m.s.Paused = time.Time{}
	case Remark:
		m.s.Remark = e.Reason
	case Blind:
		if m.s.Unseen.Since.IsZero() {
			m.s.Unseen = Unseen{Since: m.now, Why: e.Reason}
		}
	case Seeing:
		m.goOn(m.s.Unseen.Since, m.s.Paused)
		m.s.Unseen = Unseen{}
	}
}

// goOn lets a watch go on that one thing has held up since a time: what was left
// of it is left still. Where another holds it up, the rest of the time is that one's.
func (m *machine) goOn(held, other time.Time) {
	until := m.now
	if !other.IsZero() {
		until = other
	}
	if from := later(held, m.s.Since); !held.IsZero() && m.s.Phase == Watching && until.After(from) {
		m.s.Since = m.s.Since.Add(until.Sub(from))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (m *machine) takeHook(e Event) {
	switch {
	case e.Kind == HookFailed:
		m.restore(e.Reason)
	case m.s.Phase == Checking:
		m.shift()
	case m.s.Phase == Confirming:
		m.enter(Watching, "")
	}
}

// scale gives the live version, where it is whole or heals, more or fewer
// instances. Those that stay are not touched.
func (m *machine) scale(n int) {
	live := m.s.liveVersion()
	if m.s.Phase != Promoted && m.s.Phase != RolledBack || live.Release == "" || n < 1 {
		return
	}
	live.Instances = n
	for i := range m.s.Places {
		if p := &m.s.Places[i]; p.Release == live.Release && p.Slot < n && p.Status == Leaving { // it was only about to go
			m.set(p, Routed)
			m.s.Route++
		}
	}
}

// heal brings the live version to its number of instances. None is given up
// before those that stay take traffic.
func (m *machine) heal() {
	live := m.s.Live()
	m.ensure(live.Release, live.Instances)
	for _, p := range m.s.Places {
		if p.Release == live.Release && p.Slot < live.Instances && p.Status != Routed {
			return
		}
	}
	for i := range m.s.Places {
		p := &m.s.Places[i]
		if p.Release != live.Release || p.Slot < live.Instances {
			continue
		}
		if p.Status == Routed {
			m.s.Route++
		}
		m.dismiss(p)
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
		m.leave(p)
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
	if m.stable(p.Release) && p.Status != Leaving && p.Status != Spare {
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

// leave has a member that has finished end, or run on where it is kept.
func (m *machine) leave(p *Place) {
	if m.s.Plan.Keep > 0 && m.s.Phase.Forward() && p.Release == m.s.Plan.Old.Release {
		m.set(p, Spare)
		return
	}
	m.set(p, Stopping)
}

// spend uses a member that was kept, if the rollout leads back to it.
func (m *machine) spend(p *Place) {
	if to := m.s.Plan.New; p.Release == to.Release && p.Slot < to.Instances {
		m.set(p, Ready)
		return
	}
	m.set(p, Stopping)
}

func (m *machine) set(p *Place, s Status) {
	p.Status, p.Since = s, m.now
}

func (m *machine) enter(phase Phase, reason string) {
	m.s.Phase, m.s.Since, m.s.Reason = phase, m.now, reason
}

func (m *machine) finish(phase Phase, reason string) {
	m.enter(phase, reason)
	m.s.Deadline, m.s.Paused, m.s.Unseen = time.Time{}, time.Time{}, Unseen{}
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
		switch {
		case p.Status == Leaving && m.s.Route == m.s.InForce && m.over(p.Since, m.s.Plan.Limits.Drain):
			m.leave(p)
		case p.Status == Spare && m.s.Phase.Final() && m.over(p.Since, m.s.Plan.Keep):
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
			m.restore(fmt.Sprintf("the traffic could not be changed within %s%s", span.Text(m.s.Plan.Limits.Route), after(m.s.Trouble)))
		}
	case Draining:
		switch {
		case !m.going(m.s.Plan.New.Release):
			m.confirm()
		case m.s.Route != m.s.InForce && m.over(m.s.Since, m.s.Plan.Limits.Drain+m.s.Plan.Limits.Stop):
			m.restore("the old instances could not be taken out of the traffic in time" + after(m.s.Trouble))
		}
	case Checking, Confirming:
		if m.over(m.s.Since, m.s.Plan.Limits.Hook) {
			m.restore(fmt.Sprintf("the command %s the traffic did not end within %s", m.s.Phase.side(), span.Text(m.s.Plan.Limits.Hook)))
		}
	case Watching:
		m.advanceWatching()
	case Restoring, Verifying:
		m.advanceRestoring()
	case RollbackFailed: // the end is told, but the old version is still wanted back
		m.ensureOld()
		m.handBack()
	case Promoted, RolledBack:
		m.heal()
	}
}

func (m *machine) advanceWatching() {
	limits := m.s.Plan.Limits
	switch {
	case !m.s.Paused.IsZero():
		if m.over(m.s.Paused, limits.Pause) {
			m.restore(fmt.Sprintf("it was paused at %s and nobody went on with it within %s", Percent(m.s.Share), span.Text(limits.Pause)))
		}
	case m.s.Hurried:
		m.nextStep()
	case m.s.blind():
		if m.over(later(m.s.Unseen.Since, m.s.Since), limits.Pause) {
			m.restore(fmt.Sprintf("%s, for %s", m.s.Unseen, span.Text(limits.Pause)))
		}
	case m.over(m.s.Since, m.step().Watch):
		m.nextStep()
	}
}

// blind says whether a watch cannot end, since nothing is heard of the requests
// that it is there for.
func (s State) blind() bool {
	_, coin := s.Coin()
	return coin && !s.Unseen.Since.IsZero() && s.Plan.Steps[s.Step].Watch > 0
}

// side says on which side of the traffic's change a hook's phase lies.
func (p Phase) side() string {
	if p == Checking {
		return "before"
	}
	return "after"
}

// confirm runs the command after the traffic, where there is one and a new
// instance that it may ask.
func (m *machine) confirm() {
	if m.s.Plan.After && m.step().New > 0 {
		m.enter(Confirming, "")
		return
	}
	m.enter(Watching, "")
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
			m.restore(fmt.Sprintf("instance %s did not become healthy within %s%s", p.Member, span.Text(m.s.Plan.Limits.Start), after(p.Note)))
		}
		return
	}
	if m.s.Plan.Before && m.step().New > 0 {
		m.enter(Checking, "")
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
	case Begun, Ready, Spare:
		m.set(p, Stopping)
	}
}

func (m *machine) nextStep() {
	if m.s.Last() {
		m.finish(Promoted, "")
		return
	}
	next := m.s.Step + 1
	for m.s.Hurried && next+1 < len(m.s.Plan.Steps) && m.s.Plan.Steps[next].Watch > 0 {
		next++ // a step that was there to be watched
	}
	m.enterStep(next)
}

// restore turns round: the traffic first, then the instances.
func (m *machine) restore(cause string) {
	m.s.Cause, m.s.Paused, m.s.Unseen = cause, time.Time{}, Unseen{}
	for i := range m.s.Places { // who was only about to leave stays, who was kept comes back
		p := &m.s.Places[i]
		if p.Release == m.s.Plan.Old.Release && (p.Status == Leaving || p.Status == Spare) {
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
		m.s.Lack = m.s.lack()
		m.finish(RollbackFailed, fmt.Sprintf("%s; going back did not end within %s: %s", m.s.Cause, span.Text(m.s.Plan.Limits.Rollback), m.s.waiting()))
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
