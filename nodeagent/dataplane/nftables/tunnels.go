package nftables

import (
	"cmp"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// tunnelPacket matches an encapsulated packet of a kind.
func (b *ruleBuilder) tunnelPacket(kind tables.TunnelKind, settings *tables.Settings) family {
	fam := ipv4
	if !kind.Is4() {
		fam = ipv6
	}
	b.family(fam)
	if kind == tables.IPIP {
		b.protocol(unix.IPPROTO_IPIP, false)
		return fam
	}
	port := cmp.Or(settings.VXLANPort, vxlanPort)
	b.protocol(unix.IPPROTO_UDP, false)
	b.portRange(destination, tables.PortRange{First: port, Last: port}, false)
	return fam
}

// isNode matches packets whose address at one end is a node's.
func (b *ruleBuilder) isNode(fam family, e end) {
	b.address(fam, e, register)
	b.lookUp(register, nodeSet(fam), 0, false)
}

// tunnelsPass lets packets of tunnels between nodes pass.
func (r *rules) tunnelsPass() {
	for _, kind := range r.l.settings.Tunnels {
		b := r.add()
		fam := b.tunnelPacket(kind, &r.l.settings)
		b.isNode(fam, source)
		b.isNode(fam, destination)
		b.accept()
	}
}

// tunnelsArrive and tunnelsLeave keep VXLAN packets between nodes from being tracked: each flow inside would have a connection of its own
// outside as well. Nothing depends on it, since answers come from other ports, and are no answers to connection tracking. It is
// otherwise for IPIP, which others' rules may let in as an answer; and for VXLAN over IPv6, whose path MTU errors belong to
// connections. What arrives comes here from prerouting, what comes from workloads apart.
func (l *layout) tunnelsArrive() []*ruleBuilder { return l.untrackedTunnel(true) }
func (l *layout) tunnelsLeave() []*ruleBuilder  { return l.untrackedTunnel(false) }

func (l *layout) untrackedTunnel(arrives bool) []*ruleBuilder {
	r := &rules{l: l}
	b := r.add()
	fam := b.tunnelPacket(tables.VXLAN, &l.settings)
	b.isNode(fam, source)
	b.isNode(fam, destination)
	if arrives {
		b.add(
			&expr.Fib{Register: register, ResultADDRTYPE: true, FlagDADDR: true},
			&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
		)
	}
	b.add(&expr.Notrack{})
	return r.list
}

// onlyNodesTunnel drops what would come out of the node's ends of tunnels and was not sent by a node: its inside would bear
// whatever source the sender likes.
func (r *rules) onlyNodesTunnel() {
	r.tunnelsPass()
	for _, kind := range r.l.settings.Tunnels {
		b := r.add()
		b.tunnelPacket(kind, &r.l.settings)
		b.drop()
	}
}

// tunnelSource gives what the node itself sends into a tunnel the address of its own end, when another of its addresses was chosen before
// it was known where the packet goes: a service's address is translated later.
func (r *rules) tunnelSource() {
	local := binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)
	for _, kind := range r.l.settings.Tunnels {
		b := r.add()
		b.iface(expr.MetaKeyOIFNAME, kind.Device())
		b.add(
			&expr.Fib{Register: register, ResultADDRTYPE: true, FlagSADDR: true}, &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: local},
			&expr.Fib{Register: register, ResultADDRTYPE: true, FlagSADDR: true, FlagOIF: true}, &expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: local},
			&expr.Masq{FullyRandom: true},
		)
	}
}
