package front

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"makeitso/internal/edge/socket"
)

const (
	// discardBytes is how much of a body that nobody read is read for the
	// connection to be of use for another request, in at most discardTime.
	discardBytes = 256 << 10
	discardTime  = 5 * time.Second
	// lingerTime is how long a client may go on to send when it was told that
	// the connection ends: if it were closed at once, the client's system would
	// throw away what it has not read yet.
	lingerTime = 500 * time.Millisecond
	// answersAtOnce is after how many answers other programs may have the
	// processor. On a busy machine these are the servers and the clients that wait
	// for the edge, and they would get it only when the thread's slice is over, some
	// milliseconds later.
	answersAtOnce = 32
)

// The states of a connection.
const (
	isNew    = iota // no request was begun
	isIdle          // between two requests
	isActive        // a request was begun
	isClosed        // by the server's shutdown
)

// conn is a client's connection.
type conn struct {
	server    *Server
	net       net.Conn
	raw       syscall.RawConn // nil over TLS
	failed    error           // of the first read, which is firstRead
	firstRead func(fd uintptr) bool
	remote    string
	context   clientContext
	cancel    context.CancelFunc
	state     atomic.Int32

	blank, request http.Request
	response       response
	body           body
	desk           *desk // nil while nothing was read
	gone           bool  // the connection is another's now

	// When the deadlines in force pass; the zero time where that is not known.
	// They are set again only where they are much too early: that is rare.
	readUntil, writeUntil time.Time
	readSet               atomic.Bool // the handler has set another one

	mu     sync.Mutex
	busy   bool          // a handler runs
	wanted bool          // it wants to know when the client leaves
	whole  bool          // the body was read to its end
	looked chan struct{} // closed when nobody looks any more; nil where nobody does
	begun  bool          // something of the answer was sent
}

// clientContext is the context of the requests of a connection. It ends when
// the client leaves; whether it does is looked at from the time on that somebody
// wants to know.
type clientContext struct {
	context.Context
	conn *conn
}

// Done has somebody look.
func (c *clientContext) Done() <-chan struct{} {
	c.conn.watch()
	return c.Context.Done()
}

// Value knows the address that the client asked.
func (c *clientContext) Value(key any) any {
	if key == http.LocalAddrContextKey {
		return c.conn.net.LocalAddr()
	}
	return c.Context.Value(key)
}

// serve answers one request after another.
func (c *conn) serve() {
	defer c.end()
	for c.await() {
		r, err := c.read()
		if err != nil {
			c.refuse(err)
			return
		}
		if r == nil || !c.answer(r) {
			return
		}
	}
}

// end closes the connection, unless it is another's.
func (c *conn) end() {
	c.cancel()
	if !c.gone {
		_ = c.net.Close() // what was to be sent was sent, or the client is told so
		c.server.left(c)
		c.server.Count(-1)
	}
	c.settle()
	c.clear()
}

func (c *conn) clear() {
	if c.desk != nil {
		c.server.clear(c.desk)
		c.desk = nil
	}
}

// await waits until a request begins.
func (c *conn) await() bool {
	if c.desk != nil && c.desk.from < c.desk.to {
		return true // it came with the one before
	}
	c.clear()
	before := int32(isNew)
	if c.state.Load() != isNew {
		before = isIdle
		c.state.Store(isIdle)
		if c.server.closing.Load() {
			return false
		}
		c.readBy(time.Now(), c.server.IdleTime)
	}
	if err := c.wait(); err != nil {
		return false
	}
	return c.state.CompareAndSwap(before, isActive)
}

// closeIdle closes the connection if it has no request.
func (c *conn) closeIdle() {
	if c.state.CompareAndSwap(isIdle, isClosed) {
		_ = c.net.Close() // the client sees it
	}
}

// wait reads what comes first. Until something comes there is no buffer: there
// are many connections that wait.
func (c *conn) wait() (err error) {
	if c.raw == nil {
		var one [1]byte
		n, err := c.net.Read(one[:])
		if n > 0 { // the rest of the record waits in the connection
			c.desk = c.server.desk()
			c.desk.to = copy(c.desk.in, one[:n])
			return nil
		}
		return err
	}
	c.failed = nil
	if err = c.raw.Read(c.firstRead); err == nil && c.desk == nil {
		err = errors.Join(io.EOF, c.failed)
	}
	return err
}

