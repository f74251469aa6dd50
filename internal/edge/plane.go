package edge

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"makeitso/internal/edge/certificate"
	"makeitso/internal/fault"
	"makeitso/internal/seal"
)

// plane is the data plane: it serves the table in force and lets it be
// swapped while it does.
type plane struct {
	options   Options
	listen    string // address served
	public    net.Listener
	private   net.Listener // the control socket
	measured  net.Listener // where metrics are given, nil for the control socket only
	clients   crowd
	parting   parting
	leaving   atomic.Bool // another process takes over
	elder     elder
	saved     string // where the accepted configuration is kept, "" for nowhere
	transport *http.Transport
	quiet     *log.Logger
	log       *accessLog
	cache     *cache
	traffic   *traffic

	certificates *certificate.Store
	running      *underWay // requests under way, upgraded connections too

	life context.Context // of what goes on without a request; ends with end
	end  context.CancelFunc

	// mu is held for reading only while an attempt picks its instance and is
	// counted there. So once apply has held it for writing, every request
	// that chose by the old table shows in inFlight: an instance that drains
	// and shows none can be stopped.
	mu    sync.RWMutex
	table *table

	exchanges sync.Pool // of *exchange

	ports    ports
	applying sync.Mutex // one configuration at a time
	checker  *checker
}

// newPlane makes a plane that serves what the edge before did, else what was
// accepted last, else nothing yet.
func newPlane(public net.Listener, o Options, log *accessLog, before *inheritance) (*plane, error) {
	var sealer certificate.Sealer
	if o.Key != "" {
		key, err := seal.Load(o.Key)
		if err != nil {
			return nil, err
		}
		sealer = key
	}
	p := &plane{
		options: o, listen: public.Addr().String(), public: public, saved: o.Config, log: log, quiet: quietLogger(), checker: newChecker(),
		certificates: certificate.NewStore(o.Certificates, sealer), cache: newCache(cacheBytes), transport: newTransport(),
		table: &table{}, exchanges: sync.Pool{New: func() any { return new(exchange) }},
		parting: parting{left: make(chan struct{})}, traffic: newTraffic(), running: newUnderWay(),
	}
	p.life, p.end = context.WithCancel(context.Background())
	p.ports.secure = p.certificates.Config()
	c, err := Config{}, error(nil)
	switch {
	case before != nil:
		c, p.ports.given = before.Config, maps.Clone(before.sockets)
		delete(p.ports.given, publicSocket)
		delete(p.ports.given, controlSocket)
		delete(p.ports.given, metricsSocket)
		p.elder.client = NewClient(before.Old)
	case p.saved != "":
		c, err = LoadConfig(p.saved)
	}
	if err != nil || c.Version == 0 {
		return p, err
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("load the configuration: %w", err)
	}
	return p, errors.Join(p.wantCertificates(c, true), p.put(c))
}

// wantCertificates says where they come from by a document; unless it is
// patient, it fails where files cannot be read.
func (p *plane) wantCertificates(c Config, patient bool) error {
	w := certificate.Wanted{Patient: patient, Local: func(host string) bool {
		t := p.current()
		return host == "localhost" || net.ParseIP(host) != nil || t.hosts[host] != nil || t.balancerFor(host, true) != nil || t.sites[host] != nil
	}}
	if c.TLS != nil {
		w.Sources = c.TLS.Sources
	}
	if err := p.certificates.Want(w); err != nil {
		return fault.Wrap(fault.Invalid, err, "the edge configuration is wrong")
	}
	return nil
}

// newTransport is how instances and origins are asked.
func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 512,
		// An upstream that closes idle connections must not do so while a
		// request that cannot be repeated is on its way to it, so the edge
		// closes them first. Servers wait 2 s or longer.
		IdleConnTimeout:        time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		DisableCompression:     true,
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         16 << 10,
	}
}

// apply checks a configuration, keeps it, and puts it in force. On failure the
// one before stays in force. The same document again is fine.
func (p *plane) apply(c Config) error {
	p.applying.Lock()
	defer p.applying.Unlock()
	if err := c.Validate(); err != nil {
		return err
	}
	now := p.current().config
	if c.Version < now.Version || c.Version == now.Version && !reflect.DeepEqual(c, now) {
		return fault.New(fault.Conflict, "the edge has configuration version %d already and was given another one with version %d", now.Version, c.Version).
			WithHint("read its version with Stats and give a higher one")
	}
	if err := p.wantCertificates(c, false); err != nil {
		return err
	}
	if err := p.save(c); err != nil {
		return fault.Wrap(fault.Unavailable, err, "the edge cannot keep its configuration")
	}
	return errors.Join(p.put(c), p.elder.pass(context.Background(), c))
}

// put swaps the table for that of a valid document. It must not be called
// twice at once.
func (p *plane) put(c Config) error {
	before := p.current()
	next, err := newTable(c, before)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.table = next
	p.mu.Unlock()
	before.retire(next)
	p.ports.want(p.listen, c)
	p.checker.run(next.probes())
	p.cache.retain(c.Sites, before.config.Sites)
	return nil
}

func (p *plane) current() *table {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.table
}

// save writes the document so that a crash leaves the old or the new one.
func (p *plane) save(c Config) error {
	if p.saved == "" {
		return nil
	}
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(p.saved), filepath.Base(p.saved)+".*") // mode 0600: it holds keys
	if err != nil {
		return err
	}
	_, err = file.Write(raw)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), p.saved)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// stats makes the edge's report.
