package bgp

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/selector"
)

// cluster is what users and the cluster say, in objects of theirs.
type cluster struct {
	nodes          []*corev1.Node
	configurations map[string]*v3.BGPConfiguration
	peers          []*v3.BGPPeer
	filters        []*v3.BGPFilter
	pools          []*v3.IPPool
	// blocks of nodes, and addresses outside them that their pods hold.
	blocks, pods map[string][]netip.Prefix
	services     []*corev1.Service
	// endpoints are the nodes with a ready endpoint, by service; one without a node is outside the cluster.
	endpoints map[string][]string
}

// sent is a route as it arrives at a router.
type sent struct {
	prefix, path string
	communities  []string
}

func (s sent) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s path %s communities %s", s.prefix, s.path, strings.Join(s.communities, " ")))
}

// The model: what a node sends to a router, written from what the API promises. It looks at everything for each question, and shares no code
// with the operator's or the agent's.
func (c *cluster) sends(node *corev1.Node, router string, routerAS uint32) []string {
	peer := c.peering(node, router)
	if peer == nil {
		return nil
	}
	var out []string
	for _, p := range c.advertised(node) {
		if s, ok := c.filtered(peer, sent{prefix: p.String(), communities: c.communitiesOf(node, p)}, p, routerAS == nodes); ok {
			if routerAS != nodes {
				s.path = strings.TrimSpace(s.path + fmt.Sprint(" ", nodes))
			}
			slices.Sort(s.communities)
			s.communities = slices.Compact(s.communities)
			out = append(out, s.String())
		}
	}
	slices.Sort(out)
	return out
}

func selects(text string, labels map[string]string) bool {
	s, err := selector.Parse(text)
	return err == nil && s.Match(selector.Map(labels))
}

// peering is the BGPPeer by which the node peers with a router: of several the first by name. One that contradicts itself is none.
func (c *cluster) peering(node *corev1.Node, router string) *v3.BGPPeer {
	var found *v3.BGPPeer
	for _, p := range c.peers {
		mine := p.Spec.Node == node.Name
		if p.Spec.Node == "" {
			mine = selects(p.Spec.NodeSelector, node.Labels) // empty: all nodes
		} else if p.Spec.NodeSelector != "" {
			continue
		}
		if p.Spec.PeerIP == router && mine && (found == nil || p.Name < found.Name) {
			found = p
		}
	}
	return found
}

// advertised are the prefixes that a node advertises if no filter says otherwise.
func (c *cluster) advertised(node *corev1.Node) []netip.Prefix {
	out := map[netip.Prefix]bool{}
	private := func(p netip.Prefix) bool {
		return slices.ContainsFunc(c.pools, func(pool *v3.IPPool) bool {
			return pool.Spec.DisableBGPExport && netip.MustParsePrefix(pool.Spec.CIDR).Contains(p.Addr())
		})
	}
	for _, p := range slices.Concat(c.blocks[node.Name], c.pods[node.Name]) {
		if !private(p) {
			out[p] = true
		}
	}
	for _, p := range c.ofServices(node) {
		out[p] = true
	}
	return slices.SortedFunc(maps.Keys(out), netip.Prefix.Compare)
}

// configured gives a list of the configuration of a node: its own, or else that of all.
func configured[T any](c *cluster, node string, list func(*v3.BGPConfigurationSpec) []T) []T {
	for _, name := range []string{"node." + node, "default"} {
		if o := c.configurations[name]; o != nil && len(list(&o.Spec)) > 0 {
			return list(&o.Spec)
		}
	}
	return nil
}

