package bgp

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/netns"
)

// Filters for IPv6 at work on real routes, in a session of IPv6 and in one of IPv4 that carries both: each operator, both ways.
func TestFiltersOfIPv6(t *testing.T) {
	withEach(t, func(t *testing.T, kind Kind) {
		for _, over := range networks() {
			t.Run("over "+over.name, func(t *testing.T) { filtersOfIPv6(t, kind, over) })
		}
	})
}

func filtersOfIPv6(t *testing.T, kind Kind, over network) {
	t.Helper()
	const node6, tor6 = "2001:db8::1", "2001:db8::100"
	node, tor := netns.New(t), netns.New(t)
	link(t, node, tor, "eth0", nodeAddress+"/24", torAddress+"/24")
	node.Address("eth0", node6+"/64")
	tor.Address("eth0", tor6+"/64")
	p := Peering{Router: over.tor, Node: over.node, RouterAS: rack, NodeAS: nodes, Both: over.name == "IPv4"}
	all := []string{"2001:db8:100::/48", "2001:db8:100:8000::/49", "2001:db8:200::/49"}
	router := (&Setup{ID: torAddress, Peerings: []Peering{p}, Offers: append(offers(all[:2]...), Offer{Prefix: all[2], Communities: []string{"65001:7", "65001:7:7"}})}).Start(t, tor, kind)
	n := NewNode(t, node, "node1")
	b := speaker(nodeAddress, node6)
	announced := []string{"fd00:49:1::/112", "fd00:49:1::7/128", "fd00:49:2::/112"}
	b.Announce = announced
	b.Communities = []v1alpha1.BGPCommunities{{CIDR: announced[0], Values: []string{"64512:100", "64512:1:2"}}}
	b.Sessions = []v1alpha1.BGPSession{session("tor", over.tor, rack)}
	b.Sessions[0].SourceAddress = over.node
	b.Sessions[0].Filters = []string{"f"}
	rule := func(operator, cidr string, accept bool) v1alpha1.BGPRouteRule {
		return v1alpha1.BGPRouteRule{Family: 6, Operator: operator, CIDR: cidr, Accept: accept}
	}
	length := func(low, high int32) v1alpha1.BGPRouteRule {
		return v1alpha1.BGPRouteRule{Family: 6, Accept: true, MinLength: &low, MaxLength: &high}
	}
	rules := func(r ...v1alpha1.BGPRouteRule) []v1alpha1.BGPRouteRule { return r }
	reject, only4 := v1alpha1.BGPRouteRule{Family: 6}, v1alpha1.BGPRouteRule{Family: 4}
	for _, c := range []struct {
		name                 string
		importing, exporting []v1alpha1.BGPRouteRule
		learned, advertised  []string
	}{
		{"none", nil, nil, all, announced},
		{"reject all", rules(reject), rules(reject), nil, nil},
		{"equal", rules(rule("Equal", all[0], true), reject), rules(rule("Equal", announced[0], true), reject), all[:1], announced[:1]},
		{"in", rules(rule("In", all[0], true), reject), rules(rule("In", announced[0], true), reject), all[:2], announced[:2]},
		{"not equal", rules(rule("NotEqual", all[0], false)), rules(rule("NotEqual", announced[1], false)), all[:1], announced[1:2]},
		{"not in", rules(rule("NotIn", all[0], true), reject), rules(rule("NotIn", announced[0], true), reject), all[2:], announced[2:]},
		{"length", rules(length(49, 128), reject), rules(length(0, 112), reject), all[1:], []string{announced[0], announced[2]}},
		{
			"community", rules(v1alpha1.BGPRouteRule{Family: 6, Accept: true, Communities: []string{"65001:7", "65001:7:7"}}, reject),
			rules(v1alpha1.BGPRouteRule{Family: 6, Accept: true, Communities: []string{"64512:100"}}, reject), all[2:], announced[:2],
		},
		{"path", rules(v1alpha1.BGPRouteRule{Family: 6, ASPathPrefix: []int64{rack}}), nil, nil, announced},
		{"interface", rules(v1alpha1.BGPRouteRule{Family: 6, Interface: "eth*"}), rules(v1alpha1.BGPRouteRule{Family: 6, Interface: "eth*"}), nil, announced},
		{"remote peers", rules(v1alpha1.BGPRouteRule{Family: 6, RemotePeers: true}), rules(v1alpha1.BGPRouteRule{Family: 6, RemotePeers: true}), nil, announced},
		{"priority", rules(v1alpha1.BGPRouteRule{Family: 6, Priority: 1024}), nil, nil, announced},
		{"other family", rules(only4), rules(only4), all, announced},
	} {
		b.Filters = []v1alpha1.BGPRouteFilter{{Name: "f", Import: c.importing, Export: c.exporting}}
		n.Input.State = v1alpha1.NodeStateSpec{BGP: b}
		n.Tell()
		t.Log(c.name)
		want := func(prefixes []string, via string) []string {
			var out []string
			for _, p := range prefixes {
				out = append(out, p+" via "+via)
			}
			return out
		}
		WantRoutes(t, node, "2001:db8:100::/48 2001:db8:200::/48", want(c.learned, tor6)...)
		WantRoutes(t, tor, "fd00:49::/32", want(c.advertised, node6)...)
	}
	b.Filters[0] = v1alpha1.BGPRouteFilter{
		Name: "f", Import: rules(v1alpha1.BGPRouteRule{Family: 6, Accept: true, Operations: []v1alpha1.BGPRouteOperation{{SetPriority: 77}}}),
		Export: rules(v1alpha1.BGPRouteRule{Family: 6, Accept: true, Operations: []v1alpha1.BGPRouteOperation{
			{AddCommunity: "64512:5"}, {AddCommunity: "64512:7:8"}, {PrependASPath: []int64{64512, 64600}},
		}}),
	}
	n.Tell()
	Eventually(t, func() string {
		want := []Known{{NextHop: node6, Path: "64512 64600 64512", Communities: []string{"64512:5", "64512:7:8"}}}
		if got := router.Knows(announced[2]); !reflect.DeepEqual(got, want) {
			return fmt.Sprintf("%s is %+v, want %+v", announced[2], got, want)
		}
		if got := metrics(node, all[0]); !slices.Equal(got, []string{all[0] + " 77"}) {
			return fmt.Sprintf("metrics are %q", got)
		}
		return ""
	})
}

