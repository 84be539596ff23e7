package tunnels

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

type node struct {
	*netns.NS
	t      testing.TB
	peer   *netns.NS
	driver *Driver
}

// newNode is a node with an uplink.
func newNode(t testing.TB) *node {
	t.Helper()
	n := &node{NS: netns.New(t), t: t, peer: netns.New(t)}
	n.Sysctl("ipv6/conf/default/accept_dad", "0")
	n.Veth("eth0", n.peer, "eth0")
	n.Address("eth0", "192.0.2.1/24", "2001:db8::1/64")
	n.open()
	t.Cleanup(func() { n.driver.Close() })
	return n
}

func (n *node) open() {
	n.t.Helper()
	n.Must("opening the driver", func() (err error) {
		n.driver, err = New(Options{WorkloadPrefix: "cali"})
		return err
	})
}

func (n *node) apply(desired *tables.Tunnels) {
	n.t.Helper()
	if err := n.driver.Apply(n.t.Context(), desired); err != nil {
		n.t.Fatalf("applying: %v", err)
	}
	if err := n.driver.Sweep(); err != nil {
		n.t.Fatalf("sweeping: %v", err)
	}
	if desired.HasDirty() {
		n.t.Fatal("the tables are dirty after Apply")
	}
}

// seen are the devices with what is on them, as text.
func (n *node) seen() []string {
	n.t.Helper()
	var out []string
	for _, kind := range tables.TunnelKinds() {
		link, err := n.LinkByName(kind.Device())
		if err != nil {
			continue
		}
		attrs := link.Attrs()
		line := fmt.Sprintf("%s mtu %d", attrs.Name, attrs.MTU)
		if v, ok := link.(*netlink.Vxlan); ok {
			line += fmt.Sprintf(" vni %d port %d local %s mac %s", v.VxlanId, v.Port, v.SrcAddr, attrs.HardwareAddr)
		}
		addrs, err := n.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			n.t.Fatal(err)
		}
		for i := range addrs {
			if !addrs[i].IP.IsLinkLocalUnicast() {
				line += " " + addrs[i].IPNet.String()
			}
		}
		out = append(out, line)
		for _, family := range []int{unix.AF_INET, unix.AF_INET6, unix.AF_BRIDGE} {
			list, err := n.NeighList(attrs.Index, family)
			if err != nil {
				n.t.Fatal(err)
			}
			var lines []string
			for i := range list {
				if list[i].State&unix.NUD_PERMANENT == 0 {
					continue
				}
				what := "neighbour"
				if family == unix.AF_BRIDGE {
					what = "forwarding"
				}
				lines = append(lines, fmt.Sprintf("  %s %s %s", what, list[i].IP, list[i].HardwareAddr))
			}
			slices.Sort(lines)
			out = append(out, lines...)
		}
	}
	return out
}

func mac(last byte) tables.MAC { return tables.MAC{2, 0, 0, 0, 0, last} }

func vxlan() tables.Tunnel {
	return tables.Tunnel{Local: netip.MustParseAddr("192.0.2.1"), Address: netip.MustParseAddr("10.48.1.0"), MAC: mac(1), VNI: 4096, Port: 4789}
}

func vxlan6() tables.Tunnel {
	return tables.Tunnel{Local: netip.MustParseAddr("2001:db8::1"), Address: netip.MustParseAddr("fd00:48::1"), MAC: mac(1), VNI: 4096, Port: 4789}
}

// both is a node with both kinds of VXLAN and a peer in each.
func both() *tables.Tunnels {
	desired := tables.NewTunnels()
	desired.Devices.Set(tables.VXLAN, vxlan())
	desired.Devices.Set(tables.VXLANv6, vxlan6())
	peer(desired, "192.0.2.2", 2)
	peer(desired, "2001:db8::2", 2)
	return desired
}

