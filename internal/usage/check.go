package usage

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/ipam"
)

// Reasons of findings.
const (
	// BlockUnreadable: the block's CIDR can't be read, or its name is not that of its CIDR.
	BlockUnreadable = "BlockUnreadable"
	// BlockOverlap: two blocks have addresses in common.
	BlockOverlap = "BlockOverlap"
	// BlockOutsidePools: the block lies in no pool.
	BlockOutsidePools = "BlockOutsidePools"
	// BlockOfNoNode: the block is leased to a node that does not exist.
	BlockOfNoNode = "BlockOfNoNode"
	// BlockNotRendered: the node has not been told of its block, or still believes to have one that it has not.
	BlockNotRendered = "BlockNotRendered"
	// AffinityMissing: the block is leased to a node and there is no BlockAffinity that says so.
	AffinityMissing = "AffinityMissing"
	// AffinityWrong: the BlockAffinity says something else than the block's object.
	AffinityWrong = "AffinityWrong"
	// AffinityLeft: there is a BlockAffinity and no such lease.
	AffinityLeft = "AffinityLeft"
	// AddressTwice: two have one address.
	AddressTwice = "AddressTwice"
	// AddressOutsideBlocks: a pod has an address that its node neither leases nor borrows.
	AddressOutsideBlocks = "AddressOutsideBlocks"
	// AddressOutsidePools: an address lies in no pool.
	AddressOutsidePools = "AddressOutsidePools"
	// AddressOfNoPod: a node gave an address to a pod that does not exist.
	AddressOfNoPod = "AddressOfNoPod"
	// AddressUnknown: a pod runs with an address that its node did not give it.
	AddressUnknown = "AddressUnknown"
	// AddressNotPublished: other nodes do not know of a pod's address, or know of one that it has not.
	AddressNotPublished = "AddressNotPublished"
	// LoanNotRendered: a node has not been told of an address that it borrows or lends, or still believes in one.
	LoanNotRendered = "LoanNotRendered"
	// LoanOfNoNode: an address is lent to a node that does not exist.
	LoanOfNoNode = "LoanOfNoNode"
	// LeaseAhead: a node goes by a later revision of its lease than the block's object has.
	LeaseAhead = "LeaseAhead"
	// AttachmentForgotten: a node keeps addresses for a container that is gone: no pod, no interface, and no word of the runtime.
	AttachmentForgotten = "AttachmentForgotten"
	// InterfaceMissing: a pod runs, and the node has no interface for it.
	InterfaceMissing = "InterfaceMissing"
	// RouteNotInEffect: the node's kernel has not the route to an address that it should have.
	RouteNotInEffect = "RouteNotInEffect"
	// InterfaceUnknown: a node has an interface of a container that its journal of addresses does not have.
	InterfaceUnknown = "InterfaceUnknown"
)

// Finding is something that does not fit together.
type Finding struct {
	Reason string `json:"reason"`
	// Object is what it is about: "IPAMBlock 10-48-0-0-26", an address.
	Object string `json:"object"`
	// Message says what was found and what to do.
	Message string `json:"message"`
	// Repair mends it safely; nil: a person has to decide.
	Repair *Repair `json:"-"`
	// Repairable says whether there is a repair.
	Repairable bool `json:"repairable"`
}

// Repair is a change of the API that mends a finding and can't take an address from anyone: the operator does the same when it
// comes to it.
type Repair struct {
	DeleteAffinity *v3.BlockAffinity
	DeleteBlock    *v3.IPAMBlock
	CreateAffinity *v3.BlockAffinity
}

// check is a look for findings.
type check struct {
	*Cluster
	account  *Account
	nodes    map[string]bool
	pods     map[string]*corev1.Pod
	findings []Finding
}

// Check finds everything that does not fit together, in order of reason and object. The objects are read one after the other, so
// what is found once may be a change on its way; what is found twice, some seconds apart, is not.
func Check(c *Cluster) []Finding {
	k := &check{Cluster: c, account: Of(c), nodes: map[string]bool{}, pods: map[string]*corev1.Pod{}}
	for i := range c.Nodes {
		k.nodes[c.Nodes[i].Name] = true
	}
	for i := range c.Pods {
		k.pods[c.Pods[i].Namespace+"/"+c.Pods[i].Name] = &c.Pods[i]
	}
	k.leases()
	k.affinities()
	k.rendered()
	k.loans()
	k.attachments()
	k.addresses()
	k.podAddresses()
	k.published()
	slices.SortFunc(k.findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Reason, b.Reason), strings.Compare(a.Object, b.Object), strings.Compare(a.Message, b.Message))
	})
	return k.findings
}

