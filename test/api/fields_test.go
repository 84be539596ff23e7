package api

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/manul-net/manul/test/apiserver"
)

// kinds is how many kinds the user API has.
const kinds = 22

// TestFields compares the CRDs of the user API with the tables in testdata/fields, one for each kind. They hold the published contract of
// projectcalico.org/v3, which manifests are written for. What this project has beyond it (status, columns, bounds
// that the API server needs to run the rules on a type) is marked by a "+" before the line or before the word; a "-" marks what this project leaves out, to accept more.
func TestFields(t *testing.T) {
	crds := userCRDs(t)
	if len(crds) != kinds {
		t.Errorf("config/crd/bases has %d kinds of projectcalico.org, want %d", len(crds), kinds)
	}
	for _, crd := range crds {
		t.Run(crd.Spec.Names.Kind, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join("testdata", "fields", strings.ToLower(crd.Spec.Names.Kind)+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			want := contract(string(b))
			got := flatten(crd)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("table (-) and CRD (+) differ:\n%s", diff)
			}
		})
	}
}

// TestDescriptions: kubectl explain has something to say about every field.
func TestDescriptions(t *testing.T) {
	for _, crd := range userCRDs(t) {
		for i := range crd.Spec.Versions {
			root := crd.Spec.Versions[i].Schema.OpenAPIV3Schema
			if root.Description == "" {
				t.Errorf("%s has no description", crd.Spec.Names.Kind)
			}
			for name, s := range root.Properties {
				if name == "spec" || name == "status" {
					describe(t, crd.Spec.Names.Kind+"."+name, s)
				}
			}
		}
	}
}

func describe(t *testing.T, path string, s apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	if s.Description == "" {
		t.Errorf("%s has no description", path)
	}
	properties := s.Properties
	if s.Items != nil && s.Items.Schema != nil {
		properties = s.Items.Schema.Properties
	}
	for name, p := range properties {
		describe(t, path+"."+name, p)
	}
}

// contract reads a table: it resolves the marks of what is this project's own.
func contract(table string) []string {
	var lines []string
	for line := range strings.Lines(table) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "+ ")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words := slices.DeleteFunc(strings.Split(line, " "), func(w string) bool { return strings.HasPrefix(w, "-") })
		for i, w := range words {
			words[i] = strings.TrimPrefix(w, "+")
		}
		lines = append(lines, strings.Join(words, " "))
	}
	slices.Sort(lines)
	return lines
}

// userCRDs reads the CRDs of the user API.
func userCRDs(t *testing.T) []*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(apiserver.Root(t), "config", "crd", "bases", "projectcalico.org_*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(b, crd); err != nil {
			t.Fatalf("reading %s: %v", file, err)
		}
		crds = append(crds, crd)
	}
	return crds
}
