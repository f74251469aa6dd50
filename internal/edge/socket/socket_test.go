package socket

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// pipe gives both ends of a connection.
func pipe() (a, b net.Conn, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, nil, err
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, nil, err
	}
	if b, err = l.Accept(); err != nil {
		return nil, nil, nil, err
	}
	a, b = Wrap(a), Wrap(b)
	return a, b, func() { a.Close(); b.Close() }, nil
}

// TestConn holds a connection against what every net.Conn does.
func TestConn(t *testing.T) { nettest.TestConn(t, pipe) }

func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	left, right, stop, err := pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return left.(*Conn), right.(*Conn)
}

// TestEnds tells the ends of a connection apart.
func TestEnds(t *testing.T) {
	a, b := pair(t)
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("of a client that sends no more %d bytes were read, and %v", n, err)
	}
	if _, err := b.Write([]byte("still here")); err != nil {
		t.Errorf("it was not answered: %v", err)
	}
	if _, err := io.ReadFull(a, make([]byte, len("still here"))); err != nil {
		t.Fatal(err)
	}
	if err := b.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	var op *net.OpError
	for _, end := range []struct {
		name string
		do   func([]byte) (int, error)
		want error
	}{{"read", a.Read, syscall.ECONNRESET}, {"write", a.Write, syscall.EPIPE}} {
		if _, err := end.do(make([]byte, 100)); !errors.Is(err, end.want) || !errors.As(err, &op) || op.Op != end.name || op.Addr == nil {
			t.Errorf("%s of a connection that was broken off: %v; want %v", end.name, err, end.want)
		}
	}
	for name, do := range map[string]func([]byte) (int, error){"read": b.Read, "write": b.Write} {
		if _, err := do(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s of a closed connection: %v", name, err)
		}
	}
}

// TestWriteThatIsCutOff says how much of it went.
func TestWriteThatIsCutOff(t *testing.T) {
	a, b := pair(t)
	if err := a.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := a.Write(make([]byte, 64<<20)) // which nobody reads
	var timeout net.Error
	if n == 0 || n == 64<<20 || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("%d bytes were written, and %v", n, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.Copy(io.Discard, struct{ io.Reader }{b}); err != nil || got != int64(n) {
		t.Errorf("%d of %d bytes came, and %v", got, n, err)
	}
}
