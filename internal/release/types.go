package release

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/rollout"
	"makeitso/internal/source"
)

// Service is what a release needs to know of a service.
type Service struct {
	Name      string   `json:"name"`
	Hosts     []string `json:"hosts"`     // host names at the edge
	Health    string   `json:"health"`    // path that answers 2xx when an instance is well; "": it accepts connections
	Instances int      `json:"instances"` // default 1
	// Protocol is what its instances speak, as the edge has it.
	Protocol string `json:"protocol,omitempty"`
	// Strategy is how it is rolled out; Commands say whether any are run.
	Strategy rollout.Strategy `json:"strategy"`
	Commands Commands         `json:"commands,omitzero"`
	Judge    Judge            `json:"judge,omitzero"`
	// Alarms are the names or ARNs of alarms of which none may go off while it
	// is rolled out.
	Alarms []string `json:"alarms,omitempty"`
	// Access is what clients may ask of it.
	Access Access `json:"access,omitzero"`
	// Keep is how many releases are kept to go back to, beside the live one and
	// the last good one before it; default 10.
	Keep int `json:"keep,omitempty"`
}

// Access is what clients may ask of a service, how they are known again, and how
// they come to its instances, as the edge has it.
type Access struct {
	Limits         edge.Limits   `json:"limits,omitzero"`
	RequestTimeout time.Duration `json:"requestTimeout,omitempty"`
	Sticky         *edge.Sticky  `json:"sticky,omitempty"`
	SlowStart      time.Duration `json:"slowStart,omitempty"`
	Paths          []string      `json:"paths,omitempty"`
}

// Judge says how a canary is judged.
type Judge struct {
	Options analysis.Options `json:"options,omitzero"`
	// Source says where the outcomes come from. Options say the rule for it.
	Source source.Source `json:"source,omitzero"`
	// Hold keeps a canary without a verdict at its last watched step, until a
	// person decides; else it is promoted.
	Hold bool `json:"hold,omitempty"`
}

// Commands are what is run before and after each change of traffic, "" for none.
type Commands struct {
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	Folder string `json:"folder,omitempty"` // where they run
	Log    string `json:"log,omitempty"`    // the file that takes what they print
}

// keptReleases is how many releases are kept where nothing else is said.
const keptReleases = 10

func (s Service) validate() (Service, error) {
	if s.Name == "" {
		return s, fault.New(fault.Invalid, "a service to release has no name")
	}
	if s.Instances == 0 {
		s.Instances = 1
	}
	if s.Instances < 0 {
		return s, fault.New(fault.Invalid, "service %s has %d instances; at least 1 is needed", s.Name, s.Instances)
	}
	if err := s.Strategy.Validate(); err != nil {
		return s, fault.Wrap(fault.Invalid, err, "service %s cannot be rolled out", s.Name).
			WithHint("write for example rollout: {canary: [10%%, 50%%]}; the last step to 100 %% is added by itself")
	}
	s.Strategy.Before, s.Strategy.After = s.Commands.Before != "", s.Commands.After != ""
	return s, nil
}

// sameShape says whether two services differ only in how they are rolled out
// and in how many instances they have.
func (s Service) sameShape(t Service) bool {
	return s.Name == t.Name && s.Health == t.Health && s.Protocol == t.Protocol && slices.Equal(s.Hosts, t.Hosts) && reflect.DeepEqual(s.Access, t.Access)
}

// Artifact is what a release runs.
type Artifact struct {
	Digest string `json:"digest"` // sha256:…
	Commit string `json:"commit"`
	// Migrations are what the run that made it has done to data on the way.
	Migrations []Migration `json:"migrations,omitempty"`
}

// Migration is a change of data that a run made before a release.
type Migration struct {
	Name string `json:"name"`
	// Reversible says that the release before can work with what it did, or
	// that Undo takes it back.
	Reversible bool   `json:"reversible"`
	Undo       string `json:"undo,omitempty"` // the command that takes it back, "" if none is needed
}

// String says what becomes of the migration when its release is given up.
func (m Migration) String() string {
	switch {
	case !m.Reversible:
		return m.Name + " (forward-only) stays"
	case m.Undo == "":
		return m.Name + " stays: it is reversible without an undo"
	}
	return fmt.Sprintf("%s stays until its undo is run: %s", m.Name, m.Undo)
}

