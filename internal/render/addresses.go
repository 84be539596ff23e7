package render

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// Annotations on pods and namespaces that say which addresses pods get.
const (
	annotationIPv4Pools = "cni.projectcalico.org/ipv4pools"
	annotationIPv6Pools = "cni.projectcalico.org/ipv6pools"
	annotationAddresses = "cni.projectcalico.org/ipAddrs"
)

// addressWishes are the values of these annotations.
type addressWishes struct{ v4Pools, v6Pools, addresses string }

func wishesOf(annotations map[string]string) addressWishes {
	return addressWishes{annotations[annotationIPv4Pools], annotations[annotationIPv6Pools], annotations[annotationAddresses]}
}

// request says which addresses an endpoint may get: what the pod asks for counts before what its namespace does.
func (c *Cluster) request(e *endpoint) v1alpha1.AddressRequest {
	var out v1alpha1.AddressRequest
	if e.wishes.addresses != "" {
		var list []string
		if err := json.Unmarshal([]byte(e.wishes.addresses), &list); err != nil || len(list) == 0 {
			return impossible("annotation %s: %q is no JSON list of addresses: write it like [\"10.48.0.7\"]", annotationAddresses, e.wishes.addresses)
		}
		for _, text := range list {
			addr, err := netip.ParseAddr(strings.TrimSpace(text))
			if err != nil {
				return impossible("annotation %s: %q is no IP address: write it like [\"10.48.0.7\"]", annotationAddresses, text)
			}
			if !slices.Contains(out.Fixed, addr.String()) {
				out.Fixed = append(out.Fixed, addr.String())
			}
		}
		return out
	}
	wishes := e.wishes
	if wishes.v4Pools == "" && wishes.v6Pools == "" {
		wishes = wishesOf(e.namespace.annotations())
	}
	for _, wish := range [2]struct{ annotation, text string }{{annotationIPv4Pools, wishes.v4Pools}, {annotationIPv6Pools, wishes.v6Pools}} {
		pools, problem := c.namedPools(wish.annotation, wish.text)
		if problem != "" {
			return v1alpha1.AddressRequest{Impossible: problem}
		}
		for _, p := range pools {
			if !slices.Contains(out.Pools, p) {
				out.Pools = append(out.Pools, p)
			}
		}
	}
	if len(out.Pools) == 0 {
		pools, problem := c.automaticPools(e.node)
		return v1alpha1.AddressRequest{Pools: pools, Impossible: problem}
	}
	return out
}

// impossible is a request that can't be met: the pod gets no address, and is told why.
func impossible(format string, args ...any) v1alpha1.AddressRequest {
	return v1alpha1.AddressRequest{Impossible: fmt.Sprintf(format, args...)}
}

// automaticPools are those from which a pod that names none gets its addresses: none listed, any of the node's blocks,
// as long as the node has no block of a pool that must be named. A pool of which the node has no block would fail the
// pod, and is left out.
func (c *Cluster) automaticPools(n *node) (pools []string, problem string) {
	var automatic []string
	manual := false
	for _, b := range n.leased() {
		cidr := c.poolOf(b)
		if c.isManual(cidr) {
			manual = true
		} else if !slices.Contains(automatic, cidr) {
			automatic = append(automatic, cidr)
		}
	}
	switch {
	case !manual:
		return nil, ""
	case len(automatic) == 0:
		return nil, "the node has blocks only of pools with assignmentMode Manual: name one of them in annotation " + annotationIPv4Pools +
			", or make a pool that gives addresses to pods that name none"
	}
	return automatic, ""
}

func (c *Cluster) isManual(cidr string) bool {
	for _, p := range c.pools {
		if p.manual && p.cidr.String() == cidr {
			return true
		}
	}
	return false
}

// lease is a block as the node gets to know it. Of a pool that is disabled, all addresses are kept back.
func (c *Cluster) lease(block netip.Prefix) v1alpha1.BlockLease {
	l := v1alpha1.BlockLease{CIDR: block.String(), Pool: c.poolOf(block)}
	for _, p := range c.pools {
		if p.disabled && p.cidr.String() == l.Pool {
			l.Reserved = []string{l.CIDR}
		}
	}
	return l
}

