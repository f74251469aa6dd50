package front

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

const host = "Host: a.localhost\r\n"

// heads are headers without their last line, by the status they are refused
// with, 0 for those that are served.
func heads() map[string]int {
	return map[string]int{
		"GET / HTTP/1.1\r\n" + host: 0,
		"GET /a%2Fb//c?x=1;y=%zz HTTP/1.1\r\nhost: [::1]:80\r\nx: \t a b \t\r\nX: c\r\nx:\r\n":                    0,
		"GET http://b.localhost/x HTTP/1.1\r\n" + host:                                                            0,
		"OPTIONS * HTTP/1.1\r\n" + host:                                                                           0,
		"CONNECT b.localhost:443 HTTP/1.1\r\n":                                                                    0,
		"GET / HTTP/1.0\r\n":                                                                                      0,
		"GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n":                                                         0,
		"GET / HTTP/1.1\r\nConnection: x ,CLOSE\r\n" + host:                                                       0,
		"GET / HTTP/1.1\r\nConnection: clo\u017fe\r\n" + host:                                                     0,
		"GET / HTTP/1.1\r\nPragma: no-cache\r\n" + host:                                                           0,
		"POST / HTTP/1.1\r\nContent-Length: 0004\r\n" + host:                                                      0,
		"POST / HTTP/1.1\r\ntransfer-encoding:ChunKed\r\nTrailer: x-sum, Y\r\n" + host:                            0,
		"POST / HTTP/1.1\r\nTransfer-Encoding: chun\u212aed\r\n" + host:                                           501,
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: content-length\r\n" + host:                     400,
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n" + host:                           400,
		"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n" + host:                           400,
		"POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\nContent-Length: 4\r\n" + host:                          400,
		"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n" + host:                                          501,
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" + host:                  501,
		"POST / HTTP/1.1\r\nTransfer-Encoding:\r\n" + host:                                                        501,
		"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n":                                                       400,
		"POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n" + host:                                               400,
		"POST / HTTP/1.1\r\nTransfer-Encoding:\x0bchunked\r\n" + host:                                             400,
		"POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n" + host:                                    400,
		"POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 4\r\n" + host:                                    400,
		"POST / HTTP/1.1\r\nContent-Length: 4, 4\r\n" + host:                                                      400,
		"POST / HTTP/1.1\r\nContent-Length: +4\r\n" + host:                                                        400,
		"POST / HTTP/1.1\r\nContent-Length: -4\r\n" + host:                                                        400,
		"POST / HTTP/1.1\r\nContent-Length: 0x4\r\n" + host:                                                       400,
		"POST / HTTP/1.1\r\nContent-Length: 4_0\r\n" + host:                                                       400,
		"POST / HTTP/1.1\r\nContent-Length:\r\n" + host:                                                           400,
		"POST / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n" + host:                                       400,
		"GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n":                                                            400,
		"GET / HTTP/1.1\r\n X: a\r\n" + host:                                                                      400,
		"GET / HTTP/1.1\r\n" + host + "X: a\nY: b\r\n":                                                            400,
		"GET / HTTP/1.1\n" + host:                                                                                 400,
		"GET / HTTP/1.1\r\n" + host + "X: a\rb\r\n":                                                               400,
		"GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n":                                                             400,
		"GET / HTTP/1.1\r\n" + host + "X\r\n":                                                                     400,
		"GET / HTTP/1.1\r\n" + host + ": a\r\n":                                                                   400,
		"GET / HTTP/1.1\r\n" + host + "X Y: a\r\n":                                                                400,
		"GET / HTTP/1.1\r\n" + host + "\u00fc: a\r\n":                                                             400,
		"GET / HTTP/1.1\r\n" + host + host:                                                                        400,
		"GET / HTTP/1.1\r\n":                                                                                      400,
		"GET / HTTP/1.1\r\nHost: a b\r\n":                                                                         400,
		"GET / HTTP/1.1\r\nHost: a/b\r\n":                                                                         400,
		"\r\nGET / HTTP/1.1\r\n" + host:                                                                           400,
		"GET /a b HTTP/1.1\r\n" + host:                                                                            400,
		"GET  / HTTP/1.1\r\n" + host:                                                                              400,
		"GET / HTTP/1.1 \r\n" + host:                                                                              400,
		"GET / http/1.1\r\n" + host:                                                                               400,
		"GET /\r\n" + host:                                                                                        400,
		"G(T / HTTP/1.1\r\n" + host:                                                                               400,
		"GET a HTTP/1.1\r\n" + host:                                                                               400,
		"GET /\x7f HTTP/1.1\r\n" + host:                                                                           400,
		"GET / HTTP/2.0\r\n" + host:                                                                               505,
		"GET / HTTP/1.2\r\n" + host:                                                                               505,
		"GET / HTTP/0.9\r\n" + host:                                                                               505,
		"PRI * HTTP/2.0\r\n":                                                                                      505,
		"GET / HTTP/1.1\r\n" + host + strings.Repeat("X: a\r\n", 50) + "x: b\r\n" + strings.Repeat("Y: c\r\n", 3): 0,
	}
}

func parsed(text string) (*http.Request, error) {
	r := &http.Request{Header: http.Header{}}
	return r, parse(r, text)
}

func TestParse(t *testing.T) {
	for text, want := range heads() {
		_, err := parsed(text)
		if r, is := err.(*refusal); is && r.status != want || !is && want != 0 {
			t.Errorf("%q: got %v, want %d", text, err, want)
		}
	}
}

