package bgp

import (
	"fmt"
	"strings"
	"testing"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/netns"
)

// blockOf is the node's block, and byBGP its state with pools that BGP is in charge of.
func byBGP(block string, b *v1alpha1.BGP) v1alpha1.NodeStateSpec {
	s := v1alpha1.NodeStateSpec{Pools: []v1alpha1.Pool{{CIDR: pool4, RoutesByBGP: true}}, BGP: b}
	if block != "" {
		s.Blocks = []v1alpha1.BlockLease{{CIDR: block, Pool: pool4}}
	}
	return s
}

// The mesh of nodes carries their routes, and a router of the racks gets them from each of their nodes only.
func TestMesh(t *testing.T) {
	ns := Bridged(t, []string{"192.0.2.1/24"}, []string{"192.0.2.2/24"}, []string{"192.0.2.3/24"})
	var all []*Node
	networks := map[string]v1alpha1.NodeNetworkSpec{}
	for i := range ns {
		networks[fmt.Sprintf("n%d", i+1)] = v1alpha1.NodeNetworkSpec{
			Addresses: []string{fmt.Sprintf("192.0.2.%d", i+1)}, Blocks: []string{fmt.Sprintf("10.48.%d.0/26", i+1)},
			BGP: &v1alpha1.MeshMember{ASNumber: nodes, Port: 179},
		}
	}
	for i := range ns {
		n := NewNode(t, ns[i], fmt.Sprintf("n%d", i+1))
		b := speaker(fmt.Sprintf("192.0.2.%d", i+1))
		b.Mesh = &v1alpha1.BGPMesh{}
		n.Input.State, n.Input.Networks = byBGP(fmt.Sprintf("10.48.%d.0/26", i+1), b), networks
		n.Tell()
		all = append(all, n)
	}
	WantRoutes(t, ns[0], pool4, "10.48.2.0/26 via 192.0.2.2", "10.48.3.0/26 via 192.0.2.3")
	WantRoutes(t, ns[2], pool4, "10.48.1.0/26 via 192.0.2.1", "10.48.2.0/26 via 192.0.2.2")
	all[0].Counted(v1alpha1.BGPGroupStatus{Name: "mesh", Family: 4, Sessions: 2, Established: 2})
	// nodeMeshPassword: sessions stand again when all have it, and are not made without the Secret.
	for _, n := range all {
		n.Input.State.BGP.Mesh = &v1alpha1.BGPMesh{Password: &v1alpha1.SecretKey{Name: "bgp", Key: "mesh"}, RestartSeconds: 4}
		n.Tell()
	}
	all[0].Counted(v1alpha1.BGPGroupStatus{Name: "mesh", Family: 4, Sessions: 2})
	WantRoutes(t, ns[0], pool4)
	for i, n := range all {
		n.Input.Secrets = map[string]string{"bgp/mesh": []string{"one", "one", "two"}[i]}
		n.Tell()
	}
	WantRoutes(t, ns[0], pool4, "10.48.2.0/26 via 192.0.2.2")
	all[2].Input.Secrets = map[string]string{"bgp/mesh": "one"}
	all[2].Tell()
	WantRoutes(t, ns[0], pool4, "10.48.2.0/26 via 192.0.2.2", "10.48.3.0/26 via 192.0.2.3")
	// nodeMeshMaxRestartTime: a node that does not come back loses its routes then, and one that leaves the mesh at once.
	all[1].Kill()
	WantRoutes(t, ns[0], pool4, "10.48.3.0/26 via 192.0.2.3")
	delete(networks, "n3")
	all[0].Tell()
	WantRoutes(t, ns[0], pool4)
}

