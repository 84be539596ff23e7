package operator

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers/policystatus"
)

// TestStagedPoliciesAreReportedAndNotEnforced has one of each kind.
func TestStagedPoliciesAreReportedAndNotEnforced(t *testing.T) {
	k := newCluster(t)
	k.agents()
	k.create(node("node1", "10.0.0.11"), node("node2", "10.0.0.12"), namespace("stage"))
	k.create(pod("stage", "a", "node1", map[string]string{"app": "a"}), pod("stage", "b", "node2", nil))
	k.operator(withPool())
	k.addressed("node1", "stage/a")
	k.addressed("node2", "stage/b")

	snp := &v3.StagedNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "stage", Name: "one"},
		Spec:       v3.StagedNetworkPolicySpec{NetworkPolicySpec: networkPolicy("stage", "one", "app == 'a'").Spec},
	}
	sgnp := &v3.StagedGlobalNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "two"},
		Spec:       v3.StagedGlobalNetworkPolicySpec{GlobalNetworkPolicySpec: globalPolicy("two", "projectcalico.org/namespace == 'stage'").Spec},
	}
	sknp := &v3.StagedKubernetesNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "stage", Name: "three"}, Spec: v3.StagedKubernetesNetworkPolicySpec{StagedAction: v3.StagedActionDelete},
	}
	k.create(snp, sgnp, sknp)
	for _, tc := range []struct {
		obj    client.Object
		status *v3.PolicyStatus
		says   string
	}{
		{snp, &snp.Status, "would apply to 1 endpoint on 1 node; not enforced"},
		{sgnp, &sgnp.Status, "would apply to 2 endpoints on 2 nodes; not enforced"},
		{sknp, &sknp.Status, "stands for deleting the NetworkPolicy of networking.k8s.io called three; not enforced"},
	} {
		k.eventually("the staged policy "+tc.obj.GetName()+" is reported on", func() error {
			k.get(tc.obj)
			if err := condition(tc.obj, tc.status.Conditions, v3.ConditionAccepted, metav1.ConditionTrue); err != nil {
				return err
			}
			accepted, enforced := meta.FindStatusCondition(tc.status.Conditions, v3.ConditionAccepted), meta.FindStatusCondition(tc.status.Conditions, v3.ConditionEnforced)
			if !strings.Contains(accepted.Message, tc.says) || enforced == nil || enforced.Status != metav1.ConditionFalse || enforced.Reason != policystatus.ReasonStaged {
				return fmt.Errorf("got %+v", tc.status)
			}
			return nil
		})
	}
	programs := &v1alpha1.PolicyProgramList{}
	k.must(k.client.List(t.Context(), programs), "listing programs")
	if e := k.endpointOf("node1", "stage/a"); len(programs.Items)+len(e.Ingress)+len(e.Egress) > 0 {
		t.Errorf("staged policies have %d programs, and the endpoint is %+v", len(programs.Items), e)
	}
}
