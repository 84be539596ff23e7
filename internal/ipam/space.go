package ipam

import (
	"crypto/sha256"
	"net/netip"
	"slices"
)

// space knows which blocks of pools are taken.
type space struct {
	leased map[netip.Prefix]struct{}
	// lengths of the prefixes in leased, ascending.
	lengths []int
	// partly are blocks of the pools' sizes in which something smaller is leased, as after a pool was made anew with
	// larger blocks.
	partly map[netip.Prefix]struct{}
	// reserved CIDRs, none within another.
	reserved []netip.Prefix
	// full are pools without a block left.
	full map[netip.Prefix]struct{}
}

func newSpace(in Input) *space {
	s := &space{
		leased:   make(map[netip.Prefix]struct{}, len(in.Leases)),
		partly:   map[netip.Prefix]struct{}{},
		reserved: outermost(in.Reserved),
		full:     map[netip.Prefix]struct{}{},
	}
	for _, lease := range in.Leases {
		s.mark(lease.Block)
		for _, pool := range in.Pools {
			if pool.BlockBits < lease.Block.Bits() && pool.CIDR.Overlaps(lease.Block) {
				s.partly[netip.PrefixFrom(lease.Block.Addr(), pool.BlockBits).Masked()] = struct{}{}
			}
		}
	}
	return s
}

// outermost drops the CIDRs that lie within others.
func outermost(cidrs []netip.Prefix) []netip.Prefix {
	sorted := make([]netip.Prefix, 0, len(cidrs))
	for _, cidr := range cidrs {
		sorted = append(sorted, cidr.Masked())
	}
	// In this order a CIDR comes after what contains it, with nothing between them but what that contains too.
	slices.SortFunc(sorted, netip.Prefix.Compare)
	kept := sorted[:0]
	for _, cidr := range sorted {
		if len(kept) == 0 || !kept[len(kept)-1].Overlaps(cidr) {
			kept = append(kept, cidr)
		}
	}
	return kept
}

func (s *space) mark(block netip.Prefix) {
	s.leased[block] = struct{}{}
	if i, found := slices.BinarySearch(s.lengths, block.Bits()); !found {
		s.lengths = slices.Insert(s.lengths, i, block.Bits())
	}
}

// take finds a block of the pool that is not taken, and takes it. The search starts at a place that depends on the node
// and the pool alone and goes up from there, round the end of the pool: nodes spread over the pool, so planners that do not yet
// know of each other's leases rarely choose the same block, and the blocks of one node tend to lie side by side.
func (s *space) take(pool Pool, node string) (netip.Prefix, bool) {
	if _, full := s.full[pool.CIDR]; full {
		return netip.Prefix{}, false
	}
	start := startAddress(pool.CIDR, node)
	first, ok := BlockOf(pool.CIDR, pool.BlockBits, start)
	wrapped := false
	for block := first; ok; {
		obstacle, blocked := s.obstacle(block)
		if !blocked {
			s.mark(block)
			return block, true
		}
		next, inside := BlockOf(pool.CIDR, pool.BlockBits, Last(obstacle).Next())
		if !inside {
			if wrapped {
				break
			}
			wrapped = true
			next, _ = BlockOf(pool.CIDR, pool.BlockBits, pool.CIDR.Addr()) // a pool's first address lies in it
		}
		if wrapped && next.Compare(first) >= 0 {
			break
		}
		block = next
	}
	s.full[pool.CIDR] = struct{}{}
	return netip.Prefix{}, false
}

// takeNamed takes a certain block, and tells whether it was free. Reservations do not matter to who asks by name.
func (s *space) takeNamed(block netip.Prefix) bool {
	if _, partly := s.partly[block]; partly || s.isLeased(block) {
		return false
	}
	s.mark(block)
	return true
}

func (s *space) isLeased(block netip.Prefix) bool {
	for _, length := range s.lengths {
		if length > block.Bits() {
			return false
		}
		if _, taken := s.leased[netip.PrefixFrom(block.Addr(), length).Masked()]; taken {
			return true
		}
	}
	return false
}

// obstacle is a CIDR that contains block and in which nothing of block's size can be leased. To step over the whole of
// it keeps the search short however large a reserved CIDR is.
func (s *space) obstacle(block netip.Prefix) (netip.Prefix, bool) {
	for _, length := range s.lengths {
		if length > block.Bits() || length > block.Addr().BitLen() {
			break
		}
		outer := netip.PrefixFrom(block.Addr(), length).Masked()
		if _, taken := s.leased[outer]; taken {
			return outer, true
		}
	}
	if _, taken := s.partly[block]; taken {
		return block, true
	}
	for _, reserved := range s.reserved {
		if reserved.Bits() <= block.Bits() && reserved.Contains(block.Addr()) {
			return reserved, true
		}
	}
	return block, s.capacity(block) == 0
}

// capacity is the number of addresses of a block that may be given out.
func (s *space) capacity(block netip.Prefix) uint64 {
	capacity := Size(block)
	for _, reserved := range s.reserved {
		if !reserved.Overlaps(block) {
			continue
		}
		if reserved.Bits() <= block.Bits() {
			return 0
		}
		capacity -= Size(reserved)
	}
	return capacity
}

// isReserved tells whether an address is given out only to who asks for it by name.
func (s *space) isReserved(addr netip.Addr) bool {
	return slices.ContainsFunc(s.reserved, func(r netip.Prefix) bool { return r.Contains(addr) })
}

// startAddress is an address of the pool that depends on pool and node alone.
func startAddress(pool netip.Prefix, node string) netip.Addr {
	hash := sha256.Sum256([]byte(pool.String() + " " + node))
	bytes := pool.Addr().As16()
	for bit := pool.Bits() + 128 - pool.Addr().BitLen(); bit < 128; bit++ {
		bytes[bit/8] |= hash[bit/8] & (0x80 >> (bit % 8))
	}
	return fromBytes(bytes, pool.Addr().Is4())
}
