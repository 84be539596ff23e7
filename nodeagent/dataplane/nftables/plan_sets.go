package nftables

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// group is the number of elements that are gathered before they become messages.
const group = 256

// scanned is a set whose members all have to be looked at, because it is new or because everything is compared.
type scanned struct {
	set *memberSet
	// present are the keys in the kernel, by family; nil when the kernel's set is new.
	present [families]map[string]struct{}
}

// pendingElements are elements of one set that are to be added and deleted.
type pendingElements struct {
	item          item // the set, as the tables know it
	adds, deletes []element
}

func (tx *transaction) pendingOf(it item, name string) *pendingElements {
	p := tx.pending[name]
	if p == nil {
		p = &pendingElements{item: it}
		tx.pending[name] = p
	}
	return p
}

// planSets makes sets and their members.
func (tx *transaction) planSets(ctx context.Context) error {
	if tx.full() {
		return tx.compareSets(ctx)
	}
	for id := range tx.desired.Sets.Dirty() {
		tx.planSet(id)
	}
	for id := range tx.state.folder.ChangedSets() {
		tx.planSet(id)
	}
	perSet := map[string]changes{}
	for m := range tx.desired.Members.Dirty() {
		_, wanted := tx.desired.Members.Get(m)
		tx.planMember(m, wanted, tx.desired.Members.Had(m), perSet)
	}
	for _, id := range slices.Sorted(maps.Keys(tx.scan)) {
		if err := tx.scanMembers(ctx, id); err != nil {
			return err
		}
	}
	tx.planNets(perSet)
	return tx.sendEarly(ctx)
}

// planSet makes, replaces or gives up one set.
func (tx *transaction) planSet(id string) {
	typ, wanted := tx.desired.Sets.Get(id)
	old := tx.state.sets[id]
	if old != nil && wanted && old.typ == typ && old.away == tx.state.folder.SetAway(id) {
		return
	}
	tx.state.unfit.Look(tables.KindSet, id)
	if old != nil {
		if !old.away {
			for _, fam := range tx.state.inUse.families() {
				tx.lateSets = append(tx.lateSets, setName(id, old.typ, fam))
			}
		}
		delete(tx.state.sets, id)
		tx.typesChanged = tx.typesChanged || wanted && old.typ != typ
	}
	if wanted {
		tx.scan[id] = &scanned{set: tx.makeSet(id, typ)}
	}
}

func (tx *transaction) makeSet(id string, typ tables.SetType) *memberSet {
	set := newMemberSet(typ, tx.state.folder.SetAway(id))
	tx.state.sets[id] = set
	if set.away {
		return set
	}
	tx.early.item = item{tables.KindSet, id}
	for _, fam := range tx.state.inUse.families() {
		tx.ensureSet(setName(id, typ, fam), memberSpec(typ, fam))
	}
	return set
}

// planMember adds or deletes one member. had tells whether it was in the tables when they were last made true.
func (tx *transaction) planMember(m tables.Member, wanted, had bool, perSet map[string]changes) {
	set := tx.state.sets[m.Set]
	if set == nil || tx.scan[m.Set] != nil || wanted == had {
		return
	}
	if err := checkMember(m, set.typ); err != nil {
		if !wanted {
			err = nil
		}
		tx.state.unfit.NoteMember(m, err)
		return
	}
	if set.away {
		return
	}
	if set.nets != nil {
		if perSet[m.Set] == nil {
			perSet[m.Set] = changes{}
		}
		if wanted {
			set.nets.insert(m.Prefix, perSet[m.Set])
		} else {
			set.nets.remove(m.Prefix, perSet[m.Set])
		}
		return
	}
	fam := familyOf(m.Prefix.Addr())
	if !tx.state.inUse.has(fam) {
		return
	}
	p := tx.pendingOf(item{tables.KindSet, m.Set}, setName(m.Set, set.typ, fam))
	if wanted {
		p.adds = append(p.adds, element{key: memberKey(m, set.typ)})
	} else {
		p.deletes = append(p.deletes, element{key: memberKey(m, set.typ)})
	}
}

// checkMember tells why m can't be a member of a set of the type.
func checkMember(m tables.Member, typ tables.SetType) error {
	switch {
	case !m.Prefix.IsValid() || m.Prefix.Addr().Is4In6() || m.Prefix != m.Prefix.Masked():
		return fmt.Errorf("member %v is not a canonical CIDR", m.Prefix)
	case typ != tables.Nets && !m.Prefix.IsSingleIP():
		return fmt.Errorf("member %v is not a single address", m.Prefix)
	}
	return nil
}

