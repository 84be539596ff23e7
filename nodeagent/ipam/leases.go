package ipam

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/internal/ipam"
)

// maxStances bounds how many blocks are remembered that the node once agreed to give back.
const maxStances = 1024

// stance is what the node has agreed to about a block. It stays when the block is gone, so that an old word about the block,
// which comes late, gives nothing out.
type stance struct {
	Revision  int64        `json:"revision"`
	Withdrawn bool         `json:"withdrawn,omitempty"`
	Lent      []netip.Addr `json:"lent,omitempty"`
}

func (s stance) equal(o stance) bool {
	return s.Revision == o.Revision && s.Withdrawn == o.Withdrawn && slices.Equal(s.Lent, o.Lent)
}

func (b *block) stance() stance {
	return stance{Revision: b.Revision, Withdrawn: b.Withdrawn, Lent: b.Lent}
}

// agree holds what was said about blocks against what the node has agreed to: an older word does not count. It returns what there is to
// write down.
func (a *Allocator) agree(blocks []*block) map[netip.Prefix]*stance {
	changed := map[netip.Prefix]*stance{}
	leased := map[netip.Prefix]bool{}
	for _, b := range blocks {
		leased[b.CIDR] = true
		known, ok := a.stances[b.CIDR]
		switch {
		case ok && b.Revision < known.Revision:
			b.Revision, b.Withdrawn, b.Lent = known.Revision, known.Withdrawn, known.Lent
		case ok || b.Withdrawn || len(b.Lent) > 0:
			if s := b.stance(); !s.equal(known) {
				changed[b.CIDR] = &s
			}
		}
	}
	for _, cidr := range a.oldest(leased, len(a.stances)+len(changed)-maxStances) {
		changed[cidr] = nil
	}
	return changed
}

// oldest are the blocks of so many stances, of blocks that are not leased any more, the oldest first.
func (a *Allocator) oldest(leased map[netip.Prefix]bool, count int) []netip.Prefix {
	if count <= 0 {
		return nil
	}
	gone := slices.DeleteFunc(slices.Collect(maps.Keys(a.stances)), func(cidr netip.Prefix) bool { return leased[cidr] })
	slices.SortFunc(gone, func(x, y netip.Prefix) int {
		return cmp.Or(cmp.Compare(a.stances[x].Revision, a.stances[y].Revision), x.Compare(y))
	})
	return gone[:min(count, len(gone))]
}

// Agreement is the node's word about a block, or about a borrowed address.
type Agreement struct {
	CIDR netip.Prefix
	// Revision of the lease that the node goes by.
	Revision int64
	// Released: it is withdrawn, none of its addresses is in use or was within the cooldown, and none will be.
	Released bool
	// Withheld are those of the lent addresses that are not in use, nor were within the cooldown, nor will be.
	Withheld []netip.Addr
}

// Agreements lists what the node has agreed to about blocks that are withdrawn, or of which addresses are lent, in order
// of CIDR. It must not be told to others before all of it is on disk, as Save brings it there. cooling: time alone will add to it.
func (a *Allocator) Agreements() (list []Agreement, cooling bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken != nil {
		return nil, false
	}
	now := a.now()
	for _, b := range a.blocks {
		known, ok := a.stances[b.CIDR]
		if !ok || !known.equal(b.stance()) {
			continue
		}
		x := Agreement{CIDR: b.CIDR, Revision: b.Revision}
		if b.Withdrawn {
			var waits bool
			x.Released, waits = a.allFree(b, now)
			cooling = cooling || waits
		}
		for _, addr := range b.Lent {
			switch state := b.state[b.offset(addr)]; {
			case state == inUse:
			case a.cools(state, now):
				cooling = true
			default:
				x.Withheld = append(x.Withheld, addr)
			}
		}
		list = append(list, x)
	}
	return list, cooling
}

// allFree tells whether no address of a block is in use, nor was within the cooldown; cooling: but for the cooldown.
func (a *Allocator) allFree(b *block, now int64) (free, cooling bool) {
	for _, state := range b.state {
		if state == inUse {
			return false, false
		}
		cooling = cooling || a.cools(state, now)
	}
	return !cooling, cooling
}

func (a *Allocator) cools(state, now int64) bool {
	return state > neverUsed && now-state < int64(a.cooldown)
}

// NeedsAdoption tells whether the journal is new and nobody has said yet which addresses were in use before.
func (a *Allocator) NeedsAdoption() (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken != nil {
		return false, a.broken
	}
	return a.fresh, nil
}

// Adopt takes into a new journal what was in use before it was made. An owner that has addresses already, and an address that has
// an owner, stay as they are. Of the other addresses of the blocks in resting nobody knows since when they are free: they count as
// freed now.
func (a *Allocator) Adopt(found []Allocation, resting []netip.Prefix) error {
	for _, cidr := range resting {
		if cidr != cidr.Masked() || ipam.Size(cidr) > maxBlockSize {
			return fmt.Errorf("adopting addresses in use: %s is no block of at most %d addresses", cidr, maxBlockSize)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	c := change{owners: map[ownerKey]*record{}, freed: map[netip.Addr]int64{}, known: true}
	taken := map[netip.Addr]bool{}
	for _, x := range found {
		key := keyOf(x.Owner)
		if _, ok := a.owners[key]; ok || checkOwner(x.Owner) != nil || c.owners[key] != nil {
			continue
		}
		r := &record{Owner: x.Owner, External: x.External, Chained: x.Chained, since: a.now()}
		for _, addr := range x.Addresses {
			if _, ok := a.used[addr]; !ok && !taken[addr] {
				taken[addr] = true
				r.Addresses = append(r.Addresses, addr)
				c.freed[addr] = neverUsed
			}
		}
		if len(r.Addresses) > 0 {
			c.owners[key] = r
		}
	}
	for _, cidr := range resting {
		for offset := range ipam.Size(cidr) {
			addr := ipam.AddrAt(cidr, offset)
			if _, ok := a.used[addr]; !ok && !taken[addr] {
				c.freed[addr] = a.now()
			}
		}
	}
	if err := a.commit(c); err != nil {
		return fmt.Errorf("adopting addresses in use: %w", err)
	}
	return nil
}
