package wire

import (
	"net"
	"strconv"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// Addresses are those of the replicas that are ready, host:port.
func Addresses(list *discoveryv1.EndpointSliceList) []string {
	var out []string
	for i := range list.Items {
		slice := &list.Items[i]
		port := int32(Port)
		for _, p := range slice.Ports {
			if p.Port != nil {
				port = *p.Port
			}
		}
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, address := range e.Addresses {
				out = append(out, net.JoinHostPort(address, strconv.Itoa(int(port))))
			}
		}
	}
	return out
}
