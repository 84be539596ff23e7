package policing

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/render"
)

// manifests of a cluster: a bank on two nodes, of which one has a host endpoint.
const manifests = `
{apiVersion: v1, kind: Node, metadata: {name: worker1}, status: {addresses: [{type: InternalIP, address: 10.0.0.11}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: worker2}, status: {addresses: [{type: InternalIP, address: 10.0.0.12}]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: bank, uid: bank}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: bank, name: summary, uid: summary, labels: {app: summary}}, spec: {nodeName: worker1}, status: {podIP: 10.48.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: bank, name: customer, uid: customer, labels: {app: customer}}, spec: {nodeName: worker1}, status: {podIP: 10.48.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: bank, name: database, uid: database, labels: {app: database}}, spec: {nodeName: worker2}, status: {podIP: 10.48.1.1}}
---
{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: pool}, spec: {cidr: 10.48.0.0/16, natOutgoing: true}}
---
{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: security}, spec: {order: 100}}
---
{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: worker2}, spec: {node: worker2, interfaceName: ens160}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: bank, name: database, uid: database, generation: 1}
spec:
  podSelector: {matchLabels: {app: database}}
  ingress: [{from: [{podSelector: {matchLabels: {app: summary}}}], ports: [{protocol: TCP, port: 2379}]}]
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: security.guard, uid: guard, generation: 1}
spec:
  tier: security
  selector: app == "customer"
  types: [Egress]
  egress:
  - {action: Deny, protocol: TCP, destination: {nets: [198.51.100.0/24], ports: [25]}}
  - {action: Pass}
`

// accounts and services are not asked about here.
func typed(kind string) runtime.Object {
	switch kind {
	case "Node":
		return &corev1.Node{}
	case "Namespace":
		return &corev1.Namespace{}
	case "Pod":
		return &corev1.Pod{}
	case "IPPool":
		return &v3.IPPool{}
	case "Tier":
		return &v3.Tier{}
	case "HostEndpoint":
		return &v3.HostEndpoint{}
	case "GlobalNetworkPolicy":
		return &v3.GlobalNetworkPolicy{}
	default:
		return &networkingv1.NetworkPolicy{}
	}
}

// rendered has the operator's compiler render the manifests, for nodes whose pods have the addresses that these say.
func rendered(t *testing.T) *Rendered {
	t.Helper()
	cluster := render.New()
	held := map[string]*v1alpha1.NodeState{}
	for _, node := range []string{"worker1", "worker2"} {
		held[node] = &v1alpha1.NodeState{}
		held[node].Name = node
	}
	for text := range strings.SplitSeq(manifests, "\n---\n") {
		var head unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(text), &head.Object); err != nil {
			t.Fatal(err)
		}
		obj := typed(head.GetKind())
		if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
			t.Fatal(err)
		}
		if err := cluster.Set(obj); err != nil {
			t.Fatal(err)
		}
		if pod, ok := obj.(*corev1.Pod); ok {
			s := held[pod.Spec.NodeName]
			s.Status.Endpoints = append(s.Status.Endpoints, v1alpha1.EndpointStatus{ID: "bank/" + pod.Name, UID: pod.UID, Addresses: []string{pod.Status.PodIP}})
		}
	}
	for _, s := range held {
		if err := cluster.Set(s); err != nil {
			t.Fatal(err)
		}
	}
	out := &Rendered{}
	for _, key := range cluster.Dirty() {
		switch o := cluster.Desired(key).(type) {
		case *v1alpha1.NodeState:
			o.Status.Endpoints = held[o.Name].Status.Endpoints
			out.States = append(out.States, *o)
		case *v1alpha1.NodeEndpoints:
			out.Endpoints = append(out.Endpoints, *o)
		case *v1alpha1.NodeNetwork:
			out.Networks = append(out.Networks, *o)
		case *v1alpha1.PolicyProgram:
			out.Programs = append(out.Programs, *o)
		case *v1alpha1.SetCatalog:
			out.Catalogs = append(out.Catalogs, *o)
		}
	}
	return out
}

// summary of an answer: the outcome, then the steps.
func summary(a *Answer) string {
	text := "denied"
	if a.Allowed {
		text = "allowed"
	}
	for i := range a.Steps {
		s := &a.Steps[i]
		text += fmt.Sprintf("; %s %s %s %s by %s", s.Node, s.Direction, s.Endpoint, map[bool]string{true: "allowed", false: "denied"}[s.Allowed], s.Reason)
		if s.Policy != nil {
			text += fmt.Sprintf(" %d of %s", s.Rule, s.Policy.Name)
		}
		for _, p := range s.Passed {
			text += " after " + p.Name
		}
	}
	return text
}

