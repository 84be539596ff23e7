package usage

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/blocks"
	"github.com/manul-net/manul/internal/ipam"
)

// world is a cluster of two nodes with a block each, one of them with a host endpoint, in which everything fits together.
func world() *Cluster {
	c := &Cluster{Pools: []v3.IPPool{pool("default", "10.48.0.0/24"), pool("tiny", "10.49.0.0/30")}}
	for _, name := range []string{"node1", "node2"} {
		c.Nodes = append(c.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		c.NodeStates = append(c.NodeStates, v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.NodeStateStatus{ObservedGeneration: 1}})
		c.Endpoints = append(c.Endpoints, v1alpha1.NodeEndpoints{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	c.lease("10.48.0.0/26", 0)
	c.lease("10.48.0.64/26", 1)
	c.run("shop/database", "10.48.0.0", 0)
	c.run("shop/summary", "10.48.0.64", 1)
	c.run("shop/customer", "10.48.0.65", 1)
	hosts := &c.Endpoints[1].Spec
	hosts.Endpoints = append(hosts.Endpoints, v1alpha1.RemoteEndpoint{ID: "node2-auto-hep", Addresses: []string{"192.0.2.12"}})
	return c
}

func pool(name, cidr string) v3.IPPool {
	return v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v3.IPPoolSpec{CIDR: cidr}}
}

// lease leases a block to a node, and tells the node.
func (c *Cluster) lease(cidr string, node int) {
	block, name := netip.MustParsePrefix(cidr), c.NodeStates[node].Name
	c.Blocks = append(c.Blocks, v3.IPAMBlock{
		ObjectMeta: metav1.ObjectMeta{Name: ipam.Name(block)},
		Spec:       v3.IPAMBlockSpec{CIDR: cidr, Affinity: new("host:" + name), AffinityClaimTime: &metav1.Time{Time: time.Unix(1_700_000_000, 0)}},
	})
	c.Affinities = append(c.Affinities, v3.BlockAffinity{
		ObjectMeta: metav1.ObjectMeta{Name: ipam.AffinityName(name, block)}, Spec: v3.BlockAffinitySpec{State: v3.StateConfirmed, Node: name, CIDR: cidr, Type: "host"},
	})
	c.NodeStates[node].Spec.Blocks = append(c.NodeStates[node].Spec.Blocks, v1alpha1.BlockLease{CIDR: cidr, Pool: "10.48.0.0/24"})
}

// run runs a pod that holds an address.
func (c *Cluster) run(id, address string, node int) {
	uid := types.UID("uid of " + id)
	namespace, name, _ := strings.Cut(id, "/")
	s := &c.NodeStates[node]
	c.Pods = append(c.Pods, corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: uid},
		Spec:       corev1.PodSpec{NodeName: s.Name},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: address}}},
	})
	s.Spec.Endpoints = append(s.Spec.Endpoints, v1alpha1.Endpoint{ID: id, UID: uid})
	s.Status.Endpoints = append(s.Status.Endpoints, v1alpha1.EndpointStatus{ID: id, UID: uid, Addresses: []string{address}})
	published := &c.Endpoints[node].Spec
	published.Endpoints = append(published.Endpoints, v1alpha1.RemoteEndpoint{ID: id, Addresses: []string{address}})
}

// last is the endpoint that the node reported last.
func (c *Cluster) last(node int) *v1alpha1.EndpointStatus {
	list := c.NodeStates[node].Status.Endpoints
	return &list[len(list)-1]
}

