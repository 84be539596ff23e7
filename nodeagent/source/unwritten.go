package source

import (
	"cmp"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/wire"
)

// withUnwritten gives a node's own state, as the API has it, the pods that the stream told of and the operator has not written yet. It writes
// pods that come up to a second later than it tells of them. If the last replica ends in between, nobody is there to write them, and the node
// must not take their network away. Of all else the API's word counts, and of pods too once something newer is written.
func (a *assembler) withUnwritten(o *v1alpha1.NodeState) {
	if a.meta == nil || o.Name != a.node || o.UID != a.meta.UID || o.Generation > a.meta.Generation {
		return
	}
	written := make(map[string]int, len(o.Spec.Endpoints))
	for i := range o.Spec.Endpoints {
		written[o.Spec.Endpoints[i].ID] = i
	}
	for id, item := range a.state {
		if id == "" {
			continue
		}
		var e v1alpha1.Endpoint
		if err := (wire.Codec{}).Unmarshal(item, &e); err != nil {
			continue // nor did the node know of it
		}
		i, known := written[id]
		switch {
		case !known:
			o.Spec.Endpoints = append(o.Spec.Endpoints, e)
		case o.Spec.Endpoints[i].UID != e.UID: // an earlier pod of that name
			o.Spec.Endpoints[i] = e
		}
	}
	slices.SortFunc(o.Spec.Endpoints, func(a, b v1alpha1.Endpoint) int { return cmp.Compare(a.ID, b.ID) })
}
