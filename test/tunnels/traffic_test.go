package tunnels

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
)

// TestMTU: pods get what the tunnels leave; one that is older learns it from the network, whatever its policy denies, and talks on.
func TestMTU(t *testing.T) {
	for _, test := range []struct {
		name, cidr, mode string
		want             int
	}{
		{"none", pool4, "", 1500},
		{"VXLAN", pool4, ", vxlanMode: CrossSubnet", 1450},
		{"VXLAN over IPv6", pool6, ", vxlanMode: Always", 1430},
		{"IPIP", pool4, ", ipipMode: Always", 1480},
	} {
		t.Run(test.name, func(t *testing.T) {
			if elsewhere(t, test.name) {
				return
			}
			w := NewWorld(t)
			w.Give(poolWith("pool", test.cidr, test.mode))
			if p := w.Node("w1", "a", test.cidr).Pod("p1"); p.MTU != test.want {
				t.Errorf("the pod's MTU is %d, want %d", p.MTU, test.want)
			}
		})
	}
}

const denyByDefault = `apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: default.deny}
spec:
  namespaceSelector: all()
  types: [Ingress, Egress]
  ingress: [{action: Allow, protocol: %[1]s, destination: {ports: [8080]}}]
  egress: [{action: Allow, protocol: %[1]s, destination: {ports: [8080]}}]
---
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: default}
spec: {order: 1000000}`

func TestPathMTUReachesOlderPods(t *testing.T) {
	for _, test := range []struct {
		cidr, device string
		path         int
	}{{pool4, "vxlan.manul", 1450}, {pool6, "vxlan-v6.manul", 1430}} {
		t.Run(test.device, func(t *testing.T) {
			is4 := test.cidr == pool4
			w := NewWorld(t)
			w.Give(fmt.Sprintf(denyByDefault, "UDP") + "\n---\n" + poolWith("pool", test.cidr, ""))
			p1, p2 := w.Node("w1", "a", test.cidr).Pod("p1"), w.Node("w2", "a", test.cidr).Pod("p2")
			w.Give(poolWith("pool", test.cidr, ", vxlanMode: Always"))
			to := p2.V6
			if is4 {
				to = p2.V4
			}
			p1.Node.Sends(to, test.device)
			end := p2.EchoUDP(netip.AddrPortFrom(to, 8080))
			defer end()
			flow := p1.ConnectUDP(netip.AddrPortFrom(to, 8080))
			defer flow.Close()
			if got := pathMTU(t, flow, is4); got != 1500 {
				t.Fatalf("the pod begins with a path MTU of %d, want 1500", got)
			}
			learns(t, flow, is4, 1400+40, test.path)
		})
	}
}

