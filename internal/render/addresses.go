package render

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
)

// Annotations on pods and namespaces that say which addresses pods get.
const (
	annotationIPv4Pools = "cni.projectcalico.org/ipv4pools"
	annotationIPv6Pools = "cni.projectcalico.org/ipv6pools"
	annotationAddresses = "cni.projectcalico.org/ipAddrs"
	annotationFloating  = "cni.projectcalico.org/floatingIPs"
	annotationUnmanaged = "cni.projectcalico.org/ipAddrsNoIpam"
	annotationMAC       = "cni.projectcalico.org/hwAddr"
)

// addressWishes are the values of these annotations.
type addressWishes struct{ v4Pools, v6Pools, addresses, floating, unmanaged, mac string }

func wishesOf(annotations map[string]string) addressWishes {
	return addressWishes{
		annotations[annotationIPv4Pools], annotations[annotationIPv6Pools], annotations[annotationAddresses], annotations[annotationFloating],
		annotations[annotationUnmanaged], annotations[annotationMAC],
	}
}

// request says which addresses an endpoint may get: what the pod asks for counts before what its namespace does, for each
// family on its own, and both before the pools that serve every pod.
func (c *Cluster) request(e *endpoint) v1alpha1.AddressRequest {
	if problem := c.floatingMistake(e); problem != "" {
		return v1alpha1.AddressRequest{Impossible: problem}
	}
	if _, problem := e.bandwidth.render(); problem != "" {
		return v1alpha1.AddressRequest{Impossible: problem}
	}
	if _, problem := e.packets.render(); problem != "" {
		return v1alpha1.AddressRequest{Impossible: problem}
	}
	if _, problem := hardwareAddress(e.wishes.mac); problem != "" {
		return v1alpha1.AddressRequest{Impossible: problem}
	}
	if e.wishes.unmanaged != "" {
		return c.unmanagedRequest(e)
	}
	if e.wishes.addresses != "" {
		return c.fixed(e.wishes.addresses)
	}
	if c.podCIDRs {
		return c.podCIDRRequest(e)
	}
	inherited := wishesOf(e.namespace.annotations())
	v4, problem := c.namedPools(annotationIPv4Pools, e.wishes.v4Pools, inherited.v4Pools, e.namespace)
	if problem != "" {
		return v1alpha1.AddressRequest{Impossible: problem}
	}
	v6, problem := c.namedPools(annotationIPv6Pools, e.wishes.v6Pools, inherited.v6Pools, e.namespace)
	if problem != "" {
		return v1alpha1.AddressRequest{Impossible: problem}
	}
	if len(v4)+len(v6) == 0 {
		pools, problem := c.automaticPools(e.node, e.namespace)
		return v1alpha1.AddressRequest{Pools: pools, Impossible: problem, Unserved: problem != ""}
	}
	out := v1alpha1.AddressRequest{NamedIPv4: len(v4) > 0, NamedIPv6: len(v6) > 0}
	// A family of which the annotations say nothing comes from the pools that serve every pod.
	for _, cidr := range c.servingPools(e.node, e.namespace) {
		if is4 := cidr.Addr().Is4(); is4 && len(v4) == 0 || !is4 && len(v6) == 0 {
			v6 = append(v6, cidr.String())
		}
	}
	out.Pools = slices.Concat(v4, v6)
	return out
}

// fixed is the request for the addresses of an annotation, and no others.
func (c *Cluster) fixed(text string) v1alpha1.AddressRequest {
	var out v1alpha1.AddressRequest
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) == 0 {
		return impossible("annotation %s: %q is no JSON list of addresses: write it like [\"10.48.0.7\"]", annotationAddresses, text)
	}
	for _, text := range list {
		addr, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return impossible("annotation %s: %q is no IP address: write it like [\"10.48.0.7\"]", annotationAddresses, text)
		}
		addr = addr.Unmap()
		name, p := c.poolAt(addr)
		switch {
		case p == nil:
			return impossible("annotation %s: address %s lies outside every IPPool: choose one inside a pool, see kubectl get ippools", annotationAddresses, addr)
		case p.disabled:
			return impossible("annotation %s: address %s lies in IPPool %s, which is disabled: choose another, or set disabled: false", annotationAddresses, addr, name)
		case !p.forPods:
			return impossible("annotation %s: address %s lies in IPPool %s, whose allowedUses leave out Workload: choose another", annotationAddresses, addr, name)
		}
		if !slices.Contains(out.Fixed, addr.String()) {
			out.Fixed = append(out.Fixed, addr.String())
		}
	}
	return out
}

