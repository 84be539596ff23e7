package nftables

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// hostHook is a place where host endpoints decide on packets.
type hostHook uint8

const (
	untrackedIn hostHook = iota
	untrackedOut
	preDNAT
	forwardIn
	forwardOut
	localIn
	localOut
	hostHooks
)

// verdictMap leads from an interface to what its host endpoint says there.
func (h hostHook) verdictMap() string {
	return [hostHooks]string{"untracked-in", "untracked-out", "pre-dnat", "forward-in", "forward-out", "local-in", "local-out"}[h]
}

// hookOf is the hook of a verdict map.
func hookOf(verdictMap string) hostHook {
	for h := range hostHooks {
		if h.verdictMap() == verdictMap {
			return h
		}
	}
	return hostHooks
}

// direction of the policies that decide there.
func (h hostHook) direction() direction {
	if h == untrackedOut || h == forwardOut || h == localOut {
		return egress
	}
	return ingress
}

// key is the interface that the hook looks at.
func (h hostHook) key() expr.MetaKey {
	if h.direction() == egress {
		return expr.MetaKeyOIFNAME
	}
	return expr.MetaKeyIIFNAME
}

// targets are where host endpoints lead, by hook: toAccept where they have no policies and leave a packet alone.
type targets [hostHooks]string

// elements are the elements of verdict maps of an interface. An interface with a host endpoint of its own is in all of
// them, lest the one for all other interfaces decides.
func (t targets) elements(name string) []setElement {
	var list []setElement
	for h := range hostHooks {
		if t[h] != "" {
			list = append(list, setElement{h.verdictMap(), element{key: interfaceKey(name), to: t[h]}})
		}
	}
	return list
}

// hostUse is what base chains must know of the host endpoints: a hook that none of them needs does not exist.
type hostUse struct {
	any, untracked, preDNAT, forward bool
	// others is what applies to interfaces without a host endpoint of their own.
	others targets
}

func useOf(hosts map[string]targets) hostUse {
	var use hostUse
	for h := range hostHooks {
		use.others[h] = toAccept
	}
	for name, t := range hosts {
		use.any = true
		use.untracked = use.untracked || t[untrackedIn] != toAccept || t[untrackedOut] != toAccept
		use.preDNAT = use.preDNAT || t[preDNAT] != toAccept
		use.forward = use.forward || t[forwardIn] != toAccept || t[forwardOut] != toAccept
		if name == tables.AllInterfaces {
			use.others = t
		}
	}
	return use
}

// stages are how many base chains may have to wait for others: see transaction.
const stages = 2

// stage is when a base chain that is new may come into force: 0 with all others, else behind those by whose marks it goes.
func (l *layout) stage(chain string) int {
	switch chain {
	case hostPreroutingChain:
		if l.hosts.untracked {
			return 1
		}
	case inputHostChain, ipvsInputHostChain:
		if l.hosts.untracked || l.hosts.preDNAT {
			return stages
		}
	}
	return 0
}

// loopback is the interface on which nothing is policed.
const loopback = "lo"

// notOurs lets packets pass that host endpoints have no say in: those of workloads and of the loopback interface.
func (r *rules) notOurs(key expr.MetaKey) {
	b := r.add()
	b.iface(key, loopback)
	b.accept()
	b = r.add()
	b.interfacePrefix(key, r.l.prefix, false)
	b.accept()
}

// neighborDiscoveryPasses: without it no host reaches its neighbours (RFC 4861).
func (r *rules) neighborDiscoveryPasses() {
	b := r.add()
	b.discovery(routerSolicitation, routerAdvertisement, neighborSolicitation, neighborAdvertisement, redirect)
	b.accept()
}

// clear clears the bit that packets may have come with.
func (r *rules) clear() { r.add().setMark(earlyMark, false) }

// decide lets the host endpoint of the packet's interface decide, or the one for all others.
func (r *rules) decide(h hostHook) {
	r.add().dispatch(h.key(), h.verdictMap())
	switch to := r.l.hosts.others[h]; to {
	case toAccept:
	case toDrop:
		r.add().drop()
	default:
		r.add().jump(to)
	}
}

// failsafe lets packets pass whose port at one end is in the list, and whose other end is in the entry's network. Entries
// of protocols without ports can't match.
func (r *rules) failsafe(list []tables.FailsafePort, at, other end) { r.portsPass(list, at, other, "") }

// portsPass is failsafe for what comes in by interfaces whose names begin with prefix; empty: by all.
func (r *rules) portsPass(list []tables.FailsafePort, at, other end, prefix string) {
	byNet := map[netip.Prefix][]element{}
	for _, p := range list {
		if !slices.Contains([]uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP}, p.Protocol) {
			continue
		}
		net := p.Net
		if net.IsValid() {
			net = net.Masked()
		}
		if e := (element{key: protocolPortKey(p.Protocol, p.Port)}); !slices.Contains(byNet[net], e) {
			byNet[net] = append(byNet[net], e)
		}
	}
	nets := make([]netip.Prefix, 0, len(byNet))
	for net := range byNet {
		nets = append(nets, net)
	}
	slices.SortFunc(nets, netip.Prefix.Compare)
	for _, net := range nets {
		slices.SortFunc(byNet[net], func(a, b element) int { return cmp.Compare(a.key, b.key) })
		b := r.add()
		if prefix != "" {
			b.interfacePrefix(expr.MetaKeyIIFNAME, prefix, false)
		}
		if net.IsValid() {
			b.family(familyOf(net.Addr()))
			b.net(familyOf(net.Addr()), other, net, false)
		}
		b.protocolPorts(at, byNet[net])
		b.accept()
	}
}

