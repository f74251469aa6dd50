package edge

import (
	"bytes"
	"context"
	"net"
	"net/http"
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
}

func (c *headConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
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
	c, ok := conn.(*headConn)
	if !ok {
		return
	}
	switch state {
	case http.StateIdle:
		c.full = false
		if c.head = c.head[:0]; cap(c.head) > 4<<10 {
			c.head = nil
		}
	case http.StateHijacked:
		c.full, c.head = true, nil
	}
}

type headKey struct{}

// connContext puts the connection where requestLengths finds it.
func connContext(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, headKey{}, conn)
}

// hasTwoLengths says whether the request came with both ways to say how long
// it is. Of pipelined requests only the first is seen.
func hasTwoLengths(r *http.Request) bool {
	if len(r.TransferEncoding) == 0 {
		return false
	}
	c, ok := r.Context().Value(headKey{}).(*headConn)
	if !ok || !bytes.HasPrefix(c.head, []byte(r.Method+" ")) {
		return false
	}
	head, _, _ := bytes.Cut(c.head, []byte("\r\n\r\n"))
	for line := range bytes.Lines(head) {
		if name, _, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("Content-Length")) {
			return true
		}
	}
	return false
}
