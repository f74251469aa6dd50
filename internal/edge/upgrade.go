package edge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"makeitso/internal/edge/outcome"
	"makeitso/internal/fault"
)

// An edge is replaced by one of another binary without a lost connection: the
// new process asks the old one, over the control socket, for its listening
// sockets. When all that can fail is done, it says so; only then the old one
// takes no more connections, tells where its outcomes end, and finishes what it
// has. Until that moment nothing has changed, so a new process that fails is no
// loss; connections that come in between wait in the sockets.

const (
	// handoverTime is how long the new process may take until it serves.
	handoverTime = 30 * time.Second
	// handoverDrain is how long connections may stay at the old process.
	handoverDrain = 10 * time.Minute

	publicSocket, controlSocket, metricsSocket = "public", "control", "metrics"
	handoverMark                               = "!" // goes with the sockets
	readyLine                                  = "ready\n"
)

// handover is what the old process tells the new one.
type handover struct {
	Sockets []string `json:"sockets"` // what they are, in their order: public, control, or an address
	Config  Config   `json:"config"`
	Old     string   `json:"old"` // the control socket of the old process from now on
}

// handedStream is where the outcomes of a service go on.
type handedStream struct {
	ID    string `json:"id"`
	First uint64 `json:"first"`
	Next  uint64 `json:"next"`
}

// parting is the old process's side.
type parting struct {
	left chan struct{} // closed when another process has taken over

	// These are set before left is closed.
	conn    *net.UnixConn // to the new process
	private net.Listener  // the control socket from then on
}

// partedSocket is where a process is asked that has handed its control socket over.
func partedSocket(socket string, pid int) string { return fmt.Sprintf("%s.%d", socket, pid) }

// Drains says that the edge that is that process hands its control socket over,
// or has done so, and lives on for the connections that it has.
func Drains(socket string, pid int) bool {
	_, err := os.Stat(partedSocket(socket, pid))
	return err == nil
}

// handOver gives the sockets to the process that asks.
func (p *plane) handOver(w http.ResponseWriter, _ *http.Request) {
	p.applying.Lock() // a configuration that came now would be lost
	defer p.applying.Unlock()
	if p.leaving.Load() {
		answer(w, nil, fault.New(fault.Conflict, "another edge has taken over already"))
		return
	}
	raw, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		answer(w, nil, err)
		return
	}
	conn, ok := raw.(*net.UnixConn)
	if !ok {
		_ = raw.Close()
		return
	}
	if err := p.giveSockets(conn); err != nil {
		p.leaving.Store(false)
		for _, all := range p.current().tallies {
			all.stream.Stay()
		}
		_ = conn.Close() // the new process sees that there is nothing for it
		return
	}
	p.parting.conn = conn
	close(p.parting.left)
}

// giveSockets sends all that the new process needs and waits until it serves.
func (p *plane) giveSockets(conn *net.UnixConn) (err error) {
	h := handover{Config: p.current().config, Old: partedSocket(p.options.Socket, os.Getpid())}
	if err := os.Remove(h.Old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	private, err := net.Listen("unix", h.Old)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = private.Close()
		}
	}()
	if err := os.Chmod(h.Old, 0o600); err != nil {
		return err
	}
	sockets := p.ports.sockets()
	sockets[publicSocket], sockets[controlSocket] = p.public, p.private
	if p.measured != nil {
		sockets[metricsSocket] = p.measured
	}
	var fds []int
	for name, l := range sockets {
		file, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			return err
		}
		defer file.Close()
		raw, err := file.SyscallConn()
		if err != nil {
			return err
		}
		// Fd would make the socket a blocking one, for this process too: one that
		// just then accepts would hang in the system, and its end with it.
		if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return err
		}
		h.Sockets = append(h.Sockets, name)
	}
	if err := conn.SetDeadline(time.Now().Add(handoverTime)); err != nil {
		return err
	}
	if _, _, err := conn.WriteMsgUnix([]byte(handoverMark), syscall.UnixRights(fds...), nil); err != nil {
		return err
	}
	if err := json.NewEncoder(conn).Encode(h); err != nil {
		return err
	}
	line := make([]byte, len(readyLine))
	if _, err := io.ReadFull(conn, line); err != nil || string(line) != readyLine {
		return errors.Join(err, fmt.Errorf("the new edge said %q", line))
	}
	accept(sockets, false)
	defer func() {
		if err != nil {
			accept(sockets, true)
		}
	}()
	streams := map[string]handedStream{}
	p.leaving.Store(true) // clients are told from here on, each with its next answer
	for name, all := range p.current().tallies {
		var s handedStream
		s.ID, s.First, s.Next = all.stream.Leave()
		streams[name] = s
	}
	if err := json.NewEncoder(conn).Encode(streams); err != nil {
		return err
	}
	p.parting.private = private
	return conn.SetDeadline(time.Time{})
}

