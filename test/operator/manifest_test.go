package operator

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/controllers"
	"github.com/manul-net/manul/test/apiserver"
)

const (
	operatorAccount = "system:serviceaccount:manul-system:manul-operator"
	agentAccount    = "system:serviceaccount:manul-system:manul-node"
)

// manifest is what users apply: config/install.yaml.
func manifest(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(apiserver.Root(t), "config", "install.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var out []*unstructured.Unstructured
	for dec := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096); ; {
		obj := &unstructured.Unstructured{}
		if err := dec.Decode(obj); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatalf("reading the install manifest: %v", err)
		}
		out = append(out, obj)
	}
}

// install applies the install manifest in its order, but for the webhook: here nobody answers at its Service.
func (k *cluster) install() {
	k.t.Helper()
	for _, obj := range manifest(k.t) {
		if obj.GetKind() == "ValidatingWebhookConfiguration" {
			continue
		}
		err := k.client.Apply(k.t.Context(), client.ApplyConfigurationFromUnstructured(obj), client.FieldOwner("test"), client.ForceOwnership)
		k.must(err, "applying "+obj.GetKind()+" "+obj.GetName())
	}
}

// as is the server's configuration with another identity.
func (k *cluster) as(user string, extra map[string][]string) *rest.Config {
	cfg := rest.CopyConfig(k.server.Config)
	cfg.Impersonate = rest.ImpersonationConfig{
		UserName: user, Groups: []string{"system:serviceaccounts", "system:authenticated"}, Extra: extra,
	}
	return cfg
}

// asHost is the server's configuration with the identity of a host that is no node of the cluster.
func (k *cluster) asHost(user string) *rest.Config {
	cfg := rest.CopyConfig(k.server.Config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"manul:hosts", "system:authenticated"}}
	return cfg
}

// TestManifestHasEveryKind keeps the list of kinds in config/crd, and the manifest made of it, complete.
func TestManifestHasEveryKind(t *testing.T) {
	var have []string
	for _, obj := range manifest(t) {
		if group, _, _ := unstructured.NestedString(obj.Object, "spec", "group"); obj.GetKind() == "CustomResourceDefinition" {
			have = append(have, group+"_"+strings.SplitN(obj.GetName(), ".", 2)[0]+".yaml")
		}
	}
	files, err := filepath.Glob(filepath.Join(apiserver.Root(t), "config", "crd", "bases", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.Contains(have, filepath.Base(file)) {
			t.Errorf("config/install.yaml lacks %s: list it in config/crd/kustomization.yaml and run make install.yaml", filepath.Base(file))
		}
	}
	if len(have) != len(files) {
		t.Errorf("config/install.yaml has %d kinds, config/crd/bases %d", len(have), len(files))
	}
}

// TestAgentSpeaksForItsOwnNode writes NodeState.status as agents of two nodes.
func TestAgentSpeaksForItsOwnNode(t *testing.T) {
	k := newCluster(t)
	k.create(&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}, &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node2"}})
	write := func(user, from, to, subresource string) error {
		scheme, err := controllers.Scheme()
		k.must(err, "making a scheme")
		c, err := client.New(k.as(user, map[string][]string{"authentication.kubernetes.io/node-name": {from}}), client.Options{Scheme: scheme})
		k.must(err, "making a client")
		state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: to}}
		if subresource == "" {
			return c.Patch(t.Context(), state, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"settings":{"mtu":1400}}}`)))
		}
		return c.Status().Patch(t.Context(), state, client.RawPatch(types.MergePatchType, []byte(`{"status":{"dataplane":"nftables"}}`)))
	}
	// The policy comes into force a moment after it was applied.
	k.eventually("an agent can't write another node's status", func() error {
		if err := write(agentAccount, "node1", "node2", "status"); !apierrors.IsForbidden(err) {
			return errors.New("it can")
		}
		return nil
	})
	k.must(write(agentAccount, "node1", "node1", "status"), "writing the node's own status")
	if err := write(agentAccount, "node1", "node1", ""); !apierrors.IsForbidden(err) {
		t.Errorf("writing the node's own spec: %v, want it to be forbidden", err)
	}
	if err := write(operatorAccount, "node1", "node1", "status"); !apierrors.IsForbidden(err) {
		t.Errorf("the operator writes an agent's status: %v, want it to be forbidden", err)
	}
}

func rbacScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := rbacv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return scheme
}

// TestNobodyMayDoEverything looks for rights that are too wide.
func TestNobodyMayDoEverything(t *testing.T) {
	k := newCluster(t)
	roles := &rbacv1.ClusterRoleList{}
	rbac, err := client.New(k.server.Config, client.Options{Scheme: rbacScheme(t)})
	k.must(err, "making a client")
	k.must(rbac.List(t.Context(), roles, client.MatchingLabels{"app.kubernetes.io/part-of": "manul"}), "listing roles")
	if len(roles.Items) != 2 {
		t.Errorf("there are %d cluster roles, want those of operator and agent", len(roles.Items))
	}
	for _, role := range roles.Items {
		for _, rule := range role.Rules {
			for _, words := range [][]string{rule.Verbs, rule.Resources, rule.APIGroups} {
				if slices.Contains(words, "*") || slices.Contains(words, "secrets") {
					t.Errorf("cluster role %s has the rule %+v", role.Name, rule)
				}
			}
		}
	}
}
