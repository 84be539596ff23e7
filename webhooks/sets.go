package webhooks

import (
	"context"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/validate"
)

func writeNetworkSet(_ context.Context, _ Cluster, obj client.Object) (verdict, error) {
	s, ok := obj.(*v3.NetworkSet)
	if !ok {
		return verdict{}, unexpected(obj)
	}
	return verdict{errs: validate.NetworkSet(s)}, nil
}

func writeGlobalNetworkSet(_ context.Context, _ Cluster, obj client.Object) (verdict, error) {
	s, ok := obj.(*v3.GlobalNetworkSet)
	if !ok {
		return verdict{}, unexpected(obj)
	}
	return verdict{errs: validate.GlobalNetworkSet(s)}, nil
}

// writeHostEndpoint checks the protocols of named ports; the rest the API server checks by the schema.
func writeHostEndpoint(_ context.Context, _ Cluster, obj client.Object) (verdict, error) {
	h, ok := obj.(*v3.HostEndpoint)
	if !ok {
		return verdict{}, unexpected(obj)
	}
	var errs field.ErrorList
	for i := range h.Spec.Ports {
		path := field.NewPath("spec", "ports").Index(i).Child("protocol")
		protocol, err := validate.ParseProtocol(h.Spec.Ports[i].Protocol)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(path, h.Spec.Ports[i].Protocol.String(), err.Error()))
		case !validate.HasPorts(protocol):
			errs = append(errs, field.Invalid(path, h.Spec.Ports[i].Protocol.String(), "ports are of protocol TCP, UDP or SCTP"))
		}
	}
	return verdict{errs: errs}, nil
}
