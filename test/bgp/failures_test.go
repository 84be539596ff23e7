package bgp

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/netns"
)

// Each failure of a session has a reason of its own. Those of passwords and their Secrets: TestPasswords.
func TestReasons(t *testing.T) {
	for _, tc := range []struct {
		reason string
		// router is the other end; nil: there is none. address is that of the peer.
		router   func(*Peering)
		address  string
		announce []string
	}{
		{"Unreachable", nil, "192.0.2.77", nil},
		{"Refused", nil, torAddress, nil},
		{"ASMismatch", func(p *Peering) { p.RouterAS++ }, torAddress, nil},
		{"Refused", func(p *Peering) { p.NodeAS++ }, torAddress, nil}, // the peer expects another AS number of the node
		{"MaximumPrefixes", func(p *Peering) { p.MaxPrefixes = 2 }, torAddress, []string{"10.49.1.0/24", "10.49.2.0/24", "10.49.3.0/24", "10.49.4.0/24"}},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			test := func(t *testing.T, start func(t *testing.T, tor *netns.NS)) {
				t.Helper()
				node, tor := netns.New(t), netns.New(t)
				link(t, node, tor, "eth0", nodeAddress+"/24", torAddress+"/24")
				start(t, tor)
				n := NewNode(t, node, "node1")
				b := speaker(nodeAddress)
				b.Announce = tc.announce
				b.Sessions = []v1alpha1.BGPSession{session("tor", tc.address, rack)}
				n.Input.State = v1alpha1.NodeStateSpec{BGP: b}
				n.Tell()
				Eventually(t, func() string {
					if s := n.Session("tor/" + tc.address); s.Reason != tc.reason || s.Message == "" || s.State == "Established" {
						return fmt.Sprintf("want reason %s: %+v", tc.reason, s)
					}
					return ""
				})
			}
			if tc.router == nil {
				test(t, func(*testing.T, *netns.NS) {})
				return
			}
			withEach(t, func(t *testing.T, kind Kind) {
				test(t, func(t *testing.T, tor *netns.NS) {
					p := rackPeering()
					tc.router(&p)
					(&Setup{ID: torAddress, Peerings: []Peering{p}}).Start(t, tor, kind)
				})
			})
		})
	}
}

// stream sends a packet each millisecond, each from a port of its own, until it is ended, and counts those that arrive. It tells the
// longest time in which none did.
type stream struct {
	t        *testing.T
	stop     chan struct{}
	done     sync.WaitGroup
	mu       sync.Mutex
	sent     int
	arrivals []time.Time
}

// newStream has from send to an address of to. Several namespaces may have the address.
func newStream(t *testing.T, from *netns.NS, address string, to ...*netns.NS) *stream {
	t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(address), 7777)
	s := &stream{t: t, stop: make(chan struct{})}
	for _, ns := range to {
		var socket *net.UDPConn
		ns.Must("listening", func() (err error) {
			if socket, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at)); err != nil {
				return err
			}
			return netns.MakeRoom(socket)
		})
		t.Cleanup(func() { _ = socket.Close() })
		go func() {
			buffer := make([]byte, 16)
			for {
				if _, err := socket.Read(buffer); err != nil {
					return
				}
				s.mu.Lock()
				s.arrivals = append(s.arrivals, time.Now())
				s.mu.Unlock()
			}
		}()
	}
	s.done.Go(func() {
		from.Do(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-s.stop:
					return
				case <-tick.C:
				}
				c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
				s.mu.Lock()
				s.sent++ // what can't even be sent is lost too
				s.mu.Unlock()
				if err == nil {
					_, _ = c.Write([]byte("x"))
					_ = c.Close()
				}
			}
		})
	})
	return s
}

func (s *stream) arrived() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.arrivals)
}

// flows waits until so many more packets have arrived.
func (s *stream) flows(more int) {
	s.t.Helper()
	from := s.arrived()
	Eventually(s.t, func() string {
		if now := s.arrived(); now < from+more {
			return fmt.Sprintf("%d packets arrived", now-from)
		}
		return ""
	})
}

// end ends it and tells how many packets were sent and did not arrive.
func (s *stream) end() (sent, lost int) {
	const quiet = 5 * time.Second // after which none is on its way any more
	close(s.stop)
	s.done.Wait()
	last, since := s.arrived(), time.Now()
	Eventually(s.t, func() string {
		if now := s.arrived(); now != last {
			last, since = now, time.Now()
		}
		if last >= s.sent || time.Since(since) > quiet {
			return ""
		}
		return "packets still arrive"
	})
	return s.sent, s.sent - last
}