// FuzzParse compares with what net/http reads: what it refuses is refused, and
// what both take is the same.
func FuzzParse(f *testing.F) {
	for text := range heads() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text, _, _ = strings.Cut(text+"\r\n\r\n", "\r\n\r\n")
		text += "\r\n"
		got, err := parsed(text)
		if err != nil {
			return
		}
		want, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text + "\r\n")))
		if err != nil {
			t.Fatalf("%q is taken, but not by net/http: %v", text, err)
		}
		if want.Header.Get("Pragma") == "no-cache" && got.Header["Cache-Control"] == nil {
			delete(want.Header, "Cache-Control") // it adds one
		}
		want.Body, got.Body, want.Pattern = nil, nil, ""
		for _, pair := range [][2]any{
			{got.Method, want.Method}, {got.RequestURI, want.RequestURI}, {got.URL, want.URL}, {got.Proto, want.Proto}, {got.ProtoMajor, want.ProtoMajor},
			{got.ProtoMinor, want.ProtoMinor}, {got.Header, want.Header}, {got.Host, want.Host}, {got.ContentLength, want.ContentLength},
			{got.TransferEncoding, want.TransferEncoding}, {got.Close, want.Close}, {got.Trailer, want.Trailer},
		} {
			if !reflect.DeepEqual(pair[0], pair[1]) {
				t.Errorf("%q: got %v, net/http says %v", text, pair[0], pair[1])
			}
		}
	})
}

// bodies are chunked bodies, by what is in them; "!" stands for none.
func bodies() map[string]string {
	return map[string]string{
		"0\r\n\r\n":              "",
		"4\r\nabcd\r\n0\r\n\r\n": "abcd",
		"4\r\nabcd\r\n0a\r\n0123456789\r\n00\r\n\r\nGET":              "abcd0123456789",
		"4;x=y\r\nabcd\r\n0;z\r\n\r\n":                                "abcd",
		"1\r\na\r\n0\r\nX-Sum: 3\r\nY: z\r\n\r\n":                     "a",
		"1\r\na\r\n0\r\nContent-Length: 3\r\n\r\n":                    "!",
		"1\r\na\r\n0\r\nX : 3\r\n\r\n":                                "!",
		"1\r\na\r\n0\r\nX: 3\n\r\n":                                   "!",
		"1\r\na\r\n0\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n": "!",
		"1\r\na":                                 "!",
		"4\r\nabcd":                              "!",
		"4\r\nabcd\r\n":                          "!",
		"4\r\nabcdef\r\n0\r\n\r\n":               "!",
		"4\nabcd\n0\n\n":                         "!",
		"4\r\nabcd\n0\r\n\r\n":                   "!",
		"4 \r\nabcd\r\n0\r\n\r\n":                "!",
		" 4\r\nabcd\r\n0\r\n\r\n":                "!",
		"0x4\r\nabcd\r\n0\r\n\r\n":               "!",
		"+4\r\nabcd\r\n0\r\n\r\n":                "!",
		"-1\r\nabcd\r\n0\r\n\r\n":                "!",
		"\r\n":                                   "!",
		";x\r\n\r\n":                             "!",
		"4;\x00\r\nabcd\r\n0\r\n\r\n":            "!",
		"4;a\rb\r\nabcd\r\n0\r\n\r\n":            "!",
		"ffffffffffffffff\r\nabcd":               "!",
		"10000000000000004\r\nabcd\r\n0\r\n\r\n": "!",
		"4;" + strings.Repeat("x", 2000) + "\r\nabcd\r\n0\r\n\r\n":                  "!",
		strings.Repeat("1;"+strings.Repeat("x", 900)+"\r\na\r\n", 20) + "0\r\n\r\n": "!",
		strings.Repeat("1\r\na\r\n", 5000) + "0\r\n\r\n":                            strings.Repeat("a", 5000),
		"2710\r\n" + strings.Repeat("b", 10000) + "\r\n0\r\n\r\n":                   strings.Repeat("b", 10000),
	}
}

// script is a connection that says a text.
type script struct {
	net.Conn
	text io.Reader
}

func (s script) Read(p []byte) (int, error)      { return s.text.Read(p) }
func (s script) SetReadDeadline(time.Time) error { return nil }

// readBody reads a chunked body, and gives what comes behind it.
func readBody(text string) (body, rest []byte, trailer http.Header, err error) {
	s := &Server{}
	c := &conn{server: s, net: script{text: strings.NewReader(text)}, cancel: func() {}, desk: s.desk()}
	c.body.conn, c.body.chunked, c.body.left = c, true, -1
	body, err = io.ReadAll(&c.body)
	rest, _ = io.ReadAll(c.net)
	return body, append(bytes.Clone(c.desk.in[c.desk.from:c.desk.to]), rest...), c.request.Trailer, err
}

func TestChunks(t *testing.T) {
	for text, want := range bodies() {
		body, _, _, err := readBody(text)
		if (err != nil) != (want == "!") || err == nil && string(body) != want {
			t.Errorf("%.100q: got %.100q %v", text, body, err)
		}
	}
}

// FuzzChunks compares with what net/http reads, as FuzzParse does.
func FuzzChunks(f *testing.F) {
	for text := range bodies() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, rest, trailer, err := readBody(text)
		if err != nil {
			return
		}
		in := bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + text))
		r, err := http.ReadRequest(in)
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatalf("%q is taken, but not by net/http: %v", text, err)
		}
		behind, _ := io.ReadAll(in)
		if !bytes.Equal(got, want) || !bytes.Equal(rest, behind) || len(trailer)+len(r.Trailer) > 0 && !reflect.DeepEqual(trailer, r.Trailer) {
			t.Errorf("%q: got %q, %v and %q, net/http says %q, %v and %q", text, got, trailer, rest, want, r.Trailer, behind)
		}
	})
}
