package agent

import (
	"cmp"
	"slices"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/source"
)

// Nodes hear of a pool's other encapsulation one after another. So that no packet is lost between two of them, a node receives in the new way
// as soon as it hears of it, sends in the new way when the others had time to hear of it, and receives in the old way as long again: an
// end of a tunnel is there before pods' packets go into it, and stays when they don't any more. Likewise a node that is not to route a
// pool by BGP any more goes on speaking it until the others had time to hear of that: their routes would go with the session.

// switching is what the loop knows of a change of the ways in which nodes send to one another.
type switching struct {
	// rendered is the NodeState as the operator wrote it, without what is put off.
	rendered *v1alpha1.NodeState
	// before is what was in effect when the change came; nil: nothing changes.
	before *v1alpha1.NodeStateSpec
	since  time.Time
}

// How long others have to hear of a change: a moment, and more in a large cluster, since NodeStates are written one after another.
const (
	switchAtOnce  = 2 * time.Second
	switchPerNode = 2 * time.Millisecond
	// stayFactor is how much longer ends stay that are not wanted any more.
	stayFactor = 3
)

// takeNodeState takes news of the node's own state, but for what has to wait.
func (a *Agent) takeNodeState(o *v1alpha1.NodeState) {
	s := &a.switching
	switch {
	case a.nodeState == nil || s.rendered == nil || !a.appliedOnce:
		s.before = nil
	case a.Tunnels != nil && changesWays(&s.rendered.Spec, &o.Spec), a.BGP != nil && leavesBGP(&s.rendered.Spec, &o.Spec):
		s.before, s.since = &a.nodeState.Spec, time.Now()
	}
	s.rendered = o
	a.putNodeState()
}

// putNodeState puts as much of the node's state into effect as it is time for.
func (a *Agent) putNodeState() {
	s := &a.switching
	o := s.rendered
	if o == nil {
		return
	}
	sending := switchAtOnce + switchPerNode*time.Duration(len(a.known[source.NodeNetwork]))
	if age := time.Since(s.since); s.before != nil && age < stayFactor*sending {
		put := *o
		put.Spec = between(s.before, &o.Spec, age < sending)
		o = &put
		wait := stayFactor*sending - age
		if age < sending {
			wait = sending - age
		}
		a.timers.switching.within(wait)
	} else {
		s.before = nil
	}
	a.nodeState = o
	a.state.SetNodeState(&o.Spec)
	a.pending.addresses = true
}

// changesWays tells whether packets between nodes go another way after a change.
func changesWays(before, after *v1alpha1.NodeStateSpec) bool {
	kind := func(x, y v1alpha1.Tunnel) bool { return x.Kind == y.Kind }
	if !slices.EqualFunc(before.Tunnels, after.Tunnels, kind) {
		return true
	}
	for i := range after.Pools {
		if old := poolOf(before, after.Pools[i].CIDR); old != nil && old.Encapsulation != after.Pools[i].Encapsulation {
			return true
		}
	}
	return false
}

// leavesBGP tells whether a pool is routed by BGP before a change and not after it.
func leavesBGP(before, after *v1alpha1.NodeStateSpec) bool {
	return slices.ContainsFunc(before.Pools, func(old v1alpha1.Pool) bool {
		p := poolOf(after, old.CIDR)
		return old.RoutesByBGP && p != nil && !p.RoutesByBGP
	})
}

// between is what is in effect while ways change: the ends of both, and, as long as the node only receives in the new way, pools as they
// were where that needs an end that was not there, and the BGP that a pool leaves.
func between(before, after *v1alpha1.NodeStateSpec, receives bool) v1alpha1.NodeStateSpec {
	out := *after
	has := func(s *v1alpha1.NodeStateSpec, kind v1alpha1.TunnelKind) bool {
		return slices.ContainsFunc(s.Tunnels, func(t v1alpha1.Tunnel) bool { return t.Kind == kind })
	}
	out.Tunnels = slices.Clone(after.Tunnels)
	for i := range before.Tunnels {
		if !has(after, before.Tunnels[i].Kind) {
			out.Tunnels = append(out.Tunnels, before.Tunnels[i])
		}
	}
	slices.SortFunc(out.Tunnels, func(x, y v1alpha1.Tunnel) int { return cmp.Compare(x.Kind, y.Kind) })
	if !receives {
		return out
	}
	if before.BGP != nil && leavesBGP(before, after) {
		out.BGP = before.BGP
	}
	out.Pools = slices.Clone(after.Pools)
	for i := range out.Pools {
		p := &out.Pools[i]
		if old := poolOf(before, p.CIDR); old != nil && p.Encapsulation != "" && !has(before, p.Encapsulation) {
			p.Encapsulation, p.CrossSubnet, p.RoutesByBGP = old.Encapsulation, old.CrossSubnet, old.RoutesByBGP
		}
	}
	return out
}

func poolOf(s *v1alpha1.NodeStateSpec, cidr string) *v1alpha1.Pool {
	if i := slices.IndexFunc(s.Pools, func(p v1alpha1.Pool) bool { return p.CIDR == cidr }); i >= 0 {
		return &s.Pools[i]
	}
	return nil
}
