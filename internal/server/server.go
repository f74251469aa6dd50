// Package server puts the processes together: it locks the state folder, opens
// the database, ties engines to platforms, starts the edge, takes calls and
// pushes, and ends all of it in good order. It knows everybody's constructors;
// it must not decide anything.
package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"makeitso/internal/api"
	"makeitso/internal/artifact/image"
	"makeitso/internal/control"
	"makeitso/internal/fault"
	"makeitso/internal/gitserver"
	"makeitso/internal/pipeline"
	"makeitso/internal/process"
	"makeitso/internal/project"
	"makeitso/internal/record"
	"makeitso/internal/seal"
	"makeitso/internal/stack"
	"makeitso/internal/statefile"
	"makeitso/internal/store"
)

// Addresses that are used where none is given.
const (
	DefaultListen = "127.0.0.1:7700" // takes pushes
	DefaultEdge   = "127.0.0.1:8080" // serves sites and services
	// DefaultEdgeTLS serves them over HTTPS, where the edge has its default address.
	DefaultEdgeTLS = "127.0.0.1:8443"
)

// Duty is how much a server does by itself; each includes those before it.
type Duty int

// The duties of a server.
const (
	Answer Duty = iota // answers only
	Keep               // keeps alive what runs in the environments it opens
	Work               // goes on with the runs that were interrupted, and begins new ones
)

// Options say what a server serves and how.
type Options struct {
	Folder   string // the project's folder; required
	State    string // the state folder; required
	Database string // a postgres:// URL, or "" for a file in the state folder
	Key      string // the file of the key that seals what is stored, default key in the state folder
	Self     string // this program, to run its hidden commands; required

	Duty     Duty   // how much it does by itself
	Only     string // run all pipelines for this environment alone
	Listen   string // the address that takes pushes, "" for none
	Edge     string // the edge's address, default DefaultEdge
	EdgeTLS  string // its address for HTTPS; default DefaultEdgeTLS if Edge is DefaultEdge, else none
	Watch    bool   // treat commits in the project's own repository as pushes
	Embedded bool   // allow embedded stand-ins in every local environment

	// Announce is told what people should know and nobody asked for, such as
	// that a stand-in serves. Default: nobody.
	Announce func(text string)
}

func (o Options) withDefaults() Options {
	if o.Edge == "" {
		o.Edge = DefaultEdge
	}
	if o.EdgeTLS == "" && o.Edge == DefaultEdge {
		o.EdgeTLS = DefaultEdgeTLS
	}
	if o.Key == "" {
		o.Key = filepath.Join(o.State, "key")
	}
	if o.Announce == nil {
		o.Announce = func(string) {}
	}
	return o
}

// Server is a makeitso at work in this process.
type Server struct {
	o     Options
	lock  *os.File
	store *store.Store
	key   *seal.Key
	// records is store, sealed.
	records record.Store
	keeper  *process.Keeper
	images  *image.Store
	edge    *edgeProcess
	engine  *pipeline.Engine
	git     *gitserver.Server
	socket  string
	pushes  net.Listener // takes pushes, nil if nobody does

	ctx     context.Context // ends when the server is closed
	stop    context.CancelCauseFunc
	working sync.WaitGroup // everything begun under ctx
	servers []*http.Server

	mu           sync.Mutex
	environments map[string]*environment
}

// errClosing is why the server's context ends: what is under way stops where
// it is, to go on at the next start.
var errClosing = fmt.Errorf("makeitso is stopping: %w", stack.ErrSuspend)

