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
	// awaited: somebody waits to hear that the version is in effect.
	awaited bool
}

func newMailbox() *mailbox {
	return &mailbox{ready: make(chan struct{}, 1), kinds: map[source.Kind]*batch{}}
}

var (
	_ source.Sink = (*mailbox)(nil)
	_ source.Sink = (*opened)(nil)
)

// opened is the mailbox while its lock is held.
type opened struct {
	m    *mailbox
	wake bool
}

// Together implements source.Sink.
func (m *mailbox) Together(give func(source.Sink)) {
	m.mu.Lock()
	in := &opened{m: m}
	give(in)
	m.mu.Unlock()
	if !in.wake {
		return
	}
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// Replace implements source.Sink.
func (m *mailbox) Replace(kind source.Kind, objects []source.Object, version string) {
	m.Together(func(s source.Sink) { s.Replace(kind, objects, version) })
}

// Set implements source.Sink.
func (m *mailbox) Set(kind source.Kind, o source.Object) {
	m.Together(func(s source.Sink) { s.Set(kind, o) })
}

// Delete implements source.Sink.
func (m *mailbox) Delete(kind source.Kind, name, version string) {
	m.Together(func(s source.Sink) { s.Delete(kind, name, version) })
}

// Reached implements source.Sink. It wakes nobody: a version alone is no news.
func (m *mailbox) Reached(kind source.Kind, version string) {
	m.Together(func(s source.Sink) { s.Reached(kind, version) })
}

// Awaited implements source.Sink.
func (m *mailbox) Awaited(kind source.Kind, version string) {
	m.Together(func(s source.Sink) { s.Awaited(kind, version) })
}

// Together implements source.Sink.
func (in *opened) Together(give func(source.Sink)) { give(in) }

// Replace implements source.Sink.
func (in *opened) Replace(kind source.Kind, objects []source.Object, version string) {
	b := in.put(kind, version, true)
	b.replaced = true
	clear(b.objects)
	for _, o := range objects {
		b.objects[o.GetName()] = o
	}
}

// Set implements source.Sink.
func (in *opened) Set(kind source.Kind, o source.Object) {
	in.put(kind, o.GetResourceVersion(), true).objects[o.GetName()] = o
}

// Delete implements source.Sink.
func (in *opened) Delete(kind source.Kind, name, version string) {
	b := in.put(kind, version, true)
	if b.replaced {
		delete(b.objects, name)
		return
	}
	b.objects[name] = nil
}

// Reached implements source.Sink.
func (in *opened) Reached(kind source.Kind, version string) { in.put(kind, version, false) }

// Awaited implements source.Sink.
func (in *opened) Awaited(kind source.Kind, version string) {
	in.put(kind, version, true).awaited = true
}

func (in *opened) put(kind source.Kind, version string, wake bool) *batch {
	b := in.m.kinds[kind]
	if b == nil {
		b = &batch{objects: map[string]source.Object{}}
		in.m.kinds[kind] = b
	}
	b.version = max(b.version, parseVersion(version))
	if wake && in.m.since.IsZero() {
		in.m.since = time.Now()
	}
	in.wake = in.wake || wake
	return b
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
