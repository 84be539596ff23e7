package render

import (
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/manul-net/manul/api/v1alpha1"
)

// Same tells whether two specs of rendered objects, or two items of their lists, are of one type and have the same content; both are pointers.
// Empty and absent lists are one. With each pod that changes, all pods of its node are compared several times: for what there are many of
// that is done without reflection, which would take memory for each.
func Same(a, b any) bool {
	switch x := a.(type) {
	case *v1alpha1.NodeStateSpec:
		return both(x, b, sameState)
	case *v1alpha1.Endpoint:
		return both(x, b, sameEndpoint)
	case *v1alpha1.NodeEndpointsSpec:
		return both(x, b, sameEndpoints)
	case *v1alpha1.RemoteEndpoint:
		return both(x, b, sameRemote)
	case *v1alpha1.NodeNetworkSpec:
		return both(x, b, sameNetwork)
	case *v1alpha1.PolicyProgramSpec:
		return both(x, b, sameProgram)
	case *v1alpha1.SetCatalogSpec:
		return both(x, b, sameCatalog)
	case *v1alpha1.Set:
		return both(x, b, sameSet)
	}
	return deeply(a, b)
}

// deeply compares by reflection: for what is rare, or of other types.
func deeply(a, b any) bool {
	return reflect.DeepEqual(a, b) || equality.Semantic.DeepEqual(a, b) // the former is faster, to the latter empty and absent lists are one
}

func both[T any](a *T, b any, equal func(a, b *T) bool) bool {
	other, ok := b.(*T)
	return ok && pointed(a, other, equal)
}

// pointed compares what may be absent.
func pointed[T any](a, b *T, equal func(a, b *T) bool) bool {
	return a == b || a != nil && b != nil && equal(a, b)
}

func value[T comparable](a, b *T) bool { return pointed(a, b, func(a, b *T) bool { return *a == *b }) }

// list compares lists. What is the same in the API and here is often one list.
func list[T any](a, b []T, equal func(a, b *T) bool) bool {
	if len(a) != len(b) {
		return false
	}
	if len(a) == 0 || &a[0] == &b[0] {
		return true
	}
	for i := range a {
		if !equal(&a[i], &b[i]) {
			return false
		}
	}
	return true
}

func sameState(a, b *v1alpha1.NodeStateSpec) bool {
	return list(a.Endpoints, b.Endpoints, sameEndpoint) &&
		list(a.HostEndpoints, b.HostEndpoints, sameHostEndpoint) &&
		list(a.Blocks, b.Blocks, sameLease) &&
		slices.Equal(a.Borrowed, b.Borrowed) &&
		list(a.Pools, b.Pools, samePool) &&
		slices.Equal(a.PodCIDRs, b.PodCIDRs) &&
		list(a.Tunnels, b.Tunnels, sameTunnel) &&
		pointed(a.BGP, b.BGP, func(a, b *v1alpha1.BGP) bool { return deeply(a, b) }) &&
		value(a.Inquiry, b.Inquiry) &&
		sameSettings(&a.Settings, &b.Settings)
}

func sameEndpoint(a, b *v1alpha1.Endpoint) bool {
	return a.ID == b.ID && a.UID == b.UID && a.Identity == b.Identity && a.HardwareAddress == b.HardwareAddress &&
		list(a.Ingress, b.Ingress, sameTier) && list(a.Egress, b.Egress, sameTier) &&
		slices.Equal(a.Ports, b.Ports) && slices.Equal(a.SourcePrefixes, b.SourcePrefixes) && slices.Equal(a.Floating, b.Floating) &&
		pointed(a.Bandwidth, b.Bandwidth, sameBandwidth) && pointed(a.Packets, b.Packets, samePackets) &&
		sameRequest(&a.Addresses, &b.Addresses)
}

func sameTier(a, b *v1alpha1.TierPolicies) bool {
	return a.Tier == b.Tier && a.DefaultAction == b.DefaultAction && slices.Equal(a.Policies, b.Policies)
}

func sameBandwidth(a, b *v1alpha1.Bandwidth) bool {
	return value(a.Ingress, b.Ingress) && value(a.Egress, b.Egress)
}

func samePackets(a, b *v1alpha1.PacketLimits) bool {
	return value(a.Ingress, b.Ingress) && value(a.Egress, b.Egress)
}

func sameRequest(a, b *v1alpha1.AddressRequest) bool {
	return slices.Equal(a.Pools, b.Pools) && slices.Equal(a.Fixed, b.Fixed) && a.Unmanaged == b.Unmanaged &&
		a.NamedIPv4 == b.NamedIPv4 && a.NamedIPv6 == b.NamedIPv6 && a.Impossible == b.Impossible && a.Unserved == b.Unserved
}

func sameHostEndpoint(a, b *v1alpha1.HostEndpoint) bool {
	return a.Name == b.Name && a.Interface == b.Interface && slices.Equal(a.Addresses, b.Addresses) && a.DefaultAction == b.DefaultAction &&
		sameDirections(&a.Local, &b.Local) && sameDirections(&a.Forward, &b.Forward) && sameDirections(&a.Untracked, &b.Untracked) &&
		list(a.PreDNAT, b.PreDNAT, sameTier)
}