// ReleaseStatus is where a release stands.
type ReleaseStatus string

const (
	RollingOut     ReleaseStatus = "ROLLING_OUT"
	Live           ReleaseStatus = "LIVE"
	Superseded     ReleaseStatus = "SUPERSEDED" // was live; a later one took its place, or the service was removed
	RollingBack    ReleaseStatus = "ROLLING_BACK"
	RolledBack     ReleaseStatus = "ROLLED_BACK"     // the release before is live again and answers
	RollbackFailed ReleaseStatus = "ROLLBACK_FAILED" // the release before could not be brought back in time
	Failed         ReleaseStatus = "FAILED"          // a first release that came to nothing
)

// Final says whether a release's rollout has ended.
func (s ReleaseStatus) Final() bool { return s != RollingOut && s != RollingBack }

// Release is one version of a service in one environment: everything that is
// put back when it is returned to.
type Release struct {
	ID          string   `json:"id"` // e.g. api-7
	Number      int      `json:"number"`
	Environment string   `json:"environment"`
	Service     Service  `json:"service"`
	Artifact    Artifact `json:"artifact"`
	// Config are its environment variables, resolved when it was made: a secret
	// that is rotated later has its old value here. They are plain in memory and
	// for who reads the record; the store seals them, and what is shown masks them.
	Config  map[string]string `json:"config"`
	Key     string            `json:"key"` // the caller's idempotency key
	Created time.Time         `json:"created"`
	Status  ReleaseStatus     `json:"status"`
	Reason  string            `json:"reason"`         // what it waits for, or why it ended so
	Lack    rollout.Lack      `json:"lack,omitempty"` // what a way back waited for that failed
	Traffic float64           `json:"traffic"`        // its share of the requests, 0 to 1
}

// Status is how a service stands.
type Status struct {
	Environment string           `json:"environment"`
	Service     string           `json:"service"`
	Live        string           `json:"live"` // release id, "" if none
	Artifact    Artifact         `json:"artifact"`
	Hosts       []string         `json:"hosts"`
	Instances   []InstanceStatus `json:"instances"`
	Rollout     *RolloutStatus   `json:"rollout,omitempty"` // nil before the first release
}

// InstanceStatus is how one instance stands.
type InstanceStatus struct {
	Instance
	Release  string    `json:"release"`
	State    string    `json:"state"` // starting, ready, preview, routed, draining, kept, stopping
	Since    time.Time `json:"since"`
	Restarts int       `json:"restarts"` // how many instances were lost in its place
	Reason   string    `json:"reason"`   // why the last one was lost, or it is not healthy
}

// RolloutStatus is the rollout under way, or the last one.
type RolloutStatus struct {
	Release  string    `json:"release"`
	Phase    string    `json:"phase"`
	Final    bool      `json:"final"`
	Step     int       `json:"step"` // from 1
	Steps    int       `json:"steps"`
	Share    float64   `json:"share"` // of the new release
	Paused   bool      `json:"paused,omitempty"`
	Reason   string    `json:"reason"`
	Deadline time.Time `json:"deadline"`
	// Judged says by what it is judged, "" if nothing is known of that yet.
	Judged string `json:"judged,omitempty"`
}

// Kinds of events.
const (
	EventRelease  = "release"  // a release began or ended
	EventRollout  = "rollout"  // a rollout entered a phase
	EventTraffic  = "traffic"  // shares of traffic are in force
	EventInstance = "instance" // an instance became healthy, was lost, was replaced
	EventWatch    = "watch"    // progress of a watch, once a second at most
	EventReport   = "report"   // the evidence by which a canary went back
	EventTrouble  = "trouble"  // something did not work and is tried again
)

// Event is something worth telling.
type Event struct {
	Time        time.Time `json:"time"`
	Environment string    `json:"environment"`
	Service     string    `json:"service"`
	Release     string    `json:"release"`
	Kind        string    `json:"kind"`
	Message     string    `json:"message"`
}

// edgeName is the service's name in the edge's configuration.
func edgeName(environment, service string) string { return environment + "/" + service }

// previewName is the name in the edge's configuration of what is shown of a
// service before it takes traffic.
func previewName(environment, service string) string { return environment + "/preview/" + service }

// releaseID names a release of a service.
func releaseID(service string, number int) string { return fmt.Sprintf("%s-%d", service, number) }
