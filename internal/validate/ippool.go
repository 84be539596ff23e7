package validate

import (
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

// IPPool checks an IPPool.
func IPPool(p *v3.IPPool) field.ErrorList {
	spec := field.NewPath("spec")
	errs := checkSelector(spec.Child("nodeSelector"), p.Spec.NodeSelector, false)
	errs = append(errs, checkSelector(spec.Child("namespaceSelector"), p.Spec.NamespaceSelector, false)...)
	vxlan := p.Spec.VXLANMode != "" && p.Spec.VXLANMode != v3.EncapNever
	ipip := p.Spec.IPIPMode != "" && p.Spec.IPIPMode != v3.EncapNever
	if vxlan && ipip {
		errs = append(errs, field.Invalid(spec.Child("vxlanMode"), p.Spec.VXLANMode, "a pool has one kind of tunnel: set ipipMode or vxlanMode to Never"))
	}
	modes := []v3.EncapMode{v3.EncapNever, v3.EncapAlways, v3.EncapCrossSubnet}
	errs = append(errs, checkEnum(spec.Child("vxlanMode"), p.Spec.VXLANMode, modes)...)
	errs = append(errs, checkEnum(spec.Child("ipipMode"), p.Spec.IPIPMode, modes)...)
	errs = append(errs, checkEnum(spec.Child("assignmentMode"), p.Spec.AssignmentMode, []v3.AssignmentMode{v3.AssignmentAutomatic, v3.AssignmentManual})...)
	errs = append(errs, checkUses(spec.Child("allowedUses"), p.Spec.AllowedUses)...)
	cidr, err := ParseCIDR(p.Spec.CIDR)
	if err != nil {
		return append(errs, field.Invalid(spec.Child("cidr"), p.Spec.CIDR, err.Error()))
	}
	for _, use := range unusable() {
		if use.net.Overlaps(cidr) {
			errs = append(errs, field.Invalid(spec.Child("cidr"), p.Spec.CIDR, fmt.Sprintf("has addresses in common with %s, which are for %s: choose another network", use.net, use.what)))
			break
		}
	}
	if ipip && cidr.Addr().Is6() {
		errs = append(errs, field.Invalid(spec.Child("ipipMode"), p.Spec.IPIPMode, "IPIP is for IPv4 only: use vxlanMode"))
	}
	return append(errs, checkBlockSize(spec.Child("blockSize"), p.Spec.BlockSize, cidr)...)
}

// reserved is a network of which no address can be that of a pod or of a service.
type reserved struct {
	net  netip.Prefix
	what string
}

// unusable lists the networks that a pool must keep clear of. So a pool of all addresses is refused, too.
func unusable() []reserved {
	return []reserved{
		{netip.MustParsePrefix("0.0.0.0/8"), "hosts that have no address yet"},
		{netip.MustParsePrefix("127.0.0.0/8"), "a host's talk with itself"},
		{netip.MustParsePrefix("169.254.0.0/16"), "one link only"},
		{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
		{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
		{netip.MustParsePrefix("::/127"), "hosts that have no address yet, and a host's talk with itself"},
		{netip.MustParsePrefix("fe80::/10"), "one link only"},
		{netip.MustParsePrefix("ff00::/8"), "multicast"},
	}
}

// maxUses is how many purposes a pool may be allowed for.
const maxUses = 10

func checkUses(path *field.Path, uses []v3.IPPoolAllowedUse) field.ErrorList {
	if len(uses) > maxUses {
		return field.ErrorList{field.TooMany(path, len(uses), maxUses)}
	}
	errs := checkOnce(path, uses)
	all := []v3.IPPoolAllowedUse{v3.IPPoolAllowedUseWorkload, v3.IPPoolAllowedUseTunnel, v3.IPPoolAllowedUseLoadBalancer}
	for i, use := range uses {
		if !slices.Contains(all, use) {
			errs = append(errs, field.NotSupported(path.Index(i), use, all))
		}
	}
	if len(uses) > 1 && slices.Contains(uses, v3.IPPoolAllowedUseLoadBalancer) {
		errs = append(errs, field.Forbidden(path, "LoadBalancer stands alone: make a pool of its own for services"))
	}
	return errs
}

func checkBlockSize(path *field.Path, size int, pool netip.Prefix) field.ErrorList {
	low, high, fallback := 20, 32, 26
	if pool.Addr().Is6() {
		low, high, fallback = 116, 128, 122
	}
	if size == 0 {
		size = fallback
	}
	if size < low || size > high {
		return field.ErrorList{field.Invalid(path, size, fmt.Sprintf("a block size is from %d to %d", low, high))}
	}
	if size < pool.Bits() {
		return field.ErrorList{field.Invalid(path, size, fmt.Sprintf("a block is larger than its pool: write at least %d", pool.Bits()))}
	}
	return nil
}
