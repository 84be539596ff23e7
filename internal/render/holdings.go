package render

import (
	"cmp"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
)

// holdings are the addresses that a node gave to its pods, in order of their IDs, each once. They may share the memory of the status that
// they come from.
type holdings []v1alpha1.EndpointStatus

// holdingsOf puts what a node says in order. Of two words on one pod the last counts.
func holdingsOf(said []v1alpha1.EndpointStatus) holdings {
	byID := func(a, b v1alpha1.EndpointStatus) int { return cmp.Compare(a.ID, b.ID) }
	twice := false
	inOrder := slices.IsSortedFunc(said, func(a, b v1alpha1.EndpointStatus) int {
		twice = twice || a.ID == b.ID
		return byID(a, b)
	})
	if inOrder && !twice {
		return said
	}
	all := slices.Clone(said)
	slices.Reverse(all)
	slices.SortStableFunc(all, byID)
	return slices.CompactFunc(all, func(a, b v1alpha1.EndpointStatus) bool { return a.ID == b.ID })
}

// of gives what a pod holds.
func (h holdings) of(id string) (v1alpha1.EndpointStatus, bool) {
	i, found := slices.BinarySearchFunc(h, id, func(s v1alpha1.EndpointStatus, id string) int { return cmp.Compare(s.ID, id) })
	if !found {
		return v1alpha1.EndpointStatus{}, false
	}
	return h[i], true
}

// sameHoldings compares what counts of them.
func sameHoldings(a, b holdings) bool {
	return slices.EqualFunc(a, b, func(a, b v1alpha1.EndpointStatus) bool {
		return a.ID == b.ID && a.UID == b.UID && slices.Equal(a.Addresses, b.Addresses) && a.External == b.External &&
			slices.EqualFunc(a.Others, b.Others, func(x, y v1alpha1.InterfaceStatus) bool {
				return x.External == y.External && slices.Equal(x.Addresses, y.Addresses)
			})
	})
}
