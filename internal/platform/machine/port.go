package machine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/process"
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
		if PortIsFree("tcp", port) == nil {
			return port, nil
		}
	}
	return 0, fault.New(fault.Unavailable, "no port between %d and %d is free", firstPort, lastPort).
		WithHint("stop programs that listen there: ss -ltnp")
}

// PortIsFree fails with fault.Unavailable if a program has the port, for TCP or,
// with the network "udp4", for UDP.
func PortIsFree(network string, port int) error {
	err := process.TryListen(network, Loopback(port))
	if err == nil {
		return nil
	}
	what, tool := "port", "ss -ltnp"
	if network == "udp4" {
		what, tool = "UDP port", "ss -lunp"
	}
	return fault.Wrap(fault.Unavailable, err, "another program has %s %d", what, port).
		WithHint("find it and stop it: %s 'sport = :%d'", tool, port)
}

// letGoTime is how long a port may be in use by nobody any more.
const letGoTime = time.Second

// AwaitPort is PortIsFree for who starts a server at the port. One that was
// killed lets go of it a moment after it has ended, and a child until it executes
// its own program, which are no events that could be awaited.
func AwaitPort(ctx context.Context, network string, port int) error {
	free := func(context.Context) error { return PortIsFree(network, port) }
	err := free(ctx)
	if err == nil {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, letGoTime)
	defer stop()
	if AwaitReady(ctx, nil, free) == nil {
		return nil
	}
	return err
}

// Loopback is the address of a port of this machine.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// ClaimPort gives r a port of its own and writes it down. It is kept for ever
// once the resource was ready; before that nobody knows it, and it is given up
// if another program took it meanwhile.
func (m *Machine) ClaimPort(r *Resource) error {
	begun := r.Complete || r.By == ByDocker || m.Alive(r) == nil
	if r.Port != 0 && (begun || PortIsFree("tcp", r.Port) == nil) {
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
