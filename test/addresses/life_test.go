package addresses

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/log"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers/leases"
	"github.com/manul-net/manul/controllers/looks"
	"github.com/manul-net/manul/nodeagent/ipam"
)

// kindOfAddresses are the pools of a family, in blocks of two addresses for three nodes: they are soon full.
type kindOfAddresses struct {
	pools      map[string]netip.Prefix
	annotation string
}

func kinds() []kindOfAddresses {
	return []kindOfAddresses{
		{map[string]netip.Prefix{"pool": netip.MustParsePrefix("10.48.0.0/29"), "other": netip.MustParsePrefix("10.49.0.0/30")}, "cni.projectcalico.org/ipv4pools"},
		{map[string]netip.Prefix{"pool": netip.MustParsePrefix("fd00:48::/125"), "other": netip.MustParsePrefix("fd00:49::/126")}, "cni.projectcalico.org/ipv6pools"},
	}
}

// size is the number of addresses in a pool.
func size(pool netip.Prefix) int { return 1 << (pool.Addr().BitLen() - pool.Bits()) }

// life is a cluster in the course of a test.
type life struct {
	*rapid.T
	kindOfAddresses
	api       *api
	nodes     []*node
	operators []*operator
	lessors   []*leases.Lessor
	now       time.Time
	podCount  int
	// rest of addresses after use; used is whose each was, and when last.
	rest time.Duration
	used map[netip.Addr]use
}

type use struct {
	owner string
	at    time.Time
}

func (l *life) ok(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *life) clock() time.Time { return l.now }

func (l *life) names() []string {
	var out []string
	for _, n := range l.nodes {
		out = append(out, n.name)
	}
	return out
}

func (l *life) pool(name string, change func(*v3.IPPoolSpec)) {
	like := &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v3.IPPoolSpec{
		CIDR: l.pools[name].String(), BlockSize: l.pools[name].Addr().BitLen() - 1, NodeSelector: "all()",
	}}
	p, _ := get(l.api, like)
	change(&p.Spec)
	l.api.put(p)
}

// allPools changes both pools.
func (l *life) allPools(change func(*v3.IPPoolSpec)) {
	for name := range l.pools {
		l.pool(name, change)
	}
}

func (l *life) settings(strict, frozen bool) {
	o := &v3.IPAMConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v3.IPAMConfigurationSpec{AutoAllocateBlocks: !frozen, StrictAffinity: strict}}
	if l.rest > 0 {
		o.Spec.IPCooldownSeconds = new(int32(l.rest.Seconds()))
	}
	l.api.put(o)
}

func (l *life) join(name string, ready corev1.ConditionStatus) {
	l.api.put(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
	})
}

// podsOf are the pods that are bound to a node; of all nodes when the name is empty.
func (l *life) podsOf(node string) []*corev1.Pod {
	var out []*corev1.Pod
	for _, o := range l.api.objects {
		if pod, ok := o.(*corev1.Pod); ok && (node == "" || pod.Spec.NodeName == node) {
			out = append(out, pod)
		}
	}
	slices.SortFunc(out, func(a, b *corev1.Pod) int {
		return len(a.Name)*1000 + int(a.Name[len(a.Name)-1]) - len(b.Name)*1000 - int(b.Name[len(b.Name)-1])
	})
	return out
}

// check: no address belongs to two pods, nor to another pod before it has rested.
func (l *life) check(*rapid.T) {
	l.Helper()
	owner := map[netip.Addr]string{}
	for _, n := range l.nodes {
		if n.off {
			continue
		}
		for _, a := range n.given.Allocations() {
			if !n.sandboxes[a.Owner.UID] && !n.names(a.Owner.UID) {
				continue // the machine was off, or its disk is lost: nobody uses the address, and nobody will
			}
			for _, addr := range a.Addresses {
				if other, taken := owner[addr]; taken {
					l.Fatalf("%s belongs to %s on %s and to %s", addr, a.Owner.UID, n.name, other)
				}
				owner[addr] = a.Owner.UID + " on " + n.name
			}
		}
	}
	for addr, who := range owner {
		if was, ok := l.used[addr]; ok && was.owner != who && l.now.Sub(was.at) < l.rest {
			l.Fatalf("%s belongs to %s, and belonged to %s %s ago", addr, who, was.owner, l.now.Sub(was.at))
		}
		l.used[addr] = use{who, l.now}
	}
}

