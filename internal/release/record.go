package release

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/edge/outcome"
	"makeitso/internal/rollout"
	"makeitso/internal/source"
)

// serviceRecord is everything a keeper must not forget of its service.
type serviceRecord struct {
	Name      string          `json:"name"`
	Releases  int             `json:"releases"`  // number of the newest release
	Instances int             `json:"instances"` // number of the newest instance
	State     rollout.State   `json:"state"`
	Slots     []slotRecord    `json:"slots"`
	Doomed    []string        `json:"doomed"`       // instances to destroy that stand in no place any more
	ByHand    bool            `json:"byHand"`       // the rollout returns to an earlier release
	By        string          `json:"by,omitempty"` // the user who wanted that, if known
	Removing  bool            `json:"removing"`     // the service is to go
	Evidence  *evidenceRecord `json:"evidence,omitempty"`
	// Next is the release whose rollout begins when the one under way has been
	// taken back.
	Next string `json:"next,omitempty"`
	// Hook is the command that was begun and has not ended.
	Hook string `json:"hook,omitempty"`
	// Alarms are those that watch over the rollout under way.
	Alarms []alarmRecord `json:"alarms,omitempty"`
	// Preview says that the edge may show what takes no traffic yet.
	Preview bool `json:"preview,omitempty"`
	// Reports are those on rollouts that went back which are not filled in yet.
	Reports []pendingReport `json:"reports,omitempty"`
	// Unneeded are the images of releases that are not kept any more.
	Unneeded []string `json:"unneeded,omitempty"`
}

// slotRecord is the instance in a member's place, and what happened to those
// before it.
type slotRecord struct {
	rollout.Member
	Instance Instance  `json:"instance"` // its ID is chosen, and stored, before it is started
	Started  bool      `json:"started"`
	Healthy  time.Time `json:"healthy"` // since when, zero if it is not
	Restarts int       `json:"restarts"`
	Failures int       `json:"failures"` // losses without a long healthy time between
	NotUntil time.Time `json:"notUntil"` // the delay before it is started
	Reason   string    `json:"reason"`   // why the last one was lost
}

// evidenceRecord is what was learned of a canary, and the place in the source's
// outcomes up to which it was learned. The two are stored together and the source
// outlives makeitso, so that nothing counts twice and nothing is missed.
type evidenceRecord struct {
	New    string          `json:"new"`
	Test   analysis.State  `json:"test"` // as of the last time it was stored
	Cursor outcome.Cursor  `json:"cursor"`
	Coin   bool            `json:"coin"`           // the coin was drawn
	Gaps   int             `json:"gaps,omitempty"` // how often outcomes were lost
	Lost   uint64          `json:"lost,omitempty"` // how many, as far as is known
	Source source.Source   `json:"source,omitzero"`
	Place  source.Position `json:"place,omitzero"` // what Cursor is for another Source than the edge
	Tally  source.Tally    `json:"tally,omitzero"`
	Hold   bool            `json:"hold,omitempty"` // without a verdict it is not promoted
	Held   bool            `json:"held,omitempty"` // it was kept at its step for want of a verdict
}

// judged says by what the canary is judged, and which rule that is.
func (e *evidenceRecord) judged() string {
	if why := limited(e.Test.Options); why != "" {
		return e.Source.String() + ", " + why
	}
	if e.Test.Options.Source == analysis.NoCoin {
		return e.Source.String() + ", without a coin"
	}
	return e.Source.String() + ", by a coin for each request"
}

// idle says whether no rollout is under way.
func (r *serviceRecord) idle() bool { return r.State.Phase == "" || r.State.Phase.Final() }

// removed says whether there is no such service any more, or none yet. One whose
// first release came to nothing is there: it is wanted.
func (r *serviceRecord) removed() bool {
	phase := r.State.Phase
	return r.State.Live().Release == "" && (phase == "" || phase == rollout.Promoted)
}

func (r *serviceRecord) slot(m rollout.Member) *slotRecord {
	i := slices.IndexFunc(r.Slots, func(s slotRecord) bool { return s.Member == m })
	if i < 0 {
		return nil
	}
	return &r.Slots[i]
}

