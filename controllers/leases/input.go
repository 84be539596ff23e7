package leases

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/blocks"
	"github.com/manul-net/manul/internal/ipam"
	"github.com/manul-net/manul/internal/selector"
	"github.com/manul-net/manul/internal/validate"
)

// Reasons of the condition Allocatable of an IPPool.
const (
	// ReasonAllocatable: pods can get addresses from the pool.
	ReasonAllocatable = "Allocatable"
	// ReasonDisabled: the pool is disabled; addresses in use stay.
	ReasonDisabled = "Disabled"
	// ReasonInvalid: the pool breaks a rule; the message says which.
	ReasonInvalid = "Invalid"
	// ReasonOverlap: an older pool has some of the same addresses.
	ReasonOverlap = "Overlap"
	// ReasonNotForPods: the pool's allowedUses leave pods out.
	ReasonNotForPods = "NotForPods"
	// ReasonExhausted: every block is leased, and some node needs more addresses.
	ReasonExhausted = "Exhausted"
)

// SettingsName is the name of the IPAMConfiguration that counts.
const SettingsName = "default"

// standardSettings are those of a cluster without an IPAMConfiguration.
func standardSettings() v3.IPAMConfigurationSpec {
	return v3.IPAMConfigurationSpec{AutoAllocateBlocks: true}
}

// finding is what became of a pool.
type finding struct {
	allocatable bool
	reason      string
	message     string
}

func (f finding) condition(generation int64) metav1.Condition {
	c := metav1.Condition{
		Type: v3.ConditionAllocatable, Status: metav1.ConditionFalse,
		Reason: f.reason, Message: f.message, ObservedGeneration: generation,
	}
	if f.allocatable {
		c.Status = metav1.ConditionTrue
	}
	return c
}

// state is what a plan follows from, as the API has it.
type state struct {
	pools      []v3.IPPool
	nodes      []corev1.Node
	blocks     []v3.IPAMBlock
	affinities []v3.BlockAffinity
	// reservations keep addresses back.
	reservations []v3.IPReservation
	nodeStates   []v1alpha1.NodeState
	settings     v3.IPAMConfigurationSpec
	// demand is the number of endpoints of each node.
	demand map[string]int
	// unwritten is how many of them hold addresses, and are not in the node's state yet.
	unwritten map[string]int
	// bound are nodes that are gone while pods are still bound to them.
	bound map[string]bool
	// made are leases whose objects were created and have yet to come back through the watch.
	made []ipam.Lease
	// now is the time of the plan; idle is since when something has been dispensable.
	now  time.Time
	idle map[string]time.Time
	// lost is since when nodes have been gone, with all their pods.
	lost map[string]time.Time
}

// gone are the nodes that have blocks or borrowed addresses and do not exist.
func (s *state) gone() map[string]bool {
	gone := map[string]bool{}
	for _, h := range s.holdings() {
		gone[h.Node] = true
		for _, loan := range h.Loans {
			gone[loan.Node] = true
		}
	}
	for i := range s.nodes {
		delete(gone, s.nodes[i].Name)
	}
	return gone
}

// resting are nodes that are gone, and whose addresses have not rested for the cooldown yet: what they had stays theirs. It also tells after
// how long there will be one fewer. Nobody has heard when the last of the addresses was in use, so the time begins when node and pods are gone;
// for an operator that starts, when it sees that.
func (s *state) resting() (map[string]bool, time.Duration) {
	cooldown := time.Duration(0)
	if s.settings.IPCooldownSeconds != nil {
		cooldown = time.Duration(*s.settings.IPCooldownSeconds) * time.Second
	}
	lost, resting, again := map[string]time.Time{}, map[string]bool{}, time.Duration(0)
	if cooldown == 0 {
		s.lost = nil
		return resting, 0
	}
	for name := range s.gone() {
		since, ok := s.lost[name]
		if !ok || s.bound[name] {
			since = s.now
		}
		lost[name] = since
		if wait := cooldown - s.now.Sub(since); wait > 0 {
			resting[name] = true
			if !s.bound[name] && (again == 0 || wait < again) {
				again = wait
			}
		}
	}
	s.lost = lost
	return resting, again
}

