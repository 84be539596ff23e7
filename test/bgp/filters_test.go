package bgp

import (
	"fmt"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/netns"
)

// Filters at work on real routes, changed while the session stands: what they come to reject is withdrawn at once.
func TestFilters(t *testing.T) { withEach(t, filters) }

func filters(t *testing.T, kind Kind) {
	t.Helper()
	node, tor := netns.New(t), netns.New(t)
	link(t, node, tor, "eth0", "192.0.2.1/24", "192.0.2.100/24")
	router := (&Setup{ID: torAddress, Peerings: []Peering{rackPeering()}, Offers: append(
		offers("198.51.100.0/24", "198.51.100.128/25", "203.0.113.128/25"),
		Offer{Prefix: "203.0.113.0/25", Communities: []string{"65001:7", "65001:7:7"}},
	)}).Start(t, tor, kind)
	n := NewNode(t, node, "node1")
	b := speaker("192.0.2.1")
	b.Announce = []string{"10.49.1.0/24", "10.49.1.7/32", "10.49.2.0/24"}
	b.Communities = []v1alpha1.BGPCommunities{{CIDR: "10.49.1.0/24", Values: []string{"64512:100", "64512:1:2"}}}
	b.Sessions = []v1alpha1.BGPSession{session("tor", "192.0.2.100", rack)}
	n.Input.State = v1alpha1.NodeStateSpec{BGP: b}
	n.Tell()
	const fromTor, fromNode = "198.51.100.0/24 203.0.113.0/24", "10.49.0.0/16"
	all := []string{"198.51.100.0/24", "198.51.100.128/25", "203.0.113.0/25", "203.0.113.128/25"}
	announced := []string{"10.49.1.0/24", "10.49.1.7/32", "10.49.2.0/24"}
	check := func(learned, advertised []string) {
		t.Helper()
		var onNode, onTor []string
		for _, p := range learned {
			onNode = append(onNode, p+" via 192.0.2.100")
		}
		for _, p := range advertised {
			onTor = append(onTor, p+" via 192.0.2.1")
		}
		WantRoutes(t, node, fromTor, onNode...)
		WantRoutes(t, tor, fromNode, onTor...)
	}
	check(all, announced)
	n.Established("tor/192.0.2.100")
	since := n.Session("tor/192.0.2.100").Since
	reject := v1alpha1.BGPRouteRule{Family: 4}
	length := func(low, high int32) v1alpha1.BGPRouteRule {
		return v1alpha1.BGPRouteRule{Family: 4, Accept: true, MinLength: &low, MaxLength: &high}
	}
	cidr := func(operator, cidr string, accept bool) v1alpha1.BGPRouteRule {
		return v1alpha1.BGPRouteRule{Family: 4, Operator: operator, CIDR: cidr, Accept: accept}
	}
	rules := func(r ...v1alpha1.BGPRouteRule) []v1alpha1.BGPRouteRule { return r }
	for _, c := range []struct {
		name                 string
		importing, exporting []v1alpha1.BGPRouteRule
		learned, advertised  []string
	}{
		{"reject all", rules(reject), rules(reject), nil, nil},
		{"equal", rules(cidr("Equal", "198.51.100.0/24", true), reject), rules(cidr("Equal", "10.49.1.0/24", true), reject), all[:1], announced[:1]},
		{"in", rules(cidr("In", "198.51.100.0/24", true), reject), rules(cidr("In", "10.49.1.0/24", true), reject), all[:2], announced[:2]},
		{"not equal", rules(cidr("NotEqual", "198.51.100.0/24", false)), rules(cidr("NotEqual", "10.49.1.7/32", false)), all[:1], announced[1:2]},
		{"not in", rules(cidr("NotIn", "198.51.100.0/24", true), reject), rules(cidr("NotIn", "10.49.1.0/24", true), reject), all[2:], announced[2:]},
		{"length", rules(length(25, 32), reject), rules(length(0, 24), reject), all[1:], []string{announced[0], announced[2]}},
		{
			"community", rules(v1alpha1.BGPRouteRule{Family: 4, Accept: true, Communities: []string{"65001:7", "65001:7:7"}}, reject),
			rules(v1alpha1.BGPRouteRule{Family: 4, Accept: true, Communities: []string{"64512:100"}}, reject), all[2:3], announced[:2],
		},
		{
			"path", rules(v1alpha1.BGPRouteRule{Family: 4, Accept: true, ASPathPrefix: []int64{65001}}, reject),
			rules(v1alpha1.BGPRouteRule{Family: 4, Accept: true, ASPathPrefix: []int64{65001}}, reject), all, nil,
		},
		{"longer path", rules(v1alpha1.BGPRouteRule{Family: 4, ASPathPrefix: []int64{65001, 65002}}), nil, all, announced},
		{"type of peer", rules(v1alpha1.BGPRouteRule{Family: 4, PeerType: "iBGP"}), rules(v1alpha1.BGPRouteRule{Family: 4, PeerType: "eBGP"}), all, nil},
		{"remote peers", rules(v1alpha1.BGPRouteRule{Family: 4, RemotePeers: true}), rules(v1alpha1.BGPRouteRule{Family: 4, RemotePeers: true}), nil, announced},
		{"interface", rules(v1alpha1.BGPRouteRule{Family: 4, Interface: "eth*"}), rules(v1alpha1.BGPRouteRule{Family: 4, Interface: "eth*"}), nil, announced},
		{"other interface", rules(v1alpha1.BGPRouteRule{Family: 4, Interface: "docker*"}), nil, all, announced},
		{"other family", rules(v1alpha1.BGPRouteRule{Family: 6}), rules(v1alpha1.BGPRouteRule{Family: 6}), all, announced},
		{"priority", rules(v1alpha1.BGPRouteRule{Family: 4, Priority: 1024}), rules(v1alpha1.BGPRouteRule{Family: 4, Priority: 1024}), nil, announced},
		{"none", nil, nil, all, announced},
	} {
		n.Input.State.BGP.Filters = []v1alpha1.BGPRouteFilter{{Name: "f", Import: c.importing, Export: c.exporting}}
		n.Input.State.BGP.Sessions[0].Filters = []string{"f"}
		n.Tell()
		t.Log(c.name)
		check(c.learned, c.advertised)
	}
	if s := n.Session("tor/192.0.2.100"); !s.Since.Equal(&since) {
		t.Errorf("changes of filters ended the session: it stood since %v, and then since %v", since, s.Since)
	}

	// Operations.
	n.Input.State.BGP.Filters = []v1alpha1.BGPRouteFilter{{
		Name:   "f",
		Import: rules(v1alpha1.BGPRouteRule{Family: 4, Accept: true, Operations: []v1alpha1.BGPRouteOperation{{SetPriority: 77}}}),
		Export: rules(v1alpha1.BGPRouteRule{Family: 4, Accept: true, Operator: "Equal", CIDR: "10.49.2.0/24", Operations: []v1alpha1.BGPRouteOperation{
			{AddCommunity: "64512:5"}, {AddCommunity: "64512:6"}, {AddCommunity: "64512:7:8"}, {PrependASPath: []int64{64512, 64600}}, {PrependASPath: []int64{64512}},
		}}),
	}}
	n.Tell()
	for prefix, want := range map[string]Known{
		"10.49.2.0/24": {NextHop: nodeAddress, Path: "64512 64512 64600 64512", Communities: []string{"64512:5", "64512:6", "64512:7:8"}},
		"10.49.1.7/32": {NextHop: nodeAddress, Path: "64512", Communities: []string{"64512:100", "64512:1:2"}},
	} {
		Eventually(t, func() string {
			if got := router.Knows(prefix); !reflect.DeepEqual(got, []Known{want}) {
				return fmt.Sprintf("%s is %+v, want %+v", prefix, got, want)
			}
			return ""
		})
	}
	Eventually(t, func() string {
		list, err := node.RouteList(nil, unix.AF_INET)
		if err != nil {
			return err.Error()
		}
		for i := range list {
			if list[i].Protocol == 81 && list[i].Priority != 77 {
				return "metric of " + list[i].String()
			}
		}
		return ""
	})
}
