package render

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/validate"
)

// The FelixConfigurations that count: one for all nodes, and one for each node of which it bears the name.
const (
	felixDefault = "default"
	felixNode    = "node."
)

// felix is what counts of a FelixConfiguration. What is absent is zero.
type felix struct {
	endpointToHost        string
	vxlanPort             *int
	allowVXLAN, allowIPIP *bool
	// failsafe ports in and out; nil: absent, empty: none.
	inbound, outbound []v3.ProtoPort
	nftables          string
	spoofing          string
	serviceLoops      string
	tunnels           felixTunnels
	floating          string
}

func felixOf(spec *v3.FelixConfigurationSpec) felix {
	return felix{
		endpointToHost: spec.DefaultEndpointToHostAction,
		vxlanPort:      spec.VXLANPort,
		allowVXLAN:     spec.AllowVXLANPacketsFromWorkloads,
		allowIPIP:      spec.AllowIPIPPacketsFromWorkloads,
		inbound:        spec.FailsafeInboundHostPorts,
		outbound:       spec.FailsafeOutboundHostPorts,
		nftables:       spec.NftablesMode,
		spoofing:       spec.WorkloadSourceSpoofing,
		serviceLoops:   spec.ServiceLoopPrevention,
		tunnels:        felixTunnelsOf(spec),
		floating:       spec.FloatingIPs,
	}
}

// over is f where it says something, otherwise general. The API server gives every object the mode Auto, so that a node's
// Auto says nothing.
func (f felix) over(general felix) felix {
	if strings.EqualFold(f.nftables, "Auto") {
		f.nftables = ""
	}
	return felix{
		endpointToHost: cmp.Or(f.endpointToHost, general.endpointToHost),
		vxlanPort:      cmp.Or(f.vxlanPort, general.vxlanPort),
		allowVXLAN:     cmp.Or(f.allowVXLAN, general.allowVXLAN),
		allowIPIP:      cmp.Or(f.allowIPIP, general.allowIPIP),
		inbound:        orPorts(f.inbound, general.inbound),
		outbound:       orPorts(f.outbound, general.outbound),
		nftables:       cmp.Or(f.nftables, general.nftables),
		spoofing:       cmp.Or(f.spoofing, general.spoofing),
		serviceLoops:   cmp.Or(f.serviceLoops, general.serviceLoops),
		tunnels:        f.tunnels.over(&general.tunnels),
		floating:       cmp.Or(f.floating, general.floating),
	}
}

// letsSpoof tells whether pods may send from the prefixes that their annotation asks for.
func (f *felix) letsSpoof() bool { return strings.EqualFold(f.spoofing, "Any") }

// floats tells whether pods are reached by the floating addresses of their annotation.
func (f *felix) floats() bool { return strings.EqualFold(f.floating, "Enabled") }

func orPorts(a, b []v3.ProtoPort) []v3.ProtoPort {
	if a != nil {
		return a
	}
	return b
}

// setFelix takes in a FelixConfiguration; nil when it is gone.
func (c *Cluster) setFelix(name string, spec *v3.FelixConfigurationSpec) {
	node, ofNode := strings.CutPrefix(name, felixNode)
	if name != felixDefault && !ofNode {
		return
	}
	var now felix
	if spec != nil {
		now = felixOf(spec)
	}
	// Absent and empty lists of ports are not the same.
	if reflect.DeepEqual(c.felix[name], now) {
		return
	}
	c.felix[name] = now
	if spec == nil {
		delete(c.felix, name)
	}
	c.touchFloating()
	switch {
	case !ofNode:
		c.touchNodeStates()
	case c.nodes[node] != nil:
		c.touch(KindNodeState, node)
	}
}

// felixFor is what holds for a node.
func (c *Cluster) felixFor(n *node) felix {
	general := c.felix[felixDefault]
	own, ok := c.felix[felixNode+n.name]
	if !ok {
		return general
	}
	return own.over(general)
}