func memberKey(m tables.Member, typ tables.SetType) string {
	if typ == tables.NamedPorts {
		return portKeyOf(m)
	}
	return string(m.Prefix.Addr().AsSlice())
}

// planNets turns what changed in sets of CIDRs into elements.
func (tx *transaction) planNets(perSet map[string]changes) {
	for id, c := range perSet {
		for _, fam := range tx.state.inUse.families() {
			name := setName(id, tables.Nets, fam)
			tx.planIntervals(item{tables.KindSet, id}, name, fam, c)
		}
	}
}

func (tx *transaction) planIntervals(it item, name string, fam family, c changes) {
	for _, p := range ofFamily(c.sorted(-1), fam) {
		e := tx.pendingOf(it, name)
		e.deletes = append(e.deletes, intervalOf(p)...)
	}
	for _, p := range ofFamily(c.sorted(1), fam) {
		e := tx.pendingOf(it, name)
		e.adds = append(e.adds, intervalOf(p)...)
	}
}

// compareSets makes all sets, and finds out which members the kernel lacks or has in excess.
func (tx *transaction) compareSets(ctx context.Context) error {
	var ids []string
	for id := range tx.desired.Sets.All() {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if tx.refused(item{tables.KindSet, id}) {
			continue
		}
		typ, _ := tx.desired.Sets.Get(id)
		kept := false
		for _, fam := range tx.state.inUse.families() {
			_, exists := tx.kernel.sets[setName(id, typ, fam)]
			kept = kept || exists
		}
		set := tx.makeSet(id, typ)
		tx.scan[id] = &scanned{set: set}
		if err := tx.sendEarly(ctx); err != nil {
			return err
		}
		if kept && !set.away && typ != tables.Nets {
			if err := tx.compareElements(id, tx.scan[id]); err != nil {
				return err
			}
		}
		if err := tx.scanMembers(ctx, id); err != nil {
			return err
		}
	}
	return tx.sendEarly(ctx)
}

// compareElements reads a set's elements, deletes those that are no members, and keeps the others to be compared.
func (tx *transaction) compareElements(id string, s *scanned) error {
	for _, fam := range tx.state.inUse.families() {
		name := setName(id, s.set.typ, fam)
		if _, exists := tx.kernel.sets[name]; !exists {
			continue
		}
		have, err := tx.d.socket.readElements(name)
		if err != nil {
			return err
		}
		s.present[fam] = make(map[string]struct{}, len(have))
		for _, e := range have {
			m, ok := memberOf(id, s.set.typ, fam, e.key)
			if ok {
				_, ok = tx.desired.Members.Get(m)
			}
			if ok {
				s.present[fam][e.key] = struct{}{}
			} else {
				p := tx.pendingOf(item{tables.KindSet, id}, name)
				p.deletes = append(p.deletes, e)
			}
		}
	}
	return nil
}

// memberOf is the member whose key is given.
func memberOf(id string, typ tables.SetType, fam family, key string) (tables.Member, bool) {
	n := int(fam.addressLen())
	if len(key) < n {
		return tables.Member{}, false
	}
	address, _ := netip.AddrFromSlice([]byte(key[:n]))
	m := tables.Member{Set: id, Prefix: netip.PrefixFrom(address, address.BitLen())}
	if typ == tables.NamedPorts {
		if len(key) < n+6 {
			return tables.Member{}, false
		}
		m.Protocol, m.Port = key[n], uint16(key[n+4])<<8|uint16(key[n+5])
	}
	return m, true
}

// scanMembers looks at all members of a set that is to be scanned.
func (tx *transaction) scanMembers(ctx context.Context, id string) error {
	s := tx.scan[id]
	it := item{tables.KindSet, id}
	for m := range tx.desired.Members.Of(id) {
		if err := checkMember(m, s.set.typ); err != nil {
			tx.state.unfit.NoteMember(m, err)
			continue
		}
		if s.set.away {
			continue
		}
		if s.set.nets != nil {
			s.set.nets.insert(m.Prefix, changes{})
			continue
		}
		fam := familyOf(m.Prefix.Addr())
		key := memberKey(m, s.set.typ)
		if _, ok := s.present[fam][key]; ok || !tx.state.inUse.has(fam) {
			continue
		}
		name := setName(id, s.set.typ, fam)
		p := tx.pendingOf(it, name)
		p.adds = append(p.adds, element{key: key})
		if len(p.adds) >= group {
			tx.flushAdds(name, p)
			if err := tx.sendEarly(ctx); err != nil {
				return err
			}
		}
	}
	s.present = [families]map[string]struct{}{}
	if s.set.nets == nil {
		return nil
	}
	tx.early.item = it
	for _, fam := range tx.state.inUse.families() {
		if err := tx.compareIntervals(setName(id, tables.Nets, fam), s.set.nets.greatest(fam)); err != nil {
			return err
		}
	}
	return nil
}

