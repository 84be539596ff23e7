package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"time"

	"github.com/manul-net/manul/internal/ipam"
)

// maxBlockSize is the greatest number of addresses in a block: that of a /20 or /116.
const maxBlockSize = 4096

// Block is a block that the node has leased. All its addresses are usable, the first and the last too.
type Block struct {
	// CIDR of the block, and of the pool that it was cut from, canonical.
	CIDR, Pool netip.Prefix
	// Reserved addresses are given out only if asked for by name.
	Reserved []netip.Prefix
	// Borrowed: a single address of another node's block. It is given out when the node's own blocks have none.
	Borrowed bool
	// Withdrawn: nothing more is given out.
	Withdrawn bool
	// Lent addresses are other nodes' to give out.
	Lent []netip.Addr
	// Revision of the lease: of two that differ the higher counts, whichever comes last.
	Revision int64
	// TunnelsOnly: only the node's ends of tunnels get addresses, but for pods that ask for one by name.
	TunnelsOnly bool
}

// BlockUse tells how full a block is. The parts sum up to Size.
type BlockUse struct {
	CIDR netip.Prefix
	// Pool that the block was cut from.
	Pool netip.Prefix
	Size int
	// InUse addresses; Cooling: free, but not long enough yet; Reserved: free, but kept back; Lent: free here, and other nodes' to
	// give out; Free: to be had.
	InUse, Cooling, Reserved, Lent, Free int
}

// States of an address in a block; a free address that was in use has the time at which it was freed.
const (
	neverUsed int64 = 0
	inUse     int64 = -1
)

// block is a leased block and the state of each of its addresses, by offset.
type block struct {
	Block
	state []int64
}

func (b *block) setState(addr netip.Addr, state int64) { b.state[b.offset(addr)] = state }

func (b *block) offset(addr netip.Addr) int { return int(ipam.Offset(b.CIDR, addr)) }

// at is the address at an offset from the block's first.
func (b *block) at(offset int) netip.Addr {
	return ipam.AddrAt(b.CIDR, uint64(offset))
}

func (b *block) reserved(addr netip.Addr) bool {
	return slices.ContainsFunc(b.Reserved, func(r netip.Prefix) bool { return r.Contains(addr) })
}

func (b *block) lends(addr netip.Addr) bool { return slices.Contains(b.Lent, addr) }

func (b *block) use(now, cooldown int64) BlockUse {
	use := BlockUse{CIDR: b.CIDR, Pool: b.Pool, Size: len(b.state)}
	for offset, state := range b.state {
		switch {
		case state == inUse:
			use.InUse++
		case b.lends(b.at(offset)):
			use.Lent++
		case b.reserved(b.at(offset)):
			use.Reserved++
		case state != neverUsed && now-state < cooldown:
			use.Cooling++
		default:
			use.Free++
		}
	}
	return use
}

// SetBlocks gives all the blocks that the node has leased, and the addresses that it borrowed. Addresses in use stay in use
// though their block be withdrawn. What is withdrawn or lent is given to nobody from the return on, nor after a restart.
func (a *Allocator) SetBlocks(blocks []Block) error {
	next, err := newBlocks(blocks)
	if err != nil {
		return fmt.Errorf("taking over address blocks: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.commit(change{stances: a.agree(next)}); err != nil {
		return fmt.Errorf("taking over address blocks: %w", err)
	}
	same := slices.EqualFunc(a.blocks, next, func(a, b *block) bool {
		return a.CIDR == b.CIDR && a.Pool == b.Pool && a.TunnelsOnly == b.TunnelsOnly && a.Borrowed == b.Borrowed &&
			slices.Equal(a.Reserved, b.Reserved) && a.stance().equal(b.stance())
	})
	if !same {
		a.fillBlocks(next)
	}

	// Nobody asks any more when an address outside all blocks was freed, once its cooldown is over.
	now, forget := a.now(), change{freed: map[netip.Addr]int64{}}
	for addr, at := range a.orphans {
		if now-at >= int64(a.cooldown) {
			forget.freed[addr] = neverUsed
		}
	}
	if err := a.commit(forget); err != nil {
		return fmt.Errorf("forgetting the addresses of withdrawn blocks: %w", err)
	}
	return nil
}

// SetCooldown sets how long an address stays unused after it was in use.
func (a *Allocator) SetCooldown(cooldown time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cooldown = max(cooldown, 0)
}

// Blocks tells how full the blocks are, in order of CIDR.
func (a *Allocator) Blocks() []BlockUse {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.uses(a.blocks)
}

func (a *Allocator) uses(blocks []*block) []BlockUse {
	now, uses := a.now(), make([]BlockUse, 0, len(blocks))
	for _, b := range blocks {
		uses = append(uses, b.use(now, int64(a.cooldown)))
	}
	return uses
}

func newBlocks(blocks []Block) ([]*block, error) {
	next := make([]*block, 0, len(blocks))
	for _, b := range blocks {
		switch {
		case !b.CIDR.IsValid() || b.CIDR != b.CIDR.Masked() || b.CIDR.Addr().Is4In6():
			return nil, fmt.Errorf("block %s is not a canonical CIDR", b.CIDR)
		case ipam.Size(b.CIDR) > maxBlockSize:
			return nil, fmt.Errorf("block %s has more than %d addresses", b.CIDR, maxBlockSize)
		case !b.Pool.Contains(b.CIDR.Addr()) || b.Pool.Bits() > b.CIDR.Bits():
			return nil, fmt.Errorf("block %s does not lie in its pool %s", b.CIDR, b.Pool)
		}
		if b.Borrowed && !b.CIDR.IsSingleIP() {
			return nil, fmt.Errorf("borrowed block %s is not a single address", b.CIDR)
		}
		b.Reserved = slices.Clone(b.Reserved)
		b.Lent = slices.SortedFunc(slices.Values(b.Lent), netip.Addr.Compare)
		if i := slices.IndexFunc(b.Lent, func(addr netip.Addr) bool { return !b.CIDR.Contains(addr) }); i >= 0 {
			return nil, fmt.Errorf("lent address %s does not lie in block %s", b.Lent[i], b.CIDR)
		}
		next = append(next, &block{Block: b, state: make([]int64, ipam.Size(b.CIDR))})
	}
	slices.SortFunc(next, func(a, b *block) int { return a.CIDR.Compare(b.CIDR) })
	for i := 1; i < len(next); i++ {
		if next[i-1].CIDR.Overlaps(next[i].CIDR) {
			return nil, fmt.Errorf("blocks %s and %s overlap", next[i-1].CIDR, next[i].CIDR)
		}
	}
	return next, nil
}

// fillBlocks makes blocks the leased ones and brings what is known of addresses into them.
func (a *Allocator) fillBlocks(blocks []*block) {
	freed := a.orphans
	for _, b := range a.blocks {
		for offset, state := range b.state {
			if state > neverUsed {
				freed[b.at(offset)] = state
			}
		}
	}
	a.blocks, a.orphans = blocks, map[netip.Addr]int64{}
	for addr, at := range freed {
		if !a.setState(addr, at) {
			a.orphans[addr] = at
		}
	}
	for addr := range a.used {
		a.setState(addr, inUse)
	}
}

// blockOf finds the block of an address, nil if no leased block holds it.
func (a *Allocator) blockOf(addr netip.Addr) *block {
	i := sort.Search(len(a.blocks), func(i int) bool { return a.blocks[i].CIDR.Addr().Compare(addr) > 0 })
	if i == 0 || !a.blocks[i-1].CIDR.Contains(addr) {
		return nil
	}
	return a.blocks[i-1]
}
