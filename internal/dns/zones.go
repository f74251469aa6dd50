package dns

import (
	"cmp"
	"fmt"
	"slices"

	wire "github.com/miekg/dns"

	"makeitso/internal/fault"
)

// What Route 53 gives the records of its own.
const (
	serversTTL = 172800
	soaTTL     = 900
	soaNumbers = "1 7200 900 1209600 86400" // serial, refresh, retry, expire, minimum
	serviceTTL = 60
	thisHost   = "127.0.0.1"
)

// zones is a Config made ready for answers. It never changes: a new one takes
// its place whole.
type zones struct {
	hosts  map[string]bool
	byName map[string]*zone
	byID   map[string]*zone
}

// zone holds the names of a zone, and those that only have names below them.
type zone struct {
	name  string
	soa   wire.RR
	nodes map[string]*node
}

// node is one name: its record sets by type.
type node struct{ sets map[uint16][]*set }

// set is a record with its values made ready; none if it is an alias.
type set struct {
	Record
	rrs []wire.RR
}

// Verify says whether a server would take c.
func (c *Config) Verify() error {
	_, err := compile(c)
	return err
}

// compile makes a Config ready. One mistake refuses it whole.
func compile(c *Config) (*zones, error) {
	z := &zones{hosts: map[string]bool{}, byName: map[string]*zone{}, byID: map[string]*zone{}}
	for _, h := range c.Hosts {
		z.hosts[h.Name] = true
	}
	private := map[string]bool{}
	for _, declared := range c.Zones {
		made, err := newZone(declared)
		if err != nil {
			return nil, fmt.Errorf("zone %s: %w", declared.Name, err)
		}
		z.byID[declared.ID] = made
		if z.byName[declared.Name] == nil || declared.Private && !private[declared.Name] {
			z.byName[declared.Name], private[declared.Name] = made, declared.Private
		}
	}
	for _, r := range c.Records {
		in := z.byID[r.Zone]
		if in == nil || !within(r.Name, in.name) {
			return nil, fault.New(fault.Invalid, "record %s %s lies in no zone", r.Name, r.Type)
		}
		if err := in.add(r); err != nil {
			return nil, fmt.Errorf("record %s %s: %w", r.Name, r.Type, err)
		}
	}
	for _, in := range z.byID {
		for _, n := range in.nodes {
			for _, sets := range n.sets {
				slices.SortStableFunc(sets, func(a, b *set) int { return cmp.Compare(a.Set, b.Set) })
			}
		}
	}
	return z, nil
}

// newZone makes a zone with its own records.
func newZone(declared Zone) (*zone, error) {
	z := &zone{name: declared.Name, nodes: map[string]*node{}}
	if len(declared.Servers) == 0 {
		return nil, fault.New(fault.Invalid, "it has no name servers")
	}
	servers := Record{Name: declared.Name, Type: "NS", TTL: serversTTL, Values: declared.Servers}
	soa := Record{Name: declared.Name, Type: "SOA", TTL: soaTTL, Values: []string{
		declared.Servers[0] + " hostmaster." + declared.Servers[0] + " " + soaNumbers,
	}}
	for _, r := range []Record{servers, soa} {
		if err := z.add(r); err != nil {
			return nil, err
		}
	}
	z.soa = z.nodes[z.name].sets[wire.TypeSOA][0].rrs[0]
	return z, nil
}

// add puts a record into the zone, and makes the names above it.
func (z *zone) add(r Record) error {
	typ, known := wire.StringToType[r.Type]
	if !known {
		return fault.New(fault.Invalid, "there is no such type")
	}
	s := &set{Record: r}
	if r.Alias != nil && r.Alias.Zone == "" {
		s.Alias, s.TTL = nil, serviceTTL
		if r.Type == "A" { // nothing here listens on an IPv6 address
			s.Values = []string{thisHost}
		}
	}
	for _, value := range s.Values {
		rr, err := parse(r.Type, value)
		if err != nil {
			return err
		}
		rr.Header().Name, rr.Header().Ttl = r.Name, s.TTL
		s.rrs = append(s.rrs, rr)
	}
	n := z.node(r.Name)
	n.sets[typ] = append(n.sets[typ], s)
	return nil
}

// node gives the node of a name, which is made with all that are above it.
func (z *zone) node(name string) *node {
	n := z.nodes[name]
	if n == nil {
		n = &node{sets: map[uint16][]*set{}}
		z.nodes[name] = n
		if name != z.name {
			z.node(parent(name))
		}
	}
	return n
}

// parent gives the name without its first label.
func parent(name string) string {
	at, end := wire.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[at:]
}

// of gives the zone that a name lies in: the deepest one, nil if there is none.
func (z *zones) of(name string) *zone {
	for ; ; name = parent(name) {
		if found := z.byName[name]; found != nil || name == "." {
			return found
		}
	}
}

// find gives the node that answers for a name in the zone: its own, or the
// wildcard beside the first name above that exists; nil if there is none.
func (z *zone) find(name string) *node {
	if n := z.nodes[name]; n != nil {
		return n
	}
	for within(name, z.name) && name != z.name {
		name = parent(name)
		if z.nodes[name] != nil {
			return z.nodes["*."+name]
		}
	}
	return nil
}

// cut gives the name servers that a name is delegated to below the zone, nil
// if the zone itself answers for it.
func (z *zone) cut(name string, typ uint16) []*set {
	var highest []*set
	for at := name; at != z.name; at = parent(at) {
		n := z.nodes[at]
		if n == nil || at == name && typ == wire.TypeDS {
			continue // the zone above signs for the one below
		}
		if servers := n.sets[wire.TypeNS]; len(servers) > 0 {
			highest = servers // what lies below it is not ours
		}
	}
	return highest
}
