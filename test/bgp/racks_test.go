package bgp

import (
	"fmt"
	"strings"
	"testing"

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
	nodeA, nodeB, tor1, tor2 := netns.New(t), netns.New(t), netns.New(t), netns.New(t)
	link(t, nodeA, tor1, "a1", "192.0.2.1/30", "192.0.2.2/30")
	link(t, nodeA, tor2, "a2", "192.0.2.5/30", "192.0.2.6/30")
	link(t, nodeB, tor1, "b1", "192.0.2.9/30", "192.0.2.10/30")
	link(t, nodeB, tor2, "b2", "192.0.2.13/30", "192.0.2.14/30")
	NewBIRD(t, tor1, "192.0.2.2", birdPeer("a", "192.0.2.2", "192.0.2.1", rack, nodes, "", "")+
		birdPeer("b", "192.0.2.10", "192.0.2.9", rack, nodes, "", "")+staticRoute(outside))
	second := NewBIRD(t, tor2, "192.0.2.6", birdPeer("a", "192.0.2.6", "192.0.2.5", rack, nodes, "", "")+
		birdPeer("b", "192.0.2.14", "192.0.2.13", rack, nodes, "", "")+staticRoute(outside))
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

	second.Ask("disable", "a")
	WantRoutes(t, nodeA, outside, outside+" via 192.0.2.2")
	WantRoutes(t, nodeB, outside, outside+" via 192.0.2.10, 192.0.2.14")
	WantRoutes(t, tor2, services, services+" via 192.0.2.13")
	second.Ask("enable", "a")
	WantRoutes(t, nodeA, outside, outside+" via 192.0.2.2, 192.0.2.6")

	// An interface that goes down takes its way with it before the session ends.
	if err := nodeB.LinkSetDown(nodeB.Link("b2")); err != nil {
		t.Fatal(err)
	}
	WantRoutes(t, nodeB, outside, outside+" via 192.0.2.10")
	nodeB.Up("b2")
	WantRoutes(t, nodeB, outside, outside+" via 192.0.2.10, 192.0.2.14")
}

// Passwords (RFC 2385): missing, wrong, rotated, taken away.
func TestPasswords(t *testing.T) {
	node, tor := netns.New(t), netns.New(t)
	link(t, node, tor, "eth0", "192.0.2.1/24", "192.0.2.100/24")
	configuration := func(password string) string {
		more := ""
		if password != "" {
			more = `password "` + password + `";`
		}
		return birdPeer("node", "192.0.2.100", "192.0.2.1", rack, nodes, more, "") + staticRoute(outside)
	}
	router := NewBIRD(t, tor, "192.0.2.100", configuration("one"))
	n := NewNode(t, node, "node1")
	bgp := speaker("192.0.2.1")
	bgp.Sessions = []v1alpha1.BGPSession{session("tor", "192.0.2.100", rack)}
	bgp.Sessions[0].Password = &v1alpha1.SecretKey{Name: "bgp", Key: "rack"}
	n.Input.State = withBlock(bgp)
	n.Tell()
	reason := func(want string) {
		t.Helper()
		Eventually(t, func() string {
			if s := n.Session("tor/192.0.2.100"); s.Reason != want {
				return fmt.Sprintf("want reason %s: %+v", want, s)
			}
			return ""
		})
	}
	reason("SecretMissing")
	n.Input.Secrets = map[string]string{"bgp/rack": "wrong"}
	n.Tell()
	reason("WrongPassword")
	n.Input.Secrets = map[string]string{"bgp/rack": "one"}
	n.Tell()
	n.Established("tor/192.0.2.100")
	WantRoutes(t, tor, pool4, block4+" via 192.0.2.1")

	n.Input.Secrets = map[string]string{"bgp/rack": "two"}
	n.Tell()
	router.Reconfigure("192.0.2.100", configuration("two"))
	Eventually(t, func() string { return notEstablished(router) })
	WantRoutes(t, node, outside, outside+" via 192.0.2.100")

	n.Input.State.BGP.Sessions[0].Password = nil
	n.Tell()
	router.Reconfigure("192.0.2.100", configuration(""))
	Eventually(t, func() string { return notEstablished(router) })
	WantRoutes(t, node, outside, outside+" via 192.0.2.100")
}

func notEstablished(r *Router) string {
	if all := r.Ask("show", "protocols", "node"); !strings.Contains(all, "Established") {
		return all
	}
	return ""
}

// A node agent that is killed and starts again, or is asked to end, leaves all routes where they are, in the kernels of both
// ends, until it is back: no change of a route is seen on either side. Without graceful restart they are withdrawn.
func TestGracefulRestart(t *testing.T) {
	for _, how := range []struct {
		name string
		end  func(*Node)
	}{{"killed", (*Node).Kill}, {"stopped", (*Node).Stop}} {
		t.Run(how.name, func(t *testing.T) {
			node, tor := netns.New(t), netns.New(t)
			link(t, node, tor, "eth0", "192.0.2.1/24", "192.0.2.100/24")
			NewBIRD(t, tor, "192.0.2.100", birdPeer("node", "192.0.2.100", "192.0.2.1", rack, nodes, "", "")+staticRoute(outside))
			n := NewNode(t, node, "node1")
			bgp := speaker("192.0.2.1")
			bgp.Sessions = []v1alpha1.BGPSession{session("tor", "192.0.2.100", rack)}
			n.Input.State = withBlock(bgp)
			n.Tell()
			WantRoutes(t, tor, pool4, block4+" via 192.0.2.1")
			WantRoutes(t, node, outside, outside+" via 192.0.2.100")
			onTor, onNode := watchLosses(t, tor, block4), watchLosses(t, node, outside)
			how.end(n)
			n.status = v1alpha1.NodeStateStatus{}
			n.Start()
			n.Tell()
			n.Established("tor/192.0.2.100")
			Eventually(t, func() string { // all was learned again
				if s := n.Session("tor/192.0.2.100"); s.Received == 0 {
					return fmt.Sprintf("%+v", s)
				}
				return ""
			})
			// A change shows that both ends have gone on, and left behind nothing of before.
			n.Input.State.BGP.Announce = []string{services}
			n.Tell()
			WantRoutes(t, tor, "10.0.0.0/8", block4+" via 192.0.2.1", services+" via 192.0.2.1")
			WantRoutes(t, node, outside, outside+" via 192.0.2.100")
			if lost := onTor() + onNode(); lost != 0 {
				t.Errorf("routes were lost %d times", lost)
			}
		})
	}
	t.Run("not agreed", func(t *testing.T) {
		node, tor := netns.New(t), netns.New(t)
		link(t, node, tor, "eth0", "192.0.2.1/24", "192.0.2.100/24")
		NewBIRD(t, tor, "192.0.2.100", strings.Replace(
			birdPeer("node", "192.0.2.100", "192.0.2.1", rack, nodes, "", ""), "graceful restart on", "graceful restart off", 1)+staticRoute(outside))
		n := NewNode(t, node, "node1")
		bgp := speaker("192.0.2.1")
		bgp.Sessions = []v1alpha1.BGPSession{session("tor", "192.0.2.100", rack)}
		n.Input.State = withBlock(bgp)
		n.Tell()
		WantRoutes(t, tor, pool4, block4+" via 192.0.2.1")
		n.Stop()
		WantRoutes(t, tor, pool4)
		n.Start()
		n.Tell()
		WantRoutes(t, tor, pool4, block4+" via 192.0.2.1")
	})
}
