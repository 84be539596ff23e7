package bgp

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/netns"
)

// staticRoute is a prefix that BIRD advertises.
func staticRoute(prefix string) string {
	channel := "ipv4"
	if strings.Contains(prefix, ":") {
		channel = "ipv6"
	}
	name := strings.NewReplacer(".", "_", ":", "_", "/", "_").Replace(prefix)
	return fmt.Sprintf("protocol static s%s { %s; route %s blackhole; }\n", name, channel, prefix)
}

func session(name, address string, as int64) v1alpha1.BGPSession {
	return v1alpha1.BGPSession{Name: name + "/" + address, Address: address, ASNumber: as}
}

// Two nodes and a pair of top-of-rack routers: both ends spread over all ways, and what one way loses goes over the other.
func TestPairOfRouters(t *testing.T) {
	for name, kinds := range map[string][2]Kind{"BIRD": {BIRD, BIRD}, "FRR": {FRR, FRR}, "one of each": {BIRD, FRR}} {
		t.Run(name, func(t *testing.T) { pairOfRouters(t, kinds) })
	}
}

func pairOfRouters(t *testing.T, kinds [2]Kind) {
	t.Helper()
	nodeA, nodeB, tor1, tor2 := netns.New(t), netns.New(t), netns.New(t), netns.New(t)
	link(t, nodeA, tor1, "a1", "192.0.2.1/30", "192.0.2.2/30")
	link(t, nodeA, tor2, "a2", "192.0.2.5/30", "192.0.2.6/30")
	link(t, nodeB, tor1, "b1", "192.0.2.9/30", "192.0.2.10/30")
	link(t, nodeB, tor2, "b2", "192.0.2.13/30", "192.0.2.14/30")
	ofTor2 := []Peering{
		{Router: "192.0.2.6", Node: "192.0.2.5", RouterAS: rack, NodeAS: nodes}, {Router: "192.0.2.14", Node: "192.0.2.13", RouterAS: rack, NodeAS: nodes},
	}
	(&Setup{ID: "192.0.2.2", Peerings: []Peering{
		{Router: "192.0.2.2", Node: "192.0.2.1", RouterAS: rack, NodeAS: nodes}, {Router: "192.0.2.10", Node: "192.0.2.9", RouterAS: rack, NodeAS: nodes},
	}, Offers: offers(outside)}).Start(t, tor1, kinds[0])
	second := (&Setup{ID: "192.0.2.6", Peerings: ofTor2, Offers: offers(outside)}).Start(t, tor2, kinds[1])
	a, b := NewNode(t, nodeA, "a"), NewNode(t, nodeB, "b")
	for n, spec := range map[*Node][3]string{a: {"192.0.2.1", "192.0.2.2", "192.0.2.6"}, b: {"192.0.2.9", "192.0.2.10", "192.0.2.14"}} {
		bgp := speaker(spec[0])
		bgp.Announce = []string{services}
		bgp.Sessions = []v1alpha1.BGPSession{session("tor", spec[1], rack), session("tor", spec[2], rack)}
		n.Input.State = v1alpha1.NodeStateSpec{BGP: bgp}
		n.Tell()
	}
	WantRoutes(t, nodeA, outside, outside+" via 192.0.2.2, 192.0.2.6")
	WantRoutes(t, nodeB, outside, outside+" via 192.0.2.10, 192.0.2.14")
	WantRoutes(t, tor1, services, services+" via 192.0.2.1, 192.0.2.9")
	WantRoutes(t, tor2, services, services+" via 192.0.2.13, 192.0.2.5")

	second.Disable(&ofTor2[0])
	WantRoutes(t, nodeA, outside, outside+" via 192.0.2.2")
	WantRoutes(t, nodeB, outside, outside+" via 192.0.2.10, 192.0.2.14")
	WantRoutes(t, tor2, services, services+" via 192.0.2.13")
	second.Enable(&ofTor2[0])
	WantRoutes(t, nodeA, outside, outside+" via 192.0.2.2, 192.0.2.6")

	// An interface that goes down takes its way with it before the session ends.
	if err := nodeB.LinkSetDown(nodeB.Link("b2")); err != nil {
		t.Fatal(err)
	}
	WantRoutes(t, nodeB, outside, outside+" via 192.0.2.10")
	nodeB.Up("b2")
	WantRoutes(t, nodeB, outside, outside+" via 192.0.2.10, 192.0.2.14")
}

// Passwords (RFC 2385): missing, too long, wrong, rotated, lost, taken away.
func TestPasswords(t *testing.T) {
	for _, w := range networks() {
		t.Run(w.name, func(t *testing.T) {
			withEach(t, func(t *testing.T, kind Kind) { passwords(t, kind, &w) })
		})
	}
}

