package loops

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

const (
	unused4, used4   = "10.49.0.99", "10.49.0.1"
	unused6          = "fd00:49::99"
	range4, range6   = "10.49.0.0/16", "fd00:49::/112"
	beside4, beside6 = "10.50.0.1", "fd00:50::1"
)

// world is a client behind a router, which sends what is for services to a node, whose default route is the router.
type world struct {
	t                    *testing.T
	client, router, node *netns.NS
	driver               *Driver
	desired              tables.ServiceLoops
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, client: netns.New(t), router: netns.New(t), node: netns.New(t)}
	for _, ns := range []*netns.NS{w.client, w.router, w.node} {
		ns.Sysctl("ipv6/conf/default/accept_dad", "0")
		ns.Sysctl("ipv4/conf/all/send_redirects", "0")
		ns.Sysctl("ipv4/conf/default/send_redirects", "0")
	}
	w.client.Veth("eth0", w.router, "client")
	w.node.Veth("eth0", w.router, "node")
	w.client.Address("eth0", "198.51.100.2/24", "2001:db8:c::2/64")
	w.router.Address("client", "198.51.100.1/24", "2001:db8:c::1/64")
	w.router.Address("node", "192.0.2.254/24", "2001:db8::254/64")
	w.node.Address("eth0", "192.0.2.1/24", "2001:db8::1/64")
	for ns, links := range map[*netns.NS][]string{w.client: {"lo", "eth0"}, w.router: {"lo", "client", "node"}, w.node: {"lo", "eth0"}} {
		for _, link := range links {
			ns.Up(link)
		}
		ns.Sysctl("ipv4/ip_forward", "1")
		ns.Sysctl("ipv6/conf/all/forwarding", "1")
	}
	for _, d := range []string{range4, beside4 + "/32"} {
		w.router.Route(d, "192.0.2.1", "node")
	}
	for _, d := range []string{range6, beside6 + "/128"} {
		w.router.Route(d, "2001:db8::1", "node")
	}
	w.client.Route("0.0.0.0/0", "198.51.100.1", "eth0")
	w.client.Route("::/0", "2001:db8:c::1", "eth0")
	w.node.Route("0.0.0.0/0", "192.0.2.254", "eth0")
	w.node.Route("::/0", "2001:db8::254", "eth0")
	w.node.Must("opening the driver", func() (err error) { w.driver, err = New(); return err })
	t.Cleanup(func() { _ = w.driver.Close() })
	return w
}

func (w *world) apply(action tables.LoopAction, ranges ...string) {
	w.t.Helper()
	var list []netip.Prefix
	for _, r := range ranges {
		list = append(list, netip.MustParsePrefix(r))
	}
	w.desired.Set(action, list)
	if err := w.driver.Apply(w.t.Context(), &w.desired); err != nil {
		w.t.Fatal(err)
	}
}

// bounces is how often one packet to an address passes the link between node and router, and how its sender fares.
func (w *world) bounces(from *netns.NS, to string) (packets uint64, err error) {
	w.t.Helper()
	count := func() uint64 {
		s := w.router.Link("node").Attrs().Statistics
		return s.TxPackets
	}
	before := count()
	from.Do(func() {
		var c net.Conn
		dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error { // all that ICMP says comes as an error
			var problem error
			err := raw.Control(func(fd uintptr) {
				if netip.MustParseAddr(to).Is4() {
					problem = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1)
				} else {
					problem = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
				}
			})
			return errors.Join(err, problem)
		}}
		if c, err = dialer.Dial("udp", net.JoinHostPort(to, "9")); err != nil {
			return
		}
		defer c.Close()
		if _, err = c.Write([]byte("x")); err != nil {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) // an answer, or time for all the bouncing there may be
		_, err = c.Read(make([]byte, 1))
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			err = nil // silence
		}
	})
	return count() - before, err
}

