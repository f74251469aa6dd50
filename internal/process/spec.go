package process

import (
	"path/filepath"
	"regexp"
	"sync"
	"syscall"

	"makeitso/internal/fault"
)

// Spec is a program to run.
type Spec struct {
	// Name is what the process is found by again: unique in its Keeper, safe
	// as a file name.
	Name string `json:"name"`
	// Path is the program. Without a slash it is looked up in the PATH of Env,
	// inside Root if there is one.
	Path string   `json:"path"`
	Args []string `json:"args,omitempty"` // without the program's own name
	// Env is the whole environment, KEY=VALUE. It may hold secrets: it is not
	// recorded, and whoever finds the process finds none.
	Env []string `json:"-"`
	// Dir is the working folder, seen from inside Root; "" is the root folder.
	Dir string `json:"dir,omitempty"`
	// Log is the file that takes what the program prints; "" throws it away.
	Log string `json:"log,omitempty"`
	// As is the user it runs as; nil keeps makeitso's own.
	As *User `json:"as,omitempty"`
	// Root is the folder it sees as its root folder; "" is this machine's.
	Root string `json:"root,omitempty"`
	// Binds are folders and files shown to it, and to it alone, at other places.
	Binds []Bind `json:"binds,omitempty"`
	// StopSignal asks it to end; 0 is SIGTERM.
	StopSignal syscall.Signal `json:"stopSignal,omitempty"`
}

// User is a user and group by number.
type User struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
}

// Bind shows Source, a path of this machine, at Target, a path that the
// program sees. Target exists already, or is created when Root is set.
type Bind struct {
	Source string `json:"source"`
	Target string `json:"target"`
}

// isolated says whether the program needs a view of the file system of its own.
func (s Spec) isolated() bool { return s.Root != "" || len(s.Binds) > 0 }

func (s Spec) stopSignal() syscall.Signal {
	if s.StopSignal == 0 {
		return syscall.SIGTERM
	}
	return s.StopSignal
}

// It is compiled when it is needed: counted repeats take long.
var validName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$`) })

func (s Spec) check() error {
	if !validName().MatchString(s.Name) {
		return fault.New(fault.Invalid, "the process name %q is not letters, digits, '.', '_' and '-'", s.Name)
	}
	if s.Path == "" {
		return fault.New(fault.Invalid, "process %s names no program", s.Name)
	}
	for _, path := range []string{s.Dir, s.Log, s.Root} {
		if path != "" && !filepath.IsAbs(path) {
			return fault.New(fault.Invalid, "process %s: the path %q is not absolute", s.Name, path)
		}
	}
	return nil
}