// lend lends an address of the first block of a node to another, and tells both.
func (c *Cluster) lend(owner int, address, to string, state ipam.LoanState) {
	for i := range c.Blocks {
		h, err := blocks.Read(&c.Blocks[i])
		if err != nil || h.Node != c.NodeStates[owner].Name {
			continue
		}
		h.Loans = append(h.Loans, ipam.Loan{Address: netip.MustParseAddr(address), Node: to, State: state})
		blocks.Write(h, &c.Blocks[i].Spec)
	}
	c.NodeStates[owner].Spec.Blocks[0].Lent = append(c.NodeStates[owner].Spec.Blocks[0].Lent, address)
	for i := range c.NodeStates {
		if c.NodeStates[i].Name == to {
			c.NodeStates[i].Spec.Borrowed = append(c.NodeStates[i].Spec.Borrowed, v1alpha1.BorrowedAddress{Address: address, Pool: "10.48.0.0/24"})
		}
	}
}

// attachment has a node report about one.
func (c *Cluster) attachment(node int, reason, pod string) {
	s := &c.NodeStates[node].Status
	s.Attachments = append(s.Attachments, v1alpha1.AttachmentStatus{
		Reason: reason, Name: "c1/eth0", Endpoint: pod, Interface: "cali1", Since: metav1.Unix(1_700_000_000, 0), ReleaseAt: metav1.Unix(1_700_000_300, 0),
	})
	s.AttachmentsTotal++
}

func balancer(name, address string) corev1.Service {
	s := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
	return s
}

func TestAccount(t *testing.T) {
	c := world()
	c.Services = append(c.Services, balancer("web", "10.49.0.1"), balancer("elsewhere", "192.0.2.1"))
	c.NodeStates[0].Status.Tunnels = []v1alpha1.TunnelEnd{{Kind: v1alpha1.TunnelVXLAN, Address: "10.48.0.1"}}
	c.Pools = append(c.Pools, pool("wide", "fd00:48::/48"))
	a := Of(c)
	var got []string
	for _, p := range a.Pools {
		got = append(got, fmt.Sprintf("%s: %d of %d in use, %d blocks", p.Name, p.Allocated, p.Capacity, p.Blocks))
		for _, n := range p.Nodes {
			got = append(got, fmt.Sprintf("  %s: %d in %d blocks", n.Node, n.Allocated, n.Blocks))
		}
	}
	for _, b := range a.Blocks {
		got = append(got, fmt.Sprintf("block %s of %s, pool %s: %d of %d", b.CIDR, b.Node, b.Pool, b.Allocated, b.Size))
	}
	want := []string{
		"default: 4 of 256 in use, 2 blocks",
		"  node1: 2 in 1 blocks",
		"  node2: 2 in 1 blocks",
		"tiny: 1 of 4 in use, 0 blocks",
		"wide: 0 of 9223372036854775807 in use, 0 blocks",
		"block 10.48.0.0/26 of node1, pool default: 2 of 64",
		"block 10.48.0.64/26 of node2, pool default: 2 of 64",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("account (-want +got):\n%s", diff)
	}
}

