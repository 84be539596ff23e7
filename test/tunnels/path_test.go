package tunnels

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/test/netns"
)

// pathMTU is what the kernel takes for the greatest packet that a flow of datagrams may send.
func pathMTU(t *testing.T, flow *netns.Connection, is4 bool) (mtu int) {
	t.Helper()
	raw, err := flow.Conn.(*net.UDPConn).SyscallConn() //nolint:forcetypeassert // it is one
	if err != nil {
		t.Fatal(err)
	}
	level, option := unix.IPPROTO_IPV6, unix.IPV6_MTU
	if is4 {
		level, option = unix.IPPROTO_IP, unix.IP_MTU
	}
	err = errors.Join(err, raw.Control(func(fd uintptr) { mtu, err = unix.GetsockoptInt(int(fd), level, option) }))
	if err != nil {
		t.Fatal(err)
	}
	return mtu
}

// learns sends datagrams of a size until the flow knows the path's MTU.
func learns(t *testing.T, flow *netns.Connection, is4 bool, size, want int) {
	t.Helper()
	eventually(t, func() string {
		if _, err := flow.Write(make([]byte, size)); err != nil && !errors.Is(err, syscall.EMSGSIZE) {
			return err.Error()
		}
		if got := pathMTU(t, flow, is4); got != want {
			return fmt.Sprintf("the pod takes the path's MTU for %d, want %d", got, want)
		}
		return ""
	})
}

// TestNarrowNetwork: somewhere between the nodes the network takes smaller packets than their interfaces. Pods learn it, whatever their
// policy denies; in VXLAN over IPv4 the outer packets are cut up instead.
func TestNarrowNetwork(t *testing.T) {
	const narrow = 1400
	for _, test := range []struct {
		name, cidr, mode, device string
		path                     int // what the pod learns; 0: it need not
	}{
		{"none", pool4, "", "eth0", narrow},
		{"VXLAN", pool4, ", vxlanMode: Always", "vxlan.manul", 0},
		{"IPv6 none", pool6, "", "eth0", narrow},
		{"VXLAN over IPv6", pool6, ", vxlanMode: Always", "vxlan-v6.manul", narrow - 70},
	} {
		t.Run(test.name, func(t *testing.T) {
			is4 := test.cidr == pool4
			w := NewWorld(t)
			w.Give(fmt.Sprintf(denyByDefault, "UDP") + "\n---\n" + poolWith("pool", test.cidr, test.mode))
			n1, n2 := w.Node("w1", "a", test.cidr), w.Node("w2", "b", test.cidr)
			p1, p2 := n1.Pod("p1"), n2.Pod("p2")
			from, to := p1.V6, p2.V6
			via1, via2 := n1.V6, n2.V6
			if is4 {
				from, to, via1, via2 = p1.V4, p2.V4, n1.V4, n2.V4
			}
			if test.device == "eth0" { // a network that routes pods
				w.Router.Route(netip.PrefixFrom(from, from.BitLen()).String(), via1.String(), "a")
				w.Router.Route(netip.PrefixFrom(to, to.BitLen()).String(), via2.String(), "b")
			}
			n1.Sends(to, test.device)
			n2.Sends(from, test.device)
			if err := w.Router.LinkSetMTU(w.Router.Link("b"), narrow); err != nil {
				t.Fatal(err)
			}
			end := p2.EchoUDP(netip.AddrPortFrom(to, 8080))
			defer end()
			flow := p1.ConnectUDP(netip.AddrPortFrom(to, 8080))
			defer flow.Close()
			begins := pathMTU(t, flow, is4)
			great := begins - 48 // as much as a packet holds, of either family
			if test.path > 0 {
				learns(t, flow, is4, great, test.path)
				great = test.path - 48
			}
			eventually(t, func() string {
				if _, err := flow.Write(make([]byte, great)); err != nil {
					return err.Error()
				}
				if !flow.Alive() {
					return fmt.Sprintf("no datagram of %d bytes comes back", great)
				}
				return ""
			})
			if test.path == 0 && pathMTU(t, flow, is4) != begins {
				t.Errorf("the path's MTU becomes %d, want the %d of the tunnel", pathMTU(t, flow, is4), begins)
			}
		})
	}
}

// TestUnusedAddressesOfBlocks: what is sent to an address of a node's block that no pod has ends there, and goes neither out of the node nor to
// and fro between nodes.
func TestUnusedAddressesOfBlocks(t *testing.T) {
	w := NewWorld(t)
	w.Give(poolWith("pool", pool4, ", vxlanMode: Always") + "\n---\n" + poolWith("six", pool6, ""))
	n1, n2 := w.Node("w1", "a", pool4, pool6), w.Node("w2", "a", pool4, pool6)
	n1.Pod("p1")
	for _, unused := range []string{"10.48.1.60", "fd00:48::13f"} {
		addr := netip.MustParseAddr(unused)
		n2.Sends(addr, map[bool]string{true: "vxlan.manul", false: "eth0"}[addr.Is4()])
		eventually(t, func() string {
			if device, _ := n1.way(addr); device != "" {
				return fmt.Sprintf("node w1, whose block it is, sends to %s by %s", unused, device)
			}
			return ""
		})
	}
}