// accept has this process take connections, or leave them in the sockets to
// whoever has those too.
func accept(sockets map[string]net.Listener, takes bool) {
	until := time.Unix(1, 0) // the past
	if takes {
		until = time.Time{}
	}
	for _, l := range sockets {
		if tcp, ok := l.(*net.TCPListener); ok {
			_ = tcp.SetDeadline(until) // fails only if it is closed
		}
	}
}

// inheritance is what the new process got.
type inheritance struct {
	handover
	conn    *net.UnixConn
	in      *bufio.Reader
	sockets map[string]net.Listener
	streams map[string]handedStream
}

// takeOver asks the edge behind a control socket for all it has.
func takeOver(ctx context.Context, socket string) (*inheritance, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "there is no edge to take over from at %s", socket)
	}
	i := &inheritance{conn: raw.(*net.UnixConn), sockets: map[string]net.Listener{}}
	i.in = bufio.NewReader(i.conn)
	if err := i.receive(); err != nil {
		return nil, errors.Join(fault.Wrap(fault.Failed, err, "the running edge did not hand over"), i.close())
	}
	return i, nil
}

func (i *inheritance) close() error {
	err := i.conn.Close()
	for _, l := range i.sockets {
		err = errors.Join(err, l.Close())
	}
	return err
}

func (i *inheritance) receive() error {
	if err := i.conn.SetDeadline(time.Now().Add(handoverTime)); err != nil {
		return err
	}
	if _, err := io.WriteString(i.conn, "POST /handover HTTP/1.1\r\nHost: edge\r\nContent-Length: 0\r\n\r\n"); err != nil {
		return err
	}
	mark, rights := make([]byte, len(handoverMark)), make([]byte, 4096)
	n, size, _, _, err := i.conn.ReadMsgUnix(mark, rights)
	if err != nil {
		return err
	}
	if string(mark[:n]) != handoverMark {
		return errors.New("it does not know how")
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:size])
	if err != nil {
		return err
	}
	var fds []int
	for m := range messages {
		more, err := syscall.ParseUnixRights(&messages[m])
		if err != nil {
			return err
		}
		fds = append(fds, more...)
	}
	var files []*os.File
	for _, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		defer file.Close()
		files = append(files, file)
	}
	line, err := i.in.ReadBytes('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, &i.handover); err != nil {
		return err
	}
	if len(i.Sockets) != len(files) {
		return fmt.Errorf("it has %d sockets and gave %d", len(i.Sockets), len(files))
	}
	for n, name := range i.Sockets {
		l, err := net.FileListener(files[n])
		if err != nil {
			return err
		}
		if unix, ok := l.(*net.UnixListener); ok {
			unix.SetUnlinkOnClose(true)
		}
		i.sockets[name] = l
	}
	if i.sockets[publicSocket] == nil || i.sockets[controlSocket] == nil {
		return errors.New("a socket is missing")
	}
	return i.conn.SetDeadline(time.Time{})
}

