// Package pipeline turns commits into running software: it starts runs on
// pushes, drives each as a durable workflow, waits for approvals, and tells
// what happens. There is a file for each kind of stage. It knows stacks,
// images, releases and sites by their engines; it must not know platforms by
// name, HTTP, or SQL.
package pipeline

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	_ "github.com/dbos-inc/dbos-transact-golang/dbos/driver/sqlite" // the engine's tables lie in our SQLite file

	"makeitso/internal/artifact/image"
	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/project"
	"makeitso/internal/publish"
	"makeitso/internal/record"
	"makeitso/internal/release"
	"makeitso/internal/stack"
)

// Stacks is what a run needs of an environment's stacks.
type Stacks interface {
	Plan(ctx context.Context, change changeset.Change) (*changeset.Set, error)
	// PlanAll plans several stacks and gives their sets in the order in which
	// they must be applied.
	PlanAll(ctx context.Context, stacks []string, wanted stack.Wanted) ([]*changeset.Set, error)
	Apply(ctx context.Context, cs *changeset.Set, observe func(stack.Event)) error
	// Await waits until nobody changes the stack, and tells once who does if it
	// must wait.
	Await(ctx context.Context, name string, told func(holder string)) error
	// Outputs gives fault.NotFound for a stack that does not exist.
	Outputs(ctx context.Context, name string) (map[string]string, error)
}

// Services is what a run needs of an environment's services.
type Services interface {
	// Release is idempotent by key and ends when the rollout has ended.
	Release(ctx context.Context, s release.Service, a release.Artifact, config map[string]string, key string) (release.Release, error)
	// Abandon stops the rollout that Release began with key, if it is still
	// under way, and puts the release before back.
	Abandon(ctx context.Context, service, key string) error
	// Serve starts an instance outside of the load balancer.
	Serve(ctx context.Context, s release.Service, digest string, config map[string]string) (address string, stop func(context.Context) error, err error)
}

// Sites is what a run needs of an environment's buckets and CDN.
type Sites interface {
	Bucket(ctx context.Context, name string) (publish.Bucket, error)
	// Invalidate drops the paths of a bucket from all caches.
	Invalidate(ctx context.Context, bucket string, paths []string) error
	// SetPages says what the sites of a bucket answer with beside its files.
	SetPages(ctx context.Context, bucket string, p Pages) error
}

// Environment is a place in the hands of a run.
type Environment struct {
	Name     string
	Stacks   Stacks
	Services Services
	Sites    Sites
	// Hosts gives the host names of a service there.
	Hosts func(service string) []string
	// PullImage takes an image out of the environment's registry, for its
	// services, and gives its digest.
	PullImage func(ctx context.Context, reference string) (digest string, err error)
}

// Images makes and keeps images.
type Images interface {
	Build(ctx context.Context, spec image.Spec) (image.Image, error)
}

// Options are what an Engine works with.
type Options struct {
	Store  record.Store // required
	Images Images       // required
	// SQLite or Postgres (a URL) is where the workflows are kept. Exactly one is set.
	SQLite   *sql.DB
	Postgres string
	// Folder holds checkouts and logs; required.
	Folder string
	// Name tells this process's runs from those of other replicas; it must
	// be the same after a restart. Default "local".
	Name string
	// Direct begins runs at once instead of one after another for each
	// pipeline: for a process that works for one command only.
	Direct bool
	// Environment opens an environment of the project; required.
	Environment func(ctx context.Context, p *project.Project, name string) (*Environment, error)
	// Checkout puts a commit's files into a folder; needed for runs of commits.
	Checkout func(ctx context.Context, repository, commit, into string) error
	// Observe is called after each event is stored, in order within a run. It
	// must not block.
	Observe func(Event)
	Now     func() time.Time // default time.Now
}

