package fold

import (
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Protocols that have ports.
const (
	protocolTCP  = 6
	protocolUDP  = 17
	protocolSCTP = 132
)

// term is what one rule says with one of its peers, protocols and ports.
type term struct {
	// set of the peer's addresses; empty: the peer is in net.
	set string
	net netip.Prefix
	// single: the members of the set are single addresses, and what is not is none.
	single bool
	// version of the addresses, 0: both.
	version  uint8
	protocol uint8
	port     uint16
}

// allows tells whether the term is about addresses such as p's.
func (t *term) allows(p netip.Prefix, v6 bool) bool {
	switch {
	case !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() || t.single && !p.IsSingleIP():
		return false // no member of such a set
	case p.Addr().Is4():
		return t.version != 6
	}
	return v6 && t.version != 4
}

// elements of the term with the members that its set has.
func (t *term) elements(members *tables.Members, v6 bool) func(func(Element) bool) {
	return func(yield func(Element) bool) {
		if t.set == "" {
			if t.allows(t.net, v6) {
				yield(Element{t.net, t.protocol, t.port})
			}
			return
		}
		for m := range members.Of(t.set) {
			if t.allows(m.Prefix, v6) && !yield(Element{m.Prefix, t.protocol, t.port}) {
				return
			}
		}
	}
}

// class tells what becomes of a program in a tier.
type class uint8

const (
	// barrier: the order counts, or nothing is known of it.
	barrier class = iota
	// empty: it has no rules.
	empty
	// allowing: it only allows, and stays what it is.
	allowing
	// foldable: it only allows, and its terms say it all.
	foldable
)

// kinds tells the type of a set, and whether it is small enough to fold.
type kinds func(id string) (tables.SetType, bool)

// classify works out the class of a program's rules for a direction, and its terms if it is foldable.
func classify(d Direction, rules []tables.Rule, sets kinds) (class, []term) {
	if len(rules) == 0 {
		return empty, nil
	}
	for i := range rules {
		if rules[i].Action != tables.Allow {
			return barrier, nil
		}
	}
	var terms []term
	for i := range rules {
		of, ok := termsOf(d, &rules[i], sets)
		if !ok {
			return allowing, nil
		}
		terms = append(terms, of...)
	}
	return foldable, terms
}

// termsOf are the terms of a rule; false: it says more than terms can.
func termsOf(d Direction, r *tables.Rule, sets kinds) ([]term, bool) {
	peer, other := &r.Source, &r.Destination
	if d == Egress {
		peer, other = &r.Destination, &r.Source
	}
	if r.NotProtocol != 0 || r.ICMP != nil || r.NotICMP != nil || negates(peer) || negates(other) || saysMore(r, other) {
		return nil, false
	}
	if len(peer.Sets) > 1 || len(peer.Sets) > 0 && len(peer.Nets) > 0 || len(peer.Nets) > maxPeers {
		return nil, false
	}
	ports, ok := portsOf(r)
	if !ok {
		return nil, false
	}
	peers, ok := peersOf(peer, sets)
	if !ok {
		return nil, false
	}
	terms := make([]term, 0, len(peers)*len(ports))
	for _, p := range peers {
		for _, q := range ports {
			p.version, p.protocol, p.port = r.IPVersion, q.protocol, q.port
			terms = append(terms, p)
		}
	}
	return terms, true
}

// saysMore tells whether a rule is about more than its peer and its destination's ports by number.
func saysMore(r *tables.Rule, other *tables.Entity) bool {
	return len(other.Sets)+len(other.Nets)+len(r.Source.Ports)+len(r.Source.PortSets)+len(r.Destination.PortSets) > 0
}

// peersOf are terms with the peers of a rule and nothing else; false: they can't be folded.
func peersOf(peer *tables.Entity, sets kinds) ([]term, bool) {
	if len(peer.Sets) > 0 {
		typ, small := sets(peer.Sets[0])
		if typ != tables.Addresses && typ != tables.Nets || !small {
			return nil, false
		}
		return []term{{set: peer.Sets[0], single: typ == tables.Addresses}}, true
	}
	if len(peer.Nets) == 0 {
		return []term{{net: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}, {net: netip.PrefixFrom(netip.IPv6Unspecified(), 0)}}, true
	}
	var peers []term
	for _, n := range peer.Nets {
		if !n.IsValid() || n.Addr().Is4In6() {
			return nil, false
		}
		peers = append(peers, term{net: n.Masked()})
	}
	return peers, true
}

func negates(e *tables.Entity) bool {
	return len(e.NotSets)+len(e.NotNets)+len(e.NotPorts)+len(e.NotPortSets) > 0
}

// protocolPort is a protocol and a destination port; 0: any.
type protocolPort struct {
	protocol uint8
	port     uint16
}

// portsOf are the protocols and ports that a rule is about; none: no packet matches it; false: they are too many.
func portsOf(r *tables.Rule) ([]protocolPort, bool) {
	if len(r.Destination.Ports) == 0 {
		return []protocolPort{{protocol: r.Protocol}}, true
	}
	protocols := []uint8{r.Protocol}
	switch r.Protocol {
	case 0:
		protocols = []uint8{protocolTCP, protocolUDP, protocolSCTP}
	case protocolTCP, protocolUDP, protocolSCTP:
	default:
		return nil, true
	}
	var ports []uint16
	for _, p := range r.Destination.Ports {
		if p.First > p.Last {
			continue
		}
		if p.First == 0 || int(p.Last)-int(p.First) >= maxPorts || len(ports) > maxPorts {
			return nil, false
		}
		for port := int(p.First); port <= int(p.Last); port++ {
			ports = append(ports, uint16(port))
		}
	}
	slices.Sort(ports)
	ports = slices.Compact(ports)
	if len(ports)*len(protocols) > maxPorts {
		return nil, false
	}
	var out []protocolPort
	for _, protocol := range protocols {
		for _, port := range ports {
			out = append(out, protocolPort{protocol, port})
		}
	}
	return out, true
}

// setsOf are the IDs of all sets that rules name, without repetition.
func setsOf(rules []tables.Rule) []string {
	var ids []string
	for i := range rules {
		for _, e := range [...]*tables.Entity{&rules[i].Source, &rules[i].Destination} {
			for _, list := range [...][]string{e.Sets, e.NotSets, e.PortSets, e.NotPortSets} {
				ids = append(ids, list...)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
