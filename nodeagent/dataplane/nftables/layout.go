package nftables

import (
	"cmp"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// The sets and verdict maps of the driver itself.
const (
	egressMap  = "egress"  // interface a packet came in by -> chain of its egress policy
	ingressMap = "ingress" // interface a packet goes out by -> chain of its ingress policy
)

func sourceSet(fam family) string { return "source" + fam.digit() } // interface . its own address
func poolSet(fam family) string   { return "pools" + fam.digit() }  // all pools
func natSet(fam family) string    { return "nat" + fam.digit() }    // pools with masquerading

// ownSets are the sets that are always there, with their types.
func ownSets() map[string]setSpec {
	name := nftables.TypeIFName
	interfaces := setSpec{keyType: name.GetNFTMagic(), keyLen: name.Bytes, flags: unix.NFT_SET_MAP}
	sets := map[string]setSpec{egressMap: interfaces, ingressMap: interfaces}
	for fam, address := range []nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr} {
		own := setSpec{keyType: name.GetNFTMagic(), keyLen: name.Bytes}
		own.add(address)
		sets[sourceSet(family(fam))] = own
		nets := addressSpec(family(fam), false)
		nets.flags = unix.NFT_SET_INTERVAL
		sets[poolSet(family(fam))] = nets
		sets[natSet(family(fam))] = nets
	}
	return sets
}

// memberSpec is the type of the set that holds the members of one family of a set.
func memberSpec(typ tables.SetType, fam family) setSpec {
	spec := addressSpec(fam, typ == tables.NamedPorts)
	if typ == tables.Nets {
		spec.flags = unix.NFT_SET_INTERVAL
	}
	return spec
}

// baseChain is a chain that sees packets by itself.
type baseChain struct {
	name  string
	hook  hook
	rules func(*layout) []*ruleBuilder
}

// Priorities of the hooks.
const (
	priorityRaw     = -300
	priorityEgress  = -2 // before the host's own filter chains, egress policy first
	priorityIngress = -1
	priorityNAT     = 100
)

// baseChains are all base chains. Accepting in one ends that one, and the packet goes on to the next; dropping is
// final. So egress policy and ingress policy follow one another without any mark.
func baseChains() []baseChain {
	return []baseChain{
		{"prerouting", hook{unix.NF_INET_PRE_ROUTING, priorityRaw, "filter"}, (*layout).prerouting},
		{"forward-egress", hook{unix.NF_INET_FORWARD, priorityEgress, "filter"}, (*layout).forwardEgress},
		{"forward-ingress", hook{unix.NF_INET_FORWARD, priorityIngress, "filter"}, (*layout).forwardIngress},
		{"input-egress", hook{unix.NF_INET_LOCAL_IN, priorityEgress, "filter"}, (*layout).inputEgress},
		{"input-host", hook{unix.NF_INET_LOCAL_IN, priorityIngress, "filter"}, (*layout).inputHost},
		{"postrouting", hook{unix.NF_INET_POST_ROUTING, priorityNAT, "nat"}, (*layout).postrouting},
	}
}

// layout renders the rules of base chains.
type layout struct {
	prefix   string
	settings tables.Settings
	inUse    inUse
	setID    *uint32
}

// digest identifies the rules of a base chain.
func (l *layout) digest(chain string) digest {
	d := newDigester("base")
	d.text(chain)
	d.text(l.prefix)
	d.number(uint64(l.settings.EndpointToHost))
	d.number(uint64(l.settings.VXLANPort))
	d.flag(l.settings.AllowVXLAN)
	d.flag(l.settings.AllowIPIP)
	d.flag(l.inUse.v6)
	return d.sum()
}

// rules collects rules of one chain.
type rules struct {
	l    *layout
	list []*ruleBuilder
}

func (r *rules) add() *ruleBuilder {
	b := &ruleBuilder{setID: r.l.setID}
	r.list = append(r.list, b)
	return b
}

// othersPass lets packets pass whose interface is no workload's: they are none of our business.
func (r *rules) othersPass(key expr.MetaKey) {
	b := r.add()
	b.interfacePrefix(key, r.l.prefix, true)
	b.accept()
}

// knownPass lets packets of known connections pass and drops those that belong to none and can't begin one.
func (r *rules) knownPass() {
	b := r.add()
	b.ctState(ctEstablished | ctRelated)
	b.accept()
	b = r.add()
	b.ctState(ctInvalid)
	b.drop()
}