func peer(desired *tables.Tunnels, addr string, last byte) {
	node := netip.MustParseAddr(addr)
	kind, hop := tables.VXLAN, node
	if node.Is6() {
		kind, hop = tables.VXLANv6, netip.MustParseAddr(fmt.Sprintf("fe80::ff:fe00:%d", last))
	}
	desired.Peers.Set(tables.TunnelPeer{Kind: kind, Node: node}, tables.Neighbor{NextHop: hop, MAC: mac(last)})
}

func TestDevicesAndPeers(t *testing.T) {
	n := newNode(t)
	desired := both()
	n.apply(desired)
	want := []string{
		"vxlan.manul mtu 1450 vni 4096 port 4789 local 192.0.2.1 mac 02:00:00:00:00:01 10.48.1.0/32",
		"  neighbour 192.0.2.2 02:00:00:00:00:02", "  forwarding 192.0.2.2 02:00:00:00:00:02",
		"vxlan-v6.manul mtu 1430 vni 4096 port 4789 local 2001:db8::1 mac 02:00:00:00:00:01 fd00:48::1/128",
		"  neighbour fe80::ff:fe00:2 02:00:00:00:00:02", "  forwarding 2001:db8::2 02:00:00:00:00:02",
	}
	if diff := cmp.Diff(want, n.seen()); diff != "" {
		t.Fatalf("kernel (-want +got):\n%s", diff)
	}

	// A peer's MAC address changes, one comes and one goes.
	desired.Peers.Delete(tables.TunnelPeer{Kind: tables.VXLANv6, Node: netip.MustParseAddr("2001:db8::2")})
	peer(desired, "192.0.2.2", 9)
	peer(desired, "192.0.2.3", 3)
	n.apply(desired)
	want = []string{
		want[0], "  neighbour 192.0.2.2 02:00:00:00:00:09", "  neighbour 192.0.2.3 02:00:00:00:00:03",
		"  forwarding 192.0.2.2 02:00:00:00:00:09", "  forwarding 192.0.2.3 02:00:00:00:00:03", want[3],
	}
	if diff := cmp.Diff(want, n.seen()); diff != "" {
		t.Errorf("kernel after changes of peers (-want +got):\n%s", diff)
	}

	// Nothing is left of what nobody wants.
	for kind := range maps.Collect(desired.Devices.All()) {
		desired.Devices.Delete(kind)
	}
	n.apply(desired)
	if got := n.seen(); len(got) > 0 {
		t.Errorf("left in the kernel: %v", got)
	}
}

// A new process finds what an earlier one made, whole or in part, and changes only what is wrong.
func TestAfterARestart(t *testing.T) {
	n := newNode(t)
	n.apply(both())
	want := n.seen()
	index := n.Link("vxlan.manul").Attrs().Index
	n.driver.Close()
	n.open()
	messages := n.watch()
	n.apply(both())
	if got := messages(); len(got) > 0 {
		// The filter of reverse paths is set whenever a process starts: the kernel tells of the link.
		got = slices.DeleteFunc(got, func(m uint16) bool { return m == unix.RTM_NEWLINK })
		if len(got) > 0 {
			t.Errorf("changes in a kernel in which all was right: message types %v", got)
		}
	}
	if n.Link("vxlan.manul").Attrs().Index != index {
		t.Error("the device was made anew")
	}
	n.driver.Close()

	// Half of it is gone, and something of an earlier state is there.
	link := n.Link("vxlan.manul")
	addr, err := netlink.ParseAddr("10.48.7.7/32")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		n.AddrAdd(link, addr), n.LinkDel(n.Link("vxlan-v6.manul")), n.LinkSetMTU(link, 1000),
		n.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: unix.NUD_PERMANENT, Family: unix.AF_INET, IP: []byte{192, 0, 2, 77}, HardwareAddr: []byte{2, 0, 0, 0, 0, 77}}),
		n.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: unix.NUD_PERMANENT, Family: unix.AF_BRIDGE, Flags: unix.NTF_SELF, IP: []byte{192, 0, 2, 77}, HardwareAddr: []byte{2, 0, 0, 0, 0, 77}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	n.open()
	n.apply(both())
	if diff := cmp.Diff(want, n.seen()); diff != "" {
		t.Errorf("kernel (-want +got):\n%s", diff)
	}
}