// hostPreroutingRaw: policy on what comes in before connections are tracked. Failsafe ports are those of the node, and, for
// answers, those elsewhere.
func (l *layout) hostPreroutingRaw() []*ruleBuilder {
	r := &rules{l: l}
	r.clear()
	r.notOurs(expr.MetaKeyIIFNAME)
	r.neighborDiscoveryPasses()
	r.tunnelsPass()
	r.failsafe(l.settings.FailsafeInbound, destination, source)
	r.failsafe(l.settings.FailsafeOutbound, source, source)
	r.decide(untrackedIn)
	return r.list
}

// hostNotrack keeps what that policy has allowed from being tracked.
func (l *layout) hostNotrack() []*ruleBuilder {
	r := &rules{l: l}
	b := r.add()
	b.hasMark(earlyMark, false)
	b.add(&expr.Notrack{})
	return r.list
}

// hostPrerouting: policy on what comes in before its destination is translated.
func (l *layout) hostPrerouting() []*ruleBuilder {
	r := &rules{l: l}
	if l.hosts.untracked {
		b := r.add()
		b.hasMark(earlyMark, false)
		b.accept()
	} else {
		r.clear()
	}
	r.notOurs(expr.MetaKeyIIFNAME)
	r.connectionsPass()
	r.neighborDiscoveryPasses()
	r.tunnelsPass()
	r.failsafe(l.settings.FailsafeInbound, destination, source)
	r.decide(preDNAT)
	return r.list
}

// hostForwardIn and hostForwardOut: policy on what the node passes on and belongs to no known connection, of the interface at which no
// workload is.
func (l *layout) hostForwardIn() []*ruleBuilder  { return l.hostForward(forwardIn) }
func (l *layout) hostForwardOut() []*ruleBuilder { return l.hostForward(forwardOut) }

func (l *layout) hostForward(h hostHook) []*ruleBuilder {
	r := &rules{l: l}
	r.decide(h)
	return r.list
}

// hostInput decides on what is for the node itself. Accepting here does not keep the host's own chains from dropping: in
// nftables only dropping is final. So for workloads the settings Accept and Return differ only in that Return asks the
// host endpoint for all interfaces.
func (l *layout) hostInput() []*ruleBuilder {
	r := &rules{l: l}
	r.onlyNodesTunnel()
	if l.hosts.untracked || l.hosts.preDNAT { // policy has allowed it early
		b := r.add()
		b.hasMark(earlyMark, false)
		b.setMark(earlyMark, false)
		b.accept()
	}
	b := r.add()
	b.iface(expr.MetaKeyIIFNAME, loopback)
	b.accept()
	r.connectionsPass()
	if l.settings.EndpointToHost != tables.HostAccept {
		b := r.add()
		b.interfacePrefix(expr.MetaKeyIIFNAME, l.prefix, false)
		b.discovery(workloadDiscovery()...)
		b.accept()
	}
	if l.settings.EndpointToHost != tables.HostAccept {
		r.portsPass(l.settings.PeeringPorts, destination, destination, l.prefix)
	}
	if l.settings.EndpointToHost != tables.HostReturn {
		b := r.add()
		b.interfacePrefix(expr.MetaKeyIIFNAME, l.prefix, false)
		if l.settings.EndpointToHost == tables.HostAccept {
			b.accept()
		} else {
			b.drop()
		}
	}
	r.neighborDiscoveryPasses()
	r.failsafe(l.settings.FailsafeInbound, destination, source)
	r.decide(localIn)
	return r.list
}

// hostOutputRaw: policy on what the node sends before connections are tracked.
func (l *layout) hostOutputRaw() []*ruleBuilder {
	r := &rules{l: l}
	r.throughPasses(false)
	r.clear()
	r.notOurs(expr.MetaKeyOIFNAME)
	r.neighborDiscoveryPasses()
	r.tunnelsPass()
	r.failsafe(l.settings.FailsafeOutbound, destination, destination)
	r.failsafe(l.settings.FailsafeInbound, source, destination)
	r.decide(untrackedOut)
	return r.list
}

// hostOutput marks what the node sends for hostPostrouting to decide on: only there it is known by which interface a packet
// leaves, after its destination was translated and it was routed anew. It comes last of the output hook and that one first
// of postrouting, so that nobody else is between them.
func (l *layout) hostOutput() []*ruleBuilder {
	r := &rules{l: l}
	r.throughPasses(true)
	r.connectionsPass()
	if l.hosts.untracked { // policy has allowed it early
		b := r.add()
		b.ctState(ctUntracked)
		b.hasMark(earlyMark, false)
		b.setMark(earlyMark, false)
		b.accept()
	}
	r.add().setMark(earlyMark, true)
	return r.list
}

// hostPostrouting decides on what the node itself sends.
func (l *layout) hostPostrouting() []*ruleBuilder {
	r := &rules{l: l}
	b := r.add()
	b.hasMark(earlyMark, true)
	b.accept()
	r.clear()
	r.connectionsPass() // sent by a program that uses this bit for itself
	r.notOurs(expr.MetaKeyOIFNAME)
	r.neighborDiscoveryPasses()
	r.tunnelsPass()
	r.failsafe(l.settings.FailsafeOutbound, destination, destination)
	r.decide(localOut)
	return r.list
}
