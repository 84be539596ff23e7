package main

import (
	"slices"
	"sync"
	"time"

	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/internal/wire"
	"github.com/manul-net/manul/test/hollow"
)

// What becomes of a pod that changes.
const (
	relabelled = "a pod gets another label"
	comes      = "a pod comes"
	goes       = "a pod goes"
)

// probe is one change, and where it has arrived.
type probe struct {
	what  string
	begun int64 // nanoseconds since 1970; 0: not yet
	ended time.Time
	own   []int64          // when it came to the pod's own node
	other map[string]int64 // when it came to each other node that it concerns
	bytes int              // of its items, in all messages
	// otherwise are nodes that learned of the pod for another reason.
	otherwise map[string]struct{}
}

// probes find changes in what agents are told.
type probes struct {
	mu   sync.RWMutex
	open map[string]*probe

	// results
	own, other, last map[string][]time.Duration
	spread           []spreading
}

// spreading is how many nodes a change concerned, and what that cost.
type spreading struct{ nodes, bytes int }

// Probe is a change that the parent is about to make to a pod.
type Probe struct{ What, Pod string }

// Watch has a change looked for in what agents are told. What is there to say of an earlier one of the same pod is kept.
func (a *agents) Watch(w Probe, _ *None) error {
	p := &a.probes
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close(w.Pod)
	p.open[w.Pod] = &probe{what: w.What, other: map[string]int64{}, otherwise: map[string]struct{}{}}
	for pod, x := range p.open {
		if !x.ended.IsZero() && time.Now().After(x.ended) {
			p.close(pod)
		}
	}
	return nil
}

// watchFor is how long a change is looked for.
const watchFor = 10 * time.Second

// Begun is when the parent made a change, nanoseconds since 1970.
type Begun struct {
	Pod string
	At  int64
}

// Begun tells when a change was made.
func (a *agents) Begun(b Begun, _ *None) error {
	a.probes.mu.Lock()
	defer a.probes.mu.Unlock()
	if x := a.probes.open[b.Pod]; x != nil {
		x.begun, x.ended = b.At, time.Now().Add(watchFor)
	}
	return nil
}

// told looks for changes in a message.
func (p *probes) told(node string, m *hollow.Message) {
	// A node whose own pods change learns of pods that other nodes have known for long, and of those that just changed among them: that is
	// what that change costs, not theirs. So does one that begins anew.
	own := ""
	for i := range m.Changes {
		if c := &m.Changes[i]; c.Kind == string(render.KindNodeState) && c.ID != "" {
			own = c.ID
		}
	}
	for i := range m.Changes {
		c := &m.Changes[i]
		if c.ID == "" || c.Kind == string(render.KindSetCatalog) {
			continue
		}
		p.mu.RLock()
		x := p.open[c.ID]
		p.mu.RUnlock()
		if x == nil {
			continue
		}
		p.mu.Lock()
		switch {
		case c.Kind == string(render.KindNodeState):
			if !m.Reset {
				x.own = append(x.own, m.At.UnixNano())
				x.bytes += sizeOf(c)
			}
		case m.Reset, own != "" && own != c.ID:
			x.otherwise[node] = struct{}{}
		default:
			x.toldOf(node, c, m.At)
		}
		p.mu.Unlock()
	}
}

// toldOf notes that a node was told of the change. One that first learned of the pod for another reason is not concerned: what it is told later,
// when the pod's former identity is dropped, is no late news.
func (x *probe) toldOf(node string, c *wire.Change, at time.Time) {
	_, known := x.other[node]
	if _, otherwise := x.otherwise[node]; otherwise && !known {
		return
	}
	x.bytes += sizeOf(c)
	if !known {
		x.other[node] = at.UnixNano()
	}
}

func sizeOf(c *wire.Change) int { return len(c.Item) + len(c.Kind) + len(c.Name) + len(c.ID) }

// close takes the results of a probe. The lock is held.
func (p *probes) close(pod string) {
	x := p.open[pod]
	if x == nil || x.begun == 0 {
		return
	}
	delete(p.open, pod)
	if p.own == nil {
		p.own, p.other, p.last = map[string][]time.Duration{}, map[string][]time.Duration{}, map[string][]time.Duration{}
	}
	if len(x.own) > 0 {
		p.own[x.what] = append(p.own[x.what], time.Duration(x.own[0]-x.begun))
	}
	last := time.Duration(0)
	for _, at := range x.other {
		took := time.Duration(at - x.begun)
		p.other[x.what] = append(p.other[x.what], took)
		last = max(last, took)
	}
	if len(x.other) > 0 {
		p.last[x.what] = append(p.last[x.what], last)
		p.spread = append(p.spread, spreading{len(x.other), x.bytes})
	}
}

// Figure is how often something was measured, and what lay below.
type Figure struct {
	Name          string
	N             int
	P50, P99, Max time.Duration
}

// Spread is what changes cost that concerned some number of nodes.
type Spread struct {
	Upto, N      int // the last one has no bound: Upto is 0
	Nodes, Bytes int // of all
}

// Results are what the probes found.
type Results struct {
	Figures []Figure
	Spread  []Spread
	// Any is of all changes together, at each node that has a policy about the pod.
	Any Figure
}

func anywhere(of map[string][]time.Duration) Figure {
	const name = "any of these: each node is told that has a policy about the pod"
	var all []time.Duration
	for _, some := range of {
		all = append(all, some...)
	}
	if len(all) == 0 {
		return Figure{Name: name}
	}
	return figure(name, all)
}

// Results gives what was found until now, and forgets it.
func (a *agents) Results(_ None, r *Results) error {
	p := &a.probes
	p.mu.Lock()
	defer p.mu.Unlock()
	for pod := range p.open {
		p.close(pod)
	}
	for _, x := range []struct {
		where string
		of    map[string][]time.Duration
	}{
		{"its own node is told", p.own},
		{"each node is told that has a policy about it", p.other},
		{"the last of these is told", p.last},
	} {
		for _, what := range []string{relabelled, comes, goes} {
			if all := x.of[what]; len(all) > 0 {
				r.Figures = append(r.Figures, figure(what+": "+x.where, all))
			}
		}
	}
	r.Any = anywhere(p.other)
	r.Spread = spread(p.spread)
	p.own, p.other, p.last, p.spread = nil, nil, nil, nil
	return nil
}

func figure(name string, all []time.Duration) Figure {
	slices.Sort(all)
	n := len(all)
	return Figure{Name: name, N: n, P50: all[n/2], P99: all[n*99/100], Max: all[n-1]}
}

func spread(all []spreading) []Spread {
	out := []Spread{{Upto: 1}, {Upto: 10}, {Upto: 100}, {Upto: 1000}, {}}
	for _, s := range all {
		for i := range out {
			if out[i].Upto == 0 || s.nodes <= out[i].Upto {
				out[i].N++
				out[i].Nodes += s.nodes
				out[i].Bytes += s.bytes
				break
			}
		}
	}
	return out
}
