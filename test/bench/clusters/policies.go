package clusters

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	v3 "github.com/manul-net/manul/api/v3"
)

const (
	// guardrailEvery is how many policies there are to one that is global.
	guardrailEvery = 100
	// kubernetesEvery: of so many policies of an application one is written in the API of Kubernetes.
	kubernetesEvery = 3
	// foreignEvery: of so many policies of an application one lets in pods of another namespace.
	foreignEvery = 4
	// basePort is what applications serve.
	basePort = 8080
)

// IsGlobal tells whether policy i is a global guardrail.
func IsGlobal(i int) bool { return i%guardrailEvery == guardrailEvery-1 }

// Policy i, in one of several versions: of each namespace one denies by default, the others let one application reach another, or the
// partners' networks; of 100 policies one is a global guardrail: it closes networks, the metadata service of the cloud among them, or lets
// applications of one kind go on to the policies of their namespaces.
func (c *Cluster) Policy(i, version int) runtime.Object {
	meta := metav1.ObjectMeta{Name: fmt.Sprintf("policy-%d", i), UID: types.UID(fmt.Sprintf("policy-%d", i)), Generation: int64(version + 1)}
	app := i / c.Namespaces % AppsOfNamespace
	if IsGlobal(i) {
		return c.guardrail(meta, i, app, version)
	}
	namespace := i % c.Namespaces
	meta.Namespace = NamespaceName(namespace)
	if i < c.Namespaces {
		if i%2 == 0 {
			return &networkingv1.NetworkPolicy{ObjectMeta: meta, Spec: networkingv1.NetworkPolicySpec{
				PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			}}
		}
		return &v3.NetworkPolicy{ObjectMeta: meta, Spec: v3.NetworkPolicySpec{Selector: "all()", Types: []v3.PolicyType{v3.PolicyTypeIngress, v3.PolicyTypeEgress}}}
	}
	// An application lets in the one that is so many numbers above it, which by a policy of its own may go there.
	step := 1 + i/c.Namespaces/AppsOfNamespace%(AppsOfNamespace-1)
	client, server := (app+step)%AppsOfNamespace, (app-step+AppsOfNamespace)%AppsOfNamespace
	if i%kubernetesEvery == 0 {
		return kubernetesPolicy(meta, app, client, server, basePort+version)
	}
	tcp := intstr.FromString("TCP")
	port := intstr.FromInt(basePort + version)
	from := v3.EntityRule{Selector: fmt.Sprintf(`app == "app-%d"`, client)}
	if i%foreignEvery == 0 {
		from.NamespaceSelector = fmt.Sprintf(`kubernetes.io/metadata.name == "%s"`, NamespaceName((i*7+3)%c.Namespaces))
	}
	p := &v3.NetworkPolicy{ObjectMeta: meta, Spec: v3.NetworkPolicySpec{
		Selector: fmt.Sprintf(`app == "app-%d"`, app), Types: []v3.PolicyType{v3.PolicyTypeIngress, v3.PolicyTypeEgress},
		Ingress: []v3.Rule{{Action: v3.Allow, Protocol: &tcp, Source: from, Destination: v3.EntityRule{Ports: []intstr.IntOrString{port}}}},
		Egress:  []v3.Rule{{Action: v3.Allow, Protocol: &tcp, Destination: v3.EntityRule{Selector: fmt.Sprintf(`app == "app-%d"`, server)}}},
	}}
	if namespace%setEvery == 0 {
		p.Spec.Egress = append(p.Spec.Egress, v3.Rule{Action: v3.Allow, Protocol: &tcp, Destination: v3.EntityRule{Selector: `kind == "partners"`}})
	}
	return p
}

func (c *Cluster) guardrail(meta metav1.ObjectMeta, i, app, version int) runtime.Object {
	tcp := intstr.FromString("TCP")
	order := float64(i)
	return &v3.GlobalNetworkPolicy{ObjectMeta: meta, Spec: v3.GlobalNetworkPolicySpec{
		Order: &order, Selector: fmt.Sprintf(`app == "app-%d" && environment != "x%d"`, app, i%5), NamespaceSelector: `environment == "production"`,
		Types: []v3.PolicyType{v3.PolicyTypeEgress},
		Egress: []v3.Rule{
			{Action: v3.Deny, Destination: v3.EntityRule{Nets: []string{"169.254.169.254/32"}}},
			{Action: v3.Deny, Destination: v3.EntityRule{Selector: fmt.Sprintf(`set == "%d"`, i/guardrailEvery%globalSets)}},
			{Action: v3.Pass, Protocol: &tcp, Destination: v3.EntityRule{Ports: []intstr.IntOrString{intstr.FromInt(basePort + version)}}},
		},
	}}
}

func kubernetesPolicy(meta metav1.ObjectMeta, app, client, server, port int) *networkingv1.NetworkPolicy {
	labels := func(app int) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprintf("app-%d", app)}}
	}
	tcp, number := corev1.ProtocolTCP, intstr.FromInt(port)
	ports := []networkingv1.NetworkPolicyPort{{Protocol: &tcp, Port: &number}}
	return &networkingv1.NetworkPolicy{ObjectMeta: meta, Spec: networkingv1.NetworkPolicySpec{
		PodSelector: *labels(app), PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{PodSelector: labels(client)}}, Ports: ports}},
		Egress:  []networkingv1.NetworkPolicyEgressRule{{To: []networkingv1.NetworkPolicyPeer{{PodSelector: labels(server)}}}},
	}}
}
