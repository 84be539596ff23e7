package conntrack

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/connections"
	"github.com/manul-net/manul/nodeagent/dataplane/nftables"
	"github.com/manul-net/manul/test/netns"
	"github.com/manul-net/manul/test/packets"
)

const (
	client, server = packets.ClientPod, packets.ServerPod
	outside, node  = packets.Outside, packets.HostSide
)

// newNode is a node with pods and a driver's rules, without which the kernel tracks nothing.
// The table asks address by address, as with many connections.
func newNode(t *testing.T) (*packets.Node, *Table) {
	t.Helper()
	n := packets.NewNode(t, packets.Subject{Open: func(testing.TB) (packets.Driver, error) {
		return nftables.New(nftables.Options{WorkloadPrefix: packets.WorkloadPrefix})
	}})
	n.Apply(packets.NewTables())
	var table *Table
	n.Must("opening the table of connections", func() (err error) { table, err = Open(); return err })
	t.Cleanup(func() { _ = table.Close() })
	table.buckets = 0
	return n, table
}

func list(t *testing.T, table *Table, involving ...netip.Addr) []*connections.Flow {
	t.Helper()
	var flows []*connections.Flow
	if err := table.Each(t.Context(), involving, func(f *connections.Flow) bool { flows = append(flows, f); return true }); err != nil {
		t.Fatal(err)
	}
	return flows
}

// text tells what matters of a flow, but for the ports that the kernel chose.
func text(f *connections.Flow) string {
	return fmt.Sprintf("%d %s > %s, %s > %s", f.Protocol, f.Original.Source.Addr(), f.Original.Destination, f.Reply.Source, f.Reply.Destination.Addr())
}

