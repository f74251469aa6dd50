package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/edge/certificate"
	"makeitso/internal/edge/outcome"
	"makeitso/internal/fault"
	"makeitso/internal/process"
	"makeitso/internal/release"
)

// edgeProcess is the edge as its users see it: started when there is first
// something to serve, found again after a restart, and told of each change
// with a whole configuration.
type edgeProcess struct {
	keeper *process.Keeper
	self   string
	listen string // where a new one listens
	secure string // where HTTPS is spoken, "" for nowhere
	folder string
	key    string // the file of the key that seals
	client *edge.Client

	mu     sync.Mutex
	config edge.Config // in force, or to be when it starts
	unsure bool        // whether the edge may have taken another one, with no answer
	actual string      // where the running one listens, "" if none is known to run

	troubles []string // with certificates, as they were last told
}

// The names of the edge's process. There are two, since one takes over from the
// other while that still runs.
const edgeName, edgeOtherName = "edge", "edge-2"

// edgeStart is how long an edge may take to come up.
const edgeStart = 15 * time.Second

var _ release.Edge = (*edgeProcess)(nil)

// newEdgeProcess finds out what the edge was serving last; it starts nothing.
func newEdgeProcess(keeper *process.Keeper, o Options) (*edgeProcess, error) {
	e := &edgeProcess{keeper: keeper, self: o.Self, listen: o.Edge, secure: o.EdgeTLS, folder: filepath.Join(o.State, "edge")}
	e.client = edge.NewClient(e.path("edge.sock"))
	if o.Key != "" {
		key, err := filepath.Abs(o.Key) // the edge runs in a folder of its own
		if err != nil {
			return nil, fault.Wrap(fault.Unavailable, err, "find the key %s", o.Key)
		}
		e.key = key
	}
	config, err := edge.LoadConfig(e.path("config.json"))
	if err != nil {
		return nil, err
	}
	e.config, e.unsure = config, true // makeitso before may have been killed as it told the edge another one
	return e, nil
}

// Authority gives the certificate of the authority by which the edge of a state
// folder speaks HTTPS; it is made if there is none yet.
func Authority(state string) ([]byte, error) {
	a, err := certificate.OpenAuthority(filepath.Join(state, "edge", "certificates"))
	if err != nil {
		return nil, err
	}
	return a.PEM(), nil
}

func (e *edgeProcess) path(name string) string { return filepath.Join(e.folder, name) }

// SetService implements release.Edge.
func (e *edgeProcess) SetService(ctx context.Context, s edge.Service) error {
	return e.change(ctx, func(c *edge.Config) {
		c.Services = append(slices.DeleteFunc(c.Services, func(old edge.Service) bool { return old.Name == s.Name }), s)
	})
}

// RemoveService implements release.Edge.
func (e *edgeProcess) RemoveService(ctx context.Context, name string) error {
	return e.change(ctx, func(c *edge.Config) {
		c.Services = slices.DeleteFunc(c.Services, func(old edge.Service) bool { return old.Name == name })
	})
}

// SetSites puts the sites of an environment in force, in place of those it had.
func (e *edgeProcess) SetSites(ctx context.Context, environment string, sites []edge.Site) error {
	return e.change(ctx, func(c *edge.Config) {
		c.Sites = append(slices.DeleteFunc(c.Sites, func(old edge.Site) bool { return strings.HasPrefix(old.Name, environment+"/") }), sites...)
	})
}

// SetBalancing implements local.Edge.
func (e *edgeProcess) SetBalancing(ctx context.Context, environment string, services []edge.Service, balancers []edge.Balancer) error {
	return e.change(ctx, func(c *edge.Config) {
		c.Services = append(slices.DeleteFunc(c.Services, func(old edge.Service) bool { return strings.HasPrefix(old.Name, environment+"/targets/") }), services...)
		c.Balancers = append(slices.DeleteFunc(c.Balancers, func(old edge.Balancer) bool { return strings.HasPrefix(old.Name, environment+"/") }), balancers...)
	})
}

