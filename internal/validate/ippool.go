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
	if ipip && cidr.Addr().Is6() {
		errs = append(errs, field.Invalid(spec.Child("ipipMode"), p.Spec.IPIPMode, "IPIP is for IPv4 only: use vxlanMode"))
	}
	return append(errs, checkBlockSize(spec.Child("blockSize"), p.Spec.BlockSize, cidr)...)
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
