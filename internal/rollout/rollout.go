// Package rollout is the way of a service from one release to the next, as a
// pure state machine: a state and an event give a new state, and a state gives
// the commands that are outstanding in it. It knows releases by name, their
// instances by number, shares of traffic and deadlines; it must not know how an
// instance is started, what decides that a release is bad, or what time it is
// (events carry the time).
//
// The state of a service outlives its rollouts: between them the machine goes
// on replacing instances of the live release that are lost.
package rollout

import (
	"fmt"
	"slices"
	"time"
)

// Version is a release and how many instances it has. The zero Version is
// nothing: the old version of a first release, the new one of a removal.
type Version struct {
	Release   string `json:"release"`
	Instances int    `json:"instances"`
}

// Step is one stage of the way: so many instances of both versions take
// traffic, the new one this share of it, and it is watched for a time. After
// Bake, unless that is 0, the evidence may end the watch.
type Step struct {
	New   int           `json:"new"`
	Old   int           `json:"old"`
	Share float64       `json:"share"`
	Watch time.Duration `json:"watch,omitempty"`
	Bake  time.Duration `json:"bake,omitempty"`
}

// Limits are the longest times each wait may take; a zero field means its default.
type Limits struct {
	Start    time.Duration `json:"start"`    // until a new instance is healthy; default 60 s
	Route    time.Duration `json:"route"`    // until a change of traffic is in force; default 30 s
	Drain    time.Duration `json:"drain"`    // until an instance has finished its requests; default 30 s
	Stop     time.Duration `json:"stop"`     // until an instance has ended; default 30 s
	Rollback time.Duration `json:"rollback"` // for the whole way back; default 2 min
	Hook     time.Duration `json:"hook"`     // until a command before or after the traffic has ended; default 5 min
	Pause    time.Duration `json:"pause"`    // until somebody goes on with what was paused, or outcomes come again; default 24 h
}

func (l Limits) normalize() Limits {
	orDefault(&l.Start, time.Minute)
	orDefault(&l.Route, 30*time.Second)
	orDefault(&l.Drain, 30*time.Second)
	orDefault(&l.Stop, 30*time.Second)
	orDefault(&l.Rollback, 2*time.Minute)
	orDefault(&l.Hook, 5*time.Minute)
	orDefault(&l.Pause, 24*time.Hour)
	return l
}

func orDefault(d *time.Duration, standard time.Duration) {
	if *d == 0 {
		*d = standard
	}
}

// Plan is one rollout: from Old to New by Steps. The last step has all of New
// and none of Old.
type Plan struct {
	Old    Version `json:"old"`
	New    Version `json:"new"`
	Steps  []Step  `json:"steps"`
	Limits Limits  `json:"limits"`
	// Before and After say that a command is run before and after each change
	// of traffic.
	Before bool `json:"before,omitempty"`
	After  bool `json:"after,omitempty"`
	// Preview says that the new version has an address of its own before it
	// takes traffic.
	Preview bool `json:"preview,omitempty"`
	// Keep is how long the old version runs on without traffic when it is
	// replaced, so that the way back is a change of traffic alone.
	Keep time.Duration `json:"keep,omitempty"`
}

// Watched gives how long the new version is watched beside the old one in all
// steps together, and at least in each, 0 if nothing says so.
func (p Plan) Watched() (all, least time.Duration) {
	for _, step := range p.Steps {
		all += step.Watch
	}
	return all, p.Steps[0].Bake
}

// Phase is where a rollout stands.
type Phase string

const (
	Starting   Phase = "starting"   // the step's new instances become healthy
	Checking   Phase = "checking"   // the command before the step's traffic runs
	Shifting   Phase = "shifting"   // the step's traffic is put in force
	Draining   Phase = "draining"   // the step's old instances finish and end
	Confirming Phase = "confirming" // the command after the step's traffic runs
	Watching   Phase = "watching"   // the step is watched
	Restoring  Phase = "restoring"  // the old version gets everything back
	Verifying  Phase = "verifying"  // the old version is asked whether it answers

	Promoted       Phase = "promoted"        // the new version is live alone
	RolledBack     Phase = "rolled back"     // the old version is live alone and answers
	Failed         Phase = "failed"          // there was no old version to go back to; nothing is live
	RollbackFailed Phase = "rollback failed" // the way back did not end in time
)

// Final says whether the rollout has ended.
func (p Phase) Final() bool {
	switch p {
	case Promoted, RolledBack, Failed, RollbackFailed:
		return true
	}
	return false
}

// Forward says whether the rollout is on its way to the new version.
func (p Phase) Forward() bool {
	switch p {
	case Starting, Checking, Shifting, Draining, Confirming, Watching:
		return true
	}
	return false
}

// Member is the place of one instance: the instance in it may be replaced.
type Member struct {
	Release string `json:"release"`
	Slot    int    `json:"slot"`
}

// String is the member as people see it, e.g. api-3/0.
func (m Member) String() string { return fmt.Sprintf("%s/%d", m.Release, m.Slot) }

// Status is where a member stands.
type Status string

const (
	Begun    Status = "starting" // not healthy yet
	Ready    Status = "ready"    // healthy, takes no traffic yet
	Routed   Status = "routed"   // takes traffic
	Leaving  Status = "draining" // finishes what it has
	Spare    Status = "kept"     // has given its traffic away and runs on, for the way back
	Stopping Status = "stopping" // is being ended
)

// Place is a member and how it stands.
type Place struct {
	Member
	Status Status    `json:"status"`
	Since  time.Time `json:"since"`
	Note   string    `json:"note,omitempty"` // what was last heard of it while it was not well
}

