package edge

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// failuresUntilOut is how many checks in a row an instance fails before
	// it gets no new requests. One success brings it back.
	failuresUntilOut = 2
	// checkTimeout is how long a health check waits for its answer.
	checkTimeout = 2 * time.Second
)

// health is whether an instance gets requests. The zero value is healthy.
type health struct {
	reason   atomic.Pointer[string] // why it is out; nil while it is in
	mu       sync.Mutex
	failures int
}

func (h *health) out() bool { return h.reason.Load() != nil }

// refuse takes the instance out at once: it was seen not to take connections.
func (h *health) refuse(reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures = failuresUntilOut
	h.reason.Store(&reason)
}

// report takes the outcome of a health check, "" for success.
func (h *health) report(reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if reason == "" {
		h.failures = 0
		h.reason.Store(nil)
		return
	}
	if h.failures++; h.failures >= failuresUntilOut {
		h.reason.Store(&reason)
	}
}

// probe is how an instance is checked.
type probe struct {
	instance *instance
	host     string // Host header of the request
	path     string // "" asks only for a connection, and only while the instance is out
	interval time.Duration
}

// probes gives the checks that a table asks for.
func (t *table) probes() map[probe]bool {
	all := map[probe]bool{}
	for _, s := range t.config.Services {
		host, interval := "", s.HealthInterval
		if len(s.Hosts) > 0 {
			host = s.Hosts[0]
		}
		if interval == 0 {
			interval = defaultHealthInterval
		}
		for _, a := range s.Arms {
			for _, in := range a.Instances {
				if !in.Draining {
					all[probe{t.instances[in.ID], host, s.Health, interval}] = true
				}
			}
		}
	}
	return all
}

// checker runs the health checks of the table in force.
type checker struct {
	client  *http.Client
	running map[probe]func() // stops a probe's goroutine and waits for it
}

func newChecker() *checker {
	return &checker{
		running: map[probe]func(){},
		client: &http.Client{
			Timeout:       checkTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			// A kept connection would hide that the instance takes no new ones.
			Transport: &http.Transport{DisableKeepAlives: true},
		},
	}
}

// run brings the running checks in line with the wanted ones. It must not be
// called twice at once.
func (c *checker) run(wanted map[probe]bool) {
	var stops []func()
	for p, stop := range c.running {
		if !wanted[p] {
			stops = append(stops, stop)
			delete(c.running, p)
		}
	}
	for p := range wanted {
		if c.running[p] == nil {
			c.running[p] = c.start(p)
		}
	}
	for _, stop := range stops {
		stop()
	}
}

func (c *checker) start(p probe) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(p.interval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if p.path == "" && !p.instance.health.out() {
				continue
			}
			if reason := c.ask(ctx, p); ctx.Err() == nil {
				p.instance.health.report(reason)
			}
		}
	}()
	return func() { cancel(); <-done }
}

// ask checks once and says what was wrong, "" for nothing.
func (c *checker) ask(ctx context.Context, p probe) string {
	if p.path == "" {
		conn, err := (&net.Dialer{Timeout: checkTimeout}).DialContext(ctx, "tcp", p.instance.Address)
		if err != nil {
			return err.Error()
		}
		if err := conn.Close(); err != nil {
			return err.Error()
		}
		return ""
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.instance.Address+p.path, nil)
	if err != nil {
		return err.Error()
	}
	req.Host = p.host
	req.Header.Set("User-Agent", "makeitso-edge")
	res, err := c.client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)); err != nil {
		return fmt.Sprintf("GET %s: %v", p.path, err)
	}
	if res.StatusCode < 200 || res.StatusCode > 399 {
		return fmt.Sprintf("GET %s answered %s", p.path, res.Status)
	}
	return ""
}