// Engine runs pipelines. Runs begun before a crash go on at Launch.
type Engine struct {
	o     Options
	runs  runs
	dbos  dbos.Context
	queue dbos.Queue
	logs  *Logs

	mu       sync.Mutex
	active   map[string]context.CancelCauseFunc // by run id
	turns    map[string]chan struct{}           // by environment/kind/name: held by one stage at a time
	projects map[string]*project.Project        // by digest
	digests  publish.Digests                    // of the files of sites
	broken   chan struct{}                      // closed when the store cannot be written
	brokenBy error                              // why; valid once broken is closed
}

// workflowVersion names the shape of runWorkflow. Runs begun under another
// shape are not recovered, so it changes only when the order of steps does.
const workflowVersion = "1"

// New makes an engine; Launch starts it.
func New(o Options) (*Engine, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observe == nil {
		o.Observe = func(Event) {}
	}
	if o.Name == "" {
		o.Name = "local"
	}
	e := &Engine{
		o: o, runs: newRuns(o.Store), logs: newLogs(o.Folder),
		active: map[string]context.CancelCauseFunc{}, turns: map[string]chan struct{}{}, projects: map[string]*project.Project{},
		broken: make(chan struct{}),
	}
	// The engine's context is its own: cancelling a caller's would cancel its
	// runs for good, where Close only interrupts them.
	ctx, err := dbos.NewContext(context.Background(), dbos.Config{
		AppName: "makeitso", SQLiteSystemDB: o.SQLite, DatabaseURL: o.Postgres,
		ApplicationVersion: workflowVersion, ExecutorID: o.Name,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), // its failures come back as errors
	})
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "open the workflow engine")
	}
	e.dbos = ctx
	dbos.RegisterWorkflow(ctx, e.runWorkflow, dbos.WithWorkflowName("run"))
	return e, nil
}

// Launch starts working: runs that were under way go on where they stood.
func (e *Engine) Launch() error {
	if err := dbos.Launch(e.dbos); err != nil {
		return fault.Wrap(fault.Unavailable, err, "start the workflow engine")
	}
	queue, err := dbos.RegisterQueue(e.dbos, "runs",
		dbos.WithPartitionConcurrency(1), dbos.WithQueueBasePollingInterval(100*time.Millisecond),
		dbos.WithQueueOnConflict(dbos.QueueConflictAlwaysUpdate))
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "open the queue of runs")
	}
	e.queue = queue
	return e.beginForgotten(context.Background())
}

// beginForgotten begins the runs that were stored but not yet handed to the
// workflow engine when makeitso stopped; those it has are left as they are.
func (e *Engine) beginForgotten(ctx context.Context) error {
	open, err := e.Open(ctx)
	if err != nil {
		return err
	}
	for _, run := range open {
		if run.Cancel != "" && run.Status == Waiting {
			if err := e.endUnbegun(ctx, run); err != nil {
				return err
			}
			continue
		}
		known, err := dbos.ListWorkflows(e.dbos, dbos.WithFilterWorkflowIDs(attempt{run.ID, run.Attempt}.workflowID()), dbos.WithFilterLoadInput(false))
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "look for run %s", run.ID)
		}
		if len(known) > 0 {
			continue
		}
		if err := e.begin(run); err != nil {
			return err
		}
	}
	return nil
}

// Close interrupts what is under way, to go on at the next Launch, and waits
// for it to stop.
func (e *Engine) Close() error {
	return dbos.Shutdown(e.dbos, 30*time.Second)
}

// emit stores an event, together with what it tells of, and shows it to the
// observer.
func (e *Engine) emit(ctx context.Context, ev Event, with ...record.Op) error {
	ev.Time = e.o.Now().UTC()
	raw, err := json.Marshal(ev)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	// What has happened is told even when the run is being stopped.
	n, err := e.o.Store.AppendWith(context.WithoutCancel(ctx), Stream, [][]byte{raw}, with...)
	if err != nil {
		return err
	}
	ev.Number = n
	e.o.Observe(ev)
	return nil
}

