package operator

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers"
)

// warned looks for a warning about an object.
func (k *cluster) warned(name string) error {
	events := &eventsv1.EventList{}
	k.must(k.client.List(k.t.Context(), events), "listing events")
	for _, e := range events.Items {
		if e.Regarding.Name == name && e.Type == "Warning" && e.Note != "" {
			return nil
		}
	}
	return fmt.Errorf("none of %d events is a warning about %s", len(events.Items), name)
}

// told looks for an event of a kind and for a reason about an object.
func (k *cluster) told(name, kind, reason string) error {
	events := &eventsv1.EventList{}
	k.must(k.client.List(k.t.Context(), events), "listing events")
	for _, e := range events.Items {
		if e.Regarding.Name == name && e.Type == kind && e.Reason == reason {
			return nil
		}
	}
	return fmt.Errorf("none of %d events about %s is of type %s and reason %s", len(events.Items), name, kind, reason)
}

// TestForeignChangesAreUndone edits, deletes and adds rendered objects behind the operator's back.
func TestForeignChangesAreUndone(t *testing.T) {
	k := newCluster(t)
	k.agents()
	// Left behind by a cluster that is no more: the operator was not there when its node and policy went.
	k.create(&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "gone"}})
	orphan := &v1alpha1.PolicyProgram{ObjectMeta: metav1.ObjectMeta{Name: "gnp.gone"}}
	orphan.Spec.Policy = v1alpha1.PolicyReference{Kind: "GlobalNetworkPolicy", Name: "gone"}
	orphan.Spec.Tier = "default"
	k.create(orphan)
	k.create(namespace("foreign"), node("node1", "10.0.0.11"), pod("foreign", "a", "node1", nil))
	gnp := globalPolicy("right", "projectcalico.org/namespace == 'foreign'")
	k.create(gnp)
	k.operator(withPool())
	k.enforced(gnp, "1/1")

	k.eventually("what nobody needs is deleted", func() error {
		if k.get(&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "gone"}}) || k.get(orphan) {
			return errors.New("it is still there")
		}
		return nil
	})

	state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
	k.get(state)
	right := state.Spec.DeepCopy()
	k.edit(state, func() { state.Spec.Endpoints[0].Ingress = nil })
	k.eventually("the edit is undone", func() error {
		k.get(state)
		if len(state.Spec.Endpoints[0].Ingress) != len(right.Endpoints[0].Ingress) {
			return fmt.Errorf("the endpoint's ingress is %+v", state.Spec.Endpoints[0].Ingress)
		}
		return nil
	})

	program := &v1alpha1.PolicyProgram{ObjectMeta: metav1.ObjectMeta{Name: "gnp.right"}}
	k.get(program)
	uid := program.UID
	k.delete(program)
	k.eventually("the program is there again, and enforced", func() error {
		if !k.get(program) || program.UID == uid {
			return errors.New("it is not")
		}
		return condition(program, program.Status.Conditions, v3.ConditionEnforced, metav1.ConditionTrue)
	})
	if program.Labels["app.kubernetes.io/managed-by"] != "manul" {
		t.Errorf("labels are %v", program.Labels)
	}
}

