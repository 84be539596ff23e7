package routing

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
)

// Judge says whether the export rules of some filters let a route pass that the node has of itself: of its blocks, pods and services. The
// first rule that matches decides; what none matches passes. why names the rule; it is empty when none matches. internal: the peer has
// the node's AS number in the session.
func Judge(filters []v1alpha1.BGPRouteFilter, names []string, route netip.Prefix, communities []string, internal bool) (passes bool, why string) {
	for _, name := range names {
		i := slices.IndexFunc(filters, func(f v1alpha1.BGPRouteFilter) bool { return f.Name == name })
		if i < 0 {
			return false, fmt.Sprintf("filter %s is not there, and the session is not made without it", name)
		}
		for j := range filters[i].Export {
			r := &filters[i].Export[j]
			if !matches(r, route, communities, internal) {
				continue
			}
			if r.Accept {
				return true, fmt.Sprintf("export rule %d of BGPFilter %s accepts it", j+1, name)
			}
			return false, fmt.Sprintf("export rule %d of BGPFilter %s rejects it", j+1, name)
		}
	}
	return true, ""
}

// matches tells whether a rule matches a route of the node's own: one that was not learned, over no interface, with an empty path.
func matches(r *v1alpha1.BGPRouteRule, route netip.Prefix, communities []string, internal bool) bool {
	family := int32(4)
	if route.Addr().Is6() {
		family = 6
	}
	switch {
	case r.Family != family || r.RemotePeers || r.Interface != "" || r.Priority != 0 || len(r.ASPathPrefix) > 0:
		return false
	case r.PeerType != "" && (r.PeerType == "iBGP") != internal:
		return false
	case r.MinLength != nil && route.Bits() < int(*r.MinLength), r.MaxLength != nil && route.Bits() > int(*r.MaxLength):
		return false
	case slices.ContainsFunc(r.Communities, func(c string) bool { return !slices.Contains(communities, c) }):
		return false
	case r.Operator == "":
		return true
	}
	cidr, err := netip.ParsePrefix(r.CIDR)
	if err != nil {
		return false
	}
	cidr = cidr.Masked()
	inside := cidr.Bits() <= route.Bits() && cidr.Contains(route.Addr())
	switch r.Operator {
	case "Equal":
		return cidr == route
	case "NotEqual":
		return cidr != route
	case "In":
		return inside
	case "NotIn":
		return !inside
	}
	return false
}
