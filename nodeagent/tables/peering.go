package tables

import (
	"net/netip"
	"slices"
)

// PeeringAddresses are addresses of the node at which its pods open BGP sessions with it, beside those that it has in its networks.
type PeeringAddresses struct {
	// Addresses in order and without repetition.
	Addresses []netip.Addr
	dirty     bool
}

// Set changes what is desired.
func (p *PeeringAddresses) Set(addresses []netip.Addr) {
	addresses = slices.Compact(slices.SortedFunc(slices.Values(addresses), netip.Addr.Compare))
	if !slices.Equal(p.Addresses, addresses) {
		p.Addresses, p.dirty = addresses, true
	}
}

// HasDirty tells whether anything changed since the last Clean.
func (p *PeeringAddresses) HasDirty() bool { return p.dirty }

// Clean forgets what changed.
func (p *PeeringAddresses) Clean() { p.dirty = false }