// TestDefaults looks at what every cluster has, and what is restored.
func TestDefaults(t *testing.T) {
	k := newCluster(t)
	k.operator(withPool())
	tier := func(name string) *v3.Tier { return &v3.Tier{ObjectMeta: metav1.ObjectMeta{Name: name}} }
	right := func(name string, order float64, action v3.Action) func() error {
		return func() error {
			obj := tier(name)
			if !k.get(obj) || obj.Spec.Order == nil || *obj.Spec.Order != order || obj.Spec.DefaultAction != action {
				return fmt.Errorf("tier %s is %+v", name, obj.Spec)
			}
			return condition(obj, obj.Status.Conditions, "Ready", metav1.ConditionTrue)
		}
	}
	k.eventually("kube-admin is there", right("kube-admin", 1_000, v3.Pass))
	k.eventually("default is there", right("default", 1_000_000, v3.Deny))
	k.eventually("kube-baseline is there", right("kube-baseline", 10_000_000, v3.Pass))

	edited := tier("kube-admin")
	k.edit(edited, func() { edited.Spec.DefaultAction, edited.Spec.Order = v3.Deny, new(7.0) })
	k.eventually("kube-admin is restored", right("kube-admin", 1_000, v3.Pass))
	k.delete(tier("default"))
	k.eventually("default is made anew", right("default", 1_000_000, v3.Deny))

	own := tier("security")
	own.Spec = v3.TierSpec{Order: new(100.0), DefaultAction: v3.Pass}
	k.create(own)
	k.eventually("a user's tier is ready", right("security", 100, v3.Pass))

	felix := &v3.FelixConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	k.eventually("default settings are there", func() error {
		if !k.get(felix) || felix.Spec.DefaultEndpointToHostAction != "Accept" {
			return fmt.Errorf("they are %+v", felix.Spec)
		}
		return nil
	})
	k.edit(felix, func() { felix.Spec.DefaultEndpointToHostAction = "Drop" })

	info := &v3.ClusterInformation{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	k.eventually("the cluster tells about itself", func() error {
		if !k.get(info) || len(info.Spec.ClusterGUID) != 32 || info.Spec.DatastoreReady == nil || !*info.Spec.DatastoreReady {
			return fmt.Errorf("it says %+v", info.Spec)
		}
		return nil
	})

	first := &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "default-ipv4-ippool"}}
	k.eventually("the default pool is there", func() error {
		if !k.get(first) || first.Spec.CIDR != "10.48.0.0/16" || !first.Spec.NATOutgoing || first.Spec.BlockSize != 26 {
			return fmt.Errorf("it is %+v", first.Spec)
		}
		return condition(first, first.Status.Conditions, v3.ConditionAllocatable, metav1.ConditionTrue)
	})
	if k.get(felix); felix.Spec.DefaultEndpointToHostAction != "Drop" {
		t.Errorf("the user's settings became %+v", felix.Spec)
	}
}

// TestPoolOfOnesOwn sees that a cluster with a pool gets no other, and that a second pool over the same addresses is refused.
func TestPoolOfOnesOwn(t *testing.T) {
	k := newCluster(t)
	mine := pool("mine", "10.60.0.0/24")
	k.create(mine)
	k.operator(withPool())
	k.create(node("node1", "10.0.0.11"))
	k.eventually("node1 has a block of the pool", func() error {
		_, err := k.blockOf("node1", "10.60.0.0/24")
		return err
	})
	if k.get(&v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "default-ipv4-ippool"}}) {
		t.Error("the default pool was made although there is another")
	}
	second := pool("second", "10.60.0.0/16")
	second.CreationTimestamp = metav1.Time{Time: time.Now().Add(time.Hour)}
	k.create(second)
	k.eventually("the overlapping pool is refused", func() error {
		k.get(second)
		if err := condition(second, second.Status.Conditions, v3.ConditionAllocatable, metav1.ConditionFalse); err != nil {
			return err
		}
		if c := meta.FindStatusCondition(second.Status.Conditions, v3.ConditionAllocatable); c.Reason != "Overlap" {
			return fmt.Errorf("condition is %+v", c)
		}
		return nil
	})
}

// blockOf returns the only block that a node has, once object, affinity and rendered state agree on it.
func (k *cluster) blockOf(node, within string) (string, error) {
	k.t.Helper()
	cidr, err := k.affinityOf(node)
	if err != nil {
		return "", err
	}
	state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: node}}
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil || !netip.MustParsePrefix(within).Contains(prefix.Addr()) {
		return "", fmt.Errorf("node %s has block %q, not one of %s", node, cidr, within)
	}
	block := &v3.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: strings.NewReplacer(".", "-", "/", "-").Replace(cidr)}}
	if !k.get(block) || block.Spec.Affinity == nil || *block.Spec.Affinity != "host:"+node {
		return "", fmt.Errorf("block %s is %+v", block.Name, block.Spec)
	}
	if !k.get(state) || !slices.ContainsFunc(state.Spec.Blocks, func(b v1alpha1.BlockLease) bool { return b.CIDR == cidr }) {
		return "", fmt.Errorf("NodeState %s has blocks %+v, not %s", node, state.Spec.Blocks, cidr)
	}
	return cidr, nil
}

// affinityOf returns the CIDR of a confirmed lease of a node.
func (k *cluster) affinityOf(node string) (string, error) {
	k.t.Helper()
	affinities := &v3.BlockAffinityList{}
	k.must(k.client.List(k.t.Context(), affinities), "listing affinities")
	for _, a := range affinities.Items {
		if a.Spec.Node == node && a.Spec.State == v3.StateConfirmed && a.Spec.Type == "host" {
			return a.Spec.CIDR, nil
		}
	}
	return "", fmt.Errorf("node %s has none of %d blocks", node, len(affinities.Items))
}

