package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

const (
	maxHeader = 256 << 10 // bytes of an answer's header
	soon      = 20 * time.Millisecond
	maxHints  = 8 // answers with a status below 200 before the real one
)

var (
	// ErrNoAnswer says that the header of an answer did not come in time.
	ErrNoAnswer = errors.New("no answer by the deadline")

	errHeaderTooLarge = errors.New("the header of the answer is too large")
)

// Response is a server's answer. Whoever got it reads it to its end, or not,
// and then closes it.
type Response struct {
	Status  int
	Header  http.Header // as the server wrote it
	Length  int64       // of the body; -1 if it is not known
	Trailer func() http.Header

	ctx    context.Context
	http   *http.Response
	conn   *conn // nil for HTTP/2
	upload *upload
	sent   chan error  // what became of the body of the request; nil where none is sent beside
	stop   func() bool // ends the watch of ctx; nil where there is none
	whole  bool        // the body was read to its end
	pool   *Pool
	done   bool
}

// Send asks the server and waits for the header of its answer. One that does
// not come in time is ErrNoAnswer; where the context ended, the error is its
// cause. The client's connection may be of no use for another request then.
func (p *Pool) Send(ctx context.Context, r *Request) (*Response, error) {
	if n := p.busy.Add(1); p.options.MaxConns > 0 && n > int64(p.options.MaxConns) {
		p.busy.Add(-1)
		return nil, ErrBusy
	}
	res, err := p.send(ctx, r)
	if err != nil {
		p.busy.Add(-1)
		return nil, err
	}
	res.pool = p
	return res, nil
}

func (p *Pool) send(ctx context.Context, r *Request) (*Response, error) {
	if p.h2 != nil {
		return p.sendHTTP2(ctx, r)
	}
	c, reused, err := p.get(ctx, r.repeatable())
	if err != nil {
		return nil, err
	}
	res, unasked, err := c.send(ctx, r)
	if err != nil && unasked && reused && r.repeatable() && ctx.Err() == nil {
		// The server closed the connection at the moment the request was sent.
		if c, err = p.connect(ctx); err != nil {
			return nil, err
		}
		res, _, err = c.send(ctx, r)
	}
	return res, err
}

// send asks over one connection. Unasked says of an error that the server may
// not have seen the request: the connection ended before any byte of an answer.
func (c *conn) send(ctx context.Context, r *Request) (res *Response, unasked bool, err error) {
	res = &Response{conn: c, ctx: ctx}
	defer func() {
		if err == nil {
			return
		}
		gone := context.Cause(ctx) // asked first: to abort may end the client's connection too
		res.abort()
		switch {
		case res.upload != nil && (res.upload.broken.Load() || gone != nil && res.upload.failed.Load()): // which may have ended the context as well
			err = fmt.Errorf("%w: %w", ErrBody, err)
		case gone != nil:
			err = gone
		case errors.Is(err, os.ErrDeadlineExceeded):
			err, unasked = ErrNoAnswer, false // it may have the request, and works on it
		}
	}()
	c.out = r.head(c.out[:0])
	if _, err := c.net.Write(c.out); err != nil {
		return res, true, err
	}
	if r.Body == nil {
		if unasked, err = res.awaitSoon(r); err == nil {
			return res, false, res.watch()
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return res, unasked, err
		}
	}
	res.stop = context.AfterFunc(ctx, c.close)
	clock := &clock{limit: r.Timeout, set: func(at time.Time) { _ = c.net.SetReadDeadline(at) }} // fails on closed connections only
	clock.resume()
	if r.Body != nil {
		res.upload, res.sent = &upload{request: r, clock: clock}, make(chan error, 1)
		go func() {
			err := res.upload.copyTo(c.net)
			if errors.Is(err, ErrBody) {
				c.close() // the server must not take what came for the whole
			}
			res.sent <- err
		}()
	}
	unasked, err = res.await(r)
	clock.stop()
	if err == nil {
		err = res.watch()
	}
	return res, unasked, err
}

