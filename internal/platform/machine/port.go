package machine

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	"makeitso/internal/fault"
)

// Ports are taken from below the range that systems give to outgoing
// connections, so that a server finds its own port free after a restart.
const (
	firstPort = 20000
	lastPort  = 31999
)

// FreePort gives a loopback port that nothing listens on and for which taken
// is false.
func FreePort(taken func(port int) bool) (int, error) {
	const span = lastPort - firstPort + 1
	start := rand.IntN(span)
	for i := range span {
		port := firstPort + (start+i)%span
		if taken(port) {
			continue
		}
		if PortIsFree(port) == nil {
			return port, nil
		}
	}
	return 0, fault.New(fault.Unavailable, "no port between %d and %d is free", firstPort, lastPort).
		WithHint("stop programs that listen there: ss -ltnp")
}

// PortIsFree fails with fault.Unavailable if a program listens on the port.
func PortIsFree(port int) error {
	l, err := net.Listen("tcp", Loopback(port))
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "another program has port %d", port).
			WithHint("find it and stop it: ss -ltnp 'sport = :%d'", port)
	}
	return nil
}

// Loopback is the address of a port of this machine.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// ClaimPort gives r a port of its own and writes it down. It is kept for ever
// once the resource was ready; before that nobody knows it, and it is given up
// if another program took it meanwhile.
func (m *Machine) ClaimPort(r *Resource) error {
	begun := r.Complete || r.By == ByDocker || m.Alive(r) == nil
	if r.Port != 0 && (begun || PortIsFree(r.Port) == nil) {
		return nil
	}
	m.Ports.Lock()
	defer m.Ports.Unlock()
	taken, err := m.TakenPorts()
	if err != nil {
		return err
	}
	if r.Port, err = FreePort(taken); err != nil {
		return fmt.Errorf("choose a port for %s: %w", r.Name(), err)
	}
	return m.Save(r)
}

// TakenPorts knows the ports of this environment, also of servers that do not
// run now.
func (m *Machine) TakenPorts() (func(int) bool, error) {
	all, err := m.Resources()
	if err != nil {
		return nil, err
	}
	taken := map[int]bool{}
	for _, r := range all {
		taken[r.Port] = true
	}
	if m.hooks.Ports != nil {
		others, err := m.hooks.Ports()
		if err != nil {
			return nil, err
		}
		for _, port := range others {
			taken[port] = true
		}
	}
	return func(port int) bool { return taken[port] }, nil
}
