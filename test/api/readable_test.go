package api

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/test/apischema"
	"github.com/manul-net/manul/test/apiserver"
)

// loadKinds reads the kinds of the user API.
func loadKinds(t *testing.T) map[string]*apischema.Kind {
	t.Helper()
	found, err := apischema.Load(filepath.Join(apiserver.Root(t), "config", "crd", "bases", "projectcalico.org_*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// typed reads a stored object into its Go type, as the operator's caches do, and returns the fields that the type does not have.
func typed(kind string, object map[string]any) (runtime.Object, []error, error) {
	scheme := runtime.NewScheme()
	if err := v3.AddToScheme(scheme); err != nil {
		return nil, nil, err
	}
	obj, err := scheme.New(schema.GroupVersionKind{Group: v3.GroupName, Version: v3.Version, Kind: kind})
	if err != nil {
		return nil, nil, err
	}
	raw, err := json.Marshal(object)
	if err != nil {
		return nil, nil, err
	}
	unknown, err := kjson.UnmarshalStrict(raw, obj)
	return obj, unknown, err
}

// TestReadable: whatever number stands where samples have one, what the schema lets pass can be read. One object that can't would hide
// all others of its kind from every program that lists them.
func TestReadable(t *testing.T) {
	kinds := loadKinds(t)
	tried := 0
	for _, file := range files(t, filepath.Join(apiserver.Root(t), "config", "samples", "*.yaml")) {
		for _, u := range objects(t, file) {
			kind := kinds[u.GetKind()]
			eachNumber(u.Object["spec"], "spec", func(path string, set func(any)) {
				for _, number := range []any{int64(5_000_000_000), int64(-5_000_000_000), int64(1) << 62, int64(-1), 1.5, 1e300} {
					set(number)
					tried++
					answer := kind.Create(t.Context(), u.Object)
					if answer.Err() != nil {
						continue
					}
					if _, _, err := typed(kind.Name, answer.Stored); err != nil {
						t.Errorf("%s: %s = %v is stored and can't be read: %v", kind.Name, path, number, err)
					}
				}
			})
		}
	}
	t.Logf("%d objects", tried)
	if tried < 200 {
		t.Error("hardly anything was tried")
	}
}

// eachNumber calls change for every number below value, and puts the number back.
func eachNumber(value any, path string, change func(path string, set func(any))) {
	below := func(path string, value any, set func(any)) {
		switch value.(type) {
		case int64, float64:
			change(path, set)
			set(value)
		default:
			eachNumber(value, path, change)
		}
	}
	switch value := value.(type) {
	case map[string]any:
		for name := range value {
			below(path+"."+name, value[name], func(v any) { value[name] = v })
		}
	case []any:
		for i := range value {
			below(fmt.Sprintf("%s[%d]", path, i), value[i], func(v any) { value[i] = v })
		}
	}
}
