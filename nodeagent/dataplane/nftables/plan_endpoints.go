package nftables

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// planEndpoints makes the chains that endpoints need, and leads the verdict maps to them.
func (tx *transaction) planEndpoints(ctx context.Context) error {
	names := tx.desired.Endpoints.Dirty()
	var have kernelElements
	if tx.full() {
		names = maps.Keys(maps.Collect(tx.desired.Endpoints.All()))
		var err error
		if have, err = tx.readElements(egressMap, ingressMap, prefixMap, sourceSet(ipv4), sourceSet(ipv6)); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(names) {
		if err := tx.planEndpoint(ctx, name, have); err != nil {
			return err
		}
	}
	tx.removeElements(have)
	return nil
}

// kernelElements are the elements of some sets by set and key.
type kernelElements map[string]map[string]element

// removeElements deletes what belongs to nothing in the tables.
func (tx *transaction) removeElements(have kernelElements) {
	tx.main.item = item{kind: kindSettings}
	for set, elements := range have {
		tx.main.elements(unix.NFT_MSG_DELSETELEM, set, 0, slices.Collect(maps.Values(elements)))
	}
}

// readElements reads the elements of sets that hold what belongs to endpoints.
func (tx *transaction) readElements(sets ...string) (kernelElements, error) {
	have := kernelElements{}
	for _, set := range sets {
		if tx.newSets[set] {
			continue
		}
		list, err := tx.d.socket.readElements(set)
		if err != nil {
			return nil, err
		}
		have[set] = make(map[string]element, len(list))
		for _, e := range list {
			have[set][e.key] = e
		}
	}
	return have, nil
}

// planEndpoint leads the packets of one interface to its chains, or gives it up. What is left in have when everything
// is compared is in the kernel and belongs to no endpoint.
func (tx *transaction) planEndpoint(ctx context.Context, name string, have kernelElements) error {
	it := item{tables.KindEndpoint, name}
	tx.state.unfit.Look(it.kind, it.name)
	var after endpoint
	wish, wanted := tx.desired.Endpoints.Get(name)
	if wanted {
		if err := tx.checkEndpoint(name); err != nil {
			tx.state.unfit.Note(it.kind, it.name, "", err)
			wanted = false
		}
	}
	if wanted && tx.refused(it) {
		wanted = false
	}
	if wanted {
		var err error
		if after, err = tx.makeEndpoint(ctx, it, wish); err != nil {
			return err
		}
	}
	before := tx.state.endpoints[name]
	tx.replaceElements(it, before.elements(name), after.elements(name), have)
	tx.release(append(before.to[:], before.prefixes)...)
	if wanted {
		tx.state.endpoints[name] = after
	} else {
		delete(tx.state.endpoints, name)
	}
	return nil
}

// replaceElements turns what an endpoint had in the driver's own sets into what it is to have. When everything is
// compared, what it has is in the kernel, and is taken out of have.
func (tx *transaction) replaceElements(it item, before, after []setElement, have kernelElements) {
	gone, come := diff(before, after)
	if tx.full() {
		gone, come = nil, nil
		for _, e := range after {
			old, exists := have[e.set][e.key]
			delete(have[e.set], e.key)
			if exists && old == e.element {
				continue
			}
			if exists {
				gone = append(gone, setElement{e.set, old})
			}
			come = append(come, e)
		}
	}
	tx.main.item = it
	for _, e := range gone {
		tx.main.elements(unix.NFT_MSG_DELSETELEM, e.set, 0, []element{e.element})
	}
	for _, e := range come {
		tx.main.elements(unix.NFT_MSG_NEWSETELEM, e.set, 0, []element{e.element})
	}
}

// checkEndpoint tells why an interface can't be a workload's.
func (tx *transaction) checkEndpoint(name string) error {
	switch prefix := tx.d.options.WorkloadPrefix; {
	case !strings.HasPrefix(name, prefix):
		return fmt.Errorf("the interface's name does not begin with %q, so no packet would be seen as the endpoint's", prefix)
	case len(name) >= interfaceNameLen:
		return fmt.Errorf("the interface's name is longer than %d characters", interfaceNameLen-1)
	}
	return nil
}

// makeEndpoint makes the chains that an endpoint needs.
func (tx *transaction) makeEndpoint(ctx context.Context, it item, wish tables.Endpoint) (endpoint, error) {
	var e endpoint
	for _, a := range wish.Addresses {
		a = a.Unmap().WithZone("")
		if a.IsValid() && !slices.Contains(e.addresses, a) {
			e.addresses = append(e.addresses, a)
		}
	}
	for d, tiers := range [directions][]tables.Tier{wish.Ingress, wish.Egress} {
		switch {
		case wish.Unknown:
			e.to[d] = toDrop
		case len(tiers) == 0:
			e.to[d] = toAccept
		default:
			list, err := tx.makeList(ctx, direction(d), podList, tiers)
			if err != nil {
				return endpoint{}, fmt.Errorf("%s %q: %w", it.kind, it.name, err)
			}
			e.to[d] = list
		}
	}
	var prefixes []netip.Prefix
	for _, p := range wish.SourcePrefixes {
		if !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() {
			tx.state.unfit.Note(it.kind, it.name, p.String(), fmt.Errorf("source prefix %v is not a canonical CIDR", p))
			continue
		}
		prefixes = append(prefixes, p)
	}
	if len(prefixes) > 0 {
		name, chain := newSourceChain(tables.Greatest(prefixes))
		e.prefixes = name
		return e, tx.takeList(ctx, name, chain)
	}
	return e, nil
}

// makeList makes the chain for a list of tiers and takes a reference to it.
func (tx *transaction) makeList(ctx context.Context, d direction, kind listKind, wish []tables.Tier) (string, error) {
	names := make([]string, len(wish))
	tiers := make([]*tierChain, len(wish))
	for i, t := range wish {
		names[i], tiers[i] = newTierChain(d, t)
	}
	name, list := newListChain(d, kind, names)
	if known := tx.state.lists[name]; known != nil {
		known.refs++
		return name, nil
	}
	for i, tierName := range names {
		if known := tx.state.tiers[tierName]; known != nil {
			known.refs++
			continue
		}
		tiers[i].refs = 1
		tx.state.tiers[tierName] = tiers[i]
		if err := tx.ensureTier(ctx, tierName, tiers[i]); err != nil {
			return "", err
		}
	}
	return name, tx.takeList(ctx, name, list)
}

// takeList takes a reference to a list chain, and makes it if it is the first. Its tiers are there.
func (tx *transaction) takeList(ctx context.Context, name string, list *listChain) error {
	if known := tx.state.lists[name]; known != nil {
		known.refs++
		return nil
	}
	list.refs = 1
	tx.state.lists[name] = list
	tx.ahead = true
	return tx.ensureChain(ctx, item{kind: kindSettings}, name, nil, list.digest(), func() []*ruleBuilder { return list.rules(&tx.setID) })
}

func (tx *transaction) ensureTier(ctx context.Context, name string, tier *tierChain) error {
	shapes := func(program string) shape { return tx.state.shapes[tier.direction][program] }
	steps := tx.state.folder.Steps(name)
	return tx.ensureChain(ctx, item{kind: kindSettings}, name, nil, tier.digest(shapes, steps), func() []*ruleBuilder { return tier.rules(shapes, steps, &tx.setID) })
}

// release gives up references to list chains. What is none is no matter.
func (tx *transaction) release(chains ...string) {
	for _, to := range chains {
		if list := tx.state.lists[to]; list != nil {
			if list.refs--; list.refs == 0 {
				tx.lateLists[to] = true
			}
		}
	}
}

// planRemoval collects what nothing refers to any more. Where everything was compared that is all that is not wanted.
func (tx *transaction) planRemoval() {
	if tx.full() {
		for name := range tx.kernel.chains {
			if !tx.wantedChains[name] {
				tx.lateChains = append(tx.lateChains, name)
			}
		}
		for name := range tx.kernel.sets {
			if !tx.wantedSets[name] {
				tx.lateSets = append(tx.lateSets, name)
			}
		}
	} else {
		var lists, tiers []string
		for name := range tx.lateLists {
			list := tx.state.lists[name]
			if list == nil || list.refs > 0 {
				continue // it came back
			}
			for _, tier := range list.tiers {
				if t := tx.state.tiers[tier]; t != nil {
					if t.refs--; t.refs == 0 {
						delete(tx.state.tiers, tier)
						tiers = append(tiers, tier)
					}
				}
			}
			delete(tx.state.lists, name)
			lists = append(lists, name)
		}
		tx.lateChains = slices.Concat(tx.lateBases, lists, tiers, tx.lateChains)
	}
	for _, name := range tx.lateChains {
		delete(tx.state.chains, name)
	}
}

// finish sends what was planned.
func (tx *transaction) finish(ctx context.Context) error {
	tx.flushElements()
	late, apart := tx.late, tx.late.len() > 0
	late.item = item{}
	if tx.full() {
		for _, name := range tx.lateChains {
			late.flushChain(name) // leftovers may refer to one another in any order
		}
	}
	for _, name := range tx.lateChains {
		late.deleteChain(name)
	}
	for _, name := range tx.lateSets {
		late.deleteSet(name)
	}
	if tx.rebuild || !tx.ahead && tx.early.bytes()+tx.main.bytes() <= chunk {
		tx.early.append(tx.main)
		tx.main = tx.early
	} else if err := tx.d.send(ctx, tx.early, tx.digests); err != nil {
		return err
	}
	if !tx.full() && !apart {
		tx.main.append(late)
		late.reset()
	}
	if err := tx.d.send(ctx, tx.main, tx.digests); err != nil {
		return err
	}
	for _, b := range tx.behind {
		if b != nil {
			if err := tx.d.send(ctx, b, tx.digests); err != nil {
				return err
			}
		}
	}
	if !tx.full() {
		return tx.d.send(ctx, late, tx.digests)
	}
	return tx.d.sendLeftovers(ctx, late)
}
