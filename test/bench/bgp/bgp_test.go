// Package bgp measures how long a change takes to reach a router by BGP, and what large tables cost the node agent:
//
//	go test -run xxx -bench . ./test/bench/bgp
package bgp

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/bgp"
	"github.com/manul-net/manul/test/netns"
)

func TestMain(m *testing.M) {
	if os.Getenv(bgp.NodeVariable) != "" {
		if err := bgp.Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	nodeAddress, routerAddress = "192.0.2.1", "192.0.2.100"
	sessionName                = "tor/" + routerAddress
	peering                    = "protocol bgp node { local " + routerAddress + " as 65001; neighbor " + nodeAddress + " as 64512; " + soonAgain + "graceful restart on; " +
		"ipv4 { import all; export all; }; }\n"
	// soonAgain has BIRD try a node again at once, as a rack's router should: of itself it waits for 2 minutes after an attempt that failed, and
	// what is measured is not which end tries first.
	soonAgain = "connect delay time 1; connect retry time 1; error wait time 1,2; "
)

// world is a node and its router, which has BIRD. The node has not been told yet.
func world(b *testing.B, configuration string) (node *bgp.Node, router *netns.NS) {
	b.Helper()
	ns, tor := netns.New(b), netns.New(b)
	ns.Veth("eth0", tor, "eth0")
	ns.Address("eth0", nodeAddress+"/24")
	tor.Address("eth0", routerAddress+"/24")
	ns.Up("eth0")
	tor.Up("eth0")
	bgp.NewBIRD(b, tor, routerAddress, peering+configuration)
	n := bgp.NewNode(b, ns, "node1")
	n.Input.State = v1alpha1.NodeStateSpec{
		Pools: []v1alpha1.Pool{{CIDR: "10.48.0.0/12", RoutesByBGP: true}},
		BGP: &v1alpha1.BGP{
			ASNumber: 64512, RouterID: nodeAddress, Addresses: []string{nodeAddress}, ListenPort: 179,
			Sessions: []v1alpha1.BGPSession{{Name: sessionName, Address: routerAddress, ASNumber: 65001}},
		},
	}
	return n, tor
}

// BenchmarkChangeToRouter is the time from news to the node agent (the API server's and the operator's part is measured on a cluster: "routes" of
// test/e2e/cmd/bench) until the router's kernel has, or no longer has, the route.
func BenchmarkChangeToRouter(b *testing.B) {
	n, router := world(b, "")
	n.Tell()
	n.Established(sessionName)
	updates, done := make(chan netlink.RouteUpdate, 1024), make(chan struct{})
	router.Must("watching routes", func() error { return netlink.RouteSubscribe(updates, done) })
	defer close(done)
	const service = "10.60.0.7/32"
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		kind := uint16(unix.RTM_NEWROUTE)
		n.Input.State.BGP.Announce = []string{service}
		if i%2 == 1 {
			kind, n.Input.State.BGP.Announce = unix.RTM_DELROUTE, nil
		}
		start := time.Now()
		n.Tell()
		deadline := time.NewTimer(10 * time.Second)
		for seen := false; !seen; {
			select {
			case u := <-updates:
				seen = u.Type == kind && u.Dst != nil && u.Dst.String() == service
			case <-deadline.C:
				b.Fatal("the router's kernel does not follow")
			}
		}
		deadline.Stop()
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(len(took)), "n")
}

// BenchmarkTables: 10,000 routes of services to the router, and those of 5,000 nodes' blocks from it. The time of the blocks counts from the first
// of them, since before that the session comes about, for which both ends wait for a second or two.
func BenchmarkTables(b *testing.B) {
	const count, service = 10_000, "10.100.0.0/16"
	for b.Loop() {
		var blocks strings.Builder
		blocks.WriteString("protocol static blocks { ipv4;\n")
		for i := range nodes {
			fmt.Fprintf(&blocks, "route %s blackhole;\n", blockOf(i))
		}
		blocks.WriteString("}\n")
		n, router := world(b, blocks.String())
		measureBlocks(b, n)
		b.ReportMetric(float64(n.Memory()), "MiB-with-blocks")
		for i := range count {
			n.Input.State.BGP.Announce = append(n.Input.State.BGP.Announce, fmt.Sprintf("10.100.%d.%d/32", i>>8, i&255))
		}
		cpu, start := n.CPU(), time.Now()
		n.Tell()
		b.ReportMetric(soon(b, start, routed(router, service, count)).Seconds(), "services-s")
		b.ReportMetric((n.CPU() - cpu).Seconds(), "services-cpu-s")
		b.ReportMetric(float64(n.Memory()), "MiB-with-both")
		n.Input.State.BGP.Announce = nil
		start = time.Now()
		n.Tell()
		b.ReportMetric(soon(b, start, routed(router, service, 0)).Seconds(), "withdrawn-s")
	}
}

// measureBlocks tells a node, and reports how long it takes from the first learned block in the kernel to the last, and what that costs.
func measureBlocks(b *testing.B, n *bgp.Node) {
	b.Helper()
	cpu, start := n.CPU(), time.Now()
	n.Tell()
	first := soon(b, start, func() string {
		if len(bgp.Routes(n.NS, pool)) == 0 {
			return "no routes"
		}
		return ""
	})
	b.ReportMetric(first.Seconds(), "first-block-s")
	b.ReportMetric((soon(b, start, routed(n.NS, pool, nodes)) - first).Seconds(), "blocks-s")
	b.ReportMetric((n.CPU() - cpu).Seconds(), "blocks-cpu-s")
}
