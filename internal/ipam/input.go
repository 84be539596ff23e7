package ipam

import (
	"net/netip"

	"github.com/manul-net/manul/internal/selector"
)

// DefaultMaxBlocks is how many blocks of a family a node may lease when nothing else is configured.
const DefaultMaxBlocks = 20

// Input is all that a plan follows from. The order of its lists does not matter.
type Input struct {
	Pools []Pool
	Nodes []Node
	// Leases that exist.
	Leases []Lease
	// Withdrawn are those of the leases whose block is on its way back.
	Withdrawn map[netip.Prefix]bool
	// Loans of single addresses, by block.
	Loans map[netip.Prefix][]Loan
	// Kept are nodes that are gone while their pods are still there: what they have stays theirs.
	Kept map[string]bool
	// Reserved CIDRs are not given out by themselves and count as no capacity.
	Reserved []netip.Prefix
	// MaxBlocks that a node may lease of each family; 0: DefaultMaxBlocks.
	MaxBlocks int
	// Frozen: no block is leased to anybody.
	Frozen bool
	// Strict: no single addresses are handed over.
	Strict bool
}

// Pool is an address pool. Pools must not overlap.
type Pool struct {
	// CIDR, canonical.
	CIDR netip.Prefix
	// BlockBits is the prefix length of the pool's blocks, as BlockBits gives it.
	BlockBits int
	// Disabled: no new leases.
	Disabled bool
	// Manual: only for endpoints that ask for the pool.
	Manual bool
	// Namespaced: only for endpoints of some namespaces, so that a node leases it when an endpoint asks.
	Namespaced bool
	// TunnelsOnly: only for the nodes' ends of tunnels, of which one block holds enough.
	TunnelsOnly bool
	// Nodes that may use the pool. Nil: all.
	Nodes *selector.Selector
}

// Node is a node and how many addresses its endpoints need.
type Node struct {
	Name   string
	Labels map[string]string
	// Endpoints4 and Endpoints6 are the numbers of endpoints that need an address of the family from whatever pool, and have
	// none yet.
	Endpoints4, Endpoints6 int
	// Asked are the endpoints that get their address from certain pools only; they are not in Endpoints4 or Endpoints6.
	Asked []Ask
	// Fixed are addresses that endpoints ask for by name, whether they have them or not: the node is to have the blocks in which
	// they lie, or the addresses.
	Fixed []netip.Addr
	// Used are the addresses that the node has given to pods, as far as it has said so.
	Used []netip.Addr
	// Reports: the node can be reached, and Used is its word. Nothing is taken from a node that does not answer.
	Reports bool
}

// Ask is a number of endpoints that can take an address from any of some pools, whatever the pools' node selectors say.
type Ask struct {
	// Pools are CIDRs of one family.
	Pools []netip.Prefix
	// Endpoints that have no address yet; 0 keeps the pools in the node's reach.
	Endpoints int
}

// Lease says that a node may give out the addresses of a block.
type Lease struct {
	// Block and Pool are CIDRs, canonical.
	Block, Pool netip.Prefix
	Node        string
}

// mayServe tells whether a node may lease blocks of the pool without being asked.
func (p Pool) mayServe(n Node) bool {
	return !p.Manual && !p.Namespaced && !p.TunnelsOnly && p.admits(n)
}

// servesTunnels tells whether the node's ends of tunnels may get addresses from the pool, and pods may not.
func (p Pool) servesTunnels(n Node) bool { return p.TunnelsOnly && p.admits(n) }

func (p Pool) admits(n Node) bool {
	return !p.Disabled && (p.Nodes == nil || p.Nodes.Match(selector.Map(n.Labels)))
}