// succeed says that all is ready, and goes on with the streams where they end.
func (i *inheritance) succeed(t *table) error {
	if err := i.conn.SetDeadline(time.Now().Add(handoverTime)); err != nil {
		return err
	}
	if _, err := io.WriteString(i.conn, readyLine); err != nil {
		return err
	}
	line, err := i.in.ReadBytes('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, &i.streams); err != nil {
		return err
	}
	for name, s := range i.streams {
		if known := t.tallies[name]; known != nil {
			known.stream.Continue(s.ID, s.First, s.Next)
		}
	}
	return i.conn.SetDeadline(time.Time{})
}

// elder is the process before, while it still has connections.
type elder struct {
	client *Client
	mu     sync.Mutex
	last   Stats // its last report
	over   bool  // and there will be no other
}

// follow takes what the process before still knows, until it ends.
func (p *plane) follow(ctx context.Context, i *inheritance) {
	var all sync.WaitGroup
	defer all.Wait()
	for name, s := range i.streams {
		if known := p.current().tallies[name]; known != nil {
			all.Go(func() { p.elder.fill(ctx, name, s, known.stream) })
		}
	}
	defer context.AfterFunc(ctx, func() { _ = i.conn.Close() })()
	defer i.conn.Close()
	final, err := i.in.ReadBytes('\n')
	p.elder.mu.Lock()
	defer p.elder.mu.Unlock()
	var s Stats
	if err == nil && json.Unmarshal(final, &s) == nil {
		p.elder.last = s
	}
	p.elder.last.InFlight, p.elder.over = nil, true
}

// fill takes the outcomes of requests that arrived at the process before.
func (e *elder) fill(ctx context.Context, service string, s handedStream, into *outcome.Stream) {
	defer into.Abandon() // of those that did not come
	if s.First == s.Next {
		return
	}
	done := errors.New("all are here")
	at := outcome.Cursor{Stream: s.ID, Next: s.First}
	_, _ = e.client.watchOnce(ctx, service, &at, func(b outcome.Batch) error {
		for n, o := range b.Outcomes {
			into.Fill(b.Cursor.Next-uint64(len(b.Outcomes)-n), o)
		}
		if b.Cursor.Next >= s.Next {
			return done
		}
		return nil
	}) // how it ends is told as a gap, or all is well
}

// add puts what the process before has seen, and has under way, into a report.
func (e *elder) add(ctx context.Context, to *Stats) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client == nil {
		return
	}
	if !e.over {
		if s, err := e.client.Stats(ctx); err == nil {
			e.last = s
		}
	}
	for id, n := range e.last.InFlight {
		if n > 0 || to.InFlight[id] > 0 {
			to.InFlight[id] += n
		}
	}
	for name, arms := range e.last.Services {
		for arm, c := range arms {
			if to.Services[name] != nil {
				sum := to.Services[name][arm]
				to.Services[name][arm] = Counts{Requests: sum.Requests + c.Requests, Bad: sum.Bad + c.Bad}
			}
		}
	}
}

// pass hands a configuration on: the requests on connections that the process
// before still has must go by it too.
func (e *elder) pass(ctx context.Context, c Config) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client == nil || e.over {
		return nil
	}
	if err := e.client.Configure(ctx, c); err != nil && !fault.Is(err, fault.Unavailable) {
		return fmt.Errorf("tell the edge that drains: %w", err)
	}
	return nil
}

// crowd counts connections.
type crowd struct {
	mu     sync.Mutex
	n      int
	waiter chan struct{} // closed when there is none any more
}

func (c *crowd) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n += n; c.n == 0 && c.waiter != nil {
		close(c.waiter)
		c.waiter = nil
	}
}

func (c *crowd) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// gone is closed when there is none.
func (c *crowd) gone() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := make(chan struct{})
	if c.n == 0 {
		close(gone)
	} else {
		c.waiter = gone
	}
	return gone
}
