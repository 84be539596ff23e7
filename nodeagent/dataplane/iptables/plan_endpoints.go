package iptables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

// planEndpoints makes the chains that endpoints need, and leads dispatch to them.
func (tx *transaction) planEndpoints() error {
	names := tx.desired.Endpoints.Dirty()
	if tx.full() {
		names = maps.Keys(maps.Collect(tx.desired.Endpoints.All()))
		tx.dispatch = true
	}
	for _, name := range slices.Sorted(names) {
		tx.planEndpoint(name)
	}
	if !tx.dispatch {
		return nil
	}
	// The trees are rendered as a whole, which costs microseconds; only the chains that differ are written.
	for d := range directions {
		list := make([]target, 0, len(tx.state.endpoints))
		for name, e := range tx.state.endpoints {
			list = append(list, target{name, e.to[d]})
		}
		tx.ensureTree(filterTable, workloadTree(d), list)
	}
	var list []target
	for name, e := range tx.state.endpoints {
		if e.prefixes != "" {
			list = append(list, target{name, goTo(e.prefixes)})
		}
	}
	tx.ensureTree(rawTable, tree{option: "-i ", root: prefixRoot, rest: goReturn}, list)
	return nil
}

// ensureTree makes the chains of a tree, and takes away those that it has no more. A tree that leads nowhere has none,
// unless what it does not know is dropped.
func (tx *transaction) ensureTree(table string, t tree, list []target) {
	wanted := map[string]bool{}
	if len(list) > 0 || t.rest != goReturn {
		for _, c := range t.render(list) {
			wanted[c.name] = true
			for fam := range tx.d.families {
				tx.ensureChain(place{fam, table}, c)
			}
		}
	}
	for name := range tx.state.trees[t.root] {
		if !wanted[name] {
			tx.removeEverywhere(table, name)
		}
	}
	tx.state.trees[t.root] = wanted
}

// planEndpoint leads the packets of one interface to its chains, or gives it up.
func (tx *transaction) planEndpoint(name string) {
	wish, wanted := tx.desired.Endpoints.Get(name)
	tx.state.unfit.Look(tables.KindEndpoint, name)
	if wanted {
		if err := checkInterface(name, tx.d.options.WorkloadPrefix); err != nil {
			tx.state.unfit.Note(tables.KindEndpoint, name, "", err)
			wanted = false
		}
	}
	before, had := tx.state.endpoints[name]
	var after endpointState
	if wanted {
		after = tx.makeEndpoint(name, wish)
		tx.state.endpoints[name] = after
	} else {
		delete(tx.state.endpoints, name)
	}
	tx.dispatch = tx.dispatch || had != wanted || before.to != after.to || before.prefixes != after.prefixes
	if !tx.full() {
		for fam := range tx.d.families {
			gone, come := diff(before.sources(name, fam), after.sources(name, fam))
			set := sourceSet(fam)
			tx.deletes[set] = append(tx.deletes[set], gone...)
			tx.adds[set] = append(tx.adds[set], come...)
		}
	}
	tx.release(ref{filterTable, before.lists[ingress]}, ref{filterTable, before.lists[egress]}, ref{rawTable, before.prefixes})
}

// release gives up references to list chains. What is none is no matter.
func (tx *transaction) release(lists ...ref) {
	for _, at := range lists {
		if l := tx.state.lists[at]; l != nil {
			l.refs--
			tx.released = append(tx.released, at)
		}
	}
}

// allSources are the entries for one family of all endpoints.
func (tx *transaction) allSources(fam family) []entry {
	var out []entry
	for name, wish := range tx.desired.Endpoints.All() {
		if checkInterface(name, tx.d.options.WorkloadPrefix) == nil {
			out = append(out, endpointState{addresses: addressesOf(wish)}.sources(name, fam)...)
		}
	}
	return out
}

