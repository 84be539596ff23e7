package bgp

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/bgp"
	"github.com/manul-net/manul/test/netns"
)

const (
	// behind are the addresses of other nodes, all of which one BIRD has, and pool is what their blocks are of.
	behind, pool = "10.200.0.0/16", "10.48.0.0/12"
	// patience bounds the wait for a mesh's sessions, idle is how long a node that has nothing to do is watched.
	patience, idle = 2 * time.Minute, 10 * time.Second
	// nodes of a large cluster.
	nodes = 5000
)

func addressOf(i int) string { return fmt.Sprintf("10.200.%d.%d", i>>8, i&255) }

func blockOf(i int) string { return fmt.Sprintf("10.%d.%d.%d/26", 48+i>>10, i>>2&255, i&3*64) }

// cluster is a node beside the others, which are one BIRD.
func cluster(b *testing.B, configuration string) (n *bgp.Node) {
	b.Helper()
	ns, others := netns.New(b), netns.New(b)
	ns.Veth("eth0", others, "eth0")
	ns.Address("eth0", nodeAddress+"/24")
	others.Address("eth0", routerAddress+"/24")
	ns.Up("eth0")
	others.Up("eth0")
	ns.Route(behind, routerAddress, "eth0")
	dst, err := netlink.ParseIPNet(behind)
	if err != nil {
		b.Fatal(err)
	}
	others.Up("lo")
	local := &netlink.Route{Dst: dst, LinkIndex: others.Link("lo").Attrs().Index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST}
	if err := others.RouteAdd(local); err != nil {
		b.Fatal(err)
	}
	bgp.NewBIRD(b, others, routerAddress, configuration)
	n = bgp.NewNode(b, ns, "node1")
	n.Input.State = v1alpha1.NodeStateSpec{
		Blocks: []v1alpha1.BlockLease{{CIDR: "10.63.255.0/26", Pool: pool}}, Pools: []v1alpha1.Pool{{CIDR: pool, RoutesByBGP: true}},
		BGP: &v1alpha1.BGP{ASNumber: 64512, RouterID: nodeAddress, Addresses: []string{nodeAddress}, ListenPort: 179},
	}
	return n
}

// soon waits for a state, and tells how long that took. To look at thousands of routes costs what the node would compute with, so that is done seldom.
func soon(b *testing.B, start time.Time, problem func() string) time.Duration {
	b.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for missing := problem(); missing != ""; missing = problem() {
		if time.Since(start) > patience {
			b.Fatalf("after %v: %s", patience, missing)
		}
		<-tick.C
	}
	return time.Since(start)
}

// BenchmarkMesh is a node in meshes of several sizes, each of whose other nodes has a block: how long until all sessions stand and all blocks have
// routes, what that costs, what the node computes while nothing happens, and how soon it has a session with one node more.
func BenchmarkMesh(b *testing.B) {
	for _, members := range []int{50, 200, 500, 1000} {
		b.Run(fmt.Sprintf("nodes=%d", members), func(b *testing.B) {
			for b.Loop() {
				mesh(b, members)
			}
		})
	}
}

func mesh(b *testing.B, members int) {
	b.Helper()
	var configuration strings.Builder
	networks := map[string]v1alpha1.NodeNetworkSpec{}
	for i := range members + 1 { // the last one joins late
		fmt.Fprintf(&configuration, "protocol static s%d { ipv4; route %s blackhole; }\n", i, blockOf(i))
		fmt.Fprintf(&configuration, "protocol bgp n%d { local %s as 64512; neighbor %s port %d as 64512; passive yes; ipv4 { import all; export where net = %s; }; }\n",
			i, addressOf(i), nodeAddress, 10000+i, blockOf(i)) // BIRD has one session with each address and port, even if it does not connect to it
		if i < members {
			networks[fmt.Sprint("n", i)] = member(i)
		}
	}
	n := cluster(b, configuration.String())
	n.Input.State.BGP.Mesh = &v1alpha1.BGPMesh{}
	n.Input.Networks = networks
	before := n.Memory()
	start := time.Now()
	n.Tell()
	established := func(count int) func() string {
		return func() string {
			for _, g := range n.Status().BGPGroups {
				if int(g.Established) == count {
					return ""
				}
			}
			return fmt.Sprintf("%+v %+v", n.Status().BGPGroups, n.Status().BGPSessions)
		}
	}
	b.ReportMetric(soon(b, start, established(members)).Seconds(), "established-s")
	b.ReportMetric(soon(b, start, routed(n.NS, pool, members)).Seconds(), "routed-s")
	b.ReportMetric(n.CPU().Seconds(), "cpu-s")
	b.ReportMetric(float64(n.Memory()-before), "MiB")
	cpu, rest := n.CPU(), time.NewTimer(idle)
	<-rest.C
	b.ReportMetric(100*(n.CPU()-cpu).Seconds()/idle.Seconds(), "idle-cpu-%")
	networks["late"] = member(members)
	cpu, start = n.CPU(), time.Now()
	n.Tell()
	b.ReportMetric(soon(b, start, established(members+1)).Seconds()*1000, "one-more-ms")
	b.ReportMetric((n.CPU()-cpu).Seconds()*1000, "one-more-cpu-ms")
}

// member is a node of the mesh.
func member(i int) v1alpha1.NodeNetworkSpec {
	return v1alpha1.NodeNetworkSpec{
		Addresses: []string{addressOf(i)}, Blocks: []string{blockOf(i)}, BGP: &v1alpha1.MeshMember{ASNumber: 64512, Port: 179},
	}
}

// routed tells whether a kernel has so many routes to destinations inside within.
func routed(ns *netns.NS, within string, count int) func() string {
	return func() string {
		if got := len(bgp.Routes(ns, within)); got != count {
			return fmt.Sprintf("%d routes of %d", got, count)
		}
		return ""
	}
}

// BenchmarkReflector is a node that learns the blocks of 5,000 others, each with that node as the next hop, in one session with a route reflector, as
// large clusters have it: how long until the kernel has them, and what that costs.
func BenchmarkReflector(b *testing.B) {
	var configuration strings.Builder
	fmt.Fprintf(&configuration, "protocol bgp node { local %s as 64512; neighbor %s as 64512; rr client; %sgraceful restart on; "+
		"ipv4 { import all; export all; next hop keep; }; }\nprotocol static blocks { ipv4;\n", routerAddress, nodeAddress, soonAgain)
	for i := range nodes {
		fmt.Fprintf(&configuration, "route %s blackhole { bgp_next_hop = %s; };\n", blockOf(i), addressOf(i))
	}
	configuration.WriteString("}\n")
	for b.Loop() {
		n := cluster(b, configuration.String())
		n.Input.State.BGP.Sessions = []v1alpha1.BGPSession{{Name: sessionName, Address: routerAddress, ASNumber: 64512}}
		before := n.Memory()
		measureBlocks(b, n)
		b.ReportMetric(float64(n.Memory()-before), "MiB")
		if got := bgp.Routes(n.NS, blockOf(0)); len(got) != 1 {
			b.Fatalf("routes to %s: %v", blockOf(0), got)
		}
	}
}
