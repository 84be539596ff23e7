package operator

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers"
)

// tallied are the kinds whose writes are counted.
func tallied() map[string]client.ObjectList {
	return map[string]client.ObjectList{
		"NodeState": &v1alpha1.NodeStateList{}, "NodeEndpoints": &v1alpha1.NodeEndpointsList{}, "NodeNetwork": &v1alpha1.NodeNetworkList{},
		"PolicyProgram": &v1alpha1.PolicyProgramList{}, "SetCatalog": &v1alpha1.SetCatalogList{},
		"NetworkPolicy": &v3.NetworkPolicyList{}, "GlobalNetworkPolicy": &v3.GlobalNetworkPolicyList{}, "Tier": &v3.TierList{},
		"IPPool": &v3.IPPoolList{}, "IPAMBlock": &v3.IPAMBlockList{}, "BlockAffinity": &v3.BlockAffinityList{},
		"FelixConfiguration": &v3.FelixConfigurationList{}, "KubernetesNetworkPolicy": &networkingv1.NetworkPolicyList{},
	}
}

func withPool() controllers.Options {
	return controllers.Options{DefaultIPv4Pool: netip.MustParsePrefix("10.48.0.0/16")}
}

// condition checks a condition of an object's status for its generation.
func condition(obj client.Object, conditions []metav1.Condition, kind string, want metav1.ConditionStatus) error {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil || c.Status != want || c.ObservedGeneration != obj.GetGeneration() {
		return fmt.Errorf("condition %s of %s is %+v, want %s for generation %d", kind, obj.GetName(), c, want, obj.GetGeneration())
	}
	return nil
}

func (k *cluster) enforced(gnp *v3.GlobalNetworkPolicy, of string) {
	k.t.Helper()
	k.eventually("GlobalNetworkPolicy "+gnp.Name+" is enforced", func() error {
		k.get(gnp)
		if gnp.Status.Enforced != of {
			return fmt.Errorf("enforced %q, want %q (%+v)", gnp.Status.Enforced, of, gnp.Status.Conditions)
		}
		return condition(gnp, gnp.Status.Conditions, v3.ConditionEnforced, metav1.ConditionTrue)
	})
}

// endpointOf waits until the state of a node lists an endpoint.
func (k *cluster) endpointOf(node, id string) *v1alpha1.Endpoint {
	k.t.Helper()
	var found *v1alpha1.Endpoint
	k.eventually("NodeState "+node+" has endpoint "+id, func() error {
		state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: node}}
		if !k.get(state) {
			return fmt.Errorf("there is no NodeState %s", node)
		}
		i := slices.IndexFunc(state.Spec.Endpoints, func(e v1alpha1.Endpoint) bool { return e.ID == id })
		if i < 0 {
			return fmt.Errorf("it has %d others", len(state.Spec.Endpoints))
		}
		found = &state.Spec.Endpoints[i]
		return nil
	})
	return found
}

func (k *cluster) addressed(node, id string) {
	k.t.Helper()
	k.eventually("NodeEndpoints "+node+" has an address of "+id, func() error {
		endpoints := &v1alpha1.NodeEndpoints{ObjectMeta: metav1.ObjectMeta{Name: node}}
		k.get(endpoints)
		for _, e := range endpoints.Spec.Endpoints {
			if e.ID == id && len(e.Addresses) > 0 && strings.HasPrefix(e.Addresses[0], "10.48.") {
				return nil
			}
		}
		return fmt.Errorf("got %+v", endpoints.Spec)
	})
}

