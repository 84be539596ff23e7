package report

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/usage"
)

func now() time.Time { return time.Unix(1_700_000_000, 0).UTC() }

func before(d time.Duration) metav1.Time { return metav1.NewTime(now().Add(-d)) }

func condition(kind string, status metav1.ConditionStatus, reason, message string) []metav1.Condition {
	return []metav1.Condition{{Type: kind, Status: status, Reason: reason, Message: message}}
}

// states are two nodes: all is well on the first, and the second has failures and a session that does not come up.
func states() []v1alpha1.NodeState {
	well := v1alpha1.NodeState{
		ObjectMeta: metav1.ObjectMeta{Name: "worker1", Generation: 7},
		Spec: v1alpha1.NodeStateSpec{
			Blocks: []v1alpha1.BlockLease{{CIDR: "10.48.0.0/26"}},
			BGP:    &v1alpha1.BGP{Sessions: []v1alpha1.BGPSession{{Name: "rack/192.0.2.1", Address: "192.0.2.1"}}},
		},
		Status: v1alpha1.NodeStateStatus{
			ObservedGeneration: 7, Dataplane: "nftables", AgentVersion: "v0.1.0",
			Summary:    v1alpha1.Summary{Endpoints: 2, Policies: 3, Routes: 4},
			Endpoints:  []v1alpha1.EndpointStatus{{ID: "shop/database", UID: "1", Addresses: []string{"10.48.0.1"}}, {ID: "shop/web", UID: "2", Addresses: []string{"10.48.0.2"}}},
			Conditions: condition("Ready", metav1.ConditionTrue, "Applied", "what was rendered for the node is in effect"),
			BGPSessions: []v1alpha1.BGPSessionStatus{
				{Name: "mesh/worker2/10.0.0.12", Address: "10.0.0.12", ASNumber: 64512, State: "Established", Since: before(time.Hour), Received: 1, Advertised: 2},
				{Name: "rack/192.0.2.1", Address: "192.0.2.1", ASNumber: 65001, State: "Established", Since: before(90 * time.Second), Received: 12, Advertised: 3},
			},
			BGPGroups: []v1alpha1.BGPGroupStatus{{Name: "clients", Family: 4, Sessions: 12, Established: 11}},
		},
	}
	ill := v1alpha1.NodeState{
		ObjectMeta: metav1.ObjectMeta{Name: "worker2", Generation: 9},
		Spec: v1alpha1.NodeStateSpec{BGP: &v1alpha1.BGP{Sessions: []v1alpha1.BGPSession{
			{Name: "rack/192.0.2.1", Address: "192.0.2.1", ASNumber: 65001}, {Name: "reflectors/10.0.0.13", Address: "10.0.0.13", Node: "worker3", ASNumber: 64512},
		}}},
		Status: v1alpha1.NodeStateStatus{
			ObservedGeneration: 8, Dataplane: "iptables",
			Conditions:  condition("Ready", metav1.ConditionTrue, "ItemsRefused", "1 items are not in effect, see failures"),
			Failures:    []v1alpha1.Failure{{Kind: "Address", Name: "shop/late", Message: "no free address in 10.48.0.64/26 (64 of 64 in use)"}},
			BGPSessions: []v1alpha1.BGPSessionStatus{{Name: "rack/192.0.2.1", Address: "192.0.2.1", ASNumber: 65001, State: "Active", Reason: "Unreachable", Message: "no route to host"}},
		},
	}
	return []v1alpha1.NodeState{ill, well}
}

func node(name string) corev1.Node { return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }

func text(t *testing.T, r Report) string {
	t.Helper()
	var b strings.Builder
	if err := Write(&b, r, FormatText); err != nil {
		t.Fatal(err)
	}
	return "\n" + b.String()
}