// An agent that is killed, and begins again, loses no packet in either direction where graceful restart was agreed.
func TestRestartLosesNoPacket(t *testing.T) {
	node, tor := netns.New(t), netns.New(t)
	link(t, node, tor, "eth0", "192.0.2.1/24", "192.0.2.100/24")
	const pod, host = "10.48.1.9", "198.51.100.9"
	node.Up("lo")
	tor.Up("lo")
	node.Address("lo", pod+"/32")
	tor.Address("lo", host+"/32")
	NewBIRD(t, tor, "192.0.2.100", birdPeer("node", "192.0.2.100", "192.0.2.1", rack, nodes, "", "")+staticRoute(outside))
	n := NewNode(t, node, "node1")
	b := speaker("192.0.2.1")
	b.Sessions = []v1alpha1.BGPSession{session("tor", "192.0.2.100", rack)}
	n.Input.State = withBlock(b)
	n.Tell()
	WantRoutes(t, tor, pool4, block4+" via 192.0.2.1")
	WantRoutes(t, node, outside, outside+" via 192.0.2.100", host+"/32 via 192.0.2.100")
	in, out := newStream(t, tor, pod, node), newStream(t, node, host, tor)
	in.flows(100)
	out.flows(100)
	for range 2 {
		n.Kill()
		in.flows(100)
		out.flows(100)
		n.status = v1alpha1.NodeStateStatus{}
		n.Start()
		n.Tell()
		n.Established("tor/192.0.2.100")
		in.flows(500)
		out.flows(500)
	}
	for name, s := range map[string]*stream{"to the node": in, "from it": out} {
		if sent, lost := s.end(); lost != 0 {
			t.Errorf("of %d packets %s %d were lost", sent, name, lost)
		} else {
			t.Logf("%d packets %s, none lost", sent, name)
		}
	}
}

// A node's power is pulled: what the router sent to it goes to the other node within the hold time, and within a second where the
// router sees that the interface is down.
func TestPowerPull(t *testing.T) {
	const service = "10.49.0.7"
	nodeA, nodeB, tor, lan := netns.New(t), netns.New(t), netns.New(t), netns.New(t)
	if err := lan.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}); err != nil {
		t.Fatal(err)
	}
	lan.Up("br0")
	// Node a is behind a switch, so that the router's interface stays up; node b has a link of its own to the router.
	for name, ns := range map[string]*netns.NS{"a": nodeA, "tor": tor} {
		ns.Veth("a", lan, name)
		lan.Master(name, "br0")
		lan.Up(name)
	}
	nodeA.Address("a", "192.0.2.1/30")
	tor.Address("a", "192.0.2.2/30")
	nodeA.Up("a")
	tor.Up("a")
	link(t, nodeB, tor, "b", "192.0.2.5/30", "192.0.2.6/30")
	tor.Sysctl("ipv4/fib_multipath_hash_policy", "1")
	// Of node b it would hear nothing for so long that only the interface can tell it.
	NewBIRD(t, tor, "192.0.2.2", strings.NewReplacer("graceful restart on", "graceful restart off").Replace(
		birdPeer("a", "192.0.2.2", "192.0.2.1", rack, nodes, "hold time 3; check link yes;", "")+
			birdPeer("b", "192.0.2.6", "192.0.2.5", rack, nodes, fmt.Sprintf("hold time %d; check link yes;", int(2*patience.Seconds())), "")))
	for name, spec := range map[string]struct {
		ns        *netns.NS
		own, peer string
		keepalive int32
	}{"a": {nodeA, "192.0.2.1", "192.0.2.2", 1}, "b": {nodeB, "192.0.2.5", "192.0.2.6", int32(patience.Seconds())}} {
		spec.ns.Up("lo")
		spec.ns.Address("lo", service+"/32")
		n := NewNode(t, spec.ns, name)
		b := speaker(spec.own)
		b.Announce = []string{services}
		s := session("tor", spec.peer, rack)
		s.KeepaliveSeconds = spec.keepalive
		b.Sessions = []v1alpha1.BGPSession{s}
		n.Input.State = v1alpha1.NodeStateSpec{BGP: b}
		n.Tell()
	}
	both := services + " via 192.0.2.1, 192.0.2.5"
	WantRoutes(t, tor, services, both)
	s := newStream(t, tor, service, nodeA, nodeB)
	s.flows(200)
	gone := func(want string) time.Duration {
		t.Helper()
		start := time.Now()
		WantRoutes(t, tor, services, want)
		took := time.Since(start)
		s.flows(100)
		return took
	}
	// Without a word: the switch's port goes dead.
	if err := lan.LinkSetDown(lan.Link("a")); err != nil {
		t.Fatal(err)
	}
	silent := gone(services + " via 192.0.2.5")
	lan.Up("a")
	WantRoutes(t, tor, services, both)
	if err := nodeB.LinkSetDown(nodeB.Link("b")); err != nil {
		t.Fatal(err)
	}
	seen := gone(services + " via 192.0.2.1")
	t.Logf("recovered %v after the power was pulled, with a hold time of 3 s; %v after the interface went down", silent.Round(time.Millisecond), seen.Round(time.Millisecond))
	s.end()
}

