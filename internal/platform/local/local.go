// Package local is the platform that stands on this machine: it makes the
// resources of a stack real as programs of their own, runs the instances of a
// release, and holds the buckets of sites. It knows redis-server, postgres,
// the S3 server, the DNS server and what the edge is to serve; it must not know pipelines, the
// HTTP API, or how a stack is planned.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/platform/fleet"
	"makeitso/internal/process"
	"makeitso/internal/record"
	"makeitso/internal/seal"
	"makeitso/internal/stack"
)

// Options are a Platform's settings.
type Options struct {
	// State is the state folder of makeitso. Required.
	State string
	// Project is the project's name, the last part of generated host names.
	// Required.
	Project string
	// Records is where modelled resources are kept. Required.
	Records record.Store
	// Key seals what is kept of resources and instances. Required.
	Key *seal.Key
	// Region and Account are what AWS::Region and AWS::AccountId give; default
	// us-east-1 and 000000000000.
	Region, Account string
	// Embedded allows stand-ins built into makeitso where neither a program
	// nor a Docker Engine is found.
	Embedded bool
	// Command is makeitso's own program with the argument "internal"; "exec",
	// "s3", "ecr", "dns" or "redis" and a file are added. Default: this binary.
	Command []string
	// Path replaces the folders that programs are looked up in.
	Path []string
	// DockerHost is where the Docker Engine listens; default as for docker
	// itself.
	DockerHost string
	// Announce is told what stands in for what was declared, from several
	// goroutines at once; nil for nobody.
	Announce func(text string)
	// SitesChanged is called after Sites gives something else, and returns
	// when that is in force; nil for nobody.
	SitesChanged func(ctx context.Context) error
	// Edge serves the environment's load balancers; nil for nobody.
	Edge Edge
	// AlarmChanged is told each time the state of an alarm is another, and why;
	// nil for nobody.
	AlarmChanged func(ctx context.Context, alarm, state, reason string)
	// Events is the stream of records that trails write down. Needed for trails
	// only.
	Events string
	// Signal keeps a signal that was put to the address of a wait condition's
	// handle. Needed for handles only.
	Signal func(ctx context.Context, address string, s stack.Signal) error
	// Unpack puts an image's files into a folder that exists and is empty, and
	// gives its command line and environment. Needed for instances only.
	Unpack func(ctx context.Context, digest, into string) (entrypoint, env []string, err error)
}

// Platform is one environment on this machine. It is safe for concurrent use.
type Platform struct {
	env    string
	dir    string // of the environment: resources, instances, processes, s3
	logs   string
	o      Options
	keeper *process.Keeper
	kinds  map[string]kind
	models record.Collection[resource] // what is modelled, by environment and token

	// changing is held, shared, by what changes one resource, and alone by
	// what brings back servers that have ended or removes them all: so nothing
	// is brought back that somebody is just removing.
	changing sync.RWMutex
	making   chan struct{} // an item for each resource being made
	changed  notice        // given when a resource was made, changed or removed
	ports    sync.Mutex    // held while a free port is chosen and written down
	buckets  sync.Mutex    // held while the S3 server is started or stopped
	zones    sync.Mutex    // held while what the DNS server has is changed
	waiting  sync.Mutex    // guards changes
	changes  []*zoneChange // that wait for zones
	images   sync.Mutex    // held while the image registry is started or stopped
	hosts    sync.Mutex    // held while host names are claimed
	// balancing is held while the edge is told of load balancers, so that the
	// newest state is the one in force.
	balancing sync.Mutex
	fleets    *fleet.Runner
	signals   signalServer
}

// atOnce is how many resources that software runs for are made at a time: each
// may start a server, and the engine asks for many more.
const atOnce = 10

var validEnvironment = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// New makes the platform of an environment. Nothing runs and nothing is
// written before the first resource or instance.
func New(env string, o Options) (*Platform, error) {
	if !validEnvironment.MatchString(env) {
		return nil, fault.New(fault.Invalid, "the environment name %q is not small letters, digits and '-'", env)
	}
	if o.State == "" || o.Project == "" || o.Records == nil || o.Key == nil {
		return nil, fault.New(fault.Internal, "a local platform needs a state folder, a project, a store of records and a key")
	}
	state, err := filepath.Abs(o.State)
	if err != nil {
		return nil, fmt.Errorf("find the state folder: %w", err)
	}
	if len(o.Command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find makeitso's own program: %w", err)
		}
		o.Command = []string{self, "internal"}
	}
	o.State = state
	o.Region = cmp.Or(o.Region, "us-east-1")
	o.Account = cmp.Or(o.Account, "000000000000")
	if o.Announce == nil {
		o.Announce = func(string) {}
	}
	p := &Platform{
		env:  env,
		dir:  filepath.Join(state, "environments", env),
		logs: filepath.Join(state, "logs", env),
		o:    o,
	}
	p.keeper = process.New(filepath.Join(p.dir, "processes"), process.Options{Command: p.command("exec")})
	p.kinds, p.making = p.allKinds(), make(chan struct{}, atOnce)
	p.fleets = p.newFleets()
	p.models = record.Of[resource](o.Records, modelKind)
	return p, nil
}