// awaitSoon waits for the header of an answer as most come: so soon that it is
// not worth to watch the client meanwhile. Later is os.ErrDeadlineExceeded.
func (res *Response) awaitSoon(r *Request) (unasked bool, err error) {
	if r.Timeout > 0 && r.Timeout <= soon {
		return false, os.ErrDeadlineExceeded
	}
	c := res.conn
	if err := c.net.SetReadDeadline(time.Now().Add(soon)); err != nil {
		return true, err
	}
	if _, err := c.in.Peek(1); err != nil {
		return true, err
	}
	here, _ := c.in.Peek(c.in.Buffered()) // cannot fail
	if bytes.HasPrefix(here, []byte("HTTP/1.1 1")) || !bytes.Contains(here, []byte("\r\n\r\n")) {
		return false, os.ErrDeadlineExceeded // it begins soon, but it may go on later
	}
	return res.await(r)
}

// watch makes the answer end with the client, unless all of it is here; nor
// does the deadline of its header hold any more.
func (res *Response) watch() error {
	if res.Length >= 0 && res.Length <= int64(res.conn.in.Buffered()) && res.Status != http.StatusSwitchingProtocols {
		return nil
	}
	if res.stop == nil {
		res.stop = context.AfterFunc(res.ctx, res.conn.close)
	}
	return res.conn.net.SetReadDeadline(time.Time{})
}

// await reads the header of the answer.
func (res *Response) await(r *Request) (unasked bool, err error) {
	c := res.conn
	c.header = maxHeader
	defer func() { c.header = -1 }()
	if _, err := c.in.Peek(1); err != nil {
		return true, err
	}
	c.asked.Method = r.Method
	for range maxHints {
		answer, err := http.ReadResponse(c.in, &c.asked)
		if err != nil {
			return false, err
		}
		if answer.StatusCode >= 200 || answer.StatusCode == http.StatusSwitchingProtocols {
			res.http, res.Status, res.Header, res.Length = answer, answer.StatusCode, answer.Header, answer.ContentLength
			res.Trailer = func() http.Header { return answer.Trailer }
			return false, nil
		}
		if r.Hint != nil && answer.StatusCode != http.StatusContinue {
			r.Hint(answer.StatusCode, answer.Header)
		}
	}
	return false, fmt.Errorf("more than %d answers with a status below 200", maxHints)
}

// Read reads the body.
func (res *Response) Read(b []byte) (int, error) {
	n, err := res.http.Body.Read(b)
	if err == io.EOF {
		res.whole = true
	}
	return n, err
}

// Ready says that there is more of the body at hand, without waiting.
func (res *Response) Ready() bool { return res.conn != nil && res.conn.in.Buffered() > 0 }

// Close ends the exchange. The connection is kept if the server and the client
// are through with it.
func (res *Response) Close() {
	if res.done {
		return
	}
	res.pool.busy.Add(-1)
	if res.conn == nil {
		res.done = true
		res.closeHTTP2()
		return
	}
	if !res.whole || res.http.Close || !res.uploaded() || res.stop != nil && !res.stop() || res.conn.in.Buffered() > 0 || res.Status == http.StatusSwitchingProtocols {
		res.abort()
		return
	}
	res.done = true
	res.conn.pool.put(res.conn)
}

// uploaded says that the body of the request was sent.
func (res *Response) uploaded() bool {
	if res.sent == nil {
		return true
	}
	res.upload.end()
	err := <-res.sent
	res.sent = nil
	return err == nil
}

// abort closes the connection and waits until nothing is sent on it.
func (res *Response) abort() {
	res.done = true
	if res.stop != nil {
		res.stop()
	}
	res.conn.close()
	if res.sent != nil {
		res.uploaded()
	}
}

// Conn gives the connection of an answer 101, and what was read of it already.
// It ends with the answer.
func (res *Response) Conn() (net.Conn, io.Reader) { return res.conn.net, res.conn.in }

// Broken says that a connection broke, as a server does that ends.
func Broken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// NotConnected says that no connection came about: nothing was sent.
func NotConnected(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
