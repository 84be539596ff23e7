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
	peering                    = "protocol bgp node { local " + routerAddress + " as 65001; neighbor " + nodeAddress + " as 64512; connect delay time 1; graceful restart on; " +
		"ipv4 { import all; export all; }; }\n"
)

// world is a node and its router, which has BIRD.
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
	n.Tell()
	n.Established(sessionName)
	return n, tor
}

// BenchmarkChangeToRouter is the time from news to the node agent (the API server's and the operator's part is measured on a cluster: "routes" of
// test/e2e/cmd/bench) until the router's kernel has, or no longer has, the route.
func BenchmarkChangeToRouter(b *testing.B) {
	n, router := world(b, "")
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

// converged waits until a namespace's kernel has so many routes to destinations inside within, and tells how long that took.
func converged(b *testing.B, ns *netns.NS, within string, count int, start time.Time) time.Duration {
	b.Helper()
	bgp.Eventually(b, func() string {
		if got := len(bgp.Routes(ns, within)); got != count {
			return fmt.Sprintf("%d routes of %d", got, count)
		}
		return ""
	})
	return time.Since(start)
}

// BenchmarkTables: 10,000 routes of services to the router, and those of 5,000 nodes' blocks from it.
func BenchmarkTables(b *testing.B) {
	for b.Loop() {
		var blocks strings.Builder
		blocks.WriteString("protocol static blocks { ipv4;\n")
		for i := range 5000 {
			fmt.Fprintf(&blocks, "route 10.%d.%d.%d/26 blackhole;\n", 48+i>>10, i>>2&255, i&3*64)
		}
		blocks.WriteString("}\n")
		start := time.Now()
		n, router := world(b, blocks.String())
		b.ReportMetric(converged(b, n.NS, "10.48.0.0/12", 5000, start).Seconds(), "blocks-s")
		b.ReportMetric(float64(n.Memory()), "MiB-with-blocks")
		for i := range 10_000 {
			n.Input.State.BGP.Announce = append(n.Input.State.BGP.Announce, fmt.Sprintf("10.100.%d.%d/32", i>>8, i&255))
		}
		start = time.Now()
		n.Tell()
		b.ReportMetric(converged(b, router, "10.100.0.0/16", 10_000, start).Seconds(), "services-s")
		b.ReportMetric(float64(n.Memory()), "MiB-with-both")
	}
}
