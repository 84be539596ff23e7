package validate

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

// Bounds of an IPAMConfiguration.
const maxBlocks, maxCooldown = 1_000_000, 1200

// IPReservation checks an IPReservation.
func IPReservation(r *v3.IPReservation) field.ErrorList {
	path := field.NewPath("spec", "reservedCIDRs")
	errs := checkOnce(path, r.Spec.ReservedCIDRs)
	for i, text := range r.Spec.ReservedCIDRs {
		if _, err := ParseCIDR(text); err != nil {
			errs = append(errs, field.Invalid(path.Index(i), text, err.Error()))
		}
	}
	return errs
}

// IPAMConfiguration checks an IPAMConfiguration.
func IPAMConfiguration(c *v3.IPAMConfiguration) field.ErrorList {
	spec := field.NewPath("spec")
	errs := checkRange(spec.Child("maxBlocksPerHost"), &c.Spec.MaxBlocksPerHost, 0, maxBlocks)
	errs = append(errs, checkRange(spec.Child("ipCooldownSeconds"), c.Spec.IPCooldownSeconds, 0, maxCooldown)...)
	if p := c.Spec.KubeVirtVMAddressPersistence; p != nil && *p != v3.VMAddressPersistenceEnabled && *p != v3.VMAddressPersistenceDisabled {
		errs = append(errs, field.NotSupported(spec.Child("kubeVirtVMAddressPersistence"), *p,
			[]v3.VMAddressPersistence{v3.VMAddressPersistenceEnabled, v3.VMAddressPersistenceDisabled}))
	}
	return errs
}
