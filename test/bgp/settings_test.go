package bgp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/netns"
)

const (
	nodeAddress, secondAddress = "192.0.2.1", "192.0.2.2"
	torAddress                 = "192.0.2.100"
	looped                     = "203.0.113.0/24"
)

// rackPeering is a plain session between a router of the rack and a node.
func rackPeering() Peering {
	return Peering{Router: torAddress, Node: nodeAddress, RouterAS: rack, NodeAS: nodes}
}

// network is a node and a router of the rack in one family.
type network struct {
	name                        string
	node, second, tor           string
	length                      string
	pool, block, outside, loops string
}

// networks are one of each family.
func networks() []network {
	return []network{
		{"IPv4", nodeAddress, secondAddress, torAddress, "/24", pool4, block4, outside, looped},
		{"IPv6", "2001:db8::1", "2001:db8::2", "2001:db8::100", "/64", "fd00:48::/32", "fd00:48:1::/122", "2001:db8:f::/48", "2001:db8:e::/48"},
	}
}

// join links a node and its router.
func (w *network) join(t *testing.T) (node, tor *netns.NS) {
	t.Helper()
	node, tor = netns.New(t), netns.New(t)
	link(t, node, tor, "eth0", w.node+w.length, w.tor+w.length)
	return node, tor
}

// speaker is what the node is told about BGP.
func (w *network) speaker() *v1alpha1.BGP {
	b := speaker(w.node)
	b.RouterID = nodeAddress
	return b
}

// state has the node's block.
func (w *network) state(b *v1alpha1.BGP) v1alpha1.NodeStateSpec {
	return v1alpha1.NodeStateSpec{
		Blocks: []v1alpha1.BlockLease{{CIDR: w.block, Pool: w.pool}}, Pools: []v1alpha1.Pool{{CIDR: w.pool}}, BGP: b,
	}
}

// peering is a plain session between the two.
func (w *network) peering() Peering {
	return Peering{Router: w.tor, Node: w.node, RouterAS: rack, NodeAS: nodes}
}

