package routing

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/selector"
)

// large is a cluster of nodes, of which the first reflectors are route reflectors.
func large(nodes, reflectors int, change ...func(int, *Node)) *Plan {
	p := New(func(string, func(string, selector.Labels) bool) {})
	for i := range nodes {
		n := Node{
			Name: fmt.Sprintf("node-%d", i), Labels: map[string]string{},
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})},
		}
		if i < reflectors {
			n.ClusterID, n.Labels["reflector"] = "1.0.0.1", "yes"
		}
		for _, f := range change {
			f(i, &n)
		}
		p.SetNode(n)
	}
	return p
}

func size(t *testing.T, p *Plan, name string) int {
	t.Helper()
	text, err := json.Marshal(p.BGP(name))
	if err != nil {
		t.Fatal(err)
	}
	return len(text)
}

// maxObject is the greatest size of a rendered object, bytes.
const maxObject = 256 << 10

func TestPlansOfLargeClustersAreSmall(t *testing.T) {
	t.Run("the mesh of 5,000 nodes is not listed", func(t *testing.T) {
		if got := size(t, large(5000, 0), "node-17"); got > 512 {
			t.Errorf("%d bytes", got)
		}
	})
	for name, change := range map[string]func(i int, n *Node){
		"clients of three reflectors": func(int, *Node) {},
		"clients with AS numbers of their own": func(i int, n *Node) {
			n.ASNumber = fmt.Sprint(4_200_000_000 + i)
		},
		"clients with addresses of both families": func(i int, n *Node) {
			v6 := netip.MustParseAddr("2001:db8:10:200::").As16()
			v6[14], v6[15] = byte(i>>8), byte(i)
			n.Addresses = append(n.Addresses, netip.AddrFrom16(v6))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := large(5000, 3, change)
			p.SetPeer("rr", &v3.BGPPeerSpec{NodeSelector: "!has(reflector)", PeerSelector: "has(reflector)", Filters: []string{"a", "b"}})
			for _, node := range []string{"node-0", "node-1", "node-17"} {
				got := size(t, p, node)
				t.Logf("%s: %d sessions, %d bytes", node, len(expanded(p.BGP(node))), got)
				if got > maxObject {
					t.Errorf("%s: %d bytes", node, got)
				}
			}
		})
	}
	t.Run("10,000 Local services on one node", func(t *testing.T) {
		p := large(2, 0)
		p.SetConfiguration(DefaultConfiguration, &v3.BGPConfigurationSpec{ServiceClusterIPs: []v3.ServiceClusterIPBlock{{CIDR: "10.49.0.0/16"}}})
		for i := range 10_000 {
			name := ServiceName{"x", fmt.Sprint(i)}
			p.SetService(Service{Name: name, Local: true, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 49, byte(i >> 8), byte(i)})}})
			p.SetEndpoints(name, []string{"node-1"}, true)
		}
		if got := size(t, p, "node-1"); got > maxObject {
			t.Errorf("%d bytes", got)
		}
		start := time.Now()
		p.SetEndpoints(ServiceName{"x", "5"}, nil, false)
		p.Changed()
		t.Logf("one endpoint more or less: %s", time.Since(start).Round(10*time.Microsecond))
	})
}

// BenchmarkNewClient is what a node costs that joins 5,000 clients of three route reflectors.
func BenchmarkNewClient(b *testing.B) {
	p := large(5000, 3)
	p.SetPeer("rr", &v3.BGPPeerSpec{NodeSelector: "!has(reflector)", PeerSelector: "has(reflector)"})
	p.Changed()
	n := Node{Name: "new", Addresses: []netip.Addr{netip.MustParseAddr("10.201.0.1")}}
	for b.Loop() {
		p.SetNode(n)
		p.Changed()
		p.DeleteNode("new")
		p.Changed()
	}
}
