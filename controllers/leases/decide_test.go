package leases

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
	"github.com/manul-net/manul/internal/ipam"
)

func born(second int64) metav1.Time { return metav1.Unix(1_700_000_000+second, 0) }

func pool(name, cidr string, change func(*v3.IPPoolSpec)) v3.IPPool {
	p := v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: born(0)}, Spec: v3.IPPoolSpec{CIDR: cidr, NodeSelector: "all()"}}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

func nodes(names ...string) []corev1.Node {
	var out []corev1.Node
	for _, name := range names {
		out = append(out, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}}})
	}
	return out
}

func lease(block, pool, node string) ipam.Lease {
	l := ipam.Lease{Block: netip.MustParsePrefix(block), Node: node}
	if pool != "" {
		l.Pool = netip.MustParsePrefix(pool)
	}
	return l
}

// given puts leases into the API, with their affinities.
func given(s *state, leases ...ipam.Lease) {
	for _, l := range leases {
		s.blocks = append(s.blocks, *blockObject(l, time.Unix(0, 0)))
		s.affinities = append(s.affinities, *affinityObject(l))
	}
}

func TestUsablePools(t *testing.T) {
	late := pool("late", "10.48.0.0/24", nil)
	late.CreationTimestamp = born(5)
	for name, tc := range map[string]struct {
		pools   []v3.IPPool
		reasons map[string]string
	}{
		"plain":               {[]v3.IPPool{pool("a", "10.48.0.0/16", nil)}, map[string]string{"a": ReasonAllocatable}},
		"both families":       {[]v3.IPPool{pool("a", "10.48.0.0/16", nil), pool("b", "fd00:48::/48", nil)}, map[string]string{"a": ReasonAllocatable, "b": ReasonAllocatable}},
		"disabled":            {[]v3.IPPool{pool("a", "10.48.0.0/16", func(s *v3.IPPoolSpec) { s.Disabled = true })}, map[string]string{"a": ReasonDisabled}},
		"not for pods":        {[]v3.IPPool{pool("a", "10.48.0.0/16", func(s *v3.IPPoolSpec) { s.AllowedUses = []v3.IPPoolAllowedUse{v3.IPPoolAllowedUseTunnel} })}, map[string]string{"a": ReasonNotForPods}},
		"block larger":        {[]v3.IPPool{pool("a", "10.48.0.0/28", func(s *v3.IPPoolSpec) { s.BlockSize = 26 })}, map[string]string{"a": ReasonInvalid}},
		"bad selector":        {[]v3.IPPool{pool("a", "10.48.0.0/16", func(s *v3.IPPoolSpec) { s.NodeSelector = "zone = 'a'" })}, map[string]string{"a": ReasonInvalid}},
		"the older one wins":  {[]v3.IPPool{late, pool("z", "10.48.0.0/16", nil)}, map[string]string{"late": ReasonOverlap, "z": ReasonAllocatable}},
		"names break the tie": {[]v3.IPPool{pool("b", "10.48.0.0/16", nil), pool("a", "10.48.0.0/24", nil)}, map[string]string{"b": ReasonOverlap, "a": ReasonAllocatable}},
		"an invalid one is in no one's way": {
			[]v3.IPPool{pool("a", "10.48.0.0/16", func(s *v3.IPPoolSpec) { s.BlockSize = 8 }), pool("b", "10.48.0.0/16", nil)},
			map[string]string{"a": ReasonInvalid, "b": ReasonAllocatable},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, findings := usablePools(tc.pools)
			got := map[string]string{}
			for name, f := range findings {
				got[name] = f.reason
				if f.message == "" || f.allocatable != (f.reason == ReasonAllocatable) {
					t.Errorf("pool %s: %+v", name, f)
				}
			}
			if diff := cmp.Diff(tc.reasons, got); diff != "" {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecideGivesEveryNodeABlock(t *testing.T) {
	s := &state{pools: []v3.IPPool{pool("a", "10.48.0.0/16", nil)}, nodes: nodes("n1", "n2"), settings: standardSettings()}
	d := decide(s)
	if len(d.lease) != 2 || d.lease[0].Node == d.lease[1].Node || d.lease[0].Block == d.lease[1].Block {
		t.Fatalf("leases are %v", d.lease)
	}
	// What was made counts before it has come back, and what has come back needs no second time.
	again := *s
	again.made = d.lease
	given(s, d.lease...)
	for name, s := range map[string]*state{"made": &again, "there": s} {
		if d := decide(s); len(d.lease)+len(d.release)+len(d.forget) > 0 {
			t.Errorf("with leases %s: %+v", name, d)
		}
	}
}

// A pool for tunnels gives every node a block, if a mode says of which tunnels.
func TestDecideGivesTunnelsTheirBlocks(t *testing.T) {
	for mode, want := range map[v3.EncapMode]int{v3.EncapAlways: 2, v3.EncapCrossSubnet: 2, v3.EncapNever: 0} {
		ends := pool("ends", "10.48.0.0/16", func(s *v3.IPPoolSpec) {
			s.VXLANMode, s.AllowedUses = mode, []v3.IPPoolAllowedUse{v3.IPPoolAllowedUseTunnel}
		})
		d := decide(&state{pools: []v3.IPPool{ends}, nodes: nodes("n1", "n2"), settings: standardSettings(), demand: map[string]int{"n1": 500}})
		if len(d.lease) != want || d.findings["ends"].reason != ReasonNotForPods {
			t.Errorf("vxlanMode %s: leases %v, finding %+v; want %d leases", mode, d.lease, d.findings["ends"], want)
		}
	}
}

func TestDecideFollowsDemand(t *testing.T) {
	s := &state{
		pools: []v3.IPPool{pool("a", "10.48.0.0/16", nil)}, nodes: nodes("n1"), settings: standardSettings(),
		demand: map[string]int{"n1": 60},
	}
	given(s, lease("10.48.0.0/26", "10.48.0.0/16", "n1"))
	if d := decide(s); len(d.lease) != 1 || d.lease[0].Node != "n1" {
		t.Errorf("60 endpoints on 64 addresses: leases are %v, want one more", d.lease)
	}
	s.settings.AutoAllocateBlocks = false
	if d := decide(s); len(d.lease) != 0 {
		t.Errorf("without automatic leases: %v", d.lease)
	}
}

// While agents follow the stream a node says which addresses its new pods have before its state says that there are such pods. They have what
// they need, and are no reason for another block.
func TestDecideKnowsPodsThatAreNotWritten(t *testing.T) {
	s := &state{
		pools: []v3.IPPool{pool("a", "10.48.0.0/16", nil)}, nodes: nodes("n1"), settings: standardSettings(),
		demand: map[string]int{"n1": 30},
	}
	given(s, lease("10.48.0.0/26", "10.48.0.0/16", "n1"))
	said := v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	for i := range 31 {
		id := fmt.Sprintf("ns/p%d", i)
		said.Status.Endpoints = append(said.Status.Endpoints, v1alpha1.EndpointStatus{ID: id, UID: types.UID(id), Addresses: []string{fmt.Sprintf("10.48.0.%d", i)}})
	}
	said.Spec.Endpoints = []v1alpha1.Endpoint{{ID: "ns/p0", UID: "ns/p0"}}
	s.nodeStates = []v1alpha1.NodeState{said}
	if early := s.early()["n1"]; len(early) != 30 || early[0].ID != "ns/p1" {
		t.Fatalf("of 31 pods with addresses, one of them written, %d are early: %v", len(early), early)
	}
	s.unwritten = map[string]int{"n1": 29} // one of them is gone
	if d := decide(s); len(d.lease) > 0 {
		t.Errorf("30 pods have addresses of a block of 64, and the node gets %v", d.lease)
	}
}

func TestDecideSeesWhichPoolsAreAskedFor(t *testing.T) {
	s := &state{
		pools:    []v3.IPPool{pool("a", "10.48.0.0/16", nil), pool("m", "10.60.0.0/24", func(s *v3.IPPoolSpec) { s.AssignmentMode = v3.AssignmentManual })},
		nodes:    nodes("n1"),
		settings: standardSettings(),
		demand:   map[string]int{"n1": 1},
	}
	given(s, lease("10.48.0.0/26", "10.48.0.0/16", "n1"))
	if d := decide(s); len(d.lease) != 0 {
		t.Errorf("nobody asks for the manual pool, yet %v", d.lease)
	}
	state := v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	state.Spec.Endpoints = []v1alpha1.Endpoint{{ID: "x/y", Addresses: v1alpha1.AddressRequest{Pools: []string{"10.60.0.0/24"}}}}
	s.nodeStates = []v1alpha1.NodeState{state}
	d := decide(s)
	if len(d.lease) != 1 || d.lease[0].Pool.String() != "10.60.0.0/24" {
		t.Errorf("leases are %v, want a block of the manual pool", d.lease)
	}
}

// What a node's network configuration asks for counts as if its pods did; where an IPAM plugin gives addresses, nothing is leased for them.
func TestDecideHeedsTheNetworkConfiguration(t *testing.T) {
	manual := func(s *v3.IPPoolSpec) { s.AssignmentMode = v3.AssignmentManual }
	for _, test := range []struct {
		name    string
		network *v1alpha1.NetworkStatus
		want    string
	}{
		{"it says nothing", nil, "10.48.0.0/16"},
		{"it names a pool", &v1alpha1.NetworkStatus{Asks: []v1alpha1.PoolsAsk{{Pools: []string{"10.60.0.0/24"}, Endpoints: 70}}}, "10.60.0.0/24 10.60.0.0/24"},
		{"a plugin gives addresses", &v1alpha1.NetworkStatus{External: true}, ""},
	} {
		node := v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
		for i := range 70 {
			node.Spec.Endpoints = append(node.Spec.Endpoints, v1alpha1.Endpoint{ID: fmt.Sprintf("x/%02d", i)})
		}
		node.Status.Network = test.network
		s := &state{
			pools: []v3.IPPool{pool("a", "10.48.0.0/16", nil), pool("m", "10.60.0.0/24", manual)},
			nodes: nodes("n1"), settings: standardSettings(), demand: map[string]int{"n1": 70}, nodeStates: []v1alpha1.NodeState{node},
		}
		given(s, lease("10.48.0.0/26", "10.48.0.0/16", "n1"))
		var got []string
		for _, l := range decide(s).lease {
			got = append(got, l.Pool.String())
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: leases of blocks of %v, want %s", test.name, got, test.want)
		}
	}
}

func TestDecideTakesBack(t *testing.T) {
	s := &state{pools: []v3.IPPool{pool("a", "10.48.0.0/16", nil)}, nodes: nodes("n1"), settings: standardSettings()}
	stays, goes := lease("10.48.0.0/26", "10.48.0.0/16", "n1"), lease("10.48.0.64/26", "10.48.0.0/16", "gone")
	given(s, stays, goes)
	d := decide(s)
	if diff := cmp.Diff([]ipam.Lease{goes}, d.release, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("release (-want +got):\n%s", diff)
	}
	if gone := s.gone(); len(gone) != 1 || !gone["gone"] {
		t.Errorf("nodes that are gone: %v", gone)
	}
	s.bound = map[string]bool{"gone": true}
	if d := decide(s); len(d.release)+len(d.forget) > 0 {
		t.Errorf("a pod is still bound to the node, yet %+v", d)
	}
	// Somebody else's block, such as one for load balancers, is left alone.
	s.bound = nil
	s.blocks[1].Spec.Affinity = new("virtual:load-balancer")
	s.affinities[1].Spec.Type = "virtual"
	if d := decide(s); len(d.release)+len(d.forget) > 0 {
		t.Errorf("a virtual block: %+v", d)
	}
}

func TestDecideMendsAffinities(t *testing.T) {
	s := &state{pools: []v3.IPPool{pool("a", "10.48.0.0/16", nil)}, nodes: nodes("n1"), settings: standardSettings()}
	have := lease("10.48.0.0/26", "10.48.0.0/16", "n1")
	given(s, have)
	s.affinities[0].Name = "n1-10-48-9-0-26"
	d := decide(s)
	if len(d.confirm) != 1 || d.confirm[0] != have || len(d.forget) != 1 || d.forget[0] != "n1-10-48-9-0-26" {
		t.Errorf("confirm %v, forget %v", d.confirm, d.forget)
	}
}

func TestDecideReportsExhaustion(t *testing.T) {
	s := &state{
		pools: []v3.IPPool{pool("a", "10.48.0.0/26", nil)}, nodes: nodes("n1", "n2"), settings: standardSettings(),
		demand: map[string]int{"n1": 1, "n2": 2},
	}
	given(s, lease("10.48.0.0/26", "10.48.0.0/26", "n1"))
	f := decide(s).findings["a"]
	if f.allocatable || f.reason != ReasonExhausted || !strings.Contains(f.message, "node n2 lacks 2 addresses") {
		t.Errorf("finding is %+v", f)
	}
}

func TestDescribe(t *testing.T) {
	var short []ipam.Shortage
	for i := range 7 {
		short = append(short, ipam.Shortage{Node: fmt.Sprintf("n%d", i), Missing: 1})
	}
	if got := describe(short); !strings.HasSuffix(got, "node n4 lacks 1 addresses, 2 more nodes lack addresses") {
		t.Errorf("got %q", got)
	}
}

func TestNames(t *testing.T) {
	l := lease("10.48.0.64/26", "", "worker1")
	if got := blockObject(l, time.Unix(0, 0)).Name; got != "10-48-0-64-26" {
		t.Errorf("block is called %q", got)
	}
	if got := affinityObject(l).Name; got != "worker1-10-48-0-64-26" {
		t.Errorf("affinity is called %q", got)
	}
	long := lease("10.48.0.64/26", "", strings.Repeat("n", 253))
	if got := affinityObject(long).Name; len(got) > 253 || got == affinityObject(lease("10.48.0.128/26", "", long.Node)).Name {
		t.Errorf("affinity of a long name is called %q", got)
	}
}
