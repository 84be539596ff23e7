package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// Object on its way from one process to the other, as the API server would send it.
type Object struct {
	Type string // of Go
	JSON []byte
	Gone bool
}

// types of objects that these clusters have, an empty one of each.
func types() []runtime.Object {
	return []runtime.Object{
		&corev1.Node{}, &corev1.Namespace{}, &corev1.ServiceAccount{}, &corev1.Pod{}, &networkingv1.NetworkPolicy{},
		&v3.NetworkPolicy{}, &v3.GlobalNetworkPolicy{}, &v3.NetworkSet{}, &v3.GlobalNetworkSet{},
		&v1alpha1.NodeState{}, &v1alpha1.NodeEndpoints{}, &v1alpha1.NodeNetwork{}, &v1alpha1.PolicyProgram{}, &v1alpha1.SetCatalog{},
	}
}

// empty makes an object of a type, and is nil for one that no cluster here has.
func empty(kind string) runtime.Object {
	typ := goTypes()[kind]
	if typ == nil {
		return nil
	}
	o, _ := reflect.TypeAssert[runtime.Object](reflect.New(typ))
	return o
}

// goTypes are the types by name.
//
//nolint:gochecknoglobals // made once of constants
var goTypes = sync.OnceValue(func() map[string]reflect.Type {
	all := map[string]reflect.Type{}
	for _, o := range types() {
		all[typeOf(o)] = reflect.TypeOf(o).Elem()
	}
	return all
})

func typeOf(o runtime.Object) string { return fmt.Sprintf("%T", o) }

func encode(o runtime.Object, gone bool) (Object, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return Object{}, fmt.Errorf("encoding %T: %w", o, err)
	}
	return Object{Type: typeOf(o), JSON: text, Gone: gone}, nil
}

func (o Object) decode() (runtime.Object, error) {
	into := empty(o.Type)
	if into == nil {
		return nil, fmt.Errorf("there is no %s in these clusters", o.Type)
	}
	if err := json.Unmarshal(o.JSON, into); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", o.Type, err)
	}
	return into, nil
}

// nameOf tells an object from all others.
func nameOf(o runtime.Object) string {
	m, err := meta.Accessor(o)
	if err != nil {
		return typeOf(o)
	}
	return typeOf(o) + " " + m.GetNamespace() + "/" + m.GetName()
}
