package inputs

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"unique"

	"github.com/manul-net/manul/api/v1alpha1"
)

// alike finds what an object has in common with others that came before it, so that the replicas of a workload, and the pods of a
// namespace or a node, share it. Nothing in the cache changes (see cache.Options), so it may be shared.
type alike struct {
	seed maphash.Seed

	mu sync.Mutex
	// A place each, by a sum of the content, that keeps what had that sum last: lists bring replicas one after the other, so few are missed,
	// and what is kept is bounded.
	labels [places]map[string]string
	ports  [places][]v1alpha1.NamedPort
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

func (a *alike) portsAs(in []v1alpha1.NamedPort) []v1alpha1.NamedPort {
	if len(in) == 0 {
		return nil
	}
	var sum uint64
	for i := range in {
		sum = sum*31 + maphash.String(a.seed, in[i].Name) + uint64(in[i].Port) //nolint:mnd // some odd number
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	place := &a.ports[sum%places]
	if slices.Equal(*place, in) {
		return *place
	}
	out := slices.Clone(in) // without what its making left over
	for i := range out {
		out[i].Name = text(out[i].Name)
	}
	*place = out
	return out
}
