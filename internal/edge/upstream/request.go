package upstream

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Request is what a server is asked.
type Request struct {
	Method, URI, Host string
	// Header is the client's. What is meant for the edge alone is left out,
	// and so is what Set has; it is not changed.
	Header http.Header
	Set    []Field

	Body    io.Reader               // nil for none
	Length  int64                   // of the body; -1 if it is not known
	Trailer func() http.Header      // what came behind the body, asked for at its end; nil for none
	Upgrade string                  // the protocol that the client wants to change to, "" for none
	Timeout time.Duration           // until the answer's header, without the time that the body is waited for
	Hint    func(int, http.Header)  // is told of answers with a status below 200; may be nil
	Waiting func(forTheClient bool) // is told when the body is waited for and when it came; may be nil
	// Interrupt ends a read of Body that waits, where the answer is complete
	// before the body is.
	Interrupt func()
}

// Field is a field of a header, its name in canonical form.
type Field struct{ Name, Value string }

// repeatable says that asking twice does the same as asking once.
func (r *Request) repeatable() bool { return r.Body == nil && Idempotent(r.Method) }

// Idempotent says that a request of that method may be repeated.
func Idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// hop says that a field is about one connection and must not go further. The
// length of a body is written by whoever sends it.
func hop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length":
		return true
	}
	return false
}

// named gives the fields that Connection names: they are about one connection too.
func named(h http.Header) []string {
	var names []string
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, http.CanonicalHeaderKey(name))
			}
		}
	}
	return names
}

// CopyHeader copies what is meant for who is at the other end.
func CopyHeader(to, from http.Header) {
	drop := named(from)
	for name, values := range from {
		if name != "Content-Length" && hop(name) || isIn(drop, name) {
			continue
		}
		to[name] = values
	}
}

func isIn(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// accepts says that the client takes trailers: gRPC asks for that.
func accepts(h http.Header) bool {
	for _, list := range h["Te"] {
		for coding := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(coding), "trailers") {
				return true
			}
		}
	}
	return false
}

// head appends the request's header as HTTP/1.1 writes it.
func (r *Request) head(to []byte) []byte {
	to = append(to, r.Method...)
	to = append(to, ' ')
	to = append(to, r.URI...)
	to = append(to, " HTTP/1.1\r\nHost: "...)
	to = append(to, r.Host...)
	to = append(to, "\r\n"...)
	drop := named(r.Header)
	for name, values := range r.Header {
		if hop(name) || isIn(drop, name) || r.sets(name) {
			continue
		}
		for _, v := range values {
			to = field(to, name, v)
		}
	}
	for _, f := range r.Set {
		if f.Value != "" {
			to = field(to, f.Name, f.Value)
		}
	}
	if accepts(r.Header) {
		to = append(to, "Te: trailers\r\n"...)
	}
	switch {
	case r.Upgrade != "":
		to = field(append(to, "Connection: Upgrade\r\n"...), "Upgrade", r.Upgrade)
	case r.Body != nil && r.Length < 0:
		to = append(to, "Transfer-Encoding: chunked\r\n"...)
	case r.Body != nil || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		to = strconv.AppendInt(append(to, "Content-Length: "...), max(0, r.Length), 10)
		to = append(to, "\r\n"...)
	}
	return append(to, "\r\n"...)
}

func (r *Request) sets(name string) bool {
	for i := range r.Set {
		if r.Set[i].Name == name {
			return true
		}
	}
	return false
}

// field appends a field. The server that read it has refused line ends in it;
// one that got there on another way would end the header, and becomes a space.
func field(to []byte, name, value string) []byte {
	to = append(append(to, name...), ": "...)
	if strings.ContainsAny(value, "\r\n") {
		value = strings.NewReplacer("\r", " ", "\n", " ").Replace(value)
	}
	return append(append(to, value...), "\r\n"...)
}