func TestWhoHasAnAddress(t *testing.T) {
	c := world()
	c.Services = append(c.Services, balancer("web", "10.49.0.1"))
	c.run("shop/twin", "10.48.0.65", 0)
	a := Of(c)
	for address, want := range map[string]string{
		"10.48.0.64": "[pod shop/summary on node node2]",
		"10.48.0.65": "[pod shop/customer on node node2 pod shop/twin on node node1]",
		"10.49.0.1":  "[service shop/web]",
		"10.48.0.9":  "[]",
		"10.48.0.66": "[]",
	} {
		holders := []Holder{}
		for _, u := range a.HoldersOf(netip.MustParseAddr(address)) {
			holders = append(holders, u.Holder)
		}
		if got := fmt.Sprint(holders); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(c *Cluster)
		// want are "Reason object" of the findings, with "!" when there is a repair.
		want []string
	}{
		"all is well": {func(*Cluster) {}, nil},
		"a service and a tunnel have addresses": {func(c *Cluster) {
			c.Services = append(c.Services, balancer("web", "192.0.2.1"))
			c.NodeStates[0].Status.Tunnels = []v1alpha1.TunnelEnd{{Kind: v1alpha1.TunnelVXLAN, Address: "10.48.0.1"}}
		}, nil},
		"a pod has a floating address": {func(c *Cluster) {
			c.NodeStates[0].Spec.Endpoints[0].Floating = []v1alpha1.FloatingAddress{{Address: "10.49.0.1"}}
		}, nil},
		"a pod's address is another's floating one": {func(c *Cluster) {
			c.NodeStates[0].Spec.Endpoints[0].Floating = []v1alpha1.FloatingAddress{{Address: "10.48.0.64"}}
		}, []string{"AddressTwice 10.48.0.64"}},
		"Kubernetes allots CIDRs to nodes": {func(c *Cluster) {
			c.Nodes[0].Spec.PodCIDRs, c.Nodes[1].Spec.PodCIDRs = []string{"10.48.0.0/26"}, []string{"10.48.0.64/26"}
			c.Blocks, c.Affinities, c.Pools = nil, nil, nil
		}, nil},
		"two pods have one address":                    {func(c *Cluster) { c.run("shop/twin", "10.48.0.64", 1) }, []string{"AddressTwice 10.48.0.64"}},
		"a pod has an address of another node's block": {func(c *Cluster) { c.run("shop/stray", "10.48.0.70", 0) }, []string{"AddressOutsideBlocks 10.48.0.70"}},
		"a pod has a borrowed address": {func(c *Cluster) {
			c.run("shop/guest", "10.48.0.70", 0)
			c.lend(1, "10.48.0.70", "node1", ipam.LoanGiven)
		}, nil},
		"an IPAM plugin gave an address of no pool": {func(c *Cluster) {
			c.run("shop/given", "10.60.0.2", 0)
			c.last(0).External = true
		}, nil},
		"another plugin made the interface and gave an address of no pool": {func(c *Cluster) {
			c.run("shop/given", "10.60.0.2", 0)
			c.last(0).Chained = true
		}, nil},
		"an IPAM plugin gave a second interface an address of no pool": {func(c *Cluster) {
			c.run("shop/given", "10.48.0.9", 0)
			e := c.last(0)
			e.Addresses = append(e.Addresses, "10.60.0.2")
			e.Others = []v1alpha1.InterfaceStatus{{Name: "net1", Addresses: []string{"10.60.0.2"}, External: true}}
			c.Endpoints[0].Spec.Endpoints[len(c.Endpoints[0].Spec.Endpoints)-1].Addresses = e.Addresses
		}, nil},
		"an IPAM plugin gave an address of another node's block": {func(c *Cluster) {
			c.run("shop/given", "10.48.0.70", 0)
			c.last(0).External = true
		}, []string{"AddressOutsideBlocks 10.48.0.70"}},
		"the pool is gone": {func(c *Cluster) { c.Pools = nil }, []string{
			"AddressOutsidePools 10.48.0.0", "AddressOutsidePools 10.48.0.64", "AddressOutsidePools 10.48.0.65",
			"BlockOutsidePools IPAMBlock 10-48-0-0-26", "BlockOutsidePools IPAMBlock 10-48-0-64-26",
		}},
		"a pod is gone and its address is not given back": {func(c *Cluster) { c.Pods = c.Pods[1:] }, []string{"AddressOfNoPod 10.48.0.0"}},
		"a pod was made again under its name":             {func(c *Cluster) { c.Pods[0].UID = "another" }, []string{"AddressOfNoPod 10.48.0.0"}},
		"a pod runs with an address of its own": {func(c *Cluster) {
			c.Pods[0].Status.PodIPs = []corev1.PodIP{{IP: "172.17.0.2"}}
		}, []string{"AddressUnknown 172.17.0.2"}},
		"a finished pod keeps its address in its status": {func(c *Cluster) {
			c.Pods = append(c.Pods, corev1.Pod{Spec: corev1.PodSpec{NodeName: "node1"}, Status: corev1.PodStatus{Phase: corev1.PodSucceeded, PodIPs: []corev1.PodIP{{IP: "10.48.0.9"}}}})
		}, nil},
		"a host-networked pod has the node's address": {func(c *Cluster) {
			c.Pods = append(c.Pods, corev1.Pod{Spec: corev1.PodSpec{NodeName: "node1", HostNetwork: true}, Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.0.0.11"}}}})
		}, nil},
		"other nodes do not know of a pod":     {func(c *Cluster) { c.Endpoints[0].Spec.Endpoints = nil }, []string{"AddressNotPublished 10.48.0.0"}},
		"other nodes know of a pod that is no": {func(c *Cluster) { c.NodeStates[0].Status.Endpoints = nil; c.Pods = c.Pods[1:] }, []string{"AddressNotPublished 10.48.0.0"}},
		"a node is gone, and no pod of it is left": {func(c *Cluster) {
			c.Nodes, c.Pods, c.NodeStates, c.Endpoints = c.Nodes[1:], c.Pods[1:], c.NodeStates[1:], c.Endpoints[1:]
		}, []string{"BlockOfNoNode IPAMBlock 10-48-0-0-26 !"}},
		"a node is gone, and a pod is bound to it": {func(c *Cluster) {
			c.Nodes, c.NodeStates, c.Endpoints = c.Nodes[1:], c.NodeStates[1:], c.Endpoints[1:]
		}, []string{"BlockOfNoNode IPAMBlock 10-48-0-0-26"}},
		"a node is gone, and its state says that an address is in use": {func(c *Cluster) { c.Nodes, c.Pods = c.Nodes[1:], c.Pods[1:] }, []string{
			"AddressOfNoPod 10.48.0.0", "BlockOfNoNode IPAMBlock 10-48-0-0-26",
		}},
		"an affinity is missing":          {func(c *Cluster) { c.Affinities = c.Affinities[1:] }, []string{"AffinityMissing IPAMBlock 10-48-0-0-26 !"}},
		"an affinity names another node":  {func(c *Cluster) { c.Affinities[0].Spec.Node = "node2" }, []string{"AffinityWrong BlockAffinity node1-10-48-0-0-26 !"}},
		"an affinity waits to be deleted": {func(c *Cluster) { c.Affinities[0].Spec.Deleted = true }, []string{"AffinityWrong BlockAffinity node1-10-48-0-0-26 !"}},
		"a node is gone, and its addresses have to rest": {func(c *Cluster) {
			c.Nodes, c.Pods, c.NodeStates, c.Endpoints = c.Nodes[1:], c.Pods[1:], c.NodeStates[1:], c.Endpoints[1:]
			c.Settings.IPCooldownSeconds = new(int32(60))
		}, []string{"BlockOfNoNode IPAMBlock 10-48-0-0-26"}},
		"an address is lent": {func(c *Cluster) { c.lend(1, "10.48.0.70", "node1", ipam.LoanGiven) }, nil},
		"an address is asked for": {func(c *Cluster) {
			c.lend(1, "10.48.0.70", "node1", ipam.LoanAsked)
			c.NodeStates[0].Spec.Borrowed = nil
		}, nil},
		"a node was not told that it lends": {func(c *Cluster) {
			c.lend(1, "10.48.0.70", "node1", ipam.LoanGiven)
			c.NodeStates[1].Spec.Blocks[0].Lent = nil
		}, []string{"LoanNotRendered NodeState node2"}},
		"a node was not told that it borrows": {func(c *Cluster) {
			c.lend(1, "10.48.0.70", "node1", ipam.LoanGiven)
			c.NodeStates[0].Spec.Borrowed = nil
		}, []string{"LoanNotRendered NodeState node1"}},
		"a node believes that it borrows": {func(c *Cluster) {
			c.NodeStates[0].Spec.Borrowed = []v1alpha1.BorrowedAddress{{Address: "10.48.0.70", Pool: "10.48.0.0/24"}}
		}, []string{"LoanNotRendered NodeState node1"}},
		"an address is lent to a node that is gone": {func(c *Cluster) { c.lend(1, "10.48.0.70", "node3", ipam.LoanGiven) }, []string{"LoanOfNoNode 10.48.0.70"}},
		"a node knows a later lease": {func(c *Cluster) {
			c.NodeStates[0].Status.Leases = []v1alpha1.LeaseStatus{{CIDR: "10.48.0.0/26", Revision: 7}}
		}, []string{"LeaseAhead IPAMBlock 10-48-0-0-26"}},
		"nobody ended a container": {func(c *Cluster) { c.attachment(0, "Forgotten", "shop/gone") }, []string{"AttachmentForgotten node1 c1/eth0"}},
		"a pod has no interface":   {func(c *Cluster) { c.attachment(0, "InterfaceMissing", "shop/database") }, []string{"InterfaceMissing node1 c1/eth0"}},
		"an interface is nobody's": {func(c *Cluster) { c.attachment(1, "InterfaceUnknown", "") }, []string{"InterfaceUnknown node2 c1/eth0"}},
		"the kernel refuses a route": {func(c *Cluster) {
			c.NodeStates[0].Status.Failures = []v1alpha1.Failure{{Kind: "Route", Name: "10.48.0.0/32", Message: "no such device"}, {Kind: "Address", Name: "x/y"}}
		}, []string{"RouteNotInEffect node1 10.48.0.0/32"}},
		"many containers": {func(c *Cluster) {
			c.attachment(0, "Forgotten", "shop/gone")
			c.NodeStates[0].Status.AttachmentsTotal = 80
		}, []string{"AttachmentForgotten node1", "AttachmentForgotten node1 c1/eth0"}},
		"an affinity is left": {func(c *Cluster) {
			c.Blocks, c.NodeStates[1].Spec.Blocks = c.Blocks[:1], nil
			c.NodeStates[1].Status.Endpoints, c.Endpoints[1].Spec.Endpoints, c.Pods = nil, nil, c.Pods[:1]
		}, []string{"AffinityLeft BlockAffinity node2-10-48-0-64-26 !"}},
		"a node was not told of its block": {func(c *Cluster) {
			c.lease("10.48.0.128/26", 0)
			c.NodeStates[0].Spec.Blocks = c.NodeStates[0].Spec.Blocks[:1]
		}, []string{"BlockNotRendered NodeState node1"}},
		"a node believes in a block": {func(c *Cluster) {
			c.NodeStates[0].Spec.Blocks = append(c.NodeStates[0].Spec.Blocks, v1alpha1.BlockLease{CIDR: "10.48.0.192/26"})
		}, []string{"BlockNotRendered NodeState node1"}},
		"two blocks overlap":                     {func(c *Cluster) { c.lease("10.48.0.64/28", 1) }, []string{"BlockOverlap IPAMBlock 10-48-0-64-28"}},
		"a block has a name that is not its own": {func(c *Cluster) { c.Blocks[0].Name = "mine" }, []string{"BlockUnreadable IPAMBlock mine"}},
		"a block has no CIDR": {func(c *Cluster) {
			c.Blocks = append(c.Blocks, v3.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: "odd"}})
		}, []string{"BlockUnreadable IPAMBlock odd"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := world()
			tc.change(c)
			var got []string
			for _, f := range Check(c) {
				text := f.Reason + " " + f.Object
				if f.Repairable {
					text += " !"
				}
				got = append(got, text)
				t.Log(f.Message)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLasting: a change on its way is no finding.
func TestLasting(t *testing.T) {
	was := []Finding{{Reason: "AddressTwice", Object: "10.48.0.1"}, {Reason: "AffinityLeft", Object: "BlockAffinity a"}}
	now := []Finding{{Reason: "AddressTwice", Object: "10.48.0.1"}, {Reason: "AddressTwice", Object: "10.48.0.2"}}
	if diff := cmp.Diff(now[:1], Lasting(was, now)); diff != "" {
		t.Errorf("lasting (-want +got):\n%s", diff)
	}
}