// State is where a service stands: its rollout, or the last one it had.
type State struct {
	Plan     Plan      `json:"plan"`
	Phase    Phase     `json:"phase"`
	Step     int       `json:"step"`
	Share    float64   `json:"share"`             // of the new version
	Since    time.Time `json:"since"`             // when the phase began
	Deadline time.Time `json:"deadline"`          // when the phase ends at the latest; zero in a final phase
	Reason   string    `json:"reason"`            // what is waited for, or why it ended
	Cause    string    `json:"cause"`             // why it goes or went back, "" otherwise
	Remark   string    `json:"remark,omitempty"`  // what else is to be known of this rollout
	Paused   time.Time `json:"paused,omitzero"`   // since when it goes no further by itself, zero if it does
	Hurried  bool      `json:"hurried,omitempty"` // the rest of the steps are not watched
	Places   []Place   `json:"places"`
	// Route numbers the states of the traffic; the one numbered InForce is in force.
	Route   int `json:"route"`
	InForce int `json:"inForce"`
	// Trouble is why the traffic is not in force yet, or the old version does
	// not answer, as far as was heard.
	Trouble string `json:"trouble,omitempty"`
	Lack    Lack   `json:"lack,omitempty"` // of a way back that failed
	Unseen  Unseen `json:"unseen,omitzero"`
}

// Lack is what a way back still waited for when its time was over.
type Lack string

const (
	LackInstance Lack = "instance" // one of the old version, to become healthy
	LackTraffic  Lack = "traffic"  // to be given to the old version
	LackAnswer   Lack = "answer"   // of the old version, which has its traffic
	LackEnd      Lack = "end"      // of an instance of the new version, which has no traffic
)

// Unseen says since when, and why, nothing is heard of what becomes of requests;
// the zero Unseen is that it is.
type Unseen struct {
	Since time.Time `json:"since,omitzero"`
	Why   string    `json:"why,omitempty"`
}

// Live is the version that a service has for good in this state: the old one
// until the new one is promoted.
func (s State) Live() Version {
	if live := s.liveVersion(); live != nil {
		return *live
	}
	return Version{}
}

// liveVersion is Live, to be changed; nil where nothing is live.
func (s *State) liveVersion() *Version {
	switch s.Phase {
	case Promoted:
		return &s.Plan.New
	case Failed:
		return nil
	}
	return &s.Plan.Old
}

// Last says whether the rollout is at its last step, after which it is promoted.
func (s State) Last() bool { return s.Step+1 >= len(s.Plan.Steps) }

// Kept says whether all instances that the old version had run on without
// traffic, so that the way back to it is a change of traffic alone.
func (s State) Kept() bool {
	for slot := range s.Plan.Old.Instances {
		if p, _ := s.Place(Member{s.Plan.Old.Release, slot}); p.Status != Spare {
			return false
		}
	}
	return s.Phase == Promoted && s.Plan.Old.Instances > 0
}

// Previewed gives the members that take no traffic yet and are shown at an
// address of their own.
func (s State) Previewed() []Member {
	var members []Member
	if !s.Plan.Preview || !s.Phase.Forward() || s.Share > 0 {
		return nil
	}
	for _, p := range s.Places {
		if p.Release == s.Plan.New.Release && p.Status == Routed {
			members = append(members, p.Member)
		}
	}
	return members
}

// Place gives the place of m.
func (s State) Place(m Member) (Place, bool) {
	i := slices.IndexFunc(s.Places, func(p Place) bool { return p.Member == m })
	if i < 0 {
		return Place{}, false
	}
	return s.Places[i], true
}

// Arm is one version's part of the traffic.
type Arm struct {
	Release string
	Weight  float64
	Members []Member // that take new requests
	Leaving []Member // that finish what they have
}

// Arms is how the traffic is (to be) divided: weights are shares and sum to 1,
// over the versions that have an instance to take it. Empty means no traffic.
func (s State) Arms() []Arm {
	var arms []Arm
	for _, p := range s.Places {
		if p.Status != Routed && p.Status != Leaving {
			continue
		}
		i := slices.IndexFunc(arms, func(a Arm) bool { return a.Release == p.Release })
		if i < 0 {
			i = len(arms)
			arms = append(arms, Arm{Release: p.Release})
		}
		if p.Status == Routed {
			arms[i].Members = append(arms[i].Members, p.Member)
		} else {
			arms[i].Leaving = append(arms[i].Leaving, p.Member)
		}
	}
	total := 0.0
	for i := range arms {
		if len(arms[i].Members) > 0 {
			arms[i].Weight = s.share(arms[i].Release)
			total += arms[i].Weight
		}
	}
	routed := slices.ContainsFunc(arms, func(a Arm) bool { return len(a.Members) > 0 })
	if !routed {
		return nil
	}
	for i := range arms {
		switch {
		case total > 0:
			arms[i].Weight /= total
		case len(arms[i].Members) > 0: // the versions with a share have no instance left
			arms[i].Weight = 1
		}
	}
	return arms
}

// Bereft gives the release that is live though none of its instances can take
// the traffic, "" where one can, or where nothing is to be live.
func (s State) Bereft() string {
	live := s.Live()
	removed := s.Phase.Forward() && s.Plan.New.Instances == 0
	if live.Instances == 0 || removed || len(s.Arms()) > 0 {
		return ""
	}
	return live.Release
}

// Coin gives the new version's weight where every request draws between both
// versions by chance; ok is false where one of them takes everything.
func (s State) Coin() (weight float64, ok bool) {
	for _, a := range s.Arms() {
		if a.Release == s.Plan.New.Release {
			weight = a.Weight
		}
	}
	return weight, weight > 0 && weight < 1
}

func (s State) share(release string) float64 {
	if release == s.Plan.New.Release {
		return s.Share
	}
	return 1 - s.Share
}
