package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// ErrBody says that the body of the request is not what its header promised,
// or that the client left.
var ErrBody = errors.New("the body of the request is broken")

// upload is the client's body on its way to a server.
type upload struct {
	request *Request
	clock   *clock
	sent    int64 // bytes that were read

	mu     sync.Mutex // held while the body is read
	inRead atomic.Bool
	ended  atomic.Bool // the exchange is over: nothing is read any more
	broken atomic.Bool // by the client
	failed atomic.Bool // by whomever
}

func (u *upload) Read(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.inRead.Store(true) // before it is looked whether to end: end looks the other way round
	defer u.inRead.Store(false)
	if u.ended.Load() { // and the request is nobody's any more
		return 0, net.ErrClosed
	}
	if u.request.Length >= 0 && u.sent == u.request.Length {
		return 0, io.EOF
	}
	u.wait(true)
	n, err := u.request.Body.Read(b)
	u.wait(false)
	u.sent += int64(n)
	if err == io.EOF && u.request.Length >= 0 && u.sent < u.request.Length {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		u.failed.Store(true)
		if !u.ended.Load() {
			u.broken.Store(true)
		}
		err = fmt.Errorf("%w: %w", ErrBody, err)
	}
	return n, err
}

// wait tells that the client is waited for: the server is not at fault then.
func (u *upload) wait(is bool) {
	if is {
		u.clock.pause()
	} else {
		u.clock.resume()
	}
	if u.request.Waiting != nil {
		u.request.Waiting(is)
	}
}

// Close does nothing: the body is the client's connection, and another server
// may be asked with it.
func (u *upload) Close() error { return nil }

// end reads no more, and returns when nothing reads.
func (u *upload) end() {
	u.ended.Store(true)
	if u.inRead.Load() && u.request.Interrupt != nil {
		u.request.Interrupt()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
}

// copyTo writes the body as HTTP/1.1 does.
func (u *upload) copyTo(w io.Writer) error {
	buffer := Buffer()
	defer Release(buffer)
	const room = 10 // for the size of a chunk and its line ends
	for {
		n, err := u.Read(buffer[room : len(buffer)-2])
		part := buffer[room : room+n]
		if n > 0 && u.request.Length < 0 {
			size := strconv.AppendInt(make([]byte, 0, room), int64(n), 16)
			size = append(size, "\r\n"...)
			part = buffer[room-len(size) : room+n+2]
			copy(part, size)
			copy(part[len(part)-2:], "\r\n")
		}
		if n > 0 {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		switch {
		case u.request.Length >= 0 && u.sent == u.request.Length: // not read further: the answer may be there, and this ended
			return nil
		case err == io.EOF && u.request.Length < 0:
			_, err := w.Write(u.request.lastChunk())
			return err
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// lastChunk is what ends a body of unknown length.
func (r *Request) lastChunk() []byte {
	last := []byte("0\r\n")
	if r.Trailer != nil {
		for name, values := range r.Trailer() {
			for _, v := range values {
				if !hop(name) {
					last = field(last, name, v)
				}
			}
		}
	}
	return append(last, "\r\n"...)
}

// clock ends the wait for an answer's header. It stands while the client's
// body is waited for.
type clock struct {
	limit  time.Duration
	set    func(time.Time) // the zero time for never
	mu     sync.Mutex
	closed bool
}

func (c *clock) pause()  { c.to(time.Time{}) }
func (c *clock) resume() { c.to(time.Now().Add(c.limit)) }

func (c *clock) to(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && c.limit > 0 {
		c.set(at)
	}
}

// stop ends the clock: the header has come.
func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

// buffers are what bodies are copied through.
var buffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

const bufferBytes = 32 << 10

// Buffer lends a buffer to copy a body through, until it is given to Release.
func Buffer() []byte { return buffers.Get().(*[bufferBytes]byte)[:] }

// Release takes a buffer back.
func Release(b []byte) { buffers.Put((*[bufferBytes]byte)(b)) }