// readFirst reads from a socket if there is something, and says whether to go
// on.
func (c *conn) readFirst(fd uintptr) bool {
	d := c.server.desk()
	if d.to, c.failed = socket.Read(fd, d.in); d.to > 0 {
		c.desk = d
		return true
	}
	c.server.clear(d)
	return c.failed != syscall.EAGAIN
}

// fill reads more behind what there is.
func (c *conn) fill() error {
	d := c.desk
	if d.from > 0 {
		d.to = copy(d.in, d.in[d.from:d.to])
		d.from = 0
	}
	if d.to == len(d.in) {
		d.in = append(d.in, make([]byte, len(d.in))...)
	}
	n, err := c.net.Read(d.in[d.to:])
	if d.to += n; n > 0 {
		return nil
	}
	return err
}

// read gives the request that has begun, nil if the rest of it does not come or
// the connection is another's.
func (c *conn) read() (*http.Request, error) {
	slow := false
	for seen := 0; ; {
		head := c.desk.in[c.desk.from:c.desk.to]
		if isHTTP2(head) && c.handOver() {
			return nil, nil
		}
		end := bytes.Index(head[seen:], []byte("\r\n\r\n"))
		if end += seen; end >= seen && end <= c.server.HeaderBytes {
			c.desk.from += end + 4
			return c.parse(string(head[:end+2]))
		}
		switch {
		case len(head) > c.server.HeaderBytes:
			return nil, &refusal{http.StatusRequestHeaderFieldsTooLarge, "the header is too large"}
		case hasBareLineEnd(head):
			return nil, bad("a line ends without a carriage return")
		}
		seen = max(0, len(head)-3)
		if !slow {
			slow = true
			c.readWithin(c.server.HeaderTime)
		}
		if err := c.fill(); err != nil {
			return nil, nil
		}
	}
}

// hasBareLineEnd says that a line ends otherwise than lines of a header do:
// who writes so waits for an answer, and its header would never end.
func hasBareLineEnd(text []byte) bool {
	for line := range bytes.Lines(text) {
		if n := len(line); line[n-1] == '\n' && (n == 1 || line[n-2] != '\r') {
			return true
		}
	}
	return false
}

// handOver gives a connection away that speaks HTTP/2 from its begin.
func (c *conn) handOver() bool {
	if c.blank.TLS != nil || c.request.Method != "" {
		return false
	}
	c.gone = true
	c.server.left(c)
	_ = c.net.SetDeadline(time.Time{}) // fails on closed connections only
	c.server.HTTP2(&resumed{c.net, bytes.Clone(c.desk.in[c.desk.from:c.desk.to])})
	return true
}

// resumed is a connection of which something was read.
type resumed struct {
	net.Conn
	ahead []byte
}

func (r *resumed) Read(p []byte) (int, error) {
	if len(r.ahead) > 0 {
		n := copy(p, r.ahead)
		r.ahead = r.ahead[n:]
		return n, nil
	}
	return r.Conn.Read(p)
}

// parse makes the request of its header.
func (c *conn) parse(text string) (*http.Request, error) {
	r := &c.request
	*r = c.blank
	clear(c.desk.asked) // of a request before that came together with this one
	r.Header = c.desk.asked
	if err := parse(r, text); err != nil {
		return nil, err
	}
	c.body = body{conn: c, left: r.ContentLength, chunked: r.ContentLength < 0}
	if r.Body = &c.body; r.ContentLength == 0 {
		r.Body, c.body.err = http.NoBody, io.EOF
	}
	if expected := r.Header["Expect"]; len(expected) > 0 && r.ProtoMinor > 0 {
		if !hasToken(expected, "100-continue") {
			return nil, &refusal{http.StatusExpectationFailed, "only 100-continue can be expected"}
		}
		c.body.invites = r.ContentLength != 0
	}
	return r, nil
}

