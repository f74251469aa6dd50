package edge

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// maxAttempts is how many upstreams one request is tried at.
const maxAttempts = 4

var (
	errNoInstance = errors.New("no instance can take the request")
	errNoAnswer   = errors.New("no answer by the deadline")
)

// exchange is one request and its answer. For a service it is also the
// http.RoundTripper that chooses upstreams.
type exchange struct {
	plane    *plane
	w        *recorder
	client   context.Context // ends when the client goes away
	host     string
	service  string // the name of the one that is asked
	balancer string // the one that chose it, "" if none did
	entry    entry
	last     *attempt
	tried    []*instance
	upload   *upload // the client's body, nil if it has none
}

// attempt is a request at one instance. Its outcome is settled once: when it
// is complete, or at the deadline.
type attempt struct {
	choice
	client context.Context
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	timer    *time.Timer
	limit    time.Duration
	sent     time.Time
	took     time.Duration // until the header came
	waiting  bool          // for the client's body: the upstream is not at fault
	answered bool          // the header came
	settled  bool
	ended    bool
}

func (x *exchange) serveService(r *http.Request) {
	if r.Method == http.MethodConnect {
		x.page(http.StatusMethodNotAllowed, "this is not a forward proxy", "CONNECT is not served here.")
		return
	}
	// An answer may begin before the request has ended: without this the
	// server would first wait for the whole of the request.
	if err := http.NewResponseController(x.w).EnableFullDuplex(); err != nil {
		x.entry.Error = err.Error()
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetXForwarded()
			pr.Out.URL.RawQuery = pr.In.URL.RawQuery // as it came, not as Go would read it
			pr.Out.Header.Set("X-Request-Id", x.entry.ID)
		},
		ModifyResponse: func(res *http.Response) error {
			res.Header.Set("X-Request-Id", x.entry.ID)
			return nil
		},
		Transport: x,
		// What comes without a length goes on at once, the rest in a moment.
		FlushInterval: 5 * time.Millisecond,
		BufferPool:    x.plane.buffers,
		ErrorLog:      x.plane.quiet,
		ErrorHandler:  func(_ http.ResponseWriter, _ *http.Request, err error) { x.fail(err) },
	}
	proxy.ServeHTTP(x.w, r)
}

// finish ends the last attempt and logs the exchange.
func (x *exchange) finish() {
	if x.last != nil {
		x.last.end()
		x.entry.Arm, x.entry.Instance = x.last.arm.Name, x.last.instance.ID
	}
	if len(x.tried) > 1 {
		x.entry.Attempts = len(x.tried)
	}
	x.entry.Status, x.entry.Bytes = x.w.status, x.w.bytes
	x.entry.Ms = float64(time.Since(x.entry.Time).Microseconds()) / 1000
	x.plane.traffic.count(x)
	x.plane.log.write(x.entry)
}

// RoundTrip asks one instance after another until one answers or another
// attempt would not be safe.
func (x *exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	err := errNoInstance
	for len(x.tried) < maxAttempts {
		a := x.choose()
		if a == nil {
			return nil, err
		}
		var res *http.Response
		if res, err = x.try(req, a); err == nil {
			return res, nil
		}
		a.end()
		if isDial(err) && x.client.Err() == nil {
			a.instance.health.refuse(err.Error())
		}
		if !x.again(req, err) {
			return nil, err
		}
	}
	return nil, err
}

// choose picks the next instance by the table in force and counts the request
// there; nil if there is none left to try.
func (x *exchange) choose() *attempt {
	x.plane.mu.RLock()
	defer x.plane.mu.RUnlock()
	s := x.plane.table.services[x.service]
	if s == nil {
		return nil
	}
	x.entry.Service = s.Name
	c := s.choose(x.tried)
	if c == nil {
		return nil
	}
	c.instance.inFlight.Add(1)
	x.tried = append(x.tried, c.instance)
	x.last = &attempt{choice: *c, client: x.client, limit: s.RequestTimeout}
	return x.last
}

// try sends the request to the attempt's instance and waits for the header.
func (x *exchange) try(req *http.Request, a *attempt) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	a.begin(cancel)
	out := req.WithContext(ctx)
	target := *req.URL
	target.Scheme, target.Host = "http", a.instance.Address
	out.URL = &target
	if req.Body != nil {
		x.upload = &upload{body: req.Body, attempt: a}
		out.Body = x.upload
	}
	res, err := x.plane.transport.RoundTrip(out)
	if err != nil {
		atFault := x.client.Err() == nil && (x.upload == nil || !x.upload.broken.Load())
		a.settle(atFault)
		return nil, err
	}
	a.answer()
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		a.settle(false) // and its body must stay a connection
	case res.StatusCode >= 500:
		a.settle(true)
	default:
		res.Body = &download{ReadCloser: res.Body, attempt: a}
	}
	return res, nil
}

