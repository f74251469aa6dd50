package dns

import (
	"net/netip"
	"slices"

	wire "github.com/miekg/dns"
)

// longestChain bounds how many records one answer follows.
const longestChain = 8

// mostValues is how many records a multivalue answer has at most.
const mostValues = 8

// answer is what a query gets.
type answer struct {
	code    int
	foreign bool // it speaks of a zone that others serve
	answer  []wire.RR
	above   []wire.RR // the authority section
	extra   []wire.RR
}

// asking is what decides an answer besides the zones.
type asking struct {
	*zones
	coin    func(n int) int // one of 0 … n-1
	healthy func(check string) bool
}

// answer gives what the zones say of a name and type.
func (a asking) answer(name string, typ uint16) answer {
	var got answer
	for range longestChain {
		if a.hosts[name] {
			got.answer = append(got.answer, host(name, typ)...)
			return got
		}
		in := a.of(name)
		if in == nil {
			if len(got.answer) == 0 {
				got.code = wire.RcodeRefused
			}
			return got // the asker follows a chain that leads out of the zones
		}
		if servers := in.cut(name, typ); servers != nil {
			got.foreign = len(got.answer) == 0
			got.above = servers[0].rrs
			got.extra = in.glue(servers[0].rrs)
			return got
		}
		n := in.find(name)
		if n == nil {
			got.code, got.above = wire.RcodeNameError, []wire.RR{in.soa}
			return got
		}
		if found := a.records(n, name, typ); len(found) > 0 {
			got.answer = append(got.answer, found...)
			return got
		}
		next := a.choose(n, name, wire.TypeCNAME, 0)
		if len(next) == 0 {
			got.above = []wire.RR{in.soa}
			return got
		}
		got.answer = append(got.answer, next...)
		name = wire.CanonicalName(next[0].(*wire.CNAME).Target)
	}
	return got
}

// host gives the address of a name of this machine.
func host(name string, typ uint16) []wire.RR {
	if typ != wire.TypeA && typ != wire.TypeANY {
		return nil
	}
	return []wire.RR{&wire.A{
		Hdr: wire.RR_Header{Name: name, Rrtype: wire.TypeA, Class: wire.ClassINET, Ttl: serviceTTL},
		A:   netip.MustParseAddr(thisHost).AsSlice(),
	}}
}

// records gives the records of a type, of all types if that is asked.
func (a asking) records(n *node, name string, typ uint16) (all []wire.RR) {
	if typ != wire.TypeANY {
		return a.choose(n, name, typ, 0)
	}
	for _, known := range Types() {
		all = append(all, a.choose(n, name, wire.StringToType[known], 0)...)
	}
	return all
}

// glue gives the addresses of name servers that lie in the zone.
func (z *zone) glue(servers []wire.RR) (all []wire.RR) {
	for _, rr := range servers {
		n := z.nodes[wire.CanonicalName(rr.(*wire.NS).Ns)]
		if n == nil {
			continue
		}
		for _, typ := range []uint16{wire.TypeA, wire.TypeAAAA} {
			for _, s := range n.sets[typ] {
				all = append(all, s.rrs...)
			}
		}
	}
	return all
}

// choose gives the records of a node that are the answer for a name now.
func (a asking) choose(n *node, name string, typ uint16, depth int) (all []wire.RR) {
	sets := n.sets[typ]
	if len(sets) == 0 || depth > longestChain {
		return nil
	}
	for _, s := range a.pick(sets, typ, depth) {
		rrs := s.rrs
		if s.Alias != nil {
			if target := a.target(s); target != nil {
				rrs = a.choose(target, s.Alias.Name, typ, depth+1)
			}
		} else if len(rrs) > 1 {
			first := a.coin(len(rrs))
			rrs = slices.Concat(rrs[first:], rrs[:first])
		}
		all = append(all, named(rrs, name)...)
	}
	return all
}

// target gives the node that an alias leads to, nil if it is gone.
func (a asking) target(s *set) *node {
	in := a.byID[s.Alias.Zone]
	if in == nil {
		return nil
	}
	return in.find(s.Alias.Name)
}

// named gives the records under another name, if they have not that already.
func named(rrs []wire.RR, name string) []wire.RR {
	if len(rrs) == 0 || rrs[0].Header().Name == name {
		return rrs
	}
	renamed := make([]wire.RR, len(rrs))
	for i, rr := range rrs {
		renamed[i] = wire.Copy(rr)
		renamed[i].Header().Name = name
	}
	return renamed
}

// good says whether a set is healthy: itself, and what it leads to if that is
// to count.
func (a asking) good(s *set, typ uint16, depth int) bool {
	if s.Check != "" && !a.healthy(s.Check) {
		return false
	}
	if s.Alias == nil || !s.Alias.Evaluate {
		return true
	}
	target := a.target(s)
	return target != nil && depth < longestChain &&
		slices.ContainsFunc(target.sets[typ], func(other *set) bool { return a.good(other, typ, depth+1) })
}

// pick chooses among the sets of one name and type as their policy says. Where
// none is healthy, all are taken for healthy: an answer may help.
func (a asking) pick(sets []*set, typ uint16, depth int) []*set {
	if sets[0].Policy == Simple {
		return sets[:1]
	}
	var healthy []*set
	for _, s := range sets {
		if a.good(s, typ, depth) {
			healthy = append(healthy, s)
		}
	}
	if len(healthy) == 0 {
		healthy = sets
	}
	switch sets[0].Policy {
	case Weighted:
		return []*set{a.byWeight(healthy)}
	case Multivalue:
		first := a.coin(len(healthy))
		healthy = slices.Concat(healthy[first:], healthy[:first])
		return healthy[:min(mostValues, len(healthy))]
	}
	for _, s := range healthy {
		if s.First {
			return []*set{s}
		}
	}
	return healthy[:1]
}

// byWeight chooses one set: those without weight only where none has any.
func (a asking) byWeight(sets []*set) *set {
	total := 0
	for _, s := range sets {
		total += s.Weight
	}
	if total == 0 {
		return sets[a.coin(len(sets))]
	}
	left := a.coin(total)
	for _, s := range sets {
		if left -= s.Weight; left < 0 {
			return s
		}
	}
	return sets[len(sets)-1]
}