// TestBlocksComeAndGo follows blocks from a node's arrival over growth to its end.
func TestBlocksComeAndGo(t *testing.T) {
	k := newCluster(t)
	k.agents()
	k.create(namespace("blocks"), node("node1", "10.0.0.11"), node("node2", "10.0.0.12"))
	k.operator(withPool())
	var blocks []string
	for _, name := range []string{"node1", "node2"} {
		k.eventually(name+" has a block before it has pods", func() error {
			block, err := k.blockOf(name, "10.48.0.0/16")
			if err == nil {
				blocks = append(blocks, block)
			}
			return err
		})
	}
	if blocks[0] == blocks[1] {
		t.Fatalf("both nodes have %s", blocks[0])
	}
	for i := range 60 {
		k.create(pod("blocks", fmt.Sprintf("p%d", i), "node1", nil))
	}
	k.eventually("node1 has a second block ahead of need", func() error {
		state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
		k.get(state)
		if len(state.Spec.Blocks) < 2 {
			return fmt.Errorf("it has %+v for %d pods", state.Spec.Blocks, len(state.Spec.Endpoints))
		}
		return nil
	})

	late := pod("blocks", "late", "node2", nil)
	k.create(late)
	k.endpointOf("node2", "blocks/late")
	k.delete(node("node2", ""))
	k.eventually("the state of node2 goes with it", func() error {
		if k.get(&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node2"}}) {
			return errors.New("it is there")
		}
		return nil
	})
	if _, err := k.affinityOf("node2"); err != nil {
		t.Errorf("a pod is still bound to node2: %v", err)
	}
	k.delete(late)
	k.eventually("node2 leaves nothing behind", func() error {
		_, err := k.blockOf("node2", "10.48.0.0/16")
		block := &v3.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: strings.NewReplacer(".", "-", "/", "-").Replace(blocks[1])}}
		for _, left := range []bool{err == nil, k.get(block), k.get(&v1alpha1.NodeNetwork{ObjectMeta: metav1.ObjectMeta{Name: "node2"}})} {
			if left {
				return errors.New("something is left")
			}
		}
		return nil
	})
}

// TestPoolIsKeptFromANode has a pool's blocks asked back from a node that may not use it any more.
func TestPoolIsKeptFromANode(t *testing.T) {
	k := newCluster(t)
	k.agents()
	k.create(node("node1", "10.0.0.11"))
	k.operator(withPool())
	var cidr string
	k.eventually("node1 has a block", func() (err error) {
		cidr, err = k.blockOf("node1", "10.48.0.0/16")
		return err
	})
	pool := &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "default-ipv4-ippool"}}
	k.edit(pool, func() { pool.Spec.NodeSelector = "has(nobody)" })
	k.eventually("the block is withdrawn", func() error {
		block := &v3.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: strings.NewReplacer(".", "-", "/", "-").Replace(cidr)}}
		if k.get(block) && !block.Spec.Deleted {
			return fmt.Errorf("block %s is %+v", block.Name, block.Spec)
		}
		return nil
	})
}

// TestTwoOperatorsDoNotFight runs two, of which one writes; then the writer ends and the other goes on.
func TestTwoOperatorsDoNotFight(t *testing.T) {
	k := newCluster(t)
	k.agents()
	k.create(namespace("two"), node("node1", "10.0.0.11"), pod("two", "a", "node1", nil))
	gnp := globalPolicy("shared", "projectcalico.org/namespace == 'two'")
	k.create(gnp)
	opts := withPool()
	opts.LeaderElect = true
	stopFirst := k.operator(opts)
	k.enforced(gnp, "1/1")
	k.operator(opts)
	writes := k.tally()
	before := len(writes.quiet())
	if more := writes.quiet()[before:]; len(more) > 0 {
		t.Errorf("with two operators there is no rest: %v", more)
	}

	stopFirst()
	k.create(pod("two", "b", "node1", nil))
	k.addressed("node1", "two/b")
	for _, write := range writes.quiet()[before:] {
		if !strings.HasPrefix(write, "MODIFIED NodeState") && write != "MODIFIED NodeEndpoints node1" {
			t.Errorf("the second operator wrote %s", write)
		}
	}
}

// TestStartsBeforeItsKinds starts the operator on an API server that has none of the project's kinds yet, nor the
// operator's rights, and then installs the project as users do.
func TestStartsBeforeItsKinds(t *testing.T) {
	k := bareCluster(t)
	k.operator(controllers.Options{})
	k.install()
	k.create(node("node1", "10.0.0.11"))
	k.eventually("the node is rendered", func() error {
		if !k.get(&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}) {
			return errors.New("there is no NodeState")
		}
		return nil
	})
}
