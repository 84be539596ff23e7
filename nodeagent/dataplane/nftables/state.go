package nftables

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
)

// interfaceNameLen is the size of an interface's name in the kernel, with its terminating zero (IFNAMSIZ).
const interfaceNameLen = 16

// state is what the table in the kernel holds, in digests and names: enough to tell what has to change.
type state struct {
	inUse     inUse
	chains    map[string]digest
	shapes    [directions]map[string]shape // of programs
	tiers     map[string]*tierChain        // by chain name
	lists     map[string]*listChain        // by chain name
	folder    *fold.Folder
	endpoints map[string]endpoint   // by interface
	hosts     map[string]targets    // by interface
	sets      map[string]*memberSet // by ID
	pools     intervals             // all pools
	nat       intervals             // pools with masquerading
	nodes     intervals             // addresses of nodes
	unfit     tables.Unfit          // what of the tables is not in there, for what it is
}

func newState() *state {
	s := &state{
		chains: map[string]digest{}, tiers: map[string]*tierChain{}, lists: map[string]*listChain{},
		endpoints: map[string]endpoint{}, hosts: map[string]targets{}, sets: map[string]*memberSet{},
	}
	for d := range s.shapes {
		s.shapes[d] = map[string]shape{}
	}
	return s
}

// memberSet is a set.
type memberSet struct {
	typ tables.SetType
	// away: it is not in the kernel, because only folded programs name it.
	away bool
	nets *intervals // of type Nets, in the kernel: all members
}

func newMemberSet(typ tables.SetType, away bool) *memberSet {
	s := &memberSet{typ: typ, away: away}
	if typ == tables.Nets && !away {
		s.nets = &intervals{}
	}
	return s
}

// endpoint is what the kernel has of an endpoint.
type endpoint struct {
	addresses []netip.Addr
	to        [directions]string // where the verdict maps lead
	prefixes  string             // the chain of its source prefixes, if any
}

// setElement is an element and the set it is in.
type setElement struct {
	set string
	element
}

// elements are all elements of the driver's own sets that belong to an endpoint.
func (e endpoint) elements(name string) []setElement {
	key := interfaceKey(name)
	var list []setElement
	for d, verdictMap := range [directions]string{ingressMap, egressMap} {
		if e.to[d] != "" {
			list = append(list, setElement{verdictMap, element{key: key, to: e.to[d]}})
		}
	}
	if e.prefixes != "" {
		list = append(list, setElement{prefixMap, element{key: key, to: e.prefixes}})
	}
	for _, a := range e.addresses {
		list = append(list, setElement{sourceSet(familyOf(a)), element{key: key + string(a.AsSlice())}})
	}
	return list
}

// hasIPv6 tells whether the endpoint sends from an IPv6 address.
func hasIPv6(e tables.Endpoint) bool {
	isIPv6 := func(a netip.Addr) bool { return a.IsValid() && !a.Unmap().Is4() }
	return slices.ContainsFunc(e.Addresses, isIPv6) ||
		slices.ContainsFunc(e.SourcePrefixes, func(p netip.Prefix) bool { return isIPv6(p.Addr()) })
}

// interfaceKey is a name as the kernel compares it.
func interfaceKey(name string) string {
	return name + strings.Repeat("\x00", max(0, interfaceNameLen-len(name)))
}

// diff returns the elements that are only in one of the lists.
func diff(before, after []setElement) (gone, come []setElement) {
	for _, e := range before {
		if !slices.Contains(after, e) {
			gone = append(gone, e)
		}
	}
	for _, e := range after {
		if !slices.Contains(before, e) {
			come = append(come, e)
		}
	}
	return gone, come
}
