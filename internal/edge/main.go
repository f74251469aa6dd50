package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"makeitso/internal/fault"
)

// Options of an edge process.
type Options struct {
	Listen string // address to serve, e.g. 127.0.0.1:8080; port 0 takes a free one
	Socket string // path of the control socket
	Config string // file that keeps the accepted configuration, "" for none
	Log    string // access log, "" for none
	// Metrics is an address that gives metrics to Prometheus, which the control
	// socket does always; "" for none.
	Metrics string
	// Certificates is the folder of the certificates that the edge makes and
	// gets; default "certificates" beside the configuration.
	Certificates string
	// Key is the file of the key that seals those it gets, "" for none.
	Key string

	// TakeOver gets sockets, configuration and cursors from the edge that runs
	// behind Socket, which then ends when its connections have.
	TakeOver bool

	LogBytes int64         // size at which the log is rotated; default 64 MiB
	Drain    time.Duration // how long requests may finish at the end; default 10 s
}

// maxHeaderBytes is how large the header of a request may be.
const maxHeaderBytes = 64 << 10

// gcPercent makes the collector run less often than Go does by itself: the
// edge holds little and throws away much.
const gcPercent = 400

// maxSocketPath is what the kernel allows, without the final zero.
const maxSocketPath = 107

func (o Options) normalize() (Options, error) {
	if o.LogBytes == 0 {
		o.LogBytes = 64 << 20
	}
	if o.Drain == 0 {
		o.Drain = 10 * time.Second
	}
	if o.Certificates == "" && o.Config != "" {
		o.Certificates = filepath.Join(filepath.Dir(o.Config), "certificates")
	}
	if o.Listen == "" || o.Socket == "" {
		return o, fault.New(fault.Invalid, "the edge needs an address to listen on and the path of its socket")
	}
	if len(o.Socket) > maxSocketPath {
		return o, fault.New(fault.Invalid, "the path of the edge's socket has %d bytes, at most %d are possible: %s", len(o.Socket), maxSocketPath, o.Socket).
			WithHint("use a shorter state folder: --state DIR")
	}
	return o, nil
}

// Main is the edge process: it serves until ctx ends, then lets the requests
// under way finish and returns. With a saved configuration it serves as
// before from the start; else it waits for one on the socket. The socket
// appears when the edge is ready to be asked.
func Main(ctx context.Context, o Options) (err error) {
	o, err = o.normalize()
	if err != nil {
		return err
	}
	debug.SetGCPercent(gcPercent)
	// One that was killed as it drained may have had this process's number.
	if err := os.Remove(partedSocket(o.Socket, os.Getpid())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Unavailable, err, "the edge cannot remove what another left")
	}
	log, err := openAccessLog(o.Log, o.LogBytes)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the edge cannot write its log")
	}
	p, before, err := prepare(ctx, o, log)
	if err != nil {
		return errors.Join(err, log.close())
	}
	defer p.public.Close() // again, where a server has closed it already
	return errors.Join(p.serve(ctx, before), p.close())
}

// prepare gets the sockets, of the system or of the edge that runs, and makes
// the plane; all is closed on failure.
func prepare(ctx context.Context, o Options, log *accessLog) (p *plane, before *inheritance, err error) {
	if o.TakeOver {
		before, err = takeOver(ctx, o.Socket)
		if err != nil {
			return nil, nil, err
		}
		if p, err = newPlane(before.sockets[publicSocket], o, log, before); err != nil {
			return nil, nil, errors.Join(err, before.close())
		}
		p.private, p.measured = before.sockets[controlSocket], before.sockets[metricsSocket]
		if err = before.succeed(p.current()); err != nil {
			p.checker.run(nil)
			return nil, nil, errors.Join(fault.Wrap(fault.Failed, err, "the running edge did not hand over"), before.close())
		}
		return p, before, nil
	}
	public, err := listen(o.Listen)
	if err != nil {
		return nil, nil, err
	}
	if p, err = newPlane(public, o, log, nil); err != nil {
		return nil, nil, errors.Join(err, public.Close())
	}
	if o.Metrics != "" {
		p.measured, err = listen(o.Metrics)
	}
	if err == nil {
		p.private, err = listenSocket(ctx, o.Socket)
	}
	if err != nil {
		p.checker.run(nil)
		if p.measured != nil {
			err = errors.Join(err, p.measured.Close())
		}
		return nil, nil, errors.Join(err, public.Close())
	}
	return p, nil, nil
}

