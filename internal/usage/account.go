// Package usage accounts for addresses: how many each pool has, which of them are in use and by whom, and what does not fit
// together. It looks at what the API holds: pools, blocks and their affinities, and what nodes report.
package usage

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gaissmai/bart"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/ipam"
)

// Cluster is what the API holds. What is not needed for an answer may be left out.
type Cluster struct {
	Pools      []v3.IPPool
	Blocks     []v3.IPAMBlock
	Affinities []v3.BlockAffinity
	// Settings are those of the IPAMConfiguration that counts.
	Settings   v3.IPAMConfigurationSpec
	NodeStates []v1alpha1.NodeState
	// Endpoints are what nodes know of each other's pods. Nodes, Pods and Services are Kubernetes' own.
	Endpoints []v1alpha1.NodeEndpoints
	Nodes     []corev1.Node
	Pods      []corev1.Pod
	Services  []corev1.Service
}

// SettingsName is the name of the IPAMConfiguration that counts.
const SettingsName = "default"

// HolderKind is what holds an address.
type HolderKind string

// The kinds of holders.
const (
	// HolderPod is a pod; its name is "namespace/name".
	HolderPod HolderKind = "Pod"
	// HolderFloating is a pod that is reached by the address beside its own; its name is "namespace/name".
	HolderFloating HolderKind = "FloatingAddress"
	// HolderTunnel is a node's end of a tunnel; its name is the kind of the tunnel.
	HolderTunnel HolderKind = "Tunnel"
	// HolderService is a service of type LoadBalancer; its name is "namespace/name".
	HolderService HolderKind = "Service"
)

// Holder is who has an address.
type Holder struct {
	Kind HolderKind `json:"kind"`
	Name string     `json:"name"`
	// UID of the pod.
	UID types.UID `json:"uid,omitempty"`
	// Node that reports it; empty for a service.
	Node string `json:"node,omitempty"`
}

// String names the holder as people do.
func (h Holder) String() string {
	switch h.Kind {
	case HolderPod:
		return "pod " + h.Name + " on node " + h.Node
	case HolderFloating:
		return "pod " + h.Name + " on node " + h.Node + " as its floating address"
	case HolderTunnel:
		return "the " + h.Name + " tunnel of node " + h.Node
	case HolderService:
		return "service " + h.Name
	}
	return h.Name
}

// Use is an address and its holder.
type Use struct {
	Address netip.Addr
	Holder
}

// Pool is a pool and what of it is in use.
type Pool struct {
	Name string
	CIDR netip.Prefix
	// Capacity is how many addresses the pool has, at most math.MaxInt64.
	Capacity int64
	// Allocated counts the addresses in use, Blocks the blocks that are leased to nodes.
	Allocated int64
	Blocks    int
	// Nodes that have blocks or addresses of the pool, in order of their name.
	Nodes []NodeUse
}

// NodeUse is a node's part in a pool.
type NodeUse struct {
	Node string
	// Blocks that are leased to the node, and how many addresses of the pool it uses.
	Blocks    int
	Allocated int64
}

// Block is a leased block and how much of it is in use.
type Block struct {
	// Name of the IPAMBlock; empty: there is none, because Kubernetes allotted the CIDR to the node (spec.podCIDRs).
	Name string
	CIDR netip.Prefix
	// Pool is the name of the pool that the block lies in; empty: none.
	Pool string
	// Node that the block is leased to; empty: none. Affinity is as written.
	Node, Affinity string
	// Claimed is when; the zero Time when that is not known.
	Claimed time.Time
	// Size counts the block's addresses, Allocated those in use by anyone.
	Size, Allocated int64
}

// Account is the outcome of a look at the cluster.
type Account struct {
	// Pools in order of their CIDR, Blocks too.
	Pools  []Pool
	Blocks []Block
	// Uses in order of their address.
	Uses []Use

	pools  bart.Table[int]
	blocks bart.Table[int]
}

// Of accounts for the addresses of a cluster. Work is in proportion to the addresses in use.
func Of(c *Cluster) *Account {
	a := &Account{Uses: usesOf(c)}
	for i := range c.Pools {
		if cidr, err := netip.ParsePrefix(c.Pools[i].Spec.CIDR); err == nil {
			cidr = cidr.Masked()
			a.Pools = append(a.Pools, Pool{Name: c.Pools[i].Name, CIDR: cidr, Capacity: sizeOf(cidr)})
		}
	}
	slices.SortFunc(a.Pools, func(x, y Pool) int {
		return cmp.Or(comparePrefixes(x.CIDR, y.CIDR), strings.Compare(x.Name, y.Name))
	})
	for i := range a.Pools {
		a.pools.Insert(a.Pools[i].CIDR, i)
	}
	for i := range c.Blocks {
		if b, ok := blockOf(&c.Blocks[i]); ok {
			a.Blocks = append(a.Blocks, b)
		}
	}
	a.Blocks = append(a.Blocks, allotted(c)...)
	slices.SortFunc(a.Blocks, func(x, y Block) int {
		return cmp.Or(comparePrefixes(x.CIDR, y.CIDR), strings.Compare(x.Name, y.Name))
	})
	nodes := make([]map[string]*NodeUse, len(a.Pools))
	for i := range nodes {
		nodes[i] = map[string]*NodeUse{}
	}
	nodeIn := func(pool int, name string) *NodeUse {
		if nodes[pool][name] == nil {
			nodes[pool][name] = &NodeUse{Node: name}
		}
		return nodes[pool][name]
	}
	for i := range a.Blocks {
		b := &a.Blocks[i]
		a.blocks.Insert(b.CIDR, i)
		if pool, ok := a.poolHolding(b.CIDR); ok {
			b.Pool = a.Pools[pool].Name
			if b.Node != "" {
				a.Pools[pool].Blocks++
				nodeIn(pool, b.Node).Blocks++
			}
		}
	}
	// Two holders of one address use one address.
	var last netip.Addr
	for _, u := range a.Uses {
		if u.Address == last {
			continue
		}
		last = u.Address
		if pool, ok := a.pools.Lookup(u.Address); ok {
			a.Pools[pool].Allocated++
			if u.Node != "" {
				nodeIn(pool, u.Node).Allocated++
			}
		}
		if block, ok := a.blocks.Lookup(u.Address); ok {
			a.Blocks[block].Allocated++
		}
	}
	for i := range a.Pools {
		for _, n := range nodes[i] {
			a.Pools[i].Nodes = append(a.Pools[i].Nodes, *n)
		}
		slices.SortFunc(a.Pools[i].Nodes, func(x, y NodeUse) int { return strings.Compare(x.Node, y.Node) })
	}
	return a
}

