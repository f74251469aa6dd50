package edge

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"makeitso/internal/edge/socket"
)

// queue is a listener whose connections are put there.
type queue struct {
	address net.Addr
	ready   chan net.Conn
	ctx     context.Context // ends when there will be no connection any more
	cancel  context.CancelFunc
}

func newQueue(address net.Addr) *queue {
	q := &queue{address: address, ready: make(chan net.Conn)}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	return q
}

// put waits until a connection is taken; not so if there will be nobody.
func (q *queue) put(conn net.Conn) bool {
	select {
	case q.ready <- conn:
		return true
	case <-q.ctx.Done():
		_ = conn.Close() // of no use any more
		return false
	}
}

// Accept takes a connection.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case conn := <-q.ready:
		return conn, nil
	case <-q.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close lets no one wait any more.
func (q *queue) Close() error {
	q.cancel()
	return nil
}

// Addr is the address that was asked.
func (q *queue) Addr() net.Addr { return q.address }

// handshakeTime is how long a client may take to agree on TLS.
const handshakeTime = 10 * time.Second

// tlsListener gives connections on which TLS is agreed. The handshakes run
// beside each other: a slow client holds up nobody.
type tlsListener struct {
	*queue
	raw    net.Listener
	config *tls.Config
	all    sync.WaitGroup // the handshakes
}

func newTLSListener(raw net.Listener, config *tls.Config) *tlsListener {
	l := &tlsListener{queue: newQueue(raw.Addr()), raw: raw, config: config}
	go l.accept()
	return l
}

// accept ends when the socket is closed. Then those who have begun to agree may
// finish.
func (l *tlsListener) accept() {
	defer l.cancel()
	defer l.all.Wait()
	for {
		conn, err := l.raw.Accept()
		if err != nil {
			return
		}
		l.all.Go(func() { l.shake(conn) })
	}
}

func (l *tlsListener) shake(raw net.Conn) {
	ctx, cancel := context.WithTimeout(l.ctx, handshakeTime)
	defer cancel()
	conn := tls.Server(socket.Wrap(raw), l.config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the client knows why
		return
	}
	l.put(conn)
}

// Close closes the socket.
func (l *tlsListener) Close() error { return l.raw.Close() }