// shell runs a command of somebody else on the node.
func (n *Node) shell(command string) {
	n.world.t.Helper()
	n.Must(command, func() error {
		if out, err := exec.Command("sh", "-ec", command).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// TestSourceAddresses: what a node sends into a tunnel comes back through it, also when it asked for a service; what pods send to outside
// all pools bears the node's address, and what they send to each other their own.
func TestSourceAddresses(t *testing.T) {
	w := NewWorld(t)
	w.Give(poolWith("pool", pool4, ", vxlanMode: Always"))
	n1, n2 := w.Node("w1", "a", pool4), w.Node("w2", "b", pool4)
	p1, p2 := n1.Pod("p1"), n2.Pod("p2")
	n1.Sends(p2.V4, "vxlan.manul")
	n2.Sends(p1.V4, "vxlan.manul")
	end := netip.MustParseAddr(w.status("w1").Tunnels[0].Address)

	n1.shell(fmt.Sprintf(`nft add table ip services; nft add chain ip services output '{type nat hook output priority -100;}'
		nft add rule ip services output ip daddr 10.96.0.10 tcp dport 80 dnat to %s:8080`, p2.V4))
	echo := p2.Echo(netip.AddrPortFrom(p2.V4, 8080))
	defer echo.Close()
	for _, to := range []string{p2.V4.String() + ":8080", "10.96.0.10:80"} {
		c := n1.Connect(netip.MustParseAddrPort(to))
		c.Exchange("from the node")
		c.Close()
		if got := echo.Peer(); got != end {
			t.Errorf("node w1 -> %s: the pod sees %s, want the node's end of the tunnel %s", to, got, end)
		}
	}
	outside := w.Router.Echo(netip.MustParseAddrPort("192.0.2.254:8080"))
	defer outside.Close()
	c := p1.Connect(netip.MustParseAddrPort("192.0.2.254:8080"))
	c.Exchange("from a pod")
	c.Close()
	if got := outside.Peer(); got != n1.V4 {
		t.Errorf("the machine outside sees a pod as %s, want its node's %s", got, n1.V4)
	}
}

// TestHostEndpointsLeaveTunnelsAlone: a host endpoint that denies all does not keep pods from talking through tunnels, and lets nobody else send
// into them.
func TestHostEndpointsLeaveTunnelsAlone(t *testing.T) {
	w := NewWorld(t)
	w.Give(poolWith("pool", pool4, ", vxlanMode: Always") + "\n---\n" + poolWith("six", pool6, ", vxlanMode: Always"))
	n1, n2 := w.Node("w1", "a", pool4, pool6), w.Node("w2", "b", pool4, pool6)
	p1, p2 := n1.Pod("p1"), n2.Pod("p2")
	for _, n := range []*Node{n1, n2} {
		w.Give(fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: all-%s}\nspec: {node: %s, interfaceName: '*'}", n.Name, n.Name))
		eventually(t, func() string {
			if s := w.status(n.Name).Summary; s.HostEndpoints != 1 {
				return fmt.Sprintf("node %s has %d host endpoints in effect", n.Name, s.HostEndpoints)
			}
			return ""
		})
	}
	n1.Sends(p2.V4, "vxlan.manul")
	n2.Sends(p1.V4, "vxlan.manul")
	n1.Sends(p2.V6, "vxlan-v6.manul")
	n2.Sends(p1.V6, "vxlan-v6.manul")
	talk(t, p1, p2, true)
	talk(t, p2, p1, true)
	talk(t, p1, p2, false)
	if w.Router.CanConnect(netip.AddrPortFrom(n1.V4, 22222)) {
		t.Error("the host endpoint denies nothing")
	}

	// A machine that is no node sends what looks like a pod's packet.
	inside := p1.CountUDP(netip.AddrPortFrom(p1.V4, 9999))
	w.Router.Must("making a tunnel", func() error {
		out, err := exec.Command("sh", "-ec", strings.NewReplacer("NODE", n1.V4.String(), "POD", p1.V4.String(), "MAC", n1.Link("vxlan.manul").Attrs().HardwareAddr.String()).Replace(
			`ip link add forged type vxlan id 4096 dstport 4789 remote NODE local 192.0.2.254 nolearning
			ip addr add 10.48.2.55/32 dev forged; ip link set forged up
			ip neigh replace 10.48.99.1 lladdr MAC dev forged nud permanent
			ip route add POD via 10.48.99.1 dev forged onlink`)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	forge := func() { w.Router.SendUDP(netip.AddrPortFrom(p1.V4, 9999), 10) }
	forge()
	talk(t, p1, p2, true)
	if n := inside.From(netip.MustParseAddr("10.48.2.55")); n > 0 {
		t.Errorf("%d packets of a machine that is no node came out of the tunnel", n)
	}
	// Unless it is named among those that may.
	w.Give("apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: {externalNodesList: [192.0.2.254]}")
	eventually(t, func() string {
		arrived := p1.CountUDP(netip.AddrPortFrom(p1.V4, 9999))
		forge()
		talk(t, p1, p2, true)
		if arrived.From(netip.MustParseAddr("10.48.2.55")) == 0 {
			return "nothing comes out of the tunnel from a machine that is in externalNodesList"
		}
		return ""
	})
}
