package v3

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
)

// TestAddToScheme: every type of this package with an object's metadata is registered.
func TestAddToScheme(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	kinds := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !hasTypeMeta(spec) {
				return true
			}
			kinds++
			if !scheme.Recognizes(SchemeGroupVersion().WithKind(spec.Name.Name)) {
				t.Errorf("%s is not registered", spec.Name.Name)
			}
			return true
		})
	}
	if want := 2 * 22; kinds != want {
		t.Errorf("found %d kinds and lists, want %d", kinds, want)
	}
}

func hasTypeMeta(spec *ast.TypeSpec) bool {
	s, ok := spec.Type.(*ast.StructType)
	if !ok {
		return false
	}
	for _, f := range s.Fields.List {
		if sel, ok := f.Type.(*ast.SelectorExpr); ok && len(f.Names) == 0 && sel.Sel.Name == "TypeMeta" {
			return true
		}
	}
	return false
}