func passwords(t *testing.T, kind Kind, w *network) {
	t.Helper()
	node, tor := w.join(t)
	p := w.peering()
	setup := func(password string) *Setup {
		p.Password = password
		return &Setup{ID: torAddress, Peerings: []Peering{p}, Offers: offers(w.outside)}
	}
	router := setup("one").Start(t, tor, kind)
	n := NewNode(t, node, "node1")
	bgp := w.speaker()
	bgp.Sessions = []v1alpha1.BGPSession{session("tor", w.tor, rack)}
	bgp.Sessions[0].Password = &v1alpha1.SecretKey{Name: "bgp", Key: "rack"}
	n.Input.State = w.state(bgp)
	n.Tell()
	reason := func(want string) {
		t.Helper()
		Eventually(t, func() string {
			if s := n.Session("tor/" + w.tor); s.Reason != want {
				return fmt.Sprintf("want reason %s: %+v", want, s)
			}
			return ""
		})
	}
	reason("SecretMissing")
	n.Input.Secrets = map[string]string{"bgp/rack": strings.Repeat("x", 81)} // the kernel takes 80
	n.Tell()
	reason("WrongPassword")
	if s := n.Session("tor/" + w.tor); !strings.Contains(s.Message, "81 bytes") {
		t.Errorf("a password that is too long: %+v", s)
	}
	n.Input.Secrets = nil
	n.Tell()
	reason("SecretMissing")
	n.Input.Secrets = map[string]string{"bgp/rack": "wrong"}
	n.Tell()
	reason("WrongPassword")
	n.Input.Secrets = map[string]string{"bgp/rack": "one"}
	n.Tell()
	n.Established("tor/" + w.tor)
	WantRoutes(t, tor, w.pool, w.block+" via "+w.node)

	// Rotated at both ends, and then taken away: each time the session begins anew.
	// since is when the session began, once that is not this second any more: it is told in seconds.
	since := func() metav1.Time {
		t.Helper()
		n.Established("tor/" + w.tor)
		since := n.Session("tor/" + w.tor).Since
		Eventually(t, func() string {
			if time.Since(since.Time) < time.Second {
				return "the session began this second"
			}
			return ""
		})
		return since
	}
	begun := func(since metav1.Time) {
		t.Helper()
		Eventually(t, func() string {
			if s := n.Session("tor/" + w.tor); s.State != "Established" || s.Since.Equal(&since) || !router.IsEstablished(&p) {
				return fmt.Sprintf("the session did not begin anew: %+v", s)
			}
			return ""
		})
		WantRoutes(t, node, w.outside, w.outside+" via "+w.tor)
		WantRoutes(t, tor, w.pool, w.block+" via "+w.node)
	}
	before := since()
	n.Input.Secrets = map[string]string{"bgp/rack": "two"}
	n.Tell()
	router.Become(setup("two"))
	begun(before)
	// The Secret is lost: the session ends with it, and begins anew when it is back.
	before = since()
	n.Input.Secrets = nil
	n.Tell()
	reason("SecretMissing")
	WantRoutes(t, node, w.outside)
	n.Input.Secrets = map[string]string{"bgp/rack": "two"}
	n.Tell()
	begun(before)
	before = since()
	n.Input.State.BGP.Sessions[0].Password = nil
	n.Tell()
	router.Become(setup(""))
	begun(before)
}

