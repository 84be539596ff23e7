package nftables

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// The sets and verdict maps of the driver itself.
const (
	egressMap  = "egress"  // interface a packet came in by -> chain of its egress policy
	ingressMap = "ingress" // interface a packet goes out by -> chain of its ingress policy
	prefixMap  = "sources" // interface a packet came in by -> chain of the CIDRs it may come from, addresses apart
)

func sourceSet(fam family) string { return "source" + fam.digit() } // interface . its own address
func poolSet(fam family) string   { return "pools" + fam.digit() }  // all pools
func nodeSet(fam family) string   { return "nodes" + fam.digit() }  // addresses of nodes
func natSet(fam family) string    { return "nat" + fam.digit() }    // pools with masquerading

// ownSets are the sets that are always there, with their types.
func ownSets() map[string]setSpec {
	name := nftables.TypeIFName
	interfaces := setSpec{keyType: name.GetNFTMagic(), keyLen: name.Bytes, flags: unix.NFT_SET_MAP}
	sets := map[string]setSpec{egressMap: interfaces, ingressMap: interfaces, prefixMap: interfaces}
	for h := range hostHooks {
		sets[h.verdictMap()] = interfaces
	}
	for fam, address := range []nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr} {
		own := setSpec{keyType: name.GetNFTMagic(), keyLen: name.Bytes}
		own.add(address)
		sets[sourceSet(family(fam))] = own
		nets := addressSpec(family(fam), false)
		nets.flags = unix.NFT_SET_INTERVAL
		sets[poolSet(family(fam))] = nets
		sets[natSet(family(fam))] = nets
		sets[nodeSet(family(fam))] = nets
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

// baseChain is a chain that sees packets by itself, or, without a hook, one that such a chain goes to.
type baseChain struct {
	name  string
	hook  *hook
	rules func(*layout) []*ruleBuilder
	// when tells whether the chain is needed; nil: always.
	when func(*layout) bool
}

// Priorities of the hooks.
const (
	priorityRaw     = -300
	priorityMangle  = -150 // between connection tracking (-200) and translation of destinations (-100)
	priorityEgress  = -2   // before the host's own filter chains, egress policy first
	priorityIngress = -1
	priorityNAT     = 100

	// IPVS is at 98 and 99 in the input hook. What it sends on is judged first in postrouting.
	priorityArrive     = 97
	priorityBehind     = 101
	priorityIPVSEgress = priorityRaw - 2

	priorityFloating = -101 // before the host's own translation of destinations
	priorityLast     = 300  // behind whoever may change a packet's mark or route
)

// The chains that base chains go to.
const (
	hostForwardInChain  = "host-forward-in"
	hostForwardOutChain = "host-forward-out"
	tunnelsArriveChain  = "tunnels-arrive"
)

// The base chains that go by marks of others.
const (
	hostPreroutingChain = "host-prerouting"
	inputHostChain      = "input-host"
	ipvsInputHostChain  = "ipvs-input-host"
)

// baseChains are all base chains, and before them what they go to. Accepting in one ends that one, and the packet goes on
// to the next; dropping is final. So egress policy and ingress policy follow one another without any mark. Each costs every packet at its
// hook about as much as five rules, so there is none without a job.
func baseChains() []baseChain {
	at := func(number uint32, priority int32, kind string) *hook { return &hook{number, priority, kind} }
	const pre, in, forward, out, post = unix.NF_INET_PRE_ROUTING, unix.NF_INET_LOCAL_IN, unix.NF_INET_FORWARD, unix.NF_INET_LOCAL_OUT, unix.NF_INET_POST_ROUTING
	hosts := func(l *layout) bool { return l.hosts.any }
	untracked := func(l *layout) bool { return l.hosts.untracked }
	early := func(l *layout) bool { return l.hosts.preDNAT }
	floating := func(l *layout) bool { return len(l.floating) > 0 }
	forwarded := func(l *layout) bool { return l.hosts.forward }
	vxlan := func(l *layout) bool { return slices.Contains(l.settings.Tunnels, tables.VXLAN) }
	ipvs := func(l *layout) bool { return l.settings.IPVS }
	noIPVS := func(l *layout) bool { return !l.settings.IPVS }
	judges := func(l *layout) bool { return l.hosts.any || l.settings.EndpointToHost == tables.HostDrop }
	return []baseChain{
		{hostForwardInChain, nil, (*layout).hostForwardIn, forwarded},
		{hostForwardOutChain, nil, (*layout).hostForwardOut, forwarded},
		{tunnelsArriveChain, nil, (*layout).tunnelsArrive, vxlan},
		{"prerouting", at(pre, priorityRaw, "filter"), (*layout).prerouting, nil},
		{"host-prerouting-raw", at(pre, priorityRaw+1, "filter"), (*layout).hostPreroutingRaw, untracked},
		{"host-prerouting-notrack", at(pre, priorityRaw+2, "filter"), (*layout).hostNotrack, untracked},
		{hostPreroutingChain, at(pre, priorityMangle, "filter"), (*layout).hostPrerouting, early},
		{"floating-prerouting", at(pre, priorityFloating, "nat"), (*layout).floatingDestination, floating},
		{"floating-output", at(out, priorityFloating, "nat"), (*layout).floatingDestination, floating},
		{"floating-postrouting", at(post, priorityNAT-1, "nat"), (*layout).floatingHairpin, floating},
		{"forward-egress", at(forward, priorityEgress, "filter"), (*layout).forwardEgress, nil},
		{"forward-ingress", at(forward, priorityIngress, "filter"), (*layout).forwardIngress, nil},
		{"input-egress", at(in, priorityEgress, "filter"), (*layout).inputEgress, noIPVS},
		{inputHostChain, at(in, priorityIngress, "filter"), (*layout).inputHost, func(l *layout) bool { return noIPVS(l) && judges(l) }},
		{"ipvs-arrive", at(in, priorityArrive, "filter"), (*layout).ipvsArrive, ipvs},
		{"ipvs-input-egress", at(in, priorityBehind, "filter"), (*layout).ipvsInput, ipvs},
		{ipvsInputHostChain, at(in, priorityBehind+1, "filter"), (*layout).inputHost, func(l *layout) bool { return ipvs(l) && judges(l) }},
		{"ipvs-output", at(out, priorityRaw-1, "filter"), (*layout).ipvsOutput, ipvs},
		{"host-output-raw", at(out, priorityRaw, "filter"), (*layout).hostOutputRaw, untracked},
		{"host-output-notrack", at(out, priorityRaw+1, "filter"), (*layout).hostNotrack, untracked},
		{"tunnels-output", at(out, priorityRaw+2, "filter"), (*layout).tunnelsLeave, vxlan},
		{"host-output", at(out, priorityLast, "filter"), (*layout).hostOutput, hosts},
		{"ipvs-egress", at(post, priorityIPVSEgress, "filter"), (*layout).ipvsEgress, ipvs},
		{"ipvs-ingress", at(post, priorityIPVSEgress+1, "filter"), (*layout).ipvsIngress, ipvs},
		{"host-postrouting", at(post, priorityRaw, "filter"), (*layout).hostPostrouting, hosts},
		{"postrouting", at(post, priorityNAT, "nat"), (*layout).postrouting, nil},
	}
}

// formerBaseChains are base chains of earlier versions. An agent that starts over them takes them away, and need not make the table anew.
func formerBaseChains() []string { return []string{"tunnels-prerouting"} }

// layout renders the rules of base chains.
type layout struct {
	prefix   string
	settings tables.Settings
	inUse    inUse
	hosts    hostUse
	floating []floating
	setID    *uint32
}

// digest identifies the rules of a base chain: it is that of the rules themselves.
func (l *layout) digest(base *baseChain) (digest, error) {
	var setID uint32
	scratch := *l
	scratch.setID = &setID
	d := newDigester("base")
	d.text(base.name)
	for _, rule := range base.rules(&scratch) {
		d.number(uint64(len(rule.exprs)))
		for _, e := range rule.exprs {
			encoded, err := expr.Marshal(unix.NFPROTO_INET, e)
			if err != nil {
				return "", fmt.Errorf("encoding a rule of chain %s: %w", base.name, err)
			}
			d.text(string(encoded))
		}
		for _, set := range rule.sets {
			for _, e := range set.elements {
				d.text(e.key)
				d.flag(e.end)
			}
		}
	}
	return d.sum(), nil
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

// othersForward leaves packets whose interface is no workload's to host endpoints. They belong to no known connection.
func (r *rules) othersForward(key expr.MetaKey, chain string) {
	if !r.l.hosts.forward {
		r.othersPass(key)
		return
	}
	b := r.add()
	b.interfacePrefix(key, r.l.prefix, true)
	b.goTo(chain)
}

// connectionsPass lets packets of known connections pass.
func (r *rules) connectionsPass() {
	b := r.add()
	b.ctState(ctEstablished | ctRelated)
	b.accept()
}

// knownPass lets packets of known connections pass and drops those that belong to none and can't begin one. That are those
// of TCP without SYN, too, which the kernel would take for the middle of a connection that it does not know yet: a
// connection whose entry was removed because policy denies it now must not come back by a packet of its other end.
func (r *rules) knownPass() {
	r.connectionsPass()
	r.beginningsPass()
}

// beginningsPass leaves what belongs to no known connection to the rules behind, where it can begin one, and drops it otherwise.
func (r *rules) beginningsPass() {
	b := r.add()
	b.ctState(ctInvalid)
	b.drop()
	b = r.add()
	b.ctState(ctNew)
	b.noSYN()
	b.drop()
}

// Types of ICMPv6 by which hosts find their routers and neighbours (RFC 4861).
const (
	routerSolicitation    = 133
	routerAdvertisement   = 134
	neighborSolicitation  = 135
	neighborAdvertisement = 136
	redirect              = 137
)

// workloadDiscovery are the types that a workload needs to reach its node at all. Router advertisements and redirects are
// not for workloads to send.
func workloadDiscovery() []byte {
	return []byte{routerSolicitation, neighborSolicitation, neighborAdvertisement}
}

// discovery matches ICMPv6 of the types.
func (b *ruleBuilder) discovery(types ...byte) {
	b.family(ipv6)
	b.protocol(unix.IPPROTO_ICMPV6, false)
	b.transport(register, 0, 1)
	kind := nftables.TypeICMP6Type
	elements := make([]element, 0, len(types))
	for _, t := range types {
		elements = append(elements, element{key: string([]byte{t})})
	}
	b.anonymousSet(setSpec{keyType: kind.GetNFTMagic(), keyLen: kind.Bytes}, elements, false)
}

// The UDP port of VXLAN when none is set (RFC 7348), and where a UDP header has the destination port.
const vxlanPort = 4789

// prerouting sees that workloads send from their own addresses only, and no encapsulated packets.
func (l *layout) prerouting() []*ruleBuilder {
	r := &rules{l: l}
	if slices.Contains(l.settings.Tunnels, tables.VXLAN) {
		b := r.add()
		b.interfacePrefix(expr.MetaKeyIIFNAME, l.prefix, true)
		b.goTo(tunnelsArriveChain)
	} else {
		r.othersPass(expr.MetaKeyIIFNAME)
	}
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
	r.add().dispatch(expr.MetaKeyIIFNAME, prefixMap)
	// Neighbour discovery from link-local addresses, and from none while an address is being tried (RFC 4862).
	for _, own := range discoverySources() {
		b := r.add()
		b.discovery(workloadDiscovery()...)
		b.net(ipv6, source, own, false)
		b.accept()
	}
	r.add().drop()
	return r.list
}

// forwardEgress and forwardIngress ask for the connection first: that is all that most packets meet, and it is cheaper than to look at
// an interface's name.
func (l *layout) forwardEgress() []*ruleBuilder {
	r := &rules{l: l}
	if l.hosts.any {
		r.clear()
	}
	r.connectionsPass()
	r.othersForward(expr.MetaKeyIIFNAME, hostForwardInChain)
	r.beginningsPass()
	r.add().dispatch(expr.MetaKeyIIFNAME, egressMap)
	r.add().drop() // an interface that is not in the map: nothing is known of that endpoint
	return r.list
}

func (l *layout) forwardIngress() []*ruleBuilder {
	r := &rules{l: l}
	r.connectionsPass()
	r.othersForward(expr.MetaKeyOIFNAME, hostForwardOutChain)
	r.beginningsPass()
	if !l.inUse.v6 { // there are no rules for it; nor can a workload send any, for it has no address
		b := r.add()
		b.family(ipv6)
		b.drop()
	}
	r.add().dispatch(expr.MetaKeyOIFNAME, ingressMap)
	r.add().drop()
	return r.list
}

// inputEgress applies egress policy to what workloads send to their own node. Where nobody else need look at what tunnels bring, it does.
func (l *layout) inputEgress() []*ruleBuilder {
	r := &rules{l: l}
	if !l.hosts.any {
		r.onlyNodesTunnel()
	}
	r.othersPass(expr.MetaKeyIIFNAME)
	r.knownPass()
	b := r.add()
	b.discovery(workloadDiscovery()...)
	b.accept()
	r.add().dispatch(expr.MetaKeyIIFNAME, egressMap)
	r.add().drop()
	return r.list
}

// inputHost decides on what egress policy let pass to the node. Accepting here does not keep the host's own chains from
// dropping: in nftables only dropping is final. So Accept and Return are the same on a node without host endpoints, and it has no such
// chain.
func (l *layout) inputHost() []*ruleBuilder {
	if l.hosts.any {
		return l.hostInput()
	}
	r := &rules{l: l}
	r.othersPass(expr.MetaKeyIIFNAME)
	r.knownPass()
	b := r.add()
	b.discovery(workloadDiscovery()...)
	b.accept()
	r.failsafe(l.settings.PeeringPorts, destination, destination)
	r.add().drop()
	return r.list
}

// postrouting gives what leaves the pods' network the node's address.
func (l *layout) postrouting() []*ruleBuilder {
	r := &rules{l: l}
	r.tunnelSource()
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