// Types of ICMPv6 by which a workload finds its router and neighbours (RFC 4861). Router advertisements and redirects
// are not for workloads to send.
const (
	routerSolicitation    = 133
	neighborSolicitation  = 135
	neighborAdvertisement = 136
)

// discovery matches the ICMPv6 that a workload needs to reach its node at all.
func (b *ruleBuilder) discovery() {
	b.family(ipv6)
	b.protocol(unix.IPPROTO_ICMPV6, false)
	b.transport(register, 0, 1)
	kind := nftables.TypeICMP6Type
	b.anonymousSet(setSpec{keyType: kind.GetNFTMagic(), keyLen: kind.Bytes}, []element{
		{key: string([]byte{routerSolicitation})}, {key: string([]byte{neighborSolicitation})}, {key: string([]byte{neighborAdvertisement})},
	}, false)
}

// The UDP port of VXLAN when none is set (RFC 7348), and where a UDP header has the destination port.
const vxlanPort = 4789

// prerouting sees that workloads send from their own addresses only, and no encapsulated packets.
func (l *layout) prerouting() []*ruleBuilder {
	r := &rules{l: l}
	r.othersPass(expr.MetaKeyIIFNAME)
	if !l.settings.AllowIPIP {
		b := r.add()
		b.protocol(unix.IPPROTO_IPIP, false)
		b.drop()
	}
	if !l.settings.AllowVXLAN {
		port := cmp.Or(l.settings.VXLANPort, vxlanPort)
		b := r.add()
		b.protocol(unix.IPPROTO_UDP, false)
		b.portRange(destination, tables.PortRange{First: port, Last: port}, false)
		b.drop()
	}
	for fam := range families {
		b := r.add()
		b.family(fam)
		b.add(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: registerConcat})
		b.address(fam, source, registerConcat+4)
		b.lookUp(registerConcat, sourceSet(fam), 0, false)
		b.accept()
	}
	// Neighbour discovery from link-local addresses, and from none while an address is being tried (RFC 4862).
	for _, own := range discoverySources() {
		b := r.add()
		b.discovery()
		b.net(ipv6, source, own, false)
		b.accept()
	}
	r.add().drop()
	return r.list
}

func (l *layout) forwardEgress() []*ruleBuilder {
	r := &rules{l: l}
	r.othersPass(expr.MetaKeyIIFNAME)
	r.knownPass()
	r.add().dispatch(expr.MetaKeyIIFNAME, egressMap)
	r.add().drop() // an interface that is not in the map: nothing is known of that endpoint
	return r.list
}

func (l *layout) forwardIngress() []*ruleBuilder {
	r := &rules{l: l}
	r.othersPass(expr.MetaKeyOIFNAME)
	r.knownPass()
	if !l.inUse.v6 { // there are no rules for it; nor can a workload send any, for it has no address
		b := r.add()
		b.family(ipv6)
		b.drop()
	}
	r.add().dispatch(expr.MetaKeyOIFNAME, ingressMap)
	r.add().drop()
	return r.list
}

// inputEgress applies egress policy to what workloads send to their own node.
func (l *layout) inputEgress() []*ruleBuilder {
	r := &rules{l: l}
	r.othersPass(expr.MetaKeyIIFNAME)
	r.knownPass()
	b := r.add()
	b.discovery()
	b.accept()
	r.add().dispatch(expr.MetaKeyIIFNAME, egressMap)
	r.add().drop()
	return r.list
}

// inputHost decides on what egress policy let pass to the node. Accepting here does not keep the host's own chains from
// dropping: in nftables only dropping is final. So Accept and Return are the same.
func (l *layout) inputHost() []*ruleBuilder {
	r := &rules{l: l}
	r.othersPass(expr.MetaKeyIIFNAME)
	if l.settings.EndpointToHost != tables.HostDrop {
		r.add().accept()
		return r.list
	}
	r.knownPass()
	b := r.add()
	b.discovery()
	b.accept()
	r.add().drop()
	return r.list
}

// postrouting gives what leaves the pods' network the node's address.
func (l *layout) postrouting() []*ruleBuilder {
	r := &rules{l: l}
	for fam := range families {
		b := r.add()
		b.family(fam)
		b.address(fam, source, register)
		b.lookUp(register, natSet(fam), 0, false)
		b.address(fam, destination, register)
		b.lookUp(register, poolSet(fam), 0, true)
		// Ports at random: two flows that choose the same port at the same time would lose a packet.
		b.add(&expr.Masq{FullyRandom: true})
	}
	return r.list
}