const tcp = 6

func TestAnswers(t *testing.T) {
	r := rendered(t)
	for _, x := range []struct {
		sentence string
		packet   Packet
		want     string
	}{
		{
			"a pod that a rule lets in",
			Packet{From: "bank/summary", To: "bank/database", Protocol: tcp, Port: 2379},
			"allowed; worker1 egress bank/summary allowed by default of the endpoint; worker2 ingress bank/database allowed by rule 1 of database",
		},
		{
			"the same by their addresses",
			Packet{From: "10.48.0.1", To: "10.48.1.1", Protocol: tcp, Port: 2379},
			"allowed; worker1 egress bank/summary allowed by default of the endpoint; worker2 ingress bank/database allowed by rule 1 of database",
		},
		{
			"another port",
			Packet{From: "bank/summary", To: "bank/database", Protocol: tcp, Port: 80},
			"denied; worker1 egress bank/summary allowed by default of the endpoint; worker2 ingress bank/database denied by default action of tier after database",
		},
		{
			"another pod",
			Packet{From: "bank/customer", To: "bank/database", Protocol: tcp, Port: 2379},
			"denied; worker1 egress bank/customer allowed by default of the endpoint; worker2 ingress bank/database denied by default action of tier after database",
		},
		{
			"pods of one node",
			Packet{From: "bank/customer", To: "bank/summary", Protocol: tcp, Port: 80},
			"allowed; worker1 egress bank/customer allowed by default of the endpoint; worker1 ingress bank/summary allowed by default of the endpoint",
		},
		{
			"a denied destination outside",
			Packet{From: "bank/customer", To: "198.51.100.7", Protocol: tcp, Port: 25},
			"denied; worker1 egress bank/customer denied by rule 1 of security.guard",
		},
		{
			"from outside",
			Packet{From: "198.51.100.7", To: "bank/database", Protocol: tcp, Port: 2379},
			"denied; worker2 ingress bank/database denied by default action of tier after database",
		},
		{
			"from the pod's own node",
			Packet{From: "10.0.0.12", To: "bank/database", Protocol: tcp, Port: 2379},
			"allowed; worker2 ingress bank/database allowed by from the node to its own workload",
		},
		{
			"to a host endpoint without policy",
			Packet{From: "bank/customer", To: "10.0.0.12", Protocol: tcp, Port: 80},
			"denied; worker1 egress bank/customer allowed by default of the endpoint; worker2 ingress  denied by default of the endpoint",
		},
		{
			"to a failsafe port of it",
			Packet{From: "bank/customer", To: "10.0.0.12", Protocol: tcp, Port: 22},
			"allowed; worker1 egress bank/customer allowed by default of the endpoint; worker2 ingress  allowed by failsafe port",
		},
	} {
		t.Run(x.sentence, func(t *testing.T) {
			a, err := Ask(r, &x.packet)
			if err != nil {
				t.Fatal(err)
			}
			if got := summary(a); got != x.want {
				t.Errorf("got  %s\nwant %s", got, x.want)
			}
		})
	}
}

func TestQuestionsWithoutAnAnswer(t *testing.T) {
	r := rendered(t)
	for _, x := range []struct{ from, to, want string }{
		{"bank/nobody", "bank/database", "no node has given pod bank/nobody an address"},
		{"192.0.2.1", "198.51.100.7", "neither 192.0.2.1 nor 198.51.100.7 is a pod or a node"},
		{"bank/customer", "2001:db8::1", "of different families"},
	} {
		_, err := Ask(r, &Packet{From: x.from, To: x.to, Protocol: tcp, Port: 80})
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s -> %s: %v, want %q", x.from, x.to, err, x.want)
		}
	}
	var unknown *UnknownPodError
	if _, err := Ask(r, &Packet{From: "bank/nobody", To: "bank/database"}); !errors.As(err, &unknown) {
		t.Errorf("an unknown pod can't be told from other mistakes: %v", err)
	}
}

func TestNodesThatAreBehindAreNamed(t *testing.T) {
	r := rendered(t)
	for i := range r.States {
		r.States[i].Generation, r.States[i].Status.ObservedGeneration = 2, 2
		if r.States[i].Name == "worker2" {
			r.States[i].Status.ObservedGeneration = 1
		}
	}
	a, err := Ask(r, &Packet{From: "bank/summary", To: "bank/database", Protocol: tcp, Port: 2379})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Behind) != 1 || a.Behind[0] != "worker2" {
		t.Errorf("behind: %v", a.Behind)
	}
}