// usablePools returns the pools that can be planned with and what became of each pool, by name. Where two overlap, the
// older counts.
func usablePools(pools []v3.IPPool) ([]ipam.Pool, map[string]finding) {
	byAge := make([]*v3.IPPool, 0, len(pools))
	for i := range pools {
		byAge = append(byAge, &pools[i])
	}
	slices.SortFunc(byAge, func(a, b *v3.IPPool) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	var usable []ipam.Pool
	var owners []*v3.IPPool
	findings := make(map[string]finding, len(pools))
	for _, p := range byAge {
		pool, f := usablePool(p)
		if f.reason != ReasonInvalid {
			if i := slices.IndexFunc(usable, func(o ipam.Pool) bool { return o.CIDR.Overlaps(pool.CIDR) }); i >= 0 {
				f = finding{reason: ReasonOverlap, message: fmt.Sprintf(
					"spec.cidr: %s overlaps with %s of the older pool %q: delete this pool and create it with another CIDR",
					pool.CIDR, usable[i].CIDR, owners[i].Name)}
			} else {
				usable, owners = append(usable, pool), append(owners, p)
			}
		}
		findings[p.Name] = f
	}
	return usable, findings
}

// usablePool converts one pool. Of a pool that is merely not to be leased from, existing leases still count.
func usablePool(p *v3.IPPool) (ipam.Pool, finding) {
	if errs := validate.IPPool(p); len(errs) > 0 {
		return ipam.Pool{}, finding{reason: ReasonInvalid, message: errs.ToAggregate().Error()}
	}
	cidr, err := netip.ParsePrefix(p.Spec.CIDR)
	if err != nil {
		return ipam.Pool{}, finding{reason: ReasonInvalid, message: "spec.cidr: " + err.Error()}
	}
	bits, err := ipam.BlockBits(cidr, p.Spec.BlockSize)
	if err != nil {
		return ipam.Pool{}, finding{reason: ReasonInvalid, message: "spec.blockSize: " + err.Error()}
	}
	nodes, err := selector.Parse(p.Spec.NodeSelector)
	if err != nil {
		return ipam.Pool{}, finding{reason: ReasonInvalid, message: "spec.nodeSelector: " + err.Error()}
	}
	namespaces, err := selector.Parse(p.Spec.NamespaceSelector)
	if err != nil {
		return ipam.Pool{}, finding{reason: ReasonInvalid, message: "spec.namespaceSelector: " + err.Error()}
	}
	pool := ipam.Pool{
		CIDR: cidr, BlockBits: bits, Manual: p.Spec.AssignmentMode == v3.AssignmentManual, Namespaced: !namespaces.IsAll(), Nodes: nodes,
	}
	switch {
	case p.Spec.Disabled:
		pool.Disabled = true
		return pool, finding{reason: ReasonDisabled, message: "the pool is disabled: no new addresses are given out, those in use stay"}
	case isForTunnels(p):
		pool.TunnelsOnly = true
		return pool, finding{reason: ReasonNotForPods, message: "spec.allowedUses leaves out Workload: only the nodes' ends of tunnels get addresses from the pool"}
	case len(p.Spec.AllowedUses) > 0 && !slices.Contains(p.Spec.AllowedUses, v3.IPPoolAllowedUseWorkload):
		pool.Disabled = true
		return pool, finding{reason: ReasonNotForPods, message: "spec.allowedUses leaves out Workload: pods get no addresses from the pool"}
	}
	return pool, finding{allocatable: true, reason: ReasonAllocatable, message: "pods can get addresses from the pool"}
}

// isForTunnels tells whether a pool is for the nodes' ends of tunnels alone. Which tunnels that are, its mode says; without one,
// none are.
func isForTunnels(p *v3.IPPool) bool {
	encapsulates := func(mode v3.EncapMode) bool { return mode != "" && mode != v3.EncapNever }
	return slices.Contains(p.Spec.AllowedUses, v3.IPPoolAllowedUseTunnel) && !slices.Contains(p.Spec.AllowedUses, v3.IPPoolAllowedUseWorkload) &&
		(encapsulates(p.Spec.IPIPMode) || encapsulates(p.Spec.VXLANMode))
}

// input makes the planner's input, and says what became of each pool.
func (s *state) input() (ipam.Input, map[string]finding) {
	pools, findings := usablePools(s.pools)
	in := ipam.Input{Pools: pools, Leases: s.leases(pools), Reserved: s.reserved(), MaxBlocks: int(s.settings.MaxBlocksPerHost)}
	in.Frozen, in.Strict, in.Kept = !s.settings.AutoAllocateBlocks, s.settings.StrictAffinity, s.bound
	v4, v6 := families(pools)
	wishes := s.wishes()
	for i := range s.nodes {
		name := s.nodes[i].Name
		w := wishes[name]
		n := ipam.Node{
			Name: name, Labels: s.nodes[i].Labels, Asked: w.asked, Fixed: w.fixed, Used: w.used, Reports: w.reports && answers(&s.nodes[i]),
		}
		others := max(0, s.demand[name]-w.endpoints)
		if v4 {
			n.Endpoints4 = others
		}
		if v6 {
			n.Endpoints6 = others
		}
		in.Nodes = append(in.Nodes, n)
	}
	return in, findings
}

// families tells for which families pods get addresses unasked.
func families(pools []ipam.Pool) (v4, v6 bool) {
	for _, p := range pools {
		if !p.Manual && !p.Disabled && !p.Namespaced && !p.TunnelsOnly {
			v4 = v4 || p.CIDR.Addr().Is4()
			v6 = v6 || p.CIDR.Addr().Is6()
		}
	}
	return v4, v6
}

// reserved are the CIDRs of all reservations, and floating addresses. What can't be read reserves nothing.
func (s *state) reserved() []netip.Prefix {
	var out []netip.Prefix
	for i := range s.reservations {
		for _, text := range s.reservations[i].Spec.ReservedCIDRs {
			if addr, err := netip.ParseAddr(text); err == nil {
				out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
			} else if cidr, err := netip.ParsePrefix(text); err == nil {
				out = append(out, cidr.Masked())
			}
		}
	}
	// What is one pod's floating address is no other's own.
	for i := range s.nodeStates {
		for j := range s.nodeStates[i].Spec.Endpoints {
			for _, f := range s.nodeStates[i].Spec.Endpoints[j].Floating {
				if addr, err := netip.ParseAddr(f.Address); err == nil && f.Problem == "" {
					out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
				}
			}
		}
	}
	return out
}

// answers tells whether a node can be reached, as far as Kubernetes knows.
func answers(node *corev1.Node) bool {
	return !slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionUnknown
	})
}

