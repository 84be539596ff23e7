package policystatus

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/render"
)

// latency is what a write of a status takes in these tests. Their time is that of testing/synctest: it passes when everybody waits.
const latency = 3 * time.Millisecond

// api is as much of an API server as the reporter needs: it keeps policies and programs, and notes writes of statuses.
type api struct {
	client.Client

	mu            sync.Mutex
	objects       map[string]client.Object
	writes        []write
	flying, atOne int // writes under way, and the most there were
}

// write of a status.
type write struct {
	of       string
	at       time.Time
	enforced string
}

func keyOf(o client.Object, name string) string { return fmt.Sprintf("%T %s", o, name) }

func (a *api) put(o client.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.objects[keyOf(o, o.GetName())] = o
}

func (a *api) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := a.objects[keyOf(into, key.Name)]
	if o == nil {
		return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func (a *api) Status() client.SubResourceWriter { return &statuses{api: a} }

type statuses struct {
	client.SubResourceWriter

	api *api
}

func (s *statuses) Patch(_ context.Context, o client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
	s.api.mu.Lock()
	s.api.flying++
	s.api.atOne = max(s.api.atOne, s.api.flying)
	s.api.mu.Unlock()
	time.Sleep(latency) //nolint:forbidigo // the time is synctest's
	s.api.mu.Lock()
	defer s.api.mu.Unlock()
	s.api.flying--
	raw, err := patch.Data(o)
	if err != nil {
		return err
	}
	var status struct{ Status v3.PolicyStatus }
	if err := json.Unmarshal(raw, &status); err != nil {
		return err
	}
	key := keyOf(o, o.GetName())
	s.api.writes = append(s.api.writes, write{key, time.Now(), status.Status.Enforced})
	return json.Unmarshal(raw, s.api.objects[key])
}

// scene is a cluster with a pod on each node, and the controller that reports on its policies.
type scene struct {
	t       *testing.T
	api     *api
	world   *live.World
	version int
	nodes   int
}

func nodeName(i int) string { return fmt.Sprint("node", i) }

// newScene has nodes and policies, and all that is rendered is in the API; no node has acknowledged anything.
func newScene(t *testing.T, nodes, policies int) *scene {
	t.Helper()
	s := &scene{t: t, api: &api{objects: map[string]client.Object{}}, world: live.New(), nodes: nodes}
	for i := range nodes {
		s.set(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(i)}})
		s.set(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("pod", i), UID: types.UID(fmt.Sprint("uid", i))},
			Spec:       corev1.PodSpec{NodeName: nodeName(i)},
		})
	}
	for i := range policies {
		s.policy(fmt.Sprint("policy", i), 1)
	}
	s.world.Open()
	s.write()
	c, err := controller.NewTypedUnmanaged("policystatus", func() controller.TypedOptions[render.PolicyRef] {
		o := options(s.api, s.world, &events.FakeRecorder{})
		skip := true
		o.SkipNameValidation, o.Logger = &skip, logr.Discard()
		return o
	}())
	if err != nil {
		t.Fatal(err)
	}
	if err := follow(c, s.world); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := c.Start(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); ended.Wait() })
	return s
}

func (s *scene) set(o runtime.Object) {
	s.t.Helper()
	if err := s.world.Set(o); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) policy(name string, generation int64) {
	p := &v3.GlobalNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: generation}}
	s.api.put(p)
	s.set(p.DeepCopy())
}

// write puts all that is rendered into the API.
func (s *scene) write() {
	var keys []render.Key
	s.world.OnKeys(func(all []render.Key) {
		if keys == nil {
			keys = all
		}
	})
	for _, key := range keys {
		o, ok := s.world.Desired(key).(client.Object)
		if !ok {
			continue
		}
		s.version++
		o = o.DeepCopyObject().(client.Object)
		o.SetResourceVersion(fmt.Sprint(s.version))
		o.SetGeneration(int64(s.version))
		if program, ok := o.(*v1alpha1.PolicyProgram); ok {
			s.api.put(program.DeepCopy())
		}
		if state, ok := o.(*v1alpha1.NodeState); ok {
			s.api.put(state.DeepCopy())
		}
		s.set(o)
	}
}

