package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/verdict"
	"github.com/manul-net/manul/test/bench/clusters"
	"github.com/manul-net/manul/test/oracle"
)

// uplink is the interface of each node that leads to the others.
const uplink = "eth0"

// flowsPerCheck is how many connections are asked about.
const flowsPerCheck = 200

// world is the cluster of now as the oracle takes it.
func (h *hub) world() *oracle.World {
	w := &oracle.World{}
	h.all(func(obj runtime.Object) {
		switch o := obj.(type) {
		case *corev1.Node:
			w.Nodes = append(w.Nodes, o)
			addr, err := netip.ParseAddr(o.Status.Addresses[0].Address)
			if err == nil {
				w.Interfaces = append(w.Interfaces, oracle.Interface{
					Node: o.Name, Name: uplink, Addresses: []netip.Addr{addr}, Reaches: []netip.Prefix{netip.PrefixFrom(addr, 12).Masked()},
				})
			}
		case *corev1.Namespace:
			w.Namespaces = append(w.Namespaces, o)
		case *corev1.ServiceAccount:
			w.ServiceAccounts = append(w.ServiceAccounts, o)
		case *corev1.Pod:
			pod := *o
			if n, ok := clusters.NumberOf(o.Name); ok {
				pod.Status.PodIPs = []corev1.PodIP{{IP: clusters.AddressOf(n).String()}}
			}
			w.Pods = append(w.Pods, &pod)
		case *networkingv1.NetworkPolicy:
			w.KubernetesPolicies = append(w.KubernetesPolicies, o)
		case *v3.NetworkPolicy:
			w.NetworkPolicies = append(w.NetworkPolicies, o)
		case *v3.GlobalNetworkPolicy:
			w.GlobalPolicies = append(w.GlobalPolicies, o)
		case *v3.NetworkSet:
			w.NetworkSets = append(w.NetworkSets, o)
		case *v3.GlobalNetworkSet:
			w.GlobalNetworkSets = append(w.GlobalNetworkSets, o)
		}
	})
	return w
}

// asked is a connection between pods of the sample: what should become of it, and the questions that show what does.
type asked struct {
	flow      oracle.Flow
	want      oracle.Verdict
	questions []Question
}

// connections draws connections between pods of the sampled nodes, most of them within a namespace, and asks the oracle.
func connections(w *oracle.World, sample []string, random *rand.Rand) []asked {
	sampled := map[string]bool{}
	for _, node := range sample {
		sampled[node] = true
	}
	var pods []*corev1.Pod
	byNamespace := map[string][]*corev1.Pod{}
	for _, pod := range w.Pods {
		if sampled[pod.Spec.NodeName] {
			pods = append(pods, pod)
			byNamespace[pod.Namespace] = append(byNamespace[pod.Namespace], pod)
		}
	}
	if len(pods) == 0 {
		return nil
	}
	byName := func(a, b *corev1.Pod) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) }
	slices.SortFunc(pods, byName) // so that the seed decides
	for _, neighbours := range byNamespace {
		slices.SortFunc(neighbours, byName)
	}
	users := w.Users()
	friends := friendsOf(pods, byNamespace)
	var out []asked
	for i := range flowsPerCheck {
		from := pods[random.IntN(len(pods))]
		neighbours := byNamespace[from.Namespace]
		to := neighbours[random.IntN(len(neighbours))]
		switch {
		case i%8 == 0:
			to = pods[random.IntN(len(pods))]
		case i%2 == 0 && len(friends) > 0:
			pair := friends[random.IntN(len(friends))]
			from, to = pair[0], pair[1]
		}
		if from == to {
			continue
		}
		port := 8080
		if i%5 == 0 {
			port = 9090
		}
		out = append(out, ask(users, from, to, port))
	}
	return out
}

// friendsOf are pairs of pods whose applications have policies that let the one reach the other (clusters.Cluster.Policy).
func friendsOf(pods []*corev1.Pod, byNamespace map[string][]*corev1.Pod) [][2]*corev1.Pod {
	var out [][2]*corev1.Pod
	for _, from := range pods {
		app := 0
		if _, err := fmt.Sscanf(from.Labels["app"], "app-%d", &app); err != nil || app == 0 {
			continue
		}
		for _, to := range byNamespace[from.Namespace] {
			if to.Labels["app"] == fmt.Sprintf("app-%d", app-1) {
				out = append(out, [2]*corev1.Pod{from, to})
			}
		}
	}
	return out
}

func ask(users *oracle.Evaluator, from, to *corev1.Pod, port int) asked {
	const sourcePort = 40_000
	id := func(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }
	a := asked{flow: oracle.Flow{From: oracle.Place{Pod: id(from)}, Packet: oracle.Packet{
		Source: netip.MustParseAddr(from.Status.PodIPs[0].IP), Destination: netip.MustParseAddr(to.Status.PodIPs[0].IP),
		Protocol: oracle.TCP, SourcePort: sourcePort, DestinationPort: port,
	}}}
	a.want = users.Verdict(a.flow)
	packet := verdict.Packet{
		In: render.InterfaceName(id(from)), Out: render.InterfaceName(id(to)), Protocol: oracle.TCP,
		Source: a.flow.Source, Destination: a.flow.Destination, SourcePort: sourcePort, DestinationPort: uint16(port),
	}
	if from.Spec.NodeName == to.Spec.NodeName {
		a.questions = []Question{{from.Spec.NodeName, packet}}
		return a
	}
	leaving, entering := packet, packet
	leaving.Out, entering.In = uplink, uplink
	a.questions = []Question{{from.Spec.NodeName, leaving}, {to.Spec.NodeName, entering}}
	return a
}

// check waits until the nodes of the sample decide as the users' objects say, and tells how many connections were asked about and how
// many of these are let through.
func (r *sim) check(ctx context.Context) (flows, allowed int, err error) {
	all := connections(r.hub.world(), r.sample, r.cluster.Random)
	var questions []Question
	for _, a := range all {
		questions = append(questions, a.questions...)
		if a.want.Arrived {
			allowed++
		}
	}
	var wrong string
	err = eventually(ctx, r.patience, "the nodes decide as the users' objects say", func() (bool, error) {
		var answers []bool
		if err := r.agents.call(ctx, "Judge", questions, &answers); err != nil {
			return false, err
		}
		wrong = ""
		for _, a := range all {
			passes := true
			for range a.questions {
				passes = passes && answers[0]
				answers = answers[1:]
			}
			if passes != a.want.Arrived {
				wrong = fmt.Sprintf("%s: nodes let it through: %t\n%s", a.flow, passes, strings.TrimSpace(a.want.String()))
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil && wrong != "" {
		err = fmt.Errorf("%w\n%s", err, wrong)
	}
	return len(all), allowed, err
}
