package labelindex

import (
	"hash/maphash"
	"maps"
	"slices"

	"github.com/manul-net/manul/internal/selector"
)

// labelSet are labels that some items have. The replicas of a workload have the same, so there are far fewer of these than items, and
// selectors are tried on these.
type labelSet[Item comparable] struct {
	labels selector.Map
	sum    uint64
	items  map[Item]struct{}
}

// labelSets finds a labelSet by its labels.
type labelSets[Item comparable] struct {
	seed  maphash.Seed
	bySum map[uint64][]*labelSet[Item]
	// n is how many there are.
	n int
}

func newLabelSets[Item comparable]() labelSets[Item] {
	return labelSets[Item]{seed: maphash.MakeSeed(), bySum: map[uint64][]*labelSet[Item]{}}
}

// take returns the set of labels, and whether there was none before.
func (x *labelSets[Item]) take(labels map[string]string) (set *labelSet[Item], fresh bool) {
	sum := x.sum(labels)
	for _, s := range x.bySum[sum] {
		if maps.Equal(s.labels, labels) {
			return s, false
		}
	}
	s := &labelSet[Item]{labels: labels, sum: sum, items: map[Item]struct{}{}}
	x.bySum[sum] = append(x.bySum[sum], s)
	x.n++
	return s, true
}

// forget forgets a set that no item has.
func (x *labelSets[Item]) forget(s *labelSet[Item]) {
	x.n--
	rest := slices.DeleteFunc(x.bySum[s.sum], func(other *labelSet[Item]) bool { return other == s })
	if len(rest) == 0 {
		delete(x.bySum, s.sum)
		return
	}
	x.bySum[s.sum] = rest
}

// sum of labels, in whatever order they come.
func (x *labelSets[Item]) sum(labels map[string]string) uint64 {
	const odd = 0x9e3779b97f4a7c15 // so that a key and a value that change places make a difference
	var all uint64
	for key, value := range labels {
		one := maphash.String(x.seed, key)*odd ^ maphash.String(x.seed, value)
		one ^= one >> 32 //nolint:mnd // half of it
		all += one * odd
	}
	return all
}
