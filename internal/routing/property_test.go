package routing

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/selector"
)

// cluster is what users and the cluster say, as plain as can be.
type cluster struct {
	nodes     map[string]Node
	services  map[ServiceName]Service
	endpoints map[ServiceName][]string
	config    *v3.BGPConfigurationSpec
	peers     map[string]*v3.BGPPeerSpec
}

// model is what a node advertises for services, written from what the API promises: every address of every service is looked at.
func (c *cluster) model(n Node) []string {
	if _, excluded := n.Labels[LabelExclude]; excluded || c.config == nil {
		return nil
	}
	var clusterIPs, externalIPs, loadBalancers []netip.Prefix
	for _, b := range c.config.ServiceClusterIPs {
		clusterIPs = append(clusterIPs, netip.MustParsePrefix(b.CIDR))
	}
	for _, b := range c.config.ServiceExternalIPs {
		externalIPs = append(externalIPs, netip.MustParsePrefix(b.CIDR))
	}
	for _, b := range c.config.ServiceLoadBalancerIPs {
		loadBalancers = append(loadBalancers, netip.MustParsePrefix(b.CIDR))
	}
	aggregate := c.config.ServiceLoadBalancerAggregation != "Disabled"
	in := func(addr netip.Addr, list []netip.Prefix) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	held := map[netip.Addr]bool{}
	out := map[netip.Prefix]bool{}
	for _, s := range c.services {
		nodes := c.endpoints[s.Name]
		mine := slices.Contains(nodes, n.Name)
		placed := true
		if s.From != "" {
			sel, err := selector.Parse(s.From)
			placed = err == nil && sel.Match(selector.Map(n.Labels))
		}
		// By itself: a Local service where it is, one that says from where, from there.
		single := s.Local && mine && placed || !s.Local && s.From != "" && placed && len(nodes) > 0
		if s.Local || s.From != "" {
			for _, list := range [][]netip.Addr{s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs} {
				for _, addr := range list {
					held[addr] = true
				}
			}
		}
		for _, addr := range s.ClusterIPs {
			if single && in(addr, clusterIPs) {
				out[netip.PrefixFrom(addr, addr.BitLen())] = true
			}
		}
		for _, addr := range s.ExternalIPs {
			if single && in(addr, externalIPs) {
				out[netip.PrefixFrom(addr, addr.BitLen())] = true
			}
		}
		for _, addr := range s.LoadBalancerIPs {
			everybody := !aggregate && !s.Local && s.From == "" && len(nodes) > 0
			if (single || everybody) && in(addr, loadBalancers) {
				out[netip.PrefixFrom(addr, addr.BitLen())] = true
			}
		}
	}
	ranges := slices.Concat(clusterIPs, externalIPs)
	if aggregate {
		ranges = append(ranges, loadBalancers...)
	}
	for _, p := range ranges {
		if !p.IsSingleIP() || !held[p.Addr()] {
			out[p] = true
		}
	}
	all := slices.Collect(maps.Keys(out))
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		if d := a.Addr().Compare(b.Addr()); d != 0 {
			return d
		}
		return a.Bits() - b.Bits()
	})
	var text []string
	for _, p := range all {
		text = append(text, p.String())
	}
	return text
}

// peered tells between which addresses of nodes there are sessions, "192.0.2.1>192.0.2.2" for each end: every pair of nodes, every
// peer.
func (c *cluster) peered() map[string]bool {
	out := map[string]bool{}
	matches := func(text string, n Node) bool {
		sel, err := selector.Parse(text)
		return err == nil && sel.Match(selector.Map(n.Labels))
	}
	for _, p := range c.peers {
		for _, a := range c.nodes {
			if p.Node != "" && p.Node != a.Name || p.Node == "" && !matches(p.NodeSelector, a) {
				continue
			}
			for _, b := range c.nodes {
				if a.Name == b.Name || p.PeerSelector == "" || !matches(p.PeerSelector, b) || len(a.Addresses) == 0 || len(b.Addresses) == 0 {
					continue
				}
				out[a.Addresses[0].String()+">"+b.Addresses[0].String()] = true
				if p.ReversePeering != "Manual" {
					out[b.Addresses[0].String()+">"+a.Addresses[0].String()] = true
				}
			}
			if p.PeerIP != "" {
				from := "-"
				if len(a.Addresses) > 0 {
					from = a.Addresses[0].String()
				}
				out[from+">"+p.PeerIP] = true
			}
		}
	}
	return out
}