func (p *plane) stats(ctx context.Context) Stats {
	t := p.current()
	s := Stats{
		PID: os.Getpid(), Version: t.config.Version, Listen: p.listen,
		Services: map[string]map[string]Counts{}, InFlight: map[string]int64{}, Unhealthy: map[string]string{},
		LogDropped: p.log.dropped.Load(), PortsRefused: p.ports.refusals(), Secure: p.ports.addresses(),
		CertificateTroubles: p.certificates.Troubles(t.hostNames()),
	}
	if p.measured != nil {
		s.Metrics = p.measured.Addr().String()
	}
	if err := p.log.failure(); err != nil {
		s.LogError = err.Error()
	}
	for name, all := range t.tallies {
		s.Services[name] = map[string]Counts{}
		for arm, n := range all.byArm {
			bad := n.Bad.Load()
			s.Services[name][arm] = Counts{Requests: n.Requests.Load(), Bad: bad}
		}
	}
	for id, in := range t.instances {
		s.InFlight[id] = in.inFlight.Load()
		if reason := in.health.why(time.Now()); reason != "" {
			s.Unhealthy[id] = reason
		}
	}
	for _, in := range t.leaving {
		if n := in.inFlight.Load(); n > 0 {
			s.InFlight[in.ID] += n
		}
	}
	p.elder.add(ctx, &s)
	return s
}

// invalidate forgets cached objects of a site; see Client.Invalidate.
func (p *plane) invalidate(site string, paths []string) error {
	for _, s := range p.current().config.Sites {
		if s.Name == site {
			return p.cache.invalidate(site, paths)
		}
	}
	return fault.New(fault.NotFound, "the edge has no site %q", site)
}

// close ends what the plane runs. No request may be under way.
func (p *plane) close() error {
	p.checker.run(nil)
	p.current().retire(&table{})
	p.transport.CloseIdleConnections()
	return p.log.close()
}

// ServeHTTP serves one request by its host name and logs it.
func (p *plane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.running.begin()
	defer p.running.end()
	x := p.exchanges.Get().(*exchange)
	defer p.exchanges.Put(x)
	*x = exchange{plane: p, w: recorder{ResponseWriter: w}, client: r.Context(), host: canonicalHost(r.Host)}
	x.tried = x.places[:0]
	x.entry = entry{
		Time: time.Now(), ID: requestID(r), Remote: r.RemoteAddr,
		Host: x.host, Method: r.Method, Path: r.URL.Path,
	}
	if p.leaving.Load() {
		w.Header().Set("Connection", "close") // in HTTP/2 the server makes a GOAWAY of it
	}
	defer x.finish() // also when the answer is broken off by a panic
	t := p.current()
	balancer, service := t.atPort(r, p.listen, x.host), t.serviceFor(x.host, r.URL.Path)
	if balancer == nil && service == nil {
		balancer = t.balancerFor(x.host, r.TLS != nil)
	}
	switch {
	case x.challenged(r):
	case balancer != nil:
		x.serveBalanced(r, balancer)
	case service != nil:
		x.service = service.Name
		x.serveService(r)
	case t.sites[x.host] != nil:
		x.serveSite(r, t.sites[x.host])
	default:
		x.unknownHost(t)
	}
}

// challenged answers an ACME authority that asks whether the host is ours.
func (x *exchange) challenged(r *http.Request) bool {
	if !strings.HasPrefix(r.URL.Path, "/.well-known/acme-challenge/") {
		return false
	}
	h := x.plane.certificates.Challenge(x.host)
	if h != nil {
		h.ServeHTTP(&x.w, r)
	}
	return h != nil
}

// requestID gives the request's own id if it has a usable one, else a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	usable := id != "" && len(id) <= 128
	for i := 0; usable && i < len(id); i++ {
		usable = id[i] > ' ' && id[i] < 0x7f
	}
	if usable {
		return id
	}
	var random [16]byte // nobody is kept out by not knowing it: it need not be a secret
	binary.LittleEndian.PutUint64(random[:], rand.Uint64())
	binary.LittleEndian.PutUint64(random[8:], rand.Uint64())
	return hex.EncodeToString(random[:12])
}

// recorder notes what is answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) WriteHeader(status int) {
	if status >= 200 && w.status == 0 { // a 1xx is followed by another
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController flush and hijack.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// quietLogger drops what net/http prints about single connections: the access
// log has it, with the request.
func quietLogger() *log.Logger { return log.New(io.Discard, "", 0) }

// shutdown drains: no new connection, and requests under way may finish until
// ctx ends; then they are broken off by stop, which cancels their contexts. What
// goes on without a request is broken off at once.
func (p *plane) shutdown(ctx context.Context, public *servers, stop context.CancelFunc) error {
	p.end()
	err := public.shutdown(ctx)
	finished := make(chan struct{})
	go func() {
		p.running.wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-ctx.Done():
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // what did not finish by the deadline is broken off now
	}
	stop()
	if closing := public.close(); err == nil {
		err = closing
	}
	<-finished
	p.running.wait() // for what began until the connections were closed
	return err
}

// unlessClosed leaves out that a socket was closed before its server was.
func unlessClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
