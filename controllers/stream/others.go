package stream

import (
	"context"
	"fmt"
	"net"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/internal/wire"
)

// others finds the other replicas that serve the stream.
type others struct {
	client    client.Client
	namespace string
	// port on which this one listens.
	port string
}

func (o *others) find(ctx context.Context) ([]string, error) {
	list := &discoveryv1.EndpointSliceList{}
	if err := o.client.List(ctx, list, client.InNamespace(o.namespace), client.MatchingLabels{discoveryv1.LabelServiceName: wire.ServiceName}); err != nil {
		return nil, fmt.Errorf("looking for the other replicas: %w", err)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("looking for the addresses of this replica: %w", err)
	}
	return without(wire.Addresses(list), own, o.port), nil
}

// without leaves out the addresses of this replica, which has nobody to tell while it does not write, and does not tell itself when it does: own are
// those of the machine or pod that it is on.
func without(replicas []string, own []net.Addr, port string) []string {
	return slices.DeleteFunc(replicas, func(address string) bool {
		host, at, err := net.SplitHostPort(address)
		ip := net.ParseIP(host)
		return err == nil && at == port && slices.ContainsFunc(own, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.Equal(ip)
		})
	})
}
