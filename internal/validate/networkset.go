package validate

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

// NetworkSet checks a NetworkSet.
func NetworkSet(s *v3.NetworkSet) field.ErrorList { return checkMembers(s.Spec.Nets) }

// GlobalNetworkSet checks a GlobalNetworkSet.
func GlobalNetworkSet(s *v3.GlobalNetworkSet) field.ErrorList { return checkMembers(s.Spec.Nets) }

// maxMembers is how many networks a set may have.
const maxMembers = 65536

func checkMembers(nets []string) field.ErrorList {
	path := field.NewPath("spec", "nets")
	if len(nets) > maxMembers {
		return field.ErrorList{field.TooMany(path, len(nets), maxMembers)}
	}
	errs := checkOnce(path, nets)
	for i, text := range nets {
		if _, err := ParseNet(text); err != nil {
			errs = append(errs, field.Invalid(path.Index(i), text, err.Error()))
		}
	}
	return errs
}
