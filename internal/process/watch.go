package process

import (
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// watch awaits the end of one process.
type watch struct {
	exited chan struct{}
	waiter waiter    // nil if the process had ended before
	child  *exec.Cmd // set if this program started it and must reap it; guarded by the keeper's mutex
	ending string    // how it ended, guarded by the keeper's mutex
}

func (w *watch) close() {
	if w.waiter != nil {
		w.waiter.close()
	}
}

// waiter waits for the end of one process.
type waiter interface {
	// wait returns true when the process has ended and false after close, and
	// gives back what the waiter holds.
	wait() bool
	// close ends wait; it may be called again.
	close()
}

// newWaiter gives a waiter by the system's own event, and where the system
// has none (Linux before 5.10), or no descriptor left, one that looks again
// and again.
func newWaiter(p *Process) waiter {
	w, err := newExitWaiter(p.PID)
	if err == nil {
		return w
	}
	if err == syscall.ESRCH {
		return newPollWaiter(func() bool { return false })
	}
	return newPollWaiter(p.Alive)
}

// pollWaiter looks every pollInterval.
type pollWaiter struct {
	alive  func() bool
	closed chan struct{}
	once   sync.Once
}

const pollInterval = 50 * time.Millisecond

func newPollWaiter(alive func() bool) *pollWaiter {
	return &pollWaiter{alive: alive, closed: make(chan struct{})}
}

func (w *pollWaiter) wait() bool {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-w.closed:
			return false
		case <-tick.C:
			if !w.alive() {
				return true
			}
		}
	}
}

func (w *pollWaiter) close() { w.once.Do(func() { close(w.closed) }) }

// watch gives the watch of a process and begins it if there is none yet. A
// closed keeper gives one that never fires for a process that is alive.
func (k *Keeper) watch(p *Process, child *exec.Cmd) *watch {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.watches[p.identity]; w != nil {
		w.adopt(child)
		return w
	}
	w := &watch{exited: make(chan struct{}), child: child}
	waiter := newWaiter(p)
	// The identity is asked after the waiter holds the process, so that it
	// cannot be one that took the pid in between.
	if alive := p.Alive(); !alive || k.closed {
		waiter.close()
		waiter.wait() // gives back what it holds
		if !alive {
			w.ending = reap(child)
			close(w.exited)
			k.watches[p.identity] = w
		}
		return w
	}
	w.waiter = waiter
	k.watches[p.identity] = w
	k.running.Go(func() { k.await(w) })
	return w
}

// await is the watch's goroutine; it ends with the process or the keeper.
func (k *Keeper) await(w *watch) {
	exited := w.waiter.wait()
	w.waiter.close()
	if !exited {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	w.ending = reap(w.child)
	close(w.exited)
}

// adopt gives the watch the child that it is to reap: somebody else may have
// found the process and watched it before Start came to do so. The keeper's
// mutex is held.
func (w *watch) adopt(child *exec.Cmd) {
	if child == nil || w.child != nil {
		return
	}
	w.child = child
	select {
	case <-w.exited:
		w.ending = reap(child)
	default:
	}
}

// reap takes the exit status of a child that has ended.
func reap(child *exec.Cmd) string {
	if child == nil {
		return ""
	}
	child.Wait() // its error is the exit status, which is asked for next
	return child.ProcessState.String()
}
