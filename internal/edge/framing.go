package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// net/http takes a request with both Transfer-Encoding and Content-Length by
// the first and forgets that there was a second. That is safe for what stands
// behind the edge, which gets one of them, but a proxy before the edge may
// have read it otherwise. The edge refuses such a request, and for that it
// must see the header as it came.

// headLimit is how much of a header is looked at: as much as net/http takes.
const headLimit = 68 << 10

// headListener keeps the header of the request that each connection is at.
type headListener struct{ net.Listener }

func (l headListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &headConn{Conn: conn}, nil
}

// headConn keeps what was read since the connection was last idle, up to the
// end of a header. It is read and asked by one goroutine at a time.
type headConn struct {
	net.Conn
	head []byte
	full bool
	// ahead is what was read before the connection was idle: while a request
	// is answered the server reads one byte, to see whether the client leaves.
	ahead []byte
}

func (c *headConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if len(p) == 1 {
		c.ahead = append(c.ahead[:0], p[:n]...)
		return n, err
	}
	if !c.full {
		c.head = append(c.head, p[:n]...)
		c.full = len(c.head) > headLimit || bytes.Contains(c.head, []byte("\r\n\r\n"))
	}
	return n, err
}

// CloseWrite lets an upgraded connection be half closed.
func (c *headConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// connState is told by the server what a connection does.
func connState(conn net.Conn, state http.ConnState) {
	c := headOf(conn)
	if c == nil {
		return
	}
	switch state {
	case http.StateIdle:
		if c.full = false; cap(c.head) > 4<<10 {
			c.head = nil
		}
		c.head, c.ahead = append(c.head[:0], c.ahead...), c.ahead[:0]
	case http.StateHijacked:
		c.full, c.head = true, nil
	}
}

type headKey struct{}

// connContext puts the connection where hasTwoLengths finds it.
func connContext(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, headKey{}, headOf(conn))
}

// hasTwoLengths says whether the request came with both ways to say how long
// it is. One that came behind another before that was answered cannot be seen:
// no client sends chunks so, and it is taken for one that has both.
func hasTwoLengths(r *http.Request) bool {
	if len(r.TransferEncoding) == 0 || r.ProtoMajor != 1 {
		return false
	}
	c, ok := r.Context().Value(headKey{}).(*headConn)
	if !ok || c == nil {
		return false
	}
	if !bytes.HasPrefix(c.head, []byte(r.Method+" ")) {
		return true
	}
	head, _, _ := bytes.Cut(c.head, []byte("\r\n\r\n"))
	for line := range bytes.Lines(head) {
		if name, _, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("Content-Length")) {
			return true
		}
	}
	return false
}

// headOf gives what a connection keeps of its header, nil for HTTP/2 over TLS.
func headOf(conn net.Conn) *headConn {
	switch c := conn.(type) {
	case *headConn:
		return c
	case secureConn:
		return c.headConn
	}
	return nil
}

// handshakeTime is how long a client may take to agree on TLS.
const handshakeTime = 10 * time.Second

// tlsListener gives connections on which TLS is agreed. The handshakes run
// beside each other: a slow client holds up nobody.
type tlsListener struct {
	net.Listener
	config *tls.Config
	ready  chan net.Conn
	ctx    context.Context // ends when there will be no connection any more
	cancel context.CancelFunc
	all    sync.WaitGroup // the handshakes
}

func newTLSListener(raw net.Listener, config *tls.Config) *tlsListener {
	l := &tlsListener{Listener: raw, config: config, ready: make(chan net.Conn)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	go l.accept()
	return l
}

// accept ends when the socket is closed. Then those who have begun to agree may
// finish.
func (l *tlsListener) accept() {
	defer l.cancel()
	defer l.all.Wait()
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return
		}
		l.all.Go(func() { l.shake(conn) })
	}
}

func (l *tlsListener) shake(raw net.Conn) {
	ctx, cancel := context.WithTimeout(l.ctx, handshakeTime)
	defer cancel()
	conn := tls.Server(raw, l.config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the client knows why
		return
	}
	var ready net.Conn = conn // as it is: the server asks it for the protocol
	if conn.ConnectionState().NegotiatedProtocol != "h2" {
		ready = secureConn{&headConn{Conn: conn}}
	}
	select {
	case l.ready <- ready:
	case <-l.ctx.Done():
		_ = conn.Close()
	}
}

func (l *tlsListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.ready:
		return conn, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// secureConn is a connection with HTTP/1.1 over TLS; what it has of it, the
// server asks for.
type secureConn struct{ *headConn }

// ConnectionState says what was agreed.
func (c secureConn) ConnectionState() tls.ConnectionState {
	return c.Conn.(*tls.Conn).ConnectionState()
}
