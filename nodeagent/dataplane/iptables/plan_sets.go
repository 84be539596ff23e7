package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

func specOf(typ tables.SetType, fam family) setSpec {
	kind := map[tables.SetType]string{tables.Addresses: hashIP, tables.Nets: hashNet, tables.NamedPorts: hashIPPort}[typ]
	return setSpec{kind, fam}
}

// planSets makes the sets that programs name, and their members.
func (tx *transaction) planSets() error {
	if tx.full() {
		for fam := range tx.d.families {
			if err := tx.ensureExact(sourceSet(fam), setSpec{hashNetIface, fam}, item{}, tx.allSources(fam)); err != nil {
				return err
			}
		}
	}
	scan := map[string]bool{}
	look := func(id string) {
		if tx.planSet(id) {
			scan[id] = true
		}
	}
	if tx.full() {
		for id := range tx.desired.Sets.All() {
			look(id)
		}
	} else {
		for id := range tx.desired.Sets.Dirty() {
			look(id)
		}
		for id := range tx.state.folder.ChangedSets() {
			look(id)
		}
	}
	if tx.full() || len(scan) > 0 {
		return tx.scanMembers(scan)
	}
	for m := range tx.desired.Members.Dirty() {
		tx.planMember(m)
	}
	return nil
}

// planSet makes, replaces or gives up one set, and tells whether all members have to be looked at for it.
func (tx *transaction) planSet(id string) bool {
	typ, wanted := tx.desired.Sets.Get(id)
	old, had := tx.state.sets[id]
	now := memberSet{typ, tx.state.folder.SetAway(id)}
	if had && wanted && old == now || !had && !wanted {
		return false
	}
	if had {
		tx.state.unfit.Look(tables.KindSet, id)
		if !old.away {
			for fam := range tx.d.families {
				tx.lateSets = append(tx.lateSets, setName(id, old.typ, fam))
			}
		}
		delete(tx.state.sets, id)
		tx.typesChanged = tx.typesChanged || wanted && old.typ != typ
	}
	if !wanted {
		tx.state.orphans[id] = true
		return false
	}
	tx.state.sets[id] = now
	scan := tx.full() || had || tx.state.orphans[id]
	delete(tx.state.orphans, id)
	if !scan && !now.away {
		for fam := range tx.d.families {
			scan = scan || tx.state.leftovers[setName(id, typ, fam)]
			tx.newSet(setName(id, typ, fam), specOf(typ, fam), item{tables.KindSet, id})
		}
	}
	return scan
}

// newSet makes a set that is not there.
func (tx *transaction) newSet(name string, spec setSpec, owner item) {
	tx.newSets[name] = spec
	tx.owners[name] = owner
}

// planMember adds or deletes one member that changed.
func (tx *transaction) planMember(m tables.Member) {
	set, ok := tx.state.sets[m.Set]
	_, wanted := tx.desired.Members.Get(m)
	if !ok {
		if wanted {
			tx.state.orphans[m.Set] = true
		}
		return
	}
	if err := checkMember(m, set.typ); err != nil {
		if !wanted {
			err = nil
		}
		tx.state.unfit.NoteMember(m, err)
		return
	}
	fam := familyOf(m.Prefix.Addr())
	if fam >= tx.d.families || set.away {
		return
	}
	name := setName(m.Set, set.typ, fam)
	tx.owners[name] = item{tables.KindSet, m.Set}
	for _, e := range entriesOf(m, set.typ) {
		if wanted {
			tx.adds[name] = append(tx.adds[name], e)
		} else if !tx.halfWanted(m, e) {
			tx.deletes[name] = append(tx.deletes[name], e)
		}
	}
}

// entriesOf are the elements that stand for a member. A set of CIDRs can't hold that of all addresses, which becomes
// two halves.
func entriesOf(m tables.Member, typ tables.SetType) []entry {
	if typ == tables.Nets {
		return cidrEntries(m.Prefix)
	}
	return []entry{{prefix: m.Prefix, protocol: m.Protocol, port: m.Port}}
}

func cidrEntries(p netip.Prefix) []entry {
	if p.Bits() > 0 {
		return []entry{{prefix: p}}
	}
	low := netip.PrefixFrom(p.Addr(), 1)
	upper := p.Addr().AsSlice()
	upper[0] = 0x80
	address, _ := netip.AddrFromSlice(upper)
	return []entry{{prefix: low}, {prefix: netip.PrefixFrom(address, 1)}}
}

