package render

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
)

// maxFloating bounds the floating addresses of one pod.
const maxFloating = 16

// floatingAddress is an address that pods ask for as a floating one.
type floatingAddress struct {
	claims map[*endpoint]struct{}
	// holders are pods that have it as an address of their own, by node.
	holders map[string]string
}

// addressList reads an annotation with addresses, in order and each once, or tells what is wrong with it.
func addressList(annotation, text string, most int) (addrs []netip.Addr, problem string) {
	if text == "" {
		return nil, ""
	}
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Sprintf("annotation %s: %q is no JSON list of addresses: write it like [\"10.50.0.7\"]", annotation, text)
	}
	if len(list) > most {
		return nil, fmt.Sprintf("annotation %s: has %d addresses: name %d at most", annotation, len(list), most)
	}
	for _, text := range list {
		addr, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil || addr.Zone() != "" || !addr.Unmap().IsGlobalUnicast() {
			return nil, fmt.Sprintf("annotation %s: %q is no IP address that a pod can have: write it like [\"10.50.0.7\"]", annotation, text)
		}
		addrs = append(addrs, addr.Unmap())
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), ""
}

// floatingMistake is what is wrong with the pod's annotation, whoever else asks for its addresses.
func (c *Cluster) floatingMistake(e *endpoint) string {
	_, problem := addressList(annotationFloating, e.wishes.floating, maxFloating)
	if problem != "" || !c.hasFloating(e.node) {
		return problem
	}
	for _, addr := range e.floating {
		if _, p := c.poolAt(addr); p == nil {
			return fmt.Sprintf("annotation %s: address %s lies outside every IPPool: choose one inside a pool, see kubectl get ippools", annotationFloating, addr)
		}
	}
	return ""
}

func (c *Cluster) hasFloating(n *node) bool {
	f := c.felixFor(n)
	return f.floats()
}

// claimFloating takes in which floating addresses a pod asks for now.
func (c *Cluster) claimFloating(e *endpoint) {
	next, _ := addressList(annotationFloating, e.wishes.floating, maxFloating) // what is wrong with it is told to the pod
	for _, addr := range e.floating {
		if !slices.Contains(next, addr) {
			c.unclaimFloating(e, addr)
		}
	}
	for _, addr := range next {
		f := c.floating[addr]
		if f == nil {
			f = &floatingAddress{claims: map[*endpoint]struct{}{}, holders: map[string]string{}}
			c.floating[addr] = f
			for _, n := range c.nodes { // for a new one all pods are looked at; from then on, those that change
				f.lookAt(n.name, n.holds, addr.String())
			}
		}
		f.claims[e] = struct{}{}
		c.touchFloatingAddress(addr, f)
	}
	e.floating = next
}

func (c *Cluster) releaseFloating(e *endpoint) {
	for _, addr := range e.floating {
		c.unclaimFloating(e, addr)
	}
	e.floating = nil
}

func (c *Cluster) unclaimFloating(e *endpoint, addr netip.Addr) {
	f := c.floating[addr]
	c.touchFloatingAddress(addr, f)
	delete(f.claims, e)
	if len(f.claims) == 0 {
		delete(c.floating, addr)
	}
}

// lookAt notes which pod of a node has the address as its own.
func (f *floatingAddress) lookAt(node string, holds holdings, addr string) {
	delete(f.holders, node)
	for i := range holds {
		if slices.Contains(holds[i].Addresses, addr) {
			f.holders[node] = holds[i].ID
			return
		}
	}
}

// floatingHeld takes note that pods of a node have other addresses than before.
func (c *Cluster) floatingHeld(n *node, before, after holdings) {
	if len(c.floating) == 0 {
		return
	}
	changed := map[string]bool{}
	for _, holds := range [2]holdings{before, after} {
		for i := range holds {
			for _, addr := range holds[i].Addresses {
				changed[addr] = true
			}
		}
	}
	for addr, f := range c.floating {
		if text := addr.String(); changed[text] {
			was := f.holders[n.name]
			f.lookAt(n.name, after, text)
			if f.holders[n.name] != was {
				c.touchFloatingAddress(addr, f)
			}
		}
	}
}

// touchFloatingAddress notes a change that concerns who asks for an address, and the node in whose block it lies.
func (c *Cluster) touchFloatingAddress(addr netip.Addr, f *floatingAddress) {
	for e := range f.claims {
		c.touch(KindNodeState, e.node.name)
		c.touch(KindNodeNetwork, e.node.name)
	}
	for _, b := range c.blocks {
		if b.Block.Contains(addr) {
			c.touch(KindNodeState, b.Node)
		}
	}
}

// touchFloating notes a change that concerns all floating addresses.
func (c *Cluster) touchFloating() {
	for addr, f := range c.floating {
		c.touchFloatingAddress(addr, f)
	}
}

// floatingOwner is the pod whose floating address it is: of several that ask for it, the first by ID. Nobody's is one outside
// the pools, and one that a pod has as its own. Otherwise the problem tells e why it does not get it.
func (c *Cluster) floatingOwner(e *endpoint, addr netip.Addr) (owner *endpoint, problem string) {
	f := c.floating[addr]
	if len(f.holders) > 0 {
		holder := slices.Sorted(maps.Values(f.holders))[0]
		return nil, fmt.Sprintf("annotation %s: address %s is pod %s's own: choose another, best from a pool with assignmentMode: Manual", annotationFloating, addr, holder)
	}
	if _, p := c.poolAt(addr); p == nil {
		return nil, c.floatingMistake(e)
	}
	for other := range f.claims {
		if c.hasFloating(other.node) && (owner == nil || other.id < owner.id) {
			owner = other
		}
	}
	switch {
	case !c.hasFloating(e.node):
		return owner, fmt.Sprintf("annotation %s: floating addresses are disabled: set floatingIPs: Enabled in FelixConfiguration default", annotationFloating)
	case owner != e:
		return owner, fmt.Sprintf("annotation %s: address %s is pod %s's already: choose another, or wait until that pod is gone", annotationFloating, addr, owner.id)
	}
	return owner, ""
}

// renderFloating are the floating addresses of a pod.
func (c *Cluster) renderFloating(e *endpoint) []v1alpha1.FloatingAddress {
	var out []v1alpha1.FloatingAddress
	for _, addr := range e.floating {
		_, problem := c.floatingOwner(e, addr)
		out = append(out, v1alpha1.FloatingAddress{Address: addr.String(), Problem: problem})
	}
	return out
}

// singleOn are the single addresses that lie behind a node beside its blocks, in order: floating ones, those without address
// management, and some that IPAM plugins gave.
func (c *Cluster) singleOn(n *node, given []netip.Addr) []string {
	addrs := slices.Clone(given)
	for _, e := range n.endpoints {
		for _, addr := range e.floating {
			if owner, _ := c.floatingOwner(e, addr); owner == e {
				addrs = append(addrs, addr)
			}
		}
		if c.unmanaged && e.wishes.unmanaged != "" && c.request(e).Impossible == "" {
			own, _ := addressList(annotationUnmanaged, e.wishes.unmanaged, maxUnmanaged)
			addrs = append(addrs, own...)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	var out []string
	for _, addr := range slices.Compact(addrs) {
		out = append(out, addr.String())
	}
	return out
}

// floatingIn are the floating addresses of pods within a block: the node of the block does not give them to pods unasked.
func (c *Cluster) floatingIn(block netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for addr, f := range c.floating {
		if !block.Contains(addr) {
			continue
		}
		for e := range f.claims {
			if c.hasFloating(e.node) {
				out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
				break
			}
		}
	}
	return out
}
