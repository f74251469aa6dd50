package edge

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"makeitso/internal/edge/outcome"
	"makeitso/internal/edge/upstream"
)

const (
	// maxAttempts is how many upstreams one request is tried at.
	maxAttempts = 4
	// smallBody is how long the body of a request is at most that is read
	// before an instance is chosen: a slow client then holds none, and the
	// request can be sent again.
	smallBody = 16 << 10
)

var errNoInstance = errors.New("no instance can take the request")

// exchange is one request and its answer.
type exchange struct {
	plane    *plane
	w        recorder
	client   context.Context // ends when the client goes away
	host     string
	service  string // the name of the one that is asked
	balancer string // the one that chose it, "" if none did
	entry    entry
	last     *attempt
	tried    []*instance
	broke    bool   // an instance took the request, and its connection broke
	mark     string // the cookie that a sticky service sends
	body     body

	// What the fields above point to, so that one exchange is one allocation.
	attempts [maxAttempts]attempt
	places   [maxAttempts]*instance
	out      upstream.Request
	set      [6]upstream.Field
}

// attempt is a request at one instance.
type attempt struct {
	choice
	open     outcome.Open  // counts if the choice was fair
	took     time.Duration // until the header came
	answered bool          // it came
	ended    bool
}

// body is what a client sends.
type body struct {
	from  io.Reader // nil for none
	size  int64     // -1 if it is not known
	small []byte    // where it was read already
	begun atomic.Bool
	large atomic.Bool // larger than the service takes
}

func (x *exchange) serveService(r *http.Request) {
	if r.Method == http.MethodConnect {
		x.page(http.StatusMethodNotAllowed, "this is not a forward proxy", "CONNECT is not served here.")
		return
	}
	x.plane.mu.RLock()
	s := x.plane.table.services[x.service]
	x.plane.mu.RUnlock()
	if s == nil {
		x.fail(errNoInstance)
		return
	}
	x.entry.Service = s.Name
	if headerBytes(r) > s.Limits.HeaderBytes && s.Limits.HeaderBytes > 0 {
		x.page(http.StatusRequestHeaderFieldsTooLarge, "the header is too large", "The service "+s.Name+" takes requests with smaller headers only.")
		return
	}
	if !x.takeBody(r, s) {
		return
	}
	res, err := x.ask(r, s)
	if err != nil {
		x.fail(err)
		return
	}
	defer res.Close()
	if res.Status == http.StatusSwitchingProtocols {
		x.switchProtocols(res)
		return
	}
	x.relay(r, s, res)
}

// headerBytes is about what the request's header had on its way.
func headerBytes(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Host) + 30
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v) + 4
		}
	}
	return n
}

// takeBody makes the body of the request ready to be sent; not so if that was
// answered already.
func (x *exchange) takeBody(r *http.Request, s *service) bool {
	x.body.size = r.ContentLength
	if r.ContentLength == 0 {
		return true
	}
	control := http.NewResponseController(&x.w)
	if limit := s.Limits.BodyBytes; limit > 0 {
		if r.ContentLength > limit {
			x.tooLarge(s.Name)
			return false
		}
		r.Body = http.MaxBytesReader(&x.w, r.Body, limit)
	}
	from := &patient{from: r.Body, control: control, limit: s.Limits.ClientTimeout, body: &x.body}
	if r.ContentLength > 0 && r.ContentLength <= smallBody {
		x.body.small = make([]byte, r.ContentLength)
		if _, err := io.ReadFull(from, x.body.small); err != nil {
			x.fail(errors.Join(upstream.ErrBody, err))
			return false
		}
		return true
	}
	x.body.from = from
	// An answer may begin before the request has ended: without this the
	// server would first wait for the whole of the request.
	if err := control.EnableFullDuplex(); err != nil && r.ProtoMajor == 1 {
		x.entry.Error = err.Error()
	}
	return true
}

