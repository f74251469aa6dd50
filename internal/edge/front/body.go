package front

import (
	"bytes"
	"io"
	"net/http"
)

const (
	// chunkLine is how long the line before a chunk may be, and excessBytes how
	// much of such lines there may be beyond what the chunks account for.
	chunkLine   = 1 << 10
	excessBytes = 16 << 10
	// trailerBytes is how much may come behind a body.
	trailerBytes = 4 << 10
)

// body is the body of a request. One goroutine at a time reads it.
type body struct {
	conn    *conn
	left    int64 // of the body, or of the chunk that is read
	chunked bool
	inside  bool // a chunk was begun: a line end comes behind it
	invites bool // the client waits until it is told to go on
	excess  int64
	err     error // how it ended
}

// Close does nothing: the server reads what is left.
func (b *body) Close() error { return nil }

func (b *body) Read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.invites {
		b.invites = false
		if err := b.conn.invite(); err != nil {
			return 0, b.fail(err)
		}
	}
	if b.chunked && b.left <= 0 {
		if err := b.nextChunk(); err != nil {
			return 0, b.fail(err)
		}
	}
	n, err = b.conn.take(p[:min(int64(len(p)), b.left)])
	if b.left -= int64(n); err != nil {
		return n, b.fail(err)
	}
	if b.left == 0 && !b.chunked {
		return n, b.fail(io.EOF)
	}
	return n, nil
}

// fail notes how the body ended.
func (b *body) fail(err error) error {
	if b.err = err; err == io.EOF {
		b.conn.ended()
	}
	return err
}

// nextChunk reads up to the next chunk; io.EOF says that there is none.
func (b *body) nextChunk() (err error) {
	c := b.conn
	if b.inside {
		if end, err := c.line(len("\r\n")); err != nil || len(end) > 0 {
			return errIn(err, errChunk)
		}
	}
	line, err := c.line(chunkLine)
	if err != nil {
		return err
	}
	if b.left, err = parseChunk(line); err != nil {
		return err
	}
	// A byte a chunk is fine, but not a chunk of a byte with a long extension.
	if b.excess = max(0, b.excess+int64(len(line))-16-2*b.left); b.excess > excessBytes {
		return errChunk
	}
	if b.inside = b.left > 0; b.inside {
		return nil
	}
	return b.readTrailer()
}

// errIn gives the first error there is.
func errIn(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// readTrailer reads what comes behind the last chunk.
func (b *body) readTrailer() error {
	var text []byte
	for {
		line, err := b.conn.line(trailerBytes - len(text))
		if err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		text = append(append(text, line...), "\r\n"...)
	}
	if len(text) == 0 {
		return io.EOF
	}
	trailer := http.Header{}
	if err := parseFields(trailer, string(text)); err != nil {
		return err
	}
	r := &b.conn.request
	if r.Trailer == nil {
		r.Trailer = http.Header{}
	}
	for name, values := range trailer {
		if framing(name) || name == "Host" {
			return errChunk
		}
		r.Trailer[name] = values
	}
	return io.EOF
}

// discard reads what is left of the body, unless it is too much.
func (b *body) discard() {
	if b.err != nil || b.invites || !b.chunked && b.left > discardBytes {
		return
	}
	b.conn.readWithin(discardTime)
	_, _ = io.CopyN(io.Discard, b, discardBytes+1) // how it ended is noted
}

// take reads a part of a body.
func (c *conn) take(p []byte) (n int, err error) {
	if d := c.desk; d.from < d.to {
		n = copy(p, d.in[d.from:d.to])
		d.from += n
		return n, nil
	}
	n, err = c.net.Read(p)
	if n > 0 {
		err = nil // if it stays, it comes again
	}
	return n, c.lost(err)
}

// line reads a line of at most so many bytes, and gives it without its end. It
// is good until something else is read.
func (c *conn) line(most int) ([]byte, error) {
	for d := c.desk; ; {
		at := d.in[d.from:d.to]
		end := bytes.IndexByte(at, '\n')
		switch {
		case end > most, end < 0 && len(at) > most, end == 0 || end > 0 && at[end-1] != '\r':
			return nil, errChunk
		case end > 0:
			d.from += end + 1
			return at[:end-1], nil
		}
		if err := c.fill(); err != nil {
			return nil, c.lost(err)
		}
	}
}

// lost notes that the client can say no more.
func (c *conn) lost(err error) error {
	if err != nil {
		c.cancel()
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// invite tells a client to send the body, unless it has its answer already.
func (c *conn) invite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun {
		return nil
	}
	_, err := io.WriteString(c.net, "HTTP/1.1 100 Continue\r\n\r\n")
	return err
}
