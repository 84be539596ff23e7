package bgp

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/netns"
)

func TestMain(m *testing.M) {
	if os.Getenv(NodeVariable) != "" {
		if err := Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	rack     = 65001
	nodes    = 64512
	pool4    = "10.48.0.0/16"
	block4   = "10.48.1.0/26"
	services = "10.49.0.0/16"
	outside  = "198.51.100.0/24"
)

// speaker is what every node is told about BGP.
func speaker(addresses ...string) *v1alpha1.BGP {
	return &v1alpha1.BGP{ASNumber: nodes, RouterID: addresses[0], Addresses: addresses, ListenPort: 179}
}

func withBlock(b *v1alpha1.BGP) v1alpha1.NodeStateSpec {
	return v1alpha1.NodeStateSpec{
		Blocks: []v1alpha1.BlockLease{{CIDR: block4, Pool: pool4}},
		Pools:  []v1alpha1.Pool{{CIDR: pool4}},
		BGP:    b,
	}
}

// birdPeer is BIRD's side of a session with a node.
func birdPeer(name, local, peer string, localAS, peerAS int, more, channels string) string {
	if channels == "" {
		channels = "ipv4 { import all; export all; };"
	}
	return fmt.Sprintf("protocol bgp %s { local %s as %d; neighbor %s as %d; connect delay time 1; error wait time 1,2; graceful restart on; %s\n%s }\n",
		name, local, localAS, peer, peerAS, more, channels)
}

func link(t *testing.T, a, b *netns.NS, name string, addrA, addrB string) {
	t.Helper()
	a.Veth(name, b, name)
	a.Address(name, addrA)
	b.Address(name, addrB)
	a.Up(name)
	b.Up(name)
}

func TestOneRouter(t *testing.T) {
	node, tor := netns.New(t), netns.New(t)
	link(t, node, tor, "eth0", "192.0.2.1/24", "192.0.2.100/24")
	router := NewBIRD(t, tor, "192.0.2.100", birdPeer("node", "192.0.2.100", "192.0.2.1", rack, nodes, "", "")+
		"protocol static s4 { ipv4; route "+outside+" blackhole; }\n")
	n := NewNode(t, node, "node1")
	bgp := speaker("192.0.2.1")
	bgp.Announce = []string{services}
	bgp.Sessions = []v1alpha1.BGPSession{{Name: "tor/192.0.2.100", Address: "192.0.2.100", ASNumber: rack}}
	n.Input.State = withBlock(bgp)
	n.Tell()
	n.Established("tor/192.0.2.100")
	WantRoutes(t, tor, "10.0.0.0/8", block4+" via 192.0.2.1", services+" via 192.0.2.1")
	WantRoutes(t, node, outside, outside+" via 192.0.2.100")
	t.Logf("the node agent has %d MiB resident", n.Memory())
	if all := router.Ask("show", "route", "all"); strings.Contains(all, "community") {
		t.Errorf("the node's routes bear communities that nobody gave them:\n%s", all)
	}

	// What an inquiry tells of the node's routes.
	n.Input.State.Inquiry = &v1alpha1.Inquiry{PeriodSeconds: 1, Routes: true, Sessions: true}
	n.Tell()
	want := []v1alpha1.RouteStatus{
		{Destination: block4, Installed: true, Source: "Static"},
		{Destination: services, Source: "Static"},
		{Destination: "192.0.2.0/24", Interface: "eth0", Installed: true, Source: "Direct"},
		{Destination: "192.0.2.0/24", Gateway: "192.0.2.100", Source: "BGPPeer", Peer: "192.0.2.100"},
		{Destination: outside, Gateway: "192.0.2.100", Interface: "eth0", Installed: true, Source: "BGPPeer", Peer: "192.0.2.100"},
	}
	Eventually(t, func() string {
		r := n.Status().Report
		if r == nil || !slices.Equal(r.Routes, want) || len(r.Sessions) != 1 || r.Sessions[0].Received != 2 {
			return fmt.Sprintf("report is %+v, want routes %+v", r, want)
		}
		return ""
	})

	n.Input.State.BGP.Announce = nil
	n.Tell()
	WantRoutes(t, tor, "10.0.0.0/8", block4+" via 192.0.2.1")
	withSpeaker := n.Memory()
	n.Input.State.BGP = nil
	n.Tell()
	WantRoutes(t, tor, "10.0.0.0/8")
	WantRoutes(t, node, outside)
	t.Logf("with BGP %d MiB, and without it again %d", withSpeaker, n.Memory())
}