// patient reads what a client sends, as long as something comes.
type patient struct {
	from    io.Reader
	control *http.ResponseController
	limit   time.Duration
	body    *body
}

func (p *patient) Read(b []byte) (int, error) {
	p.body.begun.Store(true)
	if err := p.control.SetReadDeadline(time.Now().Add(p.limit)); err != nil {
		return 0, err
	}
	n, err := p.from.Read(b)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		p.body.large.Store(true)
	}
	return n, err
}

// ask asks one instance after another until one answers or another attempt
// would not be safe.
func (x *exchange) ask(r *http.Request, s *service) (*upstream.Response, error) {
	out := x.request(r, s)
	err := errNoInstance
	for len(x.tried) < maxAttempts {
		a := x.choose(r)
		if a == nil {
			return nil, err
		}
		if x.body.small != nil {
			out.Body = strings.NewReader(string(x.body.small))
		}
		if x.body.from != nil {
			out.Waiting = a.open.Waiting
		}
		sent := time.Now()
		var res *upstream.Response
		if res, err = a.instance.pool.Send(x.client, out); err == nil {
			a.answered, a.took = true, time.Since(sent)
			a.open.Answered(res.Status)
			a.instance.health.saw(res.Status >= 500, s.EjectAfter, time.Now())
			return res, nil
		}
		clients := errors.Is(err, context.Canceled) || errors.Is(err, upstream.ErrBody) || errors.Is(err, upstream.ErrBusy)
		a.open.Settle(!clients)
		a.end()
		if !clients {
			a.instance.health.saw(true, s.EjectAfter, time.Now())
		}
		if upstream.NotConnected(err) && !clients {
			a.instance.health.refuse(err.Error())
		}
		if !x.again(r.Method, err) {
			return nil, err
		}
	}
	return nil, err
}

// request is what the instances are asked, whichever it will be.
func (x *exchange) request(r *http.Request, s *service) *upstream.Request {
	uri := r.RequestURI // as it came, not as Go would write it
	if !strings.HasPrefix(uri, "/") || strings.Contains(uri, "#") {
		uri = r.URL.RequestURI()
	}
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	proto, port := "http", "80"
	if r.TLS != nil {
		proto, port = "https", "443"
	}
	if at := strings.LastIndexByte(r.Host, ':'); at > strings.LastIndexByte(r.Host, ']') {
		port = r.Host[at+1:]
	}
	x.set = [...]upstream.Field{
		{Name: "X-Forwarded-For", Value: client}, {Name: "X-Forwarded-Host", Value: r.Host}, {Name: "X-Forwarded-Proto", Value: proto},
		{Name: "X-Forwarded-Port", Value: port}, {Name: "Forwarded", Value: forwarded(client, r.Host, proto)}, {Name: "X-Request-Id", Value: x.entry.ID},
	}
	out := &x.out
	*out = upstream.Request{
		Method: r.Method, URI: uri, Host: r.Host, Header: r.Header, Length: x.body.size, Timeout: s.RequestTimeout,
		Set: x.set[:], Hint: x.hint,
	}
	if x.body.from != nil {
		out.Body, out.Trailer = x.body.from, func() http.Header { return r.Trailer }
		out.Interrupt = func() { _ = http.NewResponseController(&x.w).SetReadDeadline(time.Unix(1, 0)) } // or the body has ended
	}
	if r.ProtoMajor == 1 && r.ContentLength == 0 && tokens(r.Header["Connection"], "upgrade") {
		// To HTTP/2 it would be another conversation, which the edge does not see.
		if to := r.Header.Get("Upgrade"); !strings.Contains(strings.ToLower(to), "h2c") {
			out.Upgrade = to
		}
	}
	return out
}

// forwarded writes the standard's own field for what the X-Forwarded ones say.
func forwarded(client, host, proto string) string {
	if a, err := netip.ParseAddr(client); err == nil && a.Is6() {
		client = `"[` + client + `]"`
	}
	return "for=" + client + `;host="` + host + `";proto=` + proto
}