func newLife(t *rapid.T, dir string, rest time.Duration) *life {
	l := &life{T: t, kindOfAddresses: rapid.SampledFrom(kinds()).Draw(t, "family"), api: newAPI(), now: time.Unix(1_700_000_000, 0), rest: rest, used: map[netip.Addr]use{}}
	l.allPools(func(*v3.IPPoolSpec) {})
	l.settings(false, false)
	l.api.put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}})
	for _, name := range []string{"n1", "n2", "n3"} {
		n := &node{name: name, api: l.api, dir: dir, now: l.clock, sandboxes: map[string]bool{}}
		l.ok(n.start())
		l.nodes = append(l.nodes, n)
		l.join(name, corev1.ConditionTrue)
	}
	for range 2 {
		op, err := newOperator(l.api)
		l.ok(err)
		l.operators = append(l.operators, op)
		l.lessors = append(l.lessors, leases.New(op, op.world, l.clock))
	}
	return l
}

// plan has an operator act on what it has seen, until it is cut off after some writes.
func (l *life) plan(i, writes int) {
	op := l.operators[i]
	op.writes = writes
	_, err := l.lessors[i].Reconcile(l.Context(), looks.Look{})
	op.writes = -1
	if err != nil && writes < 0 {
		l.Fatal(err)
	}
	if err != nil {
		l.lessors[i] = leases.New(op, op.world, l.clock) // the next one knows nothing of what this one did
	}
}

// noticed has an operator see that a node has come back: one that leads makes a plan because of that. One that does not lead then has no plans, and
// knows nothing of how long anybody has been gone when it comes to lead.
func (l *life) noticed(i int, leads bool) {
	if !leads {
		l.lessors[i] = leases.New(l.operators[i], l.operators[i].world, l.clock)
		return
	}
	l.ok(l.operators[i].look())
	l.plan(i, -1)
}

func (l *life) close() {
	for _, n := range l.nodes {
		if !n.off {
			l.ok(n.given.Close())
		}
	}
}

// alive draws a node whose machine is on.
func (l *life) alive(t *rapid.T) *node {
	var on []*node
	for _, n := range l.nodes {
		if !n.off {
			on = append(on, n)
		}
	}
	if len(on) == 0 {
		t.Skip("all machines are off")
	}
	return rapid.SampledFrom(on).Draw(t, "node")
}

func (l *life) addPod(name string) { l.addPodAsking(name, "") }

// addPodAsking adds a pod that asks for a pool by annotation.
func (l *life) addPodAsking(name, pool string) {
	l.podCount++
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("p", l.podCount), UID: types.UID(fmt.Sprint("u", l.podCount))}}
	pod.Spec.NodeName = name
	if pool != "" {
		pod.Annotations = map[string]string{l.annotation: `["` + pool + `"]`}
	}
	l.api.put(pod)
}

// secretly has pods come to a node and go before it speaks, while their sandboxes stay: that the addresses are in use is known to the
// node alone.
func (l *life) secretly(n *node, pods, operator int) {
	before := l.podCount
	for range pods {
		l.addPod(n.name)
	}
	l.work(operator)
	l.ok(n.hear())
	for i := before + 1; i <= l.podCount; i++ {
		l.api.remove(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("p", i)}})
	}
}

// work has an operator do all that it does.
func (l *life) work(i int) {
	l.ok(l.operators[i].look())
	l.plan(i, -1)
	l.ok(l.operators[i].look())
	l.operators[i].render(l.names())
}

// each has all nodes do something whose machine is on.
func (l *life) each(do func(*node) error) {
	for _, n := range l.nodes {
		if !n.off {
			l.ok(do(n))
		}
	}
}

// round has everybody see, do and say everything.
func (l *life) round(*rapid.T) {
	l.work(0)
	l.each((*node).hear)
	l.each((*node).say)
}

// settle has everybody see, do and say everything, again and again.
func (l *life) settle() {
	for range 40 {
		l.round(l.T)
		l.now = l.now.Add(20 * time.Second)
		l.check(l.T)
	}
}

