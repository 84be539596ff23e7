package iptables

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

// planEndpoints makes the chains that endpoints need, and leads dispatch to them.
func (tx *transaction) planEndpoints() {
	names := tx.desired.Endpoints.Dirty()
	if tx.full() {
		names = maps.Keys(maps.Collect(tx.desired.Endpoints.All()))
		tx.dispatch = true
	}
	for _, name := range slices.Sorted(names) {
		tx.planEndpoint(name)
	}
	if !tx.dispatch {
		return
	}
	// The trees are rendered as a whole, which costs microseconds; only the chains that differ are written.
	for d := range directions {
		list := make([]target, 0, len(tx.state.endpoints))
		for name, e := range tx.state.endpoints {
			list = append(list, target{name, e.to[d]})
		}
		wanted := map[string]bool{}
		for _, c := range dispatch(d, list) {
			wanted[c.name] = true
			for fam := range tx.d.families {
				tx.ensureChain(place{fam, filterTable}, c)
			}
		}
		tx.removeDispatch(d, wanted)
	}
}

// removeDispatch takes away the chains of a tree that it has no more.
func (tx *transaction) removeDispatch(d direction, wanted map[string]bool) {
	for name := range tx.state.dispatch[d] {
		if !wanted[name] {
			for fam := range tx.d.families {
				tx.removeChain(place{fam, filterTable}, name)
			}
		}
	}
	tx.state.dispatch[d] = wanted
}

// planEndpoint leads the packets of one interface to its chains, or gives it up.
func (tx *transaction) planEndpoint(name string) {
	wish, wanted := tx.desired.Endpoints.Get(name)
	if wanted {
		if err := checkInterface(name, tx.d.options.WorkloadPrefix); err != nil {
			tx.problem(item{tables.KindEndpoint, name}, err)
			wanted = false
		}
	}
	before, had := tx.state.endpoints[name]
	var after endpointState
	if wanted {
		after = tx.makeEndpoint(wish)
		tx.state.endpoints[name] = after
	} else {
		delete(tx.state.endpoints, name)
	}
	tx.dispatch = tx.dispatch || had != wanted || before.to != after.to
	if !tx.full() {
		for fam := range tx.d.families {
			gone, come := diff(before.sources(name, fam), after.sources(name, fam))
			set := sourceSet(fam)
			tx.deletes[set] = append(tx.deletes[set], gone...)
			tx.adds[set] = append(tx.adds[set], come...)
		}
	}
	for _, list := range before.lists {
		if l := tx.state.lists[list]; l != nil && list != "" {
			l.refs--
			tx.released = append(tx.released, list)
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
func (tx *transaction) makeEndpoint(wish tables.Endpoint) endpointState {
	e := endpointState{addresses: addressesOf(wish)}
	for d, tiers := range [directions][]tables.Tier{wish.Ingress, wish.Egress} {
		switch {
		case wish.Unknown:
			e.to[d] = drop
		case len(tiers) == 0:
			e.to[d] = goReturn
		default:
			e.lists[d] = tx.makeList(direction(d), tiers)
			e.to[d] = goTo(e.lists[d])
		}
	}
	return e
}

// makeList makes the chain for a list of tiers and takes a reference to it.
func (tx *transaction) makeList(d direction, wish []tables.Tier) string {
	names := make([]string, len(wish))
	tiers := make([]*tierChain, len(wish))
	for i, t := range wish {
		names[i], tiers[i] = newTierChain(d, t)
	}
	name, list := newListChain(d, names)
	if known := tx.state.lists[name]; known != nil {
		known.refs++
		return name
	}
	for i, tier := range names {
		if known := tx.state.tiers[tier]; known != nil {
			known.refs++
			continue
		}
		tiers[i].refs = 1
		tx.state.tiers[tier] = tiers[i]
		tx.ensureTier(tier, tiers[i])
	}
	list.refs = 1
	tx.state.lists[name] = list
	for fam := range tx.d.families {
		tx.ensureChain(place{fam, filterTable}, list.render(name))
	}
	return name
}

func (tx *transaction) ensureTier(name string, tier *tierChain) {
	c := tier.render(name, func(program string) shape { return tx.state.programs[program].shapes[tier.direction] })
	for fam := range tx.d.families {
		tx.ensureChain(place{fam, filterTable}, c)
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
	remove := func(name string) {
		for fam := range tx.d.families {
			tx.removeChain(place{fam, filterTable}, name)
		}
	}
	for _, name := range tx.released {
		list := tx.state.lists[name]
		if list == nil || list.refs > 0 {
			continue
		}
		delete(tx.state.lists, name)
		remove(name)
		for _, tier := range list.tiers {
			if t := tx.state.tiers[tier]; t != nil {
				if t.refs--; t.refs == 0 {
					delete(tx.state.tiers, tier)
					remove(tier)
				}
			}
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
