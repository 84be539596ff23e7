package api

import (
	"math"
	"reflect"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	v3 "github.com/manul-net/manul/api/v3"
)

// TestBounds: where the Go type of a field can't hold every number that JSON can, the schema has bounds. One object that can't be read
// would hide all others of its kind from every program that lists them.
func TestBounds(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v3.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	bounded := 0
	for _, crd := range userCRDs(t) {
		obj, err := scheme.New(schema.GroupVersionKind{Group: v3.GroupName, Version: v3.Version, Kind: crd.Spec.Names.Kind})
		if err != nil {
			t.Fatal(err)
		}
		root := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
		eachLeaf(reflect.TypeOf(obj).Elem(), root, crd.Spec.Names.Kind, func(path string, goType reflect.Type, s *apiextensionsv1.JSONSchemaProps) {
			low, high, ok := numbers(goType)
			if !ok {
				return
			}
			bounded++
			if s.Minimum == nil || s.Maximum == nil || *s.Minimum < low || *s.Maximum > high {
				t.Errorf("%s: want bounds within %.0f and %.0f, which is what %s holds", path, low, high, goType)
			}
		})
	}
	if bounded < 50 {
		t.Errorf("only %d fields were looked at", bounded)
	}
}

// numbers a type holds; false when it holds all or none.
func numbers(t reflect.Type) (low, high float64, ok bool) {
	switch {
	case t == reflect.TypeFor[intstr.IntOrString](), t.Kind() == reflect.Int32:
		return math.MinInt32, math.MaxInt32, true
	case t.Kind() == reflect.Uint32:
		return 0, math.MaxUint32, true
	case t.Kind() == reflect.Uint64, t.Kind() == reflect.Uint:
		return 0, math.MaxInt64, true
	case t.Kind() == reflect.Int8, t.Kind() == reflect.Int16, t.Kind() == reflect.Uint8, t.Kind() == reflect.Uint16:
		return 0, math.MaxInt8, true
	}
	return 0, 0, false
}

// eachLeaf walks a type and its schema together.
func eachLeaf(t reflect.Type, s *apiextensionsv1.JSONSchemaProps, path string, leaf func(string, reflect.Type, *apiextensionsv1.JSONSchemaProps)) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	leaf(path, t, s)
	switch {
	case t.Kind() == reflect.Slice && s.Items != nil && s.Items.Schema != nil:
		eachLeaf(t.Elem(), s.Items.Schema, path+"[]", leaf)
	case t.Kind() == reflect.Map && s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		eachLeaf(t.Elem(), s.AdditionalProperties.Schema, path+"{}", leaf)
	case t.Kind() == reflect.Struct:
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" && f.Anonymous {
				eachLeaf(f.Type, s, path, func(p string, ft reflect.Type, fs *apiextensionsv1.JSONSchemaProps) {
					if p != path {
						leaf(p, ft, fs)
					}
				})
			}
			if field, ok := s.Properties[name]; ok && name != "metadata" && name != "status" {
				eachLeaf(f.Type, &field, path+"."+name, leaf)
			}
		}
	}
}
