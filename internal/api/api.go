// Package api carries control over HTTP, both ends: Handler serves it, Client
// calls it. A call is POST /v1/NAME with a JSON request; the answer is JSON,
// or a line of JSON for each item as they come. It knows HTTP; it must not
// know platforms or SQL.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"makeitso/internal/control"
	"makeitso/internal/diag"
	"makeitso/internal/fault"
)

// Handler serves c.
func Handler(c *control.Control) http.Handler {
	mux := http.NewServeMux()
	answer(mux, "status", c.Status)
	answer(mux, "start", c.Start)
	answer(mux, "runs", c.Runs)
	answer(mux, "run", c.Run)
	answer(mux, "cancel", c.Cancel)
	answer(mux, "retry", c.Retry)
	answer(mux, "approve", c.Approve)
	answer(mux, "reject", c.Reject)
	answer(mux, "last-event", c.LastEvent)
	answer(mux, "plan", c.Plan)
	answer(mux, "outputs", c.Outputs)
	answer(mux, "drift", c.Drift)
	answer(mux, "keys", c.Keys)
	answer(mux, "publish", c.Publish)
	answer(mux, "protect", c.Protect)
	answer(mux, "stack-policy", c.StackPolicy)
	answer(mux, "signal", c.Signal)
	answer(mux, "set-alarm", c.SetAlarm)
	answer(mux, "cancel-update", c.CancelUpdate)
	answer(mux, "stack-events", c.StackEvents)
	answer(mux, "plan-destroy", c.PlanDestroy)
	answer(mux, "releases", c.Releases)
	answer(mux, "why", c.Why)
	answer(mux, "rollback", c.Rollback)
	answer(mux, "abort", c.Abort)
	answer(mux, "steer", c.Steer)
	stream(mux, "follow", c.Follow)
	stream(mux, "await", c.Await)
	stream(mux, "apply", c.Apply)
	stream(mux, "destroy", c.Destroy)
	stream(mux, "rollback-stack", c.RollbackStack)
	stream(mux, "logs", func(ctx context.Context, r control.RunRequest, send func([]byte) error) error {
		return c.Logs(ctx, r, writerFunc(send))
	})
	return mux
}

// writerFunc sends what is written as items.
type writerFunc func([]byte) error

func (f writerFunc) Write(p []byte) (int, error) { return len(p), f(p) }

// maxRequest bounds what is read of a request.
const maxRequest = 1 << 20

// answer serves a method that gives one answer.
func answer[Req, Res any](mux *http.ServeMux, name string, do func(context.Context, Req) (Res, error)) {
	mux.HandleFunc("POST /v1/"+name, func(w http.ResponseWriter, r *http.Request) {
		var req Req
		if !decode(w, r, &req) {
			return
		}
		res, err := do(r.Context(), req)
		if err != nil {
			fail(w, err)
			return
		}
		raw, err := json.Marshal(res)
		if err != nil {
			fail(w, fmt.Errorf("encode the answer: %w", err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(raw) // a client that has left cannot be told
	})
}

// line is one line of a streamed answer: an item, or how the stream ended.
type line struct {
	Item  json.RawMessage `json:"item,omitempty"`
	Error *problem        `json:"error,omitempty"`
	End   bool            `json:"end,omitempty"`
}

// stream serves a method that sends items as they come.
func stream[Req, Item any](mux *http.ServeMux, name string, do func(context.Context, Req, func(Item) error) error) {
	mux.HandleFunc("POST /v1/"+name, func(w http.ResponseWriter, r *http.Request) {
		var req Req
		if !decode(w, r, &req) {
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		out, flusher := json.NewEncoder(w), http.NewResponseController(w)
		send := func(l line) error {
			if err := out.Encode(l); err != nil {
				return err
			}
			return flusher.Flush()
		}
		if err := flusher.Flush(); err != nil { // the client learns that it is heard before the first item
			return
		}
		err := do(r.Context(), req, func(item Item) error {
			raw, err := json.Marshal(item)
			if err != nil {
				return fmt.Errorf("encode an item: %w", err)
			}
			return send(line{Item: raw})
		})
		last := line{End: true}
		if err != nil {
			last.Error = problemOf(err)
		}
		_ = send(last) // a client that has left cannot be told
	})
}

func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		fail(w, fault.Wrap(fault.Invalid, err, "the request is not understood"))
		return false
	}
	return true
}

// problem is an error on its way.
type problem struct {
	Code        fault.Code `json:"code"`
	Message     string     `json:"message"`
	Hint        string     `json:"hint,omitempty"`
	Diagnostics diag.List  `json:"diagnostics,omitempty"`
}

func problemOf(err error) *problem {
	p := &problem{Code: fault.CodeOf(err), Message: err.Error(), Hint: fault.HintOf(err)}
	var list diag.List
	if errors.As(err, &list) {
		p.Code, p.Diagnostics = fault.Invalid, list
	}
	return p
}

// err gives the error as it was before its way.
func (p *problem) err() error {
	if len(p.Diagnostics) > 0 {
		return p.Diagnostics
	}
	return &fault.Error{Code: p.Code, Message: p.Message, Hint: p.Hint}
}

func fail(w http.ResponseWriter, err error) {
	p := problemOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(httpStatus(p.Code))
	_ = json.NewEncoder(w).Encode(p) // a client that has left cannot be told
}

// httpStatus is the one place where a code becomes an HTTP status.
func httpStatus(code fault.Code) int {
	switch code {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.Denied:
		return http.StatusForbidden
	case fault.Unsupported:
		return http.StatusNotImplemented
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	case fault.Failed, fault.Canceled:
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}