func sameDirections(a, b *v1alpha1.DirectionPolicies) bool {
	return list(a.Ingress, b.Ingress, sameTier) && list(a.Egress, b.Egress, sameTier)
}

func sameLease(a, b *v1alpha1.BlockLease) bool {
	return a.CIDR == b.CIDR && a.Pool == b.Pool && slices.Equal(a.Reserved, b.Reserved) && a.TunnelsOnly == b.TunnelsOnly &&
		slices.Equal(a.Lent, b.Lent) && a.Withdrawn == b.Withdrawn && a.Revision == b.Revision
}

func samePool(a, b *v1alpha1.Pool) bool {
	return a.CIDR == b.CIDR && slices.Equal(a.Names, b.Names) && a.NotForPods == b.NotForPods && a.NATOutgoing == b.NATOutgoing &&
		a.Encapsulation == b.Encapsulation && a.CrossSubnet == b.CrossSubnet && a.DisableBGPExport == b.DisableBGPExport &&
		a.RoutesByBGP == b.RoutesByBGP
}

func sameTunnel(a, b *v1alpha1.Tunnel) bool {
	return a.Kind == b.Kind && a.MTU == b.MTU && a.VNI == b.VNI && a.Port == b.Port && slices.Equal(a.Pools, b.Pools)
}

func sameSettings(a, b *v1alpha1.AgentSettings) bool {
	return a.MTU == b.MTU && a.MTUInterfaces == b.MTUInterfaces && slices.Equal(a.ExternalNodes, b.ExternalNodes) &&
		a.EndpointToHostAction == b.EndpointToHostAction && a.VXLANPort == b.VXLANPort &&
		a.AllowVXLANFromPods == b.AllowVXLANFromPods && a.AllowIPIPFromPods == b.AllowIPIPFromPods && a.ServiceLoops == b.ServiceLoops &&
		slices.Equal(a.FailsafeInbound, b.FailsafeInbound) && slices.Equal(a.FailsafeOutbound, b.FailsafeOutbound) &&
		a.Dataplane == b.Dataplane && a.KeepDeniedConnections == b.KeepDeniedConnections && a.IPAMCooldownSeconds == b.IPAMCooldownSeconds
}

func sameEndpoints(a, b *v1alpha1.NodeEndpointsSpec) bool {
	return a.Count == b.Count && list(a.Endpoints, b.Endpoints, sameRemote)
}

func sameRemote(a, b *v1alpha1.RemoteEndpoint) bool {
	return a.ID == b.ID && slices.Equal(a.Identities, b.Identities) && slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Ports, b.Ports)
}

func sameNetwork(a, b *v1alpha1.NodeNetworkSpec) bool {
	return slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Blocks, b.Blocks) && slices.Equal(a.Subnets, b.Subnets) &&
		slices.Equal(a.Borrowed, b.Borrowed) && slices.Equal(a.Single, b.Single) && slices.Equal(a.Tunnels, b.Tunnels) && value(a.BGP, b.BGP)
}

func sameProgram(a, b *v1alpha1.PolicyProgramSpec) bool {
	return a.Policy == b.Policy && a.Tier == b.Tier && list(a.Ingress, b.Ingress, sameRule) && list(a.Egress, b.Egress, sameRule)
}

func sameRule(a, b *v1alpha1.Rule) bool {
	return a.Action == b.Action && a.IPVersion == b.IPVersion && value(a.Protocol, b.Protocol) && value(a.NotProtocol, b.NotProtocol) &&
		pointed(a.ICMP, b.ICMP, sameICMP) && pointed(a.NotICMP, b.NotICMP, sameICMP) &&
		sameMatch(&a.Source, &b.Source) && sameMatch(&a.Destination, &b.Destination)
}

func sameICMP(a, b *v1alpha1.ICMPMatch) bool { return value(a.Type, b.Type) && value(a.Code, b.Code) }

func sameMatch(a, b *v1alpha1.EntityMatch) bool {
	return slices.Equal(a.Sets, b.Sets) && slices.Equal(a.NotSets, b.NotSets) && slices.Equal(a.Nets, b.Nets) && slices.Equal(a.NotNets, b.NotNets) &&
		slices.Equal(a.Ports, b.Ports) && slices.Equal(a.NamedPorts, b.NamedPorts) && slices.Equal(a.PortSets, b.PortSets) &&
		slices.Equal(a.NotPorts, b.NotPorts) && slices.Equal(a.NotNamedPorts, b.NotNamedPorts)
}

func sameCatalog(a, b *v1alpha1.SetCatalogSpec) bool {
	return a.Count == b.Count && list(a.Sets, b.Sets, sameSet)
}

func sameSet(a, b *v1alpha1.Set) bool {
	return a.ID == b.ID && a.Selector == b.Selector && a.Nodes == b.Nodes && a.Service == b.Service && a.OfPorts == b.OfPorts &&
		slices.Equal(a.Identities, b.Identities) && slices.Equal(a.CIDRs, b.CIDRs) && list(a.Members, b.Members, sameMembers)
}

func sameMembers(a, b *v1alpha1.PortMembers) bool {
	return a.Protocol == b.Protocol && a.Port == b.Port && slices.Equal(a.Addresses, b.Addresses)
}
