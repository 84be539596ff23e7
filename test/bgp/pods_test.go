package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/test/netns"
)

// podLink joins a pod to its node as the CNI plugin does.
func podLink(t *testing.T, pod, node *netns.NS, id string, addresses ...string) {
	t.Helper()
	name := render.InterfaceName(id)
	pod.Sysctl("ipv6/conf/default/accept_dad", "0")
	node.Sysctl("ipv6/conf/default/accept_dad", "0")
	pod.Veth("eth0", node, name)
	pod.Address("eth0", addresses...)
	pod.Up("lo")
	pod.Up("eth0")
	node.Up(name)
	pod.Neighbor("eth0", "169.254.1.1", node.Link(name).Attrs().HardwareAddr) // the plugin has the node answer for it
	link := pod.Link("eth0")
	for gateway, destination := range map[string]string{"169.254.1.1": "0.0.0.0/0", node.LinkLocal(name).String(): "::/0"} {
		addr := netip.MustParseAddr(gateway)
		dst, err := netlink.ParseIPNet(destination)
		if err != nil {
			t.Fatal(err)
		}
		route := &netlink.Route{Dst: dst, Gw: addr.AsSlice(), LinkIndex: link.Attrs().Index, Flags: int(netlink.FLAG_ONLINK)}
		if err := pod.RouteAdd(route); err != nil {
			t.Fatal(err)
		}
	}
}

// A pod peers with its node at an address that the node has for that alone, by IPv4 or IPv6: the node learns what is behind the
// pod, and the pod what the node advertises. When no BGPPeer selects the pod any more, session and routes go,
// and the address with the setting.
func TestPodsPeer(t *testing.T) { withEach(t, podsPeer) }

func podsPeer(t *testing.T, kind Kind) {
	t.Helper()
	for _, tc := range []struct{ name, pod, node, behind string }{
		{"IPv4", "10.48.1.7", "169.254.7.9", "203.0.113.0/24"},
		{"IPv6", "fd00:48:1::7", "fd00::179", "2001:db8:f::/48"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const id = "shop/router"
			pod, ns := netns.New(t), netns.New(t)
			ns.Up("lo")
			suffix, block, pool := "/32", block4, pool4
			if tc.name == "IPv6" {
				suffix, block, pool = "/128", "fd00:48:1::/122", "fd00:48::/32"
			}
			podLink(t, pod, ns, id, tc.pod+suffix)
			ns.Sysctl("ipv4/ip_forward", "1")
			ns.Sysctl("ipv6/conf/all/forwarding", "1")
			n := NewNode(t, ns, "node1")
			b := speaker("192.0.2.1")
			b.ListenAddresses = []string{"127.0.0.1"} // as with bindMode NodeIP: the addresses for pods are listened at all the same
			if tc.name == "IPv4" {
				b.WorkloadIPv4 = tc.node
			} else {
				b.WorkloadIPv6 = tc.node
			}
			b.Sessions = []v1alpha1.BGPSession{{Name: "pods/" + id, Endpoint: id, Passive: true, ASNumber: 65200}}
			n.Input.State = v1alpha1.NodeStateSpec{
				Blocks: []v1alpha1.BlockLease{{CIDR: block, Pool: pool}}, Pools: []v1alpha1.Pool{{CIDR: pool}}, BGP: b,
			}
			n.Input.Pods = map[string][]string{id: {tc.pod}}
			n.Tell()
			if kind == FRR {
				pod.Route(tc.node+suffix, gatewayOf(tc.name, ns, id), "eth0")
			}
			way := fmt.Sprintf("%s; route %s%s via %s%%eth0 onlink;", strings.ToLower(tc.name), tc.node, suffix, gatewayOf(tc.name, ns, id))
			(&Setup{ID: "10.48.1.7", Ways: way, Peerings: []Peering{{Router: tc.pod, Node: tc.node, RouterAS: 65200, NodeAS: nodes, Far: true}}, Offers: offers(tc.behind)}).Start(t, pod, kind)
			n.Established("pods/" + id)
			since := n.Session("pods/" + id).Since
			WantRoutes(t, ns, tc.behind, tc.behind+" via "+tc.pod)
			hasBlock := func() bool {
				return slices.Contains(Routes(pod, block), block+" via "+gatewayOf(tc.name, ns, id))
			}
			Eventually(t, func() string {
				if !hasBlock() {
					return fmt.Sprintf("the pod has no route to the block: %q", Routes(pod, block))
				}
				return ""
			})
			// Another pod that is selected, and is not there yet, does not disturb this one.
			n.Input.State.BGP.Sessions = append(n.Input.State.BGP.Sessions, v1alpha1.BGPSession{Name: "pods/shop/second", Endpoint: "shop/second", Passive: true, ASNumber: 65200})
			n.Tell()
			Eventually(t, func() string {
				if s := n.Session("pods/shop/second"); s.Reason != "Waiting" {
					return fmt.Sprintf("the second pod's session: %+v", s)
				}
				return ""
			})
			if s := n.Session("pods/" + id); !s.Since.Equal(&since) {
				t.Errorf("the session stands since %v, and did since %v", s.Since, since)
			}
			n.Input.State.BGP.Sessions = nil
			n.Tell()
			WantRoutes(t, ns, tc.behind)
			Eventually(t, func() string {
				if hasBlock() {
					return "the pod still has a route to the block"
				}
				return ""
			})
			n.Input.State.BGP.WorkloadIPv4, n.Input.State.BGP.WorkloadIPv6 = "", ""
			n.Tell()
			Eventually(t, func() string {
				list, err := ns.AddrList(ns.Link("lo"), netlink.FAMILY_ALL)
				if err != nil {
					return err.Error()
				}
				for i := range list {
					if list[i].IP.String() == tc.node {
						return "the node still has " + tc.node
					}
				}
				return ""
			})
		})
	}
}

func gatewayOf(family string, node *netns.NS, id string) string {
	if family == "IPv4" {
		return "169.254.1.1"
	}
	return node.LinkLocal(render.InterfaceName(id)).String()
}
