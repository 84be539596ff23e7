package oracle_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/test/oracle"
)

// smallWorld has one policy in which every match matters to some packet.
func smallWorld() *oracle.World {
	pod := func(name, app, ip string, port int32) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "n1", Name: name, UID: types.UID(name), Labels: map[string]string{"app": app}},
			Spec: corev1.PodSpec{NodeName: "x", ServiceAccountName: "default", Containers: []corev1.Container{{
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port}},
			}}},
			Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: ip}}},
		}
	}
	tcp, udp := intstr.FromString("TCP"), intstr.FromString("UDP")
	return &oracle.World{
		Namespaces: []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}},
		Pods:       []*corev1.Pod{pod("web", "web", "10.0.0.1", 80), pod("client", "client", "10.0.0.2", 8080), pod("other", "other", "10.0.0.3", 53)},
		NetworkPolicies: []*v3.NetworkPolicy{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "n1", Name: "web"},
			Spec: v3.NetworkPolicySpec{
				Selector: "app == 'web'",
				Ingress: []v3.Rule{
					{Action: v3.Deny, Protocol: &tcp, Source: v3.EntityRule{NotSelector: "app == 'client'"}, Destination: v3.EntityRule{Ports: []intstr.IntOrString{intstr.FromInt32(80)}}},
					{Action: v3.Allow, Protocol: &tcp, Source: v3.EntityRule{Nets: []string{"192.0.2.0/24"}}, Destination: v3.EntityRule{Ports: []intstr.IntOrString{intstr.FromString("http"), intstr.FromInt32(53)}}},
					{Action: v3.Allow, Protocol: &tcp, Source: v3.EntityRule{Nets: []string{"10.0.0.0/24"}, NotNets: []string{"10.0.0.3/32"}}, Destination: v3.EntityRule{Ports: []intstr.IntOrString{intstr.FromInt32(80), intstr.FromString("8080:9000")}, NotPorts: []intstr.IntOrString{intstr.FromInt32(8081)}}},
					{Action: v3.Allow, Protocol: &udp, Source: v3.EntityRule{Selector: "app == 'other'"}},
				},
			},
		}},
	}
}

// mutations of a rule, each of which changes what it means.
func mutations() map[string]func(*v1alpha1.Rule) bool {
	return map[string]func(*v1alpha1.Rule) bool{
		"action": func(r *v1alpha1.Rule) bool {
			if r.Action == v1alpha1.Allow {
				r.Action = v1alpha1.Deny
			} else {
				r.Action = v1alpha1.Allow
			}
			return true
		},
		"no protocol": func(r *v1alpha1.Rule) bool { had := r.Protocol != nil; r.Protocol = nil; return had },
		"no sets":     func(r *v1alpha1.Rule) bool { had := r.Source.Sets != nil; r.Source.Sets = nil; return had },
		"no not-sets": func(r *v1alpha1.Rule) bool { had := r.Source.NotSets != nil; r.Source.NotSets = nil; return had },
		"no nets":     func(r *v1alpha1.Rule) bool { had := r.Source.Nets != nil; r.Source.Nets = nil; return had },
		"no not-nets": func(r *v1alpha1.Rule) bool { had := r.Source.NotNets != nil; r.Source.NotNets = nil; return had },
		"fewer ports": func(r *v1alpha1.Rule) bool {
			had := r.Destination.Ports != nil
			r.Destination.Ports = r.Destination.Ports[:len(r.Destination.Ports)/2]
			return had
		},
		"no not-ports": func(r *v1alpha1.Rule) bool {
			had := r.Destination.NotPorts != nil
			r.Destination.NotPorts = nil
			return had
		},
		"no named ports": func(r *v1alpha1.Rule) bool {
			had := r.Destination.NamedPorts != nil
			r.Destination.NamedPorts = nil
			return had
		},
		"wrong direction": func(r *v1alpha1.Rule) bool { r.Source, r.Destination = r.Destination, r.Source; return true },
	}
}

func TestEveryMutationOfARuleIsNoticed(t *testing.T) {
	w := smallWorld()
	all := packets(w)
	for _, p := range packets(w) {
		if p.Protocol == 6 && p.DestinationPort == 8080 {
			p.DestinationPort = 8081
			all = append(all, p)
		}
	}
	checkAgreement(t, w, all)
	rules := len(compile(t, w).Programs["np.n1.web"].Spec.Ingress)
	for i := range rules {
		for name, mutate := range mutations() {
			r := compile(t, w)
			program := r.Programs["np.n1.web"].DeepCopy()
			r.Programs["np.n1.web"] = program
			if !mutate(&program.Spec.Ingress[i]) {
				continue // the rule has nothing of that kind
			}
			t.Run(strings.ReplaceAll(fmt.Sprintf("rule %d: %s", i, name), " ", "_"), func(t *testing.T) {
				if _, found := disagreement(w, r, all); !found {
					t.Errorf("nobody noticed that rule %d has become %+v", i, program.Spec.Ingress[i])
				}
			})
		}
	}
}

func TestWrongMembersAndListsAreNoticed(t *testing.T) {
	w := smallWorld()
	for name, mutate := range map[string]func(*oracle.Rendered){
		"a set without members": func(r *oracle.Rendered) {
			for _, c := range r.Catalogs {
				for i := range c.Spec.Sets {
					c.Spec.Sets[i].Identities = nil
				}
			}
		},
		"an endpoint without policies": func(r *oracle.Rendered) { r.States["x"].Spec.Endpoints[2].Ingress = nil },
		"a tier that passes":           func(r *oracle.Rendered) { r.States["x"].Spec.Endpoints[2].Ingress[0].DefaultAction = v1alpha1.Pass },
		"another identity": func(r *oracle.Rendered) {
			e := r.Endpoints["x"].Spec.Endpoints
			e[0].Identities, e[1].Identities = e[1].Identities, e[0].Identities
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := compile(t, w)
			mutate(r)
			if _, found := disagreement(w, r, packets(w)); !found {
				t.Error("nobody noticed")
			}
		})
	}
}