// What a BGPPeer says of its sessions, against a router that insists on it.
func TestSettingsOfSessions(t *testing.T) {
	for _, tc := range []struct {
		name   string
		router func(*network, *Setup, *Peering)
		set    func(*network, *v1alpha1.BGP, *v1alpha1.BGPSession)
		// learned is whether the route arrives that has the node's own AS number in its path; hold the hold time agreed on.
		learned bool
		hold    int
	}{
		{"none", func(*network, *Setup, *Peering) {}, func(*network, *v1alpha1.BGP, *v1alpha1.BGPSession) {}, false, 90},
		{"ttlSecurity", func(_ *network, _ *Setup, p *Peering) { p.Hops = 1 }, func(_ *network, _ *v1alpha1.BGP, s *v1alpha1.BGPSession) { s.TTLSecurity = 1 }, false, 90},
		{"sourceAddress", func(w *network, _ *Setup, p *Peering) { p.Node = w.second }, func(w *network, _ *v1alpha1.BGP, s *v1alpha1.BGPSession) { s.SourceAddress = w.second }, false, 90},
		{"asNumber of four bytes", func(_ *network, _ *Setup, p *Peering) { p.RouterAS, p.NodeAS = 4200000001, 4200000002 }, func(_ *network, b *v1alpha1.BGP, s *v1alpha1.BGPSession) {
			b.ASNumber, s.ASNumber = 4200000002, 4200000001
		}, true, 90},
		{"localASNumber", func(_ *network, _ *Setup, p *Peering) { p.NodeAS = 65100 }, func(_ *network, _ *v1alpha1.BGP, s *v1alpha1.BGPSession) { s.LocalASNumber = 65100 }, false, 90},
		{"numAllowedLocalASNumbers", func(*network, *Setup, *Peering) {}, func(_ *network, _ *v1alpha1.BGP, s *v1alpha1.BGPSession) { s.AllowOwnAS = 1 }, true, 90},
		{"keepaliveTime", func(*network, *Setup, *Peering) {}, func(_ *network, _ *v1alpha1.BGP, s *v1alpha1.BGPSession) { s.KeepaliveSeconds = 1 }, false, 3},
		{"peerIP with a port", func(_ *network, s *Setup, p *Peering) { s.Port, p.Passive = 1790, true }, func(_ *network, _ *v1alpha1.BGP, s *v1alpha1.BGPSession) { s.Port = 1790 }, false, 90},
		{"listenPort", func(_ *network, _ *Setup, p *Peering) { p.Port = 1791 }, func(_ *network, b *v1alpha1.BGP, s *v1alpha1.BGPSession) { b.ListenPort, s.Passive = 1791, true }, false, 90},
		{"the node opens the session", func(_ *network, _ *Setup, p *Peering) { p.Passive = true }, func(*network, *v1alpha1.BGP, *v1alpha1.BGPSession) {}, false, 90},
		{"the router opens the session", func(*network, *Setup, *Peering) {}, func(_ *network, _ *v1alpha1.BGP, s *v1alpha1.BGPSession) { s.Passive = true }, false, 90},
		{"bindMode NodeIP", func(*network, *Setup, *Peering) {}, func(w *network, b *v1alpha1.BGP, s *v1alpha1.BGPSession) {
			b.ListenAddresses, s.Passive = []string{w.node}, true
		}, false, 90},
	} {
		for _, w := range networks() {
			t.Run(tc.name+", "+w.name, func(t *testing.T) {
				withEach(t, func(t *testing.T, kind Kind) {
					node, tor := w.join(t)
					p := w.peering()
					setup := Setup{ID: torAddress, Offers: append(offers(w.outside), Offer{Prefix: w.loops, Path: []int{nodes}})}
					tc.router(&w, &setup, &p)
					if p.Node == w.second { // in IPv6 it would be the source of all sessions else
						node.Address("eth0", w.second+w.length)
					}
					setup.Peerings = []Peering{p}
					router := setup.Start(t, tor, kind)
					n := NewNode(t, node, "node1")
					b := w.speaker()
					s := session("tor", w.tor, rack)
					tc.set(&w, b, &s)
					b.Sessions = []v1alpha1.BGPSession{s}
					n.Input.State = w.state(b)
					n.Tell()
					want := []string{w.outside + " via " + w.tor}
					if tc.learned {
						want = append(want, w.loops+" via "+w.tor)
					}
					WantRoutes(t, node, w.outside+" "+w.loops, want...)
					WantRoutes(t, tor, w.pool, w.block+" via "+p.Node)
					Eventually(t, func() string {
						if got := router.Hold(&p); got != tc.hold {
							return fmt.Sprintf("the hold time is %d s, want %d", got, tc.hold)
						}
						return ""
					})
				})
			})
		}
	}
}

