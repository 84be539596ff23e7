// Package tunnels holds tests of tunnels between nodes, with real packets: the operator's compiler tells real node agents in network
// namespaces what to do, and pods talk over the network between them.
package tunnels

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/nodeagent/source"
)

// operator compiles users' objects and brings what is rendered to the nodes at once, and their reports back.
type operator struct {
	t testing.TB

	mu      sync.Mutex
	cluster *render.Cluster
	version int
	objects map[render.Key]source.Object
	sinks   map[string]source.Sink // by node
}

func newOperator(t testing.TB) *operator {
	return &operator{t: t, cluster: render.New(), objects: map[render.Key]source.Object{}, sinks: map[string]source.Sink{}}
}

// Give takes in manifests, separated by "---".
func (o *operator) Give(manifests string) {
	o.t.Helper()
	o.change(manifests, o.cluster.Set)
}

// take takes note that the objects of manifests are gone.
func (o *operator) take(manifests string) {
	o.t.Helper()
	o.change(manifests, o.cluster.Delete)
}

func (o *operator) change(manifests string, apply func(runtime.Object) error) {
	o.t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for text := range strings.SplitSeq(manifests, "\n---\n") {
		obj, err := parse(text)
		if err == nil {
			err = apply(obj)
		}
		if err != nil {
			o.t.Fatalf("%v in manifest:\n%s", err, text)
		}
	}
	o.flush()
}

func parse(text string) (runtime.Object, error) {
	var head unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(text), &head.Object); err != nil {
		return nil, err
	}
	obj := map[string]runtime.Object{
		"Node": &corev1.Node{}, "Pod": &corev1.Pod{}, "Namespace": &corev1.Namespace{}, "ServiceAccount": &corev1.ServiceAccount{},
		"IPPool": &v3.IPPool{}, "IPAMBlock": &v3.IPAMBlock{}, "FelixConfiguration": &v3.FelixConfiguration{}, "HostEndpoint": &v3.HostEndpoint{},
		"GlobalNetworkPolicy": &v3.GlobalNetworkPolicy{}, "NetworkPolicy": &v3.NetworkPolicy{}, "Tier": &v3.Tier{},
	}[head.GetKind()]
	if obj == nil {
		return nil, fmt.Errorf("no kind %q is known here", head.GetKind())
	}
	return obj, yaml.UnmarshalStrict([]byte(text), obj)
}

// flush renders what changed and tells the nodes that it concerns. What was rendered is observed in turn, as in the API.
func (o *operator) flush() {
	for keys := o.cluster.Dirty(); len(keys) > 0; keys = o.cluster.Dirty() {
		for _, key := range keys {
			o.write(key)
		}
	}
}

func (o *operator) write(key render.Key) {
	kind := source.Kind(key.Kind)
	desired, ok := o.cluster.Desired(key).(source.Object)
	before := o.objects[key]
	o.version++
	version := strconv.Itoa(o.version)
	if !ok || desired == nil {
		if before == nil {
			return
		}
		delete(o.objects, key)
		for _, sink := range o.concerned(key) {
			sink.Delete(kind, key.Name, version)
		}
		o.must(o.cluster.Delete(before))
		return
	}
	desired = desired.DeepCopyObject().(source.Object) //nolint:forcetypeassert // it is one
	desired.SetUID(types.UID("u-" + key.Name))
	desired.SetGeneration(1)
	if before != nil {
		desired.SetGeneration(before.GetGeneration() + 1)
	}
	if state, ok := desired.(*v1alpha1.NodeState); ok && before != nil {
		state.Status = before.(*v1alpha1.NodeState).Status //nolint:forcetypeassert // of the same key
	}
	o.observe(key, desired, version)
	for _, sink := range o.concerned(key) {
		sink.Set(kind, desired.DeepCopyObject().(source.Object)) //nolint:forcetypeassert // it is one
	}
}

func (o *operator) observe(key render.Key, obj source.Object, version string) {
	obj.SetResourceVersion(version)
	o.objects[key] = obj
	o.must(o.cluster.Set(obj.DeepCopyObject()))
}

func (o *operator) must(err error) {
	if err != nil {
		o.t.Error(err)
	}
}

// concerned are the nodes that follow an object: their own NodeState, and all others of all kinds.
func (o *operator) concerned(key render.Key) []source.Sink {
	var out []source.Sink
	for node, sink := range o.sinks {
		if key.Kind != render.KindNodeState || key.Name == node {
			out = append(out, sink)
		}
	}
	return out
}

// status is what a node last reported.
func (o *operator) status(node string) v1alpha1.NodeStateStatus {
	o.mu.Lock()
	defer o.mu.Unlock()
	if state, ok := o.objects[render.Key{Kind: render.KindNodeState, Name: node}].(*v1alpha1.NodeState); ok {
		return *state.Status.DeepCopy()
	}
	return v1alpha1.NodeStateStatus{}
}

// carrier is the way between the operator and one node.
type carrier struct {
	operator *operator
	node     string
}

// Run implements source.Source.
func (c *carrier) Run(ctx context.Context, sink source.Sink) error {
	o := c.operator
	o.mu.Lock()
	for _, kind := range source.Kinds() {
		var objects []source.Object
		for key, obj := range o.objects {
			if source.Kind(key.Kind) == kind && (kind != source.NodeState || key.Name == c.node) {
				objects = append(objects, obj.DeepCopyObject().(source.Object)) //nolint:forcetypeassert // it is one
			}
		}
		sink.Replace(kind, objects, strconv.Itoa(o.version))
	}
	o.sinks[c.node] = sink
	o.mu.Unlock()
	<-ctx.Done()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sinks[c.node] == sink {
		delete(o.sinks, c.node)
	}
	return nil
}

// Report implements source.Source.
func (c *carrier) Report(r source.Report) {
	o := c.operator
	o.mu.Lock()
	defer o.mu.Unlock()
	key := render.Key{Kind: render.KindNodeState, Name: c.node}
	state, ok := o.objects[key].(*v1alpha1.NodeState)
	if !ok {
		return
	}
	state = state.DeepCopy()
	state.Status = r.Status
	o.version++
	o.observe(key, state, strconv.Itoa(o.version))
	o.flush()
}

// patience bounds the wait for a state that must come about. An emulated processor is many times slower.
func patience() time.Duration {
	if os.Getenv("MANUL_MACHINE") != "" {
		return 6 * time.Minute // what it runs takes its part of the cores of this one, and is emulated
	}
	return time.Minute
}

// eventually waits for a state: problem says what is missing; "" when nothing is.
func eventually(t testing.TB, problem func() string) {
	t.Helper()
	deadline := time.Now().Add(patience())
	for {
		missing := problem()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", patience(), missing)
		}
		wait := time.NewTimer(5 * time.Millisecond)
		<-wait.C
	}
}

// behind says what a node has not put into effect yet; "": nothing.
func (o *operator) behind(node string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	state, ok := o.objects[render.Key{Kind: render.KindNodeState, Name: node}].(*v1alpha1.NodeState)
	if !ok {
		return "no NodeState of " + node
	}
	if state.Status.ObservedGeneration != state.Generation {
		return fmt.Sprintf("node %s is at generation %d, want %d; failures: %v", node, state.Status.ObservedGeneration, state.Generation, state.Status.Failures)
	}
	return ""
}