// A BIRD and an FRR that reflect routes among nodes; and a node that reflects routes among a BIRD, an FRR and a node.
func TestRouteReflectors(t *testing.T) {
	t.Run("routers", func(t *testing.T) {
		ns := Bridged(t, []string{"192.0.2.1/24"}, []string{"192.0.2.2/24"}, []string{"192.0.2.100/24"}, []string{"192.0.2.101/24"})
		NewBIRD(t, ns[2], "192.0.2.100", birdPeer("a", "192.0.2.100", "192.0.2.1", nodes, nodes, "rr client;", "")+
			birdPeer("b", "192.0.2.100", "192.0.2.2", nodes, nodes, "rr client;", ""))
		NewFRR(t, ns[3], frr(nodes, "192.0.2.101", []string{"192.0.2.1", "192.0.2.2"}, nodes,
			"neighbor 192.0.2.1 route-reflector-client", "neighbor 192.0.2.2 route-reflector-client"))
		for i := range 2 {
			n := NewNode(t, ns[i], fmt.Sprintf("n%d", i+1))
			b := speaker(fmt.Sprintf("192.0.2.%d", i+1))
			b.Sessions = []v1alpha1.BGPSession{session("rr", "192.0.2.100", nodes), session("rr", "192.0.2.101", nodes)}
			n.Input.State = byBGP(fmt.Sprintf("10.48.%d.0/26", i+1), b)
			n.Tell()
			n.Established("rr/192.0.2.100", "rr/192.0.2.101")
		}
		WantRoutes(t, ns[0], pool4, "10.48.2.0/26 via 192.0.2.2")
		WantRoutes(t, ns[1], pool4, "10.48.1.0/26 via 192.0.2.1")
	})
	t.Run("node", func(t *testing.T) {
		ns := Bridged(t, []string{"192.0.2.1/24"}, []string{"192.0.2.2/24"}, []string{"192.0.2.100/24"}, []string{"192.0.2.101/24"})
		NewBIRD(t, ns[2], "192.0.2.100", birdPeer("reflector", "192.0.2.100", "192.0.2.1", nodes, nodes, "", "")+staticRoute("10.48.100.0/26")+staticRoute(outside))
		NewFRR(t, ns[3], frr(nodes, "192.0.2.101", []string{"192.0.2.1"}, nodes, "network 10.48.101.0/26"))
		reflector, client := NewNode(t, ns[0], "n1"), NewNode(t, ns[1], "n2")
		b := speaker("192.0.2.1")
		b.ClusterID = "192.0.2.1"
		b.Groups = []v1alpha1.BGPGroup{{
			Session: v1alpha1.BGPSession{Name: "client", ASNumber: nodes, Client: true}, Members: []string{"192.0.2.2", "192.0.2.100", "192.0.2.101"},
		}}
		reflector.Input.State = byBGP("10.48.1.0/26", b)
		reflector.Tell()
		b = speaker("192.0.2.2")
		b.Sessions = []v1alpha1.BGPSession{session("rr", "192.0.2.1", nodes)}
		client.Input.State = byBGP("10.48.2.0/26", b)
		client.Tell()
		WantRoutes(t, ns[1], pool4, "10.48.1.0/26 via 192.0.2.1", "10.48.100.0/26 via 192.0.2.100", "10.48.101.0/26 via 192.0.2.101")
		WantRoutes(t, ns[2], pool4+" "+services, "10.48.1.0/26 via 192.0.2.1", "10.48.101.0/26 via 192.0.2.101", "10.48.2.0/26 via 192.0.2.2")
		WantRoutes(t, ns[3], pool4, "10.48.1.0/26 via 192.0.2.1", "10.48.100.0/26 via 192.0.2.100", "10.48.2.0/26 via 192.0.2.2")
		WantRoutes(t, ns[0], outside, outside+" via 192.0.2.100")
		WantRoutes(t, ns[1], outside) // outside the cluster's pools, and not passed on
		reflector.Counted(v1alpha1.BGPGroupStatus{Name: "client", Family: 4, Sessions: 3, Established: 3})
	})
}

// frr is FRR's configuration of bgpd.
func frr(as int, id string, peers []string, peerAS int, more ...string) string {
	out := fmt.Sprintf("router bgp %d\n bgp router-id %s\n no bgp ebgp-requires-policy\n no bgp network import-check\n", as, id)
	for _, p := range peers {
		out += fmt.Sprintf(" neighbor %s remote-as %d\n neighbor %s timers connect 1\n neighbor %s advertisement-interval 0\n", p, peerAS, p, p)
	}
	return out + " address-family ipv4 unicast\n  " + strings.Join(more, "\n  ") + "\n exit-address-family\n"
}

