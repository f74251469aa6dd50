package process

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"makeitso/internal/fault"
	"makeitso/internal/statefile"
)

// The files that a shim inherits besides the standard ones.
const (
	lockFD        = 3 // the lock of its name, held until the program runs
	reportFD      = 4 // takes a failure; closed without a word by the exec
	environmentFD = 5 // gives the program's environment, in JSON
)

// failure is what a shim reports when it cannot become the program.
type failure struct {
	Code    fault.Code `json:"code"`
	Message string     `json:"message"`
}

// Exec is the shim: it completes the record in the file and becomes the
// program that the record names. It returns only if it cannot.
func Exec(recordFile string) error {
	var report unix.Stat_t
	if err := unix.Fstat(reportFD, &report); err != nil || report.Mode&unix.S_IFMT != unix.S_IFIFO {
		return fault.New(fault.Invalid, "this command is run by makeitso itself, to start other programs")
	}
	unix.CloseOnExec(lockFD)
	unix.CloseOnExec(reportFD)
	unix.CloseOnExec(environmentFD)
	err := become(recordFile)
	text := failure{Code: fault.CodeOf(err), Message: err.Error()}
	out := os.NewFile(reportFD, "report")
	if writeErr := json.NewEncoder(out).Encode(text); writeErr != nil {
		return fmt.Errorf("report %w: %w", err, writeErr)
	}
	return err
}

func become(recordFile string) error {
	var e entry
	if err := statefile.Read(recordFile, &e); err != nil {
		return err
	}
	environment := os.NewFile(environmentFD, "environment")
	if err := json.NewDecoder(environment).Decode(&e.Spec.Env); err != nil {
		return fault.Wrap(fault.Unavailable, err, "its environment did not come") // makeitso was killed
	}
	identity, running := identityOf(os.Getpid())
	if !running {
		return fault.New(fault.Internal, "the system does not know process %d, which is this one", os.Getpid())
	}
	e.PID, e.Identity, e.Started = os.Getpid(), identity, time.Now().UTC()
	if err := statefile.Write(recordFile, e); err != nil {
		return err
	}
	if err := isolate(e.Spec); err != nil {
		return err
	}
	return run(e.Spec)
}

// run becomes the program, in the file system as it is seen now.
func run(s Spec) error {
	dir := s.Dir
	if dir == "" {
		dir = "/"
	}
	if err := os.Chdir(dir); err != nil {
		return fault.Wrap(fault.Failed, err, "enter the working folder")
	}
	if s.As != nil {
		if err := switchUser(*s.As); err != nil {
			return err
		}
	}
	path, err := lookPath(s)
	if err != nil {
		return err
	}
	err = syscall.Exec(path, append([]string{s.Path}, s.Args...), s.Env)
	return fault.Wrap(fault.Failed, err, "run %s", path)
}

func switchUser(u User) error {
	if err := syscall.Setgroups([]int{u.GID}); err != nil {
		return fault.Wrap(fault.Denied, err, "give up supplementary groups")
	}
	if err := syscall.Setgid(u.GID); err != nil {
		return fault.Wrap(fault.Denied, err, "become group %d", u.GID)
	}
	if err := syscall.Setuid(u.UID); err != nil {
		return fault.Wrap(fault.Denied, err, "become user %d", u.UID)
	}
	return nil
}

const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookPath finds the program as a shell with the environment of s would.
func lookPath(s Spec) (string, error) {
	if strings.Contains(s.Path, "/") {
		return s.Path, nil
	}
	folders := usualPath
	for _, variable := range s.Env {
		if value, isPath := strings.CutPrefix(variable, "PATH="); isPath {
			folders = value
		}
	}
	for _, folder := range filepath.SplitList(folders) {
		path := filepath.Join(folder, s.Path)
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fault.New(fault.Failed, "no program %s in any of %s", s.Path, folders)
}