// Start starts a server. What it answers on is ready when it returns.
func Start(ctx context.Context, o Options) (_ *Server, err error) {
	o = o.withDefaults()
	s := &Server{o: o, environments: map[string]*environment{}, socket: socketPath(o.State)}
	s.ctx, s.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.lock, err = lockFolder(o.State); err != nil {
		return nil, err
	}
	if err := s.listen(); err != nil { // first: an address that is taken is said before anything is done
		return nil, err
	}
	if err := s.openStore(ctx); err != nil {
		return nil, err
	}
	s.keeper = process.New(filepath.Join(o.State, "processes"), process.Options{Command: []string{o.Self, "internal", "exec"}})
	s.images = image.New(filepath.Join(o.State, "images"), image.Options{})
	if s.edge, err = newEdgeProcess(s.keeper, o); err != nil {
		return nil, err
	}
	if err := s.openEngine(ctx); err != nil {
		return nil, err
	}
	c := s.control()
	if err := s.serveSocket(api.Handler(c)); err != nil {
		return nil, err
	}
	if o.Duty == Work {
		if err := s.resume(ctx); err != nil {
			return nil, err
		}
	}
	if s.pushes != nil {
		if err := s.takePushes(ctx, c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// lockFolder makes the state folder and takes it for this process.
func lockFolder(state string) (*os.File, error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the state folder cannot be made").WithHint("give this user write access to it, or choose another with --state")
	}
	// What is in it is nobody's source, wherever in a repository it lies.
	if err := os.WriteFile(filepath.Join(state, ".gitignore"), []byte("*\n"), 0o600); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the state folder cannot be written").WithHint("give this user write access to it, or choose another with --state")
	}
	path := filepath.Join(state, "lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the state folder cannot be written").WithHint("give this user write access to it, or choose another with --state")
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, readErr := os.ReadFile(path)
		return nil, errors.Join(fault.New(fault.Conflict, "another makeitso (process %s) uses the state folder %s", strings.TrimSpace(string(holder)), state).
			WithHint("let it do the work (makeitso status), stop it, or choose another state folder with --state"), readErr, file.Close())
	}
	if err := file.Truncate(0); err != nil {
		return nil, errors.Join(fault.Wrap(fault.Unavailable, err, "the state folder cannot be written"), file.Close())
	}
	if _, err := fmt.Fprintln(file, os.Getpid()); err != nil {
		return nil, errors.Join(fault.Wrap(fault.Unavailable, err, "the state folder cannot be written").WithHint("free some space there, or choose another with --state"), file.Close())
	}
	return file, nil
}

func (s *Server) openStore(ctx context.Context) (err error) {
	if s.o.Database != "" {
		s.store, err = store.OpenPostgres(ctx, s.o.Database)
	} else {
		s.store, err = store.Open(ctx, filepath.Join(s.o.State, "state.db"))
	}
	if err != nil {
		return err
	}
	if s.key, err = seal.Load(s.o.Key); err != nil {
		return diskFull(err)
	}
	s.records, err = seal.Store(ctx, s.store, s.key)
	return err
}

func (s *Server) openEngine(ctx context.Context) error {
	return diskFull(s.store.Deferred(ctx, func() (err error) { // the tables of the workflow engine
		s.engine, err = pipeline.New(pipeline.Options{
			Store: s.records, SQLite: s.store.SQLite(), Postgres: s.store.PostgresURL(),
			Images: s.images, Folder: s.o.State, Direct: s.o.Listen == "",
			Environment: s.pipelineEnvironment,
			Checkout:    gitserver.Checkout,
		})
		return err
	}))
}

// diskFull says what to do about a full disk, of which the workflow engine
// gives the text alone.
func diskFull(err error) error {
	told := err == nil || fault.HintOf(err) != "" || !strings.Contains(err.Error(), "disk is full")
	if told && !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "the disk of the state folder is full").WithHint("free some space, then run the same command again")
}

// resume opens the environments that exist, so that what runs there is adopted
// and what was interrupted goes on, and only then the runs that may use them.
func (s *Server) resume(ctx context.Context) error {
	p, err := s.known()
	if err != nil {
		return err
	}
	for name := range p.Environments {
		if !s.exists(name) {
			continue
		}
		if _, err := s.environment(ctx, p, name); err != nil {
			return fmt.Errorf("resume environment %s: %w", name, err)
		}
	}
	return diskFull(s.engine.Launch())
}

// project reads the working tree's makeitso.yaml, and keeps a copy for the time
// when it has mistakes.
func (s *Server) project() (*project.Project, []byte, error) {
	p, mistakes, err := project.Load(s.o.Folder)
	if err != nil {
		return nil, nil, err
	}
	if err := mistakes.Err(); err != nil {
		return nil, nil, err
	}
	src, err := os.ReadFile(filepath.Join(s.o.Folder, project.File))
	if err != nil {
		return nil, nil, err
	}
	if old, err := os.ReadFile(s.lastGood()); err == nil && bytes.Equal(old, src) {
		return p, src, nil
	}
	return p, src, statefile.WriteBytes(s.lastGood(), src)
}

func (s *Server) lastGood() string { return filepath.Join(s.o.State, project.File) }

