package inputs

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// maxShared is how many values of a kind are remembered at the least; twice as many at the most. What is not seen again is forgotten after that many
// others; who has it keeps it.
const maxShared = 1 << 16

// shared keeps one copy of what many objects have in common: the pods of a Deployment have the same labels, and those of a node its name.
// Decoded one by one, each has a copy of its own.
type shared[V any] struct {
	mu sync.Mutex
	// young were seen since old were all there was.
	young, old map[string]V
	max        int
}

// get returns the value that is known for key, or makes it the one that is.
func (s *shared[V]) get(key string, value V) V {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.young[key]; ok {
		return known
	}
	if known, ok := s.old[key]; ok {
		value = known
	}
	if s.young == nil || len(s.young) >= s.max {
		s.young, s.old = map[string]V{}, s.young
	}
	s.young[key] = value
	return value
}

//nolint:gochecknoglobals // what is shared is the same for whoever looks, and bounded
var (
	texts = shared[string]{max: maxShared}
	sets  = shared[map[string]string]{max: maxShared}
)

// intern returns the one copy of a text.
func intern(text string) string {
	if text == "" {
		return ""
	}
	return texts.get(text, text)
}

// internLabels returns the one copy of a set of labels, which nobody may change: nor may objects of the cache be.
func internLabels(labels map[string]string) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	var key strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		key.WriteString(name)
		key.WriteByte(0) // which no label has
		key.WriteString(labels[name])
		key.WriteByte(0)
	}
	return sets.get(key.String(), labels)
}