// TestPropertyLivesOfAddresses: whatever happens in whatever order, no address belongs to two pods. In the end, when all answer
// again, every pod has an address or every address is in use; and when no pods are left and the pool is disabled, all blocks have come back.
func TestPropertyLivesOfAddresses(t *testing.T) {
	log.SetLogger(logr.Discard())
	directory := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		own, err := os.MkdirTemp(directory, "") //nolint:usetesting // rapid's T has no directory, and the test's would keep those of all runs
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(own) }() // the directory around it goes too
		l := newLife(t, own, time.Duration(rapid.SampledFrom([]int{0, 0, 50}).Draw(t, "cooldown"))*time.Second)
		defer l.close()
		one := func(t *rapid.T) int { return rapid.IntRange(0, 1).Draw(t, "operator") }
		t.Repeat(map[string]func(*rapid.T){
			"pod comes": func(t *rapid.T) {
				n := l.alive(t)
				for range rapid.IntRange(1, 4).Draw(t, "pods") {
					l.addPod(n.name)
				}
			},
			"pod comes that asks for a pool": func(t *rapid.T) {
				n, pool := l.alive(t), rapid.SampledFrom([]string{"other", "pool"}).Draw(t, "pool")
				for range rapid.IntRange(1, 3).Draw(t, "pods") {
					l.addPodAsking(n.name, pool)
				}
			},
			"agent ends in the midst of its work": func(t *rapid.T) {
				l.ok(l.alive(t).hearAndEnd(rapid.IntRange(0, 5).Draw(t, "writes"), rapid.Bool().Draw(t, "the last is on disk")))
			},
			"a node needs more than its block has": func(t *rapid.T) {
				n := l.alive(t)
				for range rapid.IntRange(3, 6).Draw(t, "pods") {
					l.addPod(n.name)
				}
			},
			"pods come and go before their node speaks": func(t *rapid.T) {
				l.secretly(l.alive(t), rapid.IntRange(1, 2).Draw(t, "pods"), one(t))
			},
			"one node hears and the others do not": func(t *rapid.T) {
				l.work(one(t))
				l.work(one(t))
				l.ok(l.alive(t).hear())
			},
			"pod goes": func(t *rapid.T) {
				pods := l.podsOf("")
				if len(pods) == 0 {
					t.Skip("there are no pods")
				}
				pod := rapid.SampledFrom(pods).Draw(t, "pod")
				l.api.remove(pod)
				if rapid.Bool().Draw(t, "its sandbox too") {
					for _, n := range l.nodes {
						if n.name == pod.Spec.NodeName {
							l.ok(n.kill(string(pod.UID)))
						}
					}
				}
			},
			"sandboxes without a pod end": func(t *rapid.T) {
				n := l.alive(t)
				for uid := range n.sandboxes {
					if !slices.ContainsFunc(l.podsOf(n.name), func(p *corev1.Pod) bool { return string(p.UID) == uid }) {
						l.ok(n.kill(uid))
					}
				}
			},
			"operator looks":    func(t *rapid.T) { l.ok(l.operators[one(t)].look()) },
			"operator plans":    func(t *rapid.T) { l.plan(one(t), -1) },
			"operator ends":     func(t *rapid.T) { l.plan(one(t), rapid.IntRange(0, 4).Draw(t, "writes")) },
			"operator writes":   func(t *rapid.T) { l.operators[one(t)].render(l.names()) },
			"node hears":        func(t *rapid.T) { l.ok(l.alive(t).hear()) },
			"node speaks":       func(t *rapid.T) { l.ok(l.alive(t).say()) },
			"agent restarts":    func(t *rapid.T) { l.ok(l.alive(t).restart(rapid.IntRange(0, 3).Draw(t, "earlier"))) },
			"all look and do":   l.round,
			"all do the same":   l.round,
			"operators work":    func(t *rapid.T) { l.work(one(t)) },
			"an operator works": func(t *rapid.T) { l.work(one(t)) },
			"nodes hear":        func(*rapid.T) { l.each((*node).hear) },
			"nodes speak":       func(*rapid.T) { l.each((*node).say) },
			"journal is lost": func(t *rapid.T) {
				n := l.alive(t)
				l.ok(n.hear())
				if n.word == nil {
					t.Skip("the node has no state")
				}
				l.ok(n.say())
				l.ok(n.given.Close())
				n.disk++
				l.ok(n.start())
				l.ok(n.hear())
			},
			"node is lost": func(t *rapid.T) {
				n := l.alive(t)
				l.ok(n.powerOff())
				for _, pod := range l.podsOf(n.name) {
					l.api.remove(pod)
				}
				l.api.remove(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.name}})
			},
			"node comes back": func(t *rapid.T) {
				for _, n := range l.nodes {
					if n.off {
						lost := rapid.Bool().Draw(t, "disk is lost")
						if lost {
							l.forget(n)
						}
						l.ok(n.powerOn(lost))
						l.join(n.name, corev1.ConditionTrue)
						for i := range l.operators {
							l.noticed(i, rapid.Bool().Draw(t, "operator leads"))
						}
						return
					}
				}
				t.Skip("all machines are on")
			},
			"node does not answer": func(t *rapid.T) {
				l.join(l.alive(t).name, rapid.SampledFrom([]corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionUnknown}).Draw(t, "ready"))
			},
			"pool is edited": func(t *rapid.T) {
				l.pool(rapid.SampledFrom([]string{"pool", "other"}).Draw(t, "pool"), func(s *v3.IPPoolSpec) {
					s.Disabled = rapid.Bool().Draw(t, "disabled")
					s.NodeSelector = rapid.SampledFrom([]string{"all()", "name == 'n1'"}).Draw(t, "nodes")
					s.NamespaceSelector = rapid.SampledFrom([]string{"", "projectcalico.org/name == 'ns'", "projectcalico.org/name == 'x'"}).Draw(t, "namespaces")
					s.AssignmentMode = rapid.SampledFrom([]v3.AssignmentMode{"", v3.AssignmentManual}).Draw(t, "mode")
					s.AllowedUses = rapid.SampledFrom([][]v3.IPPoolAllowedUse{nil, {v3.IPPoolAllowedUseTunnel}, {v3.IPPoolAllowedUseLoadBalancer}}).Draw(t, "uses")
				})
			},
			"settings": func(t *rapid.T) {
				l.settings(rapid.Bool().Draw(t, "strict"), rapid.IntRange(0, 3).Draw(t, "frozen") == 0)
			},
			"time": func(*rapid.T) { l.now = l.now.Add(31 * time.Second) },
			"":     l.check,
		})

		l.heal()

		// All is over.
		for _, pod := range l.podsOf("") {
			l.api.remove(pod)
		}
		for _, n := range l.nodes {
			for uid := range n.sandboxes {
				l.ok(n.kill(uid))
			}
		}
		l.allPools(func(s *v3.IPPoolSpec) { s.Disabled = true })
		l.settle()
		for k, o := range l.api.objects {
			if _, ok := o.(*v3.IPAMBlock); ok {
				l.Fatalf("%s has not come back: %+v", k.name, o)
			}
			if _, ok := o.(*v3.BlockAffinity); ok {
				l.Fatalf("affinity %s is left over", k.name)
			}
		}
	})
}

