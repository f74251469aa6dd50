// Package repository keeps container images in named repositories, as Amazon
// ECR does, and serves them by the OCI distribution specification. It knows
// digests, manifests and tags; it must not know stacks, or who runs its server.
//
// One folder holds everything: blobs/HEX, which the repositories share, and for
// each repository a folder with repository.json (its settings and tags),
// images/HEX (its manifests), layers/HEX (an empty file for each blob that it
// has) and uploads/ID (what has come of a blob). Every file but an upload is
// written whole or not at all. Several processes may use the folder at once:
// who changes more than an upload holds its lock.
package repository

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/statefile"
)

// Store is the repositories of one folder. Its methods may be called at once.
type Store struct{ dir, account string }

// Open gives the repositories in dir, which is made with the first of them.
// account is the registry's id in messages.
func Open(dir, account string) *Store { return &Store{dir: dir, account: account} }

// Settings are what a repository's owner decides.
type Settings struct {
	// Owner is who made the repository; nobody else changes or removes it.
	Owner string `json:"owner"`
	// Immutable says that a tag stays with the image that it was first given.
	Immutable bool `json:"immutable,omitempty"`
	// Except are patterns, '*' for any text, of tags for which the opposite of
	// Immutable holds.
	Except []string `json:"except,omitempty"`
	// Lifecycle is the text of the policy by which images expire, "" for none.
	Lifecycle string `json:"lifecycle,omitempty"`
}

// What the mutability of tags can be; with the suffix, patterns say for which
// tags the opposite holds.
const (
	Mutable       = "MUTABLE"
	Immutable     = "IMMUTABLE"
	withExclusion = "_WITH_EXCLUSION"
)