// Where the kernel checks whether packets come by the interface that leads to their source (rp_filter 1), they may come by any of the
// ways that were learned, and by none that was not.
func TestReversePath(t *testing.T) {
	node, tor1, tor2 := netns.New(t), netns.New(t), netns.New(t)
	link(t, node, tor1, "a1", "192.0.2.1/30", "192.0.2.2/30")
	link(t, node, tor2, "a2", "192.0.2.5/30", "192.0.2.6/30")
	const client, pod = "198.51.100.9", "10.48.1.9"
	node.Up("lo")
	node.Address("lo", pod+"/32")
	for _, setting := range []string{"all", "a1", "a2"} {
		node.Sysctl("ipv4/conf/"+setting+"/rp_filter", "1")
	}
	var second *Router
	for tor, addresses := range map[*netns.NS][2]string{tor1: {"192.0.2.2", "192.0.2.1"}, tor2: {"192.0.2.6", "192.0.2.5"}} {
		tor.Up("lo")
		tor.Address("lo", client+"/32")
		r := NewBIRD(t, tor, addresses[0], birdPeer("node", addresses[0], addresses[1], rack, nodes, "", "")+staticRoute(outside))
		if tor == tor2 {
			second = r
		}
	}
	n := NewNode(t, node, "node1")
	b := speaker("192.0.2.1")
	b.Sessions = []v1alpha1.BGPSession{session("tor", "192.0.2.2", rack), session("tor", "192.0.2.6", rack)}
	n.Input.State = withBlock(b)
	n.Tell()
	WantRoutes(t, node, outside, outside+" via 192.0.2.2, 192.0.2.6", client+"/32 via 192.0.2.2, 192.0.2.6")
	WantRoutes(t, tor1, pool4, block4+" via 192.0.2.1")
	WantRoutes(t, tor2, pool4, block4+" via 192.0.2.5")
	at := netip.AddrPortFrom(netip.MustParseAddr(pod), 7777)
	var socket *net.UDPConn
	node.Must("listening", func() (err error) { socket, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at)); return err })
	defer socket.Close()
	arrives := func(from *netns.NS, route string, should bool) bool {
		t.Helper()
		if route != "" {
			from.Route(pod+"/32", route, "a2")
		}
		from.Must("sending", func() error {
			c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(client)}, net.UDPAddrFromAddrPort(at))
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("x"))
			return err
		})
		wait := 500 * time.Millisecond
		if should {
			wait = patience
		}
		_ = socket.SetReadDeadline(time.Now().Add(wait))
		_, err := socket.Read(make([]byte, 16))
		return err == nil
	}
	if got := []bool{arrives(tor1, "", true), arrives(tor2, "", true)}; !slices.Equal(got, []bool{true, true}) {
		t.Errorf("packets by both ways: arrived %v", got)
	}
	second.Ask("disable", "node")
	WantRoutes(t, node, outside, outside+" via 192.0.2.2", client+"/32 via 192.0.2.2")
	if got := []bool{arrives(tor1, "", true), arrives(tor2, "192.0.2.5", false)}; !slices.Equal(got, []bool{true, false}) {
		t.Errorf("packets by the way that is left, and by the one that is not: arrived %v", got)
	}
}
