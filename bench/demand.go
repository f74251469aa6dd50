package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"
)

// answer is what became of a request.
type answer struct {
	method  string
	at      time.Time
	version string // of the service
	status  int
	again   int // how often the client had to send it again
	failure error
}

// lost says why a client did not get what it asked for, "" if it did.
func (a answer) lost() string {
	var late net.Error
	switch {
	case errors.As(a.failure, &late) && late.Timeout():
		return a.method + " without an answer in time"
	case a.failure != nil:
		return a.method + " failed: " + a.failure.Error()
	case a.status != http.StatusOK:
		return fmt.Sprintf("%s answered %d", a.method, a.status)
	}
	return ""
}

// demand is requests that come at a steady rate, whether those before are
// answered or not.
type demand struct {
	began   time.Time
	stop    context.CancelFunc
	running sync.WaitGroup
	client  *http.Client

	mu      sync.Mutex
	answers []answer
}

// idleClient is how long a client keeps a connection that it does not use.
const idleClient = time.Second

// demand begins to ask the service so often a second, with the methods in turn.
// Requests that a busy machine could not send in time are sent as soon as it can.
func (p *rolled) demand(rate int, methods ...string) *demand {
	ctx, stop := context.WithCancel(context.Background())
	d := &demand{began: time.Now(), stop: stop, client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: idleClient}, Timeout: patience,
	}}
	d.running.Go(func() {
		for n := 0; ; n++ {
			due := d.began.Add(time.Duration(n) * time.Second / time.Duration(rate))
			select {
			case <-time.After(time.Until(due)):
				d.running.Go(func() { d.ask(methods[n%len(methods)], "http://"+p.edge+"/") })
			case <-ctx.Done():
				return
			}
		}
	})
	return d
}

// end asks no more and gives all that was answered, and for how long was asked.
func (d *demand) end() ([]answer, time.Duration) {
	d.stop()
	took := time.Since(d.began)
	d.running.Wait()
	d.client.CloseIdleConnections()
	return d.answers, took
}

func (d *demand) ask(method, url string) {
	a := answer{method: method, again: -1}
	a.failure = func() error {
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { a.again++ }})
		var body io.Reader
		if method == http.MethodPost {
			body = strings.NewReader("posted")
		}
		req, err := http.NewRequestWithContext(ctx, method, url, body)
		if err != nil {
			return err
		}
		req.Host = "api.bench.localhost"
		res, err := d.client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		a.version, a.status = res.Header.Get("X-Version"), res.StatusCode
		_, err = io.Copy(io.Discard, res.Body)
		return err
	}()
	a.at = time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers = append(d.answers, a)
}