// Sessions that must not come about: each of these settings keeps one out that the node would have without it.
func TestSettingsThatKeepSessionsOut(t *testing.T) {
	for _, tc := range []struct {
		name   string
		router func(*network, *Peering)
		set    func(*network, *v1alpha1.BGP, *v1alpha1.BGPSession)
	}{
		{"nobody opens the session", func(_ *network, p *Peering) { p.Passive = true }, func(_ *network, _ *v1alpha1.BGP, s *v1alpha1.BGPSession) { s.Passive = true }},
		{"bindMode NodeIP, and the router tries another address", func(w *network, p *Peering) { p.Node = w.second }, func(w *network, b *v1alpha1.BGP, s *v1alpha1.BGPSession) {
			b.ListenAddresses, s.Passive = []string{w.node}, true
		}},
		{"ttlSecurity, and the router sends with a TTL of 1", func(*network, *Peering) {}, func(_ *network, _ *v1alpha1.BGP, s *v1alpha1.BGPSession) { s.TTLSecurity, s.Passive = 1, true }},
	} {
		for _, w := range networks() {
			t.Run(tc.name+", "+w.name, func(t *testing.T) {
				withEach(t, func(t *testing.T, kind Kind) {
					own, witness, length := "198.18.0.1", "198.18.0.2", "/30"
					if w.name == "IPv6" {
						own, witness, length = "2001:db8:7::1", "2001:db8:7::2", "/64"
					}
					node, tor := w.join(t)
					p := w.peering()
					tc.router(&w, &p)
					if p.Node == w.second {
						node.Address("eth0", w.second+w.length)
					}
					(&Setup{ID: torAddress, Peerings: []Peering{p}, Offers: offers(w.outside)}).Start(t, tor, kind)
					n := NewNode(t, node, "node1")
					b := w.speaker()
					s := session("tor", w.tor, rack)
					tc.set(&w, b, &s)
					b.Sessions = []v1alpha1.BGPSession{s, session("witness", witness, rack)}
					n.Input.State = w.state(b)
					n.Tell()
					// Another router, which is started later and set up as it should be, has its session.
					third := netns.New(t)
					link(t, node, third, "eth1", own+length, witness+length)
					(&Setup{ID: "192.0.2.101", Peerings: []Peering{{Router: witness, Node: own, RouterAS: rack, NodeAS: nodes}}}).Start(t, third, kind)
					n.Established("witness/" + witness)
					if got := n.Session("tor/" + w.tor); got.State == "Established" {
						t.Errorf("the session stands: %+v", got)
					}
					WantRoutes(t, node, w.outside)
				})
			})
		}
	}
}

// behind is a node, a router in between, and the peer on another network.
func behind(t *testing.T) (node, middle, far *netns.NS) {
	t.Helper()
	node, middle, far = netns.New(t), netns.New(t), netns.New(t)
	link(t, node, middle, "eth0", nodeAddress+"/24", "192.0.2.254/24")
	link(t, middle, far, "eth1", "203.0.113.1/24", "203.0.113.2/24")
	middle.Sysctl("ipv4/ip_forward", "1")
	far.Route("192.0.2.0/24", "203.0.113.1", "eth1")
	return node, middle, far
}

// A peer that is on no network of the node is reached by the gateway that reachableBy names.
func TestReachableBy(t *testing.T) {
	withEach(t, func(t *testing.T, kind Kind) {
		node, _, far := behind(t)
		(&Setup{ID: "203.0.113.2", Peerings: []Peering{{
			Router: "203.0.113.2", Node: nodeAddress, RouterAS: rack, NodeAS: nodes, Far: true,
		}}, Offers: offers(outside)}).Start(t, far, kind)
		n := NewNode(t, node, "node1")
		b := speaker(nodeAddress)
		b.Sessions = []v1alpha1.BGPSession{session("tor", "203.0.113.2", rack)}
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
		n.Input.State.BGP.Sessions = nil
		n.Tell()
		WantRoutes(t, node, outside+" 203.0.113.0/24")
	})
}

// ttlSecurity says how many hops away the peer may be: one that is two hops away is let in by 2, and not by 1. What the peer acknowledges does not
// come in while 1 is allowed, so the end of a connection that it made then may never be sent to it: it refuses others until its hold time is over.
func TestHopsOfTTLSecurity(t *testing.T) {
	withEach(t, func(t *testing.T, kind Kind) {
		node, _, far := behind(t)
		node.Route("203.0.113.0/24", "192.0.2.254", "eth0")
		p := Peering{Router: "203.0.113.2", Node: nodeAddress, RouterAS: rack, NodeAS: nodes, Hops: 2, Hold: 9}
		(&Setup{ID: "203.0.113.2", Peerings: []Peering{p}, Offers: offers(outside)}).Start(t, far, kind)
		n := NewNode(t, node, "node1")
		b := speaker(nodeAddress)
		b.Sessions = []v1alpha1.BGPSession{session("tor", "203.0.113.2", rack)}
		b.Sessions[0].TTLSecurity = 1
		n.Input.State = withBlock(b)
		n.Tell()
		Eventually(t, func() string {
			if s := n.Session("tor/203.0.113.2"); !strings.Contains(s.Message, "ttlSecurity") {
				return fmt.Sprintf("with one hop: %+v", s)
			}
			return ""
		})
		// The node is asked: the peer may have sent its OPEN before the node looked at where from, and think for a hold time that the session stands.
		if s := n.Session("tor/203.0.113.2"); s.State == "Established" || len(Routes(node, outside)) > 0 {
			t.Errorf("a peer two hops away was let in, where one was allowed: %+v", s)
		}
		n.Input.State.BGP.Sessions[0].TTLSecurity = 2
		n.Tell()
		n.Established("tor/203.0.113.2")
		WantRoutes(t, node, outside, outside+" via 192.0.2.254")
	})
}