// Routes of IPv6 to one destination over several routers: what one of them loses goes over the others, and comes back.
func TestWaysOfIPv6(t *testing.T) {
	withEach(t, func(t *testing.T, kind Kind) {
		const outside6 = "2001:db8:f::/48"
		ns := Bridged(t, []string{"2001:db8::1/64"}, []string{"2001:db8::100/64"}, []string{"2001:db8::101/64"}, []string{"2001:db8::102/64"})
		n := NewNode(t, ns[0], "node1")
		b := networksOf("IPv6").speaker()
		var routers []*Router
		var peerings []Peering
		for i := range 3 {
			p := Peering{Router: fmt.Sprintf("2001:db8::10%d", i), Node: "2001:db8::1", RouterAS: rack, NodeAS: nodes}
			peerings = append(peerings, p)
			routers = append(routers, (&Setup{ID: fmt.Sprintf("192.0.2.10%d", i), Peerings: []Peering{p}, Offers: offers(outside6)}).Start(t, ns[i+1], kind))
			b.Sessions = append(b.Sessions, session("tor", p.Router, rack))
		}
		n.Input.State = v1alpha1.NodeStateSpec{BGP: b}
		n.Tell()
		over := func(which ...int) {
			t.Helper()
			var hops []string
			for _, i := range which {
				hops = append(hops, peerings[i].Router)
			}
			if hops == nil {
				WantRoutes(t, ns[0], outside6)
				return
			}
			WantRoutes(t, ns[0], outside6, outside6+" via "+strings.Join(hops, ", "))
		}
		over(0, 1, 2)
		routers[1].Disable(&peerings[1])
		over(0, 2)
		routers[0].Disable(&peerings[0])
		over(2)
		routers[1].Enable(&peerings[1])
		over(1, 2)
		routers[1].Disable(&peerings[1])
		routers[2].Disable(&peerings[2])
		over()
	})
}

// networksOf is the network of a family.
func networksOf(family string) *network {
	all := networks()
	return &all[slices.IndexFunc(all, func(w network) bool { return w.name == family })]
}

