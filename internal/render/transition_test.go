package render

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/selector"
)

// event is one version of an object in the API.
type event struct {
	key     Key
	object  runtime.Object // nil: deleted
	version string
	// computed is the time at which the operator worked out the content, and whole tells whether this is the last event
	// of what it worked out then.
	computed int
	whole    bool
}

// simulation is an operator, an API server, and nodes that learn of each kind of object in its own time.
type simulation struct {
	t       *rapid.T
	c       *Cluster
	users   map[string]runtime.Object
	states  map[string]*v1alpha1.NodeState
	logs    map[Kind][]event
	seen    map[Kind]int            // how far the operator has read each log
	acked   map[string]map[Kind]int // how far each node has acknowledged each log
	version int
	now     int
	// truth[time] tells for each pair of endpoint and set whether the one is in the other; a pair is absent while one of them
	// does not exist.
	truth []map[[2]string]bool
	// mayBeLate: an endpoint may be missing from a set for the moment.
	mayBeLate bool
}

func carriers() []Kind { return []Kind{KindSetCatalog, KindNodeEndpoints} }

func newSimulation(t *rapid.T) *simulation {
	s := &simulation{
		t: t, c: New(), users: map[string]runtime.Object{}, states: map[string]*v1alpha1.NodeState{},
		logs: map[Kind][]event{}, seen: map[Kind]int{}, acked: map[string]map[Kind]int{},
	}
	for _, name := range []string{"x", "y"} {
		s.user(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		s.states[name] = &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.NodeStateStatus{
			Applied: map[string]string{"NodeNetwork": "0"},
		}}
		s.acked[name] = map[Kind]int{}
		s.give(s.states[name])
	}
	for _, name := range []string{"n", "m"} {
		s.user(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	return s
}

func (s *simulation) give(obj runtime.Object) {
	if err := s.c.Set(obj); err != nil {
		s.t.Fatal(err)
	}
}

// user sets an object of the users'.
func (s *simulation) user(obj runtime.Object) {
	o, _ := obj.(metav1.Object)
	s.users[fmt.Sprintf("%T %s/%s", obj, o.GetNamespace(), o.GetName())] = obj
	s.give(obj)
}

func (s *simulation) userDeletes(obj runtime.Object) {
	o, _ := obj.(metav1.Object)
	delete(s.users, fmt.Sprintf("%T %s/%s", obj, o.GetNamespace(), o.GetName()))
	if err := s.c.Delete(obj); err != nil {
		s.t.Fatal(err)
	}
}

func (s *simulation) pod(i int, labels map[string]string) *corev1.Pod {
	name := fmt.Sprintf("p%d", i)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: []string{"n", "m"}[i%2], Name: name, UID: types.UID(name), Labels: labels},
		Spec:       corev1.PodSpec{NodeName: []string{"x", "y"}[i/2%2], ServiceAccountName: "default"},
	}
}

func (s *simulation) addPod(i int, labels map[string]string) {
	pod := s.pod(i, labels)
	s.user(pod)
	state := s.states[pod.Spec.NodeName].DeepCopy()
	id := pod.Namespace + "/" + pod.Name
	if !slices.ContainsFunc(state.Status.Endpoints, func(e v1alpha1.EndpointStatus) bool { return e.ID == id }) {
		state.Status.Endpoints = append(state.Status.Endpoints, v1alpha1.EndpointStatus{ID: id, UID: pod.UID, Addresses: []string{fmt.Sprintf("10.0.0.%d", i+1)}})
	}
	s.states[state.Name] = state
	s.give(state)
}

func (s *simulation) policy(i int, source string) *v3.GlobalNetworkPolicy {
	return &v3.GlobalNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("g%d", i)},
		Spec: v3.GlobalNetworkPolicySpec{Ingress: []v3.Rule{{Action: v3.Allow, Source: v3.EntityRule{
			Selector: source, NamespaceSelector: []string{"", "k1 == 'a'"}[i%2],
		}}}},
	}
}

// tick records what is true now.
func (s *simulation) tick() {
	now := map[[2]string]bool{}
	for _, e := range s.c.endpoints {
		view := selector.Map(e.view().Map())
		for id, set := range s.c.sets {
			now[[2]string{e.id, id}] = set.what.Selector.Match(view)
		}
	}
	s.truth = append(s.truth, now)
	s.now = len(s.truth) - 1
}

