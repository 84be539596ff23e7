package render

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/ipam"
	"github.com/manul-net/manul/internal/routing"
)

// annotationIPv4Address and annotationIPv6Address on a node are the node's own addresses, possibly with a prefix length.
const (
	annotationIPv4Address = "projectcalico.org/IPv4Address"
	annotationIPv6Address = "projectcalico.org/IPv6Address"
)

// node is a node, or what is known of one before its object arrives; or a host that is no node of the cluster, and has host
// endpoints.
type node struct {
	name string
	// exists: there is a Node object.
	exists    bool
	addresses []string
	// annotated are the addresses with prefix lengths that annotations give.
	annotated []string
	// status are all addresses that the Node object names, by which policies find the node.
	status    []netip.Addr
	labels    map[string]string
	endpoints map[string]*endpoint // pods
	hosts     map[string]*endpoint // host endpoints
	blocks    map[string]ipam.Holding
	// borrowed are blocks of other nodes of which the node has single addresses, by the name of the block's object.
	borrowed map[string]ipam.Holding

	// podCIDRs are those that Kubernetes allotted to the node, podCIDRBlocks the names of the blocks that stand for them.
	podCIDRs, podCIDRBlocks []string

	// state is the NodeState in the API, endpointsObject the NodeEndpoints, network the NodeNetwork; nil: there is none.
	state           *v1alpha1.NodeState
	endpointsObject *v1alpha1.NodeEndpoints
	network         *v1alpha1.NodeNetwork
	// holds are the addresses that the node gave to pods.
	holds holdings
	// listed and listedHosts are indexes into state.spec by ID, made when they are first needed.
	listed      map[string]*v1alpha1.Endpoint
	listedHosts map[string]*v1alpha1.HostEndpoint
	// published is an index into endpointsObject by the endpoint's ID, made when it is first needed.
	published map[string]*v1alpha1.RemoteEndpoint
	// offered are identities that objects may have given to endpoints of the node without having been seen in the API yet.
	offered offered

	// acknowledges is what counts of what the node has put into effect.
	acknowledges acknowledgement

	// policies that have to come into force on the node.
	waiting map[*policyState]struct{}
	// required counts the endpoints of the node for each policy that applies to any.
	required map[*policyState]int
	// failures that the node reports.
	failures []v1alpha1.Failure
}

// node returns the node called name; dropNode lets go of it.
func (c *Cluster) node(name string) *node {
	n := c.nodes[name]
	if n == nil {
		n = &node{
			name: name, endpoints: map[string]*endpoint{}, hosts: map[string]*endpoint{}, blocks: map[string]ipam.Holding{}, borrowed: map[string]ipam.Holding{},
			waiting: map[*policyState]struct{}{}, required: map[*policyState]int{},
		}
		c.nodes[name] = n
	}
	return n
}

func (c *Cluster) dropNode(n *node) {
	if !n.hasAgent() && len(n.endpoints) == 0 && len(n.blocks) == 0 && len(n.borrowed) == 0 && n.state == nil && n.endpointsObject == nil && n.network == nil {
		delete(c.nodes, n.name)
	}
}

// hasAgent tells whether there must be an agent on the node: every node of the cluster has one, and every host that is none and
// has host endpoints.
func (n *node) hasAgent() bool { return n.exists || len(n.hosts) > 0 }

// touchNode notes that all the objects of a node may have changed.
func (c *Cluster) touchNode(n *node) {
	c.touch(KindNodeState, n.name)
	c.touch(KindNodeEndpoints, n.name)
	c.touch(KindNodeNetwork, n.name)
}

func (c *Cluster) setNode(o *corev1.Node) {
	n := c.node(o.Name)
	if !n.exists {
		n.exists = true
		c.touchNode(n)
		c.nodeCounts(n)
	}
	if !maps.Equal(n.labels, o.Labels) {
		n.labels = o.Labels
		c.touch(KindNodeState, n.name)
	}
	if status := statusAddresses(o); !slices.Equal(status, n.status) {
		n.status = status
		c.touchSetsOf(n)
	}
	c.setPodCIDRs(n, o.Spec.PodCIDRs)
	c.nodeSets.SetItem(n, o.Labels)
	annotated := annotatedAddresses(o)
	if addresses := nodeAddresses(o); !slices.Equal(addresses, n.addresses) || !slices.Equal(annotated, n.annotated) {
		n.addresses, n.annotated = addresses, annotated
		c.touch(KindNodeNetwork, n.name)
		c.touch(KindNodeState, n.name) // ends of tunnels are of the families that the node has
	}
	c.routes.SetNode(routing.Node{
		Name: n.name, Labels: o.Labels, Addresses: parseAddresses(n.addresses),
		ASNumber: o.Annotations[annotationASNumber], ClusterID: o.Annotations[annotationClusterID],
	})
}

