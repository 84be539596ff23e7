package board

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
)

// cluster is a small rendered state in the making.
type cluster struct {
	t     *testing.T
	board *Board
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	return &cluster{t: t, board: New()}
}

func (c *cluster) put(objs ...runtime.Object) {
	c.t.Helper()
	var changes []Change
	for _, o := range objs {
		key, ok := KeyOf(o)
		if !ok {
			c.t.Fatalf("%T is not rendered", o)
		}
		changes = append(changes, Change{key, o})
	}
	if err := c.board.Put(changes, time.Now()); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) gone(kind render.Kind, name string) {
	c.t.Helper()
	if err := c.board.Put([]Change{{Key: render.Key{Kind: kind, Name: name}}}, time.Now()); err != nil {
		c.t.Fatal(err)
	}
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

// stateOf is the state of a node with one pod for each of the lists of programs.
func stateOf(node string, pods ...[]string) *v1alpha1.NodeState {
	o := &v1alpha1.NodeState{ObjectMeta: named(node)}
	for i, programs := range pods {
		e := v1alpha1.Endpoint{ID: fmt.Sprintf("ns/%s-%d", node, i)}
		if len(programs) > 0 {
			e.Ingress = []v1alpha1.TierPolicies{{Tier: "default", Policies: programs}}
		}
		o.Spec.Endpoints = append(o.Spec.Endpoints, e)
	}
	return o
}

func program(name string, sets ...string) *v1alpha1.PolicyProgram {
	return &v1alpha1.PolicyProgram{ObjectMeta: named(name), Spec: v1alpha1.PolicyProgramSpec{
		Ingress: []v1alpha1.Rule{{Action: v1alpha1.Allow, Source: v1alpha1.EntityMatch{Sets: sets}}},
	}}
}

func catalog(name string, sets ...v1alpha1.Set) *v1alpha1.SetCatalog {
	return &v1alpha1.SetCatalog{ObjectMeta: named(name), Spec: v1alpha1.SetCatalogSpec{Sets: sets}}
}

func set(id string, identities ...string) v1alpha1.Set {
	return v1alpha1.Set{ID: id, Identities: identities}
}

// endpoints of a node, each with an identity and an address: "ns/a:red:10.0.0.1".
func endpoints(node string, list ...v1alpha1.RemoteEndpoint) *v1alpha1.NodeEndpoints {
	return &v1alpha1.NodeEndpoints{ObjectMeta: named(node), Spec: v1alpha1.NodeEndpointsSpec{Endpoints: list}}
}

func pod(id, identity, address string, ports ...string) v1alpha1.RemoteEndpoint {
	e := v1alpha1.RemoteEndpoint{ID: id, Identities: []string{identity}, Addresses: []string{address}}
	for _, p := range ports {
		e.Ports = append(e.Ports, v1alpha1.NamedPort{Name: p})
	}
	return e
}

// follower is what a node knows from its batches.
type follower struct {
	t          *testing.T
	sub        *Subscription
	attachment uint64
	epoch      string
	cursor     uint64
	items      map[string]any
	versions   map[render.Kind]uint64
	asked      []render.Kind
	state      *Meta
}

func (c *cluster) follow(node string) *follower {
	c.t.Helper()
	f := &follower{t: c.t, items: map[string]any{}, versions: map[render.Kind]uint64{}}
	f.sub, f.attachment, _ = c.board.Subscribe(node, "", 0)
	f.take()
	return f
}

func text(key ItemKey) string { return fmt.Sprintf("%s %s %s", key.Kind, key.Name, key.ID) }

// take takes the next batch and gives the items in it.
func (f *follower) take() []string {
	f.t.Helper()
	b, current := f.sub.Take(f.attachment, Also{Versions: true, Leisurely: true})
	if !current {
		f.t.Fatal("the subscription has passed to another")
	}
	if b.Reset {
		clear(f.items)
	}
	told := []string{}
	if b.All != nil {
		for _, item := range b.All.Items {
			f.items[text(item.ItemKey)] = item.value
			told = append(told, "+ "+text(item.ItemKey))
		}
	}
	for _, key := range b.Gone {
		delete(f.items, text(key))
		told = append(told, "- "+text(key))
	}
	for _, item := range b.Items {
		f.items[text(item.ItemKey)] = item.value
		told = append(told, "+ "+text(item.ItemKey))
	}
	maps.Copy(f.versions, b.Versions)
	f.asked = b.Asked
	if b.State != nil {
		f.state = b.State
	}
	f.cursor, f.epoch = b.Cursor, f.sub.board.epoch
	slices.Sort(told)
	return told
}

func (f *follower) expect(what string, want ...string) {
	f.t.Helper()
	if want == nil {
		want = []string{}
	}
	if d := cmp.Diff(want, f.take()); d != "" {
		f.t.Errorf("%s (-want +told):\n%s", what, d)
	}
}

func (f *follower) knows() []string { return slices.Sorted(maps.Keys(f.items)) }

func TestANodeIsToldWhatConcernsItAndNothingElse(t *testing.T) {
	c := newCluster(t)
	c.put(catalog("sets-aa", set("aa", "red"), set("ab", "blue")), program("p", "aa"), program("q", "ab"),
		endpoints("n2", pod("ns/r", "red", "10.0.0.1"), pod("ns/b", "blue", "10.0.0.2"), pod("ns/g", "green", "10.0.0.3")),
		stateOf("n1", []string{"p"}), stateOf("n2", []string{"q"}),
		&v1alpha1.NodeNetwork{ObjectMeta: named("n2")})
	n1 := c.follow("n1")
	want := []string{
		"NodeEndpoints n2 ns/r", "NodeNetwork n2 ", "NodeState n1 ", "NodeState n1 ns/n1-0", "PolicyProgram p ", "SetCatalog sets-aa aa",
	}
	if d := cmp.Diff(want, n1.knows()); d != "" {
		t.Fatalf("at first (-want +known):\n%s", d)
	}
	for _, step := range []struct {
		what string
		do   func()
		want []string
	}{
		{"an endpoint in a set comes", func() {
			c.put(endpoints("n3", pod("ns/r2", "red", "10.0.1.1"), pod("ns/b2", "blue", "10.0.1.2")))
		}, []string{"+ NodeEndpoints n3 ns/r2"}},
		{"one that is in no set of the node changes", func() {
			c.put(endpoints("n3", pod("ns/r2", "red", "10.0.1.1"), pod("ns/b2", "blue", "10.0.1.9")))
		}, nil},
		{"it joins a set", func() {
			c.put(endpoints("n3", pod("ns/r2", "red", "10.0.1.1"), pod("ns/b2", "red", "10.0.1.9")))
		}, []string{"+ NodeEndpoints n3 ns/b2"}},
		{"and leaves it", func() {
			c.put(endpoints("n3", pod("ns/r2", "red", "10.0.1.1"), pod("ns/b2", "blue", "10.0.1.9")))
		}, []string{"- NodeEndpoints n3 ns/b2"}},
		{
			"a set gains an identity", func() { c.put(catalog("sets-aa", set("aa", "red", "blue"), set("ab", "blue"))) },
			[]string{"+ NodeEndpoints n2 ns/b", "+ NodeEndpoints n3 ns/b2", "+ SetCatalog sets-aa aa"},
		},
		{
			"and loses another", func() { c.put(catalog("sets-aa", set("aa", "blue"), set("ab", "blue"))) },
			[]string{"+ SetCatalog sets-aa aa", "- NodeEndpoints n2 ns/r", "- NodeEndpoints n3 ns/r2"},
		},
		{"a program of another node changes", func() { c.put(program("q")) }, nil},
		{"the same content again", func() { c.put(program("p", "aa"), stateOf("n1", []string{"p"})) }, nil},
		{
			"a program names another set with the same members", func() { c.put(program("p", "ab")) },
			[]string{"+ PolicyProgram p ", "+ SetCatalog sets-aa ab", "- SetCatalog sets-aa aa"},
		},
		{
			"its pod has another program", func() { c.put(program("r"), stateOf("n1", []string{"r"})) },
			[]string{"+ NodeState n1 ns/n1-0", "+ PolicyProgram r ", "- NodeEndpoints n2 ns/b", "- NodeEndpoints n3 ns/b2", "- PolicyProgram p ", "- SetCatalog sets-aa ab"},
		},
		{"a program is named before it is there", func() { c.put(stateOf("n1", []string{"r", "s"})) }, []string{"+ NodeState n1 ns/n1-0", "- PolicyProgram s "}},
		{"and comes, with a set that comes later", func() { c.put(program("s", "ac")) }, []string{"+ PolicyProgram s "}},
		{"the set comes", func() { c.put(catalog("sets-ac", set("ac", "green"))) }, []string{"+ NodeEndpoints n2 ns/g", "+ SetCatalog sets-ac ac"}},
		{"its endpoints go", func() { c.gone(render.KindNodeEndpoints, "n2") }, []string{"- NodeEndpoints n2 ns/g"}},
		{"another node's pods change", func() { c.put(stateOf("n2")) }, nil},
		{"a node comes", func() { c.put(&v1alpha1.NodeNetwork{ObjectMeta: named("n3")}) }, []string{"+ NodeNetwork n3 "}},
		{"and goes", func() { c.gone(render.KindNodeNetwork, "n3") }, []string{"- NodeNetwork n3 "}},
	} {
		step.do()
		n1.expect(step.what, step.want...)
	}
}

func TestNamedPortsConcernTheNodesWhoseProgramsNameThem(t *testing.T) {
	c := newCluster(t)
	p := &v1alpha1.PolicyProgram{ObjectMeta: named("p"), Spec: v1alpha1.PolicyProgramSpec{
		Egress: []v1alpha1.Rule{{Action: v1alpha1.Allow, Destination: v1alpha1.EntityMatch{NamedPorts: []string{"web"}}}},
	}}
	c.put(p, stateOf("n1", []string{"p"}), endpoints("n2", pod("ns/a", "red", "10.0.0.1", "web"), pod("ns/b", "red", "10.0.0.2", "dns")))
	n1 := c.follow("n1")
	if want := []string{"NodeEndpoints n2 ns/a", "NodeState n1 ", "NodeState n1 ns/n1-0", "PolicyProgram p "}; !slices.Equal(n1.knows(), want) {
		t.Errorf("known: %q, want %q", n1.knows(), want)
	}
	c.put(endpoints("n2", pod("ns/a", "red", "10.0.0.1", "dns"), pod("ns/b", "red", "10.0.0.2", "dns", "web")))
	n1.expect("the port moves", "+ NodeEndpoints n2 ns/b", "- NodeEndpoints n2 ns/a")
}

func TestASlowNodeGetsTheNewestOnce(t *testing.T) {
	c := newCluster(t)
	c.put(catalog("sets-aa", set("aa", "red")), program("p", "aa"), stateOf("n1", []string{"p"}))
	slow := c.follow("n1")
	for i := range 1000 {
		c.put(endpoints("n2", pod("ns/a", "red", fmt.Sprintf("10.0.%d.%d", i/250, i%250))))
	}
	slow.expect("a thousand changes of one endpoint", "+ NodeEndpoints n2 ns/a")
	if e := slow.items["NodeEndpoints n2 ns/a"].(*v1alpha1.RemoteEndpoint); e.Addresses[0] != "10.0.3.249" {
		t.Errorf("the node has %s, not the newest", e.Addresses)
	}
	c.put(endpoints("n2", pod("ns/a", "red", "10.0.9.9")))
	c.gone(render.KindNodeEndpoints, "n2")
	slow.expect("what changed and went", "- NodeEndpoints n2 ns/a")
}

func TestWhoComesBackIsToldWhatItMissed(t *testing.T) {
	for name, tc := range map[string]struct {
		epoch   func(*follower) string
		cursor  func(*follower) uint64
		resumed bool
	}{
		"with all it was sent":                   {func(f *follower) string { return f.epoch }, func(f *follower) uint64 { return f.cursor }, true},
		"without the last batch":                 {func(f *follower) string { return f.epoch }, func(f *follower) uint64 { return f.cursor - 1 }, true},
		"from another replica":                   {func(*follower) string { return "other" }, func(f *follower) uint64 { return f.cursor }, false},
		"with nothing":                           {func(*follower) string { return "" }, func(*follower) uint64 { return 0 }, false},
		"from before what everything began with": {func(f *follower) string { return f.epoch }, func(*follower) uint64 { return 0 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.put(catalog("sets-aa", set("aa", "red")), program("p", "aa"), stateOf("n1", []string{"p"}), endpoints("n2", pod("ns/a", "red", "10.0.0.1")))
			f := c.follow("n1")
			c.put(endpoints("n2", pod("ns/a", "red", "10.0.0.1"), pod("ns/b", "red", "10.0.0.2")))
			f.take()
			f.sub.Leave(f.attachment, func() {})
			c.put(endpoints("n2", pod("ns/a", "red", "10.0.0.9")))
			sub, attachment, resumed := c.board.Subscribe("n1", tc.epoch(f), tc.cursor(f))
			if resumed != tc.resumed {
				t.Errorf("resumed: %v, want %v", resumed, tc.resumed)
			}
			f.sub, f.attachment = sub, attachment
			told := f.take()
			want := []string{"+ NodeEndpoints n2 ns/a", "- NodeEndpoints n2 ns/b"}
			if resumed && !slices.Equal(told, want) {
				t.Errorf("told %q, want %q", told, want)
			}
			fresh := c.follow("n1")
			if d := cmp.Diff(fresh.items, f.items); d != "" {
				t.Errorf("who begins anew knows more (-anew +came back):\n%s", d)
			}
		})
	}
}

func TestTheNewerStreamOfANodeCounts(t *testing.T) {
	c := newCluster(t)
	first := c.follow("n1")
	c.follow("n1")
	if _, current := first.sub.Take(first.attachment, Also{Versions: true}); current {
		t.Error("two streams of one node get news")
	}
	first.sub.Leave(first.attachment, func() { t.Error("the newer stream was forgotten") })
	if c.board.Nodes() != 1 {
		t.Errorf("%d nodes", c.board.Nodes())
	}
}

// in gives an object as the API has it.
func in[O metav1.Object](o O, version string, generation int64) O {
	o.SetResourceVersion(version)
	o.SetGeneration(generation)
	o.SetUID("u")
	return o
}

func TestVersionsStandForContentThatNodesWereTold(t *testing.T) {
	c := newCluster(t)
	c.put(program("p"), program("q"), stateOf("n1", []string{"p"}))
	f := c.follow("n1")
	expect := func(what string, version uint64, asked bool) {
		t.Helper()
		f.take()
		if got := f.versions[render.KindPolicyProgram]; got != version {
			t.Errorf("%s: version %d, want %d", what, got, version)
		}
		if got := slices.Contains(f.asked, render.KindPolicyProgram); got != asked {
			t.Errorf("%s: asked is %v", what, got)
		}
	}
	c.board.Written(in(program("p"), "10", 1), false)
	expect("what the node has is written", 10, true)
	c.board.Written(in(program("q"), "11", 1), false)
	expect("what does not concern it is written", 11, false)
	c.put(program("p", "aa"))
	c.put(program("p", "ab"))
	c.board.Written(in(program("p", "aa"), "12", 2), false)
	expect("what it had meanwhile is written", 12, true)
	c.board.Written(in(program("p", "zz"), "13", 3), false)
	expect("something that was never here is written", 12, false)
	c.board.Written(in(program("q", "ab"), "14", 2), false)
	expect("so what comes after does not count", 12, false)
	c.put(program("p", "zz"))
	expect("this replica learns of it", 13, true)
	c.put(program("q", "ab"))
	expect("and of the other", 14, false)
	status := in(program("p", "zz"), "15", 3)
	status.Status.Enforced = "1/1"
	c.board.Written(status, false)
	expect("a status is written", 15, false)
}

// TestWhoIsAskedForEndpoints: a policy that brings a label into use changes identities of endpoints, and the nodes that it concerns learn
// of these by the policy's set. They have to say when they have them, whatever is written first.
func TestWhoIsAskedForEndpoints(t *testing.T) {
	c := newCluster(t)
	c.put(endpoints("n2", pod("ns/a", "plain", "10.0.0.1")), endpoints("n3", pod("ns/b", "plain", "10.0.0.2")), stateOf("n1", nil))
	c.board.Written(in(endpoints("n2", pod("ns/a", "plain", "10.0.0.1")), "5", 1), false)
	c.board.Written(in(endpoints("n3", pod("ns/b", "plain", "10.0.0.2")), "6", 1), false)
	f := c.follow("n1")
	expect := func(what string, version uint64, asked bool) {
		t.Helper()
		f.take()
		if got := f.versions[render.KindNodeEndpoints]; got != version {
			t.Errorf("%s: version %d, want %d", what, got, version)
		}
		if got := slices.Contains(f.asked, render.KindNodeEndpoints); got != asked {
			t.Errorf("%s: asked is %v", what, got)
		}
	}
	red := endpoints("n2", pod("ns/a", "red", "10.0.0.1"))
	other := endpoints("n3", pod("ns/b", "red", "10.0.0.2"))
	c.put(catalog("00", set("s", "red")), red, other, program("p", "s"), stateOf("n1", []string{"p"}))
	expect("nothing is written yet", 6, false)
	c.board.Written(in(red, "7", 2), false)
	expect("the first is written", 7, true)
	c.board.Written(in(other, "8", 2), false)
	expect("the second is written", 8, true)

	strange := endpoints("n3", pod("ns/b", "blue", "10.0.0.2"))
	c.board.Written(in(strange, "9", 3), false)
	moved := endpoints("n2", pod("ns/a", "plain", "10.0.0.1"))
	c.put(moved)
	c.board.Written(in(moved, "10", 3), false)
	expect("written after something that was never here", 8, false)
	c.put(strange)
	expect("this replica learns of it", 10, true)
	f.sub, f.attachment, _ = c.board.Subscribe("n1", c.board.Epoch(), c.board.cursor)
	expect("who comes back may not have heard of it", 10, true)
}

func TestTheNodesOwnObject(t *testing.T) {
	c := newCluster(t)
	c.put(stateOf("n1"))
	f := c.follow("n1")
	if f.state != nil {
		t.Errorf("told of %+v before it was written", f.state)
	}
	c.board.Written(in(stateOf("n1"), "7", 1), false)
	f.take()
	if f.state == nil || f.state.Generation != 1 || f.state.Version != 7 {
		t.Errorf("told %+v", f.state)
	}
	c.put(stateOf("n1", []string{"p"}))
	f.take()
	f.state = nil
	c.board.Written(in(stateOf("n1", []string{"x"}), "8", 2), false)
	f.take()
	if f.state != nil {
		t.Errorf("told of a content that it never had: %+v", f.state)
	}
}

// TestANodeKnowsWhatAnybodyWouldWhoBeginsNow: however the state came about and however often a node looked, it knows in the end just what a
// new one is told.
func TestANodeKnowsWhatAnybodyWouldWhoBeginsNow(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := newCluster(t)
		some := func(from ...string) []string {
			var out []string
			for _, s := range from {
				if r.IntN(2) == 0 {
					out = append(out, s)
				}
			}
			return out
		}
		pick := func(from ...string) string { return from[r.IntN(len(from))] }
		f := c.follow("n1")
		for range 60 {
			switch r.IntN(7) {
			case 0:
				c.put(stateOf("n1", some("p", "q", "r"), some("p", "q", "r")))
			case 1:
				c.put(program(pick("p", "q", "r"), some("aa", "ab", "ac")...))
			case 2:
				c.put(catalog("sets-aa", set("aa", some("red", "blue", "green")...), set("ab", some("red", "blue", "green")...)))
			case 3:
				c.put(catalog("sets-ac", set("ac", some("red", "blue", "green")...)))
			case 4:
				var pods []v1alpha1.RemoteEndpoint
				for _, id := range some("a", "b", "c") {
					pods = append(pods, pod("ns/"+id, pick("red", "blue", "green"), pick("10.0.0.1", "10.0.0.2")))
				}
				c.put(endpoints(pick("n1", "n2"), pods...))
			case 5:
				c.gone(pick2(r, render.KindSetCatalog, render.KindPolicyProgram, render.KindNodeEndpoints), pick("sets-aa", "p", "n2"))
			case 6:
				if r.IntN(2) == 0 {
					f.take()
				} else {
					f.sub.Leave(f.attachment, func() {})
					f.sub, f.attachment, _ = c.board.Subscribe("n1", f.epoch, f.cursor)
				}
			}
		}
		f.take()
		known := maps.Clone(f.items)
		fresh := c.follow("n1")
		if d := cmp.Diff(fresh.items, known); d != "" {
			t.Fatalf("seed %d (-who begins now +who was there):\n%s", seed, d)
		}
	}
}