// allocate gives every place that is to be started an instance of its own, and
// dooms the instances whose places are gone.
func (r *serviceRecord) allocate(environment string) {
	for _, p := range r.State.Places {
		if p.Status != rollout.Begun {
			continue
		}
		s := r.slot(p.Member)
		if s == nil {
			r.Slots = append(r.Slots, slotRecord{Member: p.Member})
			s = &r.Slots[len(r.Slots)-1]
		}
		if s.Instance.ID == "" {
			r.Instances++
			s.Instance = Instance{ID: fmt.Sprintf("%s.%s.%d", environment, p.Release, r.Instances)}
		}
	}
	r.Slots = slices.DeleteFunc(r.Slots, func(s slotRecord) bool {
		_, stands := r.State.Place(s.Member)
		if !stands {
			r.doom(s.Instance.ID)
		}
		return !stands
	})
}

func (r *serviceRecord) doom(instance string) {
	if instance != "" {
		r.Doomed = append(r.Doomed, instance)
	}
}

// vacate empties a slot whose instance is lost and says when its replacement
// may start: at once the first time, later and later while it keeps failing.
func (s *slotRecord) vacate(now time.Time, reason string, o Options) {
	if !s.Healthy.IsZero() && now.Sub(s.Healthy) >= o.HealthyReset {
		s.Failures = 0
	}
	s.NotUntil = now.Add(backoff(s.Failures, o.BackoffMin, o.BackoffMax))
	s.Failures++
	s.Restarts++
	s.Reason = reason
	s.Instance, s.Started, s.Healthy = Instance{}, false, time.Time{}
}

// failing says why the version whose instance stands here is itself unwell, ""
// if it is not: its instances were lost again, without a long healthy time.
func (s *slotRecord) failing(now time.Time, o Options) string {
	forgiven := !s.Healthy.IsZero() && now.Sub(s.Healthy) >= o.HealthyReset
	if s.Failures < crashLoop || forgiven {
		return ""
	}
	return fmt.Sprintf("instance %s was replaced %d times, at last because %s", s.Member, s.Failures, s.Reason)
}

// crashLoop is how many losses without a long healthy time between speak
// against the version itself.
const crashLoop = 2

// backoff is the delay after so many failures before this one.
func backoff(failures int, least, most time.Duration) time.Duration {
	d := least
	for range failures {
		if d >= most/2 {
			return most
		}
		d *= 2
	}
	return d
}

// missing says which instance of the live release does not take traffic yet, or
// which is one too many, "" if all is as it should be.
func (r *serviceRecord) missing() string {
	live := r.State.Live()
	for slot := range live.Instances {
		m := rollout.Member{Release: live.Release, Slot: slot}
		if p, _ := r.State.Place(m); p.Status != rollout.Routed {
			return strings.TrimSuffix(fmt.Sprintf("instance %s: %s", m, p.Note), ": ")
		}
	}
	for _, p := range r.State.Places {
		if p.Release == live.Release && p.Slot >= live.Instances {
			return fmt.Sprintf("instance %s has not ended yet", p.Member)
		}
	}
	if r.State.Route != r.State.InForce {
		return strings.TrimSuffix("the traffic is not in force: "+r.State.Trouble, ": ")
	}
	return ""
}

// statePreview is the State of an instance that is shown and takes no traffic.
const statePreview = "preview"

// status is the record as a person sees it.
func (r *serviceRecord) status(environment string) Status {
	s := Status{Environment: environment, Service: r.Name, Live: r.State.Live().Release}
	previewed := r.State.Previewed()
	for _, p := range r.State.Places {
		one := InstanceStatus{Release: p.Release, State: string(p.Status), Since: p.Since, Reason: p.Note}
		if slices.Contains(previewed, p.Member) {
			one.State = statePreview
		}
		if slot := r.slot(p.Member); slot != nil {
			one.Instance, one.Restarts = slot.Instance, slot.Restarts
			if one.Reason == "" {
				one.Reason = slot.Reason
			}
		}
		s.Instances = append(s.Instances, one)
	}
	if st := r.State; st.Phase != "" {
		s.Rollout = &RolloutStatus{
			Release: st.Plan.New.Release, Phase: string(st.Phase), Final: st.Phase.Final(), Step: st.Step + 1,
			Steps: len(st.Plan.Steps), Share: st.Share, Paused: !st.Paused.IsZero(), Reason: st.Reason, Deadline: st.Deadline,
		}
		if !st.Phase.Final() {
			s.Rollout.Reason = joined(st.Reason, r.alarmNote())
		}
		if e := r.Evidence; e != nil && e.New == st.Plan.New.Release {
			s.Rollout.Judged = e.judged()
		}
	}
	return s
}
