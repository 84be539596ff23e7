package verdict

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

const defaultVXLANPort = 4789 // RFC 7348, section 5

// way is a packet's through the node: points where something is decided, until one of them drops it.
type way struct {
	*Evaluator
	packet  Packet
	verdict Verdict
	// early: policies that come before others allowed the packet, so that Local is not asked.
	early bool
}

// Evaluate gives the verdict on the first packet of a connection. The order of the points is that of the kernel's hooks.
func (e *Evaluator) Evaluate(p Packet) Verdict {
	p.Source, p.Destination = p.Source.Unmap(), p.Destination.Unmap()
	w := &way{Evaluator: e, packet: p}
	w.verdict.Allowed = w.passes()
	return w.verdict
}

func (w *way) passes() bool {
	p := &w.packet
	switch {
	case p.In == "":
		return w.output()
	case p.In == loopback:
		return true
	case !w.prerouting():
		return false
	case p.Out == "":
		return w.input()
	}
	return w.forward()
}

// note records a decision and tells whether the packet goes on.
func (w *way) note(d Decision, at Point, direction Direction, iface string) bool {
	d.Point, d.Direction, d.Interface = at, direction, iface
	w.verdict.Decisions = append(w.verdict.Decisions, d)
	w.verdict.Unknown = w.verdict.Unknown || !d.Allowed && d.Reason == NotKnown
	return d.Allowed
}

func allowed(why Reason) Decision { return Decision{Allowed: true, Reason: why, Rule: -1} }

func denied(why Reason) Decision { return Decision{Reason: why, Rule: -1} }

// prerouting is what happens to packets from elsewhere before it is known where they go.
func (w *way) prerouting() bool {
	p := w.packet.untranslated()
	if w.isWorkload(p.In) {
		return w.sender(&p)
	}
	h, key, ok := w.host(p.In)
	if !ok || isHostDiscovery(&p) || w.isTunnel(&p) && w.betweenNodes(&p) {
		return true
	}
	return w.untracked(&h, key, Ingress, &p) && w.preDNAT(&h, key, &p)
}

// sender sees that a workload sends from its own addresses, and nothing encapsulated.
func (w *way) sender(p *Packet) bool {
	s := &w.policy.Settings
	encapsulated := p.Protocol == protocolIPIP && !s.AllowIPIP ||
		p.Protocol == protocolUDP && p.DestinationPort == cmp.Or(s.VXLANPort, defaultVXLANPort) && !s.AllowVXLAN
	if encapsulated {
		return w.note(denied(ByEncapsulation), Sender, Egress, p.In)
	}
	ep, known := w.policy.Endpoints.Get(p.In)
	switch {
	case slices.Contains(ep.Addresses, p.Source), inNets(ep.SourcePrefixes, p.Source):
		return true
	case isWorkloadDiscovery(p) && (p.Source.IsLinkLocalUnicast() || p.Source.IsUnspecified()):
		return true
	case !known:
		return w.note(denied(NotKnown), Sender, Egress, p.In)
	}
	return w.note(denied(ByAddress), Sender, Egress, p.In)
}

// untracked asks the policies that decide before connections are tracked. Neither direction knows of connections, so failsafe
// ports cover what answers, too.
func (w *way) untracked(h *tables.HostEndpoint, key string, d Direction, p *Packet) bool {
	tiers := h.Untracked.Ingress
	if d == Egress {
		tiers = h.Untracked.Egress
	}
	if len(tiers) == 0 {
		return true
	}
	if w.failsafe(d, p) || w.failsafeReply(d, p) {
		return w.note(allowed(ByFailsafe), Untracked, d, key)
	}
	decision, decided := w.decide(tiers, d, p)
	if !decided {
		return true
	}
	w.early = w.early || decision.Allowed
	return w.note(decision, Untracked, d, key)
}