func (c *Cluster) deleteNode(name string) {
	n := c.nodes[name]
	if n == nil {
		return
	}
	if n.exists {
		c.nodeSets.DeleteItem(n)
	}
	n.exists = false
	c.setPodCIDRs(n, nil)
	n.addresses, n.annotated, n.labels, n.status = nil, nil, nil, nil
	c.routes.DeleteNode(name)
	c.touchNode(n)
	c.nodeCounts(n)
	c.dropNode(n)
}

// nodeCounts notes that a node began or ceased to count: among those that must enforce policies, and among those that
// must acknowledge.
func (c *Cluster) nodeCounts(n *node) {
	for p := range n.required {
		c.dirtyPolicies[p.compiled.Ref] = struct{}{}
	}
	c.pending.nodes[n] = struct{}{}
	c.countAcknowledgement(n)
	c.demandChanged = true
}

// nodeAddresses are the node's own addresses, at most one of each family, IPv4 first.
func nodeAddresses(o *corev1.Node) []string {
	var v4, v6 netip.Addr
	for _, a := range o.Status.Addresses {
		addr, err := netip.ParseAddr(a.Address)
		if a.Type != corev1.NodeInternalIP || err != nil {
			continue
		}
		if addr = addr.Unmap(); addr.Is4() && !v4.IsValid() {
			v4 = addr
		} else if addr.Is6() && !v6.IsValid() {
			v6 = addr
		}
	}
	if addr, ok := annotatedAddress(o, annotationIPv4Address); ok {
		v4 = addr
	}
	if addr, ok := annotatedAddress(o, annotationIPv6Address); ok {
		v6 = addr
	}
	var out []string
	for _, addr := range [2]netip.Addr{v4, v6} {
		if addr.IsValid() {
			out = append(out, addr.String())
		}
	}
	return out
}

// annotatedAddresses are the addresses with a prefix length that a node's annotations give.
func annotatedAddresses(o *corev1.Node) []string {
	var out []string
	for _, annotation := range [2]string{annotationIPv4Address, annotationIPv6Address} {
		if p, err := netip.ParsePrefix(o.Annotations[annotation]); err == nil {
			out = append(out, p.String())
		}
	}
	return out
}

