package tables

import "net/netip"

// RouteOrigin tells who made a route of the kernel's.
type RouteOrigin uint8

// The origins. FromOthers are routes of other programs, of administrators among them.
const (
	FromOthers RouteOrigin = iota
	FromNetwork
	FromAgent
	FromBGP
)

// KernelRoute is one way to a destination in the kernel's main table.
type KernelRoute struct {
	Destination netip.Prefix
	// Gateway is not valid when there is none.
	Gateway   netip.Addr
	Interface string
	Origin    RouteOrigin
	// Nowhere: packets to the destination are dropped.
	Nowhere bool
}

// BGPPath is a path to a destination that the speaker knows.
type BGPPath struct {
	Destination netip.Prefix
	NextHop     netip.Addr
	// Peer that it comes from. Not valid: the node itself.
	Peer netip.Addr
	// Best, alone or among others that are equally good.
	Best bool
}
