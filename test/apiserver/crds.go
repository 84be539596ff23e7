package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// crdTimeout bounds the wait for the API server to serve the kinds of one InstallCRDs.
const crdTimeout = 5 * time.Minute

// InstallCRDs creates or updates the CustomResourceDefinitions in the YAML files of a folder, and returns when
// their kinds are served.
func (s *Server) InstallCRDs(tb testing.TB, dir string) {
	tb.Helper()
	crds, err := readCRDs(dir)
	if err != nil {
		tb.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), crdTimeout)
	defer cancel()
	c := s.Client(tb, scheme)
	var errs []error
	for _, crd := range crds {
		errs = append(errs, applyCRD(ctx, c, crd))
	}
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(s.Config)
	if err != nil {
		tb.Fatalf("making a client: %v", err)
	}
	for _, crd := range crds {
		if err := waitServed(ctx, c, disco, crd); err != nil {
			tb.Fatal(err)
		}
	}
}

// InstallProjectCRDs installs the kinds of this project: config/crd/bases.
func (s *Server) InstallProjectCRDs(tb testing.TB) {
	tb.Helper()
	s.InstallCRDs(tb, filepath.Join(Root(tb), "config", "crd", "bases"))
}

// readCRDs reads the YAML files of a folder, which must hold CustomResourceDefinitions and nothing else.
func readCRDs(dir string) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("reading CRDs: %w", err)
	}
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, file := range files {
		found, err := readCRDFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading CRDs of %s: %w", file, err)
		}
		crds = append(crds, found...)
	}
	if len(crds) == 0 {
		return nil, fmt.Errorf("reading CRDs: no *.yaml in %s", dir)
	}
	return crds, nil
}

func readCRDFile(file string) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var crds []*apiextensionsv1.CustomResourceDefinition
	dec := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(b), 4096)
	for {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		switch err := dec.Decode(crd); {
		case errors.Is(err, io.EOF):
			return crds, nil
		case err != nil:
			return nil, err
		case crd.Kind == "" && crd.Name == "":
			continue // an empty document
		case crd.Kind != "CustomResourceDefinition":
			return nil, fmt.Errorf("%s %s is not a CustomResourceDefinition", crd.Kind, crd.Name)
		}
		crds = append(crds, crd)
	}
}

// applyCRD creates a definition, or makes the existing one equal to it.
func applyCRD(ctx context.Context, c client.Client, crd *apiextensionsv1.CustomResourceDefinition) error {
	err := c.Create(ctx, crd.DeepCopy())
	if apierrors.IsAlreadyExists(err) {
		err = replaceCRD(ctx, c, crd)
	}
	if err != nil {
		return fmt.Errorf("installing CRD %s: %w", crd.Name, err)
	}
	return nil
}

func replaceCRD(ctx context.Context, c client.Client, crd *apiextensionsv1.CustomResourceDefinition) error {
	// The API server's own controllers write the status of a definition at the same time.
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		old := &apiextensionsv1.CustomResourceDefinition{}
		if err := c.Get(ctx, client.ObjectKeyFromObject(crd), old); err != nil {
			return err
		}
		updated := crd.DeepCopy()
		updated.ResourceVersion = old.ResourceVersion
		return c.Update(ctx, updated)
	})
}

// waitServed returns when a definition is established and its kinds are found by discovery.
func waitServed(ctx context.Context, c client.Client, disco discovery.DiscoveryInterface, crd *apiextensionsv1.CustomResourceDefinition) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if err := refused(ctx, c, crd); err != nil {
			return false, err
		}
		last = served(ctx, c, disco, crd)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for CRD %s: %w", crd.Name, errors.Join(err, last))
	}
	return nil
}

// refused returns why a definition will never be served.
func refused(ctx context.Context, c client.Client, crd *apiextensionsv1.CustomResourceDefinition) error {
	now := &apiextensionsv1.CustomResourceDefinition{}
	if err := c.Get(ctx, client.ObjectKeyFromObject(crd), now); err != nil {
		return fmt.Errorf("reading its status: %w", err)
	}
	for _, cond := range now.Status.Conditions {
		if cond.Type == apiextensionsv1.NonStructuralSchema && cond.Status == apiextensionsv1.ConditionTrue {
			return fmt.Errorf("its schema is not structural: %s", cond.Message)
		}
		if cond.Type == apiextensionsv1.NamesAccepted && cond.Status == apiextensionsv1.ConditionFalse {
			return fmt.Errorf("its names are taken: %s", cond.Message)
		}
	}
	return nil
}

// served returns why a definition is not served yet.
func served(ctx context.Context, c client.Client, disco discovery.DiscoveryInterface, crd *apiextensionsv1.CustomResourceDefinition) error {
	now := &apiextensionsv1.CustomResourceDefinition{}
	if err := c.Get(ctx, client.ObjectKeyFromObject(crd), now); err != nil {
		return fmt.Errorf("reading its status: %w", err)
	}
	if !established(now) {
		return errors.New("it is not established")
	}
	for _, v := range crd.Spec.Versions {
		gv := crd.Spec.Group + "/" + v.Name
		list, err := disco.ServerResourcesForGroupVersion(gv)
		if err != nil {
			return fmt.Errorf("asking for the resources of %s: %w", gv, err)
		}
		if !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == crd.Spec.Names.Plural }) {
			return fmt.Errorf("%s is not among the resources of %s", crd.Spec.Names.Plural, gv)
		}
	}
	return nil
}

func established(crd *apiextensionsv1.CustomResourceDefinition) bool {
	return slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
	})
}
