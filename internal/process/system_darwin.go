package process

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"makeitso/internal/fault"
)

// status is what the system says of one process.
type status struct{ pid, group int }

const zombie = 5 // SZOMB of <sys/proc.h>

// identityOf gives what tells the process apart from every other that had or
// will have its pid, and whether it runs.
func identityOf(pid int) (identity string, running bool) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil || int(info.Proc.P_pid) != pid || info.Proc.P_stat == zombie {
		return "", false
	}
	start := info.Proc.P_starttime
	return fmt.Sprintf("%d/%d.%06d", pid, start.Sec, start.Usec), true
}

// running lists the processes of this machine that have not ended.
func running() ([]status, error) {
	infos, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []status
	for _, info := range infos {
		if info.Proc.P_stat != zombie {
			all = append(all, status{pid: int(info.Proc.P_pid), group: int(info.Eproc.Pgid)})
		}
	}
	return all, nil
}

// environment gives a process's environment, nil if it cannot be read: it has
// ended, or is another user's.
func environment(pid int) []string {
	// The number of arguments, the program's path, padding, the arguments,
	// then the environment, each ended by a zero byte.
	raw, err := unix.SysctlRaw("kern.procargs2", pid)
	if err != nil || len(raw) < 4 {
		return nil
	}
	arguments := int(binary.LittleEndian.Uint32(raw))
	_, rest, _ := bytes.Cut(raw[4:], []byte{0})
	parts := bytes.Split(bytes.TrimLeft(rest, "\x00"), []byte{0})
	var env []string
	for i, part := range parts {
		if i >= arguments && len(part) > 0 {
			env = append(env, string(part))
		}
	}
	return env
}

// attributes are how the shim of s is forked.
func attributes(s Spec) (*syscall.SysProcAttr, error) {
	if s.isolated() {
		return nil, fault.New(fault.Unsupported, "process %s wants a file system view of its own, which only Linux has", s.Name)
	}
	return &syscall.SysProcAttr{Setsid: true}, nil
}

// isolate has nothing to do: attributes refuses what needs it.
func isolate(Spec) error { return nil }

// exitWaiter awaits the end of a process through a kqueue.
type exitWaiter struct {
	queue      int
	woken, end *os.File // a pipe that ends the waiting
}

func newExitWaiter(pid int) (*exitWaiter, error) {
	woken, end, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	w := &exitWaiter{woken: woken, end: end}
	if w.queue, err = unix.Kqueue(); err != nil {
		woken.Close()
		end.Close()
		return nil, err
	}
	events := make([]unix.Kevent_t, 2)
	unix.SetKevent(&events[0], pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	events[0].Fflags = unix.NOTE_EXIT
	unix.SetKevent(&events[1], int(woken.Fd()), unix.EVFILT_READ, unix.EV_ADD)
	if _, err := unix.Kevent(w.queue, events, nil, nil); err != nil {
		woken.Close()
		end.Close()
		unix.Close(w.queue)
		return nil, err
	}
	return w, nil
}

func (w *exitWaiter) wait() bool {
	defer unix.Close(w.queue)
	defer w.woken.Close()
	for {
		events := make([]unix.Kevent_t, 1)
		n, err := unix.Kevent(w.queue, nil, events, nil)
		if err == unix.EINTR || err == nil && n == 0 {
			continue
		}
		return err == nil && events[0].Filter == unix.EVFILT_PROC
	}
}

func (w *exitWaiter) close() { w.end.Close() }
