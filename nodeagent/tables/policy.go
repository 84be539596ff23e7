// Package tables is the desired state of a node's kernel in plain data, the same for every dataplane. The agent's pure
// part fills the tables; drivers make the kernel equal to them. Nothing here knows Kubernetes, and nothing does I/O.
package tables

import (
	"net/netip"
	"reflect"

	"github.com/manul-net/manul/nodeagent/delta"
)

// Policy is the desired state of the policy dataplane.
type Policy struct {
	// Endpoints by the name of their host-side interface. A workload interface that is not here drops everything.
	Endpoints *delta.Table[string, Endpoint]
	// HostEndpoints by the name of their interface. AllInterfaces stands for every interface without an entry of its own
	// that is neither a workload's nor the loopback interface. An interface without any is not policed.
	HostEndpoints *delta.Table[string, HostEndpoint]
	// Programs by name.
	Programs *delta.Table[string, Program]
	// Sets by ID. Every set that a program names is here, possibly without members.
	Sets *delta.Table[string, SetType]
	// Members of all sets.
	Members *Members
	// Pools of addresses, for masquerading.
	Pools *delta.Table[netip.Prefix, Pool]
	// Floating are addresses that are translated, one to one, to a workload's own address of the same family, whoever sends to
	// them. Policy sees the workload's own. A workload that sends to its own floating address appears with it to itself.
	Floating *delta.Table[netip.Addr, netip.Addr]
	// Nodes are the addresses between which the node's tunnels carry packets: those of all nodes, and of others that may send.
	Nodes *delta.Table[netip.Prefix, struct{}]
	// Settings; SettingsDirty is set when they changed and cleared by the driver.
	Settings      Settings
	SettingsDirty bool
}

// NewPolicy makes an empty desired state.
func NewPolicy() *Policy {
	return &Policy{
		Endpoints:     delta.NewTable[string](func(a, b Endpoint) bool { return reflect.DeepEqual(a, b) }),
		HostEndpoints: delta.NewTable[string](func(a, b HostEndpoint) bool { return reflect.DeepEqual(a, b) }),
		Programs:      delta.NewTable[string](func(a, b Program) bool { return reflect.DeepEqual(a, b) }),
		Sets:          delta.NewTable[string](func(a, b SetType) bool { return a == b }),
		Members:       NewMembers(),
		Pools:         delta.NewTable[netip.Prefix](func(a, b Pool) bool { return a == b }),
		Nodes:         delta.NewTable[netip.Prefix](func(_, _ struct{}) bool { return true }),
		Floating:      delta.NewTable[netip.Addr](func(a, b netip.Addr) bool { return a == b }),
	}
}

// HasDirty tells whether anything changed since the driver last made the kernel equal to the tables.
func (p *Policy) HasDirty() bool {
	return p.SettingsDirty || p.Endpoints.HasDirty() || p.HostEndpoints.HasDirty() || p.Programs.HasDirty() || p.Sets.HasDirty() ||
		p.Members.HasDirty() || p.Pools.HasDirty() || p.Nodes.HasDirty() || p.Floating.HasDirty()
}

// Clean forgets what changed.
func (p *Policy) Clean() {
	p.SettingsDirty = false
	p.Endpoints.Clean()
	p.HostEndpoints.Clean()
	p.Programs.Clean()
	p.Sets.Clean()
	p.Members.Clean()
	p.Pools.Clean()
	p.Nodes.Clean()
	p.Floating.Clean()
}

// Endpoint is a workload interface and what applies to it.
type Endpoint struct {
	// Addresses that the workload may send from.
	Addresses []netip.Addr
	// SourcePrefixes are CIDRs from which the workload may send beside its addresses.
	SourcePrefixes []netip.Prefix
	// Ingress and Egress: the tiers that apply, in order. None: no restriction.
	Ingress, Egress []Tier
	// Unknown: the endpoint's policy is not known yet; drop all that a policy could deny.
	Unknown bool
}

// AllInterfaces is the key of the host endpoint that stands for all interfaces of the node.
const AllInterfaces = "*"

// HostEndpoint is what applies to an interface of the node itself. Packets of known connections pass without a look at any
// of it, and so do failsafe ports.
type HostEndpoint struct {
	// Untracked decides on all traffic before connections are tracked; what it allows is not tracked and not looked at again.
	Untracked Directions
	// PreDNAT decides on all that comes in, before destination addresses are translated. What it allows and is for the node
	// itself is not looked at again.
	PreDNAT []Tier
	// Forward decides on traffic that the node passes on. What no tier decides passes.
	Forward Directions
	// Local decides on traffic to and from the node itself.
	Local Directions
	// LocalDefault is Allow or Deny: what happens to traffic of the node itself on which no tier decided.
	LocalDefault Action
	// Unknown: the policies are not known yet; traffic of the node itself is dropped, failsafe ports apart.
	Unknown bool
}

