// Package apischema says what an API server makes of an object of a CustomResourceDefinition, without an API server: by the same
// code, but in the process of the test. So thousands of manifests can be tried in seconds. What admission webhooks say is not in it.
package apischema

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// Kind is a kind as its CustomResourceDefinition has it.
type Kind struct {
	// Name of the kind, Plural of its resource.
	Name, Plural string
	Group        string
	Version      string
	Namespaced   bool

	structural *structuralschema.Structural
	validator  validation.SchemaValidator
	rules      *schemacel.Validator
}

// Load reads the CustomResourceDefinitions in the YAML files that a pattern matches, one in each, by kind.
func Load(pattern string) (map[string]*Kind, error) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("reading CRDs: no files %s: %w", pattern, err)
	}
	kinds := map[string]*Kind{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading a CRD: %w", err)
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(raw, crd); err != nil {
			return nil, fmt.Errorf("reading the CRD in %s: %w", file, err)
		}
		k, err := New(crd)
		if err != nil {
			return nil, fmt.Errorf("reading the CRD in %s: %w", file, err)
		}
		kinds[k.Name] = k
	}
	return kinds, nil
}

// New takes the first version of a CustomResourceDefinition.
func New(crd *apiextensionsv1.CustomResourceDefinition) (*Kind, error) {
	version := &crd.Spec.Versions[0]
	props := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema, props, nil); err != nil {
		return nil, fmt.Errorf("converting the schema: %w", err)
	}
	structural, err := structuralschema.NewStructural(props)
	if err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	validator, _, err := validation.NewSchemaValidator(props)
	if err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	return &Kind{
		Name: crd.Spec.Names.Kind, Plural: crd.Spec.Names.Plural, Group: crd.Spec.Group, Version: version.Name,
		Namespaced: crd.Spec.Scope == apiextensionsv1.NamespaceScoped,
		structural: structural, validator: validator,
		rules: schemacel.NewValidator(structural, true, celconfig.PerCallLimit),
	}, nil
}

// Answer is what an API server makes of an object.
type Answer struct {
	// Stored is the object as it is stored if nothing is wrong: without unknown fields, with defaults.
	Stored map[string]any
	// Unknown are the paths of fields that the kind does not have. With strict field validation the API server refuses them,
	// else it drops them.
	Unknown []string
	// Errs are the mistakes for which it refuses the object whatever the field validation.
	Errs field.ErrorList
}

// Err is the refusal of a client that asks for strict field validation; nil: accepted.
func (a *Answer) Err() error {
	var errs []error
	for _, path := range a.Unknown {
		errs = append(errs, fmt.Errorf("unknown field %q", path))
	}
	return errors.Join(append(errs, a.lenient())...)
}

func (a *Answer) lenient() error {
	if len(a.Errs) == 0 {
		return nil
	}
	return a.Errs.ToAggregate()
}

// Create answers for an object that is created. The object itself stays as it is.
func (k *Kind) Create(ctx context.Context, object map[string]any) *Answer {
	a := &Answer{Stored: runtime.DeepCopyJSON(object)}
	a.Unknown = pruning.PruneWithOptions(a.Stored, k.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	defaulting.PruneNonNullableNullsWithoutDefaults(a.Stored, k.structural)
	defaulting.Default(a.Stored, k.structural)
	a.Errs = validation.ValidateCustomResource(nil, a.Stored, k.validator)
	a.Errs = append(a.Errs, listtype.ValidateListSetsAndMaps(nil, k.structural, a.Stored)...)
	if k.rules != nil && !blocksRules(a.Errs) {
		errs, _ := k.rules.Validate(ctx, nil, k.structural, a.Stored, nil, celconfig.RuntimeCELCostBudget)
		a.Errs = append(a.Errs, errs...)
	}
	return a
}

// blocksRules: of an object that is not even of the schema's shape no CEL rule is asked.
func blocksRules(errs field.ErrorList) bool {
	for _, err := range errs {
		switch err.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return true
		default: // the shape is right
		}
	}
	return false
}