// idle says whether a configuration has nothing to serve.
func idle(c edge.Config) bool { return len(c.Services)+len(c.Sites)+len(c.Balancers) == 0 }

// change brings a changed configuration into force; if that is refused the
// old one stays.
func (e *edgeProcess) change(ctx context.Context, edit func(*edge.Config)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := e.config
	next.Version++
	next.Services, next.Sites, next.Balancers = slices.Clone(next.Services), slices.Clone(next.Sites), slices.Clone(next.Balancers)
	next.TLS = tlsOf(next, e.secure)
	edit(&next)
	if len(next.TLS.Sources) == 0 && e.secure == "" {
		next.TLS = nil
	}
	if idle(next) && !e.running() {
		e.config, e.unsure = next, true // an edge starts with what it had
		return nil
	}
	if err := e.ensure(ctx); err != nil {
		return err
	}
	// Told again, it tries again to take the ports of balancers.
	if !e.unsure && len(next.Balancers) == 0 && serveAlike(e.config, next) {
		return nil
	}
	if err := e.configure(ctx, &next); err != nil {
		return err
	}
	e.config = next
	return nil
}

// serveAlike says whether two configurations differ in their versions at most.
func serveAlike(a, b edge.Config) bool {
	a.Version = b.Version
	return reflect.DeepEqual(a, b)
}

// configure sends a configuration to the edge. One that has taken an earlier
// configuration whose answer was lost is given a higher version than that.
func (e *edgeProcess) configure(ctx context.Context, next *edge.Config) error {
	err := e.client.Configure(ctx, *next)
	if fault.Is(err, fault.Conflict) {
		stats, statsErr := e.client.Stats(ctx)
		if statsErr != nil {
			return errors.Join(err, statsErr)
		}
		next.Version = stats.Version + 1
		err = e.client.Configure(ctx, *next)
	}
	e.unsure = err != nil
	return err
}

// Stats implements release.Edge. An edge that does not run because there is
// nothing to serve has nothing in flight.
func (e *edgeProcess) Stats(ctx context.Context) (edge.Stats, error) {
	if e.stopped() {
		return edge.Stats{}, nil
	}
	return e.client.Stats(ctx)
}

// failures gives requests that went badly, from the access log.
func (e *edgeProcess) failures(service, arm string, since time.Time, most int) ([]edge.Failure, error) {
	return edge.Failures(e.path("access.log"), service, arm, since, most)
}

// Watch implements release.Edge.
func (e *edgeProcess) Watch(ctx context.Context, service string, from outcome.Cursor, tell func(outcome.Batch) error) error {
	if e.stopped() {
		return fault.New(fault.NotFound, "the edge does not run, since there is nothing to serve")
	}
	return e.client.Watch(ctx, service, from, tell)
}

// Traffic implements local.Edge. An edge that does not run because there is
// nothing to serve has seen nothing.
func (e *edgeProcess) Traffic(ctx context.Context) (edge.Traffic, error) {
	if e.stopped() {
		return edge.Traffic{}, nil
	}
	return e.client.Traffic(ctx)
}

// stopped says that the edge has nothing to serve, and does not run.
func (e *edgeProcess) stopped() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return idle(e.config) && !e.running()
}

// Invalidate drops paths of a site from the cache.
func (e *edgeProcess) Invalidate(ctx context.Context, site string, paths ...string) error {
	return e.client.Invalidate(ctx, site, paths...)
}

// Services gives what is served for an environment.
func (e *edgeProcess) Services(environment string) []edge.Service {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.config.Services), func(s edge.Service) bool { return !strings.HasPrefix(s.Name, environment+"/") })
}

// Balancers gives the load balancers of an environment.
func (e *edgeProcess) Balancers(environment string) []edge.Balancer {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.config.Balancers), func(b edge.Balancer) bool { return !strings.HasPrefix(b.Name, environment+"/") })
}

// Address gives where the edge listens, "" while none runs.
func (e *edgeProcess) Address() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.actual == "" && e.running() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if stats, err := e.client.Stats(ctx); err == nil {
			e.actual = stats.Listen
		}
	}
	return e.actual
}