// watch hears of the kernel's changes of links, addresses and neighbours; the function that it returns gives the types of the messages.
func (n *node) watch() func() []uint16 {
	n.t.Helper()
	var socket *nl.NetlinkSocket
	n.Must("listening to the kernel", func() (err error) {
		socket, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_ROUTE)
		return err
	})
	return func() []uint16 {
		defer socket.Close()
		var types []uint16
		wait := unix.NsecToTimeval((20 * time.Millisecond).Nanoseconds())
		if err := socket.SetReceiveTimeout(&wait); err != nil {
			n.t.Fatal(err)
		}
		for {
			messages, _, err := socket.Receive()
			if err != nil {
				return types
			}
			for _, m := range messages {
				if m.Header.Type == unix.RTM_NEWADDR && m.Data[0] == unix.AF_INET6 {
					continue // the kernel takes IPv6 addresses into use in the background
				}
				types = append(types, m.Header.Type)
			}
		}
	}
}

// changed waits for the driver to say that another Apply is necessary, and applies until it says so no more.
func (n *node) changed(desired *tables.Tunnels, right func() bool) {
	n.t.Helper()
	deadline := time.After(time.Minute)
	for !right() {
		select {
		case <-n.driver.Changed():
			n.apply(desired)
		case <-deadline:
			n.t.Fatal("the driver does not hear of the change, or does not put it right")
		default:
			runtime.Gosched()
		}
	}
}

// Others' changes are heard of and undone, and the MTU follows that of the node's interface.
func TestChangesByOthers(t *testing.T) {
	n := newNode(t)
	desired := both()
	n.apply(desired)
	want := n.seen()
	right := func() bool { return cmp.Equal(want, n.seen()) }
	for what, change := range map[string]func(link netlink.Link) error{
		"the address is gone": func(link netlink.Link) error {
			addrs, err := n.AddrList(link, unix.AF_INET)
			if err != nil {
				return err
			}
			return n.AddrDel(link, &addrs[0])
		},
		"the device is gone": n.LinkDel,
		"the device is down": n.LinkSetDown,
		"a forwarding entry is gone": func(link netlink.Link) error {
			return n.NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, Flags: unix.NTF_SELF, IP: []byte{192, 0, 2, 2}, HardwareAddr: []byte{2, 0, 0, 0, 0, 2}})
		},
		"a neighbour has another MAC address": func(link netlink.Link) error {
			return n.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: unix.NUD_PERMANENT, Family: unix.AF_INET, IP: []byte{192, 0, 2, 2}, HardwareAddr: []byte{2, 0, 0, 0, 0, 77}})
		},
		"there is a neighbour more": func(link netlink.Link) error {
			return n.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: unix.NUD_PERMANENT, Family: unix.AF_INET, IP: []byte{192, 0, 2, 77}, HardwareAddr: []byte{2, 0, 0, 0, 0, 77}})
		},
	} {
		t.Run(what, func(t *testing.T) {
			n.t = t
			if err := change(n.Link("vxlan.manul")); err != nil {
				t.Fatal(err)
			}
			if what != "the device is down" && right() {
				t.Fatal("nothing changed")
			}
			n.changed(desired, right)
			if link := n.Link("vxlan.manul"); link.Attrs().Flags&unix.IFF_UP == 0 {
				n.changed(desired, func() bool { return n.Link("vxlan.manul").Attrs().Flags&unix.IFF_UP != 0 })
			}
		})
	}
	n.t = t
	if err := n.LinkSetMTU(n.Link("eth0"), 9000); err != nil {
		t.Fatal(err)
	}
	n.changed(desired, func() bool {
		return n.Link("vxlan.manul").Attrs().MTU == 8950 && n.Link("vxlan-v6.manul").Attrs().MTU == 8930
	})
	if n.driver.Disturbances() == 0 {
		t.Error("no disturbance was counted")
	}
}

