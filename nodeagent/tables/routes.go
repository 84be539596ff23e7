package tables

import (
	"net/netip"

	"github.com/manul-net/manul/nodeagent/delta"
)

// Routes are the desired routes, by destination.
type Routes = delta.Table[netip.Prefix, Route]

// NewRoutes makes an empty table of routes.
func NewRoutes() *Routes {
	return delta.NewTable[netip.Prefix](func(a, b Route) bool { return a == b })
}

// OwnMetricIPv6 is the metric of the agent's own routes for IPv6: the kernel's for those that are added without one (IP6_RT_PRIO_USER). For
// IPv4 it is 0.
const OwnMetricIPv6 = 1024

// RouteType tells where a route leads.
type RouteType uint8

// The types of routes.
const (
	// Workload: over a workload's interface, scope link.
	Workload RouteType = iota + 1
	// Gateway: to another node, through its address on a shared subnet.
	Gateway
	// Blackhole: nowhere. Keeps packets to unused addresses of a block from leaving the node.
	Blackhole
	// Encapsulated: to another node, through a tunnel's device.
	Encapsulated
)

// Route to one destination.
type Route struct {
	Type RouteType
	// Interface of a Workload or Encapsulated route. While no such interface exists, the route waits and is no failure.
	Interface string
	// NextHop of a Gateway route; of an Encapsulated one the address that stands for the other node's end, which need not be on
	// a network of the device.
	NextHop netip.Addr
}
