package oracle

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// listOf is one kind of users' objects and where a world has them: a pointer to a slice of pointers.
type listOf struct {
	apiVersion, kind string
	list             any
}

// lists are all the kinds of users' objects, in the order in which people would apply them.
func (w *World) lists() []listOf {
	const calico, network = "projectcalico.org/v3", "policy.networking.k8s.io/"
	return []listOf{
		{"v1", "Node", &w.Nodes},
		{"v1", "Namespace", &w.Namespaces},
		{"v1", "ServiceAccount", &w.ServiceAccounts},
		{"v1", "Pod", &w.Pods},
		{"discovery.k8s.io/v1", "EndpointSlice", &w.EndpointSlices},
		{calico, "IPPool", &w.Pools},
		{calico, "Tier", &w.Tiers},
		{calico, "NetworkSet", &w.NetworkSets},
		{calico, "GlobalNetworkSet", &w.GlobalNetworkSets},
		{calico, "HostEndpoint", &w.HostEndpoints},
		{"networking.k8s.io/v1", "NetworkPolicy", &w.KubernetesPolicies},
		{calico, "NetworkPolicy", &w.NetworkPolicies},
		{calico, "GlobalNetworkPolicy", &w.GlobalPolicies},
		{network + "v1alpha2", "ClusterNetworkPolicy", &w.ClusterPolicies},
		{network + "v1alpha1", "AdminNetworkPolicy", &w.AdminPolicies},
		{network + "v1alpha1", "BaselineAdminNetworkPolicy", &w.BaselineAdminPolicies},
		{calico, "StagedNetworkPolicy", &w.StagedNetworkPolicies},
		{calico, "StagedGlobalNetworkPolicy", &w.StagedGlobalPolicies},
		{calico, "StagedKubernetesNetworkPolicy", &w.StagedKubernetesPolicies},
	}
}

const felixKind = "FelixConfiguration"

// Objects are all that users wrote.
func (w *World) Objects() []runtime.Object {
	var out []runtime.Object
	if w.Felix != nil {
		out = append(out, w.Felix)
	}
	for _, l := range w.lists() {
		list := reflect.ValueOf(l.list).Elem()
		for i := range list.Len() {
			if o, ok := reflect.TypeAssert[runtime.Object](list.Index(i)); ok {
				out = append(out, o)
			}
		}
	}
	return out
}

// Manifests are the users' objects as they would write them, in YAML.
func (w *World) Manifests() string {
	var out []string
	for _, d := range w.documents() {
		text, err := yaml.Marshal(d)
		if err != nil {
			text = []byte("# " + err.Error() + "\n")
		}
		out = append(out, string(text))
	}
	return strings.Join(out, "---\n")
}

// documents are the users' objects as they would write them, as trees.
func (w *World) documents() []map[string]any {
	var out []map[string]any
	add := func(apiVersion, kind string, o any) {
		fields := map[string]any{}
		text, err := json.Marshal(o)
		if err == nil {
			err = json.Unmarshal(text, &fields)
		}
		if err != nil {
			fields["error"] = err.Error()
		}
		prune(fields)
		fields["apiVersion"], fields["kind"] = apiVersion, kind
		out = append(out, fields)
	}
	if w.Felix != nil {
		add("projectcalico.org/v3", felixKind, w.Felix)
	}
	for _, l := range w.lists() {
		list := reflect.ValueOf(l.list).Elem()
		for i := range list.Len() {
			add(l.apiVersion, l.kind, list.Index(i).Interface())
		}
	}
	return out
}

// prune removes what is null or an empty status, and what nodes say of themselves: nobody writes that.
func prune(fields map[string]any) {
	for key, value := range fields {
		if key == "nodeInfo" || key == "daemonEndpoints" {
			delete(fields, key)
			continue
		}
		switch v := value.(type) {
		case nil:
			delete(fields, key)
		case map[string]any:
			if prune(v); len(v) == 0 && (key == "status" || key == "resources" || key == "conditions") {
				delete(fields, key)
			}
		case []any:
			for _, item := range v {
				if m, ok := item.(map[string]any); ok {
					prune(m)
				}
			}
		}
	}
}

// Add reads manifests into the world. Documents that are separated by "---" are objects of any kind that a world has.
func (w *World) Add(manifests string) error {
	for text := range strings.SplitSeq(manifests, "\n---\n") {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(text), &meta); err != nil {
			return fmt.Errorf("reading a manifest: %w", err)
		}
		if meta.Kind == "" && strings.TrimSpace(text) == "" {
			continue
		}
		if err := w.add(meta, text); err != nil {
			return fmt.Errorf("reading a manifest of kind %s: %w", meta.Kind, err)
		}
	}
	return nil
}

func (w *World) add(meta metav1.TypeMeta, text string) error {
	if meta.Kind == felixKind {
		return yaml.UnmarshalStrict([]byte(text), &w.Felix)
	}
	for _, l := range w.lists() {
		if l.kind != meta.Kind || l.apiVersion != meta.APIVersion {
			continue
		}
		list := reflect.ValueOf(l.list).Elem()
		o := reflect.New(list.Type().Elem().Elem())
		if err := yaml.UnmarshalStrict([]byte(text), o.Interface()); err != nil {
			return err
		}
		list.Set(reflect.Append(list, o))
		return nil
	}
	return fmt.Errorf("no world has objects of apiVersion %s", meta.APIVersion)
}
