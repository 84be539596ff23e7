package render

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// tunnelWorld is a node that has been told of two others, one on its subnet and one on another.
func tunnelWorld(pools []v1alpha1.Pool, tunnels ...v1alpha1.Tunnel) *State {
	s := New(self)
	s.SetNetwork(self, &v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.1", "2001:db8:a::1"}, Subnets: []string{"192.0.2.0/24", "2001:db8:a::/64"}})
	s.SetNetwork("near", &v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.2", "2001:db8:a::2"}, Blocks: []string{"10.48.2.0/26", "10.49.2.0/26", "fd00:48::200/122"}})
	s.SetNetwork("far", &v1alpha1.NodeNetworkSpec{Addresses: []string{"198.51.100.3", "2001:db8:b::3"}, Blocks: []string{"10.48.3.0/26", "fd00:48::300/122"}})
	s.SetNodeState(&v1alpha1.NodeStateSpec{Pools: pools, Tunnels: tunnels})
	return s
}

// ways are the routes as "destination next hop interface", in order.
func ways(s *State) []string {
	var out []string
	for p, r := range s.Routes().All() {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", p, r.NextHop, r.Interface)))
	}
	slices.Sort(out)
	return out
}

// linkLocal is the next hop of a node inside the IPv6 tunnel.
func linkLocal(node string) string {
	return neighborOf(tables.VXLANv6, netip.MustParseAddr("2001:db8::1"), node).NextHop.String()
}

func TestWhichRoutesLeadThroughTunnels(t *testing.T) {
	pool := func(cidr string, kind v1alpha1.TunnelKind, cross bool) v1alpha1.Pool {
		return v1alpha1.Pool{CIDR: cidr, Encapsulation: kind, CrossSubnet: cross}
	}
	plain := []string{
		"10.48.2.0/26 192.0.2.2", "10.48.3.0/26 198.51.100.3", "10.49.2.0/26 192.0.2.2", "fd00:48::200/122 2001:db8:a::2", "fd00:48::300/122 2001:db8:b::3",
	}
	for _, test := range []struct {
		name  string
		pools []v1alpha1.Pool
		// ways that differ from those without tunnels.
		ways map[string]string
	}{
		{"no encapsulation", []v1alpha1.Pool{pool("10.48.0.0/16", "", false)}, nil},
		{
			"VXLAN always", []v1alpha1.Pool{pool("10.48.0.0/16", v1alpha1.TunnelVXLAN, false)},
			map[string]string{"10.48.2.0/26": "192.0.2.2 vxlan.manul", "10.48.3.0/26": "198.51.100.3 vxlan.manul"},
		},
		{
			"VXLAN between subnets", []v1alpha1.Pool{pool("10.48.0.0/16", v1alpha1.TunnelVXLAN, true)},
			map[string]string{"10.48.3.0/26": "198.51.100.3 vxlan.manul"},
		},
		{
			"IPIP for one pool, VXLAN for another", []v1alpha1.Pool{pool("10.48.0.0/16", v1alpha1.TunnelIPIP, true), pool("10.49.0.0/16", v1alpha1.TunnelVXLAN, false)},
			map[string]string{"10.48.3.0/26": "198.51.100.3 ipip.manul", "10.49.2.0/26": "192.0.2.2 vxlan.manul"},
		},
		{
			"the smallest pool counts", []v1alpha1.Pool{pool("10.48.0.0/14", v1alpha1.TunnelVXLAN, false), pool("10.48.0.0/16", "", false)},
			map[string]string{"10.49.2.0/26": "192.0.2.2 vxlan.manul"},
		},
		{
			"VXLAN for IPv6", []v1alpha1.Pool{pool("fd00:48::/64", v1alpha1.TunnelVXLANv6, true)},
			map[string]string{"fd00:48::300/122": linkLocal("far") + " vxlan-v6.manul"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := slices.Clone(plain)
			for i, line := range want {
				destination, _, _ := strings.Cut(line, " ")
				if way, ok := test.ways[destination]; ok {
					want[i] = destination + " " + way
				}
			}
			s := tunnelWorld(test.pools)
			if diff := cmp.Diff(want, ways(s)); diff != "" {
				t.Errorf("routes (-want +got):\n%s", diff)
			}
			if len(s.Problems()) > 0 {
				t.Errorf("problems: %v", s.Problems())
			}
			// And back again.
			s.SetNodeState(&v1alpha1.NodeStateSpec{})
			if diff := cmp.Diff(plain, ways(s)); diff != "" {
				t.Errorf("routes without tunnels (-want +got):\n%s", diff)
			}
		})
	}
}

// A node whose subnet is not known is on none with any other.
func TestSubnetsDecideOnCrossSubnet(t *testing.T) {
	s := tunnelWorld([]v1alpha1.Pool{{CIDR: "10.48.0.0/16", Encapsulation: v1alpha1.TunnelVXLAN, CrossSubnet: true}})
	near := func(want string) {
		t.Helper()
		if got, _ := s.Routes().Get(netip.MustParsePrefix("10.48.2.0/26")); got.Interface != want {
			t.Errorf("the route to the node on the same subnet leads over %q, want %q", got.Interface, want)
		}
	}
	near("")
	s.SetNetwork(self, &v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.1"}})
	near("vxlan.manul")
	s.SetNetwork(self, &v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.1"}, Subnets: []string{"192.0.2.0/31"}})
	near("vxlan.manul")
	s.SetNetwork(self, &v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.1"}, Subnets: []string{"192.0.2.0/30"}})
	near("")
}

func TestEndsOfTunnels(t *testing.T) {
	s := tunnelWorld(nil, v1alpha1.Tunnel{Kind: v1alpha1.TunnelIPIP, MTU: 1400}, v1alpha1.Tunnel{Kind: v1alpha1.TunnelVXLAN}, v1alpha1.Tunnel{Kind: v1alpha1.TunnelVXLANv6, VNI: 7, Port: 8472})
	s.SetTunnelAddress(tables.VXLAN, netip.MustParseAddr("10.48.1.0"))
	mac := tunnelMAC(self)
	want := map[tables.TunnelKind]tables.Tunnel{
		tables.IPIP:    {Local: netip.MustParseAddr("192.0.2.1"), MTU: 1400},
		tables.VXLAN:   {Local: netip.MustParseAddr("192.0.2.1"), Address: netip.MustParseAddr("10.48.1.0"), MAC: mac, VNI: 4096, Port: 4789},
		tables.VXLANv6: {Local: netip.MustParseAddr("2001:db8:a::1"), MAC: mac, VNI: 7, Port: 8472},
	}
	equal := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(want, maps.Collect(s.Tunnels().Devices.All()), equal); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	if s.Tunnels().Peers.Len() != 4 {
		t.Errorf("peers: %v, want two nodes in each of two families", maps.Collect(s.Tunnels().Peers.All()))
	}
	s.DeleteNetwork("far")
	if s.Tunnels().Peers.Len() != 2 {
		t.Errorf("peers without node far: %v", maps.Collect(s.Tunnels().Peers.All()))
	}
	s.SetNetwork(self, &v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.1"}})
	if _, ok := s.Tunnels().Devices.Get(tables.VXLANv6); ok || s.Tunnels().Devices.Len() != 2 {
		t.Error("a node without an IPv6 address has an end of an IPv6 tunnel")
	}
	s.SetNodeState(&v1alpha1.NodeStateSpec{})
	if s.Tunnels().Devices.Len()+s.Tunnels().Peers.Len() > 0 {
		t.Errorf("left: %v, %v", maps.Collect(s.Tunnels().Devices.All()), maps.Collect(s.Tunnels().Peers.All()))
	}
}

// One node takes another's address while the other is still known: the first by name counts, and the second when the first is gone.
func TestNodeThatTakesAnothersPlace(t *testing.T) {
	s := tunnelWorld([]v1alpha1.Pool{{CIDR: "fd00:48::/64", Encapsulation: v1alpha1.TunnelVXLANv6}}, v1alpha1.Tunnel{Kind: v1alpha1.TunnelVXLANv6})
	s.SetNetwork("later", &v1alpha1.NodeNetworkSpec{Addresses: []string{"2001:db8:b::3"}, Blocks: []string{"fd00:48::400/122"}})
	hop := func() string {
		r, _ := s.Routes().Get(netip.MustParsePrefix("fd00:48::400/122"))
		return r.NextHop.String()
	}
	if got := hop(); got != linkLocal("far") {
		t.Errorf("next hop %s while both are known, want that of the first by name", got)
	}
	s.DeleteNetwork("far")
	if got := hop(); got != linkLocal("later") {
		t.Errorf("next hop %s when the other is gone, want that of the one that is left", got)
	}
	peer, _ := s.Tunnels().Peers.Get(tables.TunnelPeer{Kind: tables.VXLANv6, Node: netip.MustParseAddr("2001:db8:b::3")})
	if peer.NextHop.String() != linkLocal("later") {
		t.Errorf("the neighbour is %v", peer)
	}
}

func TestTunnelsThatCantBeReadAreToldOf(t *testing.T) {
	for _, spec := range []v1alpha1.NodeStateSpec{
		{Tunnels: []v1alpha1.Tunnel{{Kind: "GRE"}}},
		{Tunnels: []v1alpha1.Tunnel{{Kind: v1alpha1.TunnelVXLAN, Port: 70000}}},
		{Tunnels: []v1alpha1.Tunnel{{Kind: v1alpha1.TunnelVXLAN, VNI: 1 << 24}}},
		{Pools: []v1alpha1.Pool{{CIDR: "fd00::/64", Encapsulation: v1alpha1.TunnelIPIP}}},
	} {
		s := New(self)
		s.SetNodeState(&spec)
		if s.Problems()[Item{KindNodeState, self}] == "" {
			t.Errorf("%+v: no problem", spec)
		}
	}
}

func TestMACAddressesOfNodes(t *testing.T) {
	mac := tunnelMAC("worker1")
	// printf worker1 | sha256sum | cut -c1-12 gives the bytes; the first is made that of a locally administered address of one host.
	if got := net.HardwareAddr(mac[:]).String(); mac[0]&3 != 2 || mac == tunnelMAC("worker2") {
		t.Errorf("MAC address %s", got)
	}
}