// Lasting are the findings that were there before as well.
func Lasting(before, now []Finding) []Finding {
	var out []Finding
	for _, f := range now {
		if slices.ContainsFunc(before, func(b Finding) bool { return b.Reason == f.Reason && b.Object == f.Object }) {
			out = append(out, f)
		}
	}
	return out
}

func (k *check) find(reason, object string, repair *Repair, format string, args ...any) {
	k.findings = append(k.findings, Finding{Reason: reason, Object: object, Message: fmt.Sprintf(format, args...), Repair: repair, Repairable: repair != nil})
}

func (k *check) leases() {
	for i := range k.Blocks {
		o := &k.Blocks[i]
		b, ok := blockOf(o)
		switch {
		case !ok:
			k.find(BlockUnreadable, "IPAMBlock "+o.Name, nil, "spec.cidr %q is no CIDR: nobody can use the block; delete the object if you made it", o.Spec.CIDR)
		case ipam.Name(b.CIDR) != o.Name:
			k.find(BlockUnreadable, "IPAMBlock "+o.Name, nil, "the block %s must be called %s, or it can be leased twice: delete the object if you made it", b.CIDR, ipam.Name(b.CIDR))
		}
	}
	for i := range k.account.Blocks {
		b := &k.account.Blocks[i]
		// Blocks are in order, and what holds others comes before them.
		for j := i + 1; j < len(k.account.Blocks) && b.CIDR.Overlaps(k.account.Blocks[j].CIDR); j++ {
			other := &k.account.Blocks[j]
			k.find(BlockOverlap, "IPAMBlock "+other.Name, nil, "%s overlaps with block %s of %s: two nodes may give one address; replace the pods of one of them and delete it",
				other.CIDR, b.CIDR, owner(b))
		}
		if b.Name == "" {
			continue // Kubernetes' own
		}
		if b.Pool == "" {
			k.find(BlockOutsidePools, "IPAMBlock "+b.Name, nil, "%s of %s lies in no IPPool (%d addresses in use): make a pool that holds it, or replace the pods", b.CIDR, owner(b), b.Allocated)
		}
		if b.Node != "" && !k.nodes[b.Node] {
			rest := ""
			if k.cools() {
				rest = fmt.Sprintf("; the operator takes it back when its addresses have rested for %d s (IPAMConfiguration %s)", *k.Settings.IPCooldownSeconds, SettingsName)
			}
			k.find(BlockOfNoNode, "IPAMBlock "+b.Name, k.takeBack(b), "%s is leased to node %s, which does not exist (%d addresses in use)%s", b.CIDR, b.Node, b.Allocated, rest)
		}
	}
}

func owner(b *Block) string {
	if b.Node != "" {
		return "node " + b.Node
	}
	return cmp.Or(b.Affinity, "nobody")
}

// takeBack is the repair for a block whose node is gone. As long as anybody uses it, or pods are bound to the node, there is none.
func (k *check) takeBack(b *Block) *Repair {
	if b.Allocated > 0 || k.cools() {
		return nil
	}
	for i := range k.Pods {
		if p := &k.Pods[i]; p.Spec.NodeName == b.Node && !p.Spec.HostNetwork {
			return nil
		}
	}
	r := &Repair{}
	for i := range k.Blocks {
		if k.Blocks[i].Name == b.Name {
			r.DeleteBlock = &k.Blocks[i]
		}
	}
	for i := range k.Affinities {
		if k.Affinities[i].Name == ipam.AffinityName(b.Node, b.CIDR) {
			r.DeleteAffinity = &k.Affinities[i]
		}
	}
	return r
}

// cools tells whether addresses must rest after use: when those of a node that is gone have, the operator knows.
func (k *check) cools() bool {
	return k.Settings.IPCooldownSeconds != nil && *k.Settings.IPCooldownSeconds > 0
}

// typeHost is the type of affinities to nodes.
const typeHost = "host"