func same(t *testing.T, r Report, want string) {
	t.Helper()
	if diff := cmp.Diff(want, text(t, r)); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestNodes(t *testing.T) {
	r := NodesOf(states(), []corev1.Node{node("worker1"), node("worker2"), node("worker3")})
	same(t, r, `
NODE      READY     CURRENT   DATAPLANE   ENDPOINTS   POLICIES   ROUTES   BLOCKS   ADDRESSES   SESSIONS   FAILURES   AGENT
worker1   True      yes       nftables    2           3          4        1        2           13/14      0          v0.1.0
worker2   True      no        iptables    0           0          0        0        0           0/2        1          -
worker3   Unknown   no        -           0           0          0        0        0           -          0          -

worker2
  ItemsRefused: 1 items are not in effect, see failures

worker3
  NotRendered: the operator has rendered nothing for the node: see whether it runs
`)
	r.Details = true
	r.Nodes = r.Nodes[:2]
	same(t, r, `
NODE      READY   CURRENT   DATAPLANE   ENDPOINTS   POLICIES   ROUTES   BLOCKS   ADDRESSES   SESSIONS   FAILURES   AGENT
worker1   True    yes       nftables    2           3          4        1        2           13/14      0          v0.1.0
worker2   True    no        iptables    0           0          0        0        0           0/2        1          -

worker1
  block 10.48.0.0/26

worker2
  ItemsRefused: 1 items are not in effect, see failures
  Address shop/late: no free address in 10.48.0.64/26 (64 of 64 in use)
`)
}

func TestPeers(t *testing.T) {
	same(t, AllSessions(states(), now()), `
NODE      PEER         ADDRESS               AS      STATE                  SINCE   RECEIVED   ADVERTISED   WHY
worker1   clients      all 12 over IPv4      -       11 of 12 Established   -       0          0            -
worker1   mesh         10.0.0.12 (worker2)   64512   Established            60m     1          2            -
worker1   rack         192.0.2.1             65001   Established            90s     12         3            -
worker2   rack         192.0.2.1             65001   Active                 -       0          0            Unreachable: no route to host
worker2   reflectors   10.0.0.13 (worker3)   64512   Unknown                -       0          0            Pending: the node has yet to report
`)
}

func addresses() *usage.Cluster {
	c := &usage.Cluster{NodeStates: states(), Nodes: []corev1.Node{node("worker1"), node("worker2")}}
	c.Pools = []v3.IPPool{
		{
			ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v3.IPPoolSpec{CIDR: "10.48.0.0/24"},
			Status: v3.IPPoolStatus{Conditions: condition("Allocatable", metav1.ConditionTrue, "Allocatable", "pods can get addresses from the pool")},
		},
		{
			ObjectMeta: metav1.ObjectMeta{Name: "old"}, Spec: v3.IPPoolSpec{CIDR: "10.47.0.0/30", Disabled: true},
			Status: v3.IPPoolStatus{Conditions: condition("Allocatable", metav1.ConditionFalse, "Disabled", "the pool is disabled")},
		},
	}
	c.Blocks = []v3.IPAMBlock{
		{ObjectMeta: metav1.ObjectMeta{Name: "10-48-0-0-26"}, Spec: v3.IPAMBlockSpec{CIDR: "10.48.0.0/26", Affinity: new("host:worker1"), AffinityClaimTime: new(before(26 * time.Hour))}},
	}
	c.Pods = []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "database", UID: "1", CreationTimestamp: before(time.Hour)}}}
	return c
}

func TestShowAddresses(t *testing.T) {
	same(t, AddressesOf(addresses(), now()), `
POOL      CIDR           ADDRESSES   IN USE   SHARE   BLOCKS   NODES   ALLOCATABLE   WHY
old       10.47.0.0/30   4           0        0%      0        0       False         Disabled: the pool is disabled
default   10.48.0.0/24   256         2        0%      1        1       True          -

BLOCK          POOL      NODE      ADDRESSES   IN USE   SHARE   AGE
10.48.0.0/26   default   worker1   64          2        3%      26h
`)
}

func TestShowOneAddress(t *testing.T) {
	c := addresses()
	c.NodeStates[0].Status.Tunnels = []v1alpha1.TunnelEnd{{Kind: v1alpha1.TunnelVXLAN, Address: "10.48.0.1"}}
	for address, want := range map[string]string{
		"10.48.0.2": `
10.48.0.2 is in use by pod shop/web on node worker1 (there is no such pod any more).
It lies in IPPool default, block 10.48.0.0/26, which node worker1 has leased for 26h.
`,
		"10.48.0.1": `
10.48.0.1 is in use by 2 at once, which must not be:
  pod shop/database on node worker1, which was made 60m ago
  the VXLAN tunnel of node worker2
It lies in IPPool default, block 10.48.0.0/26, which node worker1 has leased for 26h.
`,
		"10.48.0.200": `
Nobody has 10.48.0.200.
It lies in IPPool default, in a block that nobody leases.
`,
		"192.0.2.1": `
Nobody has 192.0.2.1.
It lies in no IPPool.
`,
	} {
		t.Run(address, func(t *testing.T) { same(t, AddressOf(c, netip.MustParseAddr(address), now()), want) })
	}
}

func TestCheck(t *testing.T) {
	c := addresses()
	same(t, CheckOf(c, nil), `
Looked at 2 pools, 1 blocks and 2 addresses of 2 nodes.
Everything fits together.
`)
	findings := []usage.Finding{
		{Reason: "AddressTwice", Object: "10.48.0.1", Message: "a and b have it: delete one of them"},
		{Reason: "AffinityLeft", Object: "BlockAffinity a", Message: "there is no such IPAMBlock", Repair: &usage.Repair{}, Repairable: true},
	}
	r := CheckOf(c, findings)
	same(t, r, `
Looked at 2 pools, 1 blocks and 2 addresses of 2 nodes.
AddressTwice, 10.48.0.1: a and b have it: delete one of them
AffinityLeft, BlockAffinity a: there is no such IPAMBlock
    --fix mends it
`)
	r.Mended = map[string]string{Key(&findings[1]): "mended"}
	if got := text(t, r); !strings.Contains(got, "\n    mended\n") {
		t.Errorf("what was mended is not told: %s", got)
	}
}

