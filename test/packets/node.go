package packets

import (
	"fmt"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// The node of all tests: three pods on it, and two machines beyond it, each behind an interface of its own.
const (
	ClientPod = "client"
	ServerPod = "server"
	OtherPod  = "other"
	Outside   = "outside" // a machine behind the node's eth0
	Beside    = "beside"  // a machine behind the node's eth1
	HostSide  = "host"    // the node, by its address on eth0
	OtherSide = "host2"   // the node, by its address on eth1
)

// Family of addresses.
type Family uint8

// The families, and their number.
const (
	IPv4 Family = iota
	IPv6
	Families
)

// every is the default route.
func (f Family) every() string { return [Families]string{"0.0.0.0/0", "::/0"}[f] }

// Address of somebody.
func Address(who string, fam Family) netip.Addr { return addresses()[who][fam] }

func addresses() map[string][Families]netip.Addr {
	return map[string][Families]netip.Addr{
		ClientPod: {netip.MustParseAddr("10.48.0.1"), netip.MustParseAddr("fd00:48::1")},
		ServerPod: {netip.MustParseAddr("10.48.0.2"), netip.MustParseAddr("fd00:48::2")},
		OtherPod:  {netip.MustParseAddr("10.48.0.3"), netip.MustParseAddr("fd00:48::3")},
		Outside:   {netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")},
		HostSide:  {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		Beside:    {netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8:1::9")},
		OtherSide: {netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8:1::1")},
	}
}

// Pods of the node.
func Pods() []string { return []string{ClientPod, ServerPod, OtherPod} }

// InterfaceOf is the node's interface of a pod, or that behind which a machine is.
func InterfaceOf(who string) string {
	switch who {
	case Outside, HostSide:
		return "eth0"
	case Beside, OtherSide:
		return "eth1"
	}
	return WorkloadPrefix + who
}

// Node is a node with pods, whose policy dataplane a driver keeps.
type Node struct {
	*netns.NS
	Driver  Driver
	subject Subject
	t       testing.TB
	peers   map[string]*netns.NS
	prober  netns.Prober
	port    uint16 // last source port used
}

// NewNode makes a node with a driver that has applied nothing yet.
func NewNode(t testing.TB, subject Subject) *Node {
	t.Helper()
	n := &Node{NS: netns.New(t), t: t, subject: subject, peers: map[string]*netns.NS{}, port: 20000}
	n.peers[HostSide], n.peers[OtherSide] = n.NS, n.NS
	for _, setting := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		n.Sysctl(setting, "1")
	}
	n.Sysctl("ipv6/conf/default/accept_dad", "0")
	for _, setting := range []string{"all", "default"} {
		n.Sysctl("ipv4/conf/"+setting+"/rp_filter", "0")
	}
	for _, pod := range Pods() {
		n.join(pod, HostSide)
		n.Sysctl("ipv4/conf/"+InterfaceOf(pod)+"/proxy_arp", "1")
		n.Sysctl("ipv6/conf/"+InterfaceOf(pod)+"/proxy_ndp", "1")
	}
	for machine, side := range map[string]string{Outside: HostSide, Beside: OtherSide} {
		n.join(machine, side)
		for fam := range Families {
			a := Address(side, fam)
			n.Address(InterfaceOf(machine), netip.PrefixFrom(a, a.BitLen()).String())
		}
	}
	n.open()
	t.Cleanup(func() {
		if err := n.Driver.Close(); err != nil {
			t.Errorf("closing the driver: %v", err)
		}
	})
	return n
}

// join makes a pod or a machine whose only way is over the node. The node's link address is known there: the node's end
// of a workload's veth has no address that would answer.
func (n *Node) join(who, gateway string) {
	n.t.Helper()
	peer := netns.New(n.t)
	peer.Sysctl("ipv6/conf/default/accept_dad", "0")
	n.peers[who] = peer
	hostEnd := InterfaceOf(who)
	n.Veth(hostEnd, peer, "eth0")
	for fam := range Families {
		a, via := Address(who, fam), Address(gateway, fam).String()
		single := netip.PrefixFrom(a, a.BitLen()).String()
		n.Route(single, "", hostEnd)
		peer.Address("eth0", single)
		peer.Neighbor("eth0", via, n.Link(hostEnd).Attrs().HardwareAddr)
		peer.Route(fam.every(), via, "eth0")
	}
}

// Peer is the namespace of a pod or a machine; for the node's names, the node itself.
func (n *Node) Peer(who string) *netns.NS { return n.peers[who] }

func (n *Node) open() {
	n.t.Helper()
	n.Must("opening the driver", func() error {
		var err error
		n.Driver, err = n.subject.Open(n.t)
		return err
	})
}

// Reopen replaces the driver by a new one, as a restart of the agent does.
func (n *Node) Reopen() {
	n.t.Helper()
	n.ReopenAs(n.subject)
}

// ReopenAs is Reopen with another driver.
func (n *Node) ReopenAs(subject Subject) {
	n.t.Helper()
	n.subject = subject
	if err := n.Driver.Close(); err != nil {
		n.t.Fatalf("closing the driver: %v", err)
	}
	n.open()
}

// Apply applies and must succeed.
func (n *Node) Apply(p *tables.Policy) {
	n.t.Helper()
	if err := n.TryApply(p); err != nil {
		n.t.Fatalf("applying: %v", err)
	}
	if p.HasDirty() {
		n.t.Fatal("the tables are dirty after Apply")
	}
}

// TryApply applies in the node's namespace: drivers that run programs need that.
func (n *Node) TryApply(p *tables.Policy) error {
	n.t.Helper()
	var err error
	n.Do(func() { err = n.Driver.Apply(n.t.Context(), p) })
	return err
}

// Shell runs a command of somebody else in the node.
func (n *Node) Shell(command string) string {
	n.t.Helper()
	var out []byte
	n.Must(command, func() error {
		var err error
		if out, err = exec.Command("sh", "-ec", command).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return string(out)
}

// source checks which address a connection has at its other end.
func (n *Node) source(from, to string, fam Family, want string) {
	n.t.Helper()
	n.port++
	at := netip.AddrPortFrom(Address(to, fam), n.port)
	echo := n.Peer(to).Echo(at)
	defer echo.Close()
	connection := n.Peer(from).Connect(at)
	defer connection.Close()
	connection.Exchange("who am I")
	if got := echo.Peer(); got != Address(want, fam) {
		n.t.Errorf("%s -> %s: the source is %v, want %s's %v", from, to, got, want, Address(want, fam))
	}
}
