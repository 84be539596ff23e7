package operator

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	adminv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// adminKinds are the kinds of the older version of the API, by the plural of their names.
func adminKinds() map[string]string {
	return map[string]string{"adminnetworkpolicies": "AdminNetworkPolicy", "baselineadminnetworkpolicies": "BaselineAdminNetworkPolicy"}
}

// installAdminPolicies installs these kinds. The module of the API has their types and no longer their definitions, so what
// these let pass is anything.
func (k *cluster) installAdminPolicies() {
	k.t.Helper()
	const definition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: PLURAL.policy.networking.k8s.io
  annotations: {api-approved.kubernetes.io: "unapproved, for a test"}
spec:
  group: policy.networking.k8s.io
  names: {kind: KIND, listKind: KINDList, plural: PLURAL}
  scope: Cluster
  versions:
  - name: v1alpha1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`
	dir := k.t.TempDir()
	for plural, kind := range adminKinds() {
		text := strings.NewReplacer("PLURAL", plural, "KIND", kind).Replace(definition)
		k.must(os.WriteFile(filepath.Join(dir, plural+".yaml"), []byte(text), 0o600), "writing the kind "+kind)
	}
	k.server.InstallCRDs(k.t, dir)
}

// TestAdminPolicies follows policies of the older version of the API, whose kinds come while the operator runs.
func TestAdminPolicies(t *testing.T) {
	k := newCluster(t)
	k.agents()
	k.create(node("node1", "10.0.0.11"), namespace("administered"))
	k.create(pod("administered", "a", "node1", nil))
	k.operator(withPool())
	k.addressed("node1", "administered/a")

	k.installAdminPolicies()
	everywhere := metav1.LabelSelector{}
	subject := adminv1alpha1.AdminNetworkPolicySubject{Namespaces: &everywhere}
	anp := &adminv1alpha1.AdminNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "guard"},
		Spec: adminv1alpha1.AdminNetworkPolicySpec{Priority: 10, Subject: subject, Egress: []adminv1alpha1.AdminNetworkPolicyEgressRule{{
			Action: adminv1alpha1.AdminNetworkPolicyRuleActionDeny, To: []adminv1alpha1.AdminNetworkPolicyEgressPeer{{Nodes: &everywhere}},
		}}},
	}
	banp := &adminv1alpha1.BaselineAdminNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec: adminv1alpha1.BaselineAdminNetworkPolicySpec{Subject: subject, Ingress: []adminv1alpha1.BaselineAdminNetworkPolicyIngressRule{{
			Action: adminv1alpha1.BaselineAdminNetworkPolicyRuleActionDeny, From: []adminv1alpha1.AdminNetworkPolicyIngressPeer{{Namespaces: &everywhere}},
		}}},
	}
	k.create(anp, banp)
	for _, obj := range []client.Object{anp, banp} {
		k.eventually(obj.GetName()+" says that it is enforced", func() error {
			k.get(obj)
			conditions := anp.Status.Conditions
			if obj == banp {
				conditions = banp.Status.Conditions
			}
			if err := condition(obj, conditions, v3.ConditionAccepted, metav1.ConditionTrue); err != nil {
				return err
			}
			return condition(obj, conditions, v3.ConditionEnforced, metav1.ConditionTrue)
		})
	}
	e := k.endpointOf("node1", "administered/a")
	if len(e.Ingress) != 1 || e.Ingress[0].Tier != "kube-baseline" || len(e.Egress) != 1 || e.Egress[0].Tier != "kube-admin" {
		t.Errorf("the endpoint is %+v", e)
	}
	sets := &v1alpha1.SetCatalogList{}
	k.must(k.client.List(t.Context(), sets), "listing sets")
	var nodes []string
	for _, shard := range sets.Items {
		for _, set := range shard.Spec.Sets {
			if set.Nodes != "" {
				nodes = append(nodes, set.CIDRs...)
			}
		}
	}
	if got := fmt.Sprint(nodes); got != "[10.0.0.11/32]" {
		t.Errorf("the nodes' addresses are %s", got)
	}

	k.delete(anp, banp)
	k.eventually("their programs are gone", func() error {
		for _, name := range []string{"anp.guard", "banp.default"} {
			if k.get(&v1alpha1.PolicyProgram{ObjectMeta: metav1.ObjectMeta{Name: name}}) {
				return fmt.Errorf("%s is there", name)
			}
		}
		return nil
	})
	for plural := range adminKinds() {
		k.removeKind(plural + ".policy.networking.k8s.io")
	}
}