// The mesh of nodes of both families has a session for each, and each carries its own routes.
func TestMeshOfBothFamilies(t *testing.T) {
	ns := Bridged(t, []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"}, []string{"2001:db8::3/64"})
	const pool6 = "fd00:48::/32"
	networks := map[string]v1alpha1.NodeNetworkSpec{}
	var all []*Node
	for i := range ns {
		addresses := []string{fmt.Sprintf("192.0.2.%d", i+1), fmt.Sprintf("2001:db8::%d", i+1)}
		blocks := []string{fmt.Sprintf("10.48.%d.0/26", i+1), fmt.Sprintf("fd00:48:%d::/122", i+1)}
		if i == 2 { // a node of IPv6 alone
			addresses, blocks = addresses[1:], blocks[1:]
		}
		networks[fmt.Sprintf("n%d", i+1)] = v1alpha1.NodeNetworkSpec{Addresses: addresses, Blocks: blocks, BGP: &v1alpha1.MeshMember{ASNumber: nodes, Port: 179}}
		n := NewNode(t, ns[i], fmt.Sprintf("n%d", i+1))
		b := speaker(addresses...)
		b.RouterID, b.Mesh = fmt.Sprintf("192.0.2.%d", i+1), &v1alpha1.BGPMesh{}
		n.Input.State = v1alpha1.NodeStateSpec{Pools: []v1alpha1.Pool{{CIDR: pool4, RoutesByBGP: true}, {CIDR: pool6, RoutesByBGP: true}}, BGP: b}
		for _, block := range blocks {
			pool := pool4
			if strings.Contains(block, ":") {
				pool = pool6
			}
			n.Input.State.Blocks = append(n.Input.State.Blocks, v1alpha1.BlockLease{CIDR: block, Pool: pool})
		}
		all = append(all, n)
	}
	for _, n := range all {
		n.Input.Networks = networks
		n.Tell()
	}
	WantRoutes(t, ns[0], pool4+" "+pool6, "10.48.2.0/26 via 192.0.2.2", "fd00:48:2::/122 via 2001:db8::2", "fd00:48:3::/122 via 2001:db8::3")
	WantRoutes(t, ns[2], pool4+" "+pool6, "fd00:48:1::/122 via 2001:db8::1", "fd00:48:2::/122 via 2001:db8::2")
	all[0].Counted(v1alpha1.BGPGroupStatus{Name: "mesh", Family: 4, Sessions: 1, Established: 1}, v1alpha1.BGPGroupStatus{Name: "mesh", Family: 6, Sessions: 2, Established: 2})
}

// A session of IPv6 carries routes of IPv4 where both ends agree. A router without an address of a route's family sends a next hop that is none, or one
// of the other family: such a route is not used, not even where the node has a default route, and disturbs no other.
func TestRoutesOfTheOtherFamily(t *testing.T) {
	const outside6, nowhere6 = "2001:db8:f::/48", "2001:db8:e::/48"
	ns := Bridged(t, []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.100/24", "2001:db8::100/64"}, []string{"192.0.2.101/24"})
	ns[0].Route("::/0", "2001:db8::100", "eth0")
	ns[2].Sysctl("ipv6/conf/eth0/disable_ipv6", "1") // by its link-local address it could be reached, and FRR sends that once it has seen it
	NewBIRD(t, ns[1], "192.0.2.100", birdPeer("node", "2001:db8::100", "2001:db8::1", rack, nodes, "",
		"ipv6 { import all; export all; }; ipv4 { import all; export all; next hop address 192.0.2.100; };")+staticRoute(outside)+staticRoute(outside6))
	(&Setup{ID: "192.0.2.101", Peerings: []Peering{{Router: "192.0.2.101", Node: "192.0.2.1", RouterAS: rack, NodeAS: nodes, Both: true}}, Offers: offers(outside, outside6, nowhere6)}).Start(t, ns[2], FRR)
	n := NewNode(t, ns[0], "node1")
	b := speaker("192.0.2.1", "2001:db8::1")
	b.Sessions = []v1alpha1.BGPSession{session("tor", "2001:db8::100", rack), session("tor", "192.0.2.101", rack)}
	n.Input.State = withBlock(b)
	n.Tell()
	Eventually(t, func() string {
		if got := n.Session("tor/192.0.2.101"); got.Received < 3 {
			return fmt.Sprintf("not all was received: %+v", got)
		}
		return ""
	})
	WantRoutes(t, ns[0], outside+" "+outside6+" "+nowhere6, outside+" via 192.0.2.100, 192.0.2.101", outside6+" via 2001:db8::100")
	WantRoutes(t, ns[1], pool4, block4+" via 192.0.2.1")
	if problems := n.Status().Failures; len(problems) > 0 {
		t.Errorf("refused: %+v", problems)
	}
}
