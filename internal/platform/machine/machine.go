// Package machine is what is the same of every resource that stands on this
// machine, whatever it is: its sealed state, its name, its port, its folder and
// its log, the program, container or process that serves it, and the handler by
// which a stack makes, changes and removes it. It must not know what a type of
// resource is, although its state has room for what any of them keeps, what the
// edge or a DNS server answers, or how a stack is planned.
package machine

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
	"sync/atomic"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/process"
	"makeitso/internal/record"
	"makeitso/internal/seal"
	"makeitso/internal/stack"
)

// Options are a Machine's settings.
type Options struct {
	// State is the state folder of makeitso. Required.
	State string
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
	// "s3", "dns" or "redis" and a file are added. Default: this binary.
	Command []string
	// Path replaces the folders that programs are looked up in.
	Path []string
	// DockerHost is where the Docker Engine listens; default as for docker
	// itself.
	DockerHost string
	// Announce is told what stands in for what was declared, from several
	// goroutines at once; nil for nobody.
	Announce func(text string)
}

// Hooks are what a Machine asks of the platform that it is a part of. Each may
// be nil.
type Hooks struct {
	// Ports gives the ports that belong to no resource.
	Ports func() ([]int, error)
	// Forget is called by Destroy when nothing runs any more, and forgets what
	// lies outside of the environment's folder.
	Forget func(ctx context.Context) error
	// Concerns says whether Changed is to be called when r was made, changed
	// or removed; if it is not nil, Changed must not be.
	Concerns func(r *Resource) bool
	Changed  func(ctx context.Context) error
}

// Machine is one environment's share of this machine. It is safe for
// concurrent use.
type Machine struct {
	Env     string  // the name of the environment
	Dir     string  // its folder: resources, processes and what platforms add
	Logs    string  // the folder of its logs
	Options Options // with their defaults
	hooks   Hooks
	Keeper  *process.Keeper // of its processes
	kinds   map[string]Kind
	Models  record.Collection[Resource] // what is modelled, by environment and token

	// changing is held, shared, by what changes one resource, and alone by
	// what brings back servers that have ended or removes them all: so nothing
	// is brought back that somebody is just removing.
	changing sync.RWMutex
	making   chan struct{} // an item for each resource being made
	changed  notice        // given when a resource was made, changed or removed
	missing  atomic.Bool   // whether the last Resume has not brought everything back
	Ports    sync.Mutex    // held while a free port is chosen and written down
}

// Kind is what is done with one type.
type Kind struct {
	Support changeset.Support
	Maker   Maker
}

// Real is the kind of a type that software runs for; text says what.
func Real(text string, m Maker) Kind {
	return Kind{Support: changeset.Support{Level: changeset.Real, Note: text}, Maker: m}
}

// Maker makes the resources of one type; Handler adds what is the same for
// all: finding again by token, state files, order.
type Maker interface {
	// Check judges properties. What other resources decide is
	// changeset.KnownAfterApply in a plan and must be let through.
	Check(ctx context.Context, r *Resource) error
	// Make brings the resource to what r declares, whatever stands already,
	// waits until it is ready, and sets its physical id and attributes.
	Make(ctx context.Context, r *Resource) error
	// Read looks whether a complete resource is there: fault.Unavailable if it
	// should run and does not.
	Read(ctx context.Context, r *Resource) error
	// Remove takes away what make made, except the resource's own folder.
	Remove(ctx context.Context, r *Resource) error
}

// Wrapper is a Maker whose types have a handler of their own, around the
// machine's.
type Wrapper interface {
	// Wrap gives that handler; h is the machine's.
	Wrap(h *Handler) stack.Handler
}

// atOnce is how many resources that software runs for are made at a time: each
// may start a server, and the engine asks for many more.
const atOnce = 10

