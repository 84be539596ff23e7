package render

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	adminv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// typed makes an empty object of a kind.
func typed(apiVersion, kind string) runtime.Object {
	switch apiVersion + " " + kind {
	case "v1 Pod":
		return &corev1.Pod{}
	case "v1 Namespace":
		return &corev1.Namespace{}
	case "v1 ServiceAccount":
		return &corev1.ServiceAccount{}
	case "v1 Node":
		return &corev1.Node{}
	case "discovery.k8s.io/v1 EndpointSlice":
		return &discoveryv1.EndpointSlice{}
	case "networking.k8s.io/v1 NetworkPolicy":
		return &networkingv1.NetworkPolicy{}
	case "projectcalico.org/v3 NetworkPolicy":
		return &v3.NetworkPolicy{}
	case "projectcalico.org/v3 GlobalNetworkPolicy":
		return &v3.GlobalNetworkPolicy{}
	case "projectcalico.org/v3 StagedNetworkPolicy":
		return &v3.StagedNetworkPolicy{}
	case "projectcalico.org/v3 StagedGlobalNetworkPolicy":
		return &v3.StagedGlobalNetworkPolicy{}
	case "projectcalico.org/v3 Tier":
		return &v3.Tier{}
	case "projectcalico.org/v3 IPPool":
		return &v3.IPPool{}
	case "projectcalico.org/v3 IPReservation":
		return &v3.IPReservation{}
	case "projectcalico.org/v3 IPAMConfiguration":
		return &v3.IPAMConfiguration{}
	case "projectcalico.org/v3 NetworkSet":
		return &v3.NetworkSet{}
	case "projectcalico.org/v3 GlobalNetworkSet":
		return &v3.GlobalNetworkSet{}
	case "projectcalico.org/v3 IPAMBlock":
		return &v3.IPAMBlock{}
	case "projectcalico.org/v3 FelixConfiguration":
		return &v3.FelixConfiguration{}
	case "projectcalico.org/v3 HostEndpoint":
		return &v3.HostEndpoint{}
	case "policy.networking.k8s.io/v1alpha1 AdminNetworkPolicy":
		return &adminv1alpha1.AdminNetworkPolicy{}
	case "manul.dev/v1alpha1 NodeState":
		return &v1alpha1.NodeState{}
	}
	return nil
}

// parse reads manifests. Pods run on node x under account default unless they say otherwise, and their UID is their name.
func parse(t testing.TB, manifests string) []runtime.Object {
	t.Helper()
	var out []runtime.Object
	for text := range strings.SplitSeq(manifests, "\n---\n") {
		var head unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(text), &head.Object); err != nil {
			t.Fatalf("reading manifest: %v\n%s", err, text)
		}
		obj := typed(head.GetAPIVersion(), head.GetKind())
		if obj == nil {
			t.Fatalf("manifest of unknown kind %s %s", head.GetAPIVersion(), head.GetKind())
		}
		if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
			t.Fatalf("reading %s %s: %v", head.GetKind(), head.GetName(), err)
		}
		if pod, ok := obj.(*corev1.Pod); ok {
			pod.UID = types.UID(pod.Name)
			if pod.Spec.NodeName == "" {
				pod.Spec.NodeName = "x"
			}
			if pod.Spec.ServiceAccountName == "" {
				pod.Spec.ServiceAccountName = "default"
			}
		}
		out = append(out, obj)
	}
	return out
}

func give(t testing.TB, c *Cluster, objects ...runtime.Object) {
	t.Helper()
	for _, obj := range objects {
		if err := c.Set(obj); err != nil {
			t.Fatal(err)
		}
	}
}

func take(t testing.TB, c *Cluster, objects ...runtime.Object) {
	t.Helper()
	for _, obj := range objects {
		if err := c.Delete(obj); err != nil {
			t.Fatal(err)
		}
	}
}

// lists writes the endpoints of node x and their policies, a line for each direction that is restricted:
// "a/web ingress default(Deny): np.a.one np.a.two".
func lists(t testing.TB, c *Cluster) string {
	t.Helper()
	state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
	if !ok {
		t.Fatal("there is no NodeState x")
	}
	var lines []string
	for _, e := range state.Spec.Endpoints {
		line := func(direction string, tiers []v1alpha1.TierPolicies) {
			if len(tiers) == 0 {
				return
			}
			parts := []string{e.ID, direction}
			for _, tier := range tiers {
				parts = append(parts, fmt.Sprintf("%s(%s): %s", tier.Tier, tier.DefaultAction, strings.Join(tier.Policies, " ")))
			}
			lines = append(lines, strings.Join(parts, " "))
		}
		line("ingress", e.Ingress)
		line("egress", e.Egress)
		if len(e.Ingress)+len(e.Egress) == 0 {
			lines = append(lines, e.ID+" unrestricted")
		}
	}
	return strings.Join(lines, "\n")
}
