package board

import (
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
)

// ItemKey names an item: the object that it is part of, and its ID there. The part of an object that is no list has an empty ID.
type ItemKey struct {
	render.Key

	ID string
}

// Item is a part of a rendered object. It never changes.
type Item struct {
	ItemKey

	value  any
	encode sync.Once
	raw    cbor.RawMessage
	err    error
}

// Raw is the item in CBOR. It is encoded once, for all nodes; what one node alone is told is not kept.
func (i *Item) Raw() (cbor.RawMessage, error) {
	if i.Kind == render.KindNodeState {
		return cbor.Marshal(i.value)
	}
	i.encode.Do(func() { i.raw, i.err = cbor.Marshal(i.value) })
	return i.raw, i.err
}

// split takes an object apart. Lists that only count something are left out: whoever puts the object together counts again. An item is a copy: one
// that stays as it is outlives the list that it came in, and would keep all of that.
func split(key render.Key, obj runtime.Object) (map[string]*Item, error) {
	items := map[string]*Item{}
	put := func(id string, value any) { items[id] = &Item{ItemKey: ItemKey{key, id}, value: value} }
	switch o := obj.(type) {
	case nil:
	case *v1alpha1.NodeState:
		head := o.Spec
		head.Endpoints = nil
		put("", &head)
		for _, e := range o.Spec.Endpoints {
			put(e.ID, &e)
		}
	case *v1alpha1.NodeEndpoints:
		for _, e := range o.Spec.Endpoints {
			put(e.ID, &e)
		}
	case *v1alpha1.SetCatalog:
		for _, s := range o.Spec.Sets {
			put(s.ID, &s)
		}
	case *v1alpha1.NodeNetwork:
		put("", &o.Spec)
	case *v1alpha1.PolicyProgram:
		put("", &o.Spec)
	default:
		return nil, fmt.Errorf("%T %q is no rendered object", obj, key.Name)
	}
	return items, nil
}

func sameItem(a, b *Item) bool { return render.Same(a.value, b.value) }

// endpoint is what an item of NodeEndpoints holds; nil for a nil item.
func (i *Item) endpoint() *v1alpha1.RemoteEndpoint {
	if i == nil {
		return nil
	}
	e, _ := i.value.(*v1alpha1.RemoteEndpoint)
	return e
}

func (i *Item) identities() []string {
	if e := i.endpoint(); e != nil {
		return e.Identities
	}
	return nil
}

// members are the identities in a set; none for a nil item.
func (i *Item) members() []string {
	if i == nil {
		return nil
	}
	if s, ok := i.value.(*v1alpha1.Set); ok {
		return s.Identities
	}
	return nil
}

// refs is what a program names.
type refs struct {
	sets, ports map[string]struct{}
}

func refsOf(i *Item) refs {
	r := refs{sets: map[string]struct{}{}, ports: map[string]struct{}{}}
	if i == nil {
		return r
	}
	spec, ok := i.value.(*v1alpha1.PolicyProgramSpec)
	if !ok {
		return r
	}
	for _, rules := range [2][]v1alpha1.Rule{spec.Ingress, spec.Egress} {
		for j := range rules {
			for _, m := range [2]*v1alpha1.EntityMatch{&rules[j].Source, &rules[j].Destination} {
				put(r.sets, m.Sets, m.NotSets, m.PortSets)
				put(r.ports, m.NamedPorts, m.NotNamedPorts)
			}
		}
	}
	return r
}

func put(into map[string]struct{}, lists ...[]string) {
	for _, list := range lists {
		for _, s := range list {
			into[s] = struct{}{}
		}
	}
}

// programsOf are the programs that the items of a NodeState name.
func programsOf(items map[string]*Item) map[string]struct{} {
	out := map[string]struct{}{}
	tiers := func(lists ...[]v1alpha1.TierPolicies) {
		for _, list := range lists {
			for i := range list {
				put(out, list[i].Policies)
			}
		}
	}
	for _, item := range items {
		switch v := item.value.(type) {
		case *v1alpha1.Endpoint:
			tiers(v.Ingress, v.Egress)
		case *v1alpha1.NodeStateSpec:
			for i := range v.HostEndpoints {
				h := &v.HostEndpoints[i]
				tiers(h.Local.Ingress, h.Local.Egress, h.Forward.Ingress, h.Forward.Egress, h.PreDNAT, h.Untracked.Ingress, h.Untracked.Egress)
			}
		}
	}
	return out
}
