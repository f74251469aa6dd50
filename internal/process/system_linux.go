package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"makeitso/internal/fault"
)

// status is what the system says of one process.
type status struct {
	pid, group int
	start      string // in clock ticks since the machine was started
	ended      bool   // waits to be reaped
}

// identityOf gives what tells the process apart from every other that had or
// will have its pid, and whether it runs.
func identityOf(pid int) (identity string, running bool) {
	s, err := statusOf(pid)
	if err != nil || s.ended {
		return "", false
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", false
	}
	return fmt.Sprintf("%s/%d/%s", strings.TrimSpace(string(boot)), pid, s.start), true
}

func statusOf(pid int) (status, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return status{}, err
	}
	// The second field is the program's name in parentheses and may hold
	// anything; the fields after it are counted from its last parenthesis.
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	const state, group, start = 0, 2, 19 // the fields 3, 5 and 22 of proc(5)
	if len(fields) <= start {
		return status{}, fmt.Errorf("process %d: status %q is too short", pid, text)
	}
	number, err := strconv.Atoi(fields[group])
	if err != nil {
		return status{}, fmt.Errorf("process %d: %w", pid, err)
	}
	ended := fields[state] == "Z" || fields[state] == "X"
	return status{pid: pid, group: number, start: fields[start], ended: ended}, nil
}

// running lists the processes of this machine that have not ended.
func running() ([]status, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []status
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := statusOf(pid); err == nil && !s.ended {
			all = append(all, s) // an error: it ended while the list was read
		}
	}
	return all, nil
}

// environment gives a process's environment, nil if it cannot be read: it has
// ended, or is another user's.
func environment(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return nil
	}
	return strings.Split(string(text), "\x00")
}

// attributes are how the shim of s is forked.
func attributes(s Spec) (*syscall.SysProcAttr, error) {
	a := &syscall.SysProcAttr{Setsid: true}
	if s.isolated() {
		a.Cloneflags = syscall.CLONE_NEWNS
	}
	return a, nil
}

// exitWaiter awaits the end of a process through a pidfd, which Go's poller
// watches together with all sockets: no thread waits.
type exitWaiter struct{ file *os.File }

func newExitWaiter(pid int) (*exitWaiter, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return &exitWaiter{os.NewFile(uintptr(fd), "pidfd")}, nil
}

func (w *exitWaiter) wait() bool {
	conn, err := w.file.SyscallConn()
	if err != nil {
		return false
	}
	exited := false
	err = conn.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		exited = err == nil && n == 1
		return exited
	})
	return err == nil && exited
}

func (w *exitWaiter) close() { w.file.Close() }

// denied turns a refused system call into a failure with its code.
func denied(err error, format string, args ...any) error {
	code := fault.Failed
	if errors.Is(err, os.ErrPermission) {
		code = fault.Denied
	}
	return fault.Wrap(code, err, format, args...)
}
