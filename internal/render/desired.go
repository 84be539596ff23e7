package render

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/ipam"
	"github.com/manul-net/manul/internal/parallel"
)

// Dirty returns the keys of rendered objects whose desired content may have changed since the last call, in the order
// in which they should be written.
func (c *Cluster) Dirty() []Key {
	c.flush()
	keys := slices.Collect(maps.Keys(c.dirty))
	c.dirty = emptied(c.dirty)
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Kind.rank(), b.Kind.rank()), strings.Compare(a.Name, b.Name))
	})
	return keys
}

// Desired returns the rendered object as it should be in the API (type, name and spec), or nil when it should not exist.
// The caller may keep it but not change it. It counts as handed out to be written.
func (c *Cluster) Desired(key Key) runtime.Object {
	obj := c.Content(key)
	switch o := obj.(type) {
	case *v1alpha1.SetCatalog:
		c.shards[key.Name].offer(&o.Spec)
	case *v1alpha1.NodeEndpoints:
		c.offerEndpoints(c.nodes[key.Name], &o.Spec)
	}
	return obj
}

// Settled notes that the writer found an object in the API as it was handed out last, and writes nothing.
func (c *Cluster) Settled(key Key) {
	switch key.Kind {
	case KindSetCatalog:
		if s := c.shards[key.Name]; s != nil && s.offered != nil && s.object != nil && Same(s.offered, &s.object.Spec) {
			s.offered = nil
			c.transition.shards[s] = struct{}{}
		}
	case KindNodeEndpoints:
		n := c.nodes[key.Name]
		if n == nil || n.offered.last == nil || n.endpointsObject == nil || !Same(n.offered.last, &n.endpointsObject.Spec) {
			return
		}
		before := n.named()
		n.offered = offered{}
		c.recount(before, n.named(), n.endpointsObject.ResourceVersion)
	case KindPolicyProgram, KindNodeState, KindNodeNetwork: // nothing waits for what these name
	}
}

// Contents is Content of many keys, worked out by several goroutines. An object does not depend on how many there are.
func (c *Cluster) Contents(keys []Key) []runtime.Object {
	c.flush()
	out := make([]runtime.Object, len(keys))
	parallel.Each(c.workers, len(keys), func(i int) { out[i] = c.content(keys[i]) })
	return out
}

// Content is Desired for whoever does not write: what nodes are told all at once, as it was at one moment, need not be taken into account
// while endpoints change identity.
func (c *Cluster) Content(key Key) runtime.Object {
	c.flush()
	return c.content(key)
}

// content may be asked for several keys at a time, but for each key once: lists of policies are made when they are first needed.
func (c *Cluster) content(key Key) runtime.Object {
	switch key.Kind {
	case KindSetCatalog:
		if s := c.shards[key.Name]; s != nil && len(s.sets) > 0 {
			return &v1alpha1.SetCatalog{TypeMeta: typeMeta(key), ObjectMeta: metav1.ObjectMeta{Name: key.Name}, Spec: s.render()}
		}
	case KindPolicyProgram:
		if p := c.programs[key.Name]; p != nil {
			return &v1alpha1.PolicyProgram{TypeMeta: typeMeta(key), ObjectMeta: metav1.ObjectMeta{Name: key.Name}, Spec: p.compiled.Program}
		}
	case KindNodeEndpoints:
		if n := c.nodes[key.Name]; n != nil && n.hasAgent() {
			return &v1alpha1.NodeEndpoints{TypeMeta: typeMeta(key), ObjectMeta: metav1.ObjectMeta{Name: key.Name}, Spec: n.renderEndpoints()}
		}
	case KindNodeNetwork:
		if n := c.nodes[key.Name]; n != nil && n.exists {
			return &v1alpha1.NodeNetwork{TypeMeta: typeMeta(key), ObjectMeta: metav1.ObjectMeta{Name: key.Name}, Spec: c.renderNetwork(n)}
		}
	case KindNodeState:
		if n := c.nodes[key.Name]; n != nil && n.hasAgent() {
			return &v1alpha1.NodeState{TypeMeta: typeMeta(key), ObjectMeta: metav1.ObjectMeta{Name: key.Name}, Spec: c.renderState(n)}
		}
	}
	return nil
}

