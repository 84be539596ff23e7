package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/manul-net/manul/internal/selector"
)

// Labels that endpoints have beside their own, as users write them in selectors.
const (
	// LabelNamespace is the namespace of a pod or a NetworkSet.
	LabelNamespace = "projectcalico.org/namespace"
	// LabelOrchestrator is k8s on every pod.
	LabelOrchestrator = "projectcalico.org/orchestrator"
	// LabelServiceAccount is the service account of a pod.
	LabelServiceAccount = "projectcalico.org/serviceaccount"
	// LabelName is the name of a namespace to namespace selectors, and of a service account to service account selectors.
	LabelName = "projectcalico.org/name"

	// OrchestratorKubernetes is the value of LabelOrchestrator.
	OrchestratorKubernetes = "k8s"
)

// In compiled selectors the labels of an endpoint's namespace and service account stand beside the endpoint's own under
// these prefixes. A label key has at most one slash, so no label of an object can be taken for one of them.
const (
	namespacePrefix      = "namespace//"
	serviceAccountPrefix = "serviceaccount//"
)

func namespaceKey(key string) string      { return namespacePrefix + key }
func serviceAccountKey(key string) string { return serviceAccountPrefix + key }

// OwnKey tells whether the value of a key in a compiled selector is a label of the endpoint itself: one that its
// namespace and the name of its service account do not determine. On a host endpoint, which has neither, the keys of
// DeterminedKeys are labels like others.
func OwnKey(key string) bool {
	return !slices.Contains(DeterminedKeys(), key) &&
		!strings.HasPrefix(key, namespacePrefix) && !strings.HasPrefix(key, serviceAccountPrefix)
}

// DeterminedKeys are the keys under which pods have what the cluster says of them.
func DeterminedKeys() []string {
	return []string{LabelNamespace, LabelOrchestrator, LabelServiceAccount}
}

// EndpointLabels is what an endpoint or network set looks like to compiled selectors.
type EndpointLabels struct {
	// Own are the labels of the object itself.
	Own map[string]string
	// Pod tells a pod from a network set and from a host endpoint.
	Pod bool
	// Namespace of the object, empty if it has none, and the labels of that namespace.
	Namespace       string
	NamespaceLabels map[string]string
	// ServiceAccount of a pod and the labels of that account.
	ServiceAccount       string
	ServiceAccountLabels map[string]string
}

// Map puts all these labels under the keys that compiled selectors use.
func (l *EndpointLabels) Map() map[string]string {
	out := make(map[string]string, len(l.Own)+len(l.NamespaceLabels)+len(l.ServiceAccountLabels)+5)
	maps.Copy(out, l.Own)
	if l.Namespace != "" {
		for key, value := range l.NamespaceLabels {
			out[namespaceKey(key)] = value
		}
		out[namespaceKey(LabelName)] = l.Namespace
		out[LabelNamespace] = l.Namespace
	}
	if !l.Pod {
		return out
	}
	out[LabelOrchestrator] = OrchestratorKubernetes
	delete(out, LabelServiceAccount)
	if l.ServiceAccount != "" {
		for key, value := range l.ServiceAccountLabels {
			out[serviceAccountKey(key)] = value
		}
		out[serviceAccountKey(LabelName)] = l.ServiceAccount
		out[LabelServiceAccount] = l.ServiceAccount
	}
	return out
}

// inNamespace is fulfilled by what is in the namespace called name.
func inNamespace(name string) *selector.Selector {
	return selector.Equal(namespaceKey(LabelName), name)
}

// inNamespaces is fulfilled by what is in a namespace that s matches. What has no namespace does not fulfil it, not even
// when s is a negation.
func inNamespaces(s *selector.Selector) *selector.Selector {
	if s.IsGlobal() {
		return inNoNamespace()
	}
	return selector.And(selector.Has(namespaceKey(LabelName)), selector.Rename(s, namespaceKey))
}

// inNoNamespace is fulfilled by what has no namespace: host endpoints and global network sets.
func inNoNamespace() *selector.Selector { return selector.Not(selector.Has(namespaceKey(LabelName))) }

// withServiceAccount is fulfilled by pods whose service account s matches.
func withServiceAccount(s *selector.Selector) *selector.Selector {
	return selector.And(selector.Has(serviceAccountKey(LabelName)), selector.Rename(s, serviceAccountKey))
}
