package oracle

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	v3 "github.com/manul-net/manul/api/v3"
)

// hostEndpoint of a node's interface: one that names it, else one that has an address of it, else one for all interfaces.
// Of several the smallest name wins.
func (u *users) hostEndpoint(node, name string) *v3.HostEndpoint {
	var addrs []netip.Addr
	if l := u.network.named(node, name); l != nil {
		addrs = l.Addresses
	}
	for _, is := range []func(*v3.HostEndpointSpec) bool{
		func(s *v3.HostEndpointSpec) bool { return s.InterfaceName == name },
		func(s *v3.HostEndpointSpec) bool {
			return s.InterfaceName == "" && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(s.ExpectedIPs, a.String()) })
		},
		func(s *v3.HostEndpointSpec) bool { return s.InterfaceName == "*" },
	} {
		if h := u.firstHost(node, is); h != nil {
			return h
		}
	}
	return nil
}

func (u *users) firstHost(node string, is func(*v3.HostEndpointSpec) bool) *v3.HostEndpoint {
	var first *v3.HostEndpoint
	for _, h := range u.HostEndpoints {
		if h.Spec.Node == node && is(&h.Spec) && (first == nil || h.Name < first.Name) {
			first = h
		}
	}
	return first
}

func (u *users) hostUntracked(node, name string, ingress bool, p Packet) action {
	return u.onHost(u.hostEndpoint(node, name), p, ingress, false, func(x *anyPolicy) bool { return x.untracked })
}

func (u *users) hostPreDNAT(node, name string, p Packet) action {
	return u.onHost(u.hostEndpoint(node, name), p, true, false, func(x *anyPolicy) bool { return x.preDNAT })
}

func (u *users) hostForward(node, name string, ingress bool, p Packet) action {
	return u.onHost(u.hostEndpoint(node, name), p, ingress, true, func(x *anyPolicy) bool { return x.forward && !x.preDNAT && !x.untracked })
}

func (u *users) hostLocal(node, name string, ingress bool, p Packet) action {
	return u.localOn(u.hostEndpoint(node, name), p, ingress)
}

func (u *users) allHostsLocal(node string, p Packet) action {
	return u.localOn(u.firstHost(node, func(s *v3.HostEndpointSpec) bool { return s.InterfaceName == "*" }), p, true)
}

func (u *users) localOn(h *v3.HostEndpoint, p Packet, ingress bool) action {
	if h == nil {
		return undecided
	}
	profile := deny
	// The first profile decides: the one that is known allows all, and one that nobody knows nothing.
	if len(h.Spec.Profiles) > 0 && h.Spec.Profiles[0] == "projectcalico-default-allow" {
		profile = allow
	}
	return cmp.Or(u.onHost(h, p, ingress, true, func(x *anyPolicy) bool { return !x.preDNAT && !x.untracked }), profile)
}

func (u *users) onHost(h *v3.HostEndpoint, p Packet, ingress, ends bool, counts func(*anyPolicy) bool) action {
	if h == nil {
		return undecided
	}
	return u.decide(p, ingress, ends, func(x *anyPolicy) bool { return x.hosts != nil && counts(x) && x.hosts(h) })
}

// failsafePort is a port that host endpoints leave open.
type failsafePort struct {
	protocol, port int
	net            string
}

// failsafePorts of the node, or of others.
func (u *users) failsafePorts(inbound bool) []failsafePort {
	tcp, udp := []int{179, 2379, 2380, 5473, 6443, 6666, 6667}, []int{53, 67}
	if inbound {
		tcp, udp = append(tcp, 22), []int{68}
	}
	var out []failsafePort
	for _, port := range tcp {
		out = append(out, failsafePort{TCP, port, ""})
	}
	for _, port := range udp {
		out = append(out, failsafePort{UDP, port, ""})
	}
	if u.Felix == nil {
		return out
	}
	given := u.Felix.Spec.FailsafeOutboundHostPorts
	if inbound {
		given = u.Felix.Spec.FailsafeInboundHostPorts
	}
	if given == nil {
		return out
	}
	out = nil
	for _, p := range given {
		protocol := TCP
		if strings.EqualFold(p.Protocol, "UDP") {
			protocol = UDP
		}
		out = append(out, failsafePort{protocol, p.Port, p.Net})
	}
	return out
}

func (u *users) failsafe(_ string, ingress, replies bool, p Packet) bool {
	far := p.Destination
	if ingress {
		far = p.Source
	}
	in := func(ports []failsafePort, port int) bool {
		return slices.ContainsFunc(ports, func(f failsafePort) bool {
			return f.protocol == p.Protocol && f.port == port && (f.net == "" || u.inAny([]string{f.net}, far))
		})
	}
	return in(u.failsafePorts(ingress), p.DestinationPort) || replies && in(u.failsafePorts(!ingress), p.SourcePort)
}

func (u *users) podToHost(string) string {
	if u.Felix != nil {
		for _, a := range []string{"Accept", "Return"} {
			if strings.EqualFold(a, u.Felix.Spec.DefaultEndpointToHostAction) {
				return a
			}
		}
	}
	return "Drop"
}

// maySend: pods send from their own addresses, and no encapsulated packets unless the settings let them.
func (u *users) maySend(id string, p Packet) bool {
	vxlanPort, vxlan, ipip := 4789, false, false
	if u.Felix != nil {
		s := &u.Felix.Spec
		vxlan = s.AllowVXLANPacketsFromWorkloads != nil && *s.AllowVXLANPacketsFromWorkloads
		ipip = s.AllowIPIPPacketsFromWorkloads != nil && *s.AllowIPIPPacketsFromWorkloads
		if s.VXLANPort != nil {
			vxlanPort = *s.VXLANPort
		}
	}
	if p.Protocol == UDP && p.DestinationPort == vxlanPort && !vxlan || p.Protocol == IPIP && !ipip {
		return false
	}
	return slices.ContainsFunc(u.ownersOf(p.Source), func(o *owner) bool { return o.pod != nil && podID(o.pod) == id }) ||
		u.mayPretend(id, p.Source)
}

// mayPretend tells whether a pod's annotation, and the settings, let it send from an address that is not its own.
func (u *users) mayPretend(id string, from netip.Addr) bool {
	if u.Felix == nil || !strings.EqualFold(u.Felix.Spec.WorkloadSourceSpoofing, "Any") {
		return false
	}
	for _, pod := range u.Pods {
		var prefixes []string
		if podID(pod) != id || json.Unmarshal([]byte(pod.Annotations["cni.projectcalico.org/allowedSourcePrefixes"]), &prefixes) != nil {
			continue
		}
		for _, text := range prefixes {
			_, errPrefix := netip.ParsePrefix(text)
			if _, errAddr := netip.ParseAddr(text); errPrefix != nil && errAddr != nil {
				return false // of a list that can't be read nothing counts
			}
		}
		return u.inAny(prefixes, from)
	}
	return false
}

// masquerades: from a pool with natOutgoing to outside all pools.
func (u *users) masquerades(_ string, p Packet) bool {
	from, inside := false, false
	for _, pool := range u.Pools {
		from = from || pool.Spec.NATOutgoing && u.inAny([]string{pool.Spec.CIDR}, p.Source)
		inside = inside || u.inAny([]string{pool.Spec.CIDR}, p.Destination)
	}
	return from && !inside
}
