package local

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"strconv"

	"makeitso/internal/fault"
	"makeitso/internal/statefile"
)

// Ports are taken from below the range that systems give to outgoing
// connections, so that a server finds its own port free after a restart.
const (
	firstPort = 20000
	lastPort  = 31999
)

// freePort gives a loopback port that nothing listens on and for which taken
// is false.
func freePort(taken func(port int) bool) (int, error) {
	const span = lastPort - firstPort + 1
	start := rand.IntN(span)
	for i := range span {
		port := firstPort + (start+i)%span
		if taken(port) {
			continue
		}
		if portIsFree(port) == nil {
			return port, nil
		}
	}
	return 0, fault.New(fault.Unavailable, "no port between %d and %d is free", firstPort, lastPort).
		WithHint("stop programs that listen there: ss -ltnp")
}

// portIsFree fails with fault.Unavailable if a program listens on the port.
func portIsFree(port int) error {
	l, err := net.Listen("tcp", loopback(port))
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "another program has port %d", port).
			WithHint("find it and stop it: ss -ltnp 'sport = :%d'", port)
	}
	return nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// claimPort gives r a port of its own and writes it down. It is kept for ever
// once the resource was ready; before that nobody knows it, and it is given up
// if another program took it meanwhile.
func (p *Platform) claimPort(r *resource) error {
	begun := r.Complete || r.By == byDocker || p.alive(r) == nil
	if r.Port != 0 && (begun || portIsFree(r.Port) == nil) {
		return nil
	}
	p.ports.Lock()
	defer p.ports.Unlock()
	taken, err := p.takenPorts()
	if err != nil {
		return err
	}
	if r.Port, err = freePort(taken); err != nil {
		return fmt.Errorf("choose a port for %s: %w", r.name(), err)
	}
	return p.save(r)
}

// takenPorts knows the ports of this environment, also of servers that do not
// run now.
func (p *Platform) takenPorts() (func(int) bool, error) {
	all, err := p.resources()
	if err != nil {
		return nil, err
	}
	taken := map[int]bool{}
	for _, r := range all {
		taken[r.Port] = true
	}
	instances, err := p.instancePorts()
	if err != nil {
		return nil, err
	}
	for _, port := range instances {
		taken[port] = true
	}
	store, err := p.storeConfig()
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	zones, err := p.zonesConfig()
	if err == nil {
		taken[zones.Port] = true
	} else if !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	var signals signalPort
	if err := statefile.Read(p.signalFile(), &signals); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	images, err := p.ImageRegistry()
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	taken[store.Port], taken[store.WebsitePort], taken[signals.Port], taken[images.Port] = true, true, true, true
	return func(port int) bool { return taken[port] }, nil
}
