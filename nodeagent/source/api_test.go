package source

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/apiserver"
)

const testNode = "worker1"

// event is one call of a sink.
type event struct {
	Call, Name string
	Kind       Kind
	Names      []string
}

// recorder is a sink that tells of all calls but Reached.
type recorder struct {
	events  chan event
	reached chan string
}

func newRecorder() *recorder {
	return &recorder{events: make(chan event, 1000), reached: make(chan string, 1000)}
}

func (r *recorder) Replace(kind Kind, objects []Object, _ string) {
	var names []string
	for _, o := range objects {
		names = append(names, o.GetName())
	}
	r.events <- event{Call: "replace", Kind: kind, Names: names}
}

func (r *recorder) Set(kind Kind, o Object) {
	if len(o.GetManagedFields()) > 0 {
		r.events <- event{Call: "managed fields", Kind: kind}
	}
	r.events <- event{Call: "set", Kind: kind, Name: o.GetName()}
}

func (r *recorder) Delete(kind Kind, name, _ string) {
	r.events <- event{Call: "delete", Kind: kind, Name: name}
}

func (r *recorder) Reached(_ Kind, version string) {
	select {
	case r.reached <- version:
	default:
	}
}

func (r *recorder) Awaited(kind Kind, version string) { r.Reached(kind, version) }

func (r *recorder) Together(give func(Sink)) { give(r) }

func (r *recorder) next(t *testing.T) event {
	t.Helper()
	select {
	case e := <-r.events:
		return e
	case <-time.After(time.Minute):
		t.Fatal("no news")
		return event{}
	}
}

func (r *recorder) expect(t *testing.T, want event) {
	t.Helper()
	if d := cmp.Diff(want, r.next(t)); d != "" {
		t.Fatalf("news (-want +got):\n%s", d)
	}
}

func testClient(t *testing.T, server *apiserver.Server) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return server.Client(t, scheme)
}

// begin follows the server until the test ends or stop is called.
func begin(t *testing.T, server *apiserver.Server, sink Sink) (a *API, stop func()) {
	t.Helper()
	a, err := NewAPI(server.Config, testNode, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, sink) }()
	return a, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func TestAPISource(t *testing.T) {
	server := apiserver.Start(t)
	installRendered(t, server)
	c := testClient(t, server)
	create := func(o client.Object) {
		t.Helper()
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	create(&v1alpha1.NodeNetwork{ObjectMeta: named("worker2")})
	create(&v1alpha1.NodeState{ObjectMeta: named("worker2")})

	sink := newRecorder()
	a, stop := begin(t, server, sink)
	first := map[Kind][]string{}
	for range Kinds() {
		e := sink.next(t)
		if e.Call != "replace" {
			t.Fatalf("%+v, want the first lists", e)
		}
		first[e.Kind] = e.Names
	}
	want := map[Kind][]string{NodeState: nil, NodeNetwork: {"worker2"}, NodeEndpoints: nil, PolicyProgram: nil, SetCatalog: nil}
	if d := cmp.Diff(want, first); d != "" {
		t.Fatalf("first lists: another node's state is not this one's business (-want +got):\n%s", d)
	}

	state := &v1alpha1.NodeState{ObjectMeta: named(testNode)}
	create(state)
	sink.expect(t, event{Call: "set", Kind: NodeState, Name: testNode})
	create(&v1alpha1.SetCatalog{ObjectMeta: named("sets-aa")})
	sink.expect(t, event{Call: "set", Kind: SetCatalog, Name: "sets-aa"})
	if err := c.Delete(t.Context(), &v1alpha1.SetCatalog{ObjectMeta: named("sets-aa")}); err != nil {
		t.Fatal(err)
	}
	sink.expect(t, event{Call: "delete", Kind: SetCatalog, Name: "sets-aa"})

	// The status is replaced as a whole, also what is no longer in it.
	a.Report(Report{Status: v1alpha1.NodeStateStatus{
		ObservedGeneration: 1, Dataplane: "nftables",
		Endpoints: []v1alpha1.EndpointStatus{{ID: "n/a", Addresses: []string{"10.48.0.1"}}},
	}})
	sink.expect(t, event{Call: "set", Kind: NodeState, Name: testNode})
	a.Report(Report{Status: v1alpha1.NodeStateStatus{ObservedGeneration: 2}})
	sink.expect(t, event{Call: "set", Kind: NodeState, Name: testNode})
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(state), state); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(v1alpha1.NodeStateStatus{ObservedGeneration: 2, Carrier: v1alpha1.CarrierAPI}, state.Status); d != "" {
		t.Errorf("status (-want +got):\n%s", d)
	}
	select {
	case <-sink.reached:
	default:
		t.Error("no version was given beside news")
	}
	stop()

	// Whoever comes back hears of all that there is, and so of what went while it was away.
	if err := c.Delete(t.Context(), &v1alpha1.NodeNetwork{ObjectMeta: named("worker2")}); err != nil {
		t.Fatal(err)
	}
	sink = newRecorder()
	_, stop = begin(t, server, sink)
	defer stop()
	for range Kinds() {
		if e := sink.next(t); e.Kind == NodeNetwork && len(e.Names) > 0 {
			t.Errorf("after coming back: %+v", e)
		}
	}
}

// installRendered installs the rendered kinds and no others.
func installRendered(t *testing.T, server *apiserver.Server) {
	t.Helper()
	bases := filepath.Join(apiserver.Root(t), "config", "crd", "bases")
	files, err := filepath.Glob(filepath.Join(bases, v1alpha1.GroupName+"_*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no rendered kinds in %s: %v", bases, err)
	}
	dir := t.TempDir()
	for _, f := range files {
		if err := os.Symlink(f, filepath.Join(dir, filepath.Base(f))); err != nil {
			t.Fatal(err)
		}
	}
	server.InstallCRDs(t, dir)
}
