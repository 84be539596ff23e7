package iptables

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// The node of all kernel tests: three pods on one node, and a machine beyond it.
const (
	clientPod = "client"
	serverPod = "server"
	otherPod  = "other"
	outside   = "outside" // a machine that is no pod, behind the node's eth0
	hostSide  = "host"
)

// Addresses, declared once.
var addresses = map[string][families]netip.Addr{ //nolint:gochecknoglobals // test data
	clientPod: {netip.MustParseAddr("10.48.0.1"), netip.MustParseAddr("fd00:48::1")},
	serverPod: {netip.MustParseAddr("10.48.0.2"), netip.MustParseAddr("fd00:48::2")},
	otherPod:  {netip.MustParseAddr("10.48.0.3"), netip.MustParseAddr("fd00:48::3")},
	outside:   {netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")},
	hostSide:  {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
}

const testPrefix = "cali"

func pods() []string { return []string{clientPod, serverPod, otherPod} }

func interfaceOf(pod string) string { return testPrefix + pod }

// node is a node with pods, whose policy dataplane a driver keeps.
type node struct {
	*netns.NS
	t       testing.TB
	peers   map[string]*netns.NS
	driver  *Driver
	variant Variant
	prober  netns.Prober
	port    uint16 // last source port used
}

func newNode(t testing.TB, variant Variant) *node {
	t.Helper()
	n := &node{NS: netns.New(t), t: t, variant: variant, peers: map[string]*netns.NS{}, port: 20000}
	n.peers[hostSide] = n.NS
	for _, setting := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		n.Sysctl(setting, "1")
	}
	n.Sysctl("ipv6/conf/default/accept_dad", "0")
	for _, setting := range []string{"all", "default"} {
		n.Sysctl("ipv4/conf/"+setting+"/rp_filter", "0")
	}
	for _, pod := range append(pods(), outside) {
		peer := netns.New(t)
		peer.Sysctl("ipv6/conf/default/accept_dad", "0")
		n.peers[pod] = peer
		hostEnd := interfaceOf(pod)
		if pod == outside {
			hostEnd = "eth0"
		}
		n.Veth(hostEnd, peer, "eth0")
		for fam, a := range addresses[pod] {
			single, gateway, every := netip.PrefixFrom(a, a.BitLen()).String(), addresses[hostSide][fam].String(), "0.0.0.0/0"
			if family(fam) == ipv6 {
				every = "::/0"
			}
			if pod == outside {
				n.Address(hostEnd, netip.PrefixFrom(addresses[hostSide][fam], a.BitLen()).String())
			}
			n.Route(single, "", hostEnd)
			peer.Address("eth0", single)
			if pod != outside {
				n.Sysctl("ipv4/conf/"+hostEnd+"/proxy_arp", "1")
				n.Sysctl("ipv6/conf/"+hostEnd+"/proxy_ndp", "1")
			}
			n.gateway(peer, hostEnd, gateway, every)
		}
	}
	n.Do(func() {
		var err error
		if n.driver, err = New(Options{WorkloadPrefix: testPrefix, Variant: n.variant, Log: slog.New(slog.NewTextHandler(n.t.Output(), nil))}); err != nil {
			t.Errorf("opening the driver: %v", err)
		}
	})
	if n.driver == nil {
		t.FailNow()
	}
	t.Cleanup(func() {
		if err := n.driver.Close(); err != nil {
			t.Errorf("closing the driver: %v", err)
		}
	})
	return n
}

// gateway gives a peer its default route over the node, with the node's link address known: the node's end of a
// workload's veth has no address that would answer.
func (n *node) gateway(peer *netns.NS, hostEnd, gateway, every string) {
	n.t.Helper()
	peer.Neighbor("eth0", gateway, n.Link(hostEnd).Attrs().HardwareAddr)
	peer.Route(every, gateway, "eth0")
}

// reopen replaces the driver by a new one, as a restart of the agent does.
func (n *node) reopen() {
	n.t.Helper()
	if err := n.driver.Close(); err != nil {
		n.t.Fatalf("closing the driver: %v", err)
	}
	var err error
	n.Do(func() {
		n.driver, err = New(Options{WorkloadPrefix: testPrefix, Variant: n.variant, Log: slog.New(slog.NewTextHandler(n.t.Output(), nil))})
	})
	if err != nil {
		n.t.Fatalf("opening the driver again: %v", err)
	}
}

func (n *node) apply(p *tables.Policy) {
	n.t.Helper()
	if err := n.tryApply(p); err != nil {
		n.t.Fatalf("applying: %v", err)
	}
	if p.HasDirty() {
		n.t.Fatal("the tables are dirty after Apply")
	}
}

// tryApply applies in the node's namespace, where programs must run.
func (n *node) tryApply(p *tables.Policy) error {
	n.t.Helper()
	var err error
	n.Do(func() { err = n.driver.Apply(n.t.Context(), p) })
	return err
}

// eachVariant runs a test for both variants of iptables.
func eachVariant(t *testing.T, test func(*testing.T, Variant)) {
	t.Helper()
	for _, variant := range []Variant{NFT, Legacy} {
		t.Run(string(variant), func(t *testing.T) {
			if _, err := programsOf(t.Context(), variant); err != nil {
				t.Skipf("kernel test: %v", err)
			}
			test(t, variant)
		})
	}
}

// probe is a packet and whether it must arrive.
type probe struct {
	from, to string
	packet   netns.Packet
	arrives  bool
}

func (p probe) String() string {
	verdict := "drop"
	if p.arrives {
		verdict = "pass"
	}
	k := p.packet
	return fmt.Sprintf("%s -> %s protocol %d %v:%d -> %v:%d type %d code %d: %s", p.from, p.to, k.Protocol, k.From, k.SourcePort, k.To, k.Port, k.Type, k.Code, verdict)
}

// verify sends all probes and compares verdicts.
func (n *node) verify(probes ...probe) {
	n.t.Helper()
	type pair struct{ from, to string }
	var order []pair
	byPair := map[pair][]probe{}
	for _, p := range probes {
		k := pair{p.from, p.to}
		if byPair[k] == nil {
			order = append(order, k)
		}
		byPair[k] = append(byPair[k], p)
	}
	for _, k := range order {
		var packets []netns.Packet
		expected := 0
		for i, p := range byPair[k] {
			n.port++
			if p.packet.SourcePort == 0 {
				p.packet.SourcePort = n.port // a flow of its own
			}
			byPair[k][i] = p
			packets = append(packets, p.packet)
			if p.arrives {
				expected++
			}
		}
		for i, arrived := range n.prober.Send(n.peers[k.from], n.peers[k.to], packets, expected) {
			if p := byPair[k][i]; arrived != p.arrives {
				n.t.Errorf("%v, but arrived: %v", p, arrived)
			}
		}
	}
}

// newTables are tables with all pods as endpoints, without restriction.
func newTables() *tables.Policy {
	p := tables.NewPolicy()
	for _, pod := range pods() {
		p.Endpoints.Set(interfaceOf(pod), unrestricted(pod))
	}
	p.Settings.EndpointToHost = tables.HostAccept
	p.SettingsDirty = true
	return p
}

func unrestricted(pod string) tables.Endpoint {
	return tables.Endpoint{Addresses: []netip.Addr{addresses[pod][ipv4], addresses[pod][ipv6]}}
}