// wishes are what the endpoints of a node ask for, and what they have.
type wishes struct {
	asked []ipam.Ask
	fixed []netip.Addr
	// endpoints that ask for anything, have addresses, or can get nothing.
	endpoints int
	// used are the addresses that the node says pods have.
	used []netip.Addr
	// reports: there is a NodeState for the node to speak in.
	reports bool
}

// early are endpoints that hold addresses and are not in their node's state, by node: they are gone, or they are there and not written yet.
func (s *state) early() map[string][]v1alpha1.EndpointStatus {
	out := map[string][]v1alpha1.EndpointStatus{}
	for i := range s.nodeStates {
		written := make(map[types.UID]struct{}, len(s.nodeStates[i].Spec.Endpoints))
		for j := range s.nodeStates[i].Spec.Endpoints {
			written[s.nodeStates[i].Spec.Endpoints[j].UID] = struct{}{}
		}
		for _, e := range s.nodeStates[i].Status.Endpoints {
			if _, ok := written[e.UID]; !ok && e.UID != "" && len(e.Addresses) > 0 {
				out[s.nodeStates[i].Name] = append(out[s.nodeStates[i].Name], e)
			}
		}
	}
	return out
}

// wishes of each node, as its rendered state has them.
func (s *state) wishes() map[string]wishes {
	out := map[string]wishes{}
	for i := range s.nodeStates {
		w := wishes{reports: true}
		holders := map[string]types.UID{}
		for j := range s.nodeStates[i].Status.Endpoints {
			e := &s.nodeStates[i].Status.Endpoints[j]
			for _, text := range e.Addresses {
				if addr, err := netip.ParseAddr(text); err == nil {
					w.used = append(w.used, addr)
					holders[e.ID] = e.UID
				}
			}
		}
		for _, end := range s.nodeStates[i].Status.Tunnels {
			if addr, err := netip.ParseAddr(end.Address); err == nil {
				w.used = append(w.used, addr)
			}
		}
		for j := range s.nodeStates[i].Spec.Endpoints {
			e := &s.nodeStates[i].Spec.Endpoints[j]
			uid, holds := holders[e.ID]
			w.add(&e.Addresses, holds && (uid == "" || uid == e.UID))
		}
		w.endpoints += s.unwritten[s.nodeStates[i].Name]
		w.addNetwork(s.nodeStates[i].Status.Network, len(s.nodeStates[i].Spec.Endpoints))
		out[s.nodeStates[i].Name] = w
	}
	return out
}

