package inputs

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"unique"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// alike finds what an object has in common with others that came before it, so that the replicas of a workload, and the pods of a
// namespace or a node, share it. Nothing in the cache changes (see cache.Options), so it may be shared.
type alike struct {
	seed maphash.Seed

	mu sync.Mutex
	// A place each, by a sum of the content, that keeps what had that sum last: lists bring replicas one after the other, so few are missed,
	// and what is kept is bounded.
	labels     [places]map[string]string
	containers [places][]corev1.Container
}

const places = 4096

func newAlike() *alike { return &alike{seed: maphash.MakeSeed()} }

// text gives one copy of equal texts.
func text(s string) string { return unique.Make(s).Value() }

func (a *alike) labelsAs(in map[string]string) map[string]string {
	if len(in) == 0 {
		return in
	}
	var sum uint64
	for key, value := range in {
		sum += maphash.String(a.seed, key) ^ maphash.String(a.seed, value)>>1
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	place := &a.labels[sum%places]
	if maps.Equal(*place, in) {
		return *place
	}
	out := make(map[string]string, len(in))
	for key, value := range in {
		out[text(key)] = text(value)
	}
	*place = out
	return out
}

func (a *alike) containersAs(in []corev1.Container) []corev1.Container {
	if len(in) == 0 {
		return in
	}
	var sum uint64
	for i := range in {
		sum = sum*31 + maphash.String(a.seed, in[i].Name) //nolint:mnd // some odd number
		for j := range in[i].Ports {
			p := &in[i].Ports[j]
			sum = sum*31 + maphash.String(a.seed, p.Name) + uint64(p.ContainerPort) //nolint:mnd // some odd number
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	place := &a.containers[sum%places]
	if slices.EqualFunc(*place, in, func(x, y corev1.Container) bool { return equality.Semantic.DeepEqual(&x, &y) }) {
		return *place
	}
	*place = in
	return in
}
