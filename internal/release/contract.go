package release

import (
	"context"
	"io"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/edge/outcome"
)

// Instances is what a platform does for a release: start, stop and observe
// processes made from an artifact. Platforms implement it.
type Instances interface {
	// Start starts an instance and returns at once, before it is healthy. It
	// is idempotent by spec.ID: an instance begun before is found, not begun
	// again.
	Start(ctx context.Context, spec InstanceSpec) (Instance, error)
	// Find gives the instance of that id, fault.NotFound if there is none or
	// its process is gone (the error then says why, as far as is known).
	Find(ctx context.Context, id string) (Instance, error)
	// Exited is closed when the process of id has ended.
	Exited(id string) <-chan struct{}
	// Stop asks the instance to end, kills it after grace, and removes its
	// folder; stopping what is gone is fine.
	Stop(ctx context.Context, id string, grace time.Duration) error
}

// InstanceSpec is one instance to start.
type InstanceSpec struct {
	ID       string            `json:"id"`       // unique, safe as a file name
	Service  string            `json:"service"`  // environment/service, for the log's name
	Artifact string            `json:"artifact"` // image digest, sha256:…
	Env      map[string]string `json:"env"`
}

// Instance is a started instance.
type Instance struct {
	ID      string `json:"id"`
	Address string `json:"address"` // host:port it was told to listen on by PORT
	PID     int    `json:"pid"`
	Log     string `json:"log"` // path of what it prints
}

// Hooks runs the commands of users before and after changes of traffic.
type Hooks interface {
	// Hook runs a command to its end; an error says how it ended badly. What
	// an earlier life left of the same command is ended first. It ends the
	// command when ctx ends.
	Hook(ctx context.Context, h Hook) error
}

// Hook is one command to run.
type Hook struct {
	ID      string   // of the command, the same when it is run again after a crash
	Command string   // for a shell
	Folder  string   // where it runs
	Log     string   // the file that takes what it prints, "" for none
	Env     []string // NAME=value, beside the process's own
	Again   bool     // it was begun before and makeitso was interrupted
	// Output takes what it prints to its standard output; nil: Log does.
	Output io.Writer
}

// Edge is what a release needs of the data plane.
type Edge interface {
	// SetService puts the service's route in force (or replaces it) and
	// returns when it is.
	SetService(ctx context.Context, s edge.Service) error
	// RemoveService takes the service's route away.
	RemoveService(ctx context.Context, name string) error
	// Watch tells the outcomes of a service's requests in order of arrival,
	// from a place on, until ctx ends or tell fails.
	Watch(ctx context.Context, service string, from outcome.Cursor, tell func(outcome.Batch) error) error
	// Stats gives the edge's report.
	Stats(ctx context.Context) (edge.Stats, error)
}
