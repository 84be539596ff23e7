package render

import "container/heap"

// acknowledged is the version of one kind that all nodes have put into effect, kept so that a word of a node in a large cluster does not
// ask every other. The zero value is that of a cluster in which no node has put anything into effect.
type acknowledged struct {
	// nodes that count: those that have an agent and have put anything into effect.
	nodes int
	// at is how many of them have just a version. Versions that nobody has any more stay until they are the lowest, or too many.
	at       map[string]int
	versions versionHeap
}

// versionHeap has the lowest version first.
type versionHeap []string

func (h versionHeap) Len() int           { return len(h) }
func (h versionHeap) Less(i, j int) bool { return versionLess(h[i], h[j]) }
func (h versionHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *versionHeap) Push(v any) {
	if version, ok := v.(string); ok {
		*h = append(*h, version)
	}
}

// Pop implements heap.Interface.
func (h *versionHeap) Pop() any {
	last := len(*h) - 1
	v := (*h)[last]
	*h = (*h)[:last]
	return v
}

// leave notes that a node with the version counts no more.
func (a *acknowledged) leave(version string) {
	a.nodes--
	a.at[version]--
	const spare = 64
	if len(a.versions) > 2*a.nodes+spare {
		a.tidy()
	}
}

// tidy forgets versions that nobody has.
func (a *acknowledged) tidy() {
	a.versions = a.versions[:0]
	for v, n := range a.at {
		if n == 0 {
			delete(a.at, v)
		} else {
			a.versions = append(a.versions, v)
		}
	}
	heap.Init(&a.versions)
}

// join notes that a node with the version counts.
func (a *acknowledged) join(version string) {
	a.nodes++
	if a.at == nil {
		a.at = map[string]int{}
	}
	if _, known := a.at[version]; !known {
		heap.Push(&a.versions, version)
	}
	a.at[version]++
}

// lowest is the version that all nodes have; empty without nodes.
func (a *acknowledged) lowest() string {
	for len(a.versions) > 0 {
		if v := a.versions[0]; a.at[v] > 0 {
			return v
		}
		delete(a.at, a.versions[0])
		heap.Pop(&a.versions)
	}
	return ""
}

// acknowledgement is what counts of a node's acknowledgements.
type acknowledgement struct {
	counts              bool
	catalogs, endpoints string
}

// countAcknowledgement takes note of what a node acknowledges now.
func (c *Cluster) countAcknowledgement(n *node) {
	var now acknowledgement
	if n.hasAgent() && n.state != nil && len(n.state.Status.Applied) > 0 {
		now = acknowledgement{counts: true, catalogs: n.applied(KindSetCatalog), endpoints: n.applied(KindNodeEndpoints)}
	}
	if now == n.acknowledges {
		return
	}
	if n.acknowledges.counts {
		c.transition.catalogs.leave(n.acknowledges.catalogs)
		c.transition.endpoints.leave(n.acknowledges.endpoints)
	}
	n.acknowledges = now
	if now.counts {
		c.transition.catalogs.join(now.catalogs)
		c.transition.endpoints.join(now.endpoints)
	}
}

// acknowledgedBy is the version of a kind (SetCatalog or NodeEndpoints) that all nodes have put into effect, and whether there
// is any node that has put anything into effect.
func (c *Cluster) acknowledgedBy(kind Kind) (version string, anybody bool) {
	a := &c.transition.catalogs
	if kind == KindNodeEndpoints {
		a = &c.transition.endpoints
	}
	return a.lowest(), a.nodes > 0
}
