package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// answer is what became of a request.
type answer struct {
	at      time.Time
	version string // of the service
	status  int
	again   int // how often the client had to send it again
	failure error
}

// lost says why a client did not get what it asked for, "" if it did.
func (a answer) lost() string {
	if a.failure != nil {
		return a.failure.Error()
	}
	if a.status != http.StatusOK {
		return fmt.Sprintf("status %d", a.status)
	}
	return ""
}

// demand is requests that come at a steady rate, whether those before are
// answered or not.
type demand struct {
	stop    context.CancelFunc
	running sync.WaitGroup
	client  *http.Client

	mu      sync.Mutex
	answers []answer
}

// demand begins to ask the service so often a second.
func (p *rolled) demand(rate int) *demand {
	ctx, stop := context.WithCancel(context.Background())
	d := &demand{stop: stop, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: patience}}
	d.running.Go(func() {
		every := time.NewTicker(time.Second / time.Duration(rate))
		defer every.Stop()
		for {
			select {
			case <-every.C:
				d.running.Go(func() { d.ask("http://" + p.edge + "/") })
			case <-ctx.Done():
				return
			}
		}
	})
	return d
}

// end asks no more and gives all that was answered.
func (d *demand) end() []answer {
	d.stop()
	d.running.Wait()
	d.client.CloseIdleConnections()
	return d.answers
}

func (d *demand) ask(url string) {
	a := answer{again: -1}
	a.failure = func() error {
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { a.again++ }})
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
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