// HTTPS gives where the edge speaks HTTPS for all that it serves, "" for nowhere,
// and what keeps it from hosts. An edge that does not run has neither.
func (e *edgeProcess) HTTPS(ctx context.Context) (address string, troubles []string) {
	if e.Address() == "" {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stats, err := e.client.Stats(ctx)
	if err != nil {
		return "", nil // told by those who need it
	}
	return stats.Secure[e.secure], stats.CertificateTroubles
}

// Port gives the port of Address, or the one that a new edge would have.
func (e *edgeProcess) Port() string {
	address := e.Address()
	if address == "" {
		address = e.listen
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return port
}

func (e *edgeProcess) running() bool {
	all, err := e.find()
	return err == nil && all.run()
}

// edges are the processes of the edge.
type edges struct {
	serving  *process.Process // takes connections, or was the last that did; nil: there was none
	draining *process.Process // has handed over to another one, and lives; nil: there is none
}

func (all edges) run() bool { return all.serving != nil && all.serving.Alive() }

// name gives the name for another process beside the one that serves, or where
// none does the one that drains. One that drains beside it may have that name.
func (all edges) name() string {
	beside := all.draining
	if all.run() {
		beside = all.serving
	}
	if beside != nil && beside.Name == edgeName {
		return edgeOtherName
	}
	return edgeName
}

// find gives the processes of the edge. Of two that live and do not drain, the
// younger one is about to take over.
func (e *edgeProcess) find() (all edges, err error) {
	for _, name := range []string{edgeName, edgeOtherName} {
		p, err := e.keeper.Find(name)
		switch {
		case fault.Is(err, fault.NotFound):
		case err != nil:
			return edges{}, err
		case p.Alive() && edge.Drains(e.path("edge.sock"), p.PID):
			all.draining = p
		case all.serving == nil, p.Alive() && !all.serving.Alive(), p.Alive() == all.serving.Alive() && p.Started.After(all.serving.Started):
			all.serving = p
		}
	}
	return all, nil
}

// Ensure starts the edge unless it runs.
func (e *edgeProcess) Ensure(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ensure(ctx)
}

func (e *edgeProcess) ensure(ctx context.Context) error {
	all, err := e.find()
	if err != nil {
		return err
	}
	name := all.name()
	switch {
	case all.run() && e.actual != "":
		return nil
	case all.run():
		name = all.serving.Name
	default:
		if err := e.portFree(); err != nil {
			return err
		}
		if err := os.MkdirAll(e.folder, 0o700); err != nil {
			return fault.Wrap(fault.Unavailable, err, "make the edge's folder")
		}
	}
	p, err := e.keeper.Start(ctx, e.spec(name))
	if err != nil {
		return err
	}
	return e.untilReady(ctx, p)
}

func (e *edgeProcess) spec(name string, more ...string) process.Spec {
	return process.Spec{
		Name: name, Path: e.self, Env: os.Environ(), Dir: e.folder, Log: e.path("edge.log"),
		Args: append([]string{"internal", "edge", "--listen", e.listen, "--socket", e.path("edge.sock"), "--config", e.path("config.json"), "--log", e.path("access.log"), "--key", e.key}, more...),
	}
}

// Upgrade replaces the running edge by one of this program, if that is newer,
// and says whether it did. No connection is lost; while the one before still
// has some it lives on. There is no place for a third one: while an earlier one
// lives on, nothing is done, and it is given to be awaited.
func (e *edgeProcess) Upgrade(ctx context.Context) (did bool, earlier *process.Process, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all, err := e.find()
	if err != nil || !all.run() {
		return false, nil, err
	}
	// What the process runs is found there even if its file was replaced.
	theirs, err := os.Stat(fmt.Sprintf("/proc/%d/exe", all.serving.PID))
	if err != nil {
		return false, nil, nil // it has ended, or this system does not tell
	}
	ours, err := os.Stat(e.self)
	if err != nil {
		return false, nil, fault.Wrap(fault.Unavailable, err, "find makeitso's own program")
	}
	if os.SameFile(theirs, ours) || !ours.ModTime().After(theirs.ModTime()) {
		return false, nil, nil
	}
	if earlier, err := e.keeper.Find(all.name()); err == nil && earlier.Alive() {
		return false, earlier, nil
	}
	next, err := e.keeper.Start(ctx, e.spec(all.name(), "--take-over"))
	if err != nil {
		return false, nil, err
	}
	return true, nil, e.untilTakenOver(ctx, next)
}

// untilTakenOver waits until a process answers at the edge's socket.
func (e *edgeProcess) untilTakenOver(ctx context.Context, next *process.Process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, edgeStart, fault.New(fault.Failed, "the new edge did not take over within %s", edgeStart))
	defer cancel()
	for {
		if err := e.untilReady(ctx, next); err != nil {
			return err
		}
		if stats, err := e.client.Stats(ctx); err == nil && stats.PID == next.PID {
			return nil
		}
		select {
		case <-next.Exited():
			return e.endedAtOnce()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond): // who answers at a socket is no event
		}
	}
}

