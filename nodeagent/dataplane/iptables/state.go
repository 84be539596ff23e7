package iptables

import (
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
)

// place is one of the kernel's tables of one family.
type place struct {
	fam   family
	table string
}

// state is what the kernel holds, in digests and names: enough to tell what has to change.
type state struct {
	chains    map[place]map[string]digest
	programs  map[string]programState
	tiers     map[ref]*tierChain
	lists     map[ref]*listChain
	uses      map[ref]int                // of programs by tiers in other tables than filter
	endpoints map[string]endpointState   // by interface
	hosts     map[string]hostState       // by interface
	trees     map[string]map[string]bool // chains of the trees, by root
	layout    map[string]map[string]bool // chains of the layout, by table
	hooks     map[hook]bool
	inUse     use // what the layout knows
	sets      map[string]memberSet
	folder    *fold.Folder
	// folds are the sets of the folds that are in force, by the fold's name, and foldSets the names of all of these.
	folds    map[string][]foldSet
	foldSets map[string]bool
	// cidrLists counts the chains that match by a list's set, by the set's name.
	cidrLists map[string]int
	// orphans are sets that are not in the tables while members of theirs may be.
	orphans map[string]bool
	pools   map[string]map[entry]bool // by name of the driver's own set
	// leftovers are sets that the kernel would not let go yet.
	leftovers map[string]bool
	// unfit is what of the tables is not in there, for what it is.
	unfit tables.Unfit
}

func newState() *state {
	s := &state{
		chains: map[place]map[string]digest{}, programs: map[string]programState{}, tiers: map[ref]*tierChain{},
		lists: map[ref]*listChain{}, uses: map[ref]int{}, endpoints: map[string]endpointState{}, hosts: map[string]hostState{},
		trees: map[string]map[string]bool{}, layout: map[string]map[string]bool{}, hooks: map[hook]bool{}, sets: map[string]memberSet{},
		folds: map[string][]foldSet{}, foldSets: map[string]bool{},
		cidrLists: map[string]int{}, orphans: map[string]bool{}, pools: map[string]map[entry]bool{}, leftovers: map[string]bool{},
	}
	return s
}

// memberSet is a set of the tables.
type memberSet struct {
	typ tables.SetType
	// away: it is not in the kernel, because only folded programs name it.
	away bool
}

// programState is what the kernel has of a program.
type programState struct {
	shapes [directions]shape
	lists  []string // names of the sets of its lists
}

// endpointState is what the kernel has of an endpoint.
type endpointState struct {
	addresses []netip.Addr
	to        [directions]string // the target in dispatch
	lists     [directions]string // the chain that it leads to, if it is one
	prefixes  string             // the chain of the CIDRs that it may send from beside its addresses, if any
}

// sources are the entries of the driver's sets of addresses and interfaces that belong to an endpoint.
func (e endpointState) sources(name string, fam family) []entry {
	var list []entry
	for _, a := range e.addresses {
		if familyOf(a) == fam {
			list = append(list, entry{prefix: netip.PrefixFrom(a, a.BitLen()), iface: name})
		}
	}
	return list
}

// diff returns the entries that are only in one of the lists.
func diff(before, after []entry) (gone, come []entry) {
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
