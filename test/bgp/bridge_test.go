package bgp

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/dataplane/routes"
	"github.com/manul-net/manul/test/netns"
)

// BGP comes to be in charge of the routes between nodes, while its sessions have yet to come about, and the agents are in charge again: no
// packet is lost. Then the routes are BGP's: they go with the sessions.
func TestChangeOfWhoRoutesLosesNoPacket(t *testing.T) {
	const pool6 = "fd00:48::/32"
	pods, pods6 := [2]string{"10.48.1.9", "10.48.2.9"}, [2]string{"fd00:48:1::9", "fd00:48:2::9"}
	ns := Bridged(t, []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
	networks := map[string]v1alpha1.NodeNetworkSpec{}
	blocks := func(i int) []string {
		return []string{fmt.Sprintf("10.48.%d.0/26", i+1), fmt.Sprintf("fd00:48:%d::/122", i+1)}
	}
	for i := range ns {
		networks[fmt.Sprintf("n%d", i+1)] = v1alpha1.NodeNetworkSpec{
			Addresses: []string{fmt.Sprintf("192.0.2.%d", i+1), fmt.Sprintf("2001:db8::%d", i+1)}, Subnets: []string{"192.0.2.0/24", "2001:db8::/64"},
			Blocks: blocks(i), BGP: &v1alpha1.MeshMember{ASNumber: nodes, Port: 179},
		}
	}
	var all []*Node
	for i := range ns {
		ns[i].Up("lo")
		ns[i].Address("lo", pods[i]+"/32", pods6[i]+"/128")
		n := NewNode(t, ns[i], fmt.Sprintf("n%d", i+1))
		n.Input.Networks = networks
		all = append(all, n)
	}
	tell := func(byBGP bool) {
		for i, n := range all {
			n.Input.State = v1alpha1.NodeStateSpec{
				Pools:  []v1alpha1.Pool{{CIDR: pool4, RoutesByBGP: byBGP}, {CIDR: pool6, RoutesByBGP: byBGP}},
				Blocks: []v1alpha1.BlockLease{{CIDR: blocks(i)[0], Pool: pool4}, {CIDR: blocks(i)[1], Pool: pool6}},
			}
			if byBGP {
				n.Input.State.BGP = speaker(fmt.Sprintf("192.0.2.%d", i+1), fmt.Sprintf("2001:db8::%d", i+1))
				n.Input.State.BGP.Mesh = &v1alpha1.BGPMesh{}
			}
			n.Tell()
		}
	}
	whose := func(protocol int) {
		t.Helper()
		for i := range ns {
			other := blocks(1 - i)
			Eventually(t, func() string { return routedBy(ns[i], protocol, other) })
		}
	}
	tell(false)
	whose(routes.DefaultProtocol)
	four, six := newStream(t, ns[0], pods[1], ns[1]), newStream(t, ns[1], pods6[0], ns[0])
	four.flows(100)
	six.flows(100)
	for range 2 {
		tell(true)
		whose(routes.DefaultLearnedProtocol)
		four.flows(100)
		six.flows(100)
		tell(false)
		whose(routes.DefaultProtocol)
		four.flows(100)
		six.flows(100)
	}
	tell(true)
	whose(routes.DefaultLearnedProtocol)
	for name, s := range map[string]*stream{"IPv4": four, "IPv6": six} {
		if sent, lost := s.end(); lost != 0 {
			t.Errorf("%s: of %d packets %d were lost", name, sent, lost)
		} else {
			t.Logf("%s: %d packets, none lost", name, sent)
		}
	}
	for i, n := range all {
		for _, f := range n.Status().Failures {
			t.Errorf("node %d: %+v", i+1, f)
		}
	}
	all[1].Input.State.BGP.Mesh = nil
	all[1].Tell()
	WantRoutes(t, ns[0], strings.Join(blocks(1), " "))
}

// routedBy tells whether the routes to destinations, one each, bear a protocol.
func routedBy(ns *netns.NS, protocol int, destinations []string) string {
	seen := map[string]bool{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := ns.RouteList(nil, family)
		if err != nil {
			return err.Error()
		}
		for i := range list {
			for _, d := range destinations {
				if list[i].Dst == nil || list[i].Dst.String() != d {
					continue
				}
				seen[d] = true
				if int(list[i].Protocol) != protocol {
					return "there is " + list[i].String()
				}
			}
		}
	}
	if len(seen) != len(destinations) {
		return "routes of " + strings.Join(destinations, ", ") + " are missing"
	}
	return ""
}
