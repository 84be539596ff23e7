package agent

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cni/protocol"
)

// network is what the node's network configuration (CNI) says of addresses.
type network struct {
	// pools that the ADDs of pods brought, by endpoint; Options.Pools counts for the others.
	pools map[string]*protocol.Pools
	// manner of those owners whose addresses another plugin gave.
	manner map[owner]manner
	// asks are the pools that pods take addresses from because of it.
	asks []v1alpha1.PoolsAsk
}

// heedNetwork takes over what an ADD's network configuration says. A pod that has addresses which it would not get now, and no container,
// gets others.
func (a *Agent) heedNetwork(w *waiter) {
	id := w.endpoint()
	if len(w.request.Given) > 0 || a.interfaceOf(w) != "" {
		a.pending.addresses = true
		return
	}
	if w.request.Pools != nil {
		a.network.pools[id] = w.request.Pools
	}
	e := a.namedEndpoint(id)
	if e == nil {
		return
	}
	held, ok := a.held[first(id, string(e.UID))]
	if !ok {
		a.pending.addresses = true
		return
	}
	request, changed, err := a.requestFor(e)
	if err == nil && (!changed || fits(held, request.Pools)) {
		return
	}
	dropped, err := a.Addresses.Drop(id, string(e.UID))
	if err != nil {
		a.Log.Error("addresses of a pod that is to get others were not freed", "pod", id, "error", err)
	}
	if !dropped {
		return // a pod's addresses do not change while it has a container
	}
	a.pending.addresses = true
	if err := a.lookAtAddresses(); err != nil {
		a.Log.Error("addresses in use are not known", "error", err)
	}
}

