package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/test/netns"
)

// fed is a source into which the test puts the news.
type fed struct {
	sink    source.Sink
	started chan struct{}
	version int64
}

func newFed() *fed { return &fed{started: make(chan struct{})} }

func (f *fed) Run(ctx context.Context, sink source.Sink) error {
	f.sink = sink
	close(f.started)
	<-ctx.Done()
	return nil
}

func (*fed) Report(source.Report) {}

// set gives the node's state and one program, each in a new form.
func (f *fed) set(state v1alpha1.NodeStateSpec, program v1alpha1.PolicyProgramSpec) {
	f.version++
	meta := named(nodeName)
	meta.Generation, meta.ResourceVersion = f.version, strconv.FormatInt(f.version, 10)
	s := &v1alpha1.NodeState{ObjectMeta: meta, Spec: state}
	meta.Name = "gnp.a"
	p := &v1alpha1.PolicyProgram{ObjectMeta: meta, Spec: program}
	if f.version > 1 {
		f.sink.Set(source.NodeState, s)
		f.sink.Set(source.PolicyProgram, p)
		return
	}
	<-f.started
	for _, kind := range source.Kinds() {
		objects := map[source.Kind][]source.Object{source.NodeState: {s}, source.PolicyProgram: {p}}
		f.sink.Replace(kind, objects[kind], meta.ResourceVersion)
	}
}

// denyPorts is a program that denies ports of TCP and UDP, and allows everything else.
func denyPorts(ports ...int32) v1alpha1.PolicyProgramSpec {
	var rules []v1alpha1.Rule
	for _, protocol := range []int32{6, 17} {
		for _, port := range ports {
			rules = append(rules, v1alpha1.Rule{
				Action: v1alpha1.Deny, Protocol: &protocol, Destination: v1alpha1.EntityMatch{Ports: []v1alpha1.PortRange{{First: port, Last: port}}},
			})
		}
	}
	rules = append(rules, v1alpha1.Rule{Action: v1alpha1.Allow})
	return v1alpha1.PolicyProgramSpec{Tier: "default", Ingress: rules, Egress: rules}
}

// family of the addresses of the test below.
type family struct {
	name, outside, node string
	// ip is the family as nft calls it.
	ip string
}

func (f *family) at(addr string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
}

// traffic is a node with two pods, and a machine beyond it.
type traffic struct {
	*testNode
	source        *fed
	client, shop  *netns.NS
	outside       *netns.NS
	spec          v1alpha1.NodeStateSpec
	shopAddresses []string // IPv4, IPv6
}

func newTraffic(t *testing.T) (n *traffic, stop func()) {
	t.Helper()
	n = &traffic{
		testNode: &testNode{t: t, ns: netns.New(t), dir: t.TempDir(), log: slog.New(slog.NewTextHandler(testWriter{t, &sync.Mutex{}}, nil))},
		source:   newFed(),
		client:   netns.New(t), shop: netns.New(t), outside: netns.New(t),
		shopAddresses: []string{"10.48.0.2", "fd00:48::2"},
	}
	for _, setting := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		n.ns.Sysctl(setting, "1")
	}
	n.join(n.outside, "eth0", "192.168.0.9/24", "2001:db8::9/64")
	n.ns.Address("eth0", "192.168.0.1/24", "2001:db8::1/64")
	if err := os.WriteFile(filepath.Join(n.dir, "plugin"), []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tiers := []v1alpha1.TierPolicies{{Tier: "default", DefaultAction: v1alpha1.Deny, Policies: []string{"gnp.a"}}}
	n.spec = v1alpha1.NodeStateSpec{
		Endpoints: []v1alpha1.Endpoint{
			{ID: "shop/client", UID: "u1", Addresses: v1alpha1.AddressRequest{Fixed: []string{"10.48.0.1", "fd00:48::1"}}},
			{ID: "shop/shop", UID: types.UID("u2"), Addresses: v1alpha1.AddressRequest{Fixed: n.shopAddresses}, Ingress: tiers},
		},
		HostEndpoints: []v1alpha1.HostEndpoint{{Name: "h1", Interface: "eth0", DefaultAction: v1alpha1.Allow, Local: v1alpha1.DirectionPolicies{Ingress: tiers, Egress: tiers}}},
		Blocks:        []v1alpha1.BlockLease{{CIDR: "10.48.0.0/26", Pool: "10.48.0.0/16"}, {CIDR: "fd00:48::/122", Pool: "fd00:48::/64"}},
	}
	stop = n.start(n.source)
	n.join(n.client, render.InterfaceName("shop/client"), "10.48.0.1/32", "fd00:48::1/128")
	n.join(n.shop, render.InterfaceName("shop/shop"), "10.48.0.2/32", "fd00:48::2/128")
	return n, stop
}

