package rendered

import (
	"sync"
	"time"

	"github.com/manul-net/manul/internal/render"
)

const (
	// apart is how far apart two writes of one object are that nobody waits for.
	apart = time.Second
	// AfterStream is how long what agents hear by the stream is not written: until the nodes have it. A write is work for the API server and for all
	// that watch, which on a machine that the nodes share would delay them.
	AfterStream = 5 * time.Millisecond
	// Priorities of objects that nobody waits for: behind those for which somebody does, whose priority is 0.
	catalogsLast, endpointsLast = -1, -2
)

// spared tells what need not be written at once while all agents follow the stream, and comes after everything else: of NodeEndpoints and
// SetCatalogs there are the most changes. A NodeState has to be there for what its agent says, and a PolicyProgram bears a generation that
// a user waits for.
func spared(kind render.Kind) (priority int, is bool) {
	switch kind {
	case render.KindSetCatalog:
		return catalogsLast, true
	case render.KindNodeEndpoints:
		return endpointsLast, true
	case render.KindNodeState, render.KindNodeNetwork, render.KindPolicyProgram:
	}
	return 0, false
}

// pace knows when objects were written last that need not be written often, and since when others are to be written.
type pace struct {
	mu    sync.Mutex
	wrote map[render.Key]time.Time
	swept time.Time
	// since is when a change was first seen that is not written yet.
	since map[render.Key]time.Time
}

// wait is how long an object may wait yet.
func (p *pace) wait(key render.Key, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	wrote, known := p.wrote[key]
	if !known {
		return 0
	}
	return max(0, apart-now.Sub(wrote))
}

// note notes a write. What was written longer ago than matters is forgotten.
func (p *pace) note(key render.Key, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wrote == nil {
		p.wrote = map[render.Key]time.Time{}
	}
	if now.Sub(p.swept) > apart {
		for k, wrote := range p.wrote {
			if now.Sub(wrote) >= apart {
				delete(p.wrote, k)
			}
		}
		p.swept = now
	}
	p.wrote[key] = now
}

// seen is for how long it is known that an object may have to be written.
func (p *pace) seen(key render.Key, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, ok := p.since[key]
	if !ok {
		if p.since == nil {
			p.since = map[render.Key]time.Time{}
		}
		p.since[key], since = now, now
	}
	return now.Sub(since)
}

// settled notes that an object is written, or need not be.
func (p *pace) settled(key render.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.since, key)
}