// answer has the request answered, and says whether there may be another.
func (c *conn) answer(r *http.Request) (more bool) {
	defer func() {
		if reason := recover(); reason != nil {
			c.server.panicked(c.remote, reason)
			more = false
		}
	}()
	clear(c.desk.answer)
	w := &c.response
	*w = response{conn: c, request: r, header: c.desk.answer, length: -1}
	c.mu.Lock()
	c.busy, c.wanted, c.whole, c.begun = true, false, r.ContentLength == 0, false
	c.mu.Unlock()
	if r.RequestURI == "*" && r.Method == http.MethodOptions { // it is about the server
		w.WriteHeader(http.StatusOK)
	} else {
		c.server.Handler.ServeHTTP(w, r)
	}
	if c.gone {
		return false
	}
	more = w.finish()
	if c.server.answers.Add(1)%answersAtOnce == 0 {
		socket.Yield()
	}
	if !more && w.err == nil {
		c.linger()
	}
	return more
}

// refuse answers a request that is none.
func (c *conn) refuse(err error) {
	var r *refusal
	if !errors.As(err, &r) {
		return
	}
	c.server.Refused(c.remote, r.status, r.why)
	c.writeBy(time.Now())
	status := statusLine(nil, 1, r.status)
	text := string(status[len("HTTP/1.1 "):len(status)-len("\r\n")]) + ": " + r.why
	_, err = io.WriteString(c.net, string(status)+"Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"+text+"\n")
	if err == nil {
		c.linger()
	}
}

// linger reads what the client still sends, until it has read the answer.
func (c *conn) linger() {
	half, ok := c.net.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.net.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.net, discardBytes) // it is of no interest
}

// readWithin gives the client time to send from now on.
func (c *conn) readWithin(limit time.Duration) {
	c.readUntil = time.Time{}
	c.readBy(time.Now(), limit)
}

// readBy gives the client time to send; a deadline is not moved for a moment.
func (c *conn) readBy(now time.Time, limit time.Duration) {
	if c.readSet.Swap(false) {
		c.readUntil = time.Time{}
	}
	if at := now.Add(limit); c.readUntil.After(at) || at.Sub(c.readUntil) > limit/16 {
		c.readUntil = at
		_ = c.net.SetReadDeadline(at) // fails on closed connections only
	}
}

// writeBy gives the client time to take what is sent.
func (c *conn) writeBy(now time.Time) {
	if at := now.Add(c.server.WriteTime); c.writeUntil.After(at) || at.Sub(c.writeUntil) > c.server.WriteTime/16 {
		c.writeUntil = at
		_ = c.net.SetWriteDeadline(at) // fails on closed connections only
	}
}

// watch looks from now on whether the client leaves: as long as the handler
// runs, and as soon as nothing is to come but another request.
func (c *conn) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wanted = c.busy; !c.wanted || !c.whole || c.looked != nil || c.desk.from < c.desk.to {
		return
	}
	c.looked = make(chan struct{})
	_ = c.net.SetReadDeadline(time.Time{}) // fails on closed connections only
	go c.look(c.looked)
}

// look waits for the client's next word. Only one that it does not finish, or
// the end of its watch, is no reason to take it for gone.
func (c *conn) look(done chan<- struct{}) {
	defer close(done)
	if err := c.fill(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.cancel()
	}
}

// settle ends the watch.
func (c *conn) settle() {
	c.mu.Lock()
	c.busy = false
	looked := c.looked
	if looked != nil {
		_ = c.net.SetReadDeadline(time.Unix(1, 0)) // fails on closed connections only
	}
	c.mu.Unlock()
	if looked != nil {
		<-looked
		c.looked = nil
		c.readSet.Store(true)
	}
}

// isWhole says that the body was read to its end.
func (c *conn) isWhole() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.whole
}

// ended is told that the body was read to its end.
func (c *conn) ended() {
	c.mu.Lock()
	c.whole = true
	wanted := c.wanted
	c.mu.Unlock()
	if wanted {
		c.watch()
	}
}

// hijack gives the connection to the handler, and what was read of it.
func (c *conn) hijack() (net.Conn, *bufio.ReadWriter) {
	c.settle()
	c.gone = true
	c.server.left(c)
	c.server.Count(-1)
	_ = c.net.SetDeadline(time.Time{}) // fails on closed connections only
	var in io.Reader = c.net
	if d := c.desk; d.from < d.to {
		in = &resumed{c.net, bytes.Clone(d.in[d.from:d.to])}
	}
	return c.net, bufio.NewReadWriter(bufio.NewReader(in), bufio.NewWriter(c.net))
}
