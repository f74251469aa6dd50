package front

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// response is the answer to a request. Its header is written where the handler
// gives the status, all but its end: what of that says where the body ends may
// be known only when the handler is done.
type response struct {
	conn    *conn
	request *http.Request
	header  http.Header
	status  int   // 0 until the handler gave it
	length  int64 // of the body as the header has it; -1 if it has none
	written int64
	err     error // of the connection

	framed   bool // the header is complete
	chunked  bool
	close    bool // the connection ends with the answer
	typed    bool // the handler said what the body is
	dated    bool
	keeps    bool // and the handler has said so
	limited  bool // the handler gave a deadline
	trailers []string
}

func (w *response) Header() http.Header { return w.header }

// WriteHeader gives the status; one below 200 comes before the answer.
func (w *response) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic("the status " + strconv.Itoa(status) + " cannot be written")
	}
	if w.status != 0 || w.conn.gone {
		return
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		w.hint(status)
		return
	}
	w.status = status
	d := w.conn.desk
	d.out = statusLine(d.out, w.request.ProtoMinor, status)
	for name, values := range w.header {
		if w.ours(name, values) || !isToken(name) {
			continue
		}
		for _, v := range values {
			d.out = appendField(d.out, name, v)
		}
	}
}

// ours says that the server writes a field by itself, or leaves it out, and
// takes what it says.
func (w *response) ours(name string, values []string) bool {
	switch name {
	case "Content-Length":
		if n, err := strconv.ParseUint(strings.Join(values, ","), 10, 63); err == nil {
			w.length = int64(n)
		}
		return true
	case "Transfer-Encoding":
		return true
	case "Connection":
		if hasToken(values, "close") {
			w.close, w.keeps = true, true
		}
	case "Content-Type":
		w.typed = true
		return w.status == http.StatusNotModified
	case "Date":
		w.dated = true
	case "Trailer":
		for _, list := range values {
			for name := range strings.SplitSeq(list, ",") {
				if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); !framing(name) {
					w.trailers = append(w.trailers, name)
				}
			}
		}
	}
	return strings.HasPrefix(name, http.TrailerPrefix)
}

// statusLine appends the first line of an answer.
func statusLine(to []byte, minor, status int) []byte {
	to = append(to, "HTTP/1."...)
	to = append(to, byte('0'+minor), ' ')
	to = strconv.AppendInt(to, int64(status), 10)
	to = append(to, ' ')
	to = append(to, http.StatusText(status)...)
	return append(to, "\r\n"...)
}

// appendField appends a field. A line end in it would end the header, and
// becomes a space.
func appendField(to []byte, name, value string) []byte {
	to = append(append(to, name...), ": "...)
	at := len(to)
	to = append(to, value...)
	for i := at; i < len(to); i++ {
		if to[i] == '\r' || to[i] == '\n' {
			to[i] = ' '
		}
	}
	return append(to, "\r\n"...)
}

// hint sends an answer that comes before the real one.
func (w *response) hint(status int) {
	if w.request.ProtoMinor == 0 { // which knows none
		return
	}
	out := statusLine(nil, 1, status)
	for name, values := range w.header {
		if name == "Content-Length" || name == "Transfer-Encoding" || !isToken(name) {
			continue
		}
		for _, v := range values {
			out = appendField(out, name, v)
		}
	}
	w.conn.desk.out = append(append(w.conn.desk.out, out...), "\r\n"...)
	_ = w.flush() // the real answer fails too then
}

// bodiless says that the answer has no body, whatever its header says.
func (w *response) bodiless() bool {
	return w.status < 200 || w.status == http.StatusNoContent || w.status == http.StatusNotModified
}