// compareIntervals makes an interval set hold exactly the CIDRs, which do not overlap. If what is there is anything
// else it is written anew: single bounds of foreign intervals can't be told apart.
func (tx *transaction) compareIntervals(name string, want []netip.Prefix) error {
	var elements []element
	for _, p := range want {
		elements = append(elements, intervalOf(p)...)
	}
	if tx.newSets[name] {
		tx.ahead = tx.ahead || len(elements) > 0
		tx.early.elements(unix.NFT_MSG_NEWSETELEM, name, 0, elements)
		return nil
	}
	have, err := tx.d.socket.readElements(name)
	if err != nil {
		return err
	}
	same := len(have) == len(elements)
	bounds := make(map[element]bool, len(have))
	for _, e := range have {
		bounds[e] = true
	}
	for _, e := range elements {
		same = same && bounds[e]
	}
	if same {
		return nil
	}
	tx.main.item = tx.early.item
	tx.main.flushSet(name)
	tx.main.elements(unix.NFT_MSG_NEWSETELEM, name, 0, elements)
	return nil
}

// flushAdds turns the gathered elements of a set into messages: early ones if the set is new.
func (tx *transaction) flushAdds(name string, p *pendingElements) {
	b := tx.main
	if tx.newSets[name] {
		b = tx.early
		tx.ahead = tx.ahead || p.item.kind == tables.KindSet && tx.state.sets[p.item.name].nets != nil && len(p.adds) > 0
	}
	b.item = p.item
	b.elements(unix.NFT_MSG_NEWSETELEM, name, 0, p.adds)
	p.adds = nil
}

// flushElements puts what is left of members into the batches: deletions first, so that intervals make room.
func (tx *transaction) flushElements() {
	names := slices.Sorted(maps.Keys(tx.pending))
	for _, name := range names {
		p := tx.pending[name]
		tx.main.item = p.item
		tx.main.elements(unix.NFT_MSG_DELSETELEM, name, 0, p.deletes)
	}
	for _, name := range names {
		tx.flushAdds(name, tx.pending[name])
	}
}

// planNodes makes the sets of nodes' addresses.
func (tx *transaction) planNodes(context.Context) error {
	changed := changes{}
	if !tx.full() {
		for p := range tx.desired.Nodes.Dirty() {
			if _, ok := tx.desired.Nodes.Get(p); ok {
				tx.state.nodes.insert(p, changed)
			} else {
				tx.state.nodes.remove(p, changed)
			}
		}
		for fam := range families {
			tx.planIntervals(item{kind: kindSettings}, nodeSet(fam), fam, changed)
		}
		return nil
	}
	for p := range tx.desired.Nodes.All() {
		tx.state.nodes.insert(p, changed)
	}
	tx.early.item = item{kind: kindSettings}
	for fam := range families {
		if err := tx.compareIntervals(nodeSet(fam), tx.state.nodes.greatest(fam)); err != nil {
			return err
		}
	}
	return nil
}

// planPools makes the sets for masquerading.
func (tx *transaction) planPools(context.Context) error {
	all, nat := changes{}, changes{}
	look := func(p netip.Prefix) {
		pool, ok := tx.desired.Pools.Get(p)
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			tx.state.unfit.Look(tables.KindPool, p.String())
			if ok {
				tx.state.unfit.Note(tables.KindPool, p.String(), "", fmt.Errorf("pool %v is not a canonical CIDR", p))
			}
			return
		}
		if ok {
			tx.state.pools.insert(p, all)
		} else {
			tx.state.pools.remove(p, all)
		}
		if ok && pool.NATOutgoing {
			tx.state.nat.insert(p, nat)
		} else {
			tx.state.nat.remove(p, nat)
		}
	}
	if !tx.full() {
		for p := range tx.desired.Pools.Dirty() {
			look(p)
		}
		for fam := range families {
			tx.planIntervals(item{kind: kindSettings}, poolSet(fam), fam, all)
			tx.planIntervals(item{kind: kindSettings}, natSet(fam), fam, nat)
		}
		return nil
	}
	for p := range tx.desired.Pools.All() {
		look(p)
	}
	tx.early.item = item{kind: kindSettings}
	for fam := range families {
		if err := tx.compareIntervals(poolSet(fam), tx.state.pools.greatest(fam)); err != nil {
			return err
		}
		if err := tx.compareIntervals(natSet(fam), tx.state.nat.greatest(fam)); err != nil {
			return err
		}
	}
	return nil
}