// Emit stores an event that belongs to no run, such as an instance replaced.
func (e *Engine) Emit(ctx context.Context, ev Event) error { return e.emit(ctx, ev) }

// Events gives up to limit events after the number given.
func (e *Engine) Events(ctx context.Context, after int64, limit int) ([]Event, error) {
	items, err := e.o.Store.Read(ctx, Stream, after, limit)
	if err != nil {
		return nil, err
	}
	events := make([]Event, len(items))
	for i, item := range items {
		if err := json.Unmarshal(item.Value, &events[i]); err != nil {
			return nil, fmt.Errorf("decode event %d: %w", item.Number, err)
		}
		events[i].Number = item.Number
	}
	return events, nil
}

// LastEvent gives the number of the newest event, to follow from now on.
func (e *Engine) LastEvent(ctx context.Context) (int64, error) { return e.o.Store.Last(ctx, Stream) }

// Follow calls see with each event after the number given, as they come, until
// see answers false or ctx ends. Where events cannot be stored any more, it
// fails with the reason: none will come.
func (e *Engine) Follow(ctx context.Context, after int64, see func(Event) bool) error {
	waiting, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	watching.Go(func() {
		select {
		case <-e.broken:
			stop()
		case <-waiting.Done():
		}
	})
	for {
		if err := e.o.Store.Wait(waiting, Stream, after); err != nil {
			if waiting.Err() != nil && ctx.Err() == nil {
				return e.brokenBy
			}
			return err
		}
		events, err := e.Events(ctx, after, 256)
		if err != nil {
			return err
		}
		for _, ev := range events {
			after = ev.Number
			if !see(ev) {
				return nil
			}
		}
	}
}

// breakOff tells the followers that nothing can be stored, and why.
func (e *Engine) breakOff(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.brokenBy == nil {
		e.brokenBy = err
		close(e.broken)
	}
}

// keepProject stores the text of a makeitso.yaml and gives its digest.
func (e *Engine) keepProject(ctx context.Context, src []byte) (string, error) {
	sum := sha256.Sum256(src)
	digest := hex.EncodeToString(sum[:])
	err := e.runs.files.PutIf(ctx, digest, src, record.Absent)
	if fault.Is(err, fault.Conflict) { // kept already
		err = nil
	}
	return digest, err
}

// project gives the makeitso.yaml of that digest.
func (e *Engine) project(ctx context.Context, digest string) (*project.Project, error) {
	e.mu.Lock()
	p := e.projects[digest]
	e.mu.Unlock()
	if p != nil {
		return p, nil
	}
	src, err := e.runs.files.Get(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("read the run's %s: %w", project.File, err)
	}
	p, mistakes := project.Parse(project.File, src)
	if err := mistakes.Err(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.projects[digest] = p
	return p, nil
}

// takeTurn waits until nobody else changes subject and gives what ends the
// turn. waiting is called once if it has to wait.
func (e *Engine) takeTurn(ctx context.Context, subject string, waiting func() error) (done func(), err error) {
	e.mu.Lock()
	turn := e.turns[subject]
	if turn == nil {
		turn = make(chan struct{}, 1)
		e.turns[subject] = turn
	}
	e.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	default:
	}
	if err := waiting(); err != nil {
		return nil, err
	}
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func turnOf(environment, kind, name string) string { return environment + "/" + kind + "/" + name }

// takeTurn waits until no other stage changes what has that kind and name, and
// says so while it waits.
func (w *stageWork) takeTurn(ctx context.Context, environment, kind, name string) (done func(), err error) {
	done, err = w.engine.takeTurn(ctx, turnOf(environment, kind, name), func() error {
		return w.write(ctx, Waiting, "for another run to finish with "+kind+" "+name)
	})
	if err != nil || w.run.Status == Running {
		return done, err
	}
	if err := w.write(ctx, Running, ""); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// errStop is why a run's context ends when somebody asked for it; the run's
// record says whether it was cancelled or superseded.
var errStop = errors.New("the run was stopped")