func pick2(r *rand.Rand, from ...render.Kind) render.Kind { return from[r.IntN(len(from))] }

// TestWhoIsAskedForItsWord: a node is asked at once when a policy may wait for it; for what only endpoints wait that change identity, at
// once too, but then not again before it has rested. What does not concern it, it is not asked for.
func TestWhoIsAskedForItsWord(t *testing.T) {
	c := newCluster(t)
	c.put(catalog("sets-aa", set("aa", "red"), set("ab", "blue")), program("p", "aa"), stateOf("n1", []string{"p"}))
	f := c.follow("n1")
	version := 100
	write := func(o interface {
		runtime.Object
		metav1.Object
	},
	) {
		c.put(o)
		version++
		c.board.Written(in(o, fmt.Sprint(version), int64(version)), false)
	}
	awake := func() bool {
		select {
		case <-f.sub.Wake():
			return true
		default:
			return false
		}
	}
	for _, step := range []struct {
		what       string
		do         func()
		leisurely  bool
		wakes      bool
		asked      bool
		restsAfter bool
	}{
		{"a set of the node comes to the API", func() { write(catalog("sets-aa", set("aa", "red"), set("ab", "blue"))) }, true, true, true, false},
		{"a set of another node changes", func() { write(catalog("sets-aa", set("aa", "red"), set("ab", "blue", "green"))) }, true, false, false, false},
		{"a set of the node changes", func() { write(catalog("sets-aa", set("aa", "red", "pink"), set("ab", "blue", "green"))) }, true, true, true, true},
		{"and again, while it rests", func() {
			o := catalog("sets-aa", set("aa", "red"), set("ab", "blue", "green"))
			c.put(o)
			awake()
			f.sub.Take(f.attachment, Also{})
			version++
			c.board.Written(in(o, fmt.Sprint(version), int64(version)), false)
		}, false, false, false, false},
		{"it has rested", func() {}, true, false, true, true},
		{"nothing more has come", func() {}, true, false, false, false},
		{"the next is asked for at once", func() { write(catalog("sets-aa", set("aa", "red", "pink"), set("ab", "blue", "green"))) }, true, true, true, true},
		{"a program is written, while it rests", func() { write(program("p", "aa", "ab")) }, false, true, true, false},
	} {
		awake()
		step.do()
		if got := awake(); got != step.wakes {
			t.Errorf("%s: its stream is woken: %t", step.what, got)
		}
		batch, _ := f.sub.Take(f.attachment, Also{Leisurely: step.leisurely})
		if got := len(batch.Asked) > 0; got != step.asked || batch.Rests != step.restsAfter {
			t.Errorf("%s: asked for %v, rests then: %t", step.what, batch.Asked, batch.Rests)
		}
	}
}

// TestWhatWaitsForNoOtherNews: a node's own pods and policies do not wait until there is more to tell.
func TestWhatWaitsForNoOtherNews(t *testing.T) {
	c := newCluster(t)
	c.put(catalog("sets-aa", set("aa", "red")), program("p", "aa"), stateOf("n1", []string{"p"}))
	f := c.follow("n1")
	for _, step := range []struct {
		what    string
		o       runtime.Object
		hurries bool
	}{
		{"a pod of another node", endpoints("n2", pod("ns/a", "red", "10.0.0.1")), false},
		{"a set", catalog("sets-aa", set("aa", "red", "pink")), false},
		{"a program", program("p", "aa", "ab"), true},
		{"a pod of its own", stateOf("n1", []string{"p"}, []string{"p"}), true},
		{"a pod of another node again", endpoints("n2", pod("ns/a", "red", "10.0.0.2")), false},
	} {
		c.put(step.o)
		select {
		case <-f.sub.Hurry():
			if !step.hurries {
				t.Errorf("%s should wait for other news when the operator is busy", step.what)
			}
		default:
			if step.hurries {
				t.Errorf("%s should not wait for other news", step.what)
			}
		}
		f.take()
	}
}