// namedPools are the CIDRs of the pools in a list of names and CIDRs, or what is wrong with the list.
func (c *Cluster) namedPools(annotation, text string) (pools []string, problem string) {
	if text == "" {
		return nil, ""
	}
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) == 0 {
		return nil, fmt.Sprintf("annotation %s: %q is no JSON list of pools: write it like [\"default-ipv4-ippool\"]", annotation, text)
	}
	for _, name := range list {
		if p, ok := c.pools[name]; ok {
			pools = append(pools, p.cidr.String())
		} else if cidr, err := netip.ParsePrefix(name); err == nil {
			pools = append(pools, cidr.Masked().String())
		}
	}
	if len(pools) == 0 {
		return nil, fmt.Sprintf("annotation %s: there is no IPPool %s: name one of kubectl get ippools", annotation, strings.Join(list, ", "))
	}
	return pools, ""
}

// pool is an address pool.
type pool struct {
	cidr netip.Prefix
	nat  bool
	// disabled: no new addresses. manual: addresses only for pods that name the pool.
	disabled, manual bool
}

func (c *Cluster) setPool(o *v3.IPPool) {
	cidr, err := netip.ParsePrefix(o.Spec.CIDR)
	if err != nil {
		c.deletePool(o.Name)
		return
	}
	p := pool{cidr: cidr.Masked(), nat: o.Spec.NATOutgoing, disabled: o.Spec.Disabled, manual: o.Spec.AssignmentMode == v3.AssignmentManual}
	if c.pools[o.Name] != p {
		c.pools[o.Name] = p
		c.touchNodeStates()
	}
}

func (c *Cluster) deletePool(name string) {
	if _, ok := c.pools[name]; ok {
		delete(c.pools, name)
		c.touchNodeStates()
	}
}

// touchNodeStates notes a change that every node has to know.
func (c *Cluster) touchNodeStates() {
	for name := range c.nodes {
		c.touch(KindNodeState, name)
	}
}

// renderPools are all pools, in order of their CIDRs. Should two pools have one CIDR, it is masqueraded if either says so.
func (c *Cluster) renderPools() []v1alpha1.Pool {
	all := make([]pool, 0, len(c.pools))
	for _, p := range c.pools {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b pool) int { return comparePrefixes(a.cidr, b.cidr) })
	var out []v1alpha1.Pool
	for i, p := range all {
		if i > 0 && all[i-1].cidr == p.cidr {
			out[len(out)-1].NATOutgoing = out[len(out)-1].NATOutgoing || p.nat
			continue
		}
		out = append(out, v1alpha1.Pool{CIDR: p.cidr.String(), NATOutgoing: p.nat})
	}
	return out
}

// poolOf is the CIDR of the smallest pool that holds a block. When its pool is gone the block is a pool of its own, so that
// the node keeps the addresses that are in use.
func (c *Cluster) poolOf(block netip.Prefix) string {
	var best netip.Prefix
	for _, p := range c.pools {
		if p.cidr.Bits() <= block.Bits() && p.cidr.Contains(block.Addr()) && (!best.IsValid() || p.cidr.Bits() > best.Bits()) {
			best = p.cidr
		}
	}
	if !best.IsValid() {
		best = block
	}
	return best.String()
}

// felixSettings are the settings of agents.
type felixSettings = v1alpha1.AgentSettings

func felixOf(spec *v3.FelixConfigurationSpec) felixSettings {
	var out felixSettings
	for _, action := range [3]string{"Drop", "Accept", "Return"} {
		if strings.EqualFold(spec.DefaultEndpointToHostAction, action) {
			out.EndpointToHostAction = action
		}
	}
	if spec.VXLANPort != nil {
		out.VXLANPort = int32(*spec.VXLANPort)
	}
	out.AllowVXLANFromPods = spec.AllowVXLANPacketsFromWorkloads != nil && *spec.AllowVXLANPacketsFromWorkloads
	out.AllowIPIPFromPods = spec.AllowIPIPPacketsFromWorkloads != nil && *spec.AllowIPIPPacketsFromWorkloads
	return out
}

func (c *Cluster) setFelix(s felixSettings) {
	if !same(c.felix, s) {
		c.felix = s
		c.touchNodeStates()
	}
}
