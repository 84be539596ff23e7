package inputs

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/render"
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
					Containers: []corev1.Container{{Name: "c", Image: "i"}},
				},
				Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.48.0.1", Conditions: []corev1.PodCondition{{}}},
			},
			&render.Pod{
				ID: "b/a", UID: "u", ResourceVersion: "7", Node: "n", Account: "s", Labels: map[string]string{"app": "x"},
				Annotations: trimmedMeta().Annotations,
			},
		},
		"pod with a network of its own": {
			&corev1.Pod{
				ObjectMeta: fullMeta(),
				Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Image: "i", Ports: ports}, {Name: "none"}}},
			},
			&render.Pod{
				ID: "b/a", UID: "u", ResourceVersion: "7", Node: "n", Networked: true, Labels: map[string]string{"app": "x"},
				Annotations: trimmedMeta().Annotations, Ports: []v1alpha1.NamedPort{{Name: "http", Protocol: 6, Port: 80}},
			},
		},
		"static pod: the runtime asks by the UID that the kubelet gave it": {
			&corev1.Pod{ObjectMeta: metav1.ObjectMeta{
				Namespace: "b", Name: "a", UID: "u", Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "0a1b2c"},
			}},
			&render.Pod{ID: "b/a", UID: "0a1b2c"},
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
	pod := func(change func(*render.Pod)) *render.Pod {
		p := render.PodOf(&corev1.Pod{ObjectMeta: trimmedMeta(), Spec: corev1.PodSpec{NodeName: "n"}})
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
		"a kubelet's heartbeat":    {pod(nil), pod(func(p *render.Pod) { p.ResourceVersion = "8" }), true},
		"another label":            {pod(nil), pod(func(p *render.Pod) { p.Labels = map[string]string{"app": "y"} }), false},
		"another annotation":       {pod(nil), pod(func(p *render.Pod) { p.Annotations = nil }), false},
		"another of its name":      {pod(nil), pod(func(p *render.Pod) { p.UID = "v" }), false},
		"another account":          {pod(nil), pod(func(p *render.Pod) { p.Account = "t" }), false},
		"another port":             {pod(nil), pod(func(p *render.Pod) { p.Ports = []v1alpha1.NamedPort{{Name: "http"}} }), false},
		"bound":                    {pod(nil), pod(func(p *render.Pod) { p.Node = "m" }), false},
		"finished":                 {pod(nil), pod(func(p *render.Pod) { p.Networked = false }), false},
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
	trimmed := func(name, app, port string) *render.Pod {
		out, err := trim(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "b", Labels: map[string]string{"app": app}},
			Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{Name: port, ContainerPort: 80}}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		pod, ok := out.(*render.Pod)
		if !ok {
			t.Fatalf("trimmed to a %T", out)
		}
		return pod
	}
	a, b, other := trimmed("a", "x", "http"), trimmed("b", "x", "http"), trimmed("c", "y", "grpc")
	if &a.Ports[0] != &b.Ports[0] || reflect.ValueOf(a.Labels).Pointer() != reflect.ValueOf(b.Labels).Pointer() {
		t.Error("two replicas do not share labels and ports")
	}
	if other.Labels["app"] != "y" || other.Ports[0].Name != "grpc" || a.Labels["app"] != "x" || a.Ports[0].Name != "http" {
		t.Errorf("pods of two workloads have each other's labels or ports: %v %v", a, other)
	}
}
