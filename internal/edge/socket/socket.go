// Package socket reads and writes TCP connections for whoever forwards many
// small messages. It knows sockets; it must not know what is sent.
package socket

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// Conn is a TCP connection. The runtime is not told of its system calls, which
// never wait: to tell it takes time, and it wakes another thread for each that is
// long in one, because it has lost the processor there. On a busy machine that is
// one more for which all others wait.
type Conn struct {
	*net.TCPConn
	in, out side
}

// side is one direction of a connection.
type side struct {
	mu   sync.Mutex
	raw  syscall.RawConn
	p    []byte // what is left to be read into, or written
	n    int
	err  error
	once func(fd uintptr) bool
}

// Wrap makes a TCP connection one of this package's, and leaves any other as it
// is.
func Wrap(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c // it is closed
	}
	s := &Conn{TCPConn: tcp}
	s.in.raw, s.in.once = raw, s.in.read
	s.out.raw, s.out.once = raw, s.out.write
	return s
}

// Read reads what has come, and waits if nothing has.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s := &c.in
	s.mu.Lock()
	defer s.mu.Unlock()
	s.p = p
	err := s.raw.Read(s.once)
	s.p = nil
	switch {
	case err != nil:
		return 0, err
	case s.err != nil:
		return 0, c.failed("read", s.err)
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
}

func (s *side) read(fd uintptr) bool {
	s.n, s.err = Read(fd, s.p[:min(len(s.p), atOnce)])
	return s.err != syscall.EAGAIN
}

// Write writes p, and waits where there is no room for it.
func (c *Conn) Write(p []byte) (int, error) {
	s := &c.out
	s.mu.Lock()
	defer s.mu.Unlock()
	s.p, s.err = p, nil
	err := s.raw.Write(s.once)
	n := len(p) - len(s.p)
	s.p = nil
	switch {
	case err != nil:
		return n, err
	case s.err != nil:
		return n, c.failed("write", s.err)
	}
	return n, nil
}

// atOnce bounds how long a thread is in one call: meanwhile the runtime cannot
// stop it.
const atOnce = 64 << 10

func (s *side) write(fd uintptr) bool {
	for len(s.p) > 0 {
		var n int
		n, s.err = Write(fd, s.p[:min(len(s.p), atOnce)])
		if s.err != nil {
			return s.err != syscall.EAGAIN
		}
		s.p = s.p[n:]
	}
	return true
}

func (c *Conn) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}
