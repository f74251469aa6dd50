package process

import (
	"net"
	"os/exec"
	"runtime"
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
	// Neither the range that makeitso takes ports from nor that of the system.
	free := map[string]string{"tcp": "127.0.0.1:32101", "udp4": "127.0.0.1:32102"}
	times := 0
	for network, address := range free {
		if err := TryListen(network, address); err != nil {
			t.Skipf("another program has %s %s", network, address)
		}
		for range 5000 {
			if TryListen(network, address) == nil {
				continue
			}
			times++
			for TryListen(network, address) != nil { // by a child that only begins, and may be slow
				runtime.Gosched()
			}
		}
	}
	if times > 10 { // it is 0 or 1, and 27 to 117 if children inherit
		t.Errorf("%d times an address was in use by a child", times)
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
