package connections

import (
	"maps"
	"net/netip"
	"slices"
)

// Scope is what a change of policy can have made stricter: connections that involve one of its addresses.
type Scope struct {
	all   bool
	addrs map[netip.Addr]struct{}
	nets  map[netip.Prefix]struct{}
}

const (
	// maxAddresses is how many addresses a scope names; beyond, it is that of all connections.
	maxAddresses = 4096
	maxNets      = 64
)

// Empty tells that the change made nothing stricter.
func (s *Scope) Empty() bool { return !s.all && len(s.addrs)+len(s.nets) == 0 }

// IsAll tells that the change concerns all connections.
func (s *Scope) IsAll() bool { return s.all }

// AddAll makes it the scope of all connections.
func (s *Scope) AddAll() { *s = Scope{all: true} }

func (s *Scope) add(p netip.Prefix) {
	switch {
	case s.all:
	case p.IsSingleIP():
		if s.addrs == nil {
			s.addrs = map[netip.Addr]struct{}{}
		}
		s.addrs[p.Addr()] = struct{}{}
	default:
		if s.nets == nil {
			s.nets = map[netip.Prefix]struct{}{}
		}
		s.nets[p] = struct{}{}
	}
	if len(s.addrs) > maxAddresses || len(s.nets) > maxNets {
		s.AddAll()
	}
}

func (s *Scope) addAddr(a netip.Addr) { s.add(netip.PrefixFrom(a, a.BitLen())) }

// Merge adds another scope.
func (s *Scope) Merge(o Scope) {
	if o.all {
		s.AddAll()
	}
	for a := range o.addrs {
		s.addAddr(a)
	}
	for p := range o.nets {
		s.add(p)
	}
}

// Addresses lists what to ask the kernel for, at most so many; none when it has to be asked for everything.
func (s *Scope) Addresses(most int) []netip.Addr {
	if s.all || len(s.nets) > 0 || len(s.addrs) > most {
		return nil
	}
	return slices.SortedFunc(maps.Keys(s.addrs), netip.Addr.Compare)
}

// Covers tells whether a connection is in the scope.
func (s *Scope) Covers(f *Flow) bool {
	return s.all || s.has(f.Original.Source.Addr()) || s.has(f.translated().Addr()) || s.has(f.Original.Destination.Addr())
}

func (s *Scope) has(a netip.Addr) bool {
	if _, ok := s.addrs[a]; ok {
		return true
	}
	for p := range s.nets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