var validEnvironment = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// New makes an environment's share of the machine, which has no kinds yet.
// Nothing runs and nothing is written before the first resource.
func New(env string, o Options, asked Hooks) (*Machine, error) {
	if !validEnvironment.MatchString(env) {
		return nil, fault.New(fault.Invalid, "the environment name %q is not small letters, digits and '-'", env)
	}
	if o.State == "" || o.Records == nil || o.Key == nil {
		return nil, fault.New(fault.Internal, "a local platform needs a state folder, a store of records and a key")
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
	m := &Machine{
		Env: env, Dir: filepath.Join(state, "environments", env), Logs: filepath.Join(state, "logs", env),
		Options: o, hooks: asked, kinds: map[string]Kind{}, making: make(chan struct{}, atOnce),
	}
	m.Keeper = process.New(filepath.Join(m.Dir, "processes"), process.Options{Command: m.Command("exec")})
	m.Models = record.Of[Resource](o.Records, "local-model")
	return m, nil
}

// Add gives the machine kinds, by the names of their types, before it is used.
func (m *Machine) Add(kinds map[string]Kind) {
	for typ, k := range kinds {
		m.kinds[typ] = k
	}
}

// Kind gives what is done with a type, the zero value if nothing is.
func (m *Machine) Kind(typ string) Kind { return m.kinds[typ] }

// Close lets go of the environment's processes, which live on.
func (m *Machine) Close() { m.Keeper.Close() }

// Command is makeitso's own command line for one of its hidden commands.
func (m *Machine) Command(name ...string) []string {
	return slices.Concat(m.Options.Command, name)
}

// Support says what is done with a type.
func (m *Machine) Support(typ string) changeset.Support {
	if k, known := m.kinds[typ]; known {
		return k.Support
	}
	return changeset.Support{
		Level: changeset.Refused,
		Note:  "nothing on this machine stands for it; take it out of the template, or apply the stack in an environment on platform aws",
	}
}

// Handler gives what makes resources of a type.
func (m *Machine) Handler(typ string) (stack.Handler, error) {
	k, known := m.kinds[typ]
	if !known {
		return nil, fault.New(fault.Unsupported, "the local platform has no %s: %s", typ, m.Support(typ).Note).
			WithHint("see what it has: makeitso types")
	}
	h := &Handler{m: m, Type: typ, Maker: k.Maker}
	if w, has := k.Maker.(Wrapper); has {
		return w.Wrap(h), nil
	}
	return h, nil
}

// Type is one line of the table of types.
type Type struct {
	Name string `json:"name"`
	changeset.Support
}

// Types lists the types that are real or modelled, by name.
func (m *Machine) Types() []Type {
	var all []Type
	for name, k := range m.kinds {
		all = append(all, Type{Name: name, Support: k.Support})
	}
	slices.SortFunc(all, func(a, b Type) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Resume starts everything that should run and does not, at the same address
// and with the same data: after the machine was restarted, or something was
// killed.
func (m *Machine) Resume(ctx context.Context) (err error) {
	m.changing.Lock()
	defer m.changing.Unlock()
	defer func() { m.missing.Store(err != nil) }()
	all, err := m.Resources()
	if err != nil {
		return fmt.Errorf("resume environment %s: %w", m.Env, err)
	}
	var failures []error
	for _, r := range all {
		k, known := m.kinds[r.Type]
		if !known || !r.Complete || r.Group != "" { // a node is its group's matter
			continue
		}
		err := k.Maker.Read(ctx, r)
		if fault.Is(err, fault.Unavailable) {
			err = k.Maker.Make(ctx, r)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("resume %s: %w", r.Name(), err))
		}
	}
	return errors.Join(failures...)
}

// StopTime is how long a program may take to end by itself.
const StopTime = 10 * time.Second

// Destroy stops every process of the environment and removes its folder and
// its logs: all data in it is lost.
func (m *Machine) Destroy(ctx context.Context) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	if err := m.destroyContainers(ctx); err != nil {
		return fmt.Errorf("destroy environment %s: %w", m.Env, err)
	}
	all, err := m.Keeper.List()
	if err != nil {
		return fmt.Errorf("destroy environment %s: %w", m.Env, err)
	}
	failures := make([]error, len(all))
	var stopping sync.WaitGroup
	for i, running := range all {
		stopping.Go(func() { failures[i] = running.Stop(ctx, StopTime) })
	}
	stopping.Wait()
	if m.hooks.Forget != nil {
		failures = append(failures, m.hooks.Forget(ctx))
	}
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("destroy environment %s: %w", m.Env, err)
	}
	if err := m.removeFolders(); err != nil {
		return fmt.Errorf("destroy environment %s: %w", m.Env, err)
	}
	return nil
}

// removeFolders removes the folders of the environment.
func (m *Machine) removeFolders() error {
	for _, dir := range []string{m.Dir, m.Logs} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	// The folders above are shared with other environments.
	for _, dir := range []string{filepath.Dir(m.Dir), filepath.Dir(m.Logs)} {
		entries, err := os.ReadDir(dir)
		if err == nil && len(entries) == 0 {
			err = os.Remove(dir)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
