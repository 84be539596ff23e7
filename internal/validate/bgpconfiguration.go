package validate

import (
	"fmt"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

const (
	// maxServiceCIDRs is how many ranges of one kind may be advertised, maxIgnored how many patterns of interfaces there may be.
	maxServiceCIDRs, maxIgnored = 1000, 100
	// maxCommunities is how many communities, and prefixes with communities, a configuration may have.
	maxCommunities, maxCommunitiesOfPrefix = 500, 50
)

// BGPConfiguration checks a BGPConfiguration. Secrets that it names may come later.
func BGPConfiguration(c *v3.BGPConfiguration) field.ErrorList {
	s, spec := &c.Spec, field.NewPath("spec")
	node, ofNode := strings.CutPrefix(c.Name, "node.")
	var errs field.ErrorList
	if c.Name != "default" && (!ofNode || node == "") {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, "no node goes by this name: call it default, for all nodes, or node.<name> for one node"))
	}
	if ofNode {
		errs = append(errs, checkOfNode(spec, s)...)
	}
	if s.NodeToNodeMeshEnabled != nil && !*s.NodeToNodeMeshEnabled {
		if s.NodeMeshPassword != nil {
			errs = append(errs, field.Forbidden(spec.Child("nodeMeshPassword"), "it has no effect without the mesh: remove it, or write nodeToNodeMeshEnabled: true"))
		}
		if s.NodeMeshMaxRestartTime != nil {
			errs = append(errs, field.Forbidden(spec.Child("nodeMeshMaxRestartTime"), "it has no effect without the mesh: remove it, or write nodeToNodeMeshEnabled: true"))
		}
	}
	errs = append(errs, checkWord(spec.Child("logSeverityScreen"), s.LogSeverityScreen, "Trace", "Debug", "Info", "Warning", "Error", "Fatal")...)
	errs = append(errs, checkAS(spec.Child("asNumber"), s.ASNumber)...)
	if s.ListenPort != 0 {
		errs = append(errs, checkRange(spec.Child("listenPort"), &s.ListenPort, 1, maxPort)...)
	}
	errs = append(errs, checkPassword(spec.Child("nodeMeshPassword"), s.NodeMeshPassword)...)
	errs = append(errs, checkSpan(spec.Child("nodeMeshMaxRestartTime"), s.NodeMeshMaxRestartTime, 0, maxRestart)...)
	errs = append(errs, checkEnum(spec.Child("bindMode"), deref(s.BindMode), []string{"None", "NodeIP"})...)
	errs = append(errs, checkEnum(spec.Child("programClusterRoutes"), deref(s.ProgramClusterRoutes), []string{"Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"})...)
	errs = append(errs, checkEnum(spec.Child("serviceLoadBalancerAggregation"), s.ServiceLoadBalancerAggregation, []string{"Enabled", "Disabled"})...)
	errs = append(errs, checkServiceCIDRs(spec.Child("serviceClusterIPs"), s.ServiceClusterIPs, func(b v3.ServiceClusterIPBlock) string { return b.CIDR })...)
	errs = append(errs, checkServiceCIDRs(spec.Child("serviceExternalIPs"), s.ServiceExternalIPs, func(b v3.ServiceExternalIPBlock) string { return b.CIDR })...)
	errs = append(errs, checkServiceCIDRs(spec.Child("serviceLoadBalancerIPs"), s.ServiceLoadBalancerIPs, func(b v3.ServiceLoadBalancerIPBlock) string { return b.CIDR })...)
	errs = append(errs, checkNamedCommunities(spec, s, ofNode)...)
	errs = append(errs, checkIgnored(spec.Child("ignoredInterfaces"), s.IgnoredInterfaces)...)
	errs = append(errs, checkFamily(spec.Child("localWorkloadPeeringIPV4"), s.LocalWorkloadPeeringIPV4, true)...)
	errs = append(errs, checkFamily(spec.Child("localWorkloadPeeringIPV6"), s.LocalWorkloadPeeringIPV6, false)...)
	if a, err := netip.ParseAddr(s.LocalWorkloadPeeringIPV6); err == nil && a.IsLinkLocalUnicast() {
		errs = append(errs, field.Invalid(spec.Child("localWorkloadPeeringIPV6"), s.LocalWorkloadPeeringIPV6,
			"pods reach the node by a route, which a link-local address has none of: choose an address such as fd00::179"))
	}
	errs = append(errs, checkRange(spec.Child("ipv4NormalRoutePriority"), s.IPv4NormalRoutePriority, 1, maxMetric)...)
	return append(errs, checkRange(spec.Child("ipv6NormalRoutePriority"), s.IPv6NormalRoutePriority, 1, maxMetric)...)
}

