// Package process runs programs that outlive makeitso: each is started in a
// session of its own, recorded before it runs, found again after makeitso was
// killed, and never started twice. It knows processes, their records and the
// operating system; it must not know what the programs are for.
//
// A program is started through a shim, which is this same binary: the shim
// writes its own pid and start time into the record and only then becomes the
// program by exec. From before the fork until the exec the shim's side holds
// the keeper's lock, even if makeitso dies in between; so whoever holds the
// lock sees every process that runs.
package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/statefile"
)

// Options are a Keeper's settings; the zero value is the default.
type Options struct {
	// Command is the program and the arguments that serve as shim: run with
	// the path of a record added, it calls Exec. Default: this binary with
	// "internal", "exec".
	Command []string
}

// Keeper keeps the processes recorded in one folder. It is safe for
// concurrent use, by several programs too.
type Keeper struct {
	dir     string
	command []string

	mu      sync.Mutex
	closed  bool
	watches map[string]*watch // by identity of the process
	running sync.WaitGroup
}

// New makes the keeper of the processes recorded in dir, which is created
// when the first process starts.
func New(dir string, o Options) *Keeper {
	return &Keeper{dir: dir, command: o.Command, watches: map[string]*watch{}}
}

// Close ends the watching of processes; the processes live on. Channels given
// by Exited that are still open stay so for ever.
func (k *Keeper) Close() {
	k.mu.Lock()
	k.closed = true
	for _, w := range k.watches {
		w.close()
	}
	k.mu.Unlock()
	k.running.Wait()
}

// Start runs a program unless the process of that name is alive already, which
// is then given back as it is.
func (k *Keeper) Start(ctx context.Context, spec Spec) (*Process, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	lock, err := k.lock(ctx, spec.Name)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	defer lock.Close()
	old, err := k.Find(spec.Name)
	switch {
	case err == nil && old.Alive():
		return old, nil
	case err == nil:
		if err := old.killLeftovers(ctx); err != nil {
			return nil, fmt.Errorf("start %s: %w", spec.Name, err)
		}
	case !fault.Is(err, fault.NotFound):
		return nil, err
	}
	if err := statefile.Write(k.path(spec.Name), entry{Spec: spec}); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	p, err := k.spawn(ctx, spec, lock)
	if err != nil {
		return nil, errors.Join(err, os.Remove(k.path(spec.Name)))
	}
	return p, nil
}

// Find gives the process of that name, alive or not, fault.NotFound if none is
// recorded.
func (k *Keeper) Find(name string) (*Process, error) {
	var e entry
	err := statefile.Read(k.path(name), &e)
	if errors.Is(err, fs.ErrNotExist) || err == nil && e.PID == 0 {
		return nil, fault.New(fault.NotFound, "no process %s is recorded", name)
	}
	if err != nil {
		return nil, fmt.Errorf("find process %s: %w", name, err)
	}
	return &Process{
		Name: e.Spec.Name, PID: e.PID, Started: e.Started, Spec: e.Spec,
		identity: e.Identity, keeper: k,
	}, nil
}

