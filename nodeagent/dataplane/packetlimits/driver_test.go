package packetlimits

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// node is a node with one pod behind caliweb and another host behind eth0.
type node struct {
	*netns.NS
	t          *testing.T
	pod, other *netns.NS
	d          *Driver
	desired    *tables.PacketLimitsTable
}

const (
	podAddr, otherAddr = "10.48.0.2", "192.0.2.2"
	nodeAddr           = "10.48.0.1"
)

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{NS: netns.New(t), t: t, pod: netns.New(t), other: netns.New(t), desired: tables.NewPacketLimits()}
	n.Veth("caliweb", n.pod, "eth0")
	n.Veth("eth0", n.other, "eth0")
	n.Address("caliweb", nodeAddr+"/24")
	n.pod.Address("eth0", podAddr+"/24")
	n.Address("eth0", "192.0.2.1/24")
	n.other.Address("eth0", otherAddr+"/24")
	n.pod.Route("0.0.0.0/0", nodeAddr, "eth0")
	n.other.Route("0.0.0.0/0", "192.0.2.1", "eth0")
	n.Sysctl("ipv4/ip_forward", "1")
	n.open()
	t.Cleanup(func() { _ = n.d.Close() })
	return n
}

func (n *node) open() {
	n.t.Helper()
	n.Must("opening the driver", func() (err error) {
		n.d, err = New(Options{WorkloadPrefix: "cali"})
		return err
	})
}

func (n *node) apply() {
	n.t.Helper()
	n.Must("applying", func() error { return n.d.Apply(n.t.Context(), n.desired) })
}

func (n *node) limit(l tables.PacketLimits) {
	n.t.Helper()
	if l == (tables.PacketLimits{}) {
		n.desired.Delete("caliweb")
	} else {
		n.desired.Set("caliweb", l)
	}
	n.apply()
}

// nft is what the program nft shows, so that somebody else than the driver says what is in the kernel.
func (n *node) nft(args ...string) string {
	n.t.Helper()
	var out []byte
	n.Must("running nft", func() (err error) {
		out, err = exec.Command("nft", args...).CombinedOutput()
		return err
	})
	return string(out)
}

// arrive sends datagrams and tells how many arrive, and how long it took to send them.
func arrive(from, to *netns.NS, source, at string, count int) (int64, time.Duration) {
	dest := netip.AddrPortFrom(netip.MustParseAddr(at), 9000)
	counter := to.CountUDP(dest)
	began := time.Now()
	for range count {
		from.SendUDP(dest, 10)
	}
	took := time.Since(began)
	return counter.From(netip.MustParseAddr(source)), took
}

func TestPacketRate(t *testing.T) {
	const count, rate, burst = 200, 20, 10
	n := newNode(t)
	in := func() (int64, time.Duration) { return arrive(n.other, n.pod, otherAddr, podAddr, count) }
	out := func() (int64, time.Duration) { return arrive(n.pod, n.other, podAddr, otherAddr, count) }
	toNode := func() (int64, time.Duration) { return arrive(n.pod, n.NS, podAddr, nodeAddr, count) }
	fromNode := func() (int64, time.Duration) { return arrive(n.NS, n.pod, nodeAddr, podAddr, count) }
	all := func(what string, send func() (int64, time.Duration)) {
		t.Helper()
		if got, _ := send(); got != count {
			t.Errorf("%s: %d of %d packets arrive", what, got, count)
		}
	}
	some := func(what string, send func() (int64, time.Duration)) {
		t.Helper()
		got, took := send()
		most := int64(burst + rate*took.Seconds() + 2)
		if got < burst-2 || got > most {
			t.Errorf("%s: %d packets arrive of %d sent within %v, want %d to %d", what, got, count, took, burst-2, most)
		}
	}
	limit := tables.PacketLimit{PacketsPerSecond: rate, Burst: burst}
	all("no limit, in", in)
	n.limit(tables.PacketLimits{Ingress: limit})
	some("limited in", in)
	all("limited in, out", out)
	all("limited in, from the node", fromNode) // the kubelet's probes
	n.limit(tables.PacketLimits{Egress: limit})
	all("limited out, in", in)
	some("limited out", out)
	some("limited out, to the node", func() (int64, time.Duration) {
		n.limit(tables.PacketLimits{})
		n.limit(tables.PacketLimits{Egress: limit}) // a full bucket
		return toNode()
	})
	n.limit(tables.PacketLimits{})
	all("no limit any more, out", out)
	if got := n.nft("list", "ruleset"); got != "" {
		t.Errorf("without limits the kernel has\n%s", got)
	}
}

// listen starts a server that gives back what it gets.
func (n *node) listen(ns *netns.NS, at string) {
	n.t.Helper()
	var listener net.Listener
	ns.Must("listening", func() (err error) {
		listener, err = new(net.ListenConfig).Listen(context.Background(), "tcp", at+":9001")
		return err
	})
	n.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
}