func (k *check) affinities() {
	want := map[string]*Block{}
	for i := range k.account.Blocks {
		if b := &k.account.Blocks[i]; b.Node != "" && b.Name != "" {
			want[ipam.AffinityName(b.Node, b.CIDR)] = b
		}
	}
	have := map[string]bool{}
	for i := range k.Affinities {
		o := &k.Affinities[i]
		have[o.Name] = true
		if b := want[o.Name]; b != nil {
			if right := affinityOf(b); o.Spec != right.Spec {
				k.find(AffinityWrong, "BlockAffinity "+o.Name, &Repair{DeleteAffinity: o, CreateAffinity: right},
					"it says %q of block %s and node %s, and the IPAMBlock that %s is leased to node %s", o.Spec.State, o.Spec.CIDR, o.Spec.Node, b.CIDR, b.Node)
			}
			continue
		}
		if o.Spec.Type == "" || o.Spec.Type == typeHost {
			k.find(AffinityLeft, "BlockAffinity "+o.Name, &Repair{DeleteAffinity: o}, "it says that node %s has block %s, and there is no such IPAMBlock", o.Spec.Node, o.Spec.CIDR)
		}
	}
	for name, b := range want {
		if have[name] || !k.nodes[b.Node] {
			continue
		}
		k.find(AffinityMissing, "IPAMBlock "+b.Name, &Repair{CreateAffinity: affinityOf(b)}, "it is leased to node %s, and there is no BlockAffinity %s", b.Node, name)
	}
}

// affinityOf is the BlockAffinity that belongs to a lease.
func affinityOf(b *Block) *v3.BlockAffinity {
	return &v3.BlockAffinity{
		ObjectMeta: metav1.ObjectMeta{Name: ipam.AffinityName(b.Node, b.CIDR)},
		Spec:       v3.BlockAffinitySpec{State: v3.StateConfirmed, Node: b.Node, Type: typeHost, CIDR: b.CIDR.String()},
	}
}

// rendered compares the leases with those that nodes have been told of.
func (k *check) rendered() {
	leased := map[string]map[netip.Prefix]bool{}
	for i := range k.account.Blocks {
		b := &k.account.Blocks[i]
		if leased[b.Node] == nil {
			leased[b.Node] = map[netip.Prefix]bool{}
		}
		leased[b.Node][b.CIDR] = true
	}
	for i := range k.NodeStates {
		s := &k.NodeStates[i]
		told := map[netip.Prefix]bool{}
		for _, b := range s.Spec.Blocks {
			cidr, err := netip.ParsePrefix(b.CIDR)
			if told[cidr] = true; err != nil || !leased[s.Name][cidr] {
				k.find(BlockNotRendered, "NodeState "+s.Name, nil, "the node believes to have block %s, which is not leased to it: see whether the operator runs", b.CIDR)
			}
		}
		for cidr := range leased[s.Name] {
			if !told[cidr] {
				k.find(BlockNotRendered, "NodeState "+s.Name, nil, "the node has not been told of its block %s: see whether the operator runs", cidr)
			}
		}
	}
}

// addresses looks at each address in use.
func (k *check) addresses() {
	given, mine := k.givenByPlugins(), k.borrowed()
	for i, u := range k.account.Uses {
		if i > 0 && k.account.Uses[i-1].Address == u.Address {
			k.find(AddressTwice, u.Address.String(), nil, "%s and %s have it: delete one of them, so that it is made again with another address", k.account.Uses[i-1].Holder, u.Holder)
		}
		block := k.account.BlockAt(u.Address)
		foreign := u.Kind == HolderPod && given[onNode{u.Node, u.Address}]
		if !foreign && k.account.PoolAt(u.Address) == nil && u.Kind != HolderService && (block == nil || block.Name != "") {
			k.find(AddressOutsidePools, u.Address.String(), nil, "%s has it, and it lies in no IPPool: make a pool that holds it, or replace the pod", u.Holder)
			continue
		}
		if u.Kind != HolderPod {
			continue
		}
		if !mine[onNode{u.Node, u.Address}] && (block == nil && !foreign || block != nil && block.Node != u.Node) {
			has := "nobody has a block with it"
			if block != nil {
				has = "its block " + block.CIDR.String() + " is of " + owner(block)
			}
			k.find(AddressOutsideBlocks, u.Address.String(), nil, "%s has it, but %s: routes to the pod may lead elsewhere; replace the pod", u.Holder, has)
		}
		if pod := k.pods[u.Name]; pod == nil || u.UID != "" && pod.UID != u.UID {
			k.find(AddressOfNoPod, u.Address.String(), nil, "%s does not exist (UID %q): the node gives the address back when the container is gone; see whether the runtime still has it", u.Holder, u.UID)
		}
	}
}

