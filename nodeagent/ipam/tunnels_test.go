package ipam

import "testing"

// A block for tunnels gives pods nothing, and what an end of a tunnel holds no pod gets.
func TestBlocksForTunnels(t *testing.T) {
	ends := Block{CIDR: prefix("10.49.0.0/31"), Pool: prefix("10.49.0.0/24"), TunnelsOnly: true}
	h := newHarness(t, 0, small(), ends)
	tunnel := Owner{Endpoint: "tunnel:VXLAN", UID: "tunnel:VXLAN"}
	h.expect(tunnel, Request{Pools: prefixes("10.49.0.0/24"), Tunnel: true}, "10.49.0.0")
	shared := Owner{Endpoint: "tunnel:IPIP", UID: "tunnel:IPIP"}
	h.expect(shared, Request{Pools: prefixes("10.48.0.0/16"), Tunnel: true}, "10.48.0.64")
	for i, want := range []string{"10.48.0.65", "10.48.0.66", "10.48.0.67"} {
		h.expect(pod(string(rune('a'+i))), Request{}, want)
	}
	h.refuse(pod("e"), Request{}, "allocating addresses for ns/e: no free address in 10.48.0.64/30 (4 of 4 in use)")
	h.refuse(pod("e"), Request{Pools: prefixes("10.49.0.0/24")}, "allocating addresses for ns/e: no address block of pool 10.49.0.0/24 has been leased to this node yet")
	h.refuse(pod("e"), Request{Fixed: addrs("10.49.0.0")}, "allocating addresses for ns/e: address 10.49.0.0 is in use by tunnel:VXLAN: ask for another in cni.projectcalico.org/ipAddrs, or delete that pod")
	h.reopen(small(), ends)
	h.expect(tunnel, Request{Tunnel: true}, "10.49.0.0")
}
