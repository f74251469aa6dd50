// Package front serves HTTP/1.1 to the clients of the edge: it reads requests,
// has a handler answer them, and writes the answers, each connection in one
// goroutine. It does what net/http's server does, for half of the time: nothing
// is started beside a request that nobody asks for, and what a request needs is
// used again for the next one. It knows connections and messages; it must not
// know hosts, services, or what is answered.
package front

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"makeitso/internal/edge/socket"
)

// Server serves connections. A request, its header, and the header of its
// answer are the handler's until it returns.
type Server struct {
	Handler http.Handler
	Base    context.Context // with it all requests end
	// HTTP2 is given the connections of clients that speak HTTP/2.
	HTTP2 func(net.Conn)
	// Count is told of each connection, with 1, and with -1 of its end, but not
	// of those that HTTP2 was given.
	Count func(int)
	// Refused is told of requests that the handler does not see.
	Refused func(remote string, status int, why string)
	Log     *log.Logger // of handlers that panic

	HeaderBytes int           // how large the header of a request may be
	HeaderTime  time.Duration // in which it has to come
	IdleTime    time.Duration // how long a connection is kept without a request
	WriteTime   time.Duration // for what is written, where the handler sets no deadline

	desks   sync.Pool // of *desk
	date    atomic.Pointer[date]
	answers atomic.Int64 // how many were given
	closing atomic.Bool
	all     sync.WaitGroup // the connections' goroutines

	mu        sync.Mutex
	closed    chan struct{} // no connection is taken any more
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	empty     chan struct{} // closed when there is no connection left; nil where nobody waits
}

// newGrace is how long a new connection may still bring its first request when
// the server is shut down.
const newGrace = time.Second

// Serve takes connections until the listener fails, or the server is shut down:
// then it gives http.ErrServerClosed. On those over TLS that was agreed already.
func (s *Server) Serve(l net.Listener) error {
	closed, ok := s.begin(l)
	if !ok {
		return http.ErrServerClosed
	}
	defer s.forget(l)
	var wait time.Duration
	for {
		conn, err := l.Accept()
		if err == nil {
			wait = 0
			s.take(conn)
			continue
		}
		if s.closing.Load() {
			return http.ErrServerClosed
		}
		var errno syscall.Errno // which knows that too many files are no reason to give up
		if !errors.Is(err, os.ErrDeadlineExceeded) && !(errors.As(err, &errno) && errno.Temporary()) {
			return err
		}
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(wait):
		case <-closed:
			return http.ErrServerClosed
		}
	}
}

// begin knows a listener, so that it can be closed.
func (s *Server) begin(l net.Listener) (closed <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		s.conns, s.listeners, s.closed = map[*conn]struct{}{}, map[net.Listener]struct{}{}, make(chan struct{})
	}
	if s.closing.Load() {
		return nil, false
	}
	s.listeners[l] = struct{}{}
	return s.closed, true
}

func (s *Server) forget(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// take serves a new connection, or has it served.
func (s *Server) take(raw net.Conn) {
	s.Count(1)
	secure, isTLS := raw.(*tls.Conn)
	if isTLS && secure.ConnectionState().NegotiatedProtocol == "h2" {
		s.HTTP2(raw)
		return
	}
	c := &conn{server: s, net: socket.Wrap(raw), remote: raw.RemoteAddr().String()}
	c.context.conn = c
	c.context.Context, c.cancel = context.WithCancel(s.Base)
	c.blank = *new(http.Request).WithContext(&c.context)
	if isTLS {
		state := secure.ConnectionState()
		c.blank.TLS = &state
	} else if sock, ok := raw.(syscall.Conn); ok {
		c.raw, _ = sock.SyscallConn() // fails only if it is closed
		c.firstRead = c.readFirst
	}
	c.blank.RemoteAddr = c.remote
	c.readBy(time.Now(), s.HeaderTime)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		_ = raw.Close()
		s.Count(-1)
		return
	}
	s.conns[c] = struct{}{}
	s.all.Go(c.serve)
}

// left is told that a connection is the server's no longer.
func (s *Server) left(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.tell()
}

// tell tells those who wait that no connection is left; the lock is held.
func (s *Server) tell() {
	if len(s.conns) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// Shutdown takes no more connections, closes those without a request, and waits
// until the others have finished theirs or ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.close(func(c *conn) {
		if c.state.Load() == isNew {
			_ = c.net.SetReadDeadline(time.Now().Add(newGrace)) // fails on closed connections only
		}
		c.closeIdle()
	})
	s.mu.Lock()
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	gone := s.empty
	s.tell()
	s.mu.Unlock()
	select {
	case <-gone:
		return err
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
}

// Close breaks off what there is, and waits until no handler runs.
func (s *Server) Close() error {
	err := s.close(func(c *conn) { _ = c.net.Close() }) // the client sees it
	s.all.Wait()
	return err
}

// close takes no more connections, and does something with those there are.
func (s *Server) close(each func(*conn)) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing.Swap(true) && s.closed != nil {
		close(s.closed)
	}
	for l := range s.listeners {
		err = errors.Join(err, l.Close())
		delete(s.listeners, l)
	}
	for c := range s.conns {
		each(c)
	}
	return err
}

// panicked logs a handler's panic, unless it only broke off its answer.
func (s *Server) panicked(remote string, reason any) {
	if reason != http.ErrAbortHandler {
		s.Log.Printf("panic while %s was answered: %v\n%s", remote, reason, debug.Stack())
	}
}

// date is the field Date of one second.
type date struct {
	second int64
	text   []byte
}

// appendDate writes the field Date.
func (s *Server) appendDate(to []byte, now time.Time) []byte {
	d := s.date.Load()
	if d == nil || d.second != now.Unix() {
		d = &date{now.Unix(), now.UTC().AppendFormat([]byte("Date: "), http.TimeFormat+"\r\n")}
		s.date.Store(d)
	}
	return append(to, d.text...)
}

// desk is what a connection needs while it has a request.
type desk struct {
	in      []byte // what was read and not used yet lies between from and to
	from    int
	to      int
	out     []byte // what is to be written
	pending []byte // of a body whose framing is not settled
	asked   http.Header
	answer  http.Header
	parts   [3][]byte
}

const (
	deskBytes    = 4 << 10
	pendingBytes = 2 << 10
	largestOut   = 40 << 10 // a part of a body as a proxy copies it, and a header
)

func (s *Server) desk() *desk {
	if d, ok := s.desks.Get().(*desk); ok {
		return d
	}
	return &desk{in: make([]byte, deskBytes), out: make([]byte, 0, deskBytes), asked: http.Header{}, answer: http.Header{}}
}

// clear forgets what it was used for. One that has grown is thrown away.
func (s *Server) clear(d *desk) {
	if len(d.in) > deskBytes || cap(d.out) > largestOut {
		return
	}
	d.from, d.to, d.out, d.pending = 0, 0, d.out[:0], d.pending[:0]
	clear(d.asked)
	clear(d.answer)
	s.desks.Put(d)
}

// isHTTP2 says that a connection begins as one with HTTP/2 does.
func isHTTP2(text []byte) bool { return bytes.HasPrefix(text, []byte("PRI * HTTP/2.0\r\n")) }
