package oracle_test

import (
	"testing"

	"pgregory.net/rapid"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/test/oracle"
)

// drawStaged adds staged policies, in the same tiers and under the same names as others.
func drawStaged(t *rapid.T, w *oracle.World) {
	action := pick(t, []v3.StagedAction{"", v3.StagedActionSet, v3.StagedActionLearn, v3.StagedActionIgnore}, "staged action")
	for i := range rapid.IntRange(0, 1).Draw(t, "staged policies") {
		p := drawNetworkPolicy(t, i)
		w.StagedNetworkPolicies = append(w.StagedNetworkPolicies, &v3.StagedNetworkPolicy{
			ObjectMeta: p.ObjectMeta, Spec: v3.StagedNetworkPolicySpec{StagedAction: action, NetworkPolicySpec: p.Spec},
		})
	}
	for i := range rapid.IntRange(0, 1).Draw(t, "staged global policies") {
		p := drawGlobalPolicy(t, i)
		w.StagedGlobalPolicies = append(w.StagedGlobalPolicies, &v3.StagedGlobalNetworkPolicy{
			ObjectMeta: p.ObjectMeta, Spec: v3.StagedGlobalNetworkPolicySpec{StagedAction: action, GlobalNetworkPolicySpec: p.Spec},
		})
	}
	for i := range rapid.IntRange(0, 1).Draw(t, "staged Kubernetes policies") {
		p := drawKubernetesPolicy(t, i)
		w.StagedKubernetesPolicies = append(w.StagedKubernetesPolicies, &v3.StagedKubernetesNetworkPolicy{
			ObjectMeta: p.ObjectMeta, Spec: v3.StagedKubernetesNetworkPolicySpec{
				StagedAction: action, PodSelector: p.Spec.PodSelector, Ingress: p.Spec.Ingress, Egress: p.Spec.Egress, PolicyTypes: p.Spec.PolicyTypes,
			},
		})
	}
}

// TestATierWithNothingButStagedPoliciesPasses though its default action is Deny.
func TestATierWithNothingButStagedPoliciesPasses(t *testing.T) {
	w := smallWorld()
	p := w.NetworkPolicies[0]
	w.NetworkPolicies = nil
	w.StagedNetworkPolicies = []*v3.StagedNetworkPolicy{{ObjectMeta: p.ObjectMeta, Spec: v3.StagedNetworkPolicySpec{NetworkPolicySpec: p.Spec}}}
	checkAgreement(t, w, packets(w))
	r := compile(t, w)
	if len(r.Programs)+len(r.Catalogs) > 0 {
		t.Errorf("a staged policy has %d programs and %d sets", len(r.Programs), len(r.Catalogs))
	}
	for _, packet := range packets(w) {
		if !r.Allowed(packet) {
			t.Fatalf("packet %+v is denied", packet)
		}
	}
}
