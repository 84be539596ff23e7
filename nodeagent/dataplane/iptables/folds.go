package iptables

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/fold"
)

// Programs that only allow are folded where there are many in a row (package fold): what they allow are elements of sets, and a
// tier's chain has a look-up in each. A fold has up to three kinds of sets for each family: of elements with a port, of those with
// a protocol and no port (one for each protocol), and of those with neither. Each is there while it has elements.

// foldSet is one of a fold's sets.
type foldSet struct {
	fold string // its name
	fam  family
	// ports: the elements have protocol and port. Otherwise they are addresses, of packets that have the protocol; 0: any.
	ports    bool
	protocol uint8
}

// name of the set.
func (s foldSet) name() string {
	kind := "a"
	switch {
	case s.ports:
		kind = "p"
	case s.protocol != 0:
		kind = fmt.Sprint(s.protocol)
	}
	return setPrefix(s.fam) + "f" + kind + "-" + s.fold
}

func (s foldSet) spec() setSpec {
	if s.ports {
		return setSpec{hashNetPort, s.fam}
	}
	return setSpec{hashNet, s.fam}
}

// lookUp matches what an element matches.
func (s foldSet) lookUp(d direction) string {
	flag := "src"
	if d == egress {
		flag = "dst"
	}
	switch {
	case s.ports:
		return inSet(s.name(), flag+",dst")
	case s.protocol != 0:
		return fmt.Sprintf("-p %d %s", s.protocol, inSet(s.name(), flag))
	default:
		return inSet(s.name(), flag)
	}
}

// foldSetOf is the set that elements of a shape are in.
func foldSetOf(fold string, s fold.Shape) foldSet {
	fam := ipv4
	if s.IPv6 {
		fam = ipv6
	}
	return foldSet{fold, fam, s.Port, s.Only}
}

// foldSetsOf are a fold's sets of one family, in the order in which to look up.
func foldSetsOf(f *fold.Fold, fam family) []foldSet {
	var sets []foldSet
	for _, shape := range f.Shapes() {
		if set := foldSetOf(f.Name, shape); set.fam == fam && !slices.Contains(sets, set) {
			sets = append(sets, set)
		}
	}
	return sets
}

// foldEntries are the entries that stand for an element.
func foldEntries(e fold.Element) []entry {
	entries := cidrEntries(e.Prefix)
	if e.Port != 0 {
		for i := range entries {
			entries[i].protocol, entries[i].port = e.Protocol, e.Port
		}
	}
	return entries
}

// stands tells whether an entry stands for an element of a fold, one of another prefix than its own perhaps: a half of all addresses.
func stands(f *fold.Fold, of fold.Element, e entry) bool {
	if of.Prefix = e.prefix; f.Has(of) {
		return true
	}
	of.Prefix = netip.PrefixFrom(e.prefix.Addr(), 0).Masked()
	return e.prefix.Bits() == 1 && f.Has(of)
}
