// Package gitserver lets users push commits: it hosts repositories over git's
// smart HTTP protocol, watches local ones, and reads commits. All of it is done
// by the git program. It knows refs and hooks; it must not know pipelines, what
// a project's file means, or who may push.
package gitserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"makeitso/internal/fault"
)

// Options is what a Server does with pushes.
type Options struct {
	// Executable is run as hook: by git, under the hook's name, and must then
	// call Hook. This program by default.
	Executable string
	// Pusher tells who pushes or fetches, or refuses with a fault: Denied
	// where nobody is known, anything else where somebody may not. Nil lets
	// everybody.
	Pusher func(r *http.Request) (string, error)
	// Check judges the newest commit pushed to a branch before it is taken.
	// files reads a file of that commit, fault.NotFound where there is none.
	// An error refuses the push and is shown to the pusher, a diag.List with
	// the lines it speaks of. Nil takes everything.
	Check func(ctx context.Context, repository, commit string, files func(path string) ([]byte, error)) error
	// Pushed is told of each branch that has a new commit, in the order in
	// which they were taken, and gives a report for the pusher. What it could
	// not be told of, because this process ended, it is told by Recover; so
	// it may hear of a push twice.
	Pushed func(ctx context.Context, p Push) (report string, err error)
}

// Push is a new commit on a branch.
type Push struct {
	Repository string // name without .git
	Ref        string // refs/heads/…
	Old        string // the commit it had before, "" if it is new
	New        string
	Pusher     string // "" if unknown
}

// Server hosts the repositories of one folder, each a bare repository NAME.git.
type Server struct {
	dir string
	o   Options

	mu    sync.Mutex
	turns map[string]chan struct{} // by repository: held while a push is taken
}

// New gives the server of the repositories in dir. fault.Unavailable where git
// is missing.
func New(dir string, o Options) (*Server, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, fault.New(fault.Unavailable, "the program git is missing").WithHint("install it: apt-get install git")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the repositories' folder: %w", err)
	}
	if o.Executable == "" {
		if o.Executable, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
	}
	s := &Server{dir: dir, o: o, turns: map[string]chan struct{}{}}
	if err := s.linkHooks(); err != nil {
		return nil, fmt.Errorf("prepare git's hooks: %w", err)
	}
	return s, nil
}

// linkHooks makes the folder of hooks: links to our own program, which knows
// by the name it is called by which hook it is. They are made anew each time,
// since the program may have moved.
func (s *Server) linkHooks() error {
	if err := os.MkdirAll(s.hooks(), 0o755); err != nil {
		return err
	}
	for _, name := range []string{preReceive, postReceive} {
		link := filepath.Join(s.hooks(), name)
		temp := fmt.Sprintf("%s.%d", link, os.Getpid())
		if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(s.o.Executable, temp); err != nil {
			return err
		}
		if err := os.Rename(temp, link); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) hooks() string { return filepath.Join(s.dir, "hooks") }

// validName is what a repository may be called: nothing that leads elsewhere,
// and nothing that git takes for an option.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// Init makes the repository name unless it is there.
func (s *Server) Init(ctx context.Context, name string) error {
	if !validName.MatchString(name) || strings.HasSuffix(name, ".git") {
		return fault.New(fault.Invalid, "%q cannot be a repository's name", name).
			WithHint("use letters, digits, dots and hyphens, without .git")
	}
	if s.exists(name) {
		return nil
	}
	// Under another name until it is complete, so that there is never a half.
	temp, err := os.MkdirTemp(s.dir, ".init-")
	if err != nil {
		return fmt.Errorf("make repository %s: %w", name, err)
	}
	_, err = git(ctx, temp, "init", "--quiet", "--bare", "--initial-branch=main", "--template=", ".")
	if err == nil {
		_, err = git(ctx, temp, "config", "receive.denyNonFastForwards", "true")
	}
	if err == nil {
		err = os.Rename(temp, s.Dir(name))
	}
	if err != nil {
		return fmt.Errorf("make repository %s: %w", name, errors.Join(err, os.RemoveAll(temp)))
	}
	return nil
}

// Dir gives the folder of the repository name, for Resolve, Read, Changed and
// Checkout.
func (s *Server) Dir(name string) string { return filepath.Join(s.dir, name+".git") }

func (s *Server) exists(name string) bool {
	_, err := os.Stat(filepath.Join(s.Dir(name), "HEAD"))
	return err == nil
}

// repositories gives the names of all repositories.
func (s *Server) repositories() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".git"); ok && s.exists(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// takeTurn waits until no other push to the repository is being taken. It is
// held from the check of a push to the end of its report, so that Pushed is
// told of pushes in the order of the commits.
func (s *Server) takeTurn(ctx context.Context, repository string) (done func(), err error) {
	s.mu.Lock()
	turn, ok := s.turns[repository]
	if !ok {
		turn = make(chan struct{}, 1)
		s.turns[repository] = turn
	}
	s.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
