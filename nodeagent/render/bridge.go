package render

import (
	"maps"
	"net/netip"

	"github.com/manul-net/manul/nodeagent/tables"
)

// bridge are destinations on other nodes to which the agent's own route stays, though BGP has come to be in charge of their pool: until
// BGP has a route there, or has had its time. So the change is made before broken. Those of which BGP was in charge from the start, as
// when the agent begins, are none of them.
type bridge struct {
	over map[netip.Prefix]struct{}
	// before are the pools of the cluster, as of the last NodeState, of which BGP was not in charge.
	before []netip.Prefix
}

func newBridge() bridge { return bridge{over: map[netip.Prefix]struct{}{}} }

// bridgePools notes the destinations whose pools BGP takes over, before it is in charge of them.
func (s *State) bridgePools(taken []netip.Prefix) {
	b := &s.bridge
	for p, d := range s.dests {
		if !anyContains(taken, p) || !anyContains(b.before, p) {
			continue
		}
		next, _ := d.route()
		if next.Type != tables.Gateway || s.encapsulated(p, next).Type != tables.Gateway {
			continue
		}
		// A tunnel may have led to a node that is not in reach without it.
		if len(s.ownSubnets) == 0 || anyContains(s.ownSubnets, netip.PrefixFrom(next.NextHop, next.NextHop.BitLen())) {
			b.over[p] = struct{}{}
		}
	}
}

// isBridged tells whether the agent's own route to a destination stays for now.
func (s *State) isBridged(p netip.Prefix) bool {
	_, ok := s.bridge.over[p]
	return ok
}

// HasBridged tells whether routes of the agent wait for those of BGP.
func (s *State) HasBridged() bool { return len(s.bridge.over) > 0 }

// EndBridged gives up the agent's own routes for which those of BGP are in force, and tells whether there were any.
func (s *State) EndBridged(inForce func(netip.Prefix) bool) bool {
	any := false
	for p := range maps.Clone(s.bridge.over) {
		if !inForce(p) {
			continue
		}
		any = true
		s.endBridge(p)
	}
	return any
}

func (s *State) endBridge(p netip.Prefix) {
	delete(s.bridge.over, p)
	if d := s.dests[p]; d != nil {
		s.decideRoute(p, d)
	}
}
