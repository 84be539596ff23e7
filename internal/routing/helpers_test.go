package routing

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/selector"
)

// read reads the specification of an object as users write it.
func read[T any](t testing.TB, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("reading %s: %v", text, err)
	}
	return out
}

// town is a cluster: nodes a, b and c in two racks, of which c is in the second. Its parts are what users write.
type town struct {
	t    testing.TB
	plan *Plan
	pods map[string]map[string]selector.Map // by node and ID
}

func newTown(t testing.TB) *town {
	t.Helper()
	w := &town{t: t, pods: map[string]map[string]selector.Map{}}
	w.plan = New(func(node string, yield func(id string, labels selector.Labels) bool) {
		for id, labels := range w.pods[node] {
			if !yield(id, labels) {
				return
			}
		}
	})
	w.node("a", "rack=1", "192.0.2.1")
	w.node("b", "rack=1", "192.0.2.2")
	w.node("c", "rack=2", "192.0.2.3")
	return w
}

// node sets a node: labels and annotations of the form key=value, and addresses.
func (w *town) node(name string, words ...string) {
	n := Node{Name: name, Labels: map[string]string{"name": name}}
	for _, word := range words {
		key, value, labelled := strings.Cut(word, "=")
		switch {
		case key == "asNumber":
			n.ASNumber = value
		case key == "clusterID":
			n.ClusterID = value
		case labelled:
			n.Labels[key] = value
		default:
			n.Addresses = append(n.Addresses, netip.MustParseAddr(word))
		}
	}
	w.plan.SetNode(n)
}

func (w *town) config(name, text string) {
	w.t.Helper()
	w.plan.SetConfiguration(name, read[v3.BGPConfigurationSpec](w.t, text))
}

func (w *town) peer(name, text string) {
	w.t.Helper()
	w.plan.SetPeer(name, read[v3.BGPPeerSpec](w.t, text))
}

// service sets a service: words are Local, from=<selector>, cluster=, external= or lb=<address>.
func (w *town) service(name string, words ...string) {
	s := Service{Name: ServiceName{"default", name}}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "Local":
			s.Local = true
		case "from":
			s.From = value
		case "cluster":
			s.ClusterIPs = append(s.ClusterIPs, netip.MustParseAddr(value))
		case "external":
			s.ExternalIPs = append(s.ExternalIPs, netip.MustParseAddr(value))
		case "lb":
			s.LoadBalancerIPs = append(s.LoadBalancerIPs, netip.MustParseAddr(value))
		default:
			w.t.Fatalf("unknown word %q", word)
		}
	}
	w.plan.SetService(s)
}

// endpoints sets the nodes on which a service has ready endpoints.
func (w *town) endpoints(name string, nodes ...string) {
	w.plan.SetEndpoints(ServiceName{"default", name}, nodes, len(nodes) > 0)
}

// sessions writes the sessions of all nodes, a line for each, the mesh first: "a: mesh", "a: rack/192.0.2.9 AS 65001 passive".
func (w *town) sessions() string {
	var lines []string
	for _, name := range []string{"a", "b", "c"} {
		plan := w.plan.BGP(name)
		if plan == nil {
			continue
		}
		if plan.Mesh != nil {
			lines = append(lines, name+": mesh")
		}
		for i := range plan.Sessions {
			lines = append(lines, name+": "+sentence(&plan.Sessions[i]))
		}
	}
	return strings.Join(lines, "\n")
}

// sentence is a session in words.
func sentence(s *v1alpha1.BGPSession) string {
	words := []string{s.Name, fmt.Sprint("AS ", s.ASNumber)}
	add := func(there bool, word string, args ...any) {
		if there {
			words = append(words, fmt.Sprintf(word, args...))
		}
	}
	add(s.Node != "", "node %s", s.Node)
	add(s.Endpoint != "", "pod %s", s.Endpoint)
	add(s.Port != 0, "port %d", s.Port)
	add(s.LocalASNumber != 0, "as AS %d", s.LocalASNumber)
	add(s.SourceAddress != "", "from %s", s.SourceAddress)
	add(s.Gateway != "", "by %s", s.Gateway)
	add(s.Client, "client")
	add(s.Passive, "passive")
	add(s.NextHop != "", "next hop %s", s.NextHop)
	add(s.Password != nil, "password")
	add(s.TTLSecurity != 0, "%d hops", s.TTLSecurity)
	add(s.KeepaliveSeconds != 0, "keepalive %d", s.KeepaliveSeconds)
	add(s.RestartSeconds != 0, "restart %d", s.RestartSeconds)
	add(s.AllowOwnAS != 0, "own AS %d times", s.AllowOwnAS)
	add(len(s.Filters) > 0, "filters %s", strings.Join(s.Filters, " "))
	return strings.Join(words, ", ")
}

// announced writes what each node advertises for services: "a: 10.49.0.0/16".
func (w *town) announced() string {
	var lines []string
	for _, name := range []string{"a", "b", "c"} {
		if plan := w.plan.BGP(name); plan != nil {
			lines = append(lines, strings.TrimSpace(name+": "+strings.Join(plan.Announce, " ")))
		}
	}
	return strings.Join(lines, "\n")
}

// pod adds a pod to a node.
func (w *town) pod(node, id, app string) {
	if w.pods[node] == nil {
		w.pods[node] = map[string]selector.Map{}
	}
	w.pods[node][id] = selector.Map{"app": app}
	w.plan.PodsChanged(node)
}
