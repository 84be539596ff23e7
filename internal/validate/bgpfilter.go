package validate

import (
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

// maxMetric is the greatest metric of a route that BGP writes.
const maxMetric = 2147483646

// BGPFilter checks a BGPFilter.
func BGPFilter(f *v3.BGPFilter) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	errs = append(errs, checkRulesV4(spec.Child("exportV4"), f.Spec.ExportV4)...)
	errs = append(errs, checkRulesV4(spec.Child("importV4"), f.Spec.ImportV4)...)
	errs = append(errs, checkRulesV6(spec.Child("exportV6"), f.Spec.ExportV6)...)
	return append(errs, checkRulesV6(spec.Child("importV6"), f.Spec.ImportV6)...)
}

func checkRulesV4(path *field.Path, rules []v3.BGPFilterRuleV4) field.ErrorList {
	if len(rules) > maxFilterRules {
		return field.ErrorList{field.TooMany(path, len(rules), maxFilterRules)}
	}
	var errs field.ErrorList
	for i := range rules {
		r := &rules[i]
		n := routeNet{cidr: r.CIDR, is4: true}
		if r.PrefixLength != nil {
			n.length, n.low, n.high = true, r.PrefixLength.Min, r.PrefixLength.Max
		}
		errs = append(errs, checkRoutes(path.Index(i), &r.BGPFilterMatch, n)...)
	}
	return errs
}

func checkRulesV6(path *field.Path, rules []v3.BGPFilterRuleV6) field.ErrorList {
	if len(rules) > maxFilterRules {
		return field.ErrorList{field.TooMany(path, len(rules), maxFilterRules)}
	}
	var errs field.ErrorList
	for i := range rules {
		r := &rules[i]
		n := routeNet{cidr: r.CIDR}
		if r.PrefixLength != nil {
			n.length, n.low, n.high = true, r.PrefixLength.Min, r.PrefixLength.Max
		}
		errs = append(errs, checkRoutes(path.Index(i), &r.BGPFilterMatch, n)...)
	}
	return errs
}

// routeNet is the part of a rule that differs between the families.
type routeNet struct {
	cidr      string
	is4       bool
	length    bool // prefixLength is there
	low, high *int32
}

func checkRoutes(path *field.Path, m *v3.BGPFilterMatch, n routeNet) field.ErrorList {
	var errs field.ErrorList
	if m.Action == "" {
		errs = append(errs, field.Required(path.Child("action"), "write Accept or Reject"))
	}
	errs = append(errs, checkEnum(path.Child("action"), m.Action, []string{"Accept", "Reject"})...)
	errs = append(errs, checkEnum(path.Child("matchOperator"), m.MatchOperator, []string{"Equal", "NotEqual", "In", "NotIn"})...)
	errs = append(errs, checkEnum(path.Child("source"), m.Source, []string{"RemotePeers"})...)
	errs = append(errs, checkEnum(path.Child("peerType"), m.PeerType, []string{"eBGP", "iBGP"})...)
	errs = append(errs, checkRouteNet(path, m, n)...)
	errs = append(errs, checkLength(path.Child("interface"), m.Interface, maxInterface)...)
	if m.Communities != nil {
		errs = append(errs, checkCommunities(path.Child("communities", "values"), m.Communities.Values)...)
	}
	if len(m.ASPathPrefix) > maxPathPrefix {
		errs = append(errs, field.TooMany(path.Child("asPathPrefix"), len(m.ASPathPrefix), maxPathPrefix))
	}
	errs = append(errs, checkASPath(path.Child("asPathPrefix"), m.ASPathPrefix)...)
	errs = append(errs, checkRange(path.Child("priority"), m.Priority, 1, maxMetric)...)
	if len(m.Operations) > 0 && m.Action == "Reject" {
		errs = append(errs, field.Forbidden(path.Child("operations"), "a route that is rejected can't be changed: remove operations, or write action: Accept"))
	}
	if len(m.Operations) > maxOperations {
		return append(errs, field.TooMany(path.Child("operations"), len(m.Operations), maxOperations))
	}
	for i := range m.Operations {
		errs = append(errs, checkOperation(path.Child("operations").Index(i), &m.Operations[i])...)
	}
	return errs
}

