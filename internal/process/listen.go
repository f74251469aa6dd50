package process

import (
	"io"
	"net"
	"strings"
	"syscall"
)

// TryListen listens at an address of a network, like "tcp" or "udp4", and stops
// at once: it fails if a server could not listen there.
//
// No child is forked meanwhile. It would have the socket too until its own program
// runs, and whoever starts a server next would find the address in use. One that
// is just beginning to run may still have it for an instant.
func TryListen(network, address string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	var l io.Closer
	var err error
	if strings.HasPrefix(network, "udp") {
		l, err = net.ListenPacket(network, address)
	} else {
		l, err = net.Listen(network, address)
	}
	if err != nil {
		return err
	}
	return l.Close()
}