// Close lets go of the environment's processes, which live on, and takes no
// more signals.
func (p *Platform) Close() {
	p.refuseSignals()
	p.keeper.Close()
}

// command is makeitso's own command line for one of its hidden commands.
func (p *Platform) command(name ...string) []string {
	return slices.Concat(p.o.Command, name)
}

// Support says what the platform does with a type.
func (p *Platform) Support(typ string) changeset.Support {
	if k, known := p.kinds[typ]; known {
		return k.support
	}
	return changeset.Support{
		Level: changeset.Refused,
		Note:  "nothing on this machine stands for it; take it out of the template, or apply the stack in an environment on platform aws",
	}
}

// Handler gives what makes resources of a type.
func (p *Platform) Handler(typ string) (stack.Handler, error) {
	k, known := p.kinds[typ]
	if !known {
		return nil, fault.New(fault.Unsupported, "the local platform has no %s: %s", typ, p.Support(typ).Note).
			WithHint("see what it has: makeitso types")
	}
	h := handler{p: p, typ: typ, maker: k.maker}
	if g, is := k.maker.(group); is {
		return &groupHandler{h, g}, nil
	}
	if m, is := k.maker.(recorded); is {
		return &modelHandler{h, m.table()}, nil
	}
	if k.support.Snapshots {
		return &snapshotHandler{h}, nil
	}
	return &h, nil
}

// Type is one line of the table of types.
type Type struct {
	Name string `json:"name"`
	changeset.Support
}

// Types lists the types that are real or modelled, by name.
func (p *Platform) Types() []Type {
	var all []Type
	for name, k := range p.kinds {
		all = append(all, Type{Name: name, Support: k.support})
	}
	slices.SortFunc(all, func(a, b Type) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Resume starts everything that should run and does not, at the same address
// and with the same data: after the machine was restarted, or something was
// killed.
func (p *Platform) Resume(ctx context.Context) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	failures := []error{p.adopt(ctx)}
	all, err := p.resources()
	if err != nil {
		return fmt.Errorf("resume environment %s: %w", p.env, err)
	}
	for _, r := range all {
		k, known := p.kinds[r.Type]
		if !known || !r.Complete || r.Group != "" { // a node is its group's matter
			continue
		}
		err := k.maker.read(ctx, r)
		if fault.Is(err, fault.Unavailable) {
			err = k.maker.make(ctx, r)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("resume %s: %w", r.name(), err))
		}
	}
	return errors.Join(failures...)
}

// stopTime is how long a program may take to end by itself.
const stopTime = 10 * time.Second

// Destroy stops every process of the environment and removes its folder and
// its logs: all data in it is lost, but for snapshots.
func (p *Platform) Destroy(ctx context.Context) error {
	defer p.changed.give() // nothing is left to be watched
	p.changing.Lock()
	defer p.changing.Unlock()
	p.refuseSignals()
	if err := p.destroyContainers(ctx); err != nil {
		return fmt.Errorf("destroy environment %s: %w", p.env, err)
	}
	all, err := p.keeper.List()
	if err != nil {
		return fmt.Errorf("destroy environment %s: %w", p.env, err)
	}
	failures := make([]error, len(all))
	var stopping sync.WaitGroup
	for i, running := range all {
		stopping.Go(func() { failures[i] = running.Stop(ctx, stopTime) })
	}
	stopping.Wait()
	if err := errors.Join(append(failures, p.forgetModels(ctx))...); err != nil {
		return fmt.Errorf("destroy environment %s: %w", p.env, err)
	}
	for _, dir := range []string{p.dir, p.logs} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("destroy environment %s: %w", p.env, err)
		}
	}
	// The folders above are shared with other environments.
	for _, dir := range []string{filepath.Dir(p.dir), filepath.Dir(p.logs)} {
		entries, err := os.ReadDir(dir)
		if err == nil && len(entries) == 0 {
			err = os.Remove(dir)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("destroy environment %s: %w", p.env, err)
		}
	}
	p.tellSnapshots()
	return nil
}

// logFile gives the file for what a program prints, and makes its folder.
func (p *Platform) logFile(name string) (string, error) {
	path := filepath.Join(p.logs, name+".log")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("make the folder of logs: %w", err)
	}
	return path, nil
}
