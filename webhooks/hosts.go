package webhooks

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/validate"
)

func writeHostEndpoint(_ context.Context, _ Cluster, obj client.Object) (verdict, error) {
	h, ok := obj.(*v3.HostEndpoint)
	if !ok {
		return verdict{}, unexpected(obj)
	}
	return verdict{errs: validate.HostEndpoint(h)}, nil
}