func (w *way) preDNAT(h *tables.HostEndpoint, key string, p *Packet) bool {
	if w.early || len(h.PreDNAT) == 0 {
		return true // what is not tracked is not translated either
	}
	if w.failsafe(Ingress, p) {
		return w.note(allowed(ByFailsafe), PreDNAT, Ingress, key)
	}
	decision, decided := w.decide(h.PreDNAT, Ingress, p)
	if !decided {
		return true
	}
	w.early = decision.Allowed
	return w.note(decision, PreDNAT, Ingress, key)
}

// failsafe tells whether a packet is for a port that stays open: on the node, or elsewhere.
func (w *way) failsafe(d Direction, p *Packet) bool {
	if d == Ingress {
		return isFailsafe(w.policy.Settings.FailsafeInbound, p.Protocol, p.DestinationPort, p.Source)
	}
	return isFailsafe(w.policy.Settings.FailsafeOutbound, p.Protocol, p.DestinationPort, p.Destination)
}

// failsafeReply tells whether a packet answers from such a port.
func (w *way) failsafeReply(d Direction, p *Packet) bool {
	if d == Ingress {
		return isFailsafe(w.policy.Settings.FailsafeOutbound, p.Protocol, p.SourcePort, p.Source)
	}
	return isFailsafe(w.policy.Settings.FailsafeInbound, p.Protocol, p.SourcePort, p.Destination)
}

// input is what happens to packets for the node itself.
func (w *way) input() bool {
	p := &w.packet
	if w.isTunnel(p) {
		if !w.betweenNodes(p) {
			return w.note(denied(ByTunnel), Local, Ingress, p.In)
		}
		return w.note(allowed(ByTunnel), Local, Ingress, p.In)
	}
	if w.isWorkload(p.In) {
		if isWorkloadDiscovery(p) {
			return w.note(allowed(ByDiscovery), Workload, Egress, p.In)
		}
		return w.workload(p.In, Egress) && w.toHost()
	}
	h, key, ok := w.host(p.In)
	return !ok || w.local(&h, key, Ingress)
}

// toHost is the setting for what workloads send to their own node.
func (w *way) toHost() bool {
	if p := &w.packet; isFailsafe(w.policy.Settings.PeeringPorts, p.Protocol, p.DestinationPort, p.Destination) {
		return w.note(allowed(BySetting), ToHost, Egress, w.packet.In)
	}
	switch w.policy.Settings.EndpointToHost {
	case tables.HostAccept:
		return w.note(allowed(BySetting), ToHost, Egress, w.packet.In)
	case tables.HostReturn:
		w.note(allowed(BySetting), ToHost, Egress, w.packet.In)
		h, ok := w.policy.HostEndpoints.Get(tables.AllInterfaces)
		return !ok || w.local(&h, tables.AllInterfaces, Ingress)
	default:
		return w.note(denied(BySetting), ToHost, Egress, w.packet.In)
	}
}

// forward is what happens to packets that the node passes on.
func (w *way) forward() bool {
	p := &w.packet
	if h, key, ok := w.host(p.In); ok && !w.hostForward(&h, key, Ingress) {
		return false
	}
	if w.isWorkload(p.In) && !w.workload(p.In, Egress) {
		return false
	}
	if w.isWorkload(p.Out) {
		return w.workload(p.Out, Ingress)
	}
	h, key, ok := w.host(p.Out)
	return !ok || w.hostForward(&h, key, Egress)
}

func (w *way) hostForward(h *tables.HostEndpoint, key string, d Direction) bool {
	tiers := h.Forward.Ingress
	if d == Egress {
		tiers = h.Forward.Egress
	}
	if len(tiers) == 0 {
		return true
	}
	decision, decided := w.decide(tiers, d, &w.packet)
	if !decided {
		decision = allowed(ByDefault)
	}
	return w.note(decision, Forward, d, key)
}

// workload asks the policies of the workload behind an interface.
func (w *way) workload(iface string, d Direction) bool {
	ep, ok := w.policy.Endpoints.Get(iface)
	if !ok || ep.Unknown {
		return w.note(denied(NotKnown), Workload, d, iface)
	}
	tiers := ep.Ingress
	if d == Egress {
		tiers = ep.Egress
	}
	decision, decided := w.decide(tiers, d, &w.packet)
	if !decided {
		decision = allowed(ByDefault) // a pod's namespace profile
	}
	return w.note(decision, Workload, d, iface)
}