// A device that is not wanted any more stays, with all that is on it, until it is swept away: packets may still be sent over it. One
// that is wanted again meanwhile is not.
func TestSweep(t *testing.T) {
	n := newNode(t)
	desired := both()
	n.apply(desired)
	before := n.seen()
	again := func() {
		t.Helper()
		if err := n.driver.Apply(t.Context(), desired); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, n.seen()); diff != "" {
			t.Errorf("before it is swept (-want +got):\n%s", diff)
		}
	}
	desired.Devices.Delete(tables.VXLAN)
	again()
	desired.Devices.Set(tables.VXLAN, vxlan())
	again()
	n.apply(desired)
	again()
	desired.Devices.Delete(tables.VXLAN)
	n.apply(desired)
	if diff := cmp.Diff(before[3:], n.seen()); diff != "" {
		t.Errorf("when it was swept (-want +got):\n%s", diff)
	}
}

func TestMTU(t *testing.T) {
	n := newNode(t)
	n.Veth("bond0", n.peer, "bond0")
	if err := n.LinkSetMTU(n.Link("bond0"), 1400); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		mtu     int
		pattern string
		want    int
	}{
		{0, "", 1450}, {1300, "", 1300}, {0, "^bond", 1350}, {0, "^(eth|bond)", 1350}, {0, "^eth", 1450}, {0, "^nothing", 1450},
	} {
		desired, tunnel := tables.NewTunnels(), vxlan()
		tunnel.MTU, tunnel.MTUInterfaces = test.mtu, test.pattern
		desired.Devices.Set(tables.VXLAN, tunnel)
		n.apply(desired)
		if got := n.Link("vxlan.manul").Attrs().MTU; got != test.want {
			t.Errorf("mtu %d, pattern %q: got %d, want %d", test.mtu, test.pattern, got, test.want)
		}
	}
}

// A peer that the kernel refuses is told of until it is another or gone, and the others follow the tables without a comparison of all.
func TestPeerThatIsRefused(t *testing.T) {
	n := newNode(t)
	desired := both()
	n.apply(desired)
	strange := tables.TunnelPeer{Kind: tables.VXLAN, Node: netip.MustParseAddr("2001:db8::9")} // of the other family
	desired.Peers.Set(strange, tables.Neighbor{NextHop: netip.MustParseAddr("10.48.9.0"), MAC: mac(9)})
	refused := func(what string) {
		t.Helper()
		err := n.driver.Apply(t.Context(), desired)
		var item *tables.ItemError
		if !errors.As(err, &item) || item.Kind != tables.KindTunnel || item.Name != "VXLAN" || !strings.Contains(err.Error(), "2001:db8::9") {
			t.Errorf("%s: error %v, want an item VXLAN that names the node", what, err)
		}
	}
	refused("it comes")
	refused("nothing changes")
	peer(desired, "192.0.2.3", 3)
	refused("another peer comes")
	if got := strings.Join(n.seen(), "\n"); !strings.Contains(got, "forwarding 192.0.2.3") {
		t.Errorf("the other peer is not in force:\n%s", got)
	}
	if n.driver.resync.Load() || !n.driver.known {
		t.Error("the next change would have everything compared")
	}
	n.driver.Resync()
	refused("everything is compared")
	desired.Peers.Delete(strange)
	n.apply(desired)
	if got := strings.Join(n.seen(), "\n"); strings.Contains(got, "10.48.9.0") {
		t.Errorf("something of the refused peer is left:\n%s", got)
	}
}

