package render

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/policy"
)

// Pod is what the compiler goes by of a pod. A cache may hold it in place of the pod itself, whose Go type takes 1,280 bytes however little
// it says.
type Pod struct {
	// ID is "namespace/name".
	ID string
	// UID by which the runtime asks for the pod's network.
	UID types.UID
	// ResourceVersion of the pod in the API.
	ResourceVersion string
	// Node is the name of the node that the pod is bound to, Account of its service account.
	Node, Account string
	// Networked: the pod is bound, has not ended, and has a network of its own.
	Networked bool

	Labels, Annotations map[string]string
	// Ports of its containers that have a name, in order.
	Ports []v1alpha1.NamedPort
}

var (
	_ runtime.Object            = &Pod{}
	_ metav1.ObjectMetaAccessor = &Pod{}
)

// PodOf is what the compiler goes by of a pod. It shares what it refers to with the pod.
func PodOf(p *corev1.Pod) *Pod {
	return &Pod{
		ID: p.Namespace + "/" + p.Name, UID: sandboxUID(p), ResourceVersion: p.ResourceVersion,
		Node: p.Spec.NodeName, Account: p.Spec.ServiceAccountName, Networked: isNetworked(p),
		Labels: p.Labels, Annotations: p.Annotations, Ports: namedPorts(&p.Spec),
	}
}

// isNetworked tells whether a pod has a network of its own now.
func isNetworked(p *corev1.Pod) bool {
	return p.Spec.NodeName != "" && !p.Spec.HostNetwork &&
		p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
}

// sandboxUID is the UID by which the runtime asks for a pod's network. The API server's object of a static pod is a mirror
// with a UID of its own; the kubelet starts the pod under the one that the annotation names.
func sandboxUID(p *corev1.Pod) types.UID {
	if uid := p.Annotations[corev1.MirrorPodAnnotationKey]; uid != "" {
		return types.UID(uid)
	}
	return p.UID
}

// Same tells whether two say the same of a pod, whatever their resource versions.
func (p *Pod) Same(other *Pod) bool {
	return p.ID == other.ID && p.UID == other.UID && p.Node == other.Node && p.Account == other.Account && p.Networked == other.Networked &&
		maps.Equal(p.Labels, other.Labels) && maps.Equal(p.Annotations, other.Annotations) && slices.Equal(p.Ports, other.Ports)
}

// Namespace of the pod, and its name there.
func (p *Pod) Namespace() (namespace, name string) {
	namespace, name, _ = strings.Cut(p.ID, "/")
	return namespace, name
}

// GetObjectMeta implements metav1.ObjectMetaAccessor, for caches.
func (p *Pod) GetObjectMeta() metav1.Object {
	namespace, name := p.Namespace()
	return &metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: p.UID, ResourceVersion: p.ResourceVersion, Labels: p.Labels, Annotations: p.Annotations,
	}
}

// GetObjectKind implements runtime.Object.
func (p *Pod) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object.
func (p *Pod) DeepCopyObject() runtime.Object {
	out := *p
	out.Labels, out.Annotations, out.Ports = maps.Clone(p.Labels), maps.Clone(p.Annotations), slices.Clone(p.Ports)
	return &out
}

// Pods tells how selectors see the pods of a namespace that have a network of their own, of all namespaces with an empty one, in no order and of so
// many at most. The labels are shared: read only.
func (c *Cluster) Pods(namespace string, most int) []policy.EndpointLabels {
	var out []policy.EndpointLabels
	add := func(e *endpoint) bool {
		if e.host == nil && len(out) < most {
			out = append(out, *e.view())
		}
		return len(out) < most
	}
	if namespace == "" {
		for _, e := range c.endpoints {
			if !add(e) {
				break
			}
		}
		return out
	}
	if n := c.namespaces[namespace]; n != nil {
		for e := range n.endpoints {
			if !add(e) {
				break
			}
		}
	}
	return out
}
