package operator

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/test/bgp"
	"github.com/manul-net/manul/test/netns"
)

const (
	manyServices = 1000
	writers      = 8
)

// speakers are node agents that speak BGP as the API server's NodeStates say.
type speakers struct {
	k     *cluster
	nodes map[string]*bgp.Node
	told  map[string]int64
}

// follow passes on what is new.
func (s *speakers) follow() {
	s.k.t.Helper()
	for name, n := range s.nodes {
		state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if s.k.get(state) && state.Generation != s.told[name] {
			s.told[name], n.Input.State = state.Generation, state.Spec
			n.Tell()
		}
	}
}

// routes waits until the router's kernel has these routes, while the nodes follow.
func (s *speakers) routes(router *netns.NS, want []string) {
	s.k.t.Helper()
	slices.Sort(want)
	s.k.eventually(fmt.Sprintf("the router has %d routes", len(want)), func() error {
		s.follow()
		if got := bgp.Routes(router, "10.51.0.0/16"); !slices.Equal(got, want) {
			return fmt.Errorf("it has %d routes: the first are %q, want %q", len(got), got[:min(3, len(got))], want[:min(3, len(want))])
		}
		return nil
	})
}

// newSpeakers has two nodes, and an operator for them, that advertise load balancers' addresses one by one to a BIRD with a namespace of its own.
func newSpeakers(t *testing.T) (s *speakers, router *bgp.Router, peerings []bgp.Peering, kernel *netns.NS) {
	t.Helper()
	k := newCluster(t)
	ns := bgp.Bridged(t, []string{"192.0.2.1/24"}, []string{"192.0.2.2/24"}, []string{"192.0.2.100/24"})
	peerings = []bgp.Peering{
		{Router: "192.0.2.100", Node: "192.0.2.1", RouterAS: 65001, NodeAS: 64512, Mute: true},
		{Router: "192.0.2.100", Node: "192.0.2.2", RouterAS: 65001, NodeAS: 64512, Mute: true},
	}
	router = (&bgp.Setup{ID: "192.0.2.100", Peerings: peerings}).Start(t, ns[2], bgp.BIRD)
	s = &speakers{k: k, nodes: map[string]*bgp.Node{}, told: map[string]int64{}}
	for i, name := range []string{"node1", "node2"} {
		k.create(node(name, fmt.Sprintf("192.0.2.%d", i+1)))
		s.nodes[name] = bgp.NewNode(t, ns[i], name)
	}
	k.operator(withPool())
	k.create(
		&v3.IPPool{
			ObjectMeta: metav1.ObjectMeta{Name: "services"},
			Spec:       v3.IPPoolSpec{CIDR: "10.51.0.0/16", AllowedUses: []v3.IPPoolAllowedUse{v3.IPPoolAllowedUseLoadBalancer}},
		},
		&v3.BGPConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "default"},
			Spec: v3.BGPConfigurationSpec{
				NodeToNodeMeshEnabled: new(bool), ServiceLoadBalancerAggregation: "Disabled",
				ServiceLoadBalancerIPs: []v3.ServiceLoadBalancerIPBlock{{CIDR: "10.51.0.0/16"}},
			},
		},
		&v3.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "tor"}, Spec: v3.BGPPeerSpec{PeerIP: "192.0.2.100", ASNumber: 65001}},
	)
	return s, router, peerings, ns[2]
}