// output is what happens to packets that the node itself sends.
func (w *way) output() bool {
	p := &w.packet
	if w.isTunnel(p) && w.betweenNodes(p) && !w.isWorkload(p.Out) {
		return w.note(allowed(ByTunnel), Local, Egress, p.Out)
	}
	if first := p.untranslated(); !isHostDiscovery(p) {
		if h, key, ok := w.host(cmp.Or(p.OriginalOut, p.Out)); ok && !w.untracked(&h, key, Egress, &first) {
			return false
		}
	}
	if w.isWorkload(p.Out) {
		return w.note(allowed(FromNode), Workload, Ingress, p.Out)
	}
	h, key, ok := w.host(p.Out)
	return !ok || isHostDiscovery(p) || w.local(&h, key, Egress)
}

// isTunnel tells whether a packet is an encapsulated one of a tunnel that the node has an end of.
func (w *way) isTunnel(p *Packet) bool {
	s := &w.policy.Settings
	return slices.ContainsFunc(s.Tunnels, func(kind tables.TunnelKind) bool {
		switch {
		case kind.Is4() == isIPv6(p.Source):
			return false
		case kind == tables.IPIP:
			return p.Protocol == protocolIPIP
		}
		return p.Protocol == protocolUDP && p.DestinationPort == cmp.Or(s.VXLANPort, defaultVXLANPort)
	})
}

// betweenNodes tells whether both ends of a packet are nodes.
func (w *way) betweenNodes(p *Packet) bool { return w.isNode(p.Source) && w.isNode(p.Destination) }

// isNode looks for single addresses first: other prefixes are few.
func (w *way) isNode(a netip.Addr) bool {
	if _, ok := w.policy.Nodes.Get(netip.PrefixFrom(a, a.BitLen())); ok {
		return true
	}
	for bits := a.BitLen() - 1; bits >= 0; bits-- {
		p, err := a.Prefix(bits)
		if err != nil {
			return false
		}
		if _, ok := w.policy.Nodes.Get(p); ok {
			return true
		}
	}
	return false
}

// local asks the policies for traffic of the node itself.
func (w *way) local(h *tables.HostEndpoint, key string, d Direction) bool {
	p := &w.packet
	switch {
	case w.early:
		return true
	case isHostDiscovery(p):
		return w.note(allowed(ByDiscovery), Local, d, key)
	case w.failsafe(d, p):
		return w.note(allowed(ByFailsafe), Local, d, key)
	case h.Unknown:
		return w.note(denied(NotKnown), Local, d, key)
	}
	tiers := h.Local.Ingress
	if d == Egress {
		tiers = h.Local.Egress
	}
	decision, decided := w.decide(tiers, d, p)
	if !decided {
		decision = Decision{Allowed: h.LocalDefault == tables.Allow, Reason: ByDefault, Rule: -1}
	}
	return w.note(decision, Local, d, key)
}

// Types of ICMPv6 of neighbour discovery (RFC 4861).
const (
	routerSolicitation    = 133
	neighborSolicitation  = 135
	neighborAdvertisement = 136
	redirect              = 137
)

// isHostDiscovery is what hosts and routers say to find one another.
func isHostDiscovery(p *Packet) bool {
	return isICMPv6(p) && p.ICMPType >= routerSolicitation && p.ICMPType <= redirect
}

// isWorkloadDiscovery is what a workload says to find its node.
func isWorkloadDiscovery(p *Packet) bool {
	return isICMPv6(p) && (p.ICMPType == routerSolicitation || p.ICMPType == neighborSolicitation || p.ICMPType == neighborAdvertisement)
}

func isICMPv6(p *Packet) bool { return p.Protocol == protocolICMPv6 && isIPv6(p.Source) }

func isIPv6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }
