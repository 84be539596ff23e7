// Package ipam is the arithmetic of address pools, the blocks that they are cut into, and the plan which node leases
// which block. It is pure: no client, no clock, and the same input gives the same plan.
package ipam

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"strings"
)

// Bounds of a block's prefix length, by family, and what a pool has that names none.
const (
	MinBlockBits4     = 20
	MaxBlockBits4     = 32
	DefaultBlockBits4 = 26
	MinBlockBits6     = 116
	MaxBlockBits6     = 128
	DefaultBlockBits6 = 122
)

// BlockBits is the prefix length of the blocks of a pool: size, or the default of its family if size is 0; never more
// addresses than the pool has. The error says what is wrong with size.
func BlockBits(pool netip.Prefix, size int) (int, error) {
	least, most, standard := MinBlockBits4, MaxBlockBits4, DefaultBlockBits4
	if pool.Addr().Is6() {
		least, most, standard = MinBlockBits6, MaxBlockBits6, DefaultBlockBits6
	}
	switch {
	case !pool.IsValid() || pool != pool.Masked() || pool.Addr().Is4In6():
		return 0, fmt.Errorf("pool %s is not a canonical IPv4 or IPv6 CIDR", pool)
	case size == 0:
		return max(standard, pool.Bits()), nil
	case size < least || size > most:
		return 0, fmt.Errorf("block size %d of pool %s is not between %d and %d", size, pool, least, most)
	case size < pool.Bits():
		return 0, fmt.Errorf("block size %d is larger than its pool %s: use %d or more", size, pool, max(pool.Bits(), least))
	}
	return size, nil
}

// BlockOf is the block that addr lies in, if the pool holds it.
func BlockOf(pool netip.Prefix, blockBits int, addr netip.Addr) (netip.Prefix, bool) {
	if !pool.Contains(addr) {
		return netip.Prefix{}, false
	}
	block, err := addr.Prefix(blockBits)
	return block, err == nil && blockBits >= pool.Bits()
}

// Blocks iterates over the blocks of a pool in order of address.
func Blocks(pool netip.Prefix, blockBits int) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		block, ok := BlockOf(pool, blockBits, pool.Addr())
		for ok && yield(block) {
			block, ok = BlockOf(pool, blockBits, Last(block).Next())
		}
	}
}

// BlockCount is the number of blocks in a pool, math.MaxUint64 if it is greater.
func BlockCount(pool netip.Prefix, blockBits int) uint64 {
	if blockBits < pool.Bits() {
		return 0
	}
	return power(blockBits - pool.Bits())
}

// Size is the number of addresses of a CIDR, math.MaxUint64 if it is greater.
func Size(cidr netip.Prefix) uint64 { return power(cidr.Addr().BitLen() - cidr.Bits()) }

func power(exponent int) uint64 {
	if exponent >= 64 {
		return math.MaxUint64
	}
	return 1 << exponent
}

// Last is the highest address of a CIDR.
func Last(cidr netip.Prefix) netip.Addr {
	bytes := cidr.Masked().Addr().As16()
	for bit := cidr.Bits() + 128 - cidr.Addr().BitLen(); bit < 128; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	return fromBytes(bytes, cidr.Addr().Is4())
}

// AddrAt is the address at an offset from the first of a CIDR. The offset must be less than Size.
func AddrAt(cidr netip.Prefix, offset uint64) netip.Addr {
	bytes := cidr.Masked().Addr().As16()
	low := binary.BigEndian.Uint64(bytes[8:])
	binary.BigEndian.PutUint64(bytes[8:], low+offset)
	if low+offset < low {
		binary.BigEndian.PutUint64(bytes[:8], binary.BigEndian.Uint64(bytes[:8])+1)
	}
	return fromBytes(bytes, cidr.Addr().Is4())
}

// Offset is the inverse of AddrAt for an address that the CIDR holds, which must have at most 2^64 addresses.
func Offset(cidr netip.Prefix, addr netip.Addr) uint64 {
	first, at := cidr.Masked().Addr().As16(), addr.As16()
	return binary.BigEndian.Uint64(at[8:]) - binary.BigEndian.Uint64(first[8:])
}

func fromBytes(bytes [16]byte, is4 bool) netip.Addr {
	if is4 {
		return netip.AddrFrom4([4]byte(bytes[12:]))
	}
	return netip.AddrFrom16(bytes)
}

// Name is the name of the object that stands for a block: "10-48-0-64-26". Two leases of one block would be one
// object, so the API server lets only one of them be created.
func Name(block netip.Prefix) string {
	text := block.Masked().String()
	if strings.HasPrefix(text, ":") {
		// A name may not begin with a hyphen.
		text = "0" + text
	}
	return strings.NewReplacer(".", "-", ":", "-", "/", "-").Replace(text)
}

// ParseName is the inverse of Name.
func ParseName(name string) (netip.Prefix, error) {
	cut := strings.LastIndexByte(name, '-')
	if cut < 0 {
		return netip.Prefix{}, fmt.Errorf("reading block name %q: there is no prefix length at its end", name)
	}
	address, length := name[:cut], name[cut+1:]
	separator := ":"
	if strings.Count(address, "-") == 3 && !strings.Contains(name, "--") {
		// With three single hyphens it cannot be IPv6, which has seven or leaves groups out by "--".
		separator = "."
	}
	block, err := netip.ParsePrefix(strings.ReplaceAll(address, "-", separator) + "/" + length)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("reading block name %q: %w", name, err)
	}
	if Name(block) != name {
		return netip.Prefix{}, fmt.Errorf("reading block name %q: it is not canonical, which is %q", name, Name(block))
	}
	return block, nil
}