// serve runs all servers until ctx ends, one of them fails, or another process
// has taken over and the connections are gone.
func (p *plane) serve(ctx context.Context, before *inheritance) error {
	requests, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	public := p.servers(requests)
	control := &http.Server{Handler: p.control(), ErrorLog: p.quiet, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 4)
	var servers, beside sync.WaitGroup
	run := func(server interface{ Serve(net.Listener) error }, l net.Listener) {
		servers.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				failed <- fmt.Errorf("serve %s: %w", l.Addr(), err)
			}
		})
	}
	run(public.two, public.passed)
	run(public.one, p.public)
	run(control, p.private)
	measure := &http.Server{Handler: http.HandlerFunc(p.metrics), ErrorLog: p.quiet, ReadHeaderTimeout: 10 * time.Second}
	if p.measured != nil {
		run(measure, p.measured)
	}
	p.ports.begin(func(l net.Listener) {
		beside.Go(func() { _ = public.one.Serve(l) }) // ends when its listener is closed
	})
	if before != nil {
		servers.Go(func() { p.follow(requests, before) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	case <-p.parting.left:
		run(control, p.parting.private)
		err = p.part(ctx)
	}
	p.ports.end()
	beside.Wait() // a server that still knows a closed listener would fail to close it at its shutdown
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.options.Drain)
	defer cancel()
	err = errors.Join(err, p.shutdown(draining, public, stop), p.farewell())
	if p.leaving.Load() { // whoever reads outcomes gets the last ones, and is told that there are no more
		if late := control.Shutdown(draining); late != nil && !errors.Is(late, context.DeadlineExceeded) && !errors.Is(late, net.ErrClosed) {
			err = errors.Join(err, late)
		}
	}
	err = errors.Join(err, unlessClosed(control.Close()), unlessClosed(measure.Close()))
	servers.Wait()
	return err
}

// part takes no more connections, and waits until those that there are have
// ended: each is told with its next answer.
func (p *plane) part(ctx context.Context) error {
	p.ports.end()
	if unix, ok := p.private.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false) // the name leads to the process that took over
	}
	err := errors.Join(p.public.Close(), p.private.Close())
	if p.measured != nil {
		err = errors.Join(err, p.measured.Close())
	}
	drain, cancel := context.WithTimeout(ctx, handoverDrain)
	defer cancel()
	select {
	case <-p.clients.gone():
	case <-drain.Done():
	}
	return err
}

// farewell gives the process that took over the last report, if there is one.
func (p *plane) farewell() error {
	if p.parting.conn == nil {
		return nil
	}
	// A process that took over and is gone already has no use for it.
	_ = json.NewEncoder(p.parting.conn).Encode(p.stats(context.Background()))
	return p.parting.conn.Close()
}

// listen takes the address that the edge serves.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fault.New(fault.Conflict, "the edge cannot listen on %s: another program has that port", address).
			WithHint("end that program, or choose another port with --listen, e.g. --listen 127.0.0.1:8081")
	case errors.Is(err, fs.ErrPermission):
		return nil, fault.Wrap(fault.Denied, err, "the edge may not listen on %s", address).
			WithHint("ports below 1024 need root; choose another with --listen, e.g. --listen 127.0.0.1:8080")
	}
	return nil, fault.Wrap(fault.Invalid, err, "the edge cannot listen on %s", address).
		WithHint("give an address of this machine with --listen, e.g. --listen 127.0.0.1:8080")
}

// listenSocket makes the control socket. One that nobody serves is left over
// from an edge that was killed, and is replaced.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		return nil, errors.Join(fault.New(fault.Conflict, "another edge serves the socket %s already", path), conn.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Unavailable, err, "the edge cannot replace its socket")
	}
	l, err := net.Listen("unix", path)
	if err == nil {
		if err = os.Chmod(path, 0o600); err == nil {
			return l, nil
		}
		err = errors.Join(err, l.Close())
	}
	return nil, fault.Wrap(fault.Unavailable, err, "the edge cannot make its socket")
}
