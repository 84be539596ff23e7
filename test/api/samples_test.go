package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/test/apiserver"
)

// TestAPIServer applies manifests to a real API server with strict field validation, as kubectl does. Left to itself the API server would
// drop unknown fields without a word.
func TestAPIServer(t *testing.T) {
	s := apiserver.Start(t)
	s.InstallProjectCRDs(t)
	scheme := runtime.NewScheme()
	if err := v3.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := client.WithFieldValidation(s.Client(t, scheme), metav1.FieldValidationStrict)
	t.Run("samples", func(t *testing.T) { testSamples(t, c, scheme) })
	t.Run("rejected", func(t *testing.T) { testRejected(t, c) })
	t.Run("pool without changes", func(t *testing.T) { testPoolDefault(t, c) })
	t.Run("large policy", func(t *testing.T) { testLargePolicy(t, c) })
}

// testSamples: every kind has samples, each is accepted, and its Go type has all of its fields.
func testSamples(t *testing.T, c client.Client, scheme *runtime.Scheme) {
	found := map[string]bool{}
	for _, file := range files(t, filepath.Join(apiserver.Root(t), "config", "samples", "*.yaml")) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			for _, u := range objects(t, file) {
				found[u.GetKind()] = true
				if err := c.Create(t.Context(), u); err != nil {
					t.Errorf("%s %s: %v", u.GetKind(), u.GetName(), err)
					continue
				}
				typed, err := scheme.New(u.GroupVersionKind())
				if err != nil {
					t.Fatal(err)
				}
				if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, typed, true); err != nil {
					t.Errorf("%s %s: its Go type: %v", u.GetKind(), u.GetName(), err)
				}
			}
		})
	}
	for _, crd := range userCRDs(t) {
		if kind := crd.Spec.Names.Kind; !found[kind] {
			t.Errorf("config/samples has no %s", kind)
		}
	}
}

// testRejected: the last object of each file is refused with the texts of the comments "# error:" at its top; objects before it are
// accepted, for rules about changes. Every rule of the CRDs has such a file.
func testRejected(t *testing.T, c client.Client) {
	var texts []string
	for _, file := range files(t, filepath.Join("testdata", "rejected", "*.yaml")) {
		want := errorTexts(t, file)
		texts = append(texts, want...)
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			all := objects(t, file)
			last := all[len(all)-1]
			for _, u := range all[:len(all)-1] {
				if err := c.Create(t.Context(), u); err != nil {
					t.Fatalf("an object before the last: %v", err)
				}
				last.SetResourceVersion(u.GetResourceVersion())
			}
			var err error
			if len(all) == 1 {
				err = c.Create(t.Context(), last)
			} else {
				err = c.Update(t.Context(), last)
			}
			if err == nil {
				t.Fatal("it was accepted")
			}
			if !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
				t.Errorf("refused for another reason: %v", err)
			}
			for _, text := range want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("got error\n%v\nwant one with\n%s", err, text)
				}
			}
		})
	}
	all := strings.Join(texts, "\n")
	for _, crd := range userCRDs(t) {
		for _, message := range ruleMessages(crd.Spec.Versions[0].Schema.OpenAPIV3Schema) {
			if !strings.Contains(all, message) {
				t.Errorf("%s: no file in testdata/rejected for the rule %q", crd.Spec.Names.Kind, message)
			}
		}
	}
}

// testPoolDefault: writing down the block size that a pool has by default is no change of it.
func testPoolDefault(t *testing.T, c client.Client) {
	pool := &v3.IPPool{Spec: v3.IPPoolSpec{CIDR: "10.99.0.0/16"}}
	pool.Name = "default-block-size"
	if err := c.Create(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	pool.Spec.BlockSize = 26
	if err := c.Update(t.Context(), pool); err != nil {
		t.Errorf("blockSize 26 written down: %v", err)
	}
}

// testLargePolicy: a policy as large as the API server takes keeps within what the rules of its type may cost when they run.
func testLargePolicy(t *testing.T, c client.Client) {
	const rules, nets = 1024, 10
	tcp := intstr.FromString(v3.ProtocolTCP)
	policy := &v3.NetworkPolicy{}
	policy.Name, policy.Namespace = "large", "default"
	for i := range rules {
		r := v3.Rule{Action: v3.Allow, Protocol: &tcp, Destination: v3.EntityRule{Ports: []intstr.IntOrString{intstr.FromInt32(443), intstr.FromString("8000:8080")}}}
		for j := range nets {
			r.Source.Nets = append(r.Source.Nets, fmt.Sprintf("2001:db8:%x:%x::/64", i, j))
			r.Destination.NotNets = append(r.Destination.NotNets, fmt.Sprintf("2001:db8:%x:1%x::/64", i, j))
		}
		policy.Spec.Ingress = append(policy.Spec.Ingress, r)
		policy.Spec.Egress = append(policy.Spec.Egress, r)
	}
	if err := c.Create(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
}

// ruleMessages are the messages of all CEL rules of a schema.
func ruleMessages(s *apiextensionsv1.JSONSchemaProps) []string {
	var messages []string
	for _, r := range s.XValidations {
		messages = append(messages, r.Message)
	}
	for name := range s.Properties {
		p := s.Properties[name]
		messages = append(messages, ruleMessages(&p)...)
	}
	if s.Items != nil && s.Items.Schema != nil {
		messages = append(messages, ruleMessages(s.Items.Schema)...)
	}
	return messages
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	return found
}

func errorTexts(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "# error: "); ok {
			texts = append(texts, text)
		}
	}
	if len(texts) == 0 {
		t.Fatalf("%s does not say with \"# error:\" why it is refused", file)
	}
	return texts
}

func objects(t *testing.T, file string) []*unstructured.Unstructured {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []*unstructured.Unstructured
	dec := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(b), 4096)
	for {
		u := &unstructured.Unstructured{}
		switch err := dec.Decode(u); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, u)
	}
}
