package edge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"makeitso/internal/edge/outcome"
	"makeitso/internal/fault"
)

const (
	batchSize  = 4096                   // outcomes told at once, at most
	watchRetry = 100 * time.Millisecond // between two attempts to reach an edge that is away
	// sign is how often an edge says that it lives when there is nothing to tell,
	// and silence after how long without a word it is taken for away: it may hang.
	sign    = time.Second
	silence = 3 * time.Second
)

// watch streams the outcomes of a service, a batch a line, until the caller
// leaves or the service goes away.
func (p *plane) watch(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("service")
	all := p.current().tallies[name]
	if all == nil {
		answer(w, nil, fault.New(fault.NotFound, "the edge has no service %q", name))
		return
	}
	next, err := strconv.ParseUint(r.FormValue("next"), 10, 64)
	if err != nil {
		answer(w, nil, fault.New(fault.Invalid, "next is %q; it is the number of an outcome", r.FormValue("next")))
		return
	}
	w.Header().Set("Content-Type", "application/jsonl")
	control, lines := http.NewResponseController(w), json.NewEncoder(w)
	quiet := time.NewTicker(sign)
	defer quiet.Stop()
	at := outcome.Cursor{Stream: r.FormValue("stream"), Next: next}
	for told := false; ; {
		b, moved, ok := all.stream.Read(at, batchSize)
		if len(b.Outcomes) > 0 || b.Gap || !told { // the first tells where the stream is
			if err := errors.Join(lines.Encode(b), control.Flush()); err != nil {
				return // the caller has left
			}
			at, told = b.Cursor, true
			quiet.Reset(sign)
			continue
		}
		if !ok {
			return
		}
		select {
		case <-moved:
		case <-quiet.C:
			told = false
		case <-r.Context().Done():
			return
		}
	}
}

// Watch calls tell with the outcomes of a service in order of arrival, from a
// place on, until ctx ends or tell fails; that error is returned. An edge that
// goes away is asked again for what follows the last batch: nothing is told
// twice, and what it no longer has is told as a gap. That it does not answer is
// told once, by a batch of its own. Batches without outcomes say where the stream
// is. A service that the edge does not have is fault.NotFound.
func (c *Client) Watch(ctx context.Context, service string, from outcome.Cursor, tell func(outcome.Batch) error) error {
	for away := false; ; {
		answered, err := c.watchOnce(ctx, service, &from, tell)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && !fault.Is(err, fault.Unavailable) {
			return err
		}
		// One that broke off may be making way for another: it is asked first.
		if !answered && !away {
			if err := tell(outcome.Batch{Cursor: from, Away: err.Error()}); err != nil {
				return err
			}
		}
		away = !answered
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(watchRetry): // an edge that comes back is no event
		}
	}
}

// watchOnce watches until the connection ends or the edge is silent, and says
// whether there was an answer.
func (c *Client) watchOnce(ctx context.Context, service string, at *outcome.Cursor, tell func(outcome.Batch) error) (answered bool, err error) {
	listening, stop := context.WithCancel(ctx)
	defer stop()
	watchdog := time.AfterFunc(silence, stop)
	defer watchdog.Stop()
	query := url.Values{"service": {service}, "stream": {at.Stream}, "next": {strconv.FormatUint(at.Next, 10)}}
	res, err := c.do(listening, http.MethodGet, "/watch?"+query.Encode(), nil)
	if err != nil && listening.Err() != nil && ctx.Err() == nil {
		err = fault.New(fault.Unavailable, "the edge takes a question at %s and does not answer", c.socket)
	}
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	for lines := json.NewDecoder(bufio.NewReader(res.Body)); ; answered = true {
		var b outcome.Batch
		if err := lines.Decode(&b); err != nil {
			return answered, fault.Wrap(fault.Unavailable, err, "the edge broke off its outcomes of %s", service)
		}
		watchdog.Stop() // to tell may take its time
		if err := tell(b); err != nil {
			return true, err
		}
		watchdog.Reset(silence)
		*at = b.Cursor
	}
}