// write writes all that the operator wants to be written.
func (s *simulation) write() {
	for _, key := range s.c.Dirty() {
		obj := s.c.Desired(key)
		if key.Kind != KindSetCatalog && key.Kind != KindNodeEndpoints {
			continue
		}
		s.version++
		version := strconv.Itoa(s.version)
		switch o := obj.(type) {
		case *v1alpha1.SetCatalog:
			o = o.DeepCopy()
			o.ResourceVersion = version
			obj = o
		case *v1alpha1.NodeEndpoints:
			o = o.DeepCopy()
			o.ResourceVersion = version
			obj = o
		}
		s.logs[key.Kind] = append(s.logs[key.Kind], event{key: key, object: obj, version: version, computed: s.now})
	}
	for _, kind := range carriers() {
		if log := s.logs[kind]; len(log) > 0 {
			log[len(log)-1].whole = true
		}
	}
}

// read has the operator read some events of a log.
func (s *simulation) read(kind Kind, count int) {
	for range count {
		if s.seen[kind] == len(s.logs[kind]) {
			return
		}
		e := s.logs[kind][s.seen[kind]]
		s.seen[kind]++
		if e.object != nil {
			s.give(e.object)
			continue
		}
		obj := runtime.Object(&v1alpha1.SetCatalog{ObjectMeta: metav1.ObjectMeta{Name: e.key.Name}})
		if kind == KindNodeEndpoints {
			obj = &v1alpha1.NodeEndpoints{ObjectMeta: metav1.ObjectMeta{Name: e.key.Name}}
		}
		if err := s.c.Delete(obj); err != nil {
			s.t.Fatal(err)
		}
	}
}

// acknowledge has a node put some more events of a kind into effect and say so.
func (s *simulation) acknowledge(name string, kind Kind, count int) {
	s.acked[name][kind] = min(len(s.logs[kind]), s.acked[name][kind]+count)
	if s.acked[name][kind] == 0 {
		return
	}
	state := s.states[name].DeepCopy()
	state.Status.Applied[string(kind)] = s.logs[kind][s.acked[name][kind]-1].version
	s.states[name] = state
	s.give(state)
}

// restart replaces the operator by one that knows nothing but what is in the API.
func (s *simulation) restart() {
	s.c = New()
	for _, obj := range s.users {
		s.give(obj)
	}
	for _, state := range s.states {
		s.give(state)
	}
	for _, kind := range carriers() {
		s.seen[kind] = len(s.logs[kind])
		for _, obj := range s.at(kind, len(s.logs[kind])) {
			s.give(obj)
		}
	}
}

// at are the objects of a kind after the first n events of its log.
func (s *simulation) at(kind Kind, n int) map[string]runtime.Object {
	out := map[string]runtime.Object{}
	for _, e := range s.logs[kind][:n] {
		out[e.key.Name] = e.object
		if e.object == nil {
			delete(out, e.key.Name)
		}
	}
	return out
}

// asOf is the time up to which the first n events of a log are the truth.
func (s *simulation) asOf(kind Kind, n int) int {
	for ; n > 0; n-- {
		if e := s.logs[kind][n-1]; e.whole {
			return e.computed
		}
	}
	return -1
}

// check looks at every mix of versions that a node may know.
func (s *simulation) check() {
	for name := range s.states {
		for i := s.acked[name][KindSetCatalog]; i <= len(s.logs[KindSetCatalog]); i++ {
			catalogs := s.at(KindSetCatalog, i)
			for j := s.acked[name][KindNodeEndpoints]; j <= len(s.logs[KindNodeEndpoints]); j++ {
				since := min(s.asOf(KindSetCatalog, i), s.asOf(KindNodeEndpoints, j))
				if since >= 0 {
					s.checkMix(since, catalogs, s.at(KindNodeEndpoints, j), fmt.Sprintf("node %s at SetCatalogs %d and NodeEndpoints %d", name, i, j))
				}
			}
		}
	}
}

// checkMix: who was in a set all the time since the older of the two versions must be in it, who was not must not.
func (s *simulation) checkMix(since int, catalogs, endpoints map[string]runtime.Object, where string) {
	members := map[string][]string{}
	for _, obj := range catalogs {
		catalog, _ := obj.(*v1alpha1.SetCatalog)
		for _, set := range catalog.Spec.Sets {
			members[set.ID] = set.Identities
		}
	}
	for _, obj := range endpoints {
		node, _ := obj.(*v1alpha1.NodeEndpoints)
		for _, e := range node.Spec.Endpoints {
			for pair, want := range s.truth[s.now] {
				identities, known := members[pair[1]]
				if pair[0] != e.ID || !known || !s.steady(pair, want, since) {
					continue
				}
				got := slices.ContainsFunc(e.Identities, func(id string) bool { return slices.Contains(identities, id) })
				if got != want && (got || !s.mayBeLate) {
					s.t.Fatalf("%s: %s is in set %s (%s): %t, although since time %d it is constantly %t; it bears %v, the set lists %v",
						where, e.ID, pair[1], s.c.sets[pair[1]].what.Selector, got, since, want, e.Identities, identities)
				}
			}
		}
	}
}

