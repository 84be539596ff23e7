package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/tables"
)

// nodeMTU is the MTU of the interface that bears one of the node's addresses; where that is not known, the least MTU of
// the interfaces that may lead to other nodes. With a pattern, it is the least of those whose names match it, if there are any.
func nodeMTU(own []netip.Addr, pattern string) (int, error) {
	matching, err := regexp.Compile(pattern)
	if err != nil {
		return 0, fmt.Errorf("reading mtuIfacePattern: %w", err)
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return 0, fmt.Errorf("listing interfaces: %w", err)
	}
	interfaces = slices.DeleteFunc(interfaces, func(i net.Interface) bool {
		return i.Flags&net.FlagLoopback != 0 || strings.HasPrefix(i.Name, protocol.InterfacePrefix) || isTunnel(i.Name)
	})
	least := 0
	for _, i := range interfaces {
		if pattern != "" && matching.MatchString(i.Name) && (least == 0 || i.MTU < least) {
			least = i.MTU
		}
	}
	if least > 0 {
		return least, nil
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
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

// isTunnel tells whether an interface is the node's end of a tunnel.
func isTunnel(name string) bool {
	return slices.ContainsFunc(tables.TunnelKinds(), func(k tables.TunnelKind) bool { return k.Device() == name })
}
