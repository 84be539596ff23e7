package labelindex

import (
	"hash/maphash"
	"maps"
	"slices"

	"github.com/manul-net/manul/internal/selector"
)

// labelSet are labels that some items have. The replicas of a workload have the same, so there are far fewer of these than items.
type labelSet struct {
	labels selector.Map
	sum    uint64
	items  int
}

// labelSets finds a labelSet by its labels.
type labelSets struct {
	seed  maphash.Seed
	bySum map[uint64][]*labelSet
}

func newLabelSets() labelSets {
	return labelSets{seed: maphash.MakeSeed(), bySum: map[uint64][]*labelSet{}}
}

// take gives the set of labels for one more item.
func (x *labelSets) take(labels map[string]string) *labelSet {
	sum := x.sum(labels)
	for _, s := range x.bySum[sum] {
		if maps.Equal(s.labels, labels) {
			s.items++
			return s
		}
	}
	s := &labelSet{labels: labels, sum: sum, items: 1}
	x.bySum[sum] = append(x.bySum[sum], s)
	return s
}

// release gives a set back for one item. A set that no item has is forgotten.
func (x *labelSets) release(s *labelSet) {
	if s.items--; s.items > 0 {
		return
	}
	rest := slices.DeleteFunc(x.bySum[s.sum], func(other *labelSet) bool { return other == s })
	if len(rest) == 0 {
		delete(x.bySum, s.sum)
		return
	}
	x.bySum[s.sum] = rest
}

// sum of labels, in whatever order they come.
func (x *labelSets) sum(labels map[string]string) uint64 {
	const odd = 0x9e3779b97f4a7c15 // so that a key and a value that change places make a difference
	var all uint64
	for key, value := range labels {
		one := maphash.String(x.seed, key)*odd ^ maphash.String(x.seed, value)
		one ^= one >> 32 //nolint:mnd // half of it
		all += one * odd
	}
	return all
}
