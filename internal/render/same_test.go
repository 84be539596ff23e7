package render

import (
	"fmt"
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/manul-net/manul/api/v1alpha1"
)

// specs are empty specs of all rendered kinds and items of their lists.
func specs() []any {
	return []any{
		&v1alpha1.NodeStateSpec{}, &v1alpha1.Endpoint{}, &v1alpha1.NodeEndpointsSpec{}, &v1alpha1.RemoteEndpoint{},
		&v1alpha1.NodeNetworkSpec{}, &v1alpha1.PolicyProgramSpec{}, &v1alpha1.SetCatalogSpec{}, &v1alpha1.Set{},
	}
}

// fill gives every field of a value something, lists one item each.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(t, field)
		}
	default:
		t.Fatalf("specs have a %s: say here what other values it has", v.Type())
	}
}

// others calls look with every value that differs from the one of fill in one place, and puts it back.
func others(path string, v reflect.Value, look func(path string)) {
	before := reflect.New(v.Type()).Elem()
	before.Set(v)
	try := func(what string, set func()) {
		set()
		look(path + what)
		v.Set(before)
	}
	switch v.Kind() {
	case reflect.String:
		try(" is another", func() { v.SetString("y") })
	case reflect.Bool:
		try(" is false", func() { v.SetBool(false) })
	case reflect.Int32, reflect.Int64:
		try(" is another", func() { v.SetInt(2) })
	case reflect.Pointer:
		others(path, v.Elem(), look)
		try(" is absent", v.SetZero)
	case reflect.Slice:
		others(path+"[0]", v.Index(0), look)
		try(" is absent", v.SetZero)
		try(" is longer", func() { v.Set(reflect.Append(before, before.Index(0))) })
	case reflect.Struct:
		for i := range v.NumField() {
			others(path+"."+v.Type().Field(i).Name, v.Field(i), look)
		}
	default: // fill has failed
	}
}

// TestSameLooksAtEveryField: of two specs that differ in one field, whichever it is, none is the same as the other. It fails when a field has
// been added to rendered state and [Same] does not look at it.
func TestSameLooksAtEveryField(t *testing.T) {
	for _, spec := range specs() {
		typ := reflect.TypeOf(spec).Elem()
		now, want := reflect.New(typ), reflect.New(typ)
		fill(t, now.Elem())
		fill(t, want.Elem())
		if !Same(now.Interface(), want.Interface()) {
			t.Errorf("%s: two that are alike are not the same", typ)
		}
		looked := 0
		others(typ.Name(), now.Elem(), func(path string) {
			looked++
			if Same(now.Interface(), want.Interface()) || Same(want.Interface(), now.Interface()) {
				t.Errorf("%s, and it is still the same", path)
			}
		})
		if looked == 0 || !Same(now.Interface(), want.Interface()) {
			t.Errorf("%s: after %d differences it is not as it was", typ, looked)
		}
		if Same(now.Interface(), reflect.New(typ).Interface()) || Same(now.Interface(), struct{}{}) || Same(now.Interface(), nil) {
			t.Errorf("%s: it is the same as an empty one, as what is of another type, or as nothing", typ)
		}
	}
}

// TestSameSaysWhatReflectionSays, of empty and absent lists too.
func TestSameSaysWhatReflectionSays(t *testing.T) {
	var compare func(path string, v reflect.Value, look func(path string))
	compare = func(path string, v reflect.Value, look func(string)) { // lists without items, absent lists
		switch v.Kind() {
		case reflect.Pointer:
			compare(path, v.Elem(), look)
		case reflect.Slice:
			compare(path+"[0]", v.Index(0), look)
			before := v.Slice(0, v.Len())
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
			look(path)
			v.Set(before)
		case reflect.Struct:
			for i := range v.NumField() {
				compare(path+"."+v.Type().Field(i).Name, v.Field(i), look)
			}
		default:
		}
	}
	for _, spec := range specs() {
		typ := reflect.TypeOf(spec).Elem()
		empty := reflect.New(typ)
		fill(t, empty.Elem())
		compare(typ.Name(), empty.Elem(), func(path string) {
			absent := reflect.New(typ)
			fill(t, absent.Elem())
			others(typ.Name(), absent.Elem(), func(other string) {
				a, b := empty.Interface(), absent.Interface()
				if got, want := Same(a, b), equality.Semantic.DeepEqual(a, b); got != want || Same(b, a) != want {
					t.Errorf("one without items in %s, the other where %s: the same: %t, want %t", path, other, got, want)
				}
			})
		})
	}
}

// TestSameTakesNoMemory: pods are compared far more often than they change.
func TestSameTakesNoMemory(t *testing.T) {
	a, b := &v1alpha1.NodeStateSpec{}, &v1alpha1.NodeStateSpec{}
	for _, s := range []*v1alpha1.NodeStateSpec{a, b} {
		fill(t, reflect.ValueOf(s).Elem())
		s.BGP = nil // it is rare, and compared by reflection
		for i := range 30 {
			e := s.Endpoints[0]
			e.ID = fmt.Sprint(i)
			s.Endpoints = append(s.Endpoints, e)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		if !Same(a, b) {
			t.Fatal("they are not the same")
		}
	}); n > 0 {
		t.Errorf("comparing two states takes memory %.0f times", n)
	}
}
