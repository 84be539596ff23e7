package tables

import "fmt"

// ItemError tells that one item of the tables is not in force while all others are.
type ItemError struct {
	// Kind of the item: one of the kinds below.
	Kind string
	// Name of the item: a program's name, a set's ID, an endpoint's interface (also of limits), a pool's or a route's CIDR, a kind of
	// tunnel, a dataplane.
	Name string
	Err  error
}

// The kinds of items.
const (
	KindEndpoint     = "Endpoint"
	KindHostEndpoint = "HostEndpoint"
	KindProgram      = "PolicyProgram"
	KindSet          = "Set"
	KindPool         = "Pool"
	KindRoute        = "Route"
	KindTunnel       = "Tunnel"
	KindDataplane    = "Dataplane"
	KindBandwidth    = "Bandwidth"
	KindPacketLimits = "PacketLimits"
	KindBGPSession   = "BGPSession"
	KindLearnedRoute = "LearnedRoute"
	// KindPeeringAddress: an address at which pods open BGP sessions with the node.
	KindPeeringAddress = "PeeringAddress"
	// KindServiceRanges: the ranges of services in which packets could bounce, by family.
	KindServiceRanges = "ServiceRanges"
)

// Error says which item and why.
func (e *ItemError) Error() string { return fmt.Sprintf("%s %q: %v", e.Kind, e.Name, e.Err) }

// Unwrap returns the reason.
func (e *ItemError) Unwrap() error { return e.Err }