// It is compiled when it is needed: counted repeats take long.
var validPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-zA-Z._*-]{1,128}$`) })

// ParseMutability gives the settings that a mutability and its patterns stand
// for.
func ParseMutability(mode string, except []string) (Settings, error) {
	base, excluding := strings.CutSuffix(mode, withExclusion)
	if base != Mutable && base != Immutable {
		return Settings{}, fault.New(fault.Invalid, "is %s, not %s, %s or one of these with %s", mode, Mutable, Immutable, withExclusion)
	}
	if excluding != (len(except) > 0) {
		return Settings{}, fault.New(fault.Invalid, "is %s: filters of exclusion are needed with %s, and only there", mode, withExclusion)
	}
	for _, pattern := range except {
		if !validPattern().MatchString(pattern) {
			return Settings{}, fault.New(fault.Invalid, "has the filter of exclusion %q: allowed are up to 128 letters, digits, '.', '_', '-' and '*'", pattern)
		}
	}
	return Settings{Immutable: base == Immutable, Except: except}, nil
}

// Mutability gives the mutability that the settings stand for.
func (s Settings) Mutability() string {
	mode := Mutable
	if s.Immutable {
		mode = Immutable
	}
	if len(s.Except) > 0 {
		mode += withExclusion
	}
	return mode
}

// immutable says whether a tag must stay where it is.
func (s Settings) immutable(tag string) bool {
	for _, pattern := range s.Except {
		if matches(pattern, tag) {
			return !s.Immutable
		}
	}
	return s.Immutable
}

// matches says whether a pattern, in which '*' stands for any text, fits.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	rest, begins := strings.CutPrefix(text, parts[0])
	if !begins || len(parts) == 1 {
		return begins && rest == ""
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, parts[last])
}

// document is a repository's own file.
type document struct {
	Settings
	Tags map[string]string `json:"tags"` // digests of images
}

// MaxName is the length of the longest name: docker takes no longer one, and it
// is what a file system takes.
const MaxName = 255

var validName = regexp.MustCompile(`^([a-z0-9]+([._-][a-z0-9]+)*/)*[a-z0-9]+([._-][a-z0-9]+)*$`)

// ValidName says whether a repository can have that name.
func ValidName(name string) bool {
	return len(name) >= 2 && len(name) <= MaxName && validName.MatchString(name)
}

// folder is where a repository lies. No name has a '~'.
func (s *Store) folder(name string) string {
	return filepath.Join(s.dir, "repositories", strings.ReplaceAll(name, "/", "~"))
}

func (s *Store) file(name string) string   { return filepath.Join(s.folder(name), "repository.json") }
func (s *Store) blob(digest string) string { return filepath.Join(s.dir, "blobs", hexOf(digest)) }

// read gives a repository's file; found is false if there is no such repository.
func (s *Store) read(name string) (d document, found bool, err error) {
	err = statefile.Read(s.file(name), &d)
	if errors.Is(err, fs.ErrNotExist) {
		return d, false, nil
	}
	return d, err == nil, err
}

// locked calls do while nobody else, in this process or another, changes
// anything.
func (s *Store) locked(do func() error) error {
	f, err := os.OpenFile(filepath.Join(s.dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the repositories: %w", err)
	}
	defer f.Close()
	if err := lock(f); err != nil {
		return fmt.Errorf("lock the repositories: %w", err)
	}
	return do()
}

// lock waits for the lock of a file, which lasts until the file is closed.
func lock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			return err
		}
	}
}

// Make brings a repository to its settings; it is made unless it is there.
// fault.Conflict if somebody else has one of that name.
func (s *Store) Make(name string, settings Settings) error {
	if !ValidName(name) {
		return fault.New(fault.Invalid, "%q is not a repository's name", name)
	}
	for _, dir := range []string{"blobs", "repositories"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o700); err != nil {
			return fmt.Errorf("make repository %s: %w", name, err)
		}
	}
	err := s.locked(func() error {
		d, found, err := s.read(name)
		switch {
		case err != nil:
			return err
		case found && d.Owner != settings.Owner:
			return fault.New(fault.Conflict, "The repository with name '%s' already exists in the registry with id '%s'", name, s.account)
		case !found:
			if err := s.lay(name); err != nil {
				return err
			}
			d.Tags = map[string]string{}
		}
		d.Settings = settings
		return statefile.Write(s.file(name), d)
	})
	if err != nil {
		return fmt.Errorf("make repository %s: %w", name, err)
	}
	return nil
}

// lay makes a repository's folders, in place of what a removed one left.
func (s *Store) lay(name string) error {
	for _, dir := range []string{"images", "layers", "uploads"} {
		path := filepath.Join(s.folder(name), dir)
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// Get gives a repository's settings, fault.NotFound if there is none.
func (s *Store) Get(name string) (Settings, error) {
	d, found, err := s.read(name)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "%s", s.unknown(name).message)
	}
	if err != nil {
		return Settings{}, fmt.Errorf("read repository %s: %w", name, err)
	}
	return d.Settings, nil
}

// Remove takes away a repository that owner has made, if there is one.
// fault.Conflict if it has images, unless they are to go with it.
func (s *Store) Remove(name, owner string, withImages bool) error {
	if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
		return nil // there was never any
	}
	return s.locked(func() error {
		d, found, err := s.read(name)
		if err != nil || found && d.Owner != owner {
			return err
		}
		if found && !withImages {
			images, err := s.images(name)
			if err != nil {
				return err
			}
			if len(images) > 0 {
				return fault.New(fault.Conflict, "The repository with name '%s' in registry with id '%s' cannot be deleted because it still contains images", name, s.account)
			}
		}
		// Its file first: without it there is no repository, whatever is left.
		if err := os.Remove(s.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.RemoveAll(s.folder(name)); err != nil {
			return err
		}
		return s.sweep()
	})
}

// Empty removes all images of a repository, if there is one.
func (s *Store) Empty(name string) error {
	return s.locked(func() error {
		d, found, err := s.read(name)
		if err != nil || !found {
			return err
		}
		d.Tags = map[string]string{}
		if err := statefile.Write(s.file(name), d); err != nil {
			return err
		}
		if err := s.lay(name); err != nil {
			return err
		}
		return s.sweep()
	})
}

// names gives the names of all repositories, in order.
func (s *Store) names() ([]string, error) {
	found, err := list(filepath.Join(s.dir, "repositories"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range found {
		name := strings.ReplaceAll(e.Name(), "~", "/")
		_, err := os.Stat(s.file(name))
		if err == nil {
			names = append(names, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return names, nil
}

// abandoned is the age at which an upload, or a blob that no image has got, is
// taken for what a broken push has left.
const abandoned = 24 * time.Hour

// Sweep removes what broken pushes and removals have left.
func (s *Store) Sweep() error { return s.locked(s.sweep) }

// sweep removes the uploads and the layers that were abandoned, and every blob
// that no repository has. The lock is held.
func (s *Store) sweep() error {
	names, err := s.names()
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, name := range names {
		held, err := s.held(name)
		if err != nil {
			return err
		}
		for dir, keep := range map[string]func(fs.FileInfo) bool{
			"": whole, "images": whole, "uploads": fresh,
			"layers": func(e fs.FileInfo) bool {
				keep := held[e.Name()] || fresh(e)
				used[e.Name()] = used[e.Name()] || keep
				return keep
			},
		} {
			if err := prune(filepath.Join(s.folder(name), dir), keep); err != nil {
				return err
			}
		}
	}
	return prune(filepath.Join(s.dir, "blobs"), func(e fs.FileInfo) bool { return used[e.Name()] })
}

// whole says whether a file is none that a killed process was just writing.
func whole(e fs.FileInfo) bool { return !strings.HasPrefix(e.Name(), ".") }

func fresh(e fs.FileInfo) bool { return time.Since(e.ModTime()) < abandoned }

// prune removes the files of a folder for which keep is false.
func prune(dir string, keep func(fs.FileInfo) bool) error {
	found, err := list(dir)
	if err != nil {
		return err
	}
	for _, e := range found {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // an upload that has ended meanwhile
		}
		if err == nil && !keep(info) {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// list gives what is in a folder, in order; one that is not there is empty.
func list(dir string) ([]fs.DirEntry, error) {
	found, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return found, err
}
