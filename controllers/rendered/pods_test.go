package rendered

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
)

// TestForWhichPodsNobodyWaits: what may be gathered while all agents follow the stream.
func TestForWhichPodsNobodyWaits(t *testing.T) {
	ours := metav1.ObjectMeta{Name: "node", Labels: map[string]string{LabelManagedBy: ManagedBy}}
	state := func(edit func(*v1alpha1.NodeState), ids ...string) *v1alpha1.NodeState {
		s := &v1alpha1.NodeState{ObjectMeta: *ours.DeepCopy()}
		for _, id := range ids {
			s.Spec.Endpoints = append(s.Spec.Endpoints, v1alpha1.Endpoint{ID: id, UID: types.UID("uid of " + id), Identity: "i"})
		}
		if edit != nil {
			edit(s)
		}
		return s
	}
	endpoints := func(edit func(*v1alpha1.NodeEndpoints), ids ...string) *v1alpha1.NodeEndpoints {
		s := &v1alpha1.NodeEndpoints{ObjectMeta: *ours.DeepCopy()}
		for _, id := range ids {
			s.Spec.Endpoints = append(s.Spec.Endpoints, v1alpha1.RemoteEndpoint{ID: id, Identities: []string{"i"}, Addresses: []string{"10.0.0.1"}})
		}
		s.Spec.Count = int32(len(ids))
		if edit != nil {
			edit(s)
		}
		return s
	}
	for what, tc := range map[string]struct {
		have, want client.Object
		alone      bool
	}{
		"a pod comes":                         {state(nil, "ns/a"), state(nil, "ns/a", "ns/b"), true},
		"a pod goes":                          {state(nil, "ns/a", "ns/b"), state(nil, "ns/b"), true},
		"one comes and another goes":          {state(nil, "ns/a", "ns/b"), state(nil, "ns/b", "ns/c"), true},
		"the last goes":                       {state(nil, "ns/a"), state(nil), true},
		"a pod of the same name is made anew": {state(nil, "ns/a"), state(func(s *v1alpha1.NodeState) { s.Spec.Endpoints[0].UID = "another" }, "ns/a"), true},
		"nothing changes":                     {state(nil, "ns/a"), state(nil, "ns/a"), false},
		"a pod falls under a policy": {state(nil, "ns/a"), state(func(s *v1alpha1.NodeState) {
			s.Spec.Endpoints[0].Ingress = []v1alpha1.TierPolicies{{Tier: "default", Policies: []string{"np.ns.p"}}}
		}, "ns/a"), false},
		"one does while another comes": {state(nil, "ns/a"), state(func(s *v1alpha1.NodeState) {
			s.Spec.Endpoints[0].Ingress = []v1alpha1.TierPolicies{{Tier: "default", Policies: []string{"np.ns.p"}}}
		}, "ns/a", "ns/b"), false},
		"a block is leased while a pod comes": {state(nil), state(func(s *v1alpha1.NodeState) {
			s.Spec.Blocks = []v1alpha1.BlockLease{{CIDR: "10.0.0.0/26"}}
		}, "ns/a"), false},
		"a pod comes that asks for an address, which has to be leased": {state(nil), state(func(s *v1alpha1.NodeState) {
			s.Spec.Endpoints[0].Addresses.Fixed = []string{"10.0.0.9"}
		}, "ns/a"), false},
		"a pod goes that had a floating address, which is free from then on": {state(func(s *v1alpha1.NodeState) {
			s.Spec.Endpoints[0].Floating = []v1alpha1.FloatingAddress{{Address: "192.0.2.1"}}
		}, "ns/a"), state(nil), false},
		"a pod comes that can get no address": {state(nil), state(func(s *v1alpha1.NodeState) {
			s.Spec.Endpoints[0].Addresses.Impossible = "why"
		}, "ns/a"), false},
		"somebody took the label away while a pod comes": {state(func(s *v1alpha1.NodeState) { s.Labels = nil }), state(nil, "ns/a"), false},
		"the object is being deleted": {state(func(s *v1alpha1.NodeState) {
			s.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		}), state(nil, "ns/a"), false},

		"a pod gets its address":        {endpoints(nil), endpoints(nil, "ns/a"), true},
		"a pod gives up its address":    {endpoints(nil, "ns/a", "ns/b"), endpoints(nil, "ns/a"), true},
		"all addresses stay":            {endpoints(nil, "ns/a"), endpoints(nil, "ns/a"), false},
		"a pod changes its identity":    {endpoints(nil, "ns/a"), endpoints(func(s *v1alpha1.NodeEndpoints) { s.Spec.Endpoints[0].Identities = []string{"j", "i"} }, "ns/a"), false},
		"a host endpoint gets its word": {endpoints(nil), endpoints(nil, "host"), false},
		"a program changes":             {&v1alpha1.PolicyProgram{ObjectMeta: ours}, &v1alpha1.PolicyProgram{ObjectMeta: ours}, false},
	} {
		if got := podsAlone(tc.want, tc.have); got != tc.alone {
			t.Errorf("%s: pods alone is %t, want %t", what, got, tc.alone)
		}
	}
}

func TestSinceWhenAChangeIsKnown(t *testing.T) {
	start := time.Now()
	p, key := &pace{}, render.Key{Kind: render.KindNodeState, Name: "node"}
	for _, step := range []struct {
		what  string
		after time.Duration
		wrote bool
		known time.Duration
	}{
		{"it is new", 0, false, 0},
		{"others follow, and it gets older all the same", 400 * time.Millisecond, false, 400 * time.Millisecond},
		{"the next after a write is new", 500 * time.Millisecond, true, 0},
	} {
		if step.wrote {
			p.settled(key)
		}
		if got := p.seen(key, start.Add(step.after)); got != step.known {
			t.Errorf("%s: it is known for %s, want %s", step.what, got, step.known)
		}
	}
	p.settled(key)
	if len(p.since) != 0 {
		t.Errorf("%d objects are remembered that are written", len(p.since))
	}
}