// KeepDeniedConnections says whether connections go on that policies have come to deny. They are ended otherwise.
func (c *Cluster) KeepDeniedConnections(keep bool) {
	if c.keepDenied != keep {
		c.keepDenied = keep
		c.touchNodeStates()
	}
}

// agentSettings are those of a node's agent. Failsafe ports only say something beside host endpoints.
func (c *Cluster) agentSettings(n *node, f *felix) v1alpha1.AgentSettings {
	out := v1alpha1.AgentSettings{
		AllowVXLANFromPods:    f.allowVXLAN != nil && *f.allowVXLAN,
		AllowIPIPFromPods:     f.allowIPIP != nil && *f.allowIPIP,
		KeepDeniedConnections: c.keepDenied,
	}
	for _, action := range [3]string{"Drop", "Accept", "Return"} {
		if strings.EqualFold(f.endpointToHost, action) {
			out.EndpointToHostAction = action
		}
	}
	for _, action := range [2]string{"Reject", "Disabled"} {
		if strings.EqualFold(f.serviceLoops, action) {
			out.ServiceLoops = action
		}
	}
	if f.vxlanPort != nil {
		out.VXLANPort = int32(*f.vxlanPort)
	}
	out.MTUInterfaces, out.ExternalNodes = f.tunnels.mtuInterfaces, externalNodes(f.tunnels.externalNodes)
	switch {
	case strings.EqualFold(f.nftables, "Enabled"):
		out.Dataplane = "nftables"
	case strings.EqualFold(f.nftables, "Disabled"):
		out.Dataplane = "iptables"
	}
	if len(n.hosts) > 0 {
		out.FailsafeInbound = failsafePorts(orPorts(f.inbound, failsafeInbound()))
		out.FailsafeOutbound = failsafePorts(orPorts(f.outbound, failsafeOutbound()))
	}
	return out
}

// failsafeInbound are the ports of a node that stay open unless the FelixConfiguration says which: SSH, BGP, etcd, Typha,
// the API server, etcd's ports of old, and the answers of DHCP.
func failsafeInbound() []v3.ProtoPort {
	return append(protoPorts("TCP", 22, 179, 2379, 2380, 5473, 6443, 6666, 6667), protoPorts("UDP", 68)...)
}

// failsafeOutbound are the ports elsewhere; instead of SSH and DHCP's answers, DNS and DHCP.
func failsafeOutbound() []v3.ProtoPort {
	return append(protoPorts("TCP", 179, 2379, 2380, 5473, 6443, 6666, 6667), protoPorts("UDP", 53, 67)...)
}

func protoPorts(protocol string, ports ...int) []v3.ProtoPort {
	out := make([]v3.ProtoPort, 0, len(ports))
	for _, port := range ports {
		out = append(out, v3.ProtoPort{Protocol: protocol, Port: port})
	}
	return out
}

// failsafePorts are the ports of a list, in order and each once. What can't be read opens nothing.
func failsafePorts(list []v3.ProtoPort) []v1alpha1.FailsafePort {
	var out []v1alpha1.FailsafePort
	for _, p := range list {
		protocol, ok := failsafeProtocol(p.Protocol)
		if !ok || p.Port < 1 || p.Port > maxPort {
			continue
		}
		port := v1alpha1.FailsafePort{Protocol: protocol, Port: int32(p.Port)}
		if p.Net != "" {
			net, err := validate.ParseNet(p.Net)
			if err != nil && !net.IsValid() {
				continue
			}
			port.Net = net.String()
		}
		out = append(out, port)
	}
	slices.SortFunc(out, func(a, b v1alpha1.FailsafePort) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), strings.Compare(a.Net, b.Net))
	})
	return slices.Compact(out)
}

func failsafeProtocol(name string) (int32, bool) {
	switch strings.ToUpper(name) {
	case "TCP", "":
		return validate.ProtocolTCP, true
	case "UDP":
		return validate.ProtocolUDP, true
	case "SCTP":
		return validate.ProtocolSCTP, true
	}
	return 0, false
}
