package daemon

import (
	"fmt"

	"github.com/manul-net/manul/cni/conflist"
	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/addresses"
	"github.com/manul-net/manul/nodeagent/agent"
	"github.com/manul-net/manul/nodeagent/ipam"
)

var (
	_ agent.Addresses = addresses.Given{}
	_ agent.Addresses = addresses.None{}
)

// OpenAddresses opens the journal of a node's addresses, or makes it.
func OpenAddresses(path string) (addresses.Given, error) {
	return addresses.Open(path, ipam.Options{})
}

// addressing is what the network configuration says of addresses: the pools that pods take them from, or that an IPAM plugin gives them.
func (o *options) addressing() (pools *protocol.Pools, external bool, err error) {
	ipam, err := conflist.ParseIPAM([]byte(o.ipam))
	if err != nil {
		return nil, false, fmt.Errorf("--ipam: %w", err)
	}
	pools = &protocol.Pools{IPv4: ipam.IPv4Pools, IPv6: ipam.IPv6Pools, NoIPv4: ipam.NoIPv4, NoIPv6: ipam.NoIPv6}
	if pools.Silent() {
		pools = nil
	}
	return pools, ipam.External(), nil
}