// ofServices are the prefixes that a node advertises for services.
func (c *cluster) ofServices(node *corev1.Node) []netip.Prefix {
	if _, excluded := node.Labels["node.kubernetes.io/exclude-from-external-load-balancers"]; excluded {
		return nil
	}
	clusterIPs := configured(c, node.Name, func(s *v3.BGPConfigurationSpec) (out []string) {
		for _, b := range s.ServiceClusterIPs {
			out = append(out, b.CIDR)
		}
		return out
	})
	externalIPs := configured(c, node.Name, func(s *v3.BGPConfigurationSpec) (out []string) {
		for _, b := range s.ServiceExternalIPs {
			out = append(out, b.CIDR)
		}
		return out
	})
	balancerIPs := configured(c, node.Name, func(s *v3.BGPConfigurationSpec) (out []string) {
		for _, b := range s.ServiceLoadBalancerIPs {
			out = append(out, b.CIDR)
		}
		return out
	})
	aggregate := true
	for _, name := range []string{"default", "node." + node.Name} {
		if o := c.configurations[name]; o != nil && o.Spec.ServiceLoadBalancerAggregation == "Disabled" {
			aggregate = false
		}
	}
	in := func(address string, cidrs []string) bool {
		return slices.ContainsFunc(cidrs, func(cidr string) bool {
			return netip.MustParsePrefix(cidr).Contains(netip.MustParseAddr(address))
		})
	}
	whole := func(address string) netip.Prefix {
		a := netip.MustParseAddr(address)
		return netip.PrefixFrom(a, a.BitLen())
	}
	var out []netip.Prefix
	special := map[netip.Prefix]bool{} // addresses that some nodes alone advertise
	for _, s := range c.services {
		if s.Spec.ClusterIP == "None" {
			continue
		}
		local := s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
		from := s.Annotations["manul.projectcalico.org/advertiseFrom"]
		where := c.endpoints[s.Name]
		var balancers []string
		for _, i := range s.Status.LoadBalancer.Ingress {
			balancers = append(balancers, i.IP)
		}
		here := (from == "" || selects(from, node.Labels)) && (local && slices.Contains(where, node.Name) || !local && len(where) > 0)
		for _, kind := range []struct{ addresses, cidrs []string }{{s.Spec.ClusterIPs, clusterIPs}, {s.Spec.ExternalIPs, externalIPs}, {balancers, balancerIPs}} {
			for _, a := range kind.addresses {
				if local || from != "" {
					special[whole(a)] = true
				}
				if (local || from != "") && here && in(a, kind.cidrs) {
					out = append(out, whole(a))
				}
			}
		}
		for _, a := range balancers {
			if !aggregate && !local && from == "" && len(where) > 0 && in(a, balancerIPs) {
				out = append(out, whole(a))
			}
		}
	}
	ranges := slices.Concat(clusterIPs, externalIPs)
	if aggregate {
		ranges = append(ranges, balancerIPs...)
	}
	for _, text := range ranges {
		if p := netip.MustParsePrefix(text); !special[p] {
			out = append(out, p)
		}
	}
	return out
}

// communitiesOf are those of prefixAdvertisements in whose CIDR a prefix lies.
func (c *cluster) communitiesOf(node *corev1.Node, p netip.Prefix) []string {
	names := map[string]string{}
	for _, name := range []string{"default", "node." + node.Name} { // a node's own names count before those of all
		if o := c.configurations[name]; o != nil {
			for _, n := range o.Spec.Communities {
				names[n.Name] = n.Value
			}
		}
	}
	var out []string
	for _, a := range configured(c, node.Name, func(s *v3.BGPConfigurationSpec) []v3.PrefixAdvertisement { return s.PrefixAdvertisements }) {
		cidr := netip.MustParsePrefix(a.CIDR)
		if cidr.Bits() > p.Bits() || !cidr.Contains(p.Addr()) {
			continue
		}
		for _, value := range a.Communities {
			if named := names[value]; named != "" {
				value = named
			}
			out = append(out, value)
		}
	}
	return out
}

// filtered is what the filters of a peer make of a route; false: they reject it. A filter that is not there lets nothing pass.
func (c *cluster) filtered(peer *v3.BGPPeer, s sent, p netip.Prefix, internal bool) (sent, bool) {
	for _, name := range peer.Spec.Filters {
		i := slices.IndexFunc(c.filters, func(f *v3.BGPFilter) bool { return f.Name == name })
		if i < 0 {
			return s, false
		}
		for j := range c.filters[i].Spec.ExportV4 {
			r := &c.filters[i].Spec.ExportV4[j]
			if !matched(r, s, p, internal) {
				continue
			}
			if r.Action != "Accept" {
				return s, false
			}
			var path []string
			for _, o := range r.Operations {
				switch {
				case o.AddCommunity != nil:
					s.communities = append(s.communities, string(o.AddCommunity.Value))
				case o.PrependASPath != nil:
					var numbers []string
					for _, as := range o.PrependASPath.Prefix {
						numbers = append(numbers, fmt.Sprint(uint32(as)))
					}
					path = append(numbers, path...)
				}
			}
			s.path = strings.Join(path, " ")
			return s, true
		}
	}
	return s, true
}

// matched tells whether a rule matches a route of the node's own, which no peer sent and which leads over no interface.
func matched(r *v3.BGPFilterRuleV4, s sent, p netip.Prefix, internal bool) bool {
	if r.Source != "" || r.Interface != "" || r.Priority != nil || len(r.ASPathPrefix) > 0 {
		return false
	}
	if r.PeerType == "iBGP" && !internal || r.PeerType == "eBGP" && internal {
		return false
	}
	if r.Communities != nil {
		for _, value := range r.Communities.Values {
			if !slices.Contains(s.communities, string(value)) {
				return false
			}
		}
	}
	if r.CIDR == "" {
		return true
	}
	cidr := netip.MustParsePrefix(r.CIDR)
	length := true
	if l := r.PrefixLength; l != nil {
		length = (l.Min == nil || p.Bits() >= int(*l.Min)) && (l.Max == nil || p.Bits() <= int(*l.Max))
	}
	in := cidr.Contains(p.Addr()) && p.Bits() >= cidr.Bits() && length
	switch r.MatchOperator {
	case "Equal":
		return p == cidr
	case "NotEqual":
		return p != cidr
	case "In":
		return in
	}
	return !in
}
