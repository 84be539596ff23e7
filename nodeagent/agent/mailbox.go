package agent

import (
	"strconv"
	"sync"
	"time"

	"github.com/manul-net/manul/nodeagent/source"
)

// mailbox gathers news while the loop is busy. Only the newest of each object is kept: it can't grow beyond what there is.
type mailbox struct {
	ready chan struct{}

	mu    sync.Mutex
	kinds map[source.Kind]*batch
	since time.Time
}

// batch is the news of one kind.
type batch struct {
	// replaced: objects that the batch does not give are gone.
	replaced bool
	// objects by name; nil: gone.
	objects map[string]source.Object
	version uint64
}

func newMailbox() *mailbox {
	return &mailbox{ready: make(chan struct{}, 1), kinds: map[source.Kind]*batch{}}
}

var _ source.Sink = (*mailbox)(nil)

// Replace implements source.Sink.
func (m *mailbox) Replace(kind source.Kind, objects []source.Object, version string) {
	m.put(kind, version, true, func(b *batch) {
		b.replaced = true
		clear(b.objects)
		for _, o := range objects {
			b.objects[o.GetName()] = o
		}
	})
}

// Set implements source.Sink.
func (m *mailbox) Set(kind source.Kind, o source.Object) {
	m.put(kind, o.GetResourceVersion(), true, func(b *batch) { b.objects[o.GetName()] = o })
}

// Delete implements source.Sink.
func (m *mailbox) Delete(kind source.Kind, name, version string) {
	m.put(kind, version, true, func(b *batch) {
		if b.replaced {
			delete(b.objects, name)
			return
		}
		b.objects[name] = nil
	})
}

// Reached implements source.Sink. It wakes nobody: a version alone is no news.
func (m *mailbox) Reached(kind source.Kind, version string) {
	m.put(kind, version, false, func(*batch) {})
}

func (m *mailbox) put(kind source.Kind, version string, wake bool, change func(*batch)) {
	m.mu.Lock()
	b := m.kinds[kind]
	if b == nil {
		b = &batch{objects: map[string]source.Object{}}
		m.kinds[kind] = b
	}
	change(b)
	b.version = max(b.version, parseVersion(version))
	if wake && m.since.IsZero() {
		m.since = time.Now()
	}
	m.mu.Unlock()
	if !wake {
		return
	}
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// take empties the mailbox. since is when the oldest news of it came.
func (m *mailbox) take() (kinds map[source.Kind]*batch, since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	kinds, since = m.kinds, m.since
	m.kinds, m.since = map[source.Kind]*batch{}, time.Time{}
	return kinds, since
}

// parseVersion reads a resource version. Resource versions of one kind are comparable numbers (KEP-5504); one that is
// not counts as the oldest.
func parseVersion(s string) uint64 {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return v
}
