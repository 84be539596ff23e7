package operator

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
)

// endpointSlice is one as its controller, or a user, would have made it.
func endpointSlice(namespace, name, service string, port int32, ready ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Port: &port, Protocol: new(corev1.ProtocolTCP)}},
	}
	for _, address := range ready {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}})
	}
	return s
}

// setOf waits until some set for a service reads as wanted.
func (k *cluster) setOf(service, want string) {
	k.t.Helper()
	k.eventually("the set of service "+service+" is "+want, func() error {
		catalogs := &v1alpha1.SetCatalogList{}
		k.must(k.client.List(k.t.Context(), catalogs), "listing catalogs")
		var got []string
		for _, c := range catalogs.Items {
			for _, s := range c.Spec.Sets {
				if s.Service == service {
					got = append(got, fmt.Sprint(s.CIDRs, s.Members))
				}
			}
		}
		if strings.Join(got, " ") != want {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
}

// TestServiceInARule follows the endpoints of a service into a set, and the policy that names it to its nodes.
func TestServiceInARule(t *testing.T) {
	k := newCluster(t)
	k.agents()
	k.create(node("node1", "10.0.0.11"), namespace("shop"), namespace("other"))
	k.create(pod("shop", "client", "node1", map[string]string{"app": "client"}))
	slice := endpointSlice("shop", "database-x", "database", 5432, "10.48.9.1")
	k.create(slice, endpointSlice("other", "database-x", "database", 5432, "10.48.9.9"))
	k.operator(withPool())
	k.addressed("node1", "shop/client")

	np := networkPolicy("shop", "to-database", "app == 'client'")
	np.Spec.Types, np.Spec.Ingress = []v3.PolicyType{v3.PolicyTypeEgress}, nil
	np.Spec.Egress = []v3.Rule{{Action: v3.Allow, Destination: v3.EntityRule{Services: &v3.ServiceMatch{Name: "database"}}}}
	k.create(np)
	k.eventually("the policy is enforced", func() error {
		k.get(np)
		return condition(np, np.Status.Conditions, v3.ConditionEnforced, metav1.ConditionTrue)
	})
	k.setOf("shop/database", "[] [{6 5432 [10.48.9.1]}]")

	k.edit(slice, func() {
		slice.Endpoints[0].Conditions.Ready = new(false)
		slice.Endpoints = append(slice.Endpoints, endpointSlice("", "", "", 0, "10.48.9.2").Endpoints...)
	})
	k.setOf("shop/database", "[] [{6 5432 [10.48.9.2]}]")
	k.create(endpointSlice("shop", "by-hand", "database", 5433, "192.0.2.1"))
	k.setOf("shop/database", "[] [{6 5432 [10.48.9.2]} {6 5433 [192.0.2.1]}]")

	gnp := globalPolicy("from-database", "projectcalico.org/namespace == 'shop'")
	gnp.Spec.Ingress[0].Source = v3.EntityRule{Services: &v3.ServiceMatch{Name: "database", Namespace: "other"}}
	k.create(gnp)
	k.enforced(gnp, "1/1")
	k.setOf("other/database", "[10.48.9.9/32] []")
	k.delete(np)
	k.setOf("shop/database", "")
}

// TestHTTPRulesAreAcceptedAndMatchNothing looks at what the user is told.
func TestHTTPRulesAreAcceptedAndMatchNothing(t *testing.T) {
	k := newCluster(t)
	k.agents()
	k.create(node("node1", "10.0.0.11"), namespace("web"))
	k.operator(withPool())
	k.create(pod("web", "a", "node1", nil))
	k.addressed("node1", "web/a")

	gnp := globalPolicy("requests", "projectcalico.org/namespace == 'web'")
	gnp.Spec.Ingress[0].HTTP = &v3.HTTPMatch{Methods: []string{"GET"}}
	k.create(gnp)
	k.enforced(gnp, "1/1")
	c := meta.FindStatusCondition(gnp.Status.Conditions, v3.ConditionAccepted)
	if c == nil || c.Status != metav1.ConditionTrue || c.Reason != policy.ReasonHTTPNotEnforced || !strings.Contains(c.Message, "spec.ingress[0]") {
		t.Errorf("accepted is %+v", c)
	}
	program := &v1alpha1.PolicyProgram{ObjectMeta: metav1.ObjectMeta{Name: "gnp.requests"}}
	if !k.get(program) || len(program.Spec.Ingress) != 0 {
		t.Errorf("program is %+v, want one without rules", program.Spec)
	}
}