// halfWanted tells whether an element that stands for a member that goes stands for another one too: a half of all
// addresses can be a member itself.
func (tx *transaction) halfWanted(m tables.Member, e entry) bool {
	if e.prefix.Bits() != 1 {
		return false
	}
	half, all := m, m
	half.Prefix = e.prefix
	all.Prefix = netip.PrefixFrom(e.prefix.Addr(), 0).Masked()
	_, asHalf := tx.desired.Members.Get(half)
	_, asAll := tx.desired.Members.Get(all)
	return asHalf || asAll
}

// checkMember tells why m can't be a member of a set of the type.
func checkMember(m tables.Member, typ tables.SetType) error {
	switch {
	case !m.Prefix.IsValid() || m.Prefix.Addr().Is4In6() || m.Prefix != m.Prefix.Masked():
		return fmt.Errorf("member %v is not a canonical CIDR", m.Prefix)
	case typ != tables.Nets && !m.Prefix.IsSingleIP():
		return fmt.Errorf("member %v is not a single address", m.Prefix)
	case typ == tables.NamedPorts && !hasPortNumbers(m.Protocol):
		return fmt.Errorf("member %v has the protocol %d, which has no ports", m.Prefix, m.Protocol)
	}
	return nil
}

// scanMembers looks at all members of the sets in scan, to find what the kernel lacks and has in excess, and at what changed in
// others.
func (tx *transaction) scanMembers(scan map[string]bool) error {
	for _, id := range slices.Sorted(maps.Keys(scan)) {
		if err := tx.scanSet(id); err != nil {
			return err
		}
	}
	if tx.full() {
		for m := range tx.desired.Members.All() {
			if _, ok := tx.state.sets[m.Set]; !ok {
				tx.state.orphans[m.Set] = true
			}
		}
		return nil
	}
	for m := range tx.desired.Members.Dirty() {
		if !scan[m.Set] {
			tx.planMember(m)
		}
	}
	return nil
}

// scanSet looks at all members of a set.
func (tx *transaction) scanSet(id string) error {
	set, it := tx.state.sets[id], item{tables.KindSet, id}
	want := map[family][]entry{}
	for m := range tx.desired.Members.Of(id) {
		if err := checkMember(m, set.typ); err != nil {
			tx.state.unfit.NoteMember(m, err)
			continue
		}
		fam := familyOf(m.Prefix.Addr())
		want[fam] = append(want[fam], entriesOf(m, set.typ)...)
	}
	if set.away {
		return nil
	}
	for fam := range tx.d.families {
		if err := tx.ensureExact(setName(id, set.typ, fam), specOf(set.typ, fam), it, want[fam]); err != nil {
			return err
		}
	}
	return nil
}

// ensureExact makes a set hold exactly some entries. What is in the kernel is read if the set may be there.
func (tx *transaction) ensureExact(name string, spec setSpec, owner item, want []entry) error {
	tx.owners[name] = owner
	var have *content
	if tx.full() {
		tx.wantedSets[name] = true
		have = tx.kernel.sets[name]
		delete(tx.kernel.sets, name) // what is left in the end is not wanted
	} else if tx.state.leftovers[name] {
		list, err := tx.d.sets.list(name)
		if err != nil {
			return err
		}
		have = list[name]
	}
	if have == nil {
		tx.newSet(name, spec, owner)
		tx.adds[name] = want
		return nil
	}
	if have.spec != spec {
		return fmt.Errorf("set %s is of type %s, not %s: somebody else made it; remove it", name, have.spec.kind, spec.kind)
	}
	wanted := make(map[entry]bool, len(want))
	for _, e := range want {
		wanted[e] = true
	}
	for _, e := range have.entries {
		if !wanted[e] {
			tx.deletes[name] = append(tx.deletes[name], e)
		}
		delete(wanted, e)
	}
	tx.adds[name] = slices.Collect(maps.Keys(wanted))
	return nil
}

// ensureList makes the set of a rule's list of CIDRs and takes a reference to it.
func (tx *transaction) ensureList(name string, nets []netip.Prefix) error {
	tx.state.cidrLists[name]++
	if tx.state.cidrLists[name] > 1 {
		return nil
	}
	var want []entry
	for _, p := range nets {
		want = append(want, cidrEntries(p)...)
	}
	return tx.ensureExact(name, setSpec{hashNet, familyOf(nets[0].Addr())}, item{}, want)
}

// dropLists gives references to sets of lists up.
func (tx *transaction) dropLists(names []string) {
	for _, name := range names {
		if tx.state.cidrLists[name]--; tx.state.cidrLists[name] <= 0 {
			delete(tx.state.cidrLists, name)
			tx.lateSets = append(tx.lateSets, name)
		}
	}
}

