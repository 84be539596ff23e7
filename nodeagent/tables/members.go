package tables

import (
	"iter"
	"net/netip"
)

// Members are the members of all sets: a desired map that knows what changed, as delta.Table is one, and that can tell the
// members of one set without a look at the others'. A node may have a million: each is kept in some 20 bytes, none of which the
// garbage collector follows.
type Members struct {
	sets  map[string]map[packed]struct{}
	count int
	// dirty tells of each changed member whether it was there at the last Clean.
	dirty map[Member]bool
}

// keepDirty is the number of changed members up to which Clean keeps the memory for the next ones.
const keepDirty = 1024

// packed is a member without its set.
type packed struct {
	addr     [16]byte
	port     uint16
	bits     int16 // -1: not valid
	family   packedFamily
	protocol uint8
}

// packedFamily tells IPv4 addresses from those of IPv6 that hold one.
type packedFamily uint8

const (
	noAddress packedFamily = iota
	packedIPv4
	packedIPv6
)

func pack(m Member) packed {
	p := packed{port: m.Port, protocol: m.Protocol, bits: int16(m.Prefix.Bits())}
	switch addr := m.Prefix.Addr(); {
	case addr.Is4():
		p.addr, p.family = addr.As16(), packedIPv4
	case addr.IsValid():
		p.addr, p.family = addr.As16(), packedIPv6
	}
	return p
}

func (p packed) member(set string) Member {
	var addr netip.Addr
	switch p.family {
	case packedIPv4:
		addr = netip.AddrFrom16(p.addr).Unmap()
	case packedIPv6:
		addr = netip.AddrFrom16(p.addr)
	case noAddress:
	}
	return Member{Set: set, Prefix: netip.PrefixFrom(addr, int(p.bits)), Protocol: p.protocol, Port: p.port}
}

// NewMembers makes an empty table.
func NewMembers() *Members {
	return &Members{sets: map[string]map[packed]struct{}{}, dirty: map[Member]bool{}}
}

// Set makes m a member and tells whether that changed anything.
func (t *Members) Set(m Member, _ struct{}) bool {
	members := t.sets[m.Set]
	key := pack(m)
	if _, had := members[key]; had {
		return false
	}
	if members == nil {
		members = map[packed]struct{}{}
		t.sets[m.Set] = members
	}
	members[key] = struct{}{}
	t.count++
	if _, marked := t.dirty[m]; !marked {
		t.dirty[m] = false
	}
	return true
}

// Delete removes m and tells whether it was there. A member that came since the last Clean and goes again is no change.
func (t *Members) Delete(m Member) bool {
	members := t.sets[m.Set]
	key := pack(m)
	if _, had := members[key]; !had {
		return false
	}
	delete(members, key)
	if len(members) == 0 {
		delete(t.sets, m.Set)
	}
	t.count--
	if had, marked := t.dirty[m]; marked && !had {
		delete(t.dirty, m)
	} else {
		t.dirty[m] = true
	}
	return true
}

// Get tells whether m is a member.
func (t *Members) Get(m Member) (struct{}, bool) {
	_, ok := t.sets[m.Set][pack(m)]
	return struct{}{}, ok
}

// Len is the number of members of all sets.
func (t *Members) Len() int { return t.count }

// Count is the number of members of one set.
func (t *Members) Count(set string) int { return len(t.sets[set]) }

// Of iterates over the members of one set, in no particular order.
func (t *Members) Of(set string) iter.Seq[Member] {
	return func(yield func(Member) bool) {
		for p := range t.sets[set] {
			if !yield(p.member(set)) {
				return
			}
		}
	}
}

// All iterates over the members of all sets, in no particular order.
func (t *Members) All() iter.Seq2[Member, struct{}] {
	return func(yield func(Member, struct{}) bool) {
		for set := range t.sets {
			for m := range t.Of(set) {
				if !yield(m, struct{}{}) {
					return
				}
			}
		}
	}
}

// Dirty iterates over what changed since the last Clean, in no particular order. Get tells whether it is a member now or is to
// be removed.
func (t *Members) Dirty() iter.Seq[Member] {
	return func(yield func(Member) bool) {
		for m := range t.dirty {
			if !yield(m) {
				return
			}
		}
	}
}

// Had tells of what changed whether it was a member at the last Clean, that is, whether the kernel has it.
func (t *Members) Had(m Member) bool { return t.dirty[m] }

// HasDirty tells whether anything changed since the last Clean.
func (t *Members) HasDirty() bool { return len(t.dirty) > 0 }

// Clean forgets what changed: the kernel is equal to the table now.
func (t *Members) Clean() {
	if len(t.dirty) > keepDirty {
		t.dirty = map[Member]bool{} // a cleared map keeps the memory of its greatest size
		return
	}
	clear(t.dirty)
}

// MarkDirty counts m as changed, whether it is a member or not, and as one that the kernel may have.
func (t *Members) MarkDirty(m Member) { t.dirty[m] = true }