// checkOfNode refuses what all nodes must agree on.
func checkOfNode(spec *field.Path, s *v3.BGPConfigurationSpec) field.ErrorList {
	var errs field.ErrorList
	if s.NodeMeshPassword != nil {
		errs = append(errs, field.Forbidden(spec.Child("nodeMeshPassword"), "both ends of each session of the mesh need the same: write it into BGPConfiguration default"))
	}
	if s.ProgramClusterRoutes != nil {
		errs = append(errs, field.Forbidden(spec.Child("programClusterRoutes"), "all nodes must agree on it: write it into BGPConfiguration default"))
	}
	return errs
}

func deref(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

func checkServiceCIDRs[T any](path *field.Path, blocks []T, cidrOf func(T) string) field.ErrorList {
	if len(blocks) > maxServiceCIDRs {
		return field.ErrorList{field.TooMany(path, len(blocks), maxServiceCIDRs)}
	}
	var errs field.ErrorList
	seen := map[netip.Prefix]bool{}
	for i, b := range blocks {
		at, text := path.Index(i).Child("cidr"), cidrOf(b)
		if text == "" {
			errs = append(errs, field.Required(at, `write a CIDR such as "10.49.0.0/16"`))
			continue
		}
		cidr, found := checkCIDR(at, text)
		errs = append(errs, found...)
		if len(found) == 0 && seen[cidr] {
			errs = append(errs, field.Duplicate(at, text))
		}
		seen[cidr] = true
	}
	return errs
}

func checkNamedCommunities(spec *field.Path, s *v3.BGPConfigurationSpec, ofNode bool) field.ErrorList {
	if n := len(s.Communities); n > maxCommunities {
		return field.ErrorList{field.TooMany(spec.Child("communities"), n, maxCommunities)}
	}
	if n := len(s.PrefixAdvertisements); n > maxCommunities {
		return field.ErrorList{field.TooMany(spec.Child("prefixAdvertisements"), n, maxCommunities)}
	}
	var errs field.ErrorList
	names := map[string]bool{}
	for i, c := range s.Communities {
		at := spec.Child("communities").Index(i)
		switch {
		case c.Name == "":
			errs = append(errs, field.Required(at.Child("name"), "write the name by which prefixAdvertisements know the community"))
		case names[c.Name]:
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		case strings.Contains(c.Name, ":"):
			errs = append(errs, field.Invalid(at.Child("name"), c.Name, `it could be taken for a value: write a name without ":"`))
		}
		names[c.Name] = true
		if err := Community(c.Value); err != nil {
			errs = append(errs, field.Invalid(at.Child("value"), c.Value, err.Error()))
		}
	}
	for i, a := range s.PrefixAdvertisements {
		at := spec.Child("prefixAdvertisements").Index(i)
		_, found := checkCIDR(at.Child("cidr"), a.CIDR)
		errs = append(errs, found...)
		if n := len(a.Communities); n > maxCommunitiesOfPrefix {
			errs = append(errs, field.TooMany(at.Child("communities"), n, maxCommunitiesOfPrefix))
			continue
		} else if n == 0 {
			errs = append(errs, field.Required(at.Child("communities"), "write the communities that routes in the prefix get"))
		}
		for j, value := range a.Communities {
			if names[value] {
				continue
			}
			// The configuration of one node may use names of the configuration of all.
			if err := Community(value); err != nil && (!ofNode || strings.Contains(value, ":")) {
				errs = append(errs, field.Invalid(at.Child("communities").Index(j), value, fmt.Sprintf("no entry of communities has this name: add one, or %v", err)))
			}
		}
	}
	return errs
}

func checkIgnored(path *field.Path, patterns []string) field.ErrorList {
	if len(patterns) > maxIgnored {
		return field.ErrorList{field.TooMany(path, len(patterns), maxIgnored)}
	}
	errs := checkOnce(path, patterns)
	for i, pattern := range patterns {
		if err := checkInterface(strings.ReplaceAll(pattern, "*", "x")); err != nil {
			errs = append(errs, field.Invalid(path.Index(i), pattern, err.Error()+"; * stands for any characters"))
		}
	}
	return errs
}

func checkFamily(path *field.Path, text string, is4 bool) field.ErrorList {
	errs := checkAddress(path, text)
	if text == "" || len(errs) > 0 {
		return errs
	}
	if addr, err := netip.ParseAddr(text); err == nil && addr.Is4() != is4 {
		return field.ErrorList{field.Invalid(path, text, "the address is of the other family: move it to the other field")}
	}
	return nil
}
