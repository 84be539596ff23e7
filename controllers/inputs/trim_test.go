package inputs

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/manul-net/manul/api/v3"
)

func fullMeta() metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: "a", Namespace: "b", UID: "u", ResourceVersion: "7", Labels: map[string]string{"app": "x"},
		Annotations: map[string]string{
			"cni.projectcalico.org/ipv4pools": `["p"]`, "projectcalico.org/IPv4Address": "10.0.0.1", "notprojectcalico.org/x": "1",
			corev1.LastAppliedConfigAnnotation: "{}", "other": "y",
		},
		OwnerReferences: []metav1.OwnerReference{{Name: "rs"}}, Finalizers: []string{"f"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
	}
}

func trimmedMeta() metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: "a", Namespace: "b", UID: "u", ResourceVersion: "7", Labels: map[string]string{"app": "x"},
		Annotations: map[string]string{"cni.projectcalico.org/ipv4pools": `["p"]`, "projectcalico.org/IPv4Address": "10.0.0.1"},
	}
}

func TestTrim(t *testing.T) {
	ports := []corev1.ContainerPort{{Name: "http", ContainerPort: 80}, {ContainerPort: 81}}
	policy := &v3.GlobalNetworkPolicy{ObjectMeta: fullMeta()}
	kept := fullMeta()
	kept.ManagedFields = nil
	delete(kept.Annotations, corev1.LastAppliedConfigAnnotation)
	for name, tc := range map[string]struct{ in, want any }{
		"pod": {
			&corev1.Pod{
				ObjectMeta: fullMeta(),
				Spec: corev1.PodSpec{
					NodeName: "n", ServiceAccountName: "s", HostNetwork: true, Volumes: []corev1.Volume{{Name: "v"}},
					Containers: []corev1.Container{{Name: "c", Image: "i", Ports: ports}, {Name: "none"}},
				},
				Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.48.0.1", Conditions: []corev1.PodCondition{{}}},
			},
			&corev1.Pod{
				ObjectMeta: trimmedMeta(),
				Spec: corev1.PodSpec{
					NodeName: "n", ServiceAccountName: "s", HostNetwork: true,
					Containers: []corev1.Container{{Name: "c", Ports: ports[:1]}},
				},
				Status: corev1.PodStatus{Phase: corev1.PodRunning},
			},
		},
		"endpoint slice": {
			&discoveryv1.EndpointSlice{
				ObjectMeta:  metav1.ObjectMeta{Namespace: "b", Name: "s-x", Labels: map[string]string{discoveryv1.LabelServiceName: "s", discoveryv1.LabelManagedBy: "m"}},
				AddressType: discoveryv1.AddressTypeIPv4,
				Endpoints: []discoveryv1.Endpoint{{
					Addresses: []string{"10.48.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true)},
					NodeName: new("n"), TargetRef: &corev1.ObjectReference{Name: "pod"},
				}},
				Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(80)), Protocol: new(corev1.ProtocolTCP)}},
			},
			&discoveryv1.EndpointSlice{
				ObjectMeta:  metav1.ObjectMeta{Namespace: "b", Name: "s-x", Labels: map[string]string{discoveryv1.LabelServiceName: "s"}},
				AddressType: discoveryv1.AddressTypeIPv4,
				Endpoints: []discoveryv1.Endpoint{{
					Addresses: []string{"10.48.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}, NodeName: new("n"),
				}},
				Ports: []discoveryv1.EndpointPort{{Port: new(int32(80)), Protocol: new(corev1.ProtocolTCP)}},
			},
		},
		"service": {
			&corev1.Service{
				ObjectMeta: fullMeta(),
				Spec: corev1.ServiceSpec{
					Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.49.0.1", ClusterIPs: []string{"10.49.0.1"}, ExternalIPs: []string{"10.50.0.1"},
					ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, Selector: map[string]string{"app": "web"},
					Ports: []corev1.ServicePort{{Port: 80}},
				},
				Status: corev1.ServiceStatus{
					LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "10.51.0.1"}}},
					Conditions:   []metav1.Condition{{}},
				},
			},
			&corev1.Service{
				ObjectMeta: trimmedMeta(),
				Spec: corev1.ServiceSpec{
					Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.49.0.1", ClusterIPs: []string{"10.49.0.1"}, ExternalIPs: []string{"10.50.0.1"},
					ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
				},
				Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "10.51.0.1"}}}},
			},
		},
		"node": {
			&corev1.Node{
				ObjectMeta: fullMeta(),
				Status: corev1.NodeStatus{
					Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}},
					Images:    []corev1.ContainerImage{{SizeBytes: 1}}, Conditions: []corev1.NodeCondition{{}},
				},
			},
			&corev1.Node{
				ObjectMeta: trimmedMeta(),
				Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}},
			},
		},
		"policy":              {policy, &v3.GlobalNetworkPolicy{ObjectMeta: kept}},
		"what is no object":   {"text", "text"},
		"nothing to take out": {&v3.Tier{}, &v3.Tier{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := NewTrim()(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("trimmed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnchanged(t *testing.T) {
	pod := func(change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: trimmedMeta()}
		if change != nil {
			change(p)
		}
		return p
	}
	node := func(address string) *corev1.Node {
		return &corev1.Node{Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Address: address}}}}
	}
	for name, tc := range map[string]struct {
		old, now any
		want     bool
	}{
		"a kubelet's heartbeat":    {pod(nil), pod(func(p *corev1.Pod) { p.ResourceVersion = "8" }), true},
		"another label":            {pod(nil), pod(func(p *corev1.Pod) { p.Labels = map[string]string{"app": "y"} }), false},
		"bound":                    {pod(nil), pod(func(p *corev1.Pod) { p.Spec.NodeName = "n" }), false},
		"finished":                 {pod(nil), pod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), false},
		"node, the same":           {node("10.0.0.1"), node("10.0.0.1"), true},
		"node, another address":    {node("10.0.0.1"), node("10.0.0.2"), false},
		"other kinds always count": {&v3.Tier{}, &v3.Tier{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := unchanged(tc.old, tc.now); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// TestReplicasShareWhatTheyHaveInCommon: what is the same in pods is kept once, and what is not is left as it is.
func TestReplicasShareWhatTheyHaveInCommon(t *testing.T) {
	trim := NewTrim()
	trimmed := func(name, app, port string) *corev1.Pod {
		out, err := trim(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "b", Labels: map[string]string{"app": app}},
			Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{Name: port, ContainerPort: 80}}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		pod, ok := out.(*corev1.Pod)
		if !ok {
			t.Fatalf("trimmed to a %T", out)
		}
		return pod
	}
	a, b, other := trimmed("a", "x", "http"), trimmed("b", "x", "http"), trimmed("c", "y", "grpc")
	if &a.Spec.Containers[0] != &b.Spec.Containers[0] || reflect.ValueOf(a.Labels).Pointer() != reflect.ValueOf(b.Labels).Pointer() {
		t.Error("two replicas do not share labels and ports")
	}
	if other.Labels["app"] != "y" || other.Spec.Containers[0].Ports[0].Name != "grpc" || a.Labels["app"] != "x" || a.Spec.Containers[0].Ports[0].Name != "http" {
		t.Errorf("pods of two workloads have each other's labels or ports: %v %v", a, other)
	}
}