type onNode struct {
	node    string
	address netip.Addr
}

// borrowed are the addresses that nodes borrow.
func (k *check) borrowed() map[onNode]bool {
	out := map[onNode]bool{}
	for i := range k.NodeStates {
		s := &k.NodeStates[i]
		for _, b := range s.Spec.Borrowed {
			if addr, err := netip.ParseAddr(b.Address); err == nil {
				out[onNode{s.Name, addr.Unmap()}] = true
			}
		}
	}
	return out
}

// givenByPlugins are the addresses of pods that other plugins of the network configuration gave. Those need lie in no pool and in no
// block, but not in another node's either.
func (k *check) givenByPlugins() map[onNode]bool {
	given := map[onNode]bool{}
	for i := range k.NodeStates {
		s := &k.NodeStates[i]
		for j := range s.Status.Endpoints {
			for _, iface := range s.Status.Endpoints[j].Interfaces() {
				if !iface.External && !iface.Chained {
					continue
				}
				for _, text := range iface.Addresses {
					if addr, err := netip.ParseAddr(text); err == nil {
						given[onNode{s.Name, addr.Unmap()}] = true
					}
				}
			}
		}
	}
	return given
}

// podAddresses compares what the kubelets say of pods with what the nodes gave them.
func (k *check) podAddresses() {
	gave := map[string]map[netip.Addr]bool{}
	reports := map[string]bool{}
	for i := range k.NodeStates {
		s := &k.NodeStates[i]
		reports[s.Name] = s.Status.ObservedGeneration > 0
		for _, e := range s.Status.Endpoints {
			if gave[e.ID] == nil {
				gave[e.ID] = map[netip.Addr]bool{}
			}
			for _, text := range e.Addresses {
				if addr, err := netip.ParseAddr(text); err == nil {
					gave[e.ID][addr.Unmap()] = true
				}
			}
		}
	}
	for i := range k.Pods {
		p := &k.Pods[i]
		if p.Spec.HostNetwork || !reports[p.Spec.NodeName] || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			addr, err := netip.ParseAddr(ip.IP)
			if id := p.Namespace + "/" + p.Name; err == nil && !gave[id][addr.Unmap()] {
				k.find(AddressUnknown, addr.String(), nil, "pod %s on node %s has it as the kubelet says, and the node's agent did not give it: replace the pod", id, p.Spec.NodeName)
			}
		}
	}
}

// published compares what nodes gave with what the other nodes know.
func (k *check) published() {
	type key struct {
		node, id string
	}
	known := map[key]map[string]bool{}
	has := map[string]bool{}
	for i := range k.Endpoints {
		o := &k.Endpoints[i]
		has[o.Name] = true
		for _, e := range o.Spec.Endpoints {
			// A host endpoint's ID has no namespace; its addresses are the host's own.
			if strings.Contains(e.ID, "/") {
				known[key{o.Name, e.ID}] = set(e.Addresses)
			}
		}
	}
	for i := range k.NodeStates {
		s := &k.NodeStates[i]
		if !has[s.Name] {
			continue
		}
		rendered := map[string]types.UID{}
		for j := range s.Spec.Endpoints {
			rendered[s.Spec.Endpoints[j].ID] = s.Spec.Endpoints[j].UID
		}
		for _, e := range s.Status.Endpoints {
			uid, ok := rendered[e.ID]
			if !ok || e.UID != "" && uid != e.UID {
				continue // on its way out, or of a pod that is known no more
			}
			published := known[key{s.Name, e.ID}]
			delete(known, key{s.Name, e.ID})
			for _, text := range e.Addresses {
				if !published[text] {
					k.find(AddressNotPublished, text, nil, "pod %s on node %s has it, and NodeEndpoints %s does not say so: other nodes' policies do not know the pod; see whether the operator runs", e.ID, s.Name, s.Name)
				}
			}
		}
	}
	for at, addresses := range known {
		for text := range addresses {
			k.find(AddressNotPublished, text, nil, "NodeEndpoints %s says that pod %s has it, and the node did not give it: see whether the operator runs", at.node, at.id)
		}
	}
}

func set(list []string) map[string]bool {
	out := make(map[string]bool, len(list))
	for _, text := range list {
		out[text] = true
	}
	return out
}
