package rendered

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
)

// podsAlone tells whether two forms of an object differ only by pods that come or go, and that ask for nothing particular. While all
// agents follow the stream nobody waits for the API to say that: the node has the pod's state, and the operator the pod's address, by
// the stream. Leases go by the addresses and pools that NodeStates say pods ask for, so what asks for any is no such pod; and users wait
// for what becomes of pods that stay.
func podsAlone(want, have client.Object) bool {
	if have.GetDeletionTimestamp() != nil || have.GetLabels()[LabelManagedBy] != ManagedBy {
		return false
	}
	switch w := want.(type) {
	case *v1alpha1.NodeState:
		h, ok := have.(*v1alpha1.NodeState)
		if !ok {
			return false
		}
		ws, hs := w.Spec, h.Spec
		ws.Endpoints, hs.Endpoints = nil, nil
		return render.Same(&ws, &hs) &&
			comeOrGo(w.Spec.Endpoints, h.Spec.Endpoints, func(e *v1alpha1.Endpoint) (string, types.UID) { return e.ID, e.UID }, asksNothing)
	case *v1alpha1.NodeEndpoints:
		h, ok := have.(*v1alpha1.NodeEndpoints)
		return ok && comeOrGo(w.Spec.Endpoints, h.Spec.Endpoints, func(e *v1alpha1.RemoteEndpoint) (string, types.UID) { return e.ID, "" }, isPod)
	}
	return false
}

// comeOrGo tells whether some are in one list alone, these are plain, and what is in both lists is the same in both.
func comeOrGo[E any](want, have []E, name func(*E) (string, types.UID), plain func(*E) bool) bool {
	type id struct {
		name string
		uid  types.UID
	}
	of := func(e *E) id { n, uid := name(e); return id{n, uid} }
	moved := 0
	left := make(map[id]*E, len(have))
	for i := range have {
		left[of(&have[i])] = &have[i]
	}
	for i := range want {
		e := &want[i]
		before, stays := left[of(e)]
		delete(left, of(e))
		switch {
		case stays && !render.Same(e, before), !stays && !plain(e):
			return false
		case !stays:
			moved++
		}
	}
	for _, e := range left {
		if !plain(e) {
			return false
		}
		moved++
	}
	return moved > 0
}

func asksNothing(e *v1alpha1.Endpoint) bool {
	return len(e.Floating) == 0 && render.Same(&e.Addresses, &v1alpha1.AddressRequest{})
}

// isPod: the ID of a host endpoint has no slash.
func isPod(e *v1alpha1.RemoteEndpoint) bool { return strings.Contains(e.ID, "/") }