// List gives all recorded processes in the order of their names.
func (k *Keeper) List() ([]*Process, error) {
	files, err := os.ReadDir(k.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []*Process
	for _, f := range files {
		name, isRecord := strings.CutSuffix(f.Name(), recordSuffix)
		if !isRecord || strings.HasPrefix(name, ".") {
			continue
		}
		p, err := k.Find(name)
		if fault.Is(err, fault.NotFound) {
			continue // stopped meanwhile, or never run
		}
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// entry is what a record file holds. PID is 0 until the shim runs.
type entry struct {
	Spec     Spec      `json:"spec"`
	PID      int       `json:"pid,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Identity string    `json:"identity,omitempty"`
}

const recordSuffix = ".json"

func (k *Keeper) path(name string) string { return filepath.Join(k.dir, name+recordSuffix) }

// locks is how many locks a keeper has. Names share them, so that there is no
// lock to be removed with a name, and few wait for one another.
const locks = 64

// lock takes the lock of a name. It lasts until every copy of the file given
// is closed, those that a shim inherited too.
func (k *Keeper) lock(ctx context.Context, name string) (*os.File, error) {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return nil, err
	}
	file := fmt.Sprintf(".lock-%d", crc32.ChecksumIEEE([]byte(name))%locks)
	f, err := os.OpenFile(filepath.Join(k.dir, file), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// A file lock offers no event that a context could interrupt; it is held
	// for the milliseconds of one start.
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// shimCommand is the shim's command line for one record.
func (k *Keeper) shimCommand(record string) (*exec.Cmd, error) {
	command := k.command
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find makeitso's own program: %w", err)
		}
		command = []string{self, "internal", "exec"}
	}
	args := append(command[1:len(command):len(command)], record)
	return exec.Command(command[0], args...), nil
}

// spawn runs the shim and returns when it has become the program.
func (k *Keeper) spawn(ctx context.Context, spec Spec, lock *os.File) (*Process, error) {
	cmd, err := k.shimCommand(k.path(spec.Name))
	if err != nil {
		return nil, err
	}
	if cmd.SysProcAttr, err = attributes(spec); err != nil {
		return nil, err
	}
	if spec.Log != "" {
		out, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open the log of %s: %w", spec.Name, err)
		}
		defer out.Close()
		cmd.Stdout, cmd.Stderr = out, out
	}
	report, environment, err := startShim(cmd, lock)
	if err != nil {
		return nil, startError(spec, err)
	}
	defer report.Close()
	stopKilling := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	failure := errors.Join(json.NewEncoder(environment).Encode(spec.Env), environment.Close())
	if said := readReport(report); said != nil {
		failure = said // it knows better why it took no environment
	}
	if !stopKilling() {
		failure = context.Cause(ctx)
	}
	if failure == nil {
		return k.adoptChild(spec.Name, cmd)
	}
	cmd.Process.Kill() // ended already, unless the context ended first
	cmd.Wait()         // its exit status says less than its report
	return nil, fmt.Errorf("start %s: %w", spec.Name, failure)
}

// startShim starts the shim, which takes the environment and gives the report.
func startShim(cmd *exec.Cmd, lock *os.File) (report, environment *os.File, err error) {
	report, itsReport, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer itsReport.Close()
	itsEnvironment, environment, err := os.Pipe()
	if err != nil {
		report.Close()
		return nil, nil, err
	}
	defer itsEnvironment.Close()
	cmd.ExtraFiles = []*os.File{lock, itsReport, itsEnvironment} // lockFD, reportFD, environmentFD
	if err := cmd.Start(); err != nil {
		report.Close()
		environment.Close()
		return nil, nil, err
	}
	return report, environment, nil
}

// adoptChild gives the process that the shim has become and sees that it is
// reaped.
func (k *Keeper) adoptChild(name string, cmd *exec.Cmd) (*Process, error) {
	p, err := k.Find(name)
	if err == nil && p.PID != cmd.Process.Pid {
		err = fault.New(fault.Internal, "the record says process %d, started was %d", p.PID, cmd.Process.Pid)
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait() // killed just now
		return nil, fmt.Errorf("start %s: the shim ended without a word: %w", name, err)
	}
	k.watch(p, cmd)
	return p, nil
}

// startError explains why a shim could not be forked.
func startError(spec Spec, err error) error {
	if spec.isolated() && errors.Is(err, fs.ErrPermission) {
		return fault.Wrap(fault.Denied, err, "start %s in a mount namespace of its own", spec.Name).
			WithHint("run makeitso with the capability CAP_SYS_ADMIN, or as an ordinary user")
	}
	return fmt.Errorf("start %s: %w", spec.Name, err)
}

// readReport waits until the shim has become the program (nil) or has said
// why it could not.
func readReport(report io.Reader) error {
	text, err := io.ReadAll(report)
	if err != nil {
		return fmt.Errorf("read the shim's report: %w", err)
	}
	if len(text) == 0 {
		return nil
	}
	var f failure
	if err := json.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("read the shim's report %q: %w", text, err)
	}
	return fault.New(f.Code, "%s", f.Message)
}