// known gives the project of the working tree, or while that has mistakes the
// last that had none: what runs can be looked at and ended all the same. It has
// the environments too that were taken out of the file.
func (s *Server) known() (*project.Project, error) {
	p, _, err := s.project()
	if err == nil {
		return s.withFormer(p)
	}
	src, readErr := os.ReadFile(s.lastGood())
	if readErr != nil { // there never was one
		return nil, err
	}
	last, mistakes := project.Parse(project.File, src)
	if mistakes.HasErrors() {
		return nil, err
	}
	return s.withFormer(last)
}

// exists says whether anything of an environment was ever made here.
func (s *Server) exists(name string) bool {
	_, err := os.Stat(filepath.Join(s.o.State, "environments", name))
	return err == nil
}

func (s *Server) control() *control.Control {
	return control.New(control.Options{
		Engine: s.engine, Folder: s.o.Folder, Project: s.project, Known: s.known, Only: s.o.Only, Exists: s.exists,
		Environment: func(ctx context.Context, p *project.Project, name string) (*control.Environment, error) {
			env, err := s.environment(ctx, p, name)
			if err != nil {
				return nil, err
			}
			return env.forControl(), nil
		},
		Server: func() control.ServerStatus {
			secure, troubles := s.edge.HTTPS(s.ctx)
			return control.ServerStatus{PID: os.Getpid(), Listen: s.listensAt(), Push: s.PushURL(), Edge: s.edge.Address(), EdgeTLS: secure, Troubles: troubles}
		},
		Commit:  s.commit,
		Closing: s.ctx,
	})
}

// commit gives what the working tree stands on, nothing if it is not in a
// repository.
func (s *Server) commit(ctx context.Context) (hash, branch, subject string) {
	c, err := gitserver.Describe(ctx, s.o.Folder, "HEAD")
	if err != nil { // no repository, no commit yet: a run of the working tree needs neither
		return "", "", ""
	}
	return c.Hash, c.Branch, c.Subject
}

func socketPath(state string) string { return filepath.Join(state, "control.sock") }

// serveSocket serves the API to this machine's users who may open the socket.
func (s *Server) serveSocket(handler http.Handler) error {
	if len(s.socket) > 100 {
		return fault.New(fault.Invalid, "the path of the state folder is too long for a socket in it: %s", s.o.State).WithHint("choose a shorter one with --state")
	}
	if err := os.Remove(s.socket); err != nil && !errors.Is(err, fs.ErrNotExist) { // left by a makeitso that was killed: the lock is ours
		return fault.Wrap(fault.Unavailable, err, "clear the control socket")
	}
	listener, err := net.Listen("unix", s.socket)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "open the control socket")
	}
	if err := os.Chmod(s.socket, 0o600); err != nil {
		return errors.Join(err, listener.Close())
	}
	s.serveOn(listener, handler)
	return nil
}

// serveOn serves handler on listener until the server is closed.
func (s *Server) serveOn(listener net.Listener, handler http.Handler) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return s.ctx }}
	s.servers = append(s.servers, server)
	s.working.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.o.Announce(fmt.Sprintf("serving %s ended: %v", listener.Addr(), err))
		}
	})
}

// Client gives a client of this server.
func (s *Server) Client() *api.Client { return api.Dial(s.socket) }

// Connect gives a client of the server that uses the state folder,
// fault.NotFound if none does.
func Connect(ctx context.Context, state string) (*api.Client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socketPath(state))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTDIR) {
		return nil, fault.Wrap(fault.NotFound, err, "no makeitso uses %s", state)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "reach the makeitso that uses %s", state)
	}
	if err := conn.Close(); err != nil {
		return nil, err
	}
	return api.Dial(socketPath(state)), nil
}

// closeTime is how long calls under way may take at the end.
const closeTime = 5 * time.Second

// Close ends the server: calls and runs are interrupted, to go on at the next
// start; what the environments run goes on running.
func (s *Server) Close() error {
	var errs []error
	s.stop(errClosing)
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	closing, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	for _, server := range s.servers {
		if err := server.Shutdown(closing); err != nil {
			errs = append(errs, server.Close())
		}
	}
	if s.pushes != nil { // its server has closed it, if it came to that
		if err := s.pushes.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.working.Wait()
	if s.edge != nil && s.o.Duty == Work { // it may have been started and never used
		errs = append(errs, s.edge.StopIfIdle(closing))
	}
	for _, env := range s.environments {
		env.platform.Close()
	}
	if s.keeper != nil {
		s.keeper.Close()
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}