// add counts an endpoint. One that holds addresses keeps them, and needs no others; what it asked for stays in the node's reach.
func (w *wishes) add(r *v1alpha1.AddressRequest, holds bool) {
	if r.Unmanaged {
		w.endpoints++ // it takes what no pool needs to have
		return
	}
	if len(r.Fixed)+len(r.Pools) == 0 && r.Impossible == "" {
		if holds {
			w.endpoints++
		}
		return
	}
	w.endpoints++
	for _, text := range r.Fixed {
		if addr, err := netip.ParseAddr(text); err == nil {
			w.fixed = append(w.fixed, addr)
		}
	}
	var families [2][]netip.Prefix
	for _, text := range r.Pools {
		if pool, err := netip.ParsePrefix(text); err == nil {
			family := 0
			if pool.Addr().Is6() {
				family = 1
			}
			families[family] = append(families[family], pool)
		}
	}
	for _, pools := range families {
		if len(pools) == 0 {
			continue
		}
		at := slices.IndexFunc(w.asked, func(a ipam.Ask) bool { return slices.Equal(a.Pools, pools) })
		if at < 0 {
			at, w.asked = len(w.asked), append(w.asked, ipam.Ask{Pools: pools})
		}
		if !holds {
			w.asked[at].Endpoints++
		}
	}
}

// addNetwork counts what the node's network configuration has its pods ask for: pools in place of those that serve every pod, or nothing,
// for an IPAM plugin gives them addresses.
func (w *wishes) addNetwork(n *v1alpha1.NetworkStatus, endpoints int) {
	if n == nil {
		return
	}
	if n.External {
		w.endpoints = max(w.endpoints, endpoints)
	}
	most := 0
	for _, ask := range n.Asks {
		var pools []netip.Prefix
		for _, text := range ask.Pools {
			if pool, err := netip.ParsePrefix(text); err == nil {
				pools = append(pools, pool)
			}
		}
		if len(pools) == 0 {
			continue
		}
		most = max(most, int(ask.Endpoints))
		at := slices.IndexFunc(w.asked, func(a ipam.Ask) bool { return slices.Equal(a.Pools, pools) })
		if at < 0 {
			at, w.asked = len(w.asked), append(w.asked, ipam.Ask{Pools: pools})
		}
		w.asked[at].Endpoints += int(ask.Endpoints)
	}
	w.endpoints = min(w.endpoints+most, max(w.endpoints, endpoints))
}

// leases are those of the objects and those that were just made.
func (s *state) leases(pools []ipam.Pool) []ipam.Lease {
	var out []ipam.Lease
	for i := range s.blocks {
		if lease, ok := leaseOf(&s.blocks[i], pools); ok {
			out = append(out, lease)
		}
	}
	return append(out, s.made...)
}

// leaseOf reads the lease that a block's object stands for. A block that belongs to no node is a lease all the same, to
// nobody: it must not be given out again while it is there.
func leaseOf(b *v3.IPAMBlock, pools []ipam.Pool) (ipam.Lease, bool) {
	h, err := blocks.Read(b)
	if err != nil {
		return ipam.Lease{}, false
	}
	lease := ipam.Lease{Block: h.Block, Node: h.Node}
	for _, p := range pools {
		if p.CIDR.Bits() <= h.Block.Bits() && p.CIDR.Contains(h.Block.Addr()) {
			lease.Pool = p.CIDR
		}
	}
	return lease, true
}

// holdings are the blocks that nodes have, as their objects say.
func (s *state) holdings() map[netip.Prefix]ipam.Holding {
	out := make(map[netip.Prefix]ipam.Holding, len(s.blocks))
	for i := range s.blocks {
		// An object of another name would be no lease: only the name makes it the only one.
		if h, err := blocks.Read(&s.blocks[i]); err == nil && h.Node != "" && s.blocks[i].Name == ipam.Name(h.Block) {
			out[h.Block] = h
		}
	}
	return out
}

// reports are what nodes have agreed to.
func (s *state) reports() ipam.Reports {
	out := ipam.Reports{}
	for i := range s.nodeStates {
		for _, l := range s.nodeStates[i].Status.Leases {
			cidr, err := netip.ParsePrefix(l.CIDR)
			if err != nil {
				continue
			}
			r := ipam.Report{Revision: l.Revision, Released: l.Released}
			for _, text := range l.Withheld {
				if addr, err := netip.ParseAddr(text); err == nil {
					r.Withheld = append(r.Withheld, addr)
				}
			}
			if out[s.nodeStates[i].Name] == nil {
				out[s.nodeStates[i].Name] = map[netip.Prefix]ipam.Report{}
			}
			out[s.nodeStates[i].Name][cidr] = r
		}
	}
	return out
}