// A packet to an address that no service has goes to the node once, and not to and fro until its time to live is over.
func TestPacketsDoNotBounce(t *testing.T) {
	w := newWorld(t)
	// Neighbours are known before packets are counted.
	for _, to := range []string{"192.0.2.1", "2001:db8::1"} {
		_, _ = w.bounces(w.client, to)
	}
	for _, tc := range []struct {
		name   string
		action tables.LoopAction
		many   bool
		told   bool
	}{
		{"Disabled", tables.LoopPass, true, true}, // told that the time to live is over
		{"Drop", tables.LoopDrop, false, false},
		{"Reject", tables.LoopReject, false, true},
		{"Disabled again", tables.LoopPass, true, true},
	} {
		w.apply(tc.action, range4, range6)
		for _, to := range []string{unused4, unused6} {
			packets, err := w.bounces(w.client, to)
			for attempt := 0; tc.told && err == nil && attempt < 10; attempt++ { // the kernel limits the rate of such messages
				_, err = w.bounces(w.client, to)
			}
			if many := packets > 10; many != tc.many {
				t.Errorf("%s: the router sent %d packets to the node for one to %s", tc.name, packets, to)
			}
			if told := err != nil; told != tc.told {
				t.Errorf("%s: a packet to %s: %v", tc.name, to, err)
			}
		}
	}
	w.apply(tables.LoopDrop, range4, range6)
	for _, to := range []string{beside4, beside6} {
		if packets, _ := w.bounces(w.client, to); packets < 10 {
			t.Errorf("the route to %s, outside the ranges, is not the node's own any more: %d packets", to, packets)
		}
	}
}

// The node's own packets, those to addresses that the node has (as with kube-proxy's ipvs mode) and those that are translated before
// they are routed are not for the ranges.
func TestUsedAddressesAreReached(t *testing.T) {
	w := newWorld(t)
	w.apply(tables.LoopDrop, range4, range6)
	w.node.Address("lo", used4+"/32")
	server := w.node.Echo(netip.MustParseAddrPort(used4 + ":80"))
	defer server.Close()
	_ = w.client.Connect(netip.MustParseAddrPort(used4 + ":80")).Close() // an address that the node has is reached
	if packets, err := w.bounces(w.node, unused4); err != nil || packets == 0 {
		t.Errorf("the node's own packet does not reach the router, which would send it back: %d packets, %v", packets, err)
	}
}

// What another process of the driver left, or somebody else changed, is put right; without ranges nothing is left.
func TestRuleAndTable(t *testing.T) {
	w := newWorld(t)
	count := func() string {
		out := ""
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			rules := 0
			list, err := w.node.RuleList(family)
			if err != nil {
				t.Fatal(err)
			}
			for i := range list {
				if list[i].Priority == Priority {
					rules++
				}
			}
			routes, err := w.node.RouteListFiltered(family, &netlink.Route{Table: Table}, netlink.RT_FILTER_TABLE)
			if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
				t.Fatal(err)
			}
			out += fmt.Sprintf("%d rules, %d routes; ", rules, len(routes))
		}
		return out
	}
	check := func(what, want string) {
		t.Helper()
		if got := count(); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	w.apply(tables.LoopDrop, range4, "10.51.0.0/24", range6)
	check("at first", "1 rules, 2 routes; 1 rules, 1 routes; ")
	w.apply(tables.LoopDrop, range4)
	check("fewer", "1 rules, 1 routes; 0 rules, 0 routes; ")
	stray := netlink.NewRule()
	stray.Family, stray.Priority, stray.Table = unix.AF_INET, Priority, Table
	if err := w.node.RuleAdd(stray); err != nil {
		t.Fatal(err)
	}
	w.driver.Resync()
	w.apply(tables.LoopReject, range4)
	check("after a stray rule", "1 rules, 1 routes; 0 rules, 0 routes; ")
	w.apply(tables.LoopPass, range4)
	check("Disabled", "0 rules, 0 routes; 0 rules, 0 routes; ")
}
