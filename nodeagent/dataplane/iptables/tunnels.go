package iptables

import (
	"cmp"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// tunnelPackets match the encapsulated packets of the node's tunnels that are of the family.
func (l layout) tunnelPackets() []string {
	var out []string
	for _, kind := range l.settings.Tunnels {
		switch {
		case kind.Is4() != (l.fam == ipv4):
		case kind == tables.IPIP:
			out = append(out, fmt.Sprintf("-p %d", unix.IPPROTO_IPIP))
		default:
			out = append(out, l.vxlanPackets())
		}
	}
	return out
}

// tunnelsPass lets packets of tunnels between nodes pass.
func (l layout) tunnelsPass(c *chain) {
	for _, match := range l.tunnelPackets() {
		c.add(match, inSet(nodeSet(l.fam), "src"), inSet(nodeSet(l.fam), "dst"), goReturn)
	}
}

// untrackedTunnel keeps VXLAN packets between nodes from being tracked: each flow inside would have a connection of its own outside as
// well. Nothing depends on it, since answers come from other ports, and are no answers to connection tracking. It is otherwise for
// IPIP, which others' rules may let in as an answer; and for VXLAN over IPv6, whose path MTU errors belong to connections.
func (l layout) untrackedTunnel(c *chain, more string) {
	if l.use.vxlan && l.fam == ipv4 {
		c.add(join([]string{l.vxlanPackets(), inSet(nodeSet(l.fam), "src"), inSet(nodeSet(l.fam), "dst"), more, notrack}))
	}
}

func (l layout) vxlanPackets() string {
	return fmt.Sprintf("-p %d -m udp --dport %d", unix.IPPROTO_UDP, cmp.Or(l.settings.VXLANPort, vxlanPort))
}

// onlyNodesTunnel drops what would come out of the node's ends of tunnels and was not sent by a node: its inside would bear
// whatever source the sender likes.
func (l layout) onlyNodesTunnel(c *chain) {
	l.tunnelsPass(c)
	for _, match := range l.tunnelPackets() {
		c.add(match, drop)
	}
}

// tunnelSource gives what the node itself sends into a tunnel the address of its own end, when another of its addresses was chosen before
// it was known where the packet goes: a service's address is translated later.
func (l layout) tunnelSource(c *chain) {
	for _, kind := range l.settings.Tunnels {
		if kind.Is4() == (l.fam == ipv4) {
			c.add("-o "+kind.Device(), "-m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL -j MASQUERADE --random-fully")
		}
	}
}
