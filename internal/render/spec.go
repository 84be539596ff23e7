package render

import (
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
)

// SpecOf is the operator's part of a rendered object, a pointer to its spec; nil: the object is none of the rendered kinds.
func SpecOf(obj runtime.Object) any {
	switch o := obj.(type) {
	case *v1alpha1.NodeState:
		return &o.Spec
	case *v1alpha1.NodeEndpoints:
		return &o.Spec
	case *v1alpha1.SetCatalog:
		return &o.Spec
	case *v1alpha1.NodeNetwork:
		return &o.Spec
	case *v1alpha1.PolicyProgram:
		return &o.Spec
	}
	return nil
}