// TestFromPolicyToEnforced follows one pod and three kinds of policies through the whole operator.
func TestFromPolicyToEnforced(t *testing.T) {
	k := newCluster(t)
	k.agents()
	k.create(node("node1", "10.0.0.11"), node("node2", "10.0.0.12"), namespace("follow"))
	k.operator(withPool())

	k.create(pod("follow", "database", "node1", map[string]string{"app": "database"}))
	k.addressed("node1", "follow/database")
	k.create(pod("follow", "summary", "node2", map[string]string{"app": "summary"}))
	k.addressed("node2", "follow/summary")
	if e := k.endpointOf("node1", "follow/database"); len(e.Ingress) != 0 || e.Identity == "" || len(e.Ports) != 1 {
		t.Errorf("an endpoint without policies is %+v", e)
	}

	knp := kubernetesPolicy("follow", "to-database")
	np := networkPolicy("follow", "to-all", "all()")
	gnp := globalPolicy("for-all", "projectcalico.org/namespace == 'follow'")
	k.create(knp, np, gnp)
	k.enforced(gnp, "2/2")
	k.eventually("the NetworkPolicy is enforced", func() error {
		k.get(np)
		return condition(np, np.Status.Conditions, v3.ConditionEnforced, metav1.ConditionTrue)
	})
	for name, of := range map[string]string{"knp.follow.to-database": "1/1", "np.follow.to-all": "2/2", "gnp.for-all": "2/2"} {
		program := &v1alpha1.PolicyProgram{ObjectMeta: metav1.ObjectMeta{Name: name}}
		k.eventually("PolicyProgram "+name+" reports", func() error {
			k.get(program)
			s := program.Status
			if s.Enforced != of || s.ObservedGeneration != program.Generation || s.RenderedVersion == "" {
				return fmt.Errorf("status is %+v, want %s", s, of)
			}
			for _, kind := range []string{v3.ConditionAccepted, v3.ConditionEnforced} {
				if !meta.IsStatusConditionTrue(s.Conditions, kind) {
					return fmt.Errorf("condition %s is not true: %+v", kind, s.Conditions)
				}
			}
			return nil
		})
	}
	e := k.endpointOf("node1", "follow/database")
	if len(e.Ingress) != 1 || !slices.Equal(e.Ingress[0].Policies, []string{"knp.follow.to-database", "gnp.for-all", "np.follow.to-all"}) {
		t.Errorf("ingress of the database is %+v", e.Ingress)
	}

	k.delete(gnp, knp, np)
	k.eventually("everything about the policies is gone", func() error {
		programs, sets := &v1alpha1.PolicyProgramList{}, &v1alpha1.SetCatalogList{}
		k.must(k.client.List(t.Context(), programs), "listing programs")
		k.must(k.client.List(t.Context(), sets), "listing sets")
		if e := k.endpointOf("node1", "follow/database"); len(programs.Items)+len(sets.Items)+len(e.Ingress) > 0 {
			return fmt.Errorf("%d programs, %d shards, ingress %+v", len(programs.Items), len(sets.Items), e.Ingress)
		}
		return nil
	})
}

// TestEnforcedWaitsForEveryNode holds one node back.
func TestEnforcedWaitsForEveryNode(t *testing.T) {
	k := newCluster(t)
	a := k.agents()
	k.create(node("node1", "10.0.0.11"), node("node2", "10.0.0.12"), namespace("wait"))
	k.create(pod("wait", "a", "node1", nil), pod("wait", "b", "node2", nil))
	k.operator(withPool())
	k.addressed("node1", "wait/a")
	k.addressed("node2", "wait/b")

	a.hold("node2", true)
	gnp := globalPolicy("slow", "projectcalico.org/namespace == 'wait'")
	k.create(gnp)
	k.eventually("the policy is enforced on one node of two", func() error {
		k.get(gnp)
		c := meta.FindStatusCondition(gnp.Status.Conditions, v3.ConditionEnforced)
		if gnp.Status.Enforced != "1/2" || c == nil || c.Status != metav1.ConditionFalse || c.Message != "1 of 2 nodes; waiting for node2" {
			return fmt.Errorf("status is %+v", gnp.Status)
		}
		return nil
	})
	a.hold("node2", false)
	k.enforced(gnp, "2/2")
}

// TestNodeThatFails: what a user sees of a policy that a node can't put into effect.
func TestNodeThatFails(t *testing.T) {
	k := newCluster(t)
	a := k.agents()
	k.create(node("node1", "10.0.0.11"), node("node2", "10.0.0.12"), namespace("fail"))
	k.create(pod("fail", "a", "node1", nil), pod("fail", "b", "node2", nil))
	k.operator(withPool())
	k.addressed("node1", "fail/a")
	k.addressed("node2", "fail/b")
	gnp := globalPolicy("failing", "projectcalico.org/namespace == 'fail'")
	k.create(gnp)
	k.enforced(gnp, "2/2")
	k.must(condition(gnp, gnp.Status.Conditions, v3.ConditionDegraded, metav1.ConditionFalse), "while no node fails")
	k.eventually("an event tells that it is in force", func() error { return k.told(gnp.Name, "Normal", "Enforced") })

	a.fail("node2", v1alpha1.Failure{Kind: "PolicyProgram", Name: "gnp.failing", Message: "no space left"})
	k.eventually("the policy is degraded", func() error {
		k.get(gnp)
		c := meta.FindStatusCondition(gnp.Status.Conditions, v3.ConditionDegraded)
		if gnp.Status.Enforced != "1/2" || c == nil || c.Status != metav1.ConditionTrue || c.Reason != "NodesFail" || c.Message != "node2: no space left" {
			return fmt.Errorf("status is %+v", gnp.Status)
		}
		return condition(gnp, gnp.Status.Conditions, v3.ConditionEnforced, metav1.ConditionFalse)
	})
	k.eventually("an event tells why", func() error { return k.told(gnp.Name, "Warning", "NodesFail") })

	a.fail("node2")
	k.enforced(gnp, "2/2")
	k.must(condition(gnp, gnp.Status.Conditions, v3.ConditionDegraded, metav1.ConditionFalse), "when no node fails any more")
	k.eventually("an event tells that it is over", func() error { return k.told(gnp.Name, "Normal", "NoFailures") })
}