// join connects a pod or machine to the node, which is its only way to anywhere.
func (n *traffic) join(who *netns.NS, iface string, addrs ...string) {
	n.t.Helper()
	n.ns.Veth(iface, who, "eth0")
	who.Address("eth0", addrs...)
	if iface != "eth0" {
		n.ns.Sysctl("ipv4/conf/"+iface+"/proxy_arp", "1")
	}
	for every, via := range map[string]string{"0.0.0.0/0": "169.254.1.1", "::/0": "fe80::1:1"} {
		who.Neighbor("eth0", via, n.ns.Link(iface).Attrs().HardwareAddr)
		who.Route(every, via, "eth0")
	}
	for _, addr := range addrs { // the node need not ask for it
		n.ns.Neighbor(iface, netip.MustParsePrefix(addr).Addr().String(), who.Link("eth0").Attrs().HardwareAddr)
	}
}

// nodePort translates what goes to a port of the node to the shop's, and the node's address becomes its source.
func (n *traffic) nodePort(ip, own string, from uint16, to netip.AddrPort) {
	n.t.Helper()
	n.ns.Must("translating a port", func() error {
		script := fmt.Sprintf(`table %[1]s kube-test {
			chain pre { type nat hook prerouting priority -100; %[1]s daddr %[2]s tcp dport %[3]d dnat to %[4]s; }
			chain post { type nat hook postrouting priority 100; ct status dnat masquerade; }
		}`, ip, own, from, to)
		if out, err := exec.Command("nft", script).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// Connections and flows that policy comes to deny end, others go on; and all go on where that is asked for.
func TestDeniedConnections(t *testing.T) {
	for i, f := range []family{
		{name: "IPv4", outside: "192.168.0.9", node: "192.168.0.1", ip: "ip"},
		{name: "IPv6", outside: "2001:db8::9", node: "2001:db8::1", ip: "ip6"},
	} {
		t.Run(f.name, func(t *testing.T) {
			n, stop := newTraffic(t)
			defer stop()
			n.source.set(n.spec, denyPorts())
			shop := n.shopAddresses[i]
			n.eventually("the way to the pod", func() string {
				if got := n.routesOf(); len(got) < 4 {
					return fmt.Sprintf("routes: %v", got)
				}
				return ""
			})
			n.nodePort(f.ip, f.node, 30080, f.at(shop, 88))

			// The connections to the even ports come to be denied.
			connected := map[string]*netns.Connection{}
			denied := map[string]bool{}
			tcp := func(what string, from, to *netns.NS, addr string, port uint16) {
				echo := to.Echo(f.at(addr, port))
				t.Cleanup(echo.Close)
				connected[what], denied[what] = from.Connect(f.at(addr, port)), port%2 == 0
			}
			udp := func(what string, from, to *netns.NS, addr string, port uint16) {
				t.Cleanup(to.EchoUDP(f.at(addr, port)))
				connected[what], denied[what] = from.ConnectUDP(f.at(addr, port)), port%2 == 0
			}
			tcp("pod to pod, denied", n.client, n.shop, shop, 80)
			tcp("pod to pod", n.client, n.shop, shop, 81)
			tcp("from outside, denied", n.outside, n.shop, shop, 82)
			tcp("from outside", n.outside, n.shop, shop, 83)
			tcp("to the node, denied", n.outside, n.ns, f.node, 22)
			tcp("to the node", n.outside, n.ns, f.node, 23)
			tcp("from the node, denied", n.ns, n.outside, f.outside, 84)
			tcp("from the node", n.ns, n.outside, f.outside, 85)
			udp("flow from pod to pod, denied", n.client, n.shop, shop, 80)
			udp("flow from pod to pod", n.client, n.shop, shop, 81)
			udp("flow from outside, denied", n.outside, n.shop, shop, 82)
			udp("flow from outside", n.outside, n.shop, shop, 83)
			udp("flow to the node, denied", n.outside, n.ns, f.node, 22)
			udp("flow to the node", n.outside, n.ns, f.node, 23)
			echo := n.shop.Echo(f.at(shop, 88))
			t.Cleanup(echo.Close)
			connected["to a node port, denied"], denied["to a node port, denied"] = n.outside.Connect(f.at(f.node, 30080)), true

			exchange := func(which func(what string) bool) {
				t.Helper()
				for what, c := range connected {
					if which(what) {
						t.Log("exchanging:", what)
						c.Exchange("text")
					}
				}
			}
			all := func(string) bool { return true }
			exchange(all)

			ports := []int32{22, 80, 82, 84, 88}
			keep := n.spec
			keep.Settings.KeepDeniedConnections = true
			n.source.set(keep, denyPorts(ports...))
			n.eventually("policy in effect", func() string {
				if n.client.CanConnect(f.at(shop, 80)) {
					return "a new connection can be opened"
				}
				return ""
			})
			exchange(all)

			n.source.set(n.spec, denyPorts(ports...))
			for what, c := range connected {
				if denied[what] {
					n.eventually(what, func() string {
						if c.Alive() {
							return "it goes on"
						}
						return ""
					})
				}
			}
			exchange(func(what string) bool { return !denied[what] })
			for what, c := range connected {
				if denied[what] {
					t.Log("stalling:", what)
					c.Stalls("text")
				}
			}
		})
	}
}