// tokens says whether lists of words have one.
func tokens(lists []string, word string) bool {
	for _, list := range lists {
		for w := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(w), word) {
				return true
			}
		}
	}
	return false
}

// hint hands on an answer with a status below 200, such as 103.
func (x *exchange) hint(status int, header http.Header) {
	h := x.w.Header()
	before := h.Clone()
	upstream.CopyHeader(h, header)
	x.w.WriteHeader(status)
	clear(h)
	upstream.CopyHeader(h, before)
}

// choose picks the next instance by the table in force and counts the request
// there; nil if there is none left to try.
func (x *exchange) choose(r *http.Request) *attempt {
	x.plane.mu.RLock()
	defer x.plane.mu.RUnlock()
	s := x.plane.table.services[x.service]
	if s == nil {
		return nil
	}
	var c *choice
	if s.Sticky == nil {
		c = s.choose(x.tried)
	} else {
		c, x.mark = s.chooseSticky(r, x.tried)
	}
	if c == nil {
		return nil
	}
	c.instance.inFlight.Add(1)
	x.tried = append(x.tried, c.instance)
	x.last = &x.attempts[len(x.tried)-1]
	x.last.choice = *c
	if c.fair {
		s.stream.Begin(&x.last.open, c.arm.share, time.Now())
	}
	return x.last
}

// again says whether another attempt after err can do no harm: nothing was
// sent, or the connection broke and the request may be repeated. That once: one
// that ends its instance must not end all of them.
func (x *exchange) again(method string, err error) bool {
	if errors.Is(err, context.Canceled) || x.body.from != nil && x.body.begun.Load() {
		return false
	}
	if upstream.NotConnected(err) || errors.Is(err, upstream.ErrBusy) {
		return true
	}
	first := !x.broke
	x.broke = true
	return first && upstream.Broken(err) && x.body.from == nil && upstream.Idempotent(method)
}

// relay hands the answer on.
func (x *exchange) relay(r *http.Request, s *service, res *upstream.Response) {
	h := x.w.Header()
	upstream.CopyHeader(h, res.Header)
	h["X-Request-Id"] = []string{x.entry.ID}
	if x.mark != "" {
		h.Add("Set-Cookie", s.Sticky.cookie(x.mark, r.TLS != nil))
	}
	var announced []string
	for name := range res.Trailer() {
		announced = append(announced, name)
		h.Add("Trailer", name)
	}
	x.w.WriteHeader(res.Status)
	err := x.copyBody(r, s, res)
	if err == nil {
		for name, values := range res.Trailer() {
			if !slices.Contains(announced, name) {
				name = http.TrailerPrefix + name
			}
			h[name] = values
		}
		x.last.open.Settle(false)
		return
	}
	x.entry.Error = err.Error()
	panic(http.ErrAbortHandler) // the client must see that this is not the whole
}

// copyBody copies the body; what there is goes out before more is waited for.
func (x *exchange) copyBody(r *http.Request, s *service, res *upstream.Response) error {
	buffer := upstream.Buffer()
	defer upstream.Release(buffer)
	control := http.NewResponseController(&x.w)
	for first := true; ; first = false {
		if first && res.Length != 0 && !res.Ready() { // the header must not wait for the body
			if err := control.Flush(); err != nil {
				return err
			}
		}
		n, err := res.Read(buffer)
		if first && err == io.EOF { // that is all: the server sends it with the header
			_, err := x.w.Write(buffer[:n])
			return err
		}
		if n > 0 {
			if err := x.send(r, control, buffer[:n], s.Limits.ClientTimeout, err == nil && !res.Ready()); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			x.last.open.Settle(x.client.Err() == nil)
			return err
		}
	}
}

