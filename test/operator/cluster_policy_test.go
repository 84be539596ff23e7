package operator

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

const clusterPolicyCRD = "clusternetworkpolicies.policy.networking.k8s.io"

// installClusterPolicies installs the kind ClusterNetworkPolicy, which no cluster has from the start, until the test ends.
func (k *cluster) installClusterPolicies() {
	k.t.Helper()
	out, err := exec.CommandContext(k.t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/network-policy-api").Output()
	k.must(err, "looking for the kind ClusterNetworkPolicy")
	raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "config/crd/standard/policy.networking.k8s.io_clusternetworkpolicies.yaml"))
	k.must(err, "reading the kind ClusterNetworkPolicy")
	dir := k.t.TempDir()
	k.must(os.WriteFile(filepath.Join(dir, "crd.yaml"), raw, 0o600), "copying the kind ClusterNetworkPolicy")
	k.server.InstallCRDs(k.t, dir)
}

// removeKind removes a kind with all its objects.
func (k *cluster) removeKind(name string) {
	k.t.Helper()
	scheme := runtime.NewScheme()
	k.must(apiextensionsv1.AddToScheme(scheme), "registering CustomResourceDefinitions")
	c := k.server.Client(k.t, scheme)
	crd := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name}}
	k.must(c.Delete(k.t.Context(), crd), "deleting the kind "+name)
	k.eventually("the kind "+name+" is gone", func() error {
		err := c.Get(k.t.Context(), client.ObjectKeyFromObject(crd), crd)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("%s is still there: %w", name, err)
	})
}

// TestClusterPoliciesOfAKindThatComesLater starts an operator without the kind, and another one with it.
func TestClusterPoliciesOfAKindThatComesLater(t *testing.T) {
	k := newCluster(t)
	k.agents()
	k.create(node("node1", "10.0.0.11"), namespace("guarded"))
	k.create(pod("guarded", "a", "node1", nil))
	stop := k.operator(withPool())
	k.addressed("node1", "guarded/a")

	k.installClusterPolicies()
	everywhere := metav1.LabelSelector{}
	cnp := &clusterv1alpha2.ClusterNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "guard"},
		Spec: clusterv1alpha2.ClusterNetworkPolicySpec{
			Tier: clusterv1alpha2.AdminTier, Priority: 10,
			Subject: clusterv1alpha2.ClusterNetworkPolicySubject{Namespaces: &everywhere},
			Ingress: []clusterv1alpha2.ClusterNetworkPolicyIngressRule{{
				Action: clusterv1alpha2.ClusterNetworkPolicyRuleActionDeny, From: []clusterv1alpha2.ClusterNetworkPolicyIngressPeer{{Namespaces: &everywhere}},
			}},
		},
	}
	k.create(cnp)
	program := &v1alpha1.PolicyProgram{ObjectMeta: metav1.ObjectMeta{Name: "cnp.guard"}}
	k.eventually("the policy is enforced", func() error {
		k.get(program)
		if program.Status.Enforced != "1/1" || !meta.IsStatusConditionTrue(program.Status.Conditions, v3.ConditionEnforced) {
			return fmt.Errorf("status is %+v", program.Status)
		}
		return nil
	})
	k.eventually("the policy says so", func() error {
		k.get(cnp)
		if err := condition(cnp, cnp.Status.Conditions, v3.ConditionAccepted, metav1.ConditionTrue); err != nil {
			return err
		}
		return condition(cnp, cnp.Status.Conditions, v3.ConditionEnforced, metav1.ConditionTrue)
	})
	e := k.endpointOf("node1", "guarded/a")
	if len(e.Ingress) != 1 || e.Ingress[0].Tier != "kube-admin" || e.Ingress[0].DefaultAction != v1alpha1.Pass || len(e.Egress) != 0 {
		t.Errorf("the endpoint is %+v", e)
	}

	writes := k.tally()
	writes.quiet()
	stop()
	before := len(writes.quiet())
	k.operator(withPool())
	k.create(pod("guarded", "proof", "node1", nil))
	k.addressed("node1", "guarded/proof")
	for _, write := range writes.quiet()[before:] {
		if strings.HasSuffix(write, "cnp.guard") {
			t.Errorf("the new operator wrote %s, though the policy has not changed", write)
		}
	}

	k.delete(cnp)
	k.eventually("the program is gone", func() error {
		if k.get(program) {
			return fmt.Errorf("%s is still there", program.Name)
		}
		return nil
	})
	k.removeKind(clusterPolicyCRD)
}