// again says whether another attempt after err can do no harm: nothing was
// sent, or the connection broke and the request may be repeated.
func (x *exchange) again(req *http.Request, err error) bool {
	if x.client.Err() != nil || x.upload != nil && x.upload.begun.Load() {
		return false
	}
	if isDial(err) {
		return true
	}
	broken := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	return broken && req.Body == nil && isIdempotent(req.Method)
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func isIdempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// fail answers for an upstream that did not.
func (x *exchange) fail(err error) {
	x.entry.Error = err.Error()
	switch {
	case x.upload != nil && x.upload.broken.Load():
		x.page(http.StatusBadRequest, "bad request", "The body of the request is broken.")
	case x.client.Err() != nil:
		x.abandon()
	case errors.Is(err, errNoInstance):
		x.w.Header().Set("Retry-After", "1")
		x.page(http.StatusServiceUnavailable, "no instance is running", "The service "+x.entry.Service+" has no instance that can take the request now.")
	case errors.Is(err, errNoAnswer):
		x.page(http.StatusGatewayTimeout, "no answer in time", "The service "+x.entry.Service+" did not answer by its deadline.")
	default:
		x.page(http.StatusBadGateway, "the service failed", "The service "+x.entry.Service+" broke the connection or answered with something that is not HTTP.")
	}
}

// statusClientGone stands in the access log where a client left before it was
// answered.
const statusClientGone = 499

// abandon ends an exchange that has no client any more, or that a shutdown
// breaks off: the connection is closed, so that nobody takes an empty answer
// for the real one.
func (x *exchange) abandon() {
	x.w.status = statusClientGone
	panic(http.ErrAbortHandler)
}

// begin starts the clock.
func (a *attempt) begin(cancel context.CancelCauseFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cancel = cancel
	a.sent = time.Now()
	a.timer = time.AfterFunc(a.limit, a.expire)
}

// expire fixes the outcome at the deadline: good if an answer has begun.
func (a *attempt) expire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting {
		return // the clock was stopped just now
	}
	a.settleLocked(!a.answered)
	if !a.answered {
		a.cancel(errNoAnswer)
	}
}

// wait stops the clock while the client's body is waited for, and resume
// starts it again.
func (a *attempt) wait() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = true
	a.timer.Stop()
}

func (a *attempt) resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = false
	if !a.settled {
		a.timer.Reset(a.limit)
	}
}

func (a *attempt) answer() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answered, a.took = true, time.Since(a.sent)
}

// settle fixes the outcome, the first time it is called.
func (a *attempt) settle(bad bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settleLocked(bad)
}

func (a *attempt) settleLocked(bad bool) {
	if a.settled {
		return
	}
	a.settled = true
	a.timer.Stop()
	if !a.fair {
		return
	}
	a.arm.counts.requests.Add(1)
	if bad {
		a.arm.counts.bad.Add(1)
	}
}

// end lets go of the instance, once; an outcome still open is not the
// instance's fault: the client left.
func (a *attempt) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	a.ended = true
	a.settleLocked(false)
	a.cancel(nil)
	a.instance.inFlight.Add(-1)
}

// upload is the client's body on its way to an instance.
type upload struct {
	body    io.Reader
	attempt *attempt
	begun   atomic.Bool // something was read: the request cannot be sent again
	broken  atomic.Bool // it is not what its header promised, or the client left
}

func (u *upload) Read(p []byte) (int, error) {
	u.begun.Store(true)
	u.attempt.wait()
	n, err := u.body.Read(p)
	u.attempt.resume()
	if err != nil && err != io.EOF {
		u.broken.Store(true)
	}
	return n, err
}

// Close does nothing: the body is the server's, and a transport that could not
// connect closes what it was given.
func (u *upload) Close() error { return nil }

// download is an instance's answer on its way to the client.
type download struct {
	io.ReadCloser
	attempt *attempt
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if err != nil {
		d.attempt.settle(err != io.EOF && d.attempt.client.Err() == nil)
	}
	return n, err
}
