// Package upstream asks the servers behind the edge: one pool of connections
// for each of them, HTTP/1.1 written and read by the goroutine that has the
// request, or HTTP/2 where a server wants it. It knows requests, answers and
// connections; it must not know services, arms or why a server was chosen.
package upstream

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"makeitso/internal/edge/socket"
)

// Protocols that a server may speak.
const (
	HTTP1 = ""    // HTTP/1.1
	HTTP2 = "h2c" // HTTP/2 without TLS, as gRPC wants it
)

const (
	dialTimeout = 3 * time.Second
	// A server that closes idle connections must not do so while a request
	// that cannot be repeated is on its way to it, so the edge closes them
	// first. Servers wait 2 s or longer.
	idleTimeout = time.Second
	maxIdle     = 512

	readBuffer = 8 << 10
)

// ErrBusy says that the server has as many connections as it may.
var ErrBusy = errors.New("the instance has as many requests as it may")

// Options are how a pool behaves; the zero value is HTTP/1.1 without limits.
type Options struct {
	Protocol string
	// MaxConns is how many requests may be under way at the server at once, 0
	// for any number.
	MaxConns int
}

// Pool is the connections to one server.
type Pool struct {
	address string
	options Options
	h2      *http.Transport // nil for HTTP/1.1
	busy    atomic.Int64    // requests under way

	mu     sync.Mutex
	idle   []*conn // the last used one last
	sweep  *time.Timer
	closed bool
	open   atomic.Int64
}

// NewPool makes the pool of the server at an address, host:port. It connects
// when there is something to ask.
func NewPool(address string, o Options) *Pool {
	p := &Pool{address: address, options: o}
	if o.Protocol == HTTP2 {
		p.h2 = newHTTP2(p.dial)
	}
	return p
}

// Open is how many connections there are.
func (p *Pool) Open() int64 { return p.open.Load() }

// Close closes the idle connections and keeps none from now on.
func (p *Pool) Close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	if p.sweep != nil {
		p.sweep.Stop()
	}
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
	if p.h2 != nil {
		p.h2.CloseIdleConnections()
	}
}

func (p *Pool) dial(ctx context.Context) (net.Conn, error) {
	raw, err := (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, err
	}
	p.open.Add(1)
	return &counted{Conn: socket.Wrap(raw), pool: p}, nil
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	pool   *Pool
	closed atomic.Bool
}

func (c *counted) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.pool.open.Add(-1)
	}
	return c.Conn.Close()
}

// CloseWrite lets an upgraded connection be half closed.
func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// conn is a connection to an HTTP/1.1 server. One goroutine has it, or it is idle.
type conn struct {
	net    *counted
	pool   *Pool
	in     *bufio.Reader
	header int64  // how many bytes the header may still have; negative: none is read
	out    []byte // the header being written; kept for the next one
	since  time.Time
	asked  http.Request // says to http.ReadResponse what was asked
}

// Read is what the buffer reads by: it bounds the header.
func (c *conn) Read(b []byte) (int, error) {
	if c.header < 0 {
		return c.net.Read(b)
	}
	if c.header == 0 {
		return 0, errHeaderTooLarge
	}
	n, err := c.net.Read(b[:min(int64(len(b)), c.header)])
	c.header -= int64(n)
	return n, err
}

func (c *conn) close() { _ = c.net.Close() } // what was sent is answered or given up

// get gives an idle connection, or a new one. Where the request can be repeated
// it is not worth to look whether the server has closed the connection
// meanwhile: that shows.
func (p *Pool) get(ctx context.Context, repeatable bool) (c *conn, reused bool, err error) {
	for {
		c := p.pop()
		if c == nil {
			break
		}
		if time.Since(c.since) < idleTimeout && (repeatable || c.alive()) {
			return c, true, nil
		}
		c.close()
	}
	c, err = p.connect(ctx)
	return c, false, err
}

func (p *Pool) connect(ctx context.Context) (*conn, error) {
	raw, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{net: raw.(*counted), pool: p, header: -1}
	c.in = bufio.NewReaderSize(c, readBuffer)
	return c, nil
}

func (p *Pool) pop() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return c
}

// put keeps a connection for the next request.
func (p *Pool) put(c *conn) {
	c.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= maxIdle {
		c.close()
		return
	}
	p.idle = append(p.idle, c)
	switch {
	case p.sweep == nil:
		p.sweep = time.AfterFunc(idleTimeout, p.expire)
	case len(p.idle) == 1:
		p.sweep.Reset(idleTimeout)
	}
}

// expire closes what was idle for too long, and looks again while there is more.
func (p *Pool) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	keep := 0
	for keep < len(p.idle) && time.Since(p.idle[keep].since) >= idleTimeout {
		p.idle[keep].close()
		keep++
	}
	p.idle = append(p.idle[:0], p.idle[keep:]...)
	if len(p.idle) > 0 && !p.closed {
		p.sweep.Reset(idleTimeout - time.Since(p.idle[0].since))
	}
}

// alive says that the server has not closed the connection meanwhile, nor sent
// what nobody asked for.
func (c *conn) alive() bool {
	if c.in.Buffered() > 0 || c.net.SetReadDeadline(time.Time{}) != nil { // the answer's may have passed
		return false
	}
	sock, ok := c.net.Conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN
		return true
	})
	return err == nil && quiet
}
