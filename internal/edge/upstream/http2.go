package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// newHTTP2 is how a server is asked over HTTP/2 without TLS.
func newHTTP2(dial func(context.Context) (net.Conn, error)) *http.Transport {
	t := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		Protocols:              new(http.Protocols),
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		IdleConnTimeout:        90 * time.Second, // such a server says when it goes away
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

func (p *Pool) sendHTTP2(ctx context.Context, r *Request) (*Response, error) {
	target, err := url.ParseRequestURI(r.URI)
	if err != nil {
		return nil, fmt.Errorf("ask for %q: %w", r.URI, err)
	}
	target.Scheme, target.Host = "http", p.address
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(r.Timeout, func() { cancel(ErrNoAnswer) })
	clock := &clock{limit: r.Timeout, set: func(at time.Time) {
		if timer.Stop(); !at.IsZero() {
			timer.Reset(time.Until(at))
		}
	}}
	if r.Timeout == 0 {
		timer.Stop()
	}
	out := (&http.Request{Method: r.Method, URL: target, Host: r.Host, Header: http.Header{}, ContentLength: r.Length}).WithContext(ctx)
	CopyHeader(out.Header, r.Header)
	out.Header.Del("Content-Length")
	for _, f := range r.Set {
		if f.Value == "" {
			delete(out.Header, f.Name)
		} else {
			out.Header[f.Name] = []string{f.Value}
		}
	}
	if accepts(r.Header) {
		out.Header["Te"] = []string{"trailers"}
	}
	res := &Response{stop: func() bool { cancel(nil); return true }}
	if r.Body != nil {
		res.upload = &upload{request: r, clock: clock}
		out.Body = res.upload
	}
	answer, err := p.h2.RoundTrip(out)
	clock.pause()
	clock.stop()
	if err != nil {
		broken := res.upload != nil && res.upload.broken.Load()
		cause := context.Cause(ctx)
		if cause != nil {
			err = cause
		}
		res.closeHTTP2()
		broken = broken || errors.Is(cause, context.Canceled) && res.upload != nil && res.upload.failed.Load()
		if broken {
			return nil, errors.Join(ErrBody, err)
		}
		return nil, err
	}
	res.http, res.Status, res.Header, res.Length = answer, answer.StatusCode, answer.Header, answer.ContentLength
	res.Trailer = func() http.Header { return answer.Trailer }
	return res, nil
}

// closeHTTP2 ends the stream, and returns when nothing reads the client's body.
func (res *Response) closeHTTP2() {
	if res.http != nil {
		_ = res.http.Body.Close() // always nil
	}
	res.stop()
	if res.upload != nil {
		res.upload.end()
	}
}
