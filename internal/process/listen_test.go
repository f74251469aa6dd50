package process

import (
	"net"
	"os/exec"
	"sync"
	"testing"
)

// TestTryListenLeavesTheAddressFree tries addresses while children are forked,
// which must not inherit what it listens with.
func TestTryListenLeavesTheAddressFree(t *testing.T) {
	stop := make(chan struct{})
	var forking sync.WaitGroup
	for range 4 {
		forking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := exec.Command("true").Run(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer forking.Wait()
	defer close(stop)
	free := map[string]string{"tcp": "127.0.0.1:21000", "udp4": "127.0.0.1:21001"}
	for network, address := range free {
		if err := TryListen(network, address); err != nil {
			t.Skipf("another program has %s %s", network, address)
		}
		const tries = 5000
		failed := 0
		for range tries {
			if err := TryListen(network, address); err != nil {
				failed++
			}
		}
		if failed > tries/50 { // a fifth of them if children inherit
			t.Errorf("%d of %d tries found %s in use", failed, tries, network)
		}
	}
}

// TestTryListenSeesWhoListens tries addresses that are in use.
func TestTryListenSeesWhoListens(t *testing.T) {
	stream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	for _, address := range []net.Addr{stream.Addr(), packets.LocalAddr()} {
		if err := TryListen(address.Network(), address.String()); err == nil {
			t.Errorf("%s %s is in use, and was taken", address.Network(), address)
		}
	}
}