// impossible is a request that can't be met: the pod gets no address, and is told why.
func impossible(format string, args ...any) v1alpha1.AddressRequest {
	return v1alpha1.AddressRequest{Impossible: fmt.Sprintf(format, args...)}
}

// automaticPools are those from which a pod that names none gets its addresses: none listed, any of the node's blocks,
// as long as the node has no block of a pool that does not serve the pod. A pool of which the node has no block would fail the
// pod, and is left out.
func (c *Cluster) automaticPools(n *node, ns *namespace) (pools []string, problem string) {
	serving := c.servingPools(n, ns)
	var automatic []string
	// Of a pool for some namespaces the node has a block only once a pod asks for it.
	others := c.anyNamespaced(serving)
	for _, b := range n.usable() {
		cidr, known := c.poolHolding(b)
		if !known || !slices.Contains(serving, cidr) {
			others = true
		} else if !slices.Contains(automatic, cidr.String()) {
			automatic = append(automatic, cidr.String())
		}
	}
	switch {
	case !others:
		return nil, ""
	case len(automatic) > 0 && !c.anyNamespaced(serving):
		return automatic, ""
	case len(serving) > 0:
		automatic = nil
		for _, cidr := range serving {
			automatic = append(automatic, cidr.String()) // the node gets a block of one of each family's
		}
		return automatic, ""
	}
	return nil, fmt.Sprintf("no enabled IPPool with assignmentMode Automatic serves namespace %s on node %s: name a pool in annotation %s, or make one whose selectors match",
		ns.name, n.name, annotationIPv4Pools)
}

// servingPools are the pools from which the pods of a namespace on a node get addresses unasked, in order.
func (c *Cluster) servingPools(n *node, ns *namespace) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range c.pools {
		if p.serves(n, ns) && !slices.Contains(out, p.cidr) {
			out = append(out, p.cidr)
		}
	}
	slices.SortFunc(out, comparePrefixes)
	return out
}

// namedPools are the CIDRs of the pools in a list of names and CIDRs, or what is wrong with the list. Who names a pool
// gets addresses from it whatever its selectors say. A pod that says nothing goes by its namespace.
func (c *Cluster) namedPools(annotation, text, inherited string, ns *namespace) (pools []string, problem string) {
	where := annotation
	if text == "" && inherited != "" {
		text, where = inherited, annotation+" of namespace "+ns.name
	}
	if text == "" {
		return nil, ""
	}
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) == 0 {
		return nil, fmt.Sprintf("annotation %s: %q is no JSON list of pools: write it like [\"default-ipv4-ippool\"]", where, text)
	}
	for _, name := range list {
		p := c.poolNamed(name)
		switch {
		case p == nil:
			return nil, fmt.Sprintf("annotation %s: there is no IPPool %s: name one of kubectl get ippools", where, name)
		case p.cidr.Addr().Is4() != (annotation == annotationIPv4Pools):
			return nil, fmt.Sprintf("annotation %s: IPPool %s (%s) is of the other family: name it in %s", where, name, p.cidr, otherFamily(annotation))
		case p.disabled:
			return nil, fmt.Sprintf("annotation %s: IPPool %s is disabled: name another, or set disabled: false", where, name)
		case !p.forPods:
			return nil, fmt.Sprintf("annotation %s: the allowedUses of IPPool %s leave out Workload: name another", where, name)
		}
		if !slices.Contains(pools, p.cidr.String()) {
			pools = append(pools, p.cidr.String())
		}
	}
	return pools, ""
}

func otherFamily(annotation string) string {
	if annotation == annotationIPv4Pools {
		return annotationIPv6Pools
	}
	return annotationIPv4Pools
}
