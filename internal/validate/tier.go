package validate

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

// Tier checks a Tier.
func Tier(t *v3.Tier) field.ErrorList {
	spec := field.NewPath("spec")
	errs := checkOrder(spec.Child("order"), t.Spec.Order)
	switch t.Spec.DefaultAction {
	case "", v3.Deny, v3.Pass:
	default:
		errs = append(errs, field.NotSupported(spec.Child("defaultAction"), t.Spec.DefaultAction, []v3.Action{v3.Deny, v3.Pass}))
	}
	return errs
}
