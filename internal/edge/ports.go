package edge

import (
	"errors"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// ports are the ones of balancers, which the edge takes beside its own as the
// configuration wants. One that another program has is done without: what is
// behind it answers at the edge's own port.
type ports struct {
	mu      sync.Mutex
	serve   func(net.Listener) // nil before the edge serves and after
	wanted  map[int]bool
	open    map[int]net.Listener
	refused map[int]string
}

// want says which ports are to be taken from now on, besides that of own, the
// edge's address.
func (p *ports) want(own string, balancers []Balancer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = map[int]bool{}
	for _, b := range balancers {
		if b.Port != 0 && !strings.HasSuffix(own, ":"+strconv.Itoa(b.Port)) {
			p.wanted[b.Port] = true
		}
	}
	p.take()
}

// begin serves what is wanted.
func (p *ports) begin(serve func(net.Listener)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serve, p.open = serve, map[int]net.Listener{}
	p.take()
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
	for port, l := range p.open {
		if !p.wanted[port] {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				p.refused[port] = err.Error()
			}
			delete(p.open, port)
		}
	}
	for port := range p.wanted {
		if p.open[port] != nil {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			p.refused[port] = err.Error()
			continue
		}
		p.open[port] = l
		p.serve(l)
	}
}

// refusals gives the ports that could not be taken, with the reason.
func (p *ports) refusals() map[int]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.refused)
}

// atPort gives the balancer that has the port at which a request came, nil for
// the port of own, the edge's address.
func (t *table) atPort(r *http.Request, own, host string) *Balancer {
	local, isTCP := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !isTCP || strings.HasSuffix(own, ":"+strconv.Itoa(local.Port)) {
		return nil
	}
	var found []*Balancer
	for i := range t.config.Balancers {
		if b := &t.config.Balancers[i]; b.Port == local.Port {
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