// patience bounds the wait for what must come about.
const patience = time.Minute

func dial(from *netns.NS, at string) (c net.Conn, err error) {
	from.Must("dialling", func() error {
		c, err = net.DialTimeout("tcp", at+":9001", patience) // one too many is refused, not left without an answer
		return nil
	})
	return c, err
}

func TestConnections(t *testing.T) {
	for _, test := range []struct {
		name  string
		limit tables.PacketLimits
		of    func(n *node) (from, to *netns.NS, at string)
	}{
		{"to the pod", tables.PacketLimits{Ingress: tables.PacketLimit{Connections: 3}}, func(n *node) (*netns.NS, *netns.NS, string) { return n.other, n.pod, podAddr }},
		{"from the pod", tables.PacketLimits{Egress: tables.PacketLimit{Connections: 3}}, func(n *node) (*netns.NS, *netns.NS, string) { return n.pod, n.other, otherAddr }},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t)
			from, to, at := test.of(n)
			n.listen(to, at)
			n.limit(test.limit)
			var open []net.Conn
			for range 3 {
				c, err := dial(from, at)
				if err != nil {
					t.Fatalf("connection %d: %v", len(open)+1, err)
				}
				open = append(open, c)
			}
			if c, err := dial(from, at); err == nil {
				t.Error("a fourth connection")
				_ = c.Close()
			}
			// A restart of the agent, and a comparison with the kernel, count on.
			n.Must("closing the driver", n.d.Close)
			n.open()
			n.desired = tables.NewPacketLimits()
			n.limit(test.limit)
			if c, err := dial(from, at); err == nil {
				t.Error("a fourth connection after a restart")
				_ = c.Close()
			}
			for _, c := range open { // those that are there go on
				if _, err := c.Write([]byte("x")); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Error(err)
				}
			}
			// One that ends makes room.
			_ = open[0].Close()
			deadline := time.Now().Add(patience)
			for {
				c, err := dial(from, at)
				if err == nil {
					open = append(open, c)
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("once one has ended: %v", err)
				}
			}
			for _, c := range open[1:] {
				_ = c.Close()
			}
		})
	}
}

// sorted has the lines of a listing in order: chains that were made anew come last.
func sorted(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// What others break is mended at the next comparison; a limit that is right stays as it is.
func TestComparison(t *testing.T) {
	n := newNode(t)
	both := tables.PacketLimits{Ingress: tables.PacketLimit{PacketsPerSecond: 7, Burst: 6, Connections: 9}, Egress: tables.PacketLimit{Connections: 4}}
	n.limit(both)
	n.desired.Set("calitwo", tables.PacketLimits{Ingress: tables.PacketLimit{Connections: 1}})
	n.apply()
	want := n.nft("list", "table", "inet", Table)
	for _, part := range []string{"limit rate over 7/second burst 6 packets drop", "ct count over 9 reject", "ct count over 4 reject", "ct count over 1 reject", "caliweb", "calitwo"} {
		if !strings.Contains(want, part) {
			t.Errorf("the kernel has no %q:\n%s", part, want)
		}
	}
	handles := n.nft("-a", "list", "table", "inet", Table)
	n.d.Resync()
	n.apply()
	if got := n.nft("-a", "list", "table", "inet", Table); got != handles {
		t.Errorf("a comparison changed\n%s\nto\n%s", handles, got)
	}
	for _, harm := range [][]string{
		{"flush", "chain", "inet", Table, "to-caliweb"},
		{"flush", "chain", "inet", Table, "forward"},
		{"flush", "map", "inet", Table, "to"},
		{"delete", "table", "inet", Table},
	} {
		n.nft(harm...)
		n.d.Resync()
		n.apply()
		if got := n.nft("list", "table", "inet", Table); sorted(got) != sorted(want) {
			t.Errorf("after %v the kernel has\n%s\nwant\n%s", harm, got, want)
		}
	}
	n.desired.Delete("calitwo")
	n.desired.Set("caliweb", tables.PacketLimits{Egress: tables.PacketLimit{Connections: 5}})
	n.apply()
	if got := n.nft("list", "table", "inet", Table); strings.Contains(got, "calitwo") || strings.Contains(got, "to-caliweb") || !strings.Contains(got, "ct count over 5 ") {
		t.Errorf("the kernel has\n%s", got)
	}
	// One whose name the kernel does not take fails alone.
	n.desired.Set("caliwithaverylongname", both)
	err := n.d.Apply(t.Context(), n.desired)
	var item *tables.ItemError
	if !errors.As(err, &item) || item.Name != "caliwithaverylongname" || item.Kind != tables.KindPacketLimits {
		t.Errorf("%v, want an ItemError", err)
	}
}