// statusAddresses are all addresses of a node, in order.
func statusAddresses(o *corev1.Node) []netip.Addr {
	var out []netip.Addr
	for _, a := range o.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil {
			out = append(out, addr.Unmap())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// sends are the addresses from which a node sends: those of its Node object, and of its ends of tunnels.
func (n *node) sends() []netip.Addr {
	out := slices.Clone(n.status)
	for _, end := range n.tunnelEnds() {
		if addr, err := netip.ParseAddr(end.Address); err == nil {
			out = append(out, addr)
		}
	}
	return out
}

// touchSetsOf looks again at the sets of nodes that a node is in.
func (c *Cluster) touchSetsOf(n *node) {
	for s := range c.nodeSets.Selectors(n) {
		c.touch(KindSetCatalog, s.shard.name)
	}
}

// observeNodeState takes in a NodeState as it is in the API: what was written, and the agent's word.
func (c *Cluster) observeNodeState(o *v1alpha1.NodeState) {
	n := c.node(o.Name)
	before := n.state
	n.state = o
	if before == nil || before.Generation != o.Generation || o.Generation == 0 {
		n.listed, n.listedHosts = nil, nil
		c.pending.compare[Key{KindNodeState, n.name}] = struct{}{}
	}
	holds := holdingsOf(o.Status.Endpoints)
	if !sameHoldings(holds, n.holds) {
		c.touch(KindNodeEndpoints, n.name)
		if anyExternal(holds) || anyExternal(n.holds) {
			c.touch(KindNodeNetwork, n.name)
		}
		c.floatingHeld(n, n.holds, holds)
	}
	n.holds = holds
	var told v1alpha1.NodeStateStatus
	if before != nil {
		told = before.Status
	}
	if !slices.Equal(told.NodeAddresses, o.Status.NodeAddresses) || !slices.Equal(told.Tunnels, o.Status.Tunnels) {
		c.touch(KindNodeNetwork, n.name)
	}
	if !slices.Equal(told.Tunnels, o.Status.Tunnels) {
		c.touchSetsOf(n)
	}
	if !slices.Equal(n.failures, o.Status.Failures) {
		c.failuresChanged(n, n.failures, o.Status.Failures)
		n.failures = o.Status.Failures
	}
	if before == nil || !maps.Equal(before.Status.Applied, o.Status.Applied) {
		c.countAcknowledgement(n)
	}
	c.pending.nodes[n] = struct{}{}
}

func (c *Cluster) forgetNodeState(name string) {
	n := c.nodes[name]
	if n == nil {
		return
	}
	c.floatingHeld(n, n.holds, nil)
	if len(n.tunnelEnds()) > 0 {
		c.touchSetsOf(n)
	}
	n.state, n.listed, n.listedHosts, n.holds = nil, nil, nil, nil
	c.failuresChanged(n, n.failures, nil)
	n.failures = nil
	c.touchNode(n)
	c.nodeCounts(n)
	c.dropNode(n)
}

// observeNodeNetwork takes in a NodeNetwork as it is in the API; nil when it is gone.
func (c *Cluster) observeNodeNetwork(name string, o *v1alpha1.NodeNetwork) {
	n := c.node(name)
	n.network = o
	c.pending.compare[Key{KindNodeNetwork, name}] = struct{}{}
	c.dropNode(n)
}

// applied is the version up to which the node has put objects of a kind into effect.
func (n *node) applied(kind Kind) string {
	if n.state == nil {
		return ""
	}
	return n.state.Status.Applied[string(kind)]
}

// addressesOf are the addresses that an endpoint of the node holds: the node says so of pods, the user of host endpoints.
func (n *node) addressesOf(e *endpoint) []string {
	if e.host != nil {
		return e.host.addresses
	}
	held, ok := n.holds.of(e.id)
	if !ok || (held.UID != e.uid && held.UID != "") {
		return nil
	}
	return held.Addresses
}

func anyExternal(holds holdings) bool {
	return slices.ContainsFunc(holds, func(held v1alpha1.EndpointStatus) bool { return held.AnyExternal() })
}

// externalAddresses are those that IPAM plugins gave to the node's pods: the CIDRs among those allotted to the node in which there are some,
// in order, and those that lie outside them, in no order.
func (n *node) externalAddresses() (cidrs []netip.Prefix, others []netip.Addr) {
	var allotted []netip.Prefix
	for _, text := range n.podCIDRs {
		if cidr, err := netip.ParsePrefix(text); err == nil {
			allotted = append(allotted, cidr.Masked())
		}
	}
	for _, held := range n.holds {
		if !held.AnyExternal() {
			continue
		}
		var given []netip.Addr
		for _, iface := range held.Interfaces() {
			if iface.External {
				given = append(given, parseAddresses(iface.Addresses)...)
			}
		}
		for _, addr := range given {
			i := slices.IndexFunc(allotted, func(p netip.Prefix) bool { return p.Contains(addr) })
			switch {
			case i < 0:
				others = append(others, addr)
			case !slices.Contains(cidrs, allotted[i]):
				cidrs = append(cidrs, allotted[i])
			}
		}
	}
	slices.SortFunc(cidrs, comparePrefixes)
	return cidrs, others
}

// Demand returns how many endpoints each node has, for leasing blocks. A node without endpoints counts 0.
func (c *Cluster) Demand() map[string]int {
	out := make(map[string]int, len(c.nodes))
	for name, n := range c.nodes {
		if n.exists {
			out[name] = len(n.endpoints)
		}
	}
	c.demandChanged = false
	return out
}

// Present counts, by node, which of some endpoints there are.
func (c *Cluster) Present(endpoints map[string][]v1alpha1.EndpointStatus) map[string]int {
	out := map[string]int{}
	for name, list := range endpoints {
		n := c.nodes[name]
		if n == nil {
			continue
		}
		for i := range list {
			if e := n.endpoints[list[i].ID]; e != nil && e.uid == list[i].UID {
				out[name]++
			}
		}
	}
	return out
}

// Bound tells to which of some nodes, whether they exist or not, pods are bound that have a network of their own and have not ended.
func (c *Cluster) Bound(nodes map[string]bool) map[string]bool {
	out := map[string]bool{}
	for name := range nodes {
		if n := c.nodes[name]; n != nil && len(n.endpoints) > 0 {
			out[name] = true
		}
	}
	return out
}

// DemandChanged tells whether what Demand returns may have changed since it was last called.
func (c *Cluster) DemandChanged() bool { return c.demandChanged }
