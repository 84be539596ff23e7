package oracle_test

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	v3 "github.com/manul-net/manul/api/v3"
)

func drawHostEndpoints(t *rapid.T) []*v3.HostEndpoint {
	var out []*v3.HostEndpoint
	for i := range upTo(t, 4, "host endpoints") {
		at := interfaces()[upTo(t, len(interfaces())-1, "interface")]
		h := &v3.HostEndpoint{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("h%d", i), Labels: drawLabels(t)},
			Spec:       v3.HostEndpointSpec{Node: at.Node, InterfaceName: pick(t, []string{"*", at.Name, ""}, "interface name")},
		}
		if chance(t, 10, "labels that pods can't have of themselves") {
			h.Labels[pick(t, []string{"projectcalico.org/namespace", "projectcalico.org/serviceaccount", "projectcalico.org/orchestrator"}, "key")] = pick(t, []string{"n1", "robot", "k8s"}, "value")
		}
		if h.Spec.InterfaceName == "" || chance(t, 60, "addresses") {
			h.Spec.ExpectedIPs = []string{at.Addresses[0].String()}
			if chance(t, 60, "both families") {
				h.Spec.ExpectedIPs = append(h.Spec.ExpectedIPs, at.Addresses[1].String())
			}
		}
		if chance(t, 50, "profile") {
			h.Spec.Profiles = distinct(some(t, []string{"projectcalico-default-allow", "projectcalico-default-allow", "another"}, 2, "profile"))
		}
		if chance(t, 40, "ports") {
			h.Spec.Ports = []v3.EndpointPort{{
				Name: pick(t, portNames(), "port name"), Port: pick(t, []int{80, 8080, 53}, "port"),
				Protocol: pick(t, []intstr.IntOrString{intstr.FromString("TCP"), intstr.FromString("UDP"), intstr.FromInt32(132)}, "protocol"),
			}}
		}
		out = append(out, h)
	}
	return out
}

// drawFailsafe draws failsafe ports; nil when there are none but those by default.
func drawFailsafe(t *rapid.T, direction string) []v3.ProtoPort {
	if chance(t, 40, "default failsafe "+direction) {
		return nil
	}
	out := []v3.ProtoPort{}
	for range upTo(t, 2, "failsafe "+direction) {
		out = append(out, v3.ProtoPort{
			Protocol: pick(t, []string{"TCP", "", "UDP", "udp"}, "protocol"), Port: pick(t, []int{80, 53, 8080, 22}, "port"),
			Net: pick(t, []string{"", "", "192.0.2.0/24", "192.168.0.0/24", "2001:db8::/32"}, "net"),
		})
	}
	return out
}