// A kind that can't be made is an item, and the others are in force.
func TestKindThatCantBeMade(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(n *node, v *tables.Tunnel)
		says  string
	}{
		"no such address": {func(_ *node, v *tables.Tunnel) { v.Local = netip.MustParseAddr("192.0.2.99") }, "no interface of the node has its address 192.0.2.99"},
		"the VNI is another device's": {func(n *node, _ *tables.Tunnel) {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = "vxlan.calico"
			if err := n.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs, VxlanId: 4096, Port: 4789, SrcAddr: []byte{192, 0, 2, 1}}); err != nil {
				n.t.Fatal(err)
			}
		}, "another device has VNI 4096 on UDP port 4789"},
		"the address is of the other family": {func(_ *node, v *tables.Tunnel) { v.Address = netip.MustParseAddr("fd00::1") }, "fd00::1 is of the other family"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			desired, tunnel := both(), vxlan()
			test.spoil(n, &tunnel)
			desired.Devices.Set(tables.VXLAN, tunnel)
			err := n.driver.Apply(t.Context(), desired)
			var item *tables.ItemError
			if !errors.As(err, &item) || item.Kind != tables.KindTunnel || item.Name != "VXLAN" || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want an item VXLAN that says %q", err, test.says)
			}
			if got := n.seen(); !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, "vxlan-v6.manul") }) {
				t.Errorf("the other kind is not in force: %v", got)
			}
			peer(desired, "2001:db8::3", 3)
			if err := n.driver.Apply(t.Context(), desired); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("another kind's peer comes: error %v, want one that says %q still", err, test.says)
			}
		})
	}
}

// Whatever is wanted one after the other, by one process or by several: the kernel has what was wanted last.
func TestAnyHistoryEndsInWhatIsWanted(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		n := newNode(t)
		desired := tables.NewTunnels()
		for range rapid.IntRange(1, 6).Draw(r, "steps") {
			for _, kind := range []tables.TunnelKind{tables.VXLAN, tables.VXLANv6} {
				tunnel := vxlan()
				if kind == tables.VXLANv6 {
					tunnel = vxlan6()
				}
				switch rapid.IntRange(0, 5).Draw(r, kind.String()) {
				case 0:
					desired.Devices.Delete(kind)
				case 1:
					tunnel.VNI = 7
					desired.Devices.Set(kind, tunnel)
				case 2:
					tunnel.Address = netip.Addr{}
					tunnel.MTU = 1400
					desired.Devices.Set(kind, tunnel)
				case 3:
					tunnel.MAC = mac(8)
					desired.Devices.Set(kind, tunnel)
				case 4:
					desired.Devices.Set(kind, tunnel)
				}
			}
			for i := byte(2); i < 5; i++ {
				for _, addr := range []string{fmt.Sprintf("192.0.2.%d", i), fmt.Sprintf("2001:db8::%d", i)} {
					node := netip.MustParseAddr(addr)
					kind := tables.VXLAN
					if node.Is6() {
						kind = tables.VXLANv6
					}
					switch rapid.IntRange(0, 2).Draw(r, addr) {
					case 0:
						desired.Peers.Delete(tables.TunnelPeer{Kind: kind, Node: node})
					case 1:
						peer(desired, addr, i+10*byte(rapid.IntRange(0, 1).Draw(r, "mac")))
					}
				}
			}
			if rapid.IntRange(0, 3).Draw(r, "restart") == 0 {
				n.driver.Close()
				n.open()
			}
			n.apply(desired)
		}
		got := n.seen()
		fresh := newNode(t)
		again := tables.NewTunnels()
		for kind, tunnel := range desired.Devices.All() {
			again.Devices.Set(kind, tunnel)
		}
		for key, neighbor := range desired.Peers.All() {
			again.Peers.Set(key, neighbor)
		}
		fresh.apply(again)
		if diff := cmp.Diff(fresh.seen(), got); diff != "" {
			r.Fatalf("kernel (-at once +step by step):\n%s", diff)
		}
	})
}
