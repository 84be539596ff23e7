package render

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/validate"
)

// profileAllow is the profile that lets everything pass.
const profileAllow = "projectcalico-default-allow"

// host is what a host endpoint has beside other endpoints. It has no namespace and no service account, which here is to be in
// the namespace without a name; no object of Kubernetes can be there.
type host struct {
	iface string
	// addresses that the interface is expected to have, IPv4 first.
	addresses     []string
	defaultAction v1alpha1.Action

	// The lists of policies; valid only while the endpoint is listed.
	local, forward, untracked v1alpha1.DirectionPolicies
	preDNAT                   []v1alpha1.TierPolicies
}

// setHost takes in a HostEndpoint. One that names no node is on none.
func (c *Cluster) setHost(o *v3.HostEndpoint) {
	if o.Spec.Node == "" {
		c.deleteHost(o.Name)
		return
	}
	e := c.hosts[o.Name]
	if e != nil && e.node.name != o.Spec.Node {
		c.deleteHost(o.Name)
		e = nil
	}
	now := &host{iface: o.Spec.InterfaceName, addresses: hostAddresses(o.Spec.ExpectedIPs), defaultAction: profileAction(o.Spec.Profiles)}
	ports := hostPorts(o.Spec.Ports)
	if e == nil {
		c.addHost(&endpoint{
			id: o.Name, host: now, labels: o.Labels, ports: ports, asks: noWishes, policies: map[*policyState]struct{}{},
		}, c.node(o.Spec.Node))
		return
	}
	if e.host.iface != now.iface || e.host.defaultAction != now.defaultAction {
		e.host.iface, e.host.defaultAction = now.iface, now.defaultAction
		c.unlist(e)
	}
	if !slices.Equal(e.host.addresses, now.addresses) {
		e.host.addresses = now.addresses
		c.touchEndpoint(e)
	}
	if !slices.Equal(e.ports, ports) {
		e.ports = ports
		c.touch(KindNodeEndpoints, e.node.name)
	}
	if !maps.Equal(e.labels, o.Labels) {
		e.labels = o.Labels
		c.relabel(e)
		c.pending.identities[e] = struct{}{}
	}
}

func (c *Cluster) addHost(e *endpoint, n *node) {
	e.node = n
	e.namespace = c.namespace("")
	e.account = c.account(objectName{})
	had := n.hasAgent()
	c.hosts[e.id] = e
	n.hosts[e.id] = e
	e.namespace.endpoints[e] = struct{}{}
	e.account.endpoints[e] = struct{}{}
	if !had {
		c.nodeCounts(n)
	}
	c.touchEndpoint(e)
	c.relabel(e)
	c.pending.identities[e] = struct{}{}
}

func (c *Cluster) deleteHost(name string) {
	e := c.hosts[name]
	if e == nil {
		return
	}
	c.dropEndpoint(e)
	delete(c.hosts, name)
	delete(e.node.hosts, name)
	if !e.node.hasAgent() {
		c.nodeCounts(e.node)
	}
	c.dropNode(e.node)
}

// hostAddresses are the addresses that can be read, in order.
func hostAddresses(texts []string) []string {
	var addrs []netip.Addr
	for _, text := range texts {
		if addr, err := netip.ParseAddr(text); err == nil {
			addrs = append(addrs, addr.Unmap())
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare) // IPv4 first
	var out []string
	for _, addr := range slices.Compact(addrs) {
		out = append(out, addr.String())
	}
	return out
}

// profileAction is what the profiles do with traffic of the node itself that no policy decides. The first one decides: the
// only profile that a host endpoint can have allows all, and one that nobody knows lets nothing pass.
func profileAction(profiles []string) v1alpha1.Action {
	if len(profiles) > 0 && profiles[0] == profileAllow {
		return v1alpha1.Allow
	}
	return v1alpha1.Deny
}

func hostPorts(ports []v3.EndpointPort) []v1alpha1.NamedPort {
	var out []v1alpha1.NamedPort
	for _, p := range ports {
		number, err := validate.ParseProtocol(p.Protocol)
		if err == nil && p.Name != "" && p.Port >= 1 && p.Port <= maxPort {
			out = append(out, v1alpha1.NamedPort{Name: p.Name, Protocol: number, Port: int32(p.Port)})
		}
	}
	return sortPorts(out)
}

const maxPort = 65535

func sortPorts(ports []v1alpha1.NamedPort) []v1alpha1.NamedPort {
	slices.SortFunc(ports, func(a, b v1alpha1.NamedPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return slices.Compact(ports)
}

// listHost makes the lists of a host endpoint of the policies that apply, in order.
func (c *Cluster) listHost(h *host, all []*policyState) {
	directions := func(counts func(*policyState) bool) v1alpha1.DirectionPolicies {
		return v1alpha1.DirectionPolicies{
			Ingress: c.tierLists(all, func(p *policyState) bool { return p.compiled.Ingress && counts(p) }),
			Egress:  c.tierLists(all, func(p *policyState) bool { return p.compiled.Egress && counts(p) }),
		}
	}
	h.local = directions(func(p *policyState) bool { return p.compiled.Stage == policy.Filter })
	h.forward = directions(func(p *policyState) bool { return p.compiled.Stage == policy.Filter && p.compiled.Forward })
	h.untracked = directions(func(p *policyState) bool { return p.compiled.Stage == policy.Untracked })
	h.preDNAT = directions(func(p *policyState) bool { return p.compiled.Stage == policy.PreDNAT }).Ingress
	// At these stages the end of a tier decides nothing: there is more to come.
	for _, tiers := range [3][]v1alpha1.TierPolicies{h.untracked.Ingress, h.untracked.Egress, h.preDNAT} {
		for i := range tiers {
			tiers[i].DefaultAction = v1alpha1.Pass
		}
	}
}

func (c *Cluster) renderHost(e *endpoint) v1alpha1.HostEndpoint {
	c.list(e)
	h := e.host
	return v1alpha1.HostEndpoint{
		Name: e.id, Interface: h.iface, Addresses: h.addresses,
		Local: h.local, DefaultAction: h.defaultAction, Forward: h.forward, PreDNAT: h.preDNAT, Untracked: h.untracked,
	}
}

// hostLists tells whether a host endpoint in the API lists the policy in all the places where it should, and in no other.
func (c *Cluster) hostLists(p *policyState, written *v1alpha1.HostEndpoint) bool {
	filter, forward := p.compiled.Stage == policy.Filter, p.compiled.Stage == policy.Filter && p.compiled.Forward
	for _, at := range []struct {
		list *v1alpha1.DirectionPolicies
		is   bool
	}{
		{&written.Local, filter},
		{&written.Forward, forward},
		{&written.Untracked, p.compiled.Stage == policy.Untracked},
		{&v1alpha1.DirectionPolicies{Ingress: written.PreDNAT}, p.compiled.Stage == policy.PreDNAT},
	} {
		if !c.inPlace(p, at.list.Ingress, at.is && p.compiled.Ingress) || !c.inPlace(p, at.list.Egress, at.is && p.compiled.Egress) {
			return false
		}
	}
	return true
}

// sortedEndpoints are endpoints in order of their IDs.
func sortedEndpoints(of ...map[string]*endpoint) []*endpoint {
	count := 0
	for _, endpoints := range of {
		count += len(endpoints)
	}
	out := make([]*endpoint, 0, count)
	for _, endpoints := range of {
		out = slices.AppendSeq(out, maps.Values(endpoints))
	}
	slices.SortFunc(out, func(a, b *endpoint) int { return strings.Compare(a.id, b.id) })
	return out
}