func typeMeta(key Key) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: v1alpha1.GroupName + "/" + v1alpha1.Version, Kind: string(key.Kind)}
}

func (n *node) renderEndpoints() v1alpha1.NodeEndpointsSpec {
	var spec v1alpha1.NodeEndpointsSpec
	spec.Endpoints = slices.Grow(spec.Endpoints, len(n.endpoints)+len(n.hosts)) // and not by doubling: it stays
	for _, e := range sortedEndpoints(n.endpoints, n.hosts) {
		addresses := n.addressesOf(e)
		if len(addresses) == 0 {
			continue
		}
		spec.Endpoints = append(spec.Endpoints, v1alpha1.RemoteEndpoint{
			ID: e.id, Identities: e.identities(), Addresses: addresses, Ports: e.ports,
		})
	}
	spec.Count = int32(len(spec.Endpoints))
	return spec
}

func (c *Cluster) renderNetwork(n *node) v1alpha1.NodeNetworkSpec {
	spec := v1alpha1.NodeNetworkSpec{Addresses: n.addresses, Subnets: n.subnets(), Tunnels: n.tunnelEnds(), BGP: c.routes.Member(n.name)}
	for _, b := range n.leased() {
		spec.Blocks = append(spec.Blocks, b.Block.String())
	}
	cidrs, given := n.externalAddresses()
	for _, cidr := range cidrs {
		if !slices.Contains(spec.Blocks, cidr.String()) {
			spec.Blocks = append(spec.Blocks, cidr.String())
		}
	}
	for _, loan := range n.loans() {
		spec.Borrowed = append(spec.Borrowed, loan.Address.String())
	}
	spec.Single = c.singleOn(n, given)
	return spec
}

func (c *Cluster) renderState(n *node) v1alpha1.NodeStateSpec {
	felix := c.felixFor(n)
	spec := v1alpha1.NodeStateSpec{PodCIDRs: n.podCIDRs, Pools: c.renderPools(), BGP: c.routes.BGP(n.name), Inquiry: c.inquiryFor(n.name), Settings: c.agentSettings(n, &felix)}
	spec.Settings.IPAMCooldownSeconds = c.cooldown
	if n.exists {
		c.encapsulate(spec.Pools, &felix.tunnels)
		spec.Tunnels = c.tunnelsFor(n, &felix.tunnels, spec.Settings.VXLANPort)
	}
	for _, b := range n.leased() {
		spec.Blocks = append(spec.Blocks, c.lease(b))
	}
	for _, loan := range n.loans() {
		spec.Borrowed = append(spec.Borrowed, v1alpha1.BorrowedAddress{
			Address: loan.Address.String(), Pool: c.poolOf(netip.PrefixFrom(loan.Address, loan.Address.BitLen())),
			Recalled: loan.State == ipam.LoanRecalled, Revision: loan.Revision,
		})
	}
	for _, e := range sortedEndpoints(n.hosts) {
		spec.HostEndpoints = append(spec.HostEndpoints, c.renderHost(e))
	}
	spec.Endpoints = slices.Grow(spec.Endpoints, len(n.endpoints))
	for _, e := range sortedEndpoints(n.endpoints) {
		c.list(e)
		out := v1alpha1.Endpoint{
			ID: e.id, UID: e.uid, Identity: e.identity.id,
			Ingress: e.ingress, Egress: e.egress, Ports: e.ports, Addresses: c.request(e),
		}
		out.Floating = c.renderFloating(e)
		// What can't be read of these annotations is told in the address request, which stops the pod.
		out.Bandwidth, _ = e.bandwidth.render()
		out.Packets, _ = e.packets.render()
		out.HardwareAddress, _ = hardwareAddress(e.wishes.mac)
		if e.sourcePrefixes != "" && felix.letsSpoof() {
			out.SourcePrefixes = prefixesOf(e.sourcePrefixes)
		}
		spec.Endpoints = append(spec.Endpoints, out)
	}
	return spec
}
