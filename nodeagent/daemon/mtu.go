package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/manul-net/manul/cni/protocol"
)

// nodeMTU is the MTU of the interface that bears one of the node's addresses; where that is not known, the least MTU of
// the interfaces that may lead to other nodes.
func nodeMTU(own []netip.Addr) (int, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return 0, fmt.Errorf("listing interfaces: %w", err)
	}
	least := 0
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 || i.Flags&net.FlagUp == 0 || strings.HasPrefix(i.Name, protocol.InterfacePrefix) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return 0, fmt.Errorf("listing addresses of %s: %w", i.Name, err)
		}
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			addr := prefix.Addr().Unmap()
			if slices.Contains(own, addr) {
				return i.MTU, nil
			}
			if addr.IsGlobalUnicast() && (least == 0 || i.MTU < least) {
				least = i.MTU
			}
		}
	}
	if least == 0 {
		return 0, fmt.Errorf("no interface has one of the node's addresses %v, nor any address to reach other nodes with", own)
	}
	return least, nil
}