// Directions are the tiers that apply in each direction, in order.
type Directions struct{ Ingress, Egress []Tier }

// Tier is an ordered list of programs and what happens when none of them decides.
type Tier struct {
	Name     string
	Programs []string
	// Default is Deny or Pass.
	Default Action
}

// Action of a rule or of a tier's end.
type Action uint8

// The actions.
const (
	Allow Action = iota + 1
	Deny
	Pass
	Log
)

// Program is a compiled policy.
type Program struct {
	Ingress, Egress []Rule
}

// Rule matches a packet when every field that is present does.
type Rule struct {
	Action Action
	// IPVersion 4 or 6; 0: both.
	IPVersion uint8
	// Protocol and NotProtocol: IANA numbers; 0: any, none.
	Protocol, NotProtocol uint8
	ICMP, NotICMP         *ICMP
	Source, Destination   Entity
}

// ICMP is a type with an optional code (-1: any).
type ICMP struct {
	Type int16
	Code int16
}

// Entity is what a rule says of one end of a packet. Fields that are present are ANDed.
type Entity struct {
	// Sets: IDs; the address is in every one. NotSets: in none.
	Sets, NotSets []string
	// Nets: the address is in one of them. NotNets: in none.
	Nets, NotNets []netip.Prefix
	// Ports and PortSets together: the port is in one of them. PortSets are IDs of sets of type NamedPorts.
	Ports    []PortRange
	PortSets []string
	// NotPorts and NotPortSets together: the port is in none of them.
	NotPorts    []PortRange
	NotPortSets []string
}

// PortRange includes both ends.
type PortRange struct{ First, Last uint16 }

// SetType tells what the members of a set are.
type SetType uint8

// The types of sets.
const (
	// Addresses: every member is a single address.
	Addresses SetType = iota + 1
	// Nets: members are CIDRs, which may overlap.
	Nets
	// NamedPorts: members are an address, a protocol and a port.
	NamedPorts
)

// Member is one member of a set. Prefix is a single address's /32 or /128 in sets of type Addresses and NamedPorts;
// Protocol and Port are used in sets of type NamedPorts only.
type Member struct {
	Set      string
	Prefix   netip.Prefix
	Protocol uint8
	Port     uint16
}

// Pool is an address pool.
type Pool struct {
	// NATOutgoing: traffic from the pool to outside all pools takes the node's address.
	NATOutgoing bool
}

// Settings of the policy dataplane.
type Settings struct {
	// Dataplane to use. Empty: that of kube-proxy.
	Dataplane Dataplane
	// EndpointToHost decides on allowed traffic from a workload to its own node.
	EndpointToHost HostAction
	// PeeringPorts are ports of the node that workloads reach whatever EndpointToHost says, where their egress policy lets them. Net is
	// the address of the node.
	PeeringPorts []FailsafePort
	// IPVS: kube-proxy runs in mode ipvs, so packets to services pass no forward hook.
	IPVS bool
	// VXLANPort is the UDP port of VXLAN packets.
	VXLANPort uint16
	// Tunnels that the node has ends of, in order. Their packets pass between Nodes whatever host endpoints say, and are dropped from
	// elsewhere.
	Tunnels []TunnelKind
	// AllowVXLAN and AllowIPIP let workloads send encapsulated packets.
	AllowVXLAN, AllowIPIP bool
	// FailsafeInbound are ports of the node, FailsafeOutbound ports elsewhere, that host endpoints leave open.
	FailsafeInbound, FailsafeOutbound []FailsafePort
}

// Dataplane is the name of a policy dataplane.
type Dataplane string

// The dataplanes.
const (
	NFTables Dataplane = "nftables"
	IPTables Dataplane = "iptables"
)

// FailsafePort is a port that host endpoints leave open.
type FailsafePort struct {
	Protocol uint8
	Port     uint16
	// Net of the other end. Not valid: any.
	Net netip.Prefix
}

// Equal tells whether two settings are the same.
func (s Settings) Equal(o Settings) bool { return reflect.DeepEqual(s, o) }

// HostAction is what happens to allowed traffic from a workload to its own node.
type HostAction uint8

// The host actions. Return goes on to the host's own rules.
const (
	HostDrop HostAction = iota
	HostAccept
	HostReturn
)
