package edge

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"makeitso/internal/edge/upstream"
)

const (
	// failuresUntilOut is how many checks in a row an instance fails before
	// it gets no new requests, where its service does not say.
	failuresUntilOut = 2
	// checkTimeout is how long a health check waits for its answer, where its
	// service does not say.
	checkTimeout = 2 * time.Second

	// An instance is ejected for ejectTime at first, and for as much longer
	// each time again, up to maxEject; after wellTime without a bad answer it
	// begins anew.
	defaultEjectAfter = 5
	ejectTime         = 5 * time.Second
	maxEject          = 5 * time.Minute
	wellTime          = 5 * time.Minute

	leastPart = 0.1 // that an instance gets at the beginning of its slow start
)

// Check is how an instance is asked whether it is well.
type Check struct {
	Host    string        // Host header of the request
	Path    string        // "" asks only for a connection
	Codes   string        // of a healthy answer, e.g. 200,301-302; "" is 200-399
	Timeout time.Duration // 0 is 2 s
	// Protocol is what the instance speaks, as Arm has it.
	Protocol string
}

// health is whether an instance gets requests. The zero value is healthy.
type health struct {
	reason    atomic.Pointer[string] // why it is out; nil while it is in
	mu        sync.Mutex
	failures  int
	successes int // since it failed last

	// What its answers to requests say.
	badInARow atomic.Int64
	until     atomic.Int64 // the time up to which it is ejected, in nanoseconds
	since     atomic.Int64 // the time from which it gets requests
	ejections atomic.Int64
	growth    int       // how often its time has grown; mu is held
	last      time.Time // when it was ejected; mu is held
}

// out says that it fails its checks.
func (h *health) out() bool { return h.reason.Load() != nil }

// ejected says that its answers were bad.
func (h *health) ejected(now time.Time) bool { return now.UnixNano() < h.until.Load() }

// saw takes the outcome of a request; after so many bad ones in a row, the
// instance is ejected.
func (h *health) saw(bad bool, after int, now time.Time) {
	if !bad {
		if h.badInARow.Load() != 0 {
			h.badInARow.Store(0)
		}
		return
	}
	if after < 0 || h.badInARow.Add(1) < int64(after) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ejected(now) {
		return
	}
	if now.Sub(h.last) > wellTime {
		h.growth = 0
	}
	h.growth, h.last = h.growth+1, now
	until := now.Add(min(maxEject, time.Duration(h.growth)*ejectTime))
	h.badInARow.Store(0)
	h.until.Store(until.UnixNano())
	h.since.Store(until.UnixNano())
	h.ejections.Add(1)
}

// part is how much of what the others get the instance gets, up to 1.
func (h *health) part(slow time.Duration, now time.Time) float64 {
	if slow <= 0 {
		return 1
	}
	return max(leastPart, min(1, float64(now.UnixNano()-h.since.Load())/float64(slow)))
}

// why says why it gets no requests, "" if it does.
func (h *health) why(now time.Time) string {
	if reason := h.reason.Load(); reason != nil {
		return *reason
	}
	if h.ejected(now) {
		return "its answers were bad; it is asked again at " + time.Unix(0, h.until.Load()).Format(time.TimeOnly)
	}
	return ""
}

// refuse takes the instance out at once: it was seen not to take connections.
func (h *health) refuse(reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures, h.successes = failuresUntilOut, 0
	h.reason.Store(&reason)
}

// report takes the outcome of a health check, "" for success.
func (h *health) report(p probe, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if reason == "" {
		if h.successes++; h.failures == 0 || h.successes >= p.in {
			if h.failures = 0; h.reason.Swap(nil) != nil {
				h.since.Store(time.Now().UnixNano())
			}
		}
		return
	}
	h.successes = 0
	if h.failures++; h.failures >= p.out {
		h.reason.Store(&reason)
	}
}

// probe is how an instance is checked.
type probe struct {
	instance *instance
	check    Check // one without a path is made only while the instance is out
	interval time.Duration
	out, in  int // how many failures or successes in a row decide
}

// probes gives the checks that a table asks for.
func (t *table) probes() map[probe]bool {
	all := map[probe]bool{}
	for _, s := range t.config.Services {
		p := probe{
			check: Check{Path: s.Health, Codes: s.HealthCodes, Timeout: s.HealthTimeout}, interval: cmp.Or(s.HealthInterval, defaultHealthInterval),
			out: cmp.Or(s.UnhealthyAfter, failuresUntilOut), in: cmp.Or(s.HealthyAfter, 1),
		}
		if len(s.Hosts) > 0 {
			p.check.Host = s.Hosts[0]
		}
		for _, a := range s.Arms {
			p.check.Protocol = a.Protocol
			for _, in := range a.Instances {
				if !in.Draining {
					p.instance = t.instances[in.ID]
					all[p] = true
				}
			}
		}
	}
	return all
}

// checker runs the health checks of the table in force.
type checker struct {
	running map[probe]func() // stops a probe's goroutine and waits for it
}

func newChecker() *checker { return &checker{running: map[probe]func(){}} }

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
			if p.check.Path == "" && !p.instance.health.out() {
				continue
			}
			if reason := p.check.Ask(ctx, p.instance.Address); ctx.Err() == nil {
				p.instance.health.report(p, reason)
			}
		}
	}()
	return func() { cancel(); <-done }
}

// Ask checks once and says what was wrong, "" for nothing.
func (c Check) Ask(ctx context.Context, address string) string {
	timeout := cmp.Or(c.Timeout, checkTimeout)
	if c.Path == "" {
		conn, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err.Error()
		}
		if err := conn.Close(); err != nil {
			return err.Error()
		}
		return ""
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+c.Path, nil)
	if err != nil {
		return err.Error()
	}
	req.Host = c.Host
	req.Header.Set("User-Agent", "makeitso-edge")
	client := Asker(c.Protocol, timeout)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)); err != nil {
		return fmt.Sprintf("GET %s: %v", c.Path, err)
	}
	if codes, err := parseCodes(c.Codes); err != nil || !codes(res.StatusCode) {
		return fmt.Sprintf("GET %s answered %s", c.Path, res.Status)
	}
	return ""
}

// Asker gives a client for an instance that speaks a protocol, as Arm has it. It
// connects for each request: a kept connection would hide that the instance
// takes no new ones.
func Asker(protocol string, timeout time.Duration) *http.Client {
	t := &http.Transport{DisableKeepAlives: true, Protocols: new(http.Protocols)}
	t.Protocols.SetHTTP1(protocol == upstream.HTTP1)
	t.Protocols.SetUnencryptedHTTP2(protocol == upstream.HTTP2)
	return &http.Client{Timeout: timeout, Transport: t}
}

// parseCodes reads which statuses are healthy, such as 200,301-302.
func parseCodes(text string) (healthy func(status int) bool, err error) {
	var ranges [][2]int
	for _, part := range strings.Split(cmp.Or(text, "200-399"), ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		low, err := strconv.Atoi(first)
		high, errHigh := strconv.Atoi(last)
		if err != nil || errHigh != nil || low < 100 || high > 599 || low > high {
			return nil, fmt.Errorf("%q are no statuses; they are written as 200, 200,202 or 200-299", text)
		}
		ranges = append(ranges, [2]int{low, high})
	}
	return func(status int) bool {
		return slices.ContainsFunc(ranges, func(r [2]int) bool { return r[0] <= status && status <= r[1] })
	}, nil
}