// fits tells whether addresses are one of each family of some pools, and no others.
func fits(held []netip.Addr, pools []string) bool {
	var cidrs []netip.Prefix
	for _, text := range pools {
		cidr, err := netip.ParsePrefix(text)
		if err != nil || !slices.ContainsFunc(held, func(a netip.Addr) bool { return a.Is4() == cidr.Addr().Is4() }) {
			return false
		}
		cidrs = append(cidrs, cidr)
	}
	return !slices.ContainsFunc(held, func(a netip.Addr) bool {
		return !slices.ContainsFunc(cidrs, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

// namedEndpoint is the endpoint as the node's state has it; nil: it does not name it.
func (a *Agent) namedEndpoint(id string) *v1alpha1.Endpoint {
	if a.nodeState == nil {
		return nil
	}
	endpoints := a.nodeState.Spec.Endpoints // in order of ID
	i, ok := slices.BinarySearchFunc(endpoints, id, func(e v1alpha1.Endpoint, id string) int { return strings.Compare(e.ID, id) })
	if !ok {
		return nil
	}
	return &endpoints[i]
}

// poolsOf is what the network configuration says for an endpoint.
func (a *Agent) poolsOf(id string) *protocol.Pools {
	if p, ok := a.network.pools[id]; ok {
		return p
	}
	return a.Pools
}

// requestFor says which addresses an endpoint may get: what it, or its namespace, names by annotations, then what the network
// configuration names, then the pools that serve every pod. changed: the network configuration makes a difference.
func (a *Agent) requestFor(e *v1alpha1.Endpoint) (request v1alpha1.AddressRequest, changed bool, err error) {
	return a.requestWith(e.Addresses, a.poolsOf(e.ID))
}

// requestWith is requestFor with a network configuration that says p.
func (a *Agent) requestWith(wanted v1alpha1.AddressRequest, p *protocol.Pools) (request v1alpha1.AddressRequest, changed bool, err error) {
	request = wanted
	if p.Silent() || len(request.Fixed) > 0 || request.Impossible != "" && !request.Unserved {
		return request, false, nil
	}
	before, ofBlocks := request.Pools, a.poolsOfBlocks()
	request.Pools = nil
	for _, f := range []struct {
		member     string
		named, off bool
		pools      []string
		is4        bool
	}{{"ipv4_pools", request.NamedIPv4, p.NoIPv4, p.IPv4, true}, {"ipv6_pools", request.NamedIPv6, p.NoIPv6, p.IPv6, false}} {
		family := func(list []string) []string {
			return slices.DeleteFunc(slices.Clone(list), func(text string) bool {
				cidr, err := netip.ParsePrefix(text)
				return err != nil || cidr.Addr().Is4() != f.is4
			})
		}
		switch {
		case f.off:
		case !f.named && len(f.pools) > 0:
			cidrs, err := a.poolsNamed(f.member, f.pools, f.is4)
			if err != nil {
				return request, true, err
			}
			request.Pools = append(request.Pools, cidrs...)
		case len(before) == 0:
			request.Pools = append(request.Pools, family(ofBlocks)...)
		default:
			request.Pools = append(request.Pools, family(before)...)
		}
	}
	if len(request.Pools) > 0 {
		request.Impossible, request.Unserved = "", false
	} else if request.Impossible == "" {
		err = fmt.Errorf("the ipam section of the network configuration leaves the pod no family of which the node has a block")
	}
	return request, true, err
}

// poolsOfBlocks are the pools of the node's blocks from which pods get addresses.
func (a *Agent) poolsOfBlocks() []string {
	var pools []string
	for i := range a.nodeState.Spec.Blocks {
		if b := &a.nodeState.Spec.Blocks[i]; !b.TunnelsOnly && !slices.Contains(pools, b.Pool) {
			pools = append(pools, b.Pool)
		}
	}
	return pools
}

// poolsNamed are the CIDRs of pools that a member of the network configuration names.
func (a *Agent) poolsNamed(member string, names []string, is4 bool) ([]string, error) {
	var cidrs []string
	for _, name := range names {
		cidr, err := netip.ParsePrefix(name)
		i := slices.IndexFunc(a.nodeState.Spec.Pools, func(p v1alpha1.Pool) bool {
			return slices.Contains(p.Names, name) || err == nil && p.CIDR == cidr.Masked().String()
		})
		if i < 0 {
			return nil, fmt.Errorf("network configuration, ipam.%s: there is no IPPool %s: name one of kubectl get ippools", member, name)
		}
		p := &a.nodeState.Spec.Pools[i]
		found, err := netip.ParsePrefix(p.CIDR)
		switch {
		case err != nil:
			return nil, fmt.Errorf("reading pool: %w", err)
		case found.Addr().Is4() != is4:
			return nil, fmt.Errorf("network configuration, ipam.%s: IPPool %s (%s) is of the other family", member, name, p.CIDR)
		case p.NotForPods != "":
			return nil, fmt.Errorf("network configuration, ipam.%s: IPPool %s %s: name another", member, name, p.NotForPods)
		}
		if !slices.Contains(cidrs, p.CIDR) {
			cidrs = append(cidrs, p.CIDR)
		}
	}
	return cidrs, nil
}

// givenByPlugins are the ADDs of first interfaces that wait with addresses of another plugin, by endpoint.
func (a *Agent) givenByPlugins() map[string]*waiter {
	var out map[string]*waiter
	for w := range a.waiters {
		if len(w.request.Given) == 0 || a.interfaceOf(w) != "" {
			continue
		}
		e := a.namedEndpoint(w.endpoint())
		if e == nil || w.request.PodUID != "" && w.request.PodUID != string(e.UID) {
			continue
		}
		if out == nil {
			out = map[string]*waiter{}
		}
		out[e.ID] = w
	}
	return out
}

// forgetPools drops what ADDs said of pods that are gone.
func (a *Agent) forgetPools(spec *v1alpha1.NodeStateSpec) {
	if len(a.network.pools) == 0 {
		return
	}
	known := make(map[string]bool, len(spec.Endpoints))
	for i := range spec.Endpoints {
		known[spec.Endpoints[i].ID] = true
	}
	for w := range a.waiters {
		known[w.endpoint()] = true
	}
	for id := range a.network.pools {
		if !known[id] {
			delete(a.network.pools, id)
		}
	}
}

// maxAsks bounds the lists of pools that the operator is told of.
const maxAsks = 32

// asks count the pods that want addresses from pools which the network configuration names, by the list of pools.
type asks map[string]*v1alpha1.PoolsAsk

func (x asks) add(a *Agent, e *v1alpha1.Endpoint, has bool) {
	p := a.poolsOf(e.ID)
	if a.ExternalIPAM || p.Silent() {
		return
	}
	request, changed, err := a.requestFor(e)
	if !changed || err != nil {
		return
	}
	x.count(p, &request, !has)
}

// count takes in that a pod is to have addresses as the network configuration says. lacks: it has none yet.
func (x asks) count(p *protocol.Pools, request *v1alpha1.AddressRequest, lacks bool) {
	for _, f := range []struct{ asked, is4 bool }{{len(p.IPv4) > 0 && !request.NamedIPv4, true}, {len(p.IPv6) > 0 && !request.NamedIPv6, false}} {
		if !f.asked {
			continue
		}
		var pools []string
		for _, text := range request.Pools {
			if cidr, err := netip.ParsePrefix(text); err == nil && cidr.Addr().Is4() == f.is4 {
				pools = append(pools, text)
			}
		}
		key := strings.Join(pools, " ")
		if x[key] == nil {
			if len(x) >= maxAsks {
				continue
			}
			x[key] = &v1alpha1.PoolsAsk{Pools: pools}
		}
		if lacks {
			x[key].Endpoints++
		}
	}
}

// list is in order of the pools.
func (x asks) list() []v1alpha1.PoolsAsk {
	var out []v1alpha1.PoolsAsk
	for _, ask := range x {
		out = append(out, *ask)
	}
	slices.SortFunc(out, func(a, b v1alpha1.PoolsAsk) int { return slices.Compare(a.Pools, b.Pools) })
	return out
}

func (a *Agent) networkStatus() *v1alpha1.NetworkStatus {
	if !a.ExternalIPAM && len(a.network.asks) == 0 {
		return nil
	}
	return &v1alpha1.NetworkStatus{External: a.ExternalIPAM, Asks: a.network.asks}
}

func sameAddresses(a, b []netip.Addr) bool {
	return slices.Equal(slices.SortedFunc(slices.Values(a), netip.Addr.Compare), slices.SortedFunc(slices.Values(b), netip.Addr.Compare))
}