// TestBadSelectorIsNotAccepted looks at what a user sees who made a mistake, and who then mends it.
func TestBadSelectorIsNotAccepted(t *testing.T) {
	k := newCluster(t)
	k.agents()
	k.create(node("node1", "10.0.0.11"), namespace("bad"))
	k.operator(withPool())
	k.create(pod("bad", "a", "node1", nil))
	k.addressed("node1", "bad/a")

	gnp := globalPolicy("mistaken", "app = 'database'")
	k.create(gnp)
	k.eventually("the policy is not accepted", func() error {
		k.get(gnp)
		c := meta.FindStatusCondition(gnp.Status.Conditions, v3.ConditionAccepted)
		if c == nil || c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "spec.selector") || !strings.Contains(c.Message, "position") {
			return fmt.Errorf("status is %+v", gnp.Status)
		}
		return condition(gnp, gnp.Status.Conditions, v3.ConditionEnforced, metav1.ConditionFalse)
	})
	k.eventually("there is an event", func() error { return k.warned(gnp.Name) })

	k.edit(gnp, func() { gnp.Spec.Selector = "projectcalico.org/namespace == 'bad'" })
	k.enforced(gnp, "1/1")
}

// TestOnePodCostsAFewWrites counts what one more pod makes of 40 policies that apply to it, on three nodes.
func TestOnePodCostsAFewWrites(t *testing.T) {
	k := newCluster(t)
	k.agents()
	k.create(namespace("count"))
	for i := range 3 {
		k.create(node(nodeName(i), fmt.Sprintf("10.0.0.1%d", i)))
		k.create(pod("count", fmt.Sprintf("old%d", i), nodeName(i), map[string]string{"app": "customer"}))
	}
	var last *v3.GlobalNetworkPolicy
	for i := range 40 {
		last = globalPolicy(fmt.Sprintf("policy%d", i), "projectcalico.org/namespace == 'count'")
		last.Spec.Ingress[0].Source.Selector = fmt.Sprintf("app in {'customer', 'c%d'}", i)
		k.create(last)
	}
	k.operator(withPool())
	k.enforced(last, "3/3")
	writes := k.tally()
	before := len(writes.quiet())

	k.create(pod("count", "new", nodeName(0), map[string]string{"app": "customer"}))
	k.addressed(nodeName(0), "count/new")
	// The spec, the agent's word on the address, the other nodes' copy, and the agents' acknowledgements of that.
	want := []string{
		"MODIFIED NodeEndpoints node0", "MODIFIED NodeState node0", "MODIFIED NodeState node0",
		"MODIFIED NodeState node0", "MODIFIED NodeState node1", "MODIFIED NodeState node2",
	}
	writes.reaches(before + len(want))
	got := writes.quiet()[before:]
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("one pod cost\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// TestWritesAreSparedWhileAgentsFollowTheStream counts the writes for one node while pods of it come one after the other, and everything has
// been written all the same in the end.
func TestWritesAreSparedWhileAgentsFollowTheStream(t *testing.T) {
	k := newCluster(t)
	k.agents().hear(v1alpha1.CarrierStream)
	strangers := &v3.GlobalNetworkSet{
		ObjectMeta: metav1.ObjectMeta{Name: "strangers", Labels: map[string]string{"kind": "stranger"}}, Spec: v3.GlobalNetworkSetSpec{Nets: []string{"192.0.2.0/32"}},
	}
	policy := globalPolicy("strangers", "app == 'customer'")
	policy.Spec.Ingress[0].Source.Selector = "kind == 'stranger'"
	k.create(namespace("spare"), node("node0", "10.0.0.10"), strangers, policy)
	k.operator(withPool())
	k.create(pod("spare", "first", "node0", map[string]string{"app": "customer"}))
	k.addressed("node0", "spare/first")
	writes := k.tally()
	state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node0"}}
	k.get(state)
	before, start, generation := len(writes.quiet()), time.Now(), state.Generation
	const pods, round = 40, 10
	for i := range pods {
		k.create(pod("spare", fmt.Sprintf("pod%d", i), "node0", map[string]string{"app": "customer"}))
		if i%round == round-1 {
			k.endpointOf("node0", fmt.Sprintf("spare/pod%d", i))
		}
		strangers.Spec.Nets = []string{fmt.Sprintf("192.0.2.%d/32", i+1)}
		k.must(k.client.Update(t.Context(), strangers), "changing a network set")
	}
	for i := range pods {
		k.addressed("node0", fmt.Sprintf("spare/pod%d", i))
	}
	k.eventually("the last change of the set is written", func() error {
		list := &v1alpha1.SetCatalogList{}
		k.must(k.client.List(t.Context(), list), "listing sets")
		for i := range list.Items {
			for _, set := range list.Items[i].Spec.Sets {
				if slices.Equal(set.CIDRs, strangers.Spec.Nets) {
					return nil
				}
			}
		}
		return fmt.Errorf("it is not")
	})
	took, n := time.Since(start), map[string]int{}
	for _, write := range writes.quiet()[before:] {
		kind, of, _ := strings.Cut(strings.TrimPrefix(write, "MODIFIED "), " ")
		if of == "node0" || kind == "SetCatalog" {
			n[kind]++
		}
	}
	for _, kind := range []string{"NodeEndpoints", "SetCatalog"} {
		if most := int(took/time.Second) + 2; n[kind] == 0 || n[kind] > most {
			t.Errorf("%s was written %d times in %s, want %d at most", kind, n[kind], took, most)
		}
	}
	k.get(state)
	if got, most := state.Generation-generation, int64(took/time.Second)+1; got == 0 || got > most {
		t.Errorf("the spec of NodeState was written %d times in %s, want %d at most", got, took, most)
	}
}

// TestAPodOnAnotherNodeUnsettlesNoPolicy: while agents follow the stream the first pod of a policy on a node is written late. No policy is said to
// be out of force for that: each gets one write, which says that it is in force on one node more.
func TestAPodOnAnotherNodeUnsettlesNoPolicy(t *testing.T) {
	k := newCluster(t)
	k.agents().hear(v1alpha1.CarrierStream)
	k.create(namespace("settled"), node("node0", "10.0.0.10"), node("node1", "10.0.0.11"))
	const policies = 4
	of := func(i int) *v3.GlobalNetworkPolicy {
		return &v3.GlobalNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("settled%d", i)}}
	}
	for i := range policies {
		k.create(globalPolicy(of(i).Name, "app == 'customer'"))
	}
	k.operator(withPool())
	k.create(pod("settled", "first", "node0", map[string]string{"app": "customer"}), pod("settled", "other", "node1", map[string]string{"app": "other"}))
	k.addressed("node0", "settled/first")
	k.addressed("node1", "settled/other")
	for i := range policies {
		k.enforced(of(i), "1/1")
	}
	writes := k.tally()
	before := len(writes.quiet())
	k.create(pod("settled", "second", "node1", map[string]string{"app": "customer"}))
	for i := range policies {
		k.enforced(of(i), "2/2")
	}
	n := map[string]int{}
	for _, write := range writes.quiet()[before:] {
		n[write]++
	}
	for i := range policies {
		if write := "MODIFIED GlobalNetworkPolicy " + of(i).Name; n[write] != 1 {
			t.Errorf("%s: %d times, want once", write, n[write])
		}
	}
}

