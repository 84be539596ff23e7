package cnilab

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/source"
)

// Operator gives a node its rendered state, and hears what it reports. It is safe for concurrent use.
type Operator struct {
	mu      sync.Mutex
	version int
	block   string
	pods    []string
	change  func(*v1alpha1.NodeStateSpec)
	sink    source.Sink
	status  v1alpha1.NodeStateStatus
}

var _ source.Source = (*Operator)(nil)

// NewOperator makes an operator that leases one block to the node.
func NewOperator(block string) *Operator { return &Operator{block: block, version: 1} }

// UID is that of a pod.
func UID(pod string) string { return "uid-" + strings.ReplaceAll(pod, "/", "-") }

// program is the policy of all pods.
const program = "np.lab.web"

// Change has the node's state be changed on its way.
func (o *Operator) Change(change func(*v1alpha1.NodeStateSpec)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.change = change
	o.version++
	if o.sink != nil {
		o.sink.Set(source.NodeState, o.state())
	}
}

// Status is what the node reported last.
func (o *Operator) Status() v1alpha1.NodeStateStatus {
	o.mu.Lock()
	defer o.mu.Unlock()
	return *o.status.DeepCopy()
}

// SetPods says which pods the node has: "namespace/name".
func (o *Operator) SetPods(pods ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pods = slices.Sorted(slices.Values(pods))
	o.version++
	if o.sink != nil {
		o.sink.Set(source.NodeState, o.state())
	}
}

func (o *Operator) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, UID: types.UID(name), Generation: int64(o.version), ResourceVersion: strconv.Itoa(o.version)}
}

func (o *Operator) state() *v1alpha1.NodeState {
	s := &v1alpha1.NodeState{ObjectMeta: o.meta(Name)}
	s.Spec.Blocks = []v1alpha1.BlockLease{{CIDR: o.block, Pool: o.block}}
	for _, pod := range o.pods {
		s.Spec.Endpoints = append(s.Spec.Endpoints, v1alpha1.Endpoint{
			ID: pod, UID: types.UID(UID(pod)), Identity: "i1",
			Ingress: []v1alpha1.TierPolicies{{Tier: "default", DefaultAction: v1alpha1.Deny, Policies: []string{program}}},
		})
	}
	if o.change != nil {
		o.change(&s.Spec)
	}
	o.status.DeepCopyInto(&s.Status)
	return s
}

// Run implements source.Source.
func (o *Operator) Run(ctx context.Context, sink source.Sink) error {
	o.mu.Lock()
	o.sink = sink
	port := int32(8080)
	tcp := int32(6)
	for _, kind := range source.Kinds() {
		var objects []source.Object
		if kind == source.NodeState {
			objects = append(objects, o.state())
		}
		if kind == source.PolicyProgram {
			objects = append(objects, &v1alpha1.PolicyProgram{ObjectMeta: o.meta(program), Spec: v1alpha1.PolicyProgramSpec{
				Ingress: []v1alpha1.Rule{{
					Action: v1alpha1.Allow, Protocol: &tcp,
					Destination: v1alpha1.EntityMatch{Ports: []v1alpha1.PortRange{{First: port, Last: port}}},
				}},
			}})
		}
		sink.Replace(kind, objects, strconv.Itoa(o.version))
	}
	o.mu.Unlock()
	<-ctx.Done()
	o.mu.Lock()
	o.sink = nil
	o.mu.Unlock()
	return nil
}

// Report implements source.Source.
func (o *Operator) Report(r source.Report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.status = r.Status
}

// Held are the addresses that the node says its pods hold, by pod.
func (o *Operator) Held() map[string][]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	held := map[string][]string{}
	for _, e := range o.status.Endpoints {
		held[e.ID] = e.Addresses
	}
	return held
}

// Pods are n names of pods.
func Pods(n int) []string {
	pods := make([]string, n)
	for i := range pods {
		pods[i] = fmt.Sprintf("lab/web-%03d", i)
	}
	return pods
}
