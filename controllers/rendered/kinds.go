package rendered

import (
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
)

// empty returns an object of the given kind without content.
func empty(kind render.Kind) (client.Object, error) {
	switch kind {
	case render.KindNodeState:
		return &v1alpha1.NodeState{}, nil
	case render.KindNodeEndpoints:
		return &v1alpha1.NodeEndpoints{}, nil
	case render.KindNodeNetwork:
		return &v1alpha1.NodeNetwork{}, nil
	case render.KindPolicyProgram:
		return &v1alpha1.PolicyProgram{}, nil
	case render.KindSetCatalog:
		return &v1alpha1.SetCatalog{}, nil
	}
	return nil, fmt.Errorf("%q is not a rendered kind", kind)
}

// specOf returns a pointer to the object's spec: the operator's part of it.
func specOf(obj client.Object) (any, error) {
	spec := render.SpecOf(obj)
	if spec == nil {
		return nil, fmt.Errorf("%T is not a rendered kind", obj)
	}
	return spec, nil
}