// portFree says now, in a sentence, what the edge could only write to its log.
func (e *edgeProcess) portFree() error {
	err := process.TryListen("tcp", e.listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fault.New(fault.Conflict, "the edge cannot listen on %s: the port is in use", e.listen).
			WithHint("stop what listens there, or choose another with --edge 127.0.0.1:PORT")
	}
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "the edge cannot listen on %s", e.listen).WithHint("choose another address with --edge")
	}
	return nil
}

// untilReady waits until the edge answers on its socket; its end before that
// is an error with what it printed.
func (e *edgeProcess) untilReady(ctx context.Context, p *process.Process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, edgeStart, fault.New(fault.Failed, "the edge did not answer within %s", edgeStart))
	defer cancel()
	for {
		stats, err := e.client.Stats(ctx)
		if err == nil {
			e.actual = stats.Listen
			return nil
		}
		select {
		case <-p.Exited():
			return e.endedAtOnce()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond): // a socket that appears is no event
		}
	}
}

// endedAtOnce says why, as far as the edge has printed it.
func (e *edgeProcess) endedAtOnce() error {
	printed, err := os.ReadFile(e.path("edge.log"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fault.New(fault.Failed, "the edge ended at once: %s", lastLine(string(printed)))
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// StopIfIdle ends the edge if it has nothing to serve.
func (e *edgeProcess) StopIfIdle(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !idle(e.config) {
		return nil
	}
	e.actual = ""
	for _, name := range []string{edgeName, edgeOtherName} {
		p, err := e.keeper.Find(name)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err == nil {
			err = p.Stop(ctx, 10*time.Second)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// upgrade is Upgrade, announced. What it gives is closed when it is to be tried
// again, nil for never.
func (e *edgeProcess) upgrade(ctx context.Context, announce func(string)) (again <-chan struct{}) {
	switch did, earlier, err := e.Upgrade(ctx); {
	case err != nil && ctx.Err() == nil:
		announce("the edge of an earlier program goes on: " + fault.Text(err))
	case did:
		announce("an edge of this program has taken over")
	case earlier != nil:
		announce("an edge of this program takes over when the earlier one that drains has ended")
		return earlier.Exited()
	}
	return nil
}

// keepAlive starts the edge again whenever it ends, until ctx does. The new one
// serves what the old one did.
func (e *edgeProcess) keepAlive(ctx context.Context, announce func(string)) {
	again := e.upgrade(ctx, announce)
	for ctx.Err() == nil {
		all, err := e.find()
		if err == nil && all.serving != nil {
			select {
			case <-all.serving.Exited():
			case <-again:
				again = e.upgrade(ctx, announce)
				continue
			case <-ctx.Done():
				return
			}
		}
		e.mu.Lock()
		e.actual = ""
		wanted := !idle(e.config)
		if wanted {
			err = e.ensure(ctx)
		}
		e.mu.Unlock()
		if wanted && err == nil {
			announce("the edge had ended; it was started again")
			continue
		}
		if wanted && ctx.Err() == nil {
			announce("the edge could not be started again: " + fault.Text(err))
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}
