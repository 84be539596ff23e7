package bgp

import (
	"fmt"
	"testing"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/netns"
)

// What a BGPPeer says of its sessions, against a router that insists on it.
func TestSettingsOfSessions(t *testing.T) {
	const own, second, router = "192.0.2.1", "192.0.2.2", "192.0.2.100"
	looped := "protocol static looped { ipv4 { import filter { bgp_path.prepend(64512); accept; }; }; route 203.0.113.0/24 blackhole; }\n"
	for _, tc := range []struct {
		name, router string
		set          func(*v1alpha1.BGPSession)
		// learned is whether the route arrives that has the node's own AS number in its path.
		learned bool
	}{
		{"none", birdPeer("node", router, own, rack, nodes, "", ""), func(*v1alpha1.BGPSession) {}, false},
		{"ttlSecurity", birdPeer("node", router, own, rack, nodes, "ttl security yes;", ""), func(s *v1alpha1.BGPSession) { s.TTLSecurity = 1 }, false},
		{"sourceAddress", birdPeer("node", router, second, rack, nodes, "", ""), func(s *v1alpha1.BGPSession) { s.SourceAddress = second }, false},
		{"localASNumber", birdPeer("node", router, own, rack, 65100, "", ""), func(s *v1alpha1.BGPSession) { s.LocalASNumber = 65100 }, false},
		{"numAllowedLocalASNumbers", birdPeer("node", router, own, rack, nodes, "", ""), func(s *v1alpha1.BGPSession) { s.AllowOwnAS = 1 }, true},
		{"keepaliveTime", birdPeer("node", router, own, rack, nodes, "", ""), func(s *v1alpha1.BGPSession) { s.KeepaliveSeconds = 1 }, false},
		{"passive", birdPeer("node", router, own, rack, nodes, "", ""), func(s *v1alpha1.BGPSession) { s.Passive = true }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			node, tor := netns.New(t), netns.New(t)
			link(t, node, tor, "eth0", own+"/24", router+"/24")
			node.Address("eth0", second+"/24")
			NewBIRD(t, tor, router, tc.router+staticRoute(outside)+looped)
			n := NewNode(t, node, "node1")
			b := speaker(own)
			s := session("tor", router, rack)
			tc.set(&s)
			b.Sessions = []v1alpha1.BGPSession{s}
			n.Input.State = withBlock(b)
			n.Tell()
			want := []string{outside + " via " + router}
			if tc.learned {
				want = append(want, "203.0.113.0/24 via "+router)
			}
			WantRoutes(t, node, outside+" 203.0.113.0/24", want...)
			from := own
			if s.SourceAddress != "" {
				from = s.SourceAddress
			}
			WantRoutes(t, tor, pool4, block4+" via "+from)
		})
	}
}

// A peer that is on no network of the node is reached by the gateway that reachableBy names.
func TestReachableBy(t *testing.T) {
	node, middle, far := netns.New(t), netns.New(t), netns.New(t)
	link(t, node, middle, "eth0", "192.0.2.1/24", "192.0.2.254/24")
	link(t, middle, far, "eth1", "203.0.113.1/24", "203.0.113.2/24")
	middle.Sysctl("ipv4/ip_forward", "1")
	far.Route("192.0.2.0/24", "203.0.113.1", "eth1")
	NewBIRD(t, far, "203.0.113.2", birdPeer("node", "203.0.113.2", "192.0.2.1", rack, nodes, "multihop;", "")+staticRoute(outside))
	n := NewNode(t, node, "node1")
	b := speaker("192.0.2.1")
	s := session("tor", "203.0.113.2", rack)
	b.Sessions = []v1alpha1.BGPSession{s}
	n.Input.State = withBlock(b)
	n.Tell()
	Eventually(t, func() string {
		if s := n.Session("tor/203.0.113.2"); s.Reason != "Unreachable" {
			return fmt.Sprintf("without the gateway: %+v", s)
		}
		return ""
	})
	n.Input.State.BGP.Sessions[0].Gateway = "192.0.2.254"
	n.Tell()
	n.Established("tor/203.0.113.2")
	WantRoutes(t, node, outside, outside+" via 192.0.2.254")
}