// makeEndpoint makes the chains that an endpoint needs.
func (tx *transaction) makeEndpoint(name string, wish tables.Endpoint) endpointState {
	e := endpointState{addresses: addressesOf(wish)}
	for d, tiers := range [directions][]tables.Tier{wish.Ingress, wish.Egress} {
		switch {
		case wish.Unknown:
			e.to[d] = drop
		case len(tiers) == 0:
			e.to[d] = goReturn
		default:
			e.lists[d] = tx.makeList(filterTable, direction(d), podList, tiers)
			e.to[d] = goTo(e.lists[d])
		}
	}
	var prefixes []netip.Prefix
	for _, p := range wish.SourcePrefixes {
		if !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() {
			tx.state.unfit.Note(tables.KindEndpoint, name, p.String(), fmt.Errorf("source prefix %v is not a canonical CIDR", p))
			continue
		}
		prefixes = append(prefixes, p)
	}
	if len(prefixes) > 0 {
		chain, list := newPrefixChain(tables.Greatest(prefixes))
		e.prefixes = chain
		tx.takeList(ref{rawTable, chain}, list)
	}
	return e
}

// makeList makes the chain for a list of tiers and takes a reference to it.
func (tx *transaction) makeList(table string, d direction, kind listKind, wish []tables.Tier) string {
	names := make([]string, len(wish))
	tiers := make([]*tierChain, len(wish))
	for i, t := range wish {
		names[i], tiers[i] = newTierChain(d, t)
	}
	name, list := newListChain(d, kind, names)
	at := ref{table, name}
	if tx.state.lists[at] == nil {
		for i, tier := range names {
			tx.takeTier(ref{table, tier}, tiers[i])
		}
	}
	tx.takeList(at, list)
	return name
}

// takeList takes a reference to a list chain, and makes it if it is the first. Its tiers are there.
func (tx *transaction) takeList(at ref, list *listChain) {
	if known := tx.state.lists[at]; known != nil {
		known.refs++
		return
	}
	list.refs = 1
	tx.state.lists[at] = list
	for fam := range tx.d.families {
		tx.ensureChain(place{fam, at.table}, list.render(at.name, fam))
	}
}

// takeTier takes a reference to a tier chain, and makes it if it is the first.
func (tx *transaction) takeTier(at ref, tier *tierChain) {
	if known := tx.state.tiers[at]; known != nil {
		known.refs++
		return
	}
	tier.refs = 1
	tx.state.tiers[at] = tier
	if at.table != filterTable {
		for _, program := range tier.programs {
			tx.takeProgram(at.table, program)
		}
	}
	tx.ensureTier(at, tier)
}

func (tx *transaction) ensureTier(at ref, tier *tierChain) {
	shapes := func(program string) shape { return tx.shapesIn(at.table, program)[tier.direction] }
	steps := tx.state.folder.Steps(at.name)
	for fam := range tx.d.families {
		tx.ensureChain(place{fam, at.table}, tier.render(at.name, fam, shapes, steps))
	}
}

// dropTier gives a reference to a tier chain up.
func (tx *transaction) dropTier(at ref) {
	tier := tx.state.tiers[at]
	if tier == nil {
		return
	}
	if tier.refs--; tier.refs > 0 {
		return
	}
	delete(tx.state.tiers, at)
	tx.removeEverywhere(at.table, at.name)
	if at.table != filterTable {
		for _, program := range tier.programs {
			tx.dropProgram(at.table, program)
		}
	}
}

// planRemoval takes away chains that nothing refers to any more. Where everything was compared that is all that is not
// wanted.
func (tx *transaction) planRemoval() {
	if tx.full() {
		if tx.kernel.tables == nil {
			return // no rules were read
		}
		for at, wanted := range tx.wanted {
			for _, name := range slices.Sorted(maps.Keys(tx.state.chains[at])) {
				if !wanted[name] {
					tx.removeChain(at, name)
				}
			}
		}
		return
	}
	for _, at := range tx.released {
		list := tx.state.lists[at]
		if list == nil || list.refs > 0 {
			continue
		}
		delete(tx.state.lists, at)
		tx.removeEverywhere(at.table, at.name)
		for _, tier := range list.tiers {
			tx.dropTier(ref{at.table, tier})
		}
	}
}

func addressesOf(wish tables.Endpoint) []netip.Addr {
	var out []netip.Addr
	for _, a := range wish.Addresses {
		a = a.Unmap().WithZone("")
		if a.IsValid() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}
