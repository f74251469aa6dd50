package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"makeitso/internal/fault"
)

// maxConfig is how large a configuration document may be.
const maxConfig = 16 << 20

// invalidation is the body of POST /invalidate.
type invalidation struct {
	Site  string   `json:"site"`
	Paths []string `json:"paths"`
}

// failure is the body of an answer that is not 200.
type failure struct {
	Code    fault.Code `json:"code"`
	Message string     `json:"message"`
	Hint    string     `json:"hint,omitempty"`
}

// control is the handler behind the socket.
func (p *plane) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /config", func(w http.ResponseWriter, r *http.Request) {
		var c Config
		err := decode(w, r, &c)
		if err == nil {
			err = p.apply(c)
		}
		answer(w, struct{}{}, err)
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, r *http.Request) {
		answer(w, p.stats(r.Context()), nil)
	})
	mux.HandleFunc("GET /watch", p.watch)
	mux.HandleFunc("GET /metrics", p.metrics)
	mux.HandleFunc("POST /handover", p.handOver)
	mux.HandleFunc("GET /traffic", func(w http.ResponseWriter, r *http.Request) {
		answer(w, p.traffic.report(p.current()), nil)
	})
	mux.HandleFunc("POST /invalidate", func(w http.ResponseWriter, r *http.Request) {
		var i invalidation
		err := decode(w, r, &i)
		if err == nil {
			err = p.invalidate(i.Site, i.Paths)
		}
		answer(w, struct{}{}, err)
	})
	return mux
}

// decode reads a body. A field this edge does not know is refused: it would
// otherwise not do what it was told, and not say so.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxConfig))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fault.Wrap(fault.Invalid, err, "the edge does not understand what it was given")
	}
	return nil
}

func answer(w http.ResponseWriter, value any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity) // what it is, the code says
		value = failure{Code: fault.CodeOf(err), Message: err.Error(), Hint: fault.HintOf(err)}
	}
	// The only failure left is a caller that is gone.
	_ = json.NewEncoder(w).Encode(value)
}

// Client speaks to a running edge over its socket.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client of the edge whose socket is at that path. It holds
// no connection between calls.
func NewClient(socket string) *Client {
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

// Configure puts a configuration in force and returns when it is: from then
// on no request begins by the old one. The edge keeps the document and serves
// it again after a restart. A wrong document is refused as fault.Invalid, one
// whose version is not above the one in force as fault.Conflict (the very same
// document is accepted again); then the old one stays in force.
func (c *Client) Configure(ctx context.Context, config Config) error {
	return c.call(ctx, http.MethodPut, "/config", config, nil)
}

// Stats gives the edge's report; fault.Unavailable if no edge answers.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	err := c.call(ctx, http.MethodGet, "/stats", nil, &s)
	return s, err
}

// Metrics gives what the edge counts, as text for Prometheus, which the caller
// closes; fault.Unavailable if no edge answers.
func (c *Client) Metrics(ctx context.Context) (text io.ReadCloser, contentType string, err error) {
	res, err := c.do(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, "", err
	}
	return res.Body, res.Header.Get("Content-Type"), nil
}

// Invalidate makes the edge forget what it has cached of a site: the paths
// given, of which a final * stands for anything, or all without any.
func (c *Client) Invalidate(ctx context.Context, site string, paths ...string) error {
	return c.call(ctx, http.MethodPost, "/invalidate", invalidation{Site: site, Paths: paths}, nil)
}

func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode %s %s: %w", method, path, err)
		}
	}
	res, err := c.do(ctx, method, path, raw)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err = io.ReadAll(res.Body)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the edge broke off its answer to %s %s", method, path)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("decode the edge's answer to %s %s: %w", method, path, err)
	}
	return nil
}

// do asks, and gives an answer that is 200.
func (c *Client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://edge"+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask the edge: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fault.Wrap(fault.Unavailable, err, "the edge does not answer at %s", c.socket)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the edge broke off its answer to %s %s", method, path)
	}
	var f failure
	if err := json.Unmarshal(raw, &f); err != nil || f.Code == "" {
		return nil, fault.New(fault.Internal, "the edge answered %s %s with %s: %.200s", method, path, res.Status, raw)
	}
	return nil, &fault.Error{Code: f.Code, Message: f.Message, Hint: f.Hint}
}
