package edge

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// ports are the addresses which the edge takes beside its own as the
// configuration wants: those of balancers, and that of HTTPS. One that another
// program has is done without: what is behind it answers at the edge's own
// port.
type ports struct {
	secure *tls.Config

	mu      sync.Mutex
	serve   func(net.Listener) // nil before the edge serves and after
	wanted  map[string]bool    // by address: whether TLS is spoken there
	open    map[string]listening
	given   map[string]net.Listener // those of the process before, until they are wanted
	refused map[int]string
	clashes map[int]string // of balancers: one speaks HTTP there and another HTTPS
}

// listening is an address that was taken.
type listening struct {
	net.Listener
	raw    net.Listener // of the socket itself
	secure bool
}

// want says which addresses are to be taken from now on, besides own, the
// edge's.
func (p *ports) want(own string, c Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted, p.clashes = map[string]bool{}, map[int]string{}
	taken := map[string]bool{portOf(own): false} // by port: whether TLS is spoken there
	if c.TLS != nil && c.TLS.Listen != "" {
		p.wanted[c.TLS.Listen], taken[portOf(c.TLS.Listen)] = true, true
	}
	for _, b := range c.Balancers {
		if b.Port == 0 {
			continue
		}
		port := strconv.Itoa(b.Port)
		secure, has := taken[port]
		switch {
		case !has:
			p.wanted[net.JoinHostPort("127.0.0.1", port)], taken[port] = b.TLS, b.TLS
		case secure != b.TLS:
			p.clashes[b.Port] = fmt.Sprintf("balancer %q cannot have it: one port speaks either HTTP or HTTPS", b.Name)
		}
	}
	p.take()
}

// begin serves what is wanted.
func (p *ports) begin(serve func(net.Listener)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serve, p.open = serve, map[string]listening{}
	p.take()
	for _, l := range p.given {
		_ = l.Close() // wanted by no one any more
	}
	p.given = nil
}

// end serves no more; connections that were accepted live on.
func (p *ports) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = nil
	p.take()
	p.serve = nil
}

// take opens and closes listeners; the lock is held.
func (p *ports) take() {
	if p.serve == nil {
		return
	}
	p.refused = map[int]string{}
	for address, l := range p.open {
		if secure, still := p.wanted[address]; still && secure == l.secure {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			p.refuse(address, err)
		}
		delete(p.open, address)
	}
	for address, secure := range p.wanted {
		if _, has := p.open[address]; has {
			continue
		}
		raw, err := p.given[address], error(nil)
		if delete(p.given, address); raw == nil {
			raw, err = net.Listen("tcp", address)
		}
		if err != nil {
			p.refuse(address, err)
			continue
		}
		l := listening{raw, raw, secure}
		if secure {
			l.Listener = newTLSListener(raw, p.secure)
		}
		p.open[address] = l
		p.serve(l)
	}
}

func (p *ports) refuse(address string, err error) {
	port, _ := strconv.Atoi(portOf(address)) // 0 stands for one that is none
	p.refused[port] = err.Error()
}

// portOf gives the port of an address, "" if that is none.
func portOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return port
}

// sockets gives those that are open, by their addresses.
func (p *ports) sockets() map[string]net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string]net.Listener{}
	for address, l := range p.open {
		all[address] = l.raw
	}
	return all
}

// refusals gives the ports that could not be taken, with the reason.
func (p *ports) refusals() map[int]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := maps.Clone(p.clashes)
	maps.Copy(all, p.refused)
	return all
}

// addresses gives those at which TLS is spoken, by what was asked for.
func (p *ports) addresses() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string]string{}
	for address, l := range p.open {
		if l.secure {
			all[address] = l.Addr().String()
		}
	}
	return all
}

// instead gives where what a balancer of the document in force has at a port is
// reached: there, or at the edge's own port where it could not be taken.
func (p *plane) instead(secure bool, port string) string {
	t := p.current()
	n, err := strconv.Atoi(port)
	_, refused := p.ports.refusals()[n]
	if err != nil || !refused || !slices.ContainsFunc(t.config.Balancers, func(b Balancer) bool { return b.Port == n && b.TLS == secure }) {
		return port
	}
	own := p.listen
	if secure {
		own = p.secureAddress(t.config)
	}
	return cmp.Or(portOf(own), port)
}

// secureAddress is where HTTPS is spoken for all that is served, "" if it is not.
func (p *plane) secureAddress(c Config) string {
	if c.TLS == nil {
		return ""
	}
	return p.ports.addresses()[c.TLS.Listen]
}

// atPort gives the balancer that has the port at which a request came, nil for
// the port of own, the edge's address, and for that of HTTPS.
func (t *table) atPort(r *http.Request, own, host string) *Balancer {
	local, isTCP := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !isTCP || len(t.config.Balancers) == 0 || portOf(own) == strconv.Itoa(local.Port) || t.config.TLS != nil && portOf(t.config.TLS.Listen) == strconv.Itoa(local.Port) {
		return nil
	}
	var found []*Balancer
	for i := range t.config.Balancers {
		if b := &t.config.Balancers[i]; b.Port == local.Port && b.TLS == (r.TLS != nil) {
			found = append(found, b)
		}
	}
	if len(found) == 1 {
		return found[0]
	}
	for _, b := range found {
		if slices.Contains(b.Hosts, host) || slices.Contains(b.Hosts, strconv.Itoa(b.Port)+"."+host) {
			return b
		}
	}
	return nil
}