// TestRestartWritesNothing stops the operator, has another one take over, and sees that it finds everything right.
func TestRestartWritesNothing(t *testing.T) {
	k := newCluster(t)
	k.agents()
	k.create(namespace("restart"), node("node1", "10.0.0.11"), node("node2", "10.0.0.12"))
	for i := range 10 {
		k.create(pod("restart", fmt.Sprintf("a%d", i), nodeName(1+i%2), map[string]string{"app": "customer", "n": fmt.Sprint(i)}))
	}
	gnp := globalPolicy("stays", "projectcalico.org/namespace == 'restart'")
	k.create(gnp, kubernetesPolicy("restart", "stays-too"), networkPolicy("restart", "and-this", "n in {'1','2'}"))
	stop := k.operator(withPool())
	k.enforced(gnp, "2/2")
	writes := k.tally()
	writes.quiet()
	stop()
	before := len(writes.quiet())

	k.operator(withPool())
	// Proof that it is at work: this pod is rendered.
	k.create(pod("restart", "proof", "node1", map[string]string{"app": "customer"}))
	k.addressed("node1", "restart/proof")
	for _, write := range writes.quiet()[before:] {
		if !strings.HasPrefix(write, "MODIFIED NodeState") && write != "MODIFIED NodeEndpoints node1" {
			t.Errorf("the new operator wrote %s", write)
		}
	}
}
