package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"makeitso/internal/edge/front"
)

const (
	headerTime = 10 * time.Second // in which the header of a request has to come
	idleTime   = 2 * time.Minute  // how long a connection is kept without a request
)

// servers are what the clients reach: one for each version of HTTP. The first
// takes all connections, and gives those of HTTP/2 to the second.
type servers struct {
	one    *front.Server
	two    *http.Server
	passed *queue // those of HTTP/2
}

func (p *plane) servers(requests context.Context) *servers {
	s := &servers{passed: newQueue(p.public.Addr())}
	s.one = &front.Server{
		Handler: p, Base: requests, Count: p.clients.add, Refused: p.refused, Log: p.quiet,
		HTTP2: func(conn net.Conn) {
			if !s.passed.put(conn) {
				p.clients.add(-1)
			}
		},
		HeaderBytes: maxHeaderBytes, HeaderTime: headerTime, IdleTime: idleTime, WriteTime: defaultClientTimeout,
	}
	s.two = &http.Server{
		Handler:     p,
		BaseContext: func(net.Listener) context.Context { return requests },
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed { // its begin was counted by the other server
				p.clients.add(-1)
			}
		},
		ErrorLog:          p.quiet,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         new(http.Protocols),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250, SendPingTimeout: 30 * time.Second},
	}
	s.two.Protocols.SetHTTP2(true)
	s.two.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// refused notes a request that is none in the access log.
func (p *plane) refused(remote string, status int, why string) {
	p.log.write(&entry{Time: time.Now(), Remote: remote, Status: status, Error: why})
}

// shutdown lets the requests under way finish, and takes no others.
func (s *servers) shutdown(ctx context.Context) error {
	second := make(chan error, 1)
	go func() { second <- s.two.Shutdown(ctx) }()
	return errors.Join(unlessClosed(s.one.Shutdown(ctx)), unlessClosed(<-second))
}

// close breaks off what there is.
func (s *servers) close() error {
	return errors.Join(unlessClosed(s.two.Close()), unlessClosed(s.one.Close()))
}
