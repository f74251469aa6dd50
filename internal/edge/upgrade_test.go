package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"makeitso/internal/edge/outcome"
	"makeitso/internal/fault"
)

// TestUpgradeLosesNothing replaces an edge by another under load, with a
// request under way that ends after that.
func TestUpgradeLosesNothing(t *testing.T) {
	old := start(t, Options{})
	arrived, release := make(chan struct{}), make(chan struct{})
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-release
		}
		fmt.Fprint(w, "ok")
	}
	c := twoArms(1, backend(t, handler), backend(t, handler), 0.5)
	_, port, _ := strings.Cut(refused(t), ":")
	var n int
	fmt.Sscan(port, &n)
	c.Balancers = []Balancer{{Name: "front", Hosts: []string{"front.localhost"}, Port: n, Rules: []Rule{{Forward: []Share{{Service: "local/api", Weight: 1}}}}}}
	old.configure(t, c)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var watching, load, slow sync.WaitGroup
	var told, sent atomic.Int64
	begun := make(chan struct{})
	watching.Go(func() {
		first := sync.OnceFunc(func() { close(begun) })
		err := old.Watch(ctx, "local/api", outcome.Cursor{}, func(b outcome.Batch) error {
			first()
			if b.Gap {
				t.Errorf("a gap of %d", b.Lost)
			}
			told.Add(int64(len(b.Outcomes)))
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	<-begun
	slow.Go(func() {
		if res, body := old.get(t, apiHost, "/slow"); body != "ok" {
			t.Errorf("the slow one: %s %q", res.Status, body)
		}
	})
	<-arrived
	loading, enough := context.WithCancel(t.Context())
	const clients = 6
	for i := range clients {
		load.Go(func() {
			address := old.address
			if i == 0 {
				address = "127.0.0.1:" + port
			}
			transport := &http.Transport{} // a connection of its own, kept
			defer transport.CloseIdleConnections()
			for loading.Err() == nil {
				req, err := http.NewRequest([]string{"GET", "POST"}[i%2], "http://"+address+"/", strings.NewReader("body"))
				if err != nil {
					t.Error(err)
					return
				}
				req.Host = apiHost
				res, err := transport.RoundTrip(req) // which repeats nothing that has a body
				if err != nil || res.StatusCode != 200 {
					t.Errorf("client %d: %v %v", i, res, err)
					return
				}
				res.Body.Close()
				sent.Add(1)
			}
		})
	}
	eventually(t, "some are sent", func() bool { return sent.Load() > 100 })
	o := old.options
	o.TakeOver = true
	young := start(t, o)
	if young.address != old.address {
		t.Errorf("it serves %s in place of %s", young.address, old.address)
	}
	at := sent.Load()
	eventually(t, "some more are sent", func() bool { return sent.Load() > at+200 })
	s := young.stats(t)
	if n := s.InFlight["old-0"] + s.InFlight["canary-0"]; n < 1 {
		t.Errorf("what is under way at the old edge is not seen: %v", s.InFlight)
	}
	// A configuration that comes now is in force for both.
	c.Version = 2
	young.configure(t, c)
	close(release)
	slow.Wait()
	enough()
	load.Wait()
	old.wait()
	counted := func() int64 {
		all := young.stats(t).Services["local/api"]
		return all["old"].Requests + all["canary"].Requests
	}
	// Each connection may have had a last request or two at the old edge, which
	// are counted nowhere.
	least := sent.Load() + 1 - 3*clients
	defer func() { t.Logf("%d sent, %d told, %d counted", sent.Load(), told.Load(), counted()) }()
	eventually(t, "all are told and counted", func() bool { return told.Load() == counted() && counted() >= least })
	if young.stats(t).InFlight["old-0"] != 0 {
		t.Error("something is under way at an edge that has ended")
	}
	cancel()
	watching.Wait()
}

func TestTakeOverThatFailsChangesNothing(t *testing.T) {
	e := start(t, Options{})
	e.configure(t, service1(1, backend(t, says("still here"))))
	if _, err := takeOver(t.Context(), t.TempDir()+"/none"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	i, err := takeOver(t.Context(), e.options.Socket)
	if err != nil {
		t.Fatal(err)
	}
	i.sockets[controlSocket].(*net.UnixListener).SetUnlinkOnClose(false) // as if the process were killed
	if err := i.close(); err != nil {
		t.Fatal(err)
	}
	if _, body := e.get(t, apiHost, "/"); body != "still here" {
		t.Errorf("got %q", body)
	}
	e.awaitCounts(t, "v1", Counts{Requests: 1})
	e.configure(t, service1(2, backend(t, says("and changes"))))
	if _, body := e.get(t, apiHost, "/"); body != "and changes" {
		t.Errorf("got %q", body)
	}
}

// TestSocketsThatAreHandedOverDoNotBlock, which they would do for the process
// that gives them too: its accept would hang, and it would never end.
func TestSocketsThatAreHandedOverDoNotBlock(t *testing.T) {
	e := start(t, Options{})
	conn, err := net.Dial("unix", e.options.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /handover HTTP/1.1\r\nHost: edge\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	mark, rights := make([]byte, len(handoverMark)), make([]byte, 4096)
	_, size, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(mark, rights)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:size])
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) < 2 {
		t.Fatal(fds, err)
	}
	for _, fd := range fds {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("a socket blocks: flags %x, %v", flags, err)
		}
		if err := syscall.Close(fd); err != nil {
			t.Error(err)
		}
	}
}
