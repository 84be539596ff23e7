package oracle_test

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/test/oracle"
)

func services() []string { return []string{"s1", "s2"} }

func drawSlices(t *rapid.T) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for i := range rapid.IntRange(0, 4).Draw(t, "endpoint slices") {
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: pick(t, namespaces(), "namespace"), Name: fmt.Sprintf("slice%d", i)},
			AddressType: pick(t, []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}, "address type"),
		}
		if chance(t, 90, "has a service") {
			s.Labels = map[string]string{discoveryv1.LabelServiceName: pick(t, services(), "service")}
		}
		addrs := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "192.0.2.1"}
		if s.AddressType == discoveryv1.AddressTypeIPv6 {
			addrs = []string{"fd00::1", "fd00::2", "fd00::3", "2001:db8::1"}
		}
		for range rapid.IntRange(0, 3).Draw(t, "endpoints") {
			ready := pick(t, []*bool{nil, new(true), new(false)}, "ready")
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{pick(t, addrs, "address")}, Conditions: discoveryv1.EndpointConditions{Ready: ready}})
		}
		for range rapid.IntRange(0, 2).Draw(t, "ports") {
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{
				Port:     pick(t, []*int32{nil, new(int32(53)), new(int32(80)), new(int32(8080))}, "port"),
				Protocol: pick(t, []*corev1.Protocol{nil, new(corev1.ProtocolTCP), new(corev1.ProtocolUDP)}, "protocol"),
			})
		}
		out = append(out, s)
	}
	return out
}

// towardsService has the far end of a rule be a service.
func towardsService(t *rapid.T, r *v3.Rule, ingress, namespaced bool) {
	s := &v3.ServiceMatch{Name: pick(t, services(), "service"), Namespace: pick(t, namespaces(), "namespace of the service")}
	if namespaced && chance(t, 50, "own namespace") {
		s.Namespace = ""
	}
	if ingress {
		r.Source = v3.EntityRule{Services: s, Ports: r.Source.Ports, NotPorts: r.Source.NotPorts}
	} else {
		r.Destination = v3.EntityRule{Services: s}
	}
}

// TestServices has a client that may speak to a service, and a server that may be spoken to from one.
func TestServices(t *testing.T) {
	w := smallWorld()
	w.EndpointSlices = []*discoveryv1.EndpointSlice{{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "n1", Name: "by-hand", Labels: map[string]string{discoveryv1.LabelServiceName: "s"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}},
			{Addresses: []string{"10.0.0.3"}, Conditions: discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}},
			{Addresses: []string{"192.0.2.1"}},
		},
		Ports: []discoveryv1.EndpointPort{{Port: new(int32(8080)), Protocol: new(corev1.ProtocolUDP)}, {Port: new(int32(80))}},
	}}
	service := v3.EntityRule{Services: &v3.ServiceMatch{Name: "s"}}
	w.NetworkPolicies = []*v3.NetworkPolicy{
		{
			ObjectMeta: metav1.ObjectMeta{Namespace: "n1", Name: "client"},
			Spec:       v3.NetworkPolicySpec{Selector: "app == 'client'", Egress: []v3.Rule{{Action: v3.Allow, Destination: service}}},
		},
		{
			ObjectMeta: metav1.ObjectMeta{Namespace: "n1", Name: "other"},
			Spec:       v3.NetworkPolicySpec{Selector: "app == 'other'", Ingress: []v3.Rule{{Action: v3.Allow, Source: service}}},
		},
	}
	checkAgreement(t, w, packets(w))
	for _, tc := range []struct {
		from, to       string
		protocol, port int
		want           bool
	}{
		{"10.0.0.2", "10.0.0.1", 6, 80, true},
		{"10.0.0.2", "10.0.0.1", 6, 8080, false},
		{"10.0.0.2", "10.0.0.1", 17, 8080, true},
		{"10.0.0.2", "10.0.0.1", 1, 0, false},
		{"10.0.0.2", "10.0.0.3", 6, 80, false}, // not ready
		{"10.0.0.2", "192.0.2.1", 6, 80, true}, // no word on readiness
		{"10.0.0.1", "10.0.0.3", 6, 53, true},  // from an endpoint, to any port
		{"192.0.2.1", "10.0.0.3", 1, 0, true},
		{"10.0.0.2", "10.0.0.3", 6, 53, false},
	} {
		p := oracle.Packet{
			Source: netip.MustParseAddr(tc.from), Destination: netip.MustParseAddr(tc.to), Protocol: tc.protocol, SourcePort: 40000, DestinationPort: tc.port,
		}
		if got := w.Allowed(p); got != tc.want {
			t.Errorf("%s to %s, protocol %d, port %d: allowed is %t", tc.from, tc.to, tc.protocol, tc.port, got)
		}
	}
}
