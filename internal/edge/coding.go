package edge

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"weak"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// coding is a way to send text in fewer bytes.
type coding struct {
	name   string // in Content-Encoding
	suffix string // of an object that holds another one so encoded
	encode func(io.Writer) (io.WriteCloser, error)
	decode func(io.Reader) (io.Reader, error)
}

// codings are in the order of what they save; the levels are those at which an
// object is worth the wait of the one who asks for it first.
func codings() []coding {
	return []coding{
		{"br", ".br",
			func(w io.Writer) (io.WriteCloser, error) { return brotli.NewWriterLevel(w, 6), nil },
			func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil }},
		{"zstd", ".zst",
			func(w io.Writer) (io.WriteCloser, error) {
				return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
			},
			func(r io.Reader) (io.Reader, error) {
				d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(4*objectBytes))
				if err != nil {
					return nil, err
				}
				return d.IOReadCloser(), nil
			}},
		{"gzip", ".gz",
			func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, 6) },
			func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	}
}

// Objects smaller than this are sent as they are, as CloudFront does.
const compressBytes = 1000

// compressible says whether an object is text that is worth a coding.
func compressible(o *object) bool {
	_, asIs := directives(o.header.Get("Cache-Control"))["no-transform"]
	if asIs || len(o.body) < compressBytes || o.header.Get("Content-Encoding") != "" {
		return false
	}
	kind, _, err := mime.ParseMediaType(o.header.Get("Content-Type"))
	if err != nil {
		return false
	}
	switch kind {
	case "application/javascript", "application/json", "application/xml", "application/wasm", "application/manifest+json",
		"application/rss+xml", "application/atom+xml", "application/xhtml+xml", "application/vnd.ms-fontobject", "font/ttf", "font/otf", "image/svg+xml", "image/x-icon", "image/bmp":
		return true
	}
	return strings.HasPrefix(kind, "text/")
}

// preferred gives the coding that a client likes best of those there are, ok
// false where it is none of them.
func preferred(r *http.Request) (best coding, ok bool) {
	likes := map[string]float64{}
	for part := range strings.SplitSeq(strings.ToLower(strings.Join(r.Header.Values("Accept-Encoding"), ",")), ",") {
		name, parameter, _ := strings.Cut(strings.TrimSpace(part), ";")
		quality := 1.0
		if value, given := strings.CutPrefix(strings.TrimSpace(parameter), "q="); given {
			var err error
			if quality, err = strconv.ParseFloat(value, 64); err != nil {
				quality = 0
			}
		}
		likes[strings.TrimSpace(name)] = quality
	}
	most := 0.0
	for _, c := range codings() {
		quality, named := likes[c.name]
		if !named {
			quality = likes["*"]
		}
		if quality > most {
			best, most = c, quality
		}
	}
	return best, most > 0 && most >= likes["identity"]
}

// encoded gives an object in the coding that the client likes best, or as it
// is: where it is no text, or only a part of it is wanted, since the parts of a
// coding are of no use to who has the rest without it.
func (x *exchange) encoded(r *http.Request, s *site, name string, o *object) *object {
	if !s.Compress || r.Header.Get("Range") != "" || !compressible(o) {
		return o
	}
	c, ok := preferred(r)
	if !ok {
		return o
	}
	k := key{s.Name, name, c.name}
	e := x.plane.cache.get(k)
	if e == nil || e.plain != weak.Make(&o.body[0]) {
		var err error
		e, err = x.plane.cache.fetch(r.Context(), k, e, func() (*object, error) { return x.plane.encode(r.Context(), s, name, o, c) })
		if err != nil || e.plain != weak.Make(&o.body[0]) {
			return o // the client left, or the object has changed meanwhile
		}
	}
	if len(e.body) == 0 {
		return o
	}
	// The terms are those of the object, which may have been renewed since.
	return &object{status: o.status, header: encodedHeader(o.header, c), body: e.body, stored: o.stored}
}

// encodedHeader is an object's header in a coding. The tag becomes a weak one:
// it is that of the same content in other bytes.
func encodedHeader(plain http.Header, c coding) http.Header {
	h := plain.Clone()
	h.Set("Content-Encoding", c.name)
	if tag := h.Get("Etag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		h.Set("Etag", "W/"+tag)
	}
	return h
}

// encode gives an object in a coding: as it was published beside it, if that
// holds the same, else as it is encoded here. One that does not get smaller has
// no body. It is kept as long as there is place, beside the object.
func (p *plane) encode(ctx context.Context, s *site, name string, o *object, c coding) (*object, error) {
	e := &object{status: http.StatusOK, plain: weak.Make(&o.body[0])}
	if !o.expires.IsZero() {
		e.expires = o.stored.Add(forever)
	}
	published, err := p.published(ctx, s, name, o, c)
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	if err == nil {
		e.body = published
		return e, nil
	}
	var out bytes.Buffer
	w, err := c.encode(&out)
	if err != nil {
		return nil, err
	}
	if _, err = w.Write(o.body); err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s as %s: %w", name, c.name, err)
	}
	if out.Len() < len(o.body) {
		e.body = out.Bytes()
	}
	return e, nil
}

// errOther says that what is published beside an object does not hold the same.
var errOther = errors.New("it holds something else")

// published gets what is published beside an object in a coding, an error if
// there is none or it holds something else.
func (p *plane) published(ctx context.Context, s *site, name string, o *object, c coding) ([]byte, error) {
	beside, err := p.askOrigin(ctx, s, name+c.suffix, nil)
	if err != nil {
		return nil, err
	}
	if beside.status != http.StatusOK {
		return nil, fmt.Errorf("the origin answers %d for %s", beside.status, name+c.suffix)
	}
	r, err := c.decode(bytes.NewReader(beside.body))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(r, int64(len(o.body))+1))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(plain, o.body) {
		return nil, errOther
	}
	return beside.body, nil
}