// change makes one random change, in the cluster and in the plan.
func (c *cluster) change(t *rapid.T, p *Plan) {
	name := func(prefix string, n int) string { return fmt.Sprint(prefix, rapid.IntRange(1, n).Draw(t, prefix)) }
	switch rapid.IntRange(0, 6).Draw(t, "what") {
	case 0, 1:
		n := Node{Name: name("n", 5), Labels: map[string]string{"rack": name("r", 2)}}
		if rapid.IntRange(0, 4).Draw(t, "excluded") == 0 {
			n.Labels[LabelExclude] = ""
		}
		if rapid.IntRange(0, 5).Draw(t, "addressed") > 0 {
			n.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2." + n.Name[1:])}
		}
		if rapid.Bool().Draw(t, "reflector") {
			n.ClusterID = "1.0.0.1"
		}
		c.nodes[n.Name] = n
		p.SetNode(n)
	case 2:
		n := name("n", 5)
		delete(c.nodes, n)
		p.DeleteNode(n)
	case 3:
		s := Service{Name: ServiceName{"x", name("s", 4)}, Local: rapid.Bool().Draw(t, "local")}
		addr := func(net string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(name(net, 3))} }
		s.ClusterIPs = addr("10.49.0.")
		s.ExternalIPs = addr("10.50.0.")
		s.LoadBalancerIPs = addr("10.51.0.")
		s.From = rapid.SampledFrom([]string{"", "", "rack == 'r1'", "rack ==="}).Draw(t, "from")
		c.services[s.Name] = s
		p.SetService(s)
		if rapid.IntRange(0, 3).Draw(t, "deleted") == 0 {
			delete(c.services, s.Name)
			p.DeleteService(s.Name)
		}
	case 4:
		of := ServiceName{"x", name("s", 4)}
		nodes := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"n1", "n2", "n3", "n4", "n5"}), rapid.ID).Draw(t, "nodes")
		c.endpoints[of] = nodes
		p.SetEndpoints(of, nodes, len(nodes) > 0)
	case 5:
		c.config = nil
		if rapid.IntRange(0, 5).Draw(t, "configured") > 0 {
			c.config = &v3.BGPConfigurationSpec{ServiceLoadBalancerAggregation: rapid.SampledFrom([]string{"", "Enabled", "Disabled"}).Draw(t, "aggregation")}
			bits := func(net string) string {
				return rapid.SampledFrom([]string{net + "0/24", net + "1/32", net + "2/31"}).Draw(t, net)
			}
			c.config.ServiceClusterIPs = []v3.ServiceClusterIPBlock{{CIDR: bits("10.49.0.")}}
			c.config.ServiceExternalIPs = []v3.ServiceExternalIPBlock{{CIDR: bits("10.50.0.")}}
			c.config.ServiceLoadBalancerIPs = []v3.ServiceLoadBalancerIPBlock{{CIDR: bits("10.51.0.")}, {CIDR: bits("10.51.0.")}}
		}
		p.SetConfiguration(DefaultConfiguration, c.config)
	case 6:
		peer := name("p", 4)
		selectors := rapid.SampledFrom([]string{"rack == 'r1'", "rack == 'r2'", "all()"})
		spec := &v3.BGPPeerSpec{PeerSelector: selectors.Draw(t, "remote"), ReversePeering: rapid.SampledFrom([]string{"", "Auto", "Manual"}).Draw(t, "reverse")}
		if rapid.IntRange(0, 3).Draw(t, "outside") == 0 {
			spec = &v3.BGPPeerSpec{PeerIP: "198.51.100.9", ASNumber: 65001}
		}
		if rapid.Bool().Draw(t, "one node") {
			spec.Node = name("n", 5)
		} else {
			spec.NodeSelector = selectors.Draw(t, "own")
		}
		if rapid.IntRange(0, 3).Draw(t, "gone") == 0 {
			delete(c.peers, peer)
			p.SetPeer(peer, nil)
			return
		}
		c.peers[peer] = spec
		p.SetPeer(peer, spec)
	}
}

func newCluster() *cluster {
	return &cluster{
		nodes: map[string]Node{}, services: map[ServiceName]Service{}, endpoints: map[ServiceName][]string{}, peers: map[string]*v3.BGPPeerSpec{},
	}
}

// TestPlansEqualASimpleModel has random changes, and compares with the model, and with a plan that learns of the same cluster in
// another order.
func TestPlansEqualASimpleModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		none := func(string, func(string, selector.Labels) bool) {}
		c, p := newCluster(), New(none)
		for range rapid.IntRange(1, 25).Draw(t, "changes") {
			c.change(t, p)
			if rapid.Bool().Draw(t, "look") {
				c.compare(t, p)
			}
		}
		c.compare(t, p)
		again := New(none)
		for name, spec := range c.peers {
			again.SetPeer(name, spec)
		}
		for name, nodes := range c.endpoints {
			again.SetEndpoints(name, nodes, len(nodes) > 0)
		}
		for _, s := range c.services {
			again.SetService(s)
		}
		again.SetConfiguration(DefaultConfiguration, c.config)
		for _, n := range c.nodes {
			again.SetNode(n)
		}
		for name := range c.nodes {
			if diff := cmp.Diff(again.BGP(name), p.BGP(name)); diff != "" {
				t.Fatalf("plan of %s depends on history (-afresh +got):\n%s", name, diff)
			}
		}
	})
}

func (c *cluster) compare(t *rapid.T, p *Plan) {
	ends := map[string]bool{}
	for name, n := range c.nodes {
		plan := p.BGP(name)
		if diff := cmp.Diff(c.model(n), plan.Announce); diff != "" {
			t.Fatalf("%s advertises (-model +got):\n%s", name, diff)
		}
		for i := range plan.Sessions {
			own := "-"
			if len(n.Addresses) > 0 {
				own = n.Addresses[0].String()
			}
			ends[own+">"+plan.Sessions[i].Address] = plan.Sessions[i].Passive
		}
	}
	model := c.peered()
	for end := range model {
		if _, ok := ends[end]; !ok {
			t.Fatalf("session %s is missing", end)
		}
	}
	for end, passive := range ends {
		if !model[end] {
			t.Fatalf("session %s is too many", end)
		}
		own, other, _ := strings.Cut(end, ">")
		back, both := ends[other+">"+own]
		if both && back == passive || !both && passive {
			t.Fatalf("session %s: passive is %v here and %v at the other end", end, passive, back)
		}
	}
}