// says is what the agent of a node says: all is in force, or why nothing is.
func (s *scene) says(node int, failures ...v1alpha1.Failure) {
	s.t.Helper()
	var state v1alpha1.NodeState
	if err := s.api.Get(s.t.Context(), client.ObjectKey{Name: nodeName(node)}, &state); err != nil {
		s.t.Fatal(err)
	}
	state.Status.ObservedGeneration = state.Generation
	state.Status.Applied = map[string]string{}
	for _, kind := range []render.Kind{render.KindSetCatalog, render.KindPolicyProgram, render.KindNodeEndpoints, render.KindNodeNetwork} {
		state.Status.Applied[string(kind)] = fmt.Sprint(s.version)
	}
	state.Status.Failures = failures
	s.set(&state)
}

// settled waits until nobody has anything left to do, and returns the writes since the last time.
func (s *scene) settled() []write {
	time.Sleep(time.Minute) //nolint:forbidigo // the time is synctest's
	synctest.Wait()
	s.api.mu.Lock()
	defer s.api.mu.Unlock()
	writes := s.api.writes
	s.api.writes = nil
	return writes
}

// busiest is the greatest number of writes within a second.
func busiest(writes []write) int {
	most, from := 0, 0
	for to := range writes {
		for writes[to].at.Sub(writes[from].at) > time.Second {
			from++
		}
		most = max(most, to-from+1)
	}
	return most
}

// TestManyTransitionsAreWrittenAtABoundedRate: a thousand policies come into force at once, and then a node fails all of them; each is
// written once, and the API server sees no more writes a second, nor at a time, than it may.
func TestManyTransitionsAreWrittenAtABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const policies = 1000
		s := newScene(t, 2, policies)
		for _, step := range []struct {
			name     string
			do       func()
			enforced string
		}{
			{"the policies are new", func() {}, "0/2"},
			{"all come into force", func() { s.says(0); s.says(1) }, "2/2"},
			{"a node fails", func() { s.says(1, v1alpha1.Failure{Kind: "KubeProxy", Name: "node1", Message: "no room"}) }, "1/2"},
			{"nothing changes", func() { s.says(0) }, ""},
		} {
			step.do()
			writes := s.settled()
			counted := map[string]int{}
			for _, w := range writes {
				counted[w.of]++
				if w.enforced != step.enforced {
					t.Errorf("%s: %s was told to be in force on %s nodes, want %s", step.name, w.of, w.enforced, step.enforced)
				}
			}
			want := 2 * policies // the policy and its program
			if step.enforced == "" {
				want = 0
			}
			if len(counted) != want || len(writes) != want {
				t.Errorf("%s: %d writes of %d objects, want %d", step.name, len(writes), len(counted), want)
			}
			if n := busiest(writes); n > atOnce+writesPerSecond {
				t.Errorf("%s: %d writes in a second, want at most %d", step.name, n, atOnce+writesPerSecond)
			}
		}
		if s.api.atOne > writers {
			t.Errorf("%d writes at a time, want at most %d", s.api.atOne, writers)
		}
	})
}

// TestNodesThatFollowEachOtherCostAWriteASecond: nodes put a policy into force one after the other, ten a second. It is not written for
// each of them; that it is in force on all is written at once.
func TestNodesThatFollowEachOtherCostAWriteASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes, apart = 90, 100 * time.Millisecond
		s := newScene(t, nodes, 1)
		if writes := s.settled(); len(writes) != 2 {
			t.Fatalf("got %v, want one write of the policy and one of its program", writes)
		}
		start := time.Now()
		for i := range nodes {
			time.Sleep(apart) //nolint:forbidigo // the time is synctest's
			s.says(i)
		}
		last := time.Now()
		var writes []write
		for _, w := range s.settled() {
			if w.of == keyOf(&v3.GlobalNetworkPolicy{}, "policy0") {
				writes = append(writes, w)
			}
		}
		if n, most := len(writes), int(last.Sub(start)/time.Second)+1; n < 2 || n > most {
			t.Fatalf("%d writes, want at least two and at most %d: %v", n, most, writes)
		}
		end := len(writes) - 1
		for i := 1; i < end; i++ {
			if apart := writes[i].at.Sub(writes[i-1].at); apart < time.Second {
				t.Errorf("two writes are %s apart: %v", apart, writes)
			}
		}
		if all := fmt.Sprintf("%d/%d", nodes, nodes); writes[end].enforced != all || writes[end].at.Sub(last) > quick {
			t.Errorf("the last write is %v, %s after the last node was heard; want %s at once", writes[end], writes[end].at.Sub(last), all)
		}
	})
}