// send writes a part of an answer; one that the client does not take in time
// breaks off.
func (x *exchange) send(r *http.Request, control *http.ResponseController, part []byte, limit time.Duration, flush bool) error {
	if err := control.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := x.w.Write(part); err != nil {
		return err
	}
	if flush {
		if err := control.Flush(); err != nil {
			return err
		}
	}
	if r.ProtoMajor > 1 { // there a deadline that passes ends the stream, though nothing is sent
		return control.SetWriteDeadline(time.Time{})
	}
	return nil
}

// switchProtocols connects the client with the instance until both are done.
func (x *exchange) switchProtocols(res *upstream.Response) {
	h := x.w.Header()
	upstream.CopyHeader(h, res.Header)
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, res.Header["Upgrade"]
	h["X-Request-Id"] = []string{x.entry.ID}
	x.w.WriteHeader(http.StatusSwitchingProtocols)
	x.last.open.Settle(false)
	client, buffered, err := http.NewResponseController(&x.w).Hijack()
	if err != nil {
		x.entry.Error = err.Error()
		panic(http.ErrAbortHandler)
	}
	x.w.status = http.StatusSwitchingProtocols
	defer client.Close()
	if err := buffered.Flush(); err != nil {
		x.entry.Error = err.Error()
		return
	}
	server, read := res.Conn()
	defer context.AfterFunc(x.client, func() { client.Close(); server.Close() })()
	up := make(chan struct{})
	go func() {
		defer close(up)
		pipe(server, buffered.Reader)
	}()
	x.entry.Bytes = pipe(client, read)
	client.Close()
	<-up
}

// pipe copies until the reading side ends, and then ends the writing side; a
// failure is an end too.
func pipe(to net.Conn, from io.Reader) int64 {
	buffer := upstream.Buffer()
	defer upstream.Release(buffer)
	n, err := io.CopyBuffer(struct{ io.Writer }{to}, from, buffer)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		_ = to.Close()
	}
	return n
}

func (x *exchange) tooLarge(service string) {
	x.w.Header().Set("Connection", "close")
	x.page(http.StatusRequestEntityTooLarge, "the request is too large", "The service "+service+" takes smaller bodies only.")
}

// fail answers for an upstream that did not.
func (x *exchange) fail(err error) {
	x.entry.Error = err.Error()
	name := "The service " + x.entry.Service
	switch {
	case x.body.large.Load():
		x.tooLarge(x.entry.Service)
	case errors.Is(err, upstream.ErrBody):
		x.w.Header().Set("Connection", "close")
		x.page(http.StatusBadRequest, "bad request", "The body of the request is broken.")
	case errors.Is(err, context.Canceled):
		x.abandon()
	case errors.Is(err, errNoInstance):
		x.w.Header().Set("Retry-After", "1")
		x.page(http.StatusServiceUnavailable, "no instance is running", name+" has no instance that can take the request now.")
	case errors.Is(err, upstream.ErrBusy):
		x.w.Header().Set("Retry-After", "1")
		x.page(http.StatusServiceUnavailable, "too many requests", name+" has as many requests as it may.")
	case errors.Is(err, upstream.ErrNoAnswer):
		x.page(http.StatusGatewayTimeout, "no answer in time", name+" did not answer by its deadline.")
	default:
		x.page(http.StatusBadGateway, "the service failed", name+" broke the connection or answered with something that is not HTTP.")
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

// end lets go of the instance, once; an outcome still open is not the
// instance's fault: the client left.
func (a *attempt) end() {
	if a.ended {
		return
	}
	a.ended = true
	a.open.Settle(false)
	a.instance.inFlight.Add(-1)
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
	x.entry.Status, x.entry.Bytes = x.w.status, max(x.w.bytes, x.entry.Bytes)
	x.entry.Ms = float64(time.Since(x.entry.Time).Microseconds()) / 1000
	x.plane.traffic.count(x)
	x.plane.log.write(&x.entry)
}
