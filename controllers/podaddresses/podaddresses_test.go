package podaddresses

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/usage"
)

// state is that of a node with one pod, which asks for something and fails with something.
func state(request v1alpha1.AddressRequest, failure string, floating ...v1alpha1.FloatingAddress) *v1alpha1.NodeState {
	s := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
	s.Spec.Blocks = []v1alpha1.BlockLease{{CIDR: "10.48.0.0/30", Pool: "10.48.0.0/30"}}
	s.Spec.Endpoints = []v1alpha1.Endpoint{{ID: "shop/web", UID: "1", Addresses: request, Floating: floating}}
	if failure != "" {
		s.Status.Failures = []v1alpha1.Failure{{Kind: "Address", Name: "shop/web", Message: failure}}
	}
	return s
}

// told has the node's network configuration speak of pools.
func told(s *v1alpha1.NodeState) *v1alpha1.NodeState {
	s.Status.Network = &v1alpha1.NetworkStatus{Asks: []v1alpha1.PoolsAsk{{Pools: []string{"10.49.0.0/24"}}}}
	return s
}

func pools() []v3.IPPool {
	pool := func(name, cidr string) v3.IPPool {
		return v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v3.IPPoolSpec{CIDR: cidr}}
	}
	return []v3.IPPool{pool("small", "10.48.0.0/30"), pool("large", "10.49.0.0/24")}
}

// full has all addresses of the small pool in use.
func full() v1alpha1.NodeState {
	return v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node2"}, Status: v1alpha1.NodeStateStatus{Endpoints: []v1alpha1.EndpointStatus{
		{ID: "a/b", UID: "9", Addresses: []string{"10.48.0.0", "10.48.0.1", "10.48.0.2", "10.48.0.3"}},
	}}}
}