// Learned routes lead over no interface of ignoredInterfaces, whatever session they came by, and have the metric of their family.
func TestSettingsOfLearnedRoutes(t *testing.T) {
	withEach(t, func(t *testing.T, kind Kind) {
		node, tor1, tor2 := netns.New(t), netns.New(t), netns.New(t)
		link(t, node, tor1, "eth1", "192.0.2.1/30", "192.0.2.2/30")
		link(t, node, tor2, "storage0", "192.0.2.5/30", "192.0.2.6/30")
		node.Address("eth1", "2001:db8::1/64")
		tor1.Address("eth1", "2001:db8::2/64")
		const outside6 = "2001:db8:f::/48"
		for tor, ends := range map[*netns.NS][2]string{tor1: {"192.0.2.2", "192.0.2.1"}, tor2: {"192.0.2.6", "192.0.2.5"}} {
			s := Setup{ID: ends[0], Peerings: []Peering{{Router: ends[0], Node: ends[1], RouterAS: rack, NodeAS: nodes}}, Offers: offers(outside)}
			if tor == tor1 {
				s.Peerings = append(s.Peerings, Peering{Router: "2001:db8::2", Node: "2001:db8::1", RouterAS: rack, NodeAS: nodes})
				s.Offers = append(s.Offers, Offer{Prefix: outside6})
			}
			s.Start(t, tor, kind)
		}
		n := NewNode(t, node, "node1")
		b := speaker("192.0.2.1", "2001:db8::1")
		b.Sessions = []v1alpha1.BGPSession{session("tor", "192.0.2.2", rack), session("tor", "192.0.2.6", rack), session("tor", "2001:db8::2", rack)}
		n.Input.State = withBlock(b)
		n.Tell()
		WantRoutes(t, node, outside+" "+outside6, outside+" via 192.0.2.2, 192.0.2.6", outside6+" via 2001:db8::2")
		n.Established("tor/192.0.2.6")
		since := n.Session("tor/192.0.2.6").Since
		n.Input.State.BGP.IgnoredInterfaces = []string{"docker*", "storage*"}
		n.Input.State.BGP.MetricIPv4, n.Input.State.BGP.MetricIPv6 = 512, 640
		n.Tell()
		WantRoutes(t, node, outside+" "+outside6, outside+" via 192.0.2.2", outside6+" via 2001:db8::2")
		Eventually(t, func() string {
			if got := metrics(node, outside, outside6); !slices.Equal(got, []string{outside + " 512", outside6 + " 640"}) {
				return fmt.Sprintf("metrics are %q", got)
			}
			return ""
		})
		if s := n.Session("tor/192.0.2.6"); s.State != "Established" || !s.Since.Equal(&since) {
			t.Errorf("the session over the ignored interface does not stand as before: %+v", s)
		}
		n.Input.State.BGP.IgnoredInterfaces = nil
		n.Tell()
		WantRoutes(t, node, outside, outside+" via 192.0.2.2, 192.0.2.6")
	})
}