func (s *simulation) steady(pair [2]string, want bool, since int) bool {
	for _, truth := range s.truth[since:] {
		if got, known := truth[pair]; !known || got != want {
			return false
		}
	}
	return true
}

// finish lets everybody catch up and checks that nothing is left of the transitions.
func (s *simulation) finish() {
	for range 6 {
		s.write()
		for _, kind := range carriers() {
			s.read(kind, len(s.logs[kind]))
			for name := range s.states {
				s.acknowledge(name, kind, len(s.logs[kind]))
			}
		}
	}
	fresh := New()
	for _, obj := range s.users {
		if err := fresh.Set(obj); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, state := range s.states {
		if err := fresh.Set(state); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, kind := range carriers() {
		objects := s.at(kind, len(s.logs[kind]))
		for name, obj := range objects {
			want := fresh.Desired(Key{kind, name})
			if want == nil {
				s.t.Fatalf("%s %s is left over", kind, name)
			}
			if got, expected := SpecOf(obj), SpecOf(want); !Same(got, expected) {
				s.t.Fatalf("%s %s, when all is quiet: got %+v, want %+v", kind, name, got, expected)
			}
		}
		for _, key := range fresh.Dirty() {
			if key.Kind == kind && objects[key.Name] == nil && fresh.Desired(key) != nil {
				s.t.Fatalf("%s %s is missing", kind, key.Name)
			}
		}
	}
}

func drawPodLabels(t *rapid.T) map[string]string {
	out := map[string]string{}
	for _, key := range []string{"k1", "k2", "k3"} {
		if rapid.Bool().Draw(t, "has "+key) {
			out[key] = rapid.SampledFrom([]string{"a", "b"}).Draw(t, key)
		}
	}
	return out
}

// peers are selectors over few keys, some of which match by a label's absence, and namespaces' labels.
func peers() []string {
	return []string{
		"k1 == 'a'", "k1 != 'a'", "k2 == 'a'", "!has(k2)", "has(k3)", "k3 in {'a'} || k1 == 'b'", "k2 == 'b' && k3 != 'a'", "all()",
	}
}

// run takes random steps and checks all mixes of versions after each.
func (s *simulation) run(step9 func()) {
	t := s.t
	for i := range 4 {
		s.addPod(i, drawPodLabels(t))
	}
	s.tick()
	s.write()
	for range rapid.IntRange(5, 25).Draw(t, "steps") {
		switch rapid.IntRange(0, 9).Draw(t, "step") {
		case 0, 1:
			s.user(s.policy(rapid.IntRange(0, 3).Draw(t, "policy"), rapid.SampledFrom(peers()).Draw(t, "peer")))
		case 2:
			s.userDeletes(s.policy(rapid.IntRange(0, 3).Draw(t, "policy"), ""))
		case 3, 4:
			s.write()
		case 5, 6:
			s.read(rapid.SampledFrom(carriers()).Draw(t, "kind"), rapid.IntRange(1, 5).Draw(t, "events"))
		case 7, 8:
			s.acknowledge(rapid.SampledFrom([]string{"x", "y"}).Draw(t, "node"), rapid.SampledFrom(carriers()).Draw(t, "kind"), rapid.IntRange(1, 5).Draw(t, "events"))
		case 9:
			step9()
		}
		s.tick()
		s.check()
	}
	s.finish()
}

func TestNoMixOfVersionsTakesAnEndpointOutOfASetItStaysIn(t *testing.T) {
	t.Run("while namespaces change", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			s := newSimulation(t)
			s.run(func() {
				s.user(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: drawPodLabels(t)}})
			})
		})
	})
	t.Run("while the operator restarts", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			s := newSimulation(t)
			s.run(s.restart)
		})
	})
}

func TestNoMixOfVersionsPutsAnEndpointIntoASetItStaysOutOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulation(t)
		s.mayBeLate = true // when a pod's own labels change, leaving sets at once comes first
		s.run(func() { s.addPod(rapid.IntRange(0, 3).Draw(t, "pod"), drawPodLabels(t)) })
	})
}