func TestTroubles(t *testing.T) {
	const noFree = "no free address in 10.48.0.0/30 (4 of 4 in use)"
	for name, tc := range map[string]struct {
		state *v1alpha1.NodeState
		// want is "Reason: message" of each event to be.
		want []string
	}{
		"all is well": {state(v1alpha1.AddressRequest{}, ""), nil},
		"an annotation that can't be read": {
			state(v1alpha1.AddressRequest{Impossible: "annotation cni.projectcalico.org/ipv4pools: there is no IPPool x: name one of kubectl get ippools"}, ""),
			[]string{"AddressAnnotation: annotation cni.projectcalico.org/ipv4pools: there is no IPPool x: name one of kubectl get ippools"},
		},
		"the node says the same": {
			state(v1alpha1.AddressRequest{Impossible: "annotation a: b"}, "annotation a: b"), []string{"AddressAnnotation: annotation a: b"},
		},
		"no pool serves the pod": {
			state(v1alpha1.AddressRequest{Impossible: "no enabled IPPool serves it"}, ""), []string{"NoAddress: no enabled IPPool serves it"},
		},
		"no pool serves the pod, but its network configuration names one": {
			told(state(v1alpha1.AddressRequest{Impossible: "no enabled IPPool serves it", Unserved: true}, "")), nil,
		},
		"the network configuration names a pool that is not there": {
			told(state(v1alpha1.AddressRequest{Impossible: "no enabled IPPool serves it", Unserved: true}, "ipam.ipv4_pools: there is no IPPool x")),
			[]string{"NoAddress: ipam.ipv4_pools: there is no IPPool x; IPPool large (10.49.0.0/24) has 0 of 256 addresses in use"},
		},
		"an address that is taken": {
			state(v1alpha1.AddressRequest{Fixed: []string{"10.48.0.1"}}, "address 10.48.0.1 is in use by a/b: delete that pod"),
			[]string{"AddressAnnotation: annotation cni.projectcalico.org/ipAddrs: address 10.48.0.1 is in use by a/b: delete that pod"},
		},
		"the pool is full": {
			state(v1alpha1.AddressRequest{}, noFree),
			[]string{"PoolExhausted: IPPool small (10.48.0.0/30) has 4 of 4 addresses in use: add a pool, or delete pods that are not needed; " + noFree},
		},
		"one of two pools is full": {
			state(v1alpha1.AddressRequest{Pools: []string{"10.48.0.0/30", "10.49.0.0/24"}}, noFree),
			[]string{"NoAddress: " + noFree + "; IPPool small (10.48.0.0/30) has 4 of 4 addresses in use, IPPool large (10.49.0.0/24) has 0 of 256 addresses in use"},
		},
		"another pod has the floating address": {
			state(v1alpha1.AddressRequest{}, "", v1alpha1.FloatingAddress{Address: "10.50.0.1", Problem: "annotation x: pod a/b has 10.50.0.1: take another"}),
			[]string{"AddressAnnotation: annotation x: pod a/b has 10.50.0.1: take another"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := usage.Of(&usage.Cluster{Pools: pools(), NodeStates: []v1alpha1.NodeState{full()}})
			var got []string
			for _, trouble := range troublesOf(tc.state) {
				trouble = trouble.explained(a)
				got = append(got, trouble.reason+": "+trouble.message)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("troubles (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTold: each trouble is told once, one that may pass by itself only when it has lasted, and its end as well.
func TestTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scheme := runtime.NewScheme()
		if err := v3.AddToScheme(scheme); err != nil {
			t.Fatal(err)
		}
		if err := v1alpha1.AddToScheme(scheme); err != nil {
			t.Fatal(err)
		}
		other := full()
		recorder := events.NewFakeRecorder(10)
		r := &Reporter{
			Client: fake.NewClientBuilder().WithScheme(scheme).WithLists(&v3.IPPoolList{Items: pools()}).WithObjects(&other).Build(),
			Events: recorder, Now: time.Now, nodes: map[string]map[types.UID]*pod{},
		}
		step := func(what string, s *v1alpha1.NodeState, want string) {
			t.Helper()
			if err := client.IgnoreNotFound(r.Client.Delete(context.Background(), &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node1"}})); err != nil {
				t.Fatal(err)
			}
			if s != nil {
				s.ResourceVersion = ""
				if err := r.Client.Create(context.Background(), s); err != nil {
					t.Fatal(err)
				}
			}
			again, err := r.Reconcile(context.Background(), "node1")
			if err != nil {
				t.Fatal(err)
			}
			if again.RequeueAfter > 0 {
				time.Sleep(again.RequeueAfter) //nolint:forbidigo // the bubble's clock: what the queue would wait
				if _, err := r.Reconcile(context.Background(), "node1"); err != nil {
					t.Fatal(err)
				}
			}
			var said []string
			for len(recorder.Events) > 0 {
				said = append(said, <-recorder.Events)
			}
			if len(said) > 1 || !strings.HasPrefix(strings.Join(said, ""), want) || want == "" && len(said) > 0 {
				t.Errorf("%s: said %q, want %q", what, said, want)
			}
		}
		const noFree = "no free address in 10.48.0.0/30 (4 of 4 in use)"
		step("a pool is full", state(v1alpha1.AddressRequest{}, noFree), "Warning PoolExhausted IPPool small")
		step("it still is", state(v1alpha1.AddressRequest{}, noFree), "")
		given := state(v1alpha1.AddressRequest{}, "")
		given.Status.Endpoints = []v1alpha1.EndpointStatus{{ID: "shop/web", UID: "1", Addresses: []string{"10.49.0.1"}}}
		step("the pod has an address", given.DeepCopy(), "Normal AddressGiven the pod has 10.49.0.1")
		step("it still has", given.DeepCopy(), "")
		step("a mistake", state(v1alpha1.AddressRequest{Impossible: "annotation a: b"}, ""), "Warning AddressAnnotation annotation a: b")
		step("another mistake", state(v1alpha1.AddressRequest{Impossible: "annotation a: c"}, ""), "Warning AddressAnnotation annotation a: c")
		step("the node is gone", nil, "")
		if len(r.nodes) > 0 {
			t.Errorf("what is gone is remembered: %+v", r.nodes)
		}
	})
}