// metrics are those of learned routes to some destinations.
func metrics(ns *netns.NS, to ...string) []string {
	var out []string
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := ns.RouteListFiltered(family, &netlink.Route{Protocol: 81}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return []string{err.Error()}
		}
		for i := range list {
			if slices.Contains(to, list[i].Dst.String()) {
				out = append(out, fmt.Sprintf("%s %d", list[i].Dst, list[i].Priority))
			}
		}
	}
	slices.Sort(out)
	return out
}

// A change of configuration ends a session only where the other end has to know of it.
func TestWhatEndsASession(t *testing.T) {
	withEach(t, func(t *testing.T, kind Kind) {
		node, tor := netns.New(t), netns.New(t)
		link(t, node, tor, "eth0", nodeAddress+"/24", torAddress+"/24")
		p := rackPeering()
		(&Setup{ID: torAddress, Peerings: []Peering{p}, Offers: offers(outside)}).Start(t, tor, kind)
		n := NewNode(t, node, "node1")
		b := speaker(nodeAddress)
		b.Sessions = []v1alpha1.BGPSession{session("tor", torAddress, rack)}
		n.Input.State = withBlock(b)
		n.Tell()
		n.Established("tor/" + torAddress)
		WantRoutes(t, tor, "10.0.0.0/8", block4+" via "+nodeAddress)
		since := n.Session("tor/" + torAddress).Since
		for i, c := range []struct {
			what   string
			change func(*v1alpha1.NodeStateSpec, *v1alpha1.BGPSession)
		}{
			{"communities", func(s *v1alpha1.NodeStateSpec, _ *v1alpha1.BGPSession) {
				s.BGP.Communities = []v1alpha1.BGPCommunities{{CIDR: pool4, Values: []string{"64512:1"}}}
			}},
			{"nextHopMode", func(_ *v1alpha1.NodeStateSpec, s *v1alpha1.BGPSession) { s.NextHop = "Self" }},
			{"filters", func(s *v1alpha1.NodeStateSpec, p *v1alpha1.BGPSession) {
				s.BGP.Filters, p.Filters = []v1alpha1.BGPRouteFilter{{Name: "f", Export: []v1alpha1.BGPRouteRule{{Family: 4, Accept: true}}}}, []string{"f"}
			}},
			{"a pool more", func(s *v1alpha1.NodeStateSpec, _ *v1alpha1.BGPSession) {
				s.Pools = append(s.Pools, v1alpha1.Pool{CIDR: "10.60.0.0/16"})
			}},
			{"the metric", func(s *v1alpha1.NodeStateSpec, _ *v1alpha1.BGPSession) { s.BGP.MetricIPv4 = 99 }},
			{"another session", func(s *v1alpha1.NodeStateSpec, _ *v1alpha1.BGPSession) {
				s.BGP.Sessions = append(s.BGP.Sessions, session("zz", "192.0.2.77", rack))
			}},
			{"the mesh", func(s *v1alpha1.NodeStateSpec, _ *v1alpha1.BGPSession) {
				s.BGP.Mesh = &v1alpha1.BGPMesh{RestartSeconds: 7}
			}},
		} {
			c.change(&n.Input.State, &n.Input.State.BGP.Sessions[0])
			service := fmt.Sprintf("10.49.%d.0/24", i)
			n.Input.State.BGP.Announce = []string{service}
			n.Tell()
			WantRoutes(t, tor, "10.0.0.0/8", block4+" via "+nodeAddress, service+" via "+nodeAddress) // it has heard of it
			if s := n.Session("tor/" + torAddress); s.State != "Established" || !s.Since.Equal(&since) {
				t.Errorf("%s: the session does not stand as before: %+v", c.what, s)
			}
		}
		n.Input.State.BGP.Sessions[0].KeepaliveSeconds = 2
		n.Tell()
		Eventually(t, func() string {
			if s := n.Session("tor/" + torAddress); s.State != "Established" || s.Since.Equal(&since) {
				return fmt.Sprintf("another keepaliveTime did not begin the session anew: %+v", s)
			}
			return ""
		})
	})
}
