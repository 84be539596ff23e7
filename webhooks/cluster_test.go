package webhooks

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/policy"
)

func holding(t *testing.T, objs ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v3.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objs...).
		WithIndex(&corev1.Pod{}, fieldNode, func(o client.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} }).Build()
}

func pod(namespace, name string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{ServiceAccountName: "teller"},
	}
	if change != nil {
		change(p)
	}
	return p
}

// TestSelects: a policy selects a pod, whether that has a node or none yet.
func TestSelects(t *testing.T) {
	known := []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "bank", Labels: map[string]string{"zone": "inner"}}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "bank", Name: "teller", Labels: map[string]string{"rank": "low"}}},
	}
	for name, node := range map[string]string{"bound": "n1", "unbound": ""} {
		at := func(p *corev1.Pod) { p.Spec.NodeName = node }
		pods := []client.Object{
			pod("bank", "web", at), pod("shop", "till", at),
			pod("bank", "host", func(p *corev1.Pod) { at(p); p.Spec.HostNetwork = true }),
			pod("bank", "done", func(p *corev1.Pod) { at(p); p.Status.Phase = corev1.PodSucceeded }),
		}
		world := live.New()
		for _, o := range slices.Concat(known, pods) {
			if err := world.Set(o); err != nil {
				t.Fatal(err)
			}
		}
		r := &Reader{Cached: holding(t, known...), Live: holding(t, slices.Concat(known, pods)...), Pods: world.Pods}
		for _, tc := range []struct {
			spec v3.GlobalNetworkPolicySpec
			want bool
		}{
			{v3.GlobalNetworkPolicySpec{}, true},
			{v3.GlobalNetworkPolicySpec{Selector: "app == 'web'"}, true},
			{v3.GlobalNetworkPolicySpec{Selector: "app == 'gone'"}, false},
			{v3.GlobalNetworkPolicySpec{Selector: "app == 'host'"}, false},
			{v3.GlobalNetworkPolicySpec{Selector: "app == 'done'"}, false},
			{v3.GlobalNetworkPolicySpec{NamespaceSelector: "zone == 'inner'"}, true},
			{v3.GlobalNetworkPolicySpec{NamespaceSelector: "zone == 'inner'", Selector: "app == 'till'"}, false},
			{v3.GlobalNetworkPolicySpec{ServiceAccountSelector: "rank == 'low'"}, true},
			{v3.GlobalNetworkPolicySpec{ServiceAccountSelector: "rank == 'high'"}, false},
		} {
			got, err := r.Selects(t.Context(), policy.GlobalNetworkPolicy(&v3.GlobalNetworkPolicy{Spec: tc.spec}), "")
			if err != nil || got != tc.want {
				t.Errorf("%s, %+v: got %v, %v, want %v", name, tc.spec, got, err, tc.want)
			}
		}
		for namespace, want := range map[string]bool{"shop": true, "bank": false} {
			p := &v3.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}, Spec: v3.NetworkPolicySpec{Selector: "app == 'till'"}}
			if got, err := r.Selects(t.Context(), policy.NetworkPolicy(p), namespace); err != nil || got != want {
				t.Errorf("%s, in %s: got %v, %v, want %v", name, namespace, got, err, want)
			}
		}
	}
}

func TestReader(t *testing.T) {
	c := holding(
		t,
		&v3.Tier{ObjectMeta: metav1.ObjectMeta{Name: "security"}},
		&v3.GlobalNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: v3.GlobalNetworkPolicySpec{Tier: "security"}},
		&v3.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "b"}, Spec: v3.NetworkPolicySpec{Tier: "security"}},
		&v3.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "c"}},
		&v3.StagedNetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "d"},
			Spec:       v3.StagedNetworkPolicySpec{NetworkPolicySpec: v3.NetworkPolicySpec{Tier: "security"}},
		},
		&v3.StagedGlobalNetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: "e"},
			Spec:       v3.StagedGlobalNetworkPolicySpec{GlobalNetworkPolicySpec: v3.GlobalNetworkPolicySpec{Tier: "security"}},
		},
		&v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "p"}}, &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "w"}},
	)
	// The cache is behind: it has nothing yet.
	r := &Reader{Cached: holding(t), Live: c}
	ctx := t.Context()
	if tier, err := r.Tier(ctx, "security"); err != nil || tier == nil {
		t.Errorf("a tier that was just made: %v, %v", tier, err)
	}
	if tier, err := r.Tier(ctx, "gone"); err != nil || tier != nil {
		t.Errorf("a tier that is not there: %v, %v", tier, err)
	}
	policies, err := r.PoliciesIn(ctx, "security")
	want := "GlobalNetworkPolicy a, NetworkPolicy n/b, StagedGlobalNetworkPolicy e, StagedNetworkPolicy n/d"
	if got := strings.Join(policies, ", "); err != nil || got != want {
		t.Errorf("policies of the tier are %q, %v, want %q", got, err, want)
	}
	if pools, err := r.Pools(ctx); err != nil || len(pools) != 1 {
		t.Errorf("pools are %v, %v", pools, err)
	}
	if states, err := r.NodeStates(ctx); err != nil || len(states) != 0 {
		t.Errorf("node states are %v, %v", states, err)
	}
}