// TestThousandServices makes and deletes 1,000 services, half of them with externalTrafficPolicy Local, while the sessions with a router go
// and come: it has the routes of all of them, and in the end none.
func TestThousandServices(t *testing.T) {
	s, router, peerings, kernel := newSpeakers(t)
	k := s.k
	// Service i has its endpoint on one node or the other.
	nodeOf := func(i int) string { return fmt.Sprintf("node%d", i/2%2+1) }
	service := func(i int) *corev1.Service {
		o := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("many-", i), Labels: map[string]string{"many": "yes"}},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}, AllocateLoadBalancerNodePorts: new(bool),
			},
		}
		if i%2 == 0 {
			o.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}
		return o
	}
	slice := func(i int) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: fmt.Sprint("many-", i), Labels: map[string]string{discoveryv1.LabelServiceName: fmt.Sprint("many-", i)},
			},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.48.0.9"}, NodeName: new(nodeOf(i))}},
		}
	}
	t.Cleanup(func() { // services are nobody else's to clear
		_ = k.client.DeleteAllOf(context.WithoutCancel(t.Context()), &corev1.Service{}, client.InNamespace("default"), client.MatchingLabels{"many": "yes"})
	})
	first, second := [2]int{0, manyServices / 2}, [2]int{manyServices / 2, manyServices}
	k.inParallel(first, func(ctx context.Context, i int) error {
		return firstError(k.client.Create(ctx, service(i)), k.client.Create(ctx, slice(i)))
	})
	s.follow()
	router.Restart(&peerings[0])
	k.inParallel(second, func(ctx context.Context, i int) error {
		return firstError(k.client.Create(ctx, slice(i)), k.client.Create(ctx, service(i)))
	})
	var want []string
	k.eventually("all services have addresses", func() error {
		s.follow()
		var all corev1.ServiceList
		if err := k.client.List(t.Context(), &all, client.InNamespace("default")); err != nil {
			return err
		}
		want = want[:0]
		for i := range all.Items {
			o := &all.Items[i]
			var number int
			if _, err := fmt.Sscanf(o.Name, "many-%d", &number); err != nil || len(o.Status.LoadBalancer.Ingress) == 0 {
				continue
			}
			via := "192.0.2.1, 192.0.2.2"
			if o.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
				via = "192.0.2." + nodeOf(number)[4:]
			}
			want = append(want, netip.PrefixFrom(netip.MustParseAddr(o.Status.LoadBalancer.Ingress[0].IP), 32).String()+" via "+via)
		}
		if len(want) != manyServices {
			return fmt.Errorf("%d have", len(want))
		}
		return nil
	})
	s.routes(kernel, want)

	router.Restart(&peerings[1])
	k.inParallel(second, func(ctx context.Context, i int) error { return k.client.Delete(ctx, service(i)) })
	s.follow()
	router.Restart(&peerings[0])
	k.inParallel(first, func(ctx context.Context, i int) error {
		return firstError(k.client.Delete(ctx, slice(i)), k.client.Delete(ctx, service(i)))
	})
	s.routes(kernel, nil)
	for name := range s.nodes {
		state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if k.get(state); state.Spec.BGP == nil || len(state.Spec.BGP.Announce) > 0 {
			t.Errorf("%s is still told to advertise %+v", name, state.Spec.BGP)
		}
	}
}

// TestEndpointsAreFollowed has the endpoint of a service with externalTrafficPolicy Local become ready, move to the other node, be drained and go. The
// router's kernel follows, within a second: of each way there are some changes, the middle one counts, since the machine has other things to do.
func TestEndpointsAreFollowed(t *testing.T) {
	s, _, _, kernel := newSpeakers(t)
	k := s.k
	k.create(
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "followed"},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}, AllocateLoadBalancerNodePorts: new(bool),
				ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
			},
		},
	)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "followed", Labels: map[string]string{discoveryv1.LabelServiceName: "followed"}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	k.create(slice)
	address := ""
	k.eventually("the service has an address", func() error {
		o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "followed"}}
		if k.get(o); len(o.Status.LoadBalancer.Ingress) == 0 {
			return fmt.Errorf("it has none: %+v", o.Status)
		}
		address = o.Status.LoadBalancer.Ingress[0].IP + "/32"
		return nil
	})
	for _, n := range s.nodes {
		k.eventually("the session stands", func() error {
			s.follow()
			if got := n.Session("tor/192.0.2.100"); got.State != "Established" {
				return fmt.Errorf("it does not: %+v", got)
			}
			return nil
		})
	}
	ready := func(name string) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: []string{"10.48.0.9"}, NodeName: &name, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}
	}
	// One that is drained still serves connections that stand, and is no reason to send new ones there.
	drained := ready("node2")
	drained.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
	took := map[string][]time.Duration{}
	for range 5 {
		for _, step := range []struct {
			what      string
			endpoints []discoveryv1.Endpoint
			want      []string
		}{
			{"ready on node1", []discoveryv1.Endpoint{ready("node1")}, []string{address + " via 192.0.2.1"}},
			{"ready on both", []discoveryv1.Endpoint{ready("node1"), ready("node2")}, []string{address + " via 192.0.2.1, 192.0.2.2"}},
			{"moved to node2", []discoveryv1.Endpoint{ready("node2")}, []string{address + " via 192.0.2.2"}},
			{"drained", []discoveryv1.Endpoint{drained}, nil},
			{"ready again", []discoveryv1.Endpoint{ready("node2")}, []string{address + " via 192.0.2.2"}},
			{"gone", nil, nil},
		} {
			slice.Endpoints = step.endpoints
			if err := k.client.Update(t.Context(), slice); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			s.routes(kernel, step.want)
			took[step.what] = append(took[step.what], time.Since(start))
		}
	}
	for what, all := range took {
		slices.Sort(all)
		if middle := all[len(all)/2]; middle > time.Second {
			t.Errorf("%s: the router followed after %v", what, all)
		} else {
			t.Logf("%s: the router followed after %v", what, middle)
		}
	}
}

// inParallel does something for each number of a range.
func (k *cluster) inParallel(numbers [2]int, do func(ctx context.Context, i int) error) {
	k.t.Helper()
	var group sync.WaitGroup
	errs := make(chan error, numbers[1]-numbers[0])
	for w := range writers {
		group.Go(func() {
			for i := numbers[0] + w; i < numbers[1]; i += writers {
				if err := do(k.t.Context(), i); err != nil {
					errs <- err
				}
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		k.t.Fatal(err)
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