// IPv6, by a session of its own or by one of IPv4, with FRR and BIRD.
func TestIPv6(t *testing.T) {
	const block6, outside6 = "fd00:48:1::/122", "2001:db8:f::/48"
	ns := Bridged(t, []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.100/24", "2001:db8::100/64"}, []string{"192.0.2.101/24", "2001:db8::101/64"},
		[]string{"192.0.2.102/24", "2001:db8::102/64"}, []string{"192.0.2.103/24", "2001:db8::103/64"})
	NewBIRD(t, ns[1], "192.0.2.100", birdPeer("node", "2001:db8::100", "2001:db8::1", rack, nodes, "", "ipv6 { import all; export all; };")+staticRoute(outside6))
	NewBIRD(t, ns[2], "192.0.2.101", birdPeer("node", "192.0.2.101", "192.0.2.1", rack, nodes, "",
		"ipv4 { import all; export all; }; ipv6 { import all; export all; next hop address 2001:db8::101; };")+staticRoute(outside6)+staticRoute(outside))
	(&Setup{ID: "192.0.2.102", Peerings: []Peering{{Router: "2001:db8::102", Node: "2001:db8::1", RouterAS: rack, NodeAS: nodes}}, Offers: offers(outside6)}).Start(t, ns[3], FRR)
	(&Setup{ID: "192.0.2.103", Peerings: []Peering{{Router: "192.0.2.103", Node: "192.0.2.1", RouterAS: rack, NodeAS: nodes, Both: true}}, Offers: offers(outside6, outside)}).Start(t, ns[4], FRR)
	n := NewNode(t, ns[0], "node1")
	b := speaker("192.0.2.1", "2001:db8::1")
	b.Sessions = []v1alpha1.BGPSession{
		session("tor", "192.0.2.101", rack), session("tor", "192.0.2.103", rack), session("tor", "2001:db8::100", rack), session("tor", "2001:db8::102", rack),
	}
	n.Input.State = v1alpha1.NodeStateSpec{
		Blocks: []v1alpha1.BlockLease{{CIDR: block4, Pool: pool4}, {CIDR: block6, Pool: "fd00:48::/32"}},
		Pools:  []v1alpha1.Pool{{CIDR: pool4}, {CIDR: "fd00:48::/32"}}, BGP: b,
	}
	n.Tell()
	WantRoutes(t, ns[0], "2001:db8:f::/48 "+outside,
		outside6+" via 2001:db8::100, 2001:db8::101, 2001:db8::102, 2001:db8::103", outside+" via 192.0.2.101, 192.0.2.103")
	for _, router := range []int{1, 3} {
		WantRoutes(t, ns[router], "fd00:48::/32 "+pool4, block6+" via 2001:db8::1")
	}
	for _, router := range []int{2, 4} {
		WantRoutes(t, ns[router], "fd00:48::/32 "+pool4, block6+" via 2001:db8::1", block4+" via 192.0.2.1")
	}
}

// A thousand prefixes come and go, sessions end and begin, and nothing is left behind.
func TestChurn(t *testing.T) { withEach(t, churn) }

func churn(t *testing.T, kind Kind) {
	t.Helper()
	node, tor := netns.New(t), netns.New(t)
	link(t, node, tor, "eth0", "192.0.2.1/24", "192.0.2.100/24")
	p := rackPeering()
	router := (&Setup{ID: torAddress, Peerings: []Peering{p}}).Start(t, tor, kind)
	n := NewNode(t, node, "node1")
	b := speaker("192.0.2.1")
	b.Sessions = []v1alpha1.BGPSession{session("tor", "192.0.2.100", rack)}
	n.Input.State = v1alpha1.NodeStateSpec{BGP: b}
	n.Tell()
	n.Established("tor/192.0.2.100")
	var all []string
	for i := range 1000 {
		all = append(all, fmt.Sprintf("10.49.%d.%d/32", i/250, i%250+1))
	}
	for round := range 3 {
		for i := 0; i <= len(all); i += 50 {
			n.Input.State.BGP.Announce = all[:i]
			n.Tell()
			if round == 1 && i == 500 {
				router.Restart(&p)
			}
		}
		want := make([]string, len(all))
		for i, p := range all {
			want[i] = p + " via 192.0.2.1"
		}
		WantRoutes(t, tor, services, want...)
		for i := len(all); i >= 0; i -= 50 {
			n.Input.State.BGP.Announce = all[:i]
			n.Tell()
		}
		WantRoutes(t, tor, services)
	}
	t.Logf("after that the node agent has %d MiB resident", n.Memory())
}
