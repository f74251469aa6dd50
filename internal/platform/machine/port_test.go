package machine

import (
	"net"
	"strings"
	"testing"
	"time"

	"makeitso/internal/fault"
)

// TestAwaitPort waits for the port of a server that lets go of it meanwhile, and
// says how to find the program if it stays.
func TestAwaitPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	err = AwaitPort(t.Context(), "tcp", port)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Text(err), "ss -ltnp") {
		t.Errorf("of a port that stays in use it said %v", err)
	}
	time.AfterFunc(5*ReadyInterval, func() { _ = l.Close() }) // the next Listen would see a failure
	if err := AwaitPort(t.Context(), "tcp", port); err != nil {
		t.Errorf("of a port that was let go it said %v", err)
	}
}