func checkRouteNet(path *field.Path, m *v3.BGPFilterMatch, n routeNet) field.ErrorList {
	switch {
	case n.cidr == "" && m.MatchOperator != "":
		return field.ErrorList{field.Required(path.Child("cidr"), "matchOperator compares routes with cidr: give both or neither")}
	case n.cidr == "" && n.length:
		return field.ErrorList{field.Required(path.Child("cidr"), "prefixLength needs cidr and matchOperator: give the network that the prefixes are in")}
	case n.cidr == "":
		return nil
	}
	cidr, errs := checkCIDR(path.Child("cidr"), n.cidr)
	if m.MatchOperator == "" {
		errs = append(errs, field.Required(path.Child("matchOperator"), "write Equal, NotEqual, In or NotIn: how routes compare with cidr"))
	}
	if cidr.IsValid() && cidr.Addr().Is4() != n.is4 {
		family, other := "IPv6", "V4"
		if n.is4 {
			family, other = "IPv4", "V6"
		}
		return append(errs, field.Invalid(path.Child("cidr"), n.cidr, "the rule is for "+family+" routes: move it to the rules whose name ends in "+other))
	}
	if n.length && (m.MatchOperator == "Equal" || m.MatchOperator == "NotEqual") {
		errs = append(errs, field.Forbidden(path.Child("prefixLength"), m.MatchOperator+" compares the length too: remove prefixLength, or write In or NotIn"))
	}
	return append(errs, checkPrefixLength(path.Child("prefixLength"), cidr, n)...)
}

func checkPrefixLength(path *field.Path, cidr netip.Prefix, n routeNet) field.ErrorList {
	greatest := int32(128)
	if n.is4 {
		greatest = 32
	}
	errs := checkRange(path.Child("min"), n.low, 0, greatest)
	errs = append(errs, checkRange(path.Child("max"), n.high, 0, greatest)...)
	switch {
	case len(errs) > 0:
	case n.low != nil && n.high != nil && *n.low > *n.high:
		errs = append(errs, field.Invalid(path.Child("min"), *n.low, "min is above max: exchange them"))
	case cidr.IsValid() && n.high != nil && int(*n.high) < cidr.Bits():
		errs = append(errs, field.Invalid(path.Child("max"), *n.high, fmt.Sprintf("no route in %s has a prefix that short: write at least %d", cidr, cidr.Bits())))
	}
	return errs
}

func checkCommunities(path *field.Path, values []v3.BGPCommunity) field.ErrorList {
	if len(values) == 0 {
		return field.ErrorList{field.Required(path, `write a community such as "65001:100", or remove communities`)}
	}
	var errs field.ErrorList
	for i, value := range values {
		if err := Community(string(value)); err != nil {
			errs = append(errs, field.Invalid(path.Index(i), string(value), err.Error()))
		}
	}
	return errs
}

func checkASPath(path *field.Path, numbers []v3.ASNumber) field.ErrorList {
	var errs field.ErrorList
	for i := range numbers {
		errs = append(errs, checkAS(path.Index(i), &numbers[i])...)
	}
	return errs
}

func checkOperation(path *field.Path, o *v3.BGPFilterOperation) field.ErrorList {
	count := 0
	var errs field.ErrorList
	if o.AddCommunity != nil {
		count++
		if err := Community(string(o.AddCommunity.Value)); err != nil {
			errs = append(errs, field.Invalid(path.Child("addCommunity", "value"), string(o.AddCommunity.Value), err.Error()))
		}
	}
	if o.PrependASPath != nil {
		count++
		at := path.Child("prependASPath", "prefix")
		if n := len(o.PrependASPath.Prefix); n == 0 {
			errs = append(errs, field.Required(at, "write the AS numbers to put before the path"))
		} else if n > maxPrepend {
			errs = append(errs, field.TooMany(at, n, maxPrepend))
		}
		errs = append(errs, checkASPath(at, o.PrependASPath.Prefix)...)
	}
	if o.SetPriority != nil {
		count++
		errs = append(errs, checkRange(path.Child("setPriority", "value"), &o.SetPriority.Value, 1, maxMetric)...)
	}
	if count != 1 {
		errs = append(errs, field.Invalid(path, count, "give exactly one of addCommunity, prependASPath and setPriority: write an operation of its own for each"))
	}
	return errs
}
