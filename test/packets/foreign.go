package packets

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
)

// Addresses of services, which nobody has. The node's way to them is eth0.
func serviceAddress(fam Family) netip.Addr {
	return [Families]netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:96::a")}[fam]
}

// routeServices gives the node and so the pods a way to services, as a default route does.
func (n *Node) routeServices() {
	n.t.Helper()
	n.Route("10.96.0.0/16", "", "eth0")
	n.Route("fd00:96::/64", "", "eth0")
}

// service translates what goes to an address and port, from the node itself and from elsewhere, to an endpoint, as
// kube-proxy does. masquerade: the node's address becomes its source.
func (n *Node) service(protocol string, from, to netip.AddrPort, masquerade bool) {
	n.t.Helper()
	fam := IPv4
	if from.Addr().Is6() {
		fam = IPv6
	}
	if n.subject.Foreign != "nft" {
		program := n.subject.Foreign
		if fam == IPv6 {
			program = strings.Replace(program, "iptables", "ip6tables", 1)
		}
		for _, chain := range []string{"PREROUTING", "OUTPUT"} {
			n.Shell(fmt.Sprintf("%s -w 30 -t nat -A %s -d %s -p %s --dport %d -j DNAT --to-destination %s", program, chain, from.Addr(), protocol, from.Port(), to))
		}
		if masquerade {
			n.Shell(fmt.Sprintf("%s -w 30 -t nat -A POSTROUTING -d %s -p %s --dport %d -m conntrack --ctstate DNAT -j MASQUERADE", program, to.Addr(), protocol, to.Port()))
		}
		return
	}
	ip := [Families]string{"ip", "ip6"}[fam]
	table := ip + " kube-test"
	for _, command := range []string{
		"add table " + table,
		"add chain " + table + " pre { type nat hook prerouting priority -100; }",
		"add chain " + table + " out { type nat hook output priority -100; }",
		"add chain " + table + " post { type nat hook postrouting priority 100; }",
	} {
		n.Shell("nft '" + command + "'")
	}
	for _, chain := range []string{"pre", "out"} {
		n.Shell(fmt.Sprintf("nft 'add rule %s %s %s daddr %s %s dport %d dnat to %s'", table, chain, ip, from.Addr(), protocol, from.Port(), to))
	}
	if masquerade {
		n.Shell(fmt.Sprintf("nft 'add rule %s post ct status dnat %s daddr %s %s dport %d masquerade'", table, ip, to.Addr(), protocol, to.Port()))
	}
}

// forgetConnections removes all connections that the node tracks.
func (n *Node) forgetConnections() {
	n.t.Helper()
	n.Must("flushing connections", func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
}

// tracked tells whether the node tracks a flow to the address and port.
func (n *Node) tracked(to netip.AddrPort) bool {
	n.t.Helper()
	found := false
	n.Must("listing connections", func() error {
		fam := netlink.InetFamily(netlink.FAMILY_V4)
		if to.Addr().Is6() {
			fam = netlink.FAMILY_V6
		}
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, fam)
		for _, f := range flows {
			a, _ := netip.AddrFromSlice(f.Forward.DstIP)
			found = found || a.Unmap() == to.Addr() && f.Forward.DstPort == to.Port()
		}
		return err
	})
	return found
}

// marking makes somebody else set bits of his own in the packet mark where that is usual.
func (n *Node) marking() {
	n.t.Helper()
	if n.subject.Foreign != "nft" {
		for _, program := range []string{n.subject.Foreign, strings.Replace(n.subject.Foreign, "iptables", "ip6tables", 1)} {
			for _, chain := range []string{"PREROUTING", "OUTPUT", "POSTROUTING"} {
				n.Shell(fmt.Sprintf("%s -w 30 -t mangle -A %s -j MARK --set-xmark 0x4000/0x4000", program, chain))
			}
		}
		return
	}
	n.Shell("nft 'add table inet kube-marks'")
	for _, hook := range []string{"prerouting", "output", "postrouting"} {
		n.Shell("nft 'add chain inet kube-marks " + hook + " { type filter hook " + hook + " priority -150; }'")
		n.Shell("nft 'add rule inet kube-marks " + hook + " meta mark set mark or 0x4000'")
	}
}