// planPools makes the sets for masquerading, and those of nodes' addresses. There are few, so all are looked at when one changed.
func (tx *transaction) planPools() error {
	if !tx.full() && !tx.desired.Pools.HasDirty() && !tx.desired.Nodes.HasDirty() {
		return nil
	}
	want := tx.wantedPools()
	for name, entries := range want {
		before := tx.state.pools[name]
		tx.state.pools[name] = entries
		if tx.full() {
			fam := ipv4
			if name == poolSet(ipv6) || name == natSet(ipv6) || name == nodeSet(ipv6) {
				fam = ipv6
			}
			if err := tx.ensureExact(name, setSpec{hashNet, fam}, item{}, slices.Collect(maps.Keys(entries))); err != nil {
				return err
			}
			continue
		}
		for e := range entries {
			if !before[e] {
				tx.adds[name] = append(tx.adds[name], e)
			}
		}
		for e := range before {
			if !entries[e] {
				tx.deletes[name] = append(tx.deletes[name], e)
			}
		}
	}
	return nil
}

// wantedPools are the entries of the sets of pools and nodes. A pool that is none is a problem of its own.
func (tx *transaction) wantedPools() map[string]map[entry]bool {
	want := map[string]map[entry]bool{}
	for fam := range tx.d.families {
		want[poolSet(fam)], want[natSet(fam)], want[nodeSet(fam)] = map[entry]bool{}, map[entry]bool{}, map[entry]bool{}
	}
	for p := range tx.desired.Nodes.All() {
		fam := familyOf(p.Addr())
		if fam >= tx.d.families {
			continue
		}
		for _, e := range cidrEntries(p) {
			want[nodeSet(fam)][e] = true
		}
	}
	for p := range tx.desired.Pools.Dirty() {
		tx.state.unfit.Look(tables.KindPool, p.String())
	}
	for p, pool := range tx.desired.Pools.All() {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			tx.state.unfit.Note(tables.KindPool, p.String(), "", fmt.Errorf("pool %v is not a canonical CIDR", p))
			continue
		}
		fam := familyOf(p.Addr())
		if fam >= tx.d.families {
			continue
		}
		for _, e := range cidrEntries(p) {
			want[poolSet(fam)][e] = true
			if pool.NATOutgoing {
				want[natSet(fam)][e] = true
			}
		}
	}
	return want
}

// fillSets makes new sets and adds what is to be added to sets.
func (tx *transaction) fillSets(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(tx.newSets)) {
		if err := tx.d.sets.create(name, tx.newSets[name]); err != nil {
			if err := tx.ofItem(name, err); err != nil {
				return err
			}
		}
	}
	return tx.changeSets(ctx, tx.adds, tx.d.sets.add)
}

// emptySets deletes what is to be deleted from sets, and sets that are not needed any more.
func (tx *transaction) emptySets(ctx context.Context) error {
	if err := tx.changeSets(ctx, tx.deletes, tx.d.sets.del); err != nil {
		return err
	}
	late := tx.lateSets
	if tx.full() {
		for name := range tx.kernel.sets {
			if !tx.wantedSets[name] {
				late = append(late, name)
			}
		}
	}
	late = slices.Concat(late, slices.Collect(maps.Keys(tx.state.leftovers)))
	slices.Sort(late)
	for _, name := range slices.Compact(late) {
		delete(tx.state.leftovers, name)
		if _, again := tx.newSets[name]; again || tx.state.cidrLists[name] > 0 || tx.wantedSets[name] || tx.inUse(name) {
			continue
		}
		err := tx.d.sets.destroy(name)
		if errors.Is(err, errBusy) {
			// The kernel lets go of rules a moment after they are gone, and a refused program keeps its former form.
			tx.state.leftovers[name] = true
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inUse tells whether a set stands for one of the tables', or for a fold.
func (tx *transaction) inUse(name string) bool {
	if tx.state.foldSets[name] {
		return true
	}
	owner, ok := tx.owners[name]
	if !ok || owner.kind != tables.KindSet {
		return false
	}
	set, ok := tx.state.sets[owner.name]
	return ok && !set.away && (setName(owner.name, set.typ, ipv4) == name || setName(owner.name, set.typ, ipv6) == name)
}

func (tx *transaction) changeSets(ctx context.Context, changes map[string][]entry, change func(string, []entry) error) error {
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		if len(changes[name]) == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := change(name, changes[name]); err != nil {
			if err := tx.ofItem(name, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// ofItem makes an error with a set a problem of the item that the set belongs to; with the driver's own it stays.
func (tx *transaction) ofItem(name string, err error) error {
	owner := tx.owners[name]
	if owner.kind == "" {
		return err
	}
	tx.problem(owner, err)
	return nil
}
