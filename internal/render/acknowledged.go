package render

// acknowledged is the version of one kind that all nodes have put into effect, kept so that a change in a large cluster does not
// ask every node. The zero value is that of a cluster in which no node has put anything into effect.
type acknowledged struct {
	// nodes that count: those that have an agent and have put anything into effect.
	nodes int
	// lowest version of them, and how many nodes have just that one. Valid while at is above 0.
	lowest string
	at     int
}

// leave notes that a node with the version counts no more.
func (a *acknowledged) leave(version string) {
	a.nodes--
	if a.at > 0 && version == a.lowest {
		a.at--
	}
}

// join notes that a node with the version counts.
func (a *acknowledged) join(version string) {
	a.nodes++
	switch {
	case a.nodes == 1 || a.at > 0 && versionLess(version, a.lowest):
		a.lowest, a.at = version, 1
	case a.at > 0 && version == a.lowest:
		a.at++
	}
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
	a, of := &c.transition.catalogs, func(n *node) string { return n.acknowledges.catalogs }
	if kind == KindNodeEndpoints {
		a, of = &c.transition.endpoints, func(n *node) string { return n.acknowledges.endpoints }
	}
	if a.nodes > 0 && a.at == 0 { // the last node at the lowest version has gone on from there
		for _, n := range c.nodes {
			if !n.acknowledges.counts {
				continue
			}
			switch v := of(n); {
			case a.at == 0 || versionLess(v, a.lowest):
				a.lowest, a.at = v, 1
			case v == a.lowest:
				a.at++
			}
		}
	}
	return a.lowest, a.nodes > 0
}