// Write sends a part of the body, or keeps it while it may be the whole.
func (w *response) Write(p []byte) (int, error) {
	if w.conn.gone {
		return 0, http.ErrHijacked
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if len(p) == 0 {
		return 0, w.err
	}
	if w.bodiless() {
		return 0, http.ErrBodyNotAllowed
	}
	if w.length >= 0 && w.written+int64(len(p)) > w.length {
		return 0, http.ErrContentLength
	}
	w.written += int64(len(p))
	d := w.conn.desk
	if !w.framed && (w.length < 0 || w.isHead()) && len(d.pending)+len(p) <= pendingBytes {
		d.pending = append(d.pending, p...)
		return len(p), nil
	}
	if !w.framed {
		w.frame(p, false)
	}
	if w.isHead() {
		return len(p), nil
	}
	if err := w.put(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *response) isHead() bool { return w.request.Method == http.MethodHead }

// frame completes the header, with what says where the body ends. Of the body
// there is what is pending, and next; whole says that this is all of it.
func (w *response) frame(next []byte, whole bool) {
	w.framed = true
	c, d := w.conn, w.conn.desk
	if w.status == http.StatusSwitchingProtocols {
		d.out = append(d.out, "\r\n"...)
		return
	}
	if len(d.pending) > 0 {
		next = d.pending
	}
	if !w.typed && len(next) > 0 && w.header.Get("Content-Encoding") == "" {
		d.out = appendField(d.out, "Content-Type", http.DetectContentType(next))
	}
	w.close = w.close || w.request.Close || c.body.invites || c.server.closing.Load() || whole && !c.isWhole()
	switch {
	case w.bodiless():
	case w.length >= 0:
	case whole && len(w.trailers) == 0 && (!w.isHead() || w.written > 0):
		w.length = w.written
	case w.isHead():
	case w.request.ProtoMinor > 0:
		w.chunked = true
		d.out = append(d.out, "Transfer-Encoding: chunked\r\n"...)
	default:
		w.close = true
	}
	if w.length >= 0 && !w.bodiless() {
		d.out = append(strconv.AppendInt(append(d.out, "Content-Length: "...), w.length, 10), "\r\n"...)
	}
	switch {
	case w.keeps:
	case w.close:
		d.out = append(d.out, "Connection: close\r\n"...)
	case w.request.ProtoMinor == 0:
		d.out = append(d.out, "Connection: keep-alive\r\n"...)
	}
	if !w.dated {
		d.out = c.server.appendDate(d.out, time.Now())
	}
	d.out = append(d.out, "\r\n"...)
	if pending := d.pending; len(pending) > 0 && !w.isHead() {
		_ = w.put(pending) // it is noted
	}
	d.pending = d.pending[:0]
}

// put writes a part of the body, after what is there already.
func (w *response) put(p []byte) error {
	d, end := w.conn.desk, ""
	if w.chunked {
		d.out = append(strconv.AppendInt(d.out, int64(len(p)), 16), "\r\n"...)
		end = "\r\n"
	}
	if len(d.out)+len(p)+len(end) <= deskBytes {
		d.out = append(append(d.out, p...), end...)
		return w.err
	}
	return w.send(p, end)
}

// flush writes what is there.
func (w *response) flush() error {
	if len(w.conn.desk.out) == 0 {
		return w.err
	}
	return w.send(nil, "")
}

// send writes what is there, p, and an end.
func (w *response) send(p []byte, end string) error {
	c, d := w.conn, w.conn.desk
	if w.err == nil && !w.limited {
		c.writeBy(time.Now())
	}
	if w.err == nil && w.status >= 200 && !c.begun {
		c.mu.Lock()
		c.begun = true
		c.mu.Unlock()
	}
	if w.err == nil && p == nil {
		_, w.err = c.net.Write(d.out)
	} else if w.err == nil && c.raw == nil { // there each write costs more than a copy
		d.out = append(append(d.out, p...), end...)
		_, w.err = c.net.Write(d.out)
	} else if w.err == nil {
		d.parts = [...][]byte{d.out, p, []byte(end)}
		all := net.Buffers(d.parts[:])
		_, w.err = all.WriteTo(c.net)
		d.parts = [3][]byte{}
	}
	d.out = d.out[:0]
	if w.err != nil {
		c.cancel()
	}
	return w.err
}

// FlushError sends what there is of the answer.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.framed {
		w.frame(nil, false)
	}
	return w.flush()
}

// Flush is FlushError for those who do not ask.
func (w *response) Flush() { _ = w.FlushError() }

// SetReadDeadline is for the body of the request.
func (w *response) SetReadDeadline(at time.Time) error {
	w.conn.readSet.Store(true)
	return w.conn.net.SetReadDeadline(at)
}

// SetWriteDeadline is for the answer.
func (w *response) SetWriteDeadline(at time.Time) error {
	w.limited = true
	return w.conn.net.SetWriteDeadline(at)
}

// EnableFullDuplex is how it is anyway.
func (w *response) EnableFullDuplex() error { return nil }

// Hijack gives the connection away, after what there is of the answer.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.conn.gone {
		return nil, nil, http.ErrHijacked
	}
	if w.status != 0 && !w.framed {
		w.frame(nil, false)
	}
	if err := w.flush(); err != nil {
		return nil, nil, err
	}
	conn, buffered := w.conn.hijack()
	return conn, buffered, nil
}

// finish sends the rest when the handler is done, and says whether there may be
// another request.
func (w *response) finish() (more bool) {
	c := w.conn
	c.settle()
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.framed {
		if !w.close {
			c.body.discard()
		}
		w.frame(nil, true)
	}
	if w.chunked {
		w.appendEnd()
	}
	if w.limited { // by a deadline for another part
		w.limited, c.writeUntil = false, time.Time{}
	}
	if w.flush() != nil || w.close || w.length >= 0 && w.written != w.length && !w.isHead() && !w.bodiless() {
		return false
	}
	c.body.discard()
	return c.body.err == io.EOF
}

// appendEnd appends the last chunk, and what comes behind the body.
func (w *response) appendEnd() {
	d := w.conn.desk
	d.out = append(d.out, "0\r\n"...)
	for name, values := range w.header {
		name, unannounced := strings.CutPrefix(name, http.TrailerPrefix)
		if !unannounced && !slices.Contains(w.trailers, name) || !isToken(name) || framing(name) {
			continue
		}
		for _, v := range values {
			d.out = appendField(d.out, name, v)
		}
	}
	d.out = append(d.out, "\r\n"...)
}