// PoolAt is the smallest pool that holds an address; nil: none does.
func (a *Account) PoolAt(addr netip.Addr) *Pool {
	if i, ok := a.pools.Lookup(addr); ok {
		return &a.Pools[i]
	}
	return nil
}

// BlockAt is the block that holds an address; nil: none does.
func (a *Account) BlockAt(addr netip.Addr) *Block {
	if i, ok := a.blocks.Lookup(addr); ok {
		return &a.Blocks[i]
	}
	return nil
}

// HoldersOf are those who have an address: more than one should never be.
func (a *Account) HoldersOf(addr netip.Addr) []Use {
	first, _ := slices.BinarySearchFunc(a.Uses, addr, func(u Use, addr netip.Addr) int { return u.Address.Compare(addr) })
	end := first
	for end < len(a.Uses) && a.Uses[end].Address == addr {
		end++
	}
	return a.Uses[first:end]
}

// poolHolding is the smallest pool that holds all of a block.
func (a *Account) poolHolding(block netip.Prefix) (int, bool) { return a.pools.LookupPrefix(block) }

// affinityHost is what a block's affinity begins with when it belongs to a node.
const affinityHost = "host:"

func blockOf(o *v3.IPAMBlock) (Block, bool) {
	cidr, err := netip.ParsePrefix(o.Spec.CIDR)
	if err != nil {
		return Block{}, false
	}
	b := Block{Name: o.Name, CIDR: cidr.Masked(), Size: sizeOf(cidr)}
	if o.Spec.Affinity != nil {
		b.Affinity = *o.Spec.Affinity
		if node, ok := strings.CutPrefix(b.Affinity, affinityHost); ok {
			b.Node = node
		}
	}
	if o.Spec.AffinityClaimTime != nil {
		b.Claimed = o.Spec.AffinityClaimTime.Time
	}
	return b, true
}

// allotted are the CIDRs that Kubernetes allotted to nodes and that these use as their blocks.
func allotted(c *Cluster) []Block {
	pods := map[string][]string{}
	for i := range c.Nodes {
		pods[c.Nodes[i].Name] = c.Nodes[i].Spec.PodCIDRs
	}
	leased := map[string]bool{}
	for i := range c.Blocks {
		leased[c.Blocks[i].Spec.CIDR] = true
	}
	var out []Block
	for i := range c.NodeStates {
		s := &c.NodeStates[i]
		for _, b := range s.Spec.Blocks {
			cidr, err := netip.ParsePrefix(b.CIDR)
			if err == nil && !leased[b.CIDR] && slices.Contains(pods[s.Name], b.CIDR) {
				out = append(out, Block{CIDR: cidr.Masked(), Node: s.Name, Affinity: affinityHost + s.Name, Size: sizeOf(cidr)})
			}
		}
	}
	return out
}

// usesOf are all addresses in use, in order.
func usesOf(c *Cluster) []Use {
	var out []Use
	add := func(text string, h Holder) {
		if addr, err := netip.ParseAddr(text); err == nil {
			out = append(out, Use{addr.Unmap(), h})
		}
	}
	for i := range c.NodeStates {
		s := &c.NodeStates[i]
		for j := range s.Status.Endpoints {
			e := &s.Status.Endpoints[j]
			for _, text := range e.Addresses {
				add(text, Holder{HolderPod, e.ID, e.UID, s.Name})
			}
		}
		for j := range s.Spec.Endpoints {
			e := &s.Spec.Endpoints[j]
			for _, f := range e.Floating {
				if f.Problem == "" { // it is the pod's
					add(f.Address, Holder{HolderFloating, e.ID, e.UID, s.Name})
				}
			}
		}
		for _, t := range s.Status.Tunnels {
			add(t.Address, Holder{Kind: HolderTunnel, Name: string(t.Kind), Node: s.Name})
		}
	}
	for i := range c.Services {
		s := &c.Services[i]
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		for _, in := range s.Status.LoadBalancer.Ingress {
			add(in.IP, Holder{Kind: HolderService, Name: s.Namespace + "/" + s.Name})
		}
	}
	slices.SortFunc(out, func(x, y Use) int {
		return cmp.Or(x.Address.Compare(y.Address), strings.Compare(string(x.Kind), string(y.Kind)), strings.Compare(x.Name, y.Name), strings.Compare(x.Node, y.Node))
	})
	return out
}

func sizeOf(cidr netip.Prefix) int64 { return int64(min(ipam.Size(cidr), math.MaxInt64)) }

// comparePrefixes orders by family, address and length: what holds others comes before them.
func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