func TestFormats(t *testing.T) {
	r := AllSessions(states()[1:], now())
	r.Sessions = r.Sessions[1:2]
	for format, want := range map[string]string{
		FormatJSON: `{
    "sessions": [
        {
            "node": "worker1",
            "peer": "mesh",
            "address": "10.0.0.12",
            "peerNode": "worker2",
            "asNumber": 64512,
            "state": "Established",
            "since": "2023-11-14T21:13:20Z",
            "received": 1,
            "advertised": 2
        }
    ]
}
`,
		FormatYAML: `sessions:
- address: 10.0.0.12
  advertised: 2
  asNumber: 64512
  node: worker1
  peer: mesh
  peerNode: worker2
  received: 1
  since: "2023-11-14T21:13:20Z"
  state: Established
`,
	} {
		r.Sessions[0].Since = r.Sessions[0].Since.UTC()
		var b strings.Builder
		if err := Write(&b, r, format); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
	if err := Write(new(strings.Builder), r, "xml"); err == nil || !strings.Contains(err.Error(), "want json or yaml") {
		t.Errorf("a format that there is not: %v", err)
	}
}

func TestRoutes(t *testing.T) {
	s := &v3.CalicoNodeStatus{Spec: v3.CalicoNodeStatusSpec{Node: "worker1"}}
	s.Status.Routes = v3.NodeRouteStatus{
		RoutesV4: []v3.NodeRoute{
			{Type: "FIB", Destination: "10.49.0.0/16", Gateway: "192.0.2.1", Interface: "eth0", LearnedFrom: v3.NodeRouteSource{SourceType: "BGPPeer", PeerIP: "192.0.2.1"}},
			{Type: "RIB", Destination: "10.48.0.64/26", Gateway: "10.0.0.12", LearnedFrom: v3.NodeRouteSource{SourceType: "NodeMesh", PeerIP: "10.0.0.12"}},
		},
		RoutesV6: []v3.NodeRoute{{Type: "FIB", Destination: "fd00::/64", Interface: "eth0", LearnedFrom: v3.NodeRouteSource{SourceType: "Direct"}}},
	}
	same(t, RoutesOf(s, netip.Addr{}), `
DESTINATION     GATEWAY     INTERFACE   IN         SOURCE     PEER
10.48.0.64/26   10.0.0.12   -           BGP only   NodeMesh   10.0.0.12
10.49.0.0/16    192.0.2.1   eth0        kernel     BGPPeer    192.0.2.1
fd00::/64       -           eth0        kernel     Direct     -
`)
	same(t, RoutesOf(s, netip.MustParseAddr("192.0.2.1")), `
DESTINATION    GATEWAY     INTERFACE   IN       SOURCE    PEER
10.49.0.0/16   192.0.2.1   eth0        kernel   BGPPeer   192.0.2.1
`)
	same(t, RoutesOf(s, netip.MustParseAddr("192.0.2.2")), "\nNo routes.\n")
}

// TestExplainCIDR: a pool that is kept from BGP, a session that does not stand, and a filter each have their own words.
func TestExplainCIDR(t *testing.T) {
	all := states()
	well, ill := &all[1], &all[0]
	well.Spec.Blocks = append(well.Spec.Blocks, v1alpha1.BlockLease{CIDR: "10.99.0.0/26"})
	well.Spec.Pools = []v1alpha1.Pool{{CIDR: "10.48.0.0/16"}, {CIDR: "10.99.0.0/16", DisableBGPExport: true}}
	well.Spec.BGP.ASNumber = 64512
	well.Spec.BGP.Sessions[0].ASNumber, well.Spec.BGP.Sessions[0].Filters = 65001, []string{"no-pods"}
	well.Spec.BGP.Filters = []v1alpha1.BGPRouteFilter{{Name: "no-pods", Export: []v1alpha1.BGPRouteRule{{Family: 4, Operator: "In", CIDR: "10.48.0.0/16"}}}}
	well.Status.BGPSessions, well.Status.BGPGroups = well.Status.BGPSessions[1:], []v1alpha1.BGPGroupStatus{{Name: "mesh", Family: 4, Sessions: 2, Established: 1}}
	ill.Spec.Blocks = []v1alpha1.BlockLease{{CIDR: "10.48.0.64/26"}}
	ill.Spec.BGP.Sessions = ill.Spec.BGP.Sessions[:1]
	same(t, ExplainCIDR(netip.MustParsePrefix("10.0.0.0/8"), all), `
10.48.0.0/26 from worker1: advertised as 10.48.0.0/26: it is a block of the node
  to mesh (all 2 over IPv4): sent: 1 of 2 Established
  to rack (192.0.2.1): not sent: export rule 1 of BGPFilter no-pods rejects it
10.48.0.64/26 from worker2: advertised as 10.48.0.64/26: it is a block of the node
  to rack (192.0.2.1): not sent: the session is Active: Unreachable
10.99.0.0/26 from worker1: not advertised: it is a block of the node; pool 10.99.0.0/16 has disableBGPExport
`)
	same(t, ExplainCIDR(netip.MustParsePrefix("172.16.0.0/12"), all), "\nNo node has anything of 172.16.0.0/12 to advertise.\n")
}