// A node agent that is killed and starts again, or is asked to end, leaves all routes where they are, in the kernels of both
// ends, until it is back: no change of a route is seen on either side. Without graceful restart they are withdrawn.
func TestGracefulRestart(t *testing.T) {
	withEach(t, func(t *testing.T, kind Kind) {
		begin := func(t *testing.T, set func(*Peering, *v1alpha1.BGPSession)) (n *Node, tor *netns.NS, router *Router) {
			t.Helper()
			node, tor := netns.New(t), netns.New(t)
			link(t, node, tor, "eth0", nodeAddress+"/24", torAddress+"/24")
			p, s := rackPeering(), session("tor", torAddress, rack)
			set(&p, &s)
			router = (&Setup{ID: torAddress, Peerings: []Peering{p}, Offers: offers(outside)}).Start(t, tor, kind)
			n = NewNode(t, node, "node1")
			bgp := speaker(nodeAddress)
			bgp.Sessions = []v1alpha1.BGPSession{s}
			n.Input.State = withBlock(bgp)
			n.Tell()
			WantRoutes(t, tor, pool4, block4+" via "+nodeAddress)
			WantRoutes(t, node, outside, outside+" via "+torAddress)
			return n, tor, router
		}
		for _, how := range []struct {
			name string
			end  func(*Node)
		}{{"killed", (*Node).Kill}, {"stopped", (*Node).Stop}} {
			t.Run(how.name, func(t *testing.T) {
				n, tor, _ := begin(t, func(*Peering, *v1alpha1.BGPSession) {})
				onTor, onNode := watchLosses(t, tor, block4), watchLosses(t, n.NS, outside)
				how.end(n)
				n.status = v1alpha1.NodeStateStatus{}
				n.Start()
				n.Tell()
				n.Established("tor/" + torAddress)
				Eventually(t, func() string { // all was learned again
					if s := n.Session("tor/" + torAddress); s.Received == 0 {
						return fmt.Sprintf("%+v", s)
					}
					return ""
				})
				// A change shows that both ends have gone on, and left behind nothing of before.
				n.Input.State.BGP.Announce = []string{services}
				n.Tell()
				WantRoutes(t, tor, "10.0.0.0/8", block4+" via "+nodeAddress, services+" via "+nodeAddress)
				WantRoutes(t, n.NS, outside, outside+" via "+torAddress)
				if lost := onTor() + onNode(); lost != 0 {
					t.Errorf("routes were lost %d times", lost)
				}
			})
		}
		t.Run("both families in one session", func(t *testing.T) {
			// The peer says of each family when it has sent all: the one that is done must not cost the other its routes.
			const outside6 = "2001:db8:f::/48"
			node, tor := netns.New(t), netns.New(t)
			link(t, node, tor, "eth0", nodeAddress+"/24", torAddress+"/24")
			node.Address("eth0", "2001:db8::1/64")
			tor.Address("eth0", "2001:db8::100/64")
			p := rackPeering()
			p.Both = true
			count := 2
			if kind == BIRD { // which is slow about one family: each route comes in a message of its own
				const many = 3000
				count += many
				var more strings.Builder
				more.WriteString(staticRoute(outside) + staticRoute(outside6) + "protocol static many { ipv6;\n")
				for i := range many {
					fmt.Fprintf(&more, "route 2001:db8:a%03x::/48 blackhole { bgp_community.add((65001,%d)); };\n", i, i)
				}
				NewBIRD(t, tor, torAddress, birdPeer("node", torAddress, nodeAddress, rack, nodes, "",
					"ipv4 { import all; export all; }; ipv6 { import all; export all; next hop address 2001:db8::100; };")+more.String()+"}\n")
			} else {
				(&Setup{ID: torAddress, Peerings: []Peering{p}, Offers: offers(outside, outside6)}).Start(t, tor, kind)
			}
			n := NewNode(t, node, "node1")
			b := speaker(nodeAddress, "2001:db8::1")
			b.Sessions = []v1alpha1.BGPSession{session("tor", torAddress, rack)}
			n.Input.State = withBlock(b)
			n.Tell()
			all := func() string {
				if got := len(Routes(node, outside, "2001:db8:a000::/36", outside6)); got != count {
					return fmt.Sprintf("%d routes were learned", got)
				}
				return ""
			}
			Eventually(t, all)
			lost4, lost6, lostOther := watchLosses(t, node, outside), watchLosses(t, node, outside6), watchLosses(t, node, "2001:db8:abb7::/48")
			n.Kill()
			n.status = v1alpha1.NodeStateStatus{}
			n.Start()
			n.Tell()
			n.Established("tor/" + torAddress)
			n.Input.State.BGP.Announce = []string{services}
			n.Tell()
			WantRoutes(t, tor, services, services+" via "+nodeAddress)
			Eventually(t, all)
			if lost := []int{lost4(), lost6(), lostOther()}; lost[0]+lost[1]+lost[2] != 0 {
				t.Errorf("routes were lost %v times", lost)
			}
		})
		t.Run("not agreed", func(t *testing.T) {
			n, tor, _ := begin(t, func(p *Peering, _ *v1alpha1.BGPSession) { p.NoRestart = true })
			n.Stop()
			WantRoutes(t, tor, pool4)
			n.Start()
			n.Tell()
			WantRoutes(t, tor, pool4, block4+" via "+nodeAddress)
		})
		t.Run("maxRestartTime is over", func(t *testing.T) {
			n, tor, _ := begin(t, func(_ *Peering, s *v1alpha1.BGPSession) { s.RestartSeconds = 4 })
			killed := time.Now()
			n.Kill()
			WantRoutes(t, tor, pool4)
			if took := time.Since(killed); took < 3*time.Second { // it is not for ever, which WantRoutes sees: by default it is 120 s
				t.Errorf("the router gave the routes up after %v, where the restart time is 4 s", took)
			}
		})
	})
}