// heal makes all well again: everybody answers, and every pod has an address, or every address is in use.
func (l *life) heal() {
	l.Helper()
	l.allPools(func(s *v3.IPPoolSpec) {
		s.Disabled, s.NodeSelector, s.NamespaceSelector, s.AssignmentMode, s.AllowedUses = false, "all()", "", "", nil
	})
	l.settings(false, false)
	for _, n := range l.nodes {
		if n.off {
			l.ok(n.powerOn(false))
		}
		l.join(n.name, corev1.ConditionTrue)
		for uid := range n.sandboxes {
			if !slices.ContainsFunc(l.podsOf(n.name), func(p *corev1.Pod) bool { return string(p.UID) == uid }) {
				l.ok(n.kill(uid))
			}
		}
	}
	l.settle()
	l.checkServed()
}

// checkServed: every pod has an address, or every address of the pools that it may use is in use.
func (l *life) checkServed() {
	l.Helper()
	used, waiting, all := map[string]int{}, map[string]int{}, 0
	for _, n := range l.nodes {
		for _, a := range n.given.Allocations() {
			for _, addr := range a.Addresses {
				all++
				for name, cidr := range l.pools {
					if cidr.Contains(addr) {
						used[name]++
					}
				}
			}
		}
		for _, pod := range l.podsOf(n.name) {
			if _, ok := n.given.Lookup(ipam.Owner{Endpoint: "ns/" + pod.Name, UID: string(pod.UID)}); ok {
				continue
			}
			for name := range l.pools {
				if asked := pod.Annotations[l.annotation]; asked == "" || asked == `["`+name+`"]` {
					waiting[name]++
				}
			}
		}
	}
	for name, pods := range waiting {
		if used[name] < size(l.pools[name]) {
			l.Fatalf("%d pods wait for %s although only %d of its %d addresses are in use", pods, name, used[name], size(l.pools[name]))
		}
	}
	if pods := len(l.podsOf("")); all > pods {
		l.Fatalf("%d addresses are in use by %d pods", all, pods)
	}
}

// forget: a node that is gone and loses its disk too knows nothing of how long its addresses have rested (docs/design/addresses.md).
func (l *life) forget(n *node) {
	for addr, was := range l.used {
		if strings.HasSuffix(was.owner, " on "+n.name) {
			delete(l.used, addr)
		}
	}
}