func texts(flows []*connections.Flow) []string {
	var out []string
	for _, f := range flows {
		out = append(out, text(f))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestConnectionsAreListedAndEnded(t *testing.T) {
	for fam := range packets.Families {
		t.Run([]string{"IPv4", "IPv6"}[fam], func(t *testing.T) {
			n, table := newNode(t)
			to := packets.At(server, fam, 80)
			echo := n.Peer(server).Echo(to)
			defer echo.Close()
			connection := n.Peer(client).Connect(to)
			defer connection.Close()
			connection.Exchange("one")
			n.Verify(
				packets.UDP(fam, client, server, 53, true), packets.SCTP(fam, client, outside, 9, true), packets.Ping(fam, outside, client, 0, true),
			)

			c, s, x := packets.Address(client, fam), packets.Address(server, fam), packets.Address(outside, fam)
			icmp, echoType := uint8(unix.IPPROTO_ICMP), uint8(8)
			if fam == packets.IPv6 {
				icmp, echoType = unix.IPPROTO_ICMPV6, 128
			}
			at := netip.AddrPortFrom
			tcp := fmt.Sprintf("6 %s > %s, %s > %s", c, at(s, 80), at(s, 80), c)
			udp := fmt.Sprintf("17 %s > %s, %s > %s", c, at(s, 53), at(s, 53), c)
			sctp := fmt.Sprintf("132 %s > %s, %s > %s", c, at(x, 9), at(x, 9), c)
			ping := fmt.Sprintf("%d %s > %s, %s > %s", icmp, x, at(c, 0), at(c, 0), x)
			all := list(t, table)
			for _, want := range []string{tcp, udp, sctp, ping} {
				if !slices.Contains(texts(all), want) {
					t.Errorf("not listed: %s; there are %q", want, texts(all))
				}
			}
			if d := cmp.Diff(sorted(sctp, ping), involving(list(t, table, x), x)); d != "" {
				t.Errorf("connections of the machine outside (-want +got):\n%s", d)
			}
			if d := cmp.Diff(sorted(tcp, udp), involving(list(t, table, s), s)); d != "" {
				t.Errorf("connections of the server (-want +got):\n%s", d)
			}
			if others := len(texts(list(t, table, x))) - 2; fam == packets.IPv4 && others > 0 {
				t.Errorf("%d connections are listed that nobody asked for", others)
			}

			for _, f := range all {
				if text(f) == ping && (f.ICMPType != echoType || f.ICMPCode != 0) {
					t.Errorf("an echo: %+v", f)
				}
				if f.Related || f.Closed || f.Zoned || f.PickedUp {
					t.Errorf("an ordinary connection: %+v", f)
				}
				other := *f
				other.ID++
				if ended, err := table.End(&other); err != nil || ended {
					t.Errorf("ending a connection that took the place of another: %t, %v", ended, err)
				}
				if ended, err := table.End(f); err != nil || !ended {
					t.Errorf("ending %s: %t, %v", text(f), ended, err)
				}
				if ended, err := table.End(f); err != nil || ended {
					t.Errorf("ending %s again: %t, %v", text(f), ended, err)
				}
			}
			if left := involving(list(t, table, s, x), s, x); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			connection.Stalls("two")
		})
	}
}

// involving leaves out what the kernel tells unasked.
func involving(flows []*connections.Flow, addrs ...netip.Addr) []string {
	return texts(slices.DeleteFunc(flows, func(f *connections.Flow) bool {
		return !slices.Contains(addrs, f.Original.Source.Addr()) && !slices.Contains(addrs, f.Original.Destination.Addr())
	}))
}

func sorted(texts ...string) []string {
	slices.Sort(texts)
	return texts
}

// As long as there are few connections, one walk over the kernel's table tells of them all, those that nobody asked for too.
func TestFewConnectionsAreListedInOneWalk(t *testing.T) {
	n, table := newNode(t)
	n.Verify(packets.UDP(packets.IPv4, client, server, 53, true), packets.UDP(packets.IPv6, client, outside, 53, true), packets.UDP(packets.IPv4, server, outside, 53, true))
	all := list(t, table)
	size, err := table.size()
	if err != nil {
		t.Fatal(err)
	}
	if size != len(all) {
		t.Errorf("the kernel counts %d connections, and lists %d", size, len(all))
	}
	asked := packets.Address(client, packets.IPv4)
	if got := len(list(t, table, asked)); got >= len(all) {
		t.Errorf("asked for one address, the kernel listed %d of %d", got, len(all))
	}
	table.buckets = 1 << 20
	if d := cmp.Diff(texts(all), texts(list(t, table, asked))); d != "" {
		t.Errorf("asked for one address, of few connections (-all +got):\n%s", d)
	}
}

func TestAListMayEndEarly(t *testing.T) {
	n, table := newNode(t)
	var probes []packets.Probe
	for port := range uint16(50) {
		probes = append(probes, packets.UDP(packets.IPv4, client, server, 1000+port, true))
	}
	n.Verify(probes...)
	seen := 0
	if err := table.Each(t.Context(), nil, func(*connections.Flow) bool { seen++; return seen < 10 }); err != nil {
		t.Fatal(err)
	}
	if seen != 10 {
		t.Errorf("saw %d connections, want 10", seen)
	}
	if got := len(list(t, table)); got < 50 {
		t.Errorf("after that %d connections are listed", got)
	}
}

// A connection that ends is not judged any more.
func TestClosedConnections(t *testing.T) {
	n, table := newNode(t)
	to := packets.At(server, packets.IPv4, 80)
	echo := n.Peer(server).Echo(to)
	connection := n.Peer(client).Connect(to)
	connection.Exchange("one")
	if err := connection.Close(); err != nil {
		t.Fatal(err)
	}
	echo.Close()
	for {
		flows := list(t, table, to.Addr())
		if len(flows) == 0 || flows[0].Closed {
			return
		}
		if t.Context().Err() != nil {
			t.Fatalf("still open: %+v", flows[0])
		}
	}
}

// Of a connection that is older than the rules nobody knows who began it.
func TestConnectionsThatWerePickedUp(t *testing.T) {
	n := packets.NewNode(t, packets.Subject{Open: func(testing.TB) (packets.Driver, error) {
		return nftables.New(nftables.Options{WorkloadPrefix: packets.WorkloadPrefix})
	}})
	var table *Table
	n.Must("opening the table of connections", func() (err error) { table, err = Open(); return err })
	t.Cleanup(func() { _ = table.Close() })
	to := packets.At(outside, packets.IPv4, 80)
	echo := n.Peer(outside).Echo(to)
	defer echo.Close()
	before := n.Connect(to)
	defer before.Close()
	before.Exchange("one")
	if flows := list(t, table); len(flows) > 0 {
		t.Fatalf("connections are tracked without rules: %q", texts(flows))
	}
	n.Apply(packets.NewTables())
	before.Exchange("two")
	flows := list(t, table)
	if len(flows) != 1 || !flows[0].PickedUp || flows[0].Closed {
		t.Errorf("a connection that is older than the rules: %+v", flows)
	}
}

// The node's own sockets are ended at both sides, whichever side began; a socket that only listens is not.
func TestSocketsOfTheNode(t *testing.T) {
	for fam := range packets.Families {
		t.Run([]string{"IPv4", "IPv6"}[fam], func(t *testing.T) {
			n, table := newNode(t)
			abort := func(own connections.Tuple) bool {
				t.Helper()
				ended, err := table.Abort(own)
				if err != nil {
					t.Fatal(err)
				}
				return ended
			}
			tuple := func(c *netns.Connection) connections.Tuple {
				return connections.Tuple{Source: netip.MustParseAddrPort(c.LocalAddr().String()), Destination: netip.MustParseAddrPort(c.RemoteAddr().String())}
			}
			at := packets.At(node, fam, 22)
			// A socket for both families, as most programs open it.
			echo := n.Echo(netip.AddrPortFrom(netip.IPv6Unspecified(), 22))
			defer echo.Close()
			in := n.Peer(outside).Connect(at)
			defer in.Close()
			in.Exchange("one")
			peer := tuple(in)
			if abort(connections.Tuple{Source: at, Destination: netip.AddrPortFrom(peer.Source.Addr(), peer.Source.Port()-1)}) {
				t.Error("ended a socket that has no such other end")
			}
			if !abort(connections.Tuple{Source: peer.Destination, Destination: peer.Source}) {
				t.Error("the node's socket was not found")
			}
			in.Stalls("two")
			again := n.Peer(outside).Connect(at)
			again.Exchange("the server still listens")
			_ = again.Close()

			there := n.Peer(outside).Echo(packets.At(outside, fam, 23))
			defer there.Close()
			out := n.Connect(packets.At(outside, fam, 23))
			defer out.Close()
			out.Exchange("three")
			if !abort(tuple(out)) || abort(tuple(out)) {
				t.Error("a connection that the node began can't be ended once")
			}
			out.Stalls("four")
		})
	}
}

func TestPlaces(t *testing.T) {
	_, table := newNode(t)
	for fam := range packets.Families {
		for who, want := range map[string]connections.Place{
			client: {Interface: packets.InterfaceOf(client)}, outside: {Interface: "eth0"}, node: {Local: true},
		} {
			if got, err := table.Towards(packets.Address(who, fam)); err != nil || got != want {
				t.Errorf("towards %s: %+v, %v, want %+v", who, got, err, want)
			}
		}
	}
	if got, err := table.Towards(netip.MustParseAddr("198.51.100.1")); err == nil {
		t.Errorf("towards where no route leads: %+v", got)
	}
}
