package front

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// What can be read in two ways is refused, even where a standard lets one
// choose: a proxy before the edge or a server behind it may choose otherwise,
// and then a request hides in another one.

// refusal is why a request is not served, and the status that says so.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

func bad(format string, args ...any) error {
	return &refusal{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// parse reads the header of a request into r, whose own header is an empty
// map. Each line of text, the last too, has its line end.
func parse(r *http.Request, text string) error {
	line, fields, _ := strings.Cut(text, "\r\n")
	if err := parseLine(r, line); err != nil {
		return err
	}
	if err := parseFields(r.Header, fields); err != nil {
		return err
	}
	if err := parseHost(r); err != nil {
		return err
	}
	return parseLength(r)
}

// parseLine reads the first line.
func parseLine(r *http.Request, line string) (err error) {
	method, rest, _ := strings.Cut(line, " ")
	target, proto, _ := strings.Cut(rest, " ")
	if !isToken(method) {
		return bad("the first line is no request")
	}
	switch major, minor, ok := http.ParseHTTPVersion(proto); {
	case !ok:
		return bad("the first line is no request")
	case major != 1 || minor > 1:
		return &refusal{http.StatusHTTPVersionNotSupported, "only HTTP/1.0 and HTTP/1.1 are spoken so"}
	default:
		r.Proto, r.ProtoMajor, r.ProtoMinor = proto, major, minor
	}
	r.Method, r.RequestURI = method, target
	authority := method == http.MethodConnect && !strings.HasPrefix(target, "/")
	if authority {
		target = "http://" + target
	}
	if r.URL, err = url.ParseRequestURI(target); err != nil {
		return bad("the target is no URI")
	}
	if authority {
		r.URL.Scheme = ""
	}
	return nil
}

// parseFields reads the fields of a header, or of what comes behind a body.
func parseFields(to http.Header, text string) error {
	values := make([]string, 0, strings.Count(text, "\n"))
	for text != "" {
		var line string
		line, text, _ = strings.Cut(text, "\r\n")
		name, value, found := strings.Cut(line, ":")
		if !found || !isToken(name) { // a line that goes on the one before begins with a space
			return bad("a line of the header is no field")
		}
		value = strings.Trim(value, " \t")
		if !isValue(value) {
			return bad("the field %s has a control character", name)
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		if before, has := to[name]; has {
			to[name] = append(before, value)
			continue
		}
		n := len(values)
		values = append(values, value)
		to[name] = values[n : n+1 : n+1] // what is appended goes elsewhere
	}
	return nil
}

// parseHost takes the host from the target or the header.
func parseHost(r *http.Request) error {
	hosts := r.Header["Host"]
	switch {
	case len(hosts) > 1:
		return bad("there are %d fields Host", len(hosts))
	case len(hosts) == 0 && r.ProtoMinor > 0 && r.Method != http.MethodConnect:
		return bad("the field Host is missing")
	case len(hosts) == 1 && !isHost(hosts[0]):
		return bad("the field Host has a letter that no host name has")
	}
	if r.Host = r.URL.Host; r.Host == "" && len(hosts) == 1 {
		r.Host = hosts[0]
	}
	delete(r.Header, "Host")
	return nil
}

// parseLength finds out whether there is a body, and where it ends.
func parseLength(r *http.Request) error {
	lengths, codings := r.Header["Content-Length"], r.Header["Transfer-Encoding"]
	connection := r.Header["Connection"]
	r.Close = hasToken(connection, "close") || r.ProtoMinor == 0 && !hasToken(connection, "keep-alive")
	switch {
	case len(codings) > 0 && len(lengths) > 0:
		return bad("the request says in two ways how long it is")
	case len(codings) > 0 && r.ProtoMinor == 0:
		return bad("HTTP/1.0 has no Transfer-Encoding")
	case len(codings) > 1 || len(codings) == 1 && !equalFold(codings[0], "chunked"):
		return &refusal{http.StatusNotImplemented, "only the transfer coding chunked is known"}
	case len(codings) == 1:
		delete(r.Header, "Transfer-Encoding")
		r.TransferEncoding, r.ContentLength = []string{"chunked"}, -1
		return parseAnnounced(r)
	case len(lengths) > 1:
		return bad("there are %d fields Content-Length", len(lengths))
	case len(lengths) == 1:
		n, err := strconv.ParseUint(lengths[0], 10, 63) // which takes no sign
		if err != nil {
			return bad("the Content-Length is no number")
		}
		r.ContentLength = int64(n)
	}
	return nil
}

// framing says that a field says where a message ends: it has no place behind a body.
func framing(name string) bool {
	return name == "Transfer-Encoding" || name == "Content-Length" || name == "Trailer"
}

// parseAnnounced notes which fields are to come behind the body.
func parseAnnounced(r *http.Request) error {
	for _, list := range r.Header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			name = textproto.CanonicalMIMEHeaderKey(strings.Trim(name, " \t"))
			if framing(name) {
				return bad("the field %s cannot come behind the body", name)
			}
			if name == "" {
				continue
			}
			if r.Trailer == nil {
				r.Trailer = http.Header{}
			}
			r.Trailer[name] = nil
		}
	}
	delete(r.Header, "Trailer")
	return nil
}

var errChunk = errors.New("the chunks of the body are malformed")

// parseChunk reads the line before a chunk: its size, perhaps with extensions,
// which nobody uses.
func parseChunk(line []byte) (size int64, err error) {
	digits := 0
	for ; digits < len(line) && line[digits] != ';'; digits++ {
		c := line[digits]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, errChunk
		}
		size = size<<4 | int64(c)
	}
	if digits == 0 || digits > 15 || !isValue(string(line[digits:])) {
		return 0, errChunk
	}
	return size, nil
}

// hasToken says whether lists of words have one.
func hasToken(lists []string, word string) bool {
	for _, list := range lists {
		for w := range strings.SplitSeq(list, ",") {
			if equalFold(strings.Trim(w, " \t"), word) {
				return true
			}
		}
	}
	return false
}

// equalFold compares with a word of ASCII: a letter from elsewhere that folds to
// one of its letters is longer.
func equalFold(text, word string) bool {
	return len(text) == len(word) && strings.EqualFold(text, word)
}

func isLetterOrDigit(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// isToken says that a text can be a method or the name of a field.
func isToken(text string) bool {
	for i := 0; i < len(text); i++ {
		if c := text[i]; !isLetterOrDigit(c) && c != '-' && strings.IndexByte("!#$%&'*+.^_`|~", c) < 0 {
			return false
		}
	}
	return text != ""
}

// isValue says that a text can be the value of a field.
func isValue(text string) bool {
	for i := 0; i < len(text); i++ {
		if c := text[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isHost says that a text has only what a host and its port have.
func isHost(text string) bool {
	for i := 0; i < len(text); i++ {
		if c := text[i]; !isLetterOrDigit(c) && strings.IndexByte("-.:[]_~!$%&'()*+,;=", c) < 0 {
			return false
		}
	}
	return true
}
