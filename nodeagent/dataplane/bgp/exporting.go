package bgp

import (
	"net/netip"
	"slices"

	api "github.com/osrg/gobgp/v3/api"

	"github.com/manul-net/manul/nodeagent/tables"
)

// exporting makes the export policy.
func (b *builder) exporting(r *rules) {
	for _, v6 := range []bool{false, true} {
		if private := inside(r.speaker.Private, v6); private != nil {
			for _, origin := range learnedOnly() {
				b.add(when{prefixes: private, origin: origin}, &api.Actions{RouteAction: api.RouteAction_REJECT})
			}
		}
	}
	for i := range r.classes {
		b.nextHops(r, &r.classes[i])
	}
	for i := range r.classes {
		c := &r.classes[i]
		for j := range c.of.Export {
			b.rule(r, c, &c.of.Export[j], nil)
		}
	}
	for _, v6 := range []bool{false, true} {
		pools := inside(r.speaker.Pools, v6)
		for _, origin := range learnedOnly() {
			b.add(when{v6: &v6, prefixes: pools, unlessLand: true, origin: origin}, &api.Actions{RouteAction: api.RouteAction_REJECT})
		}
	}
	b.add(when{}, &api.Actions{LargeCommunity: unmark(), RouteAction: api.RouteAction_ACCEPT})
}

// nextHops sets the next hops of routes that are sent to a class of peers. The speaker itself sends its own address to peers of
// eBGP, and leaves learned next hops as they are to those of iBGP.
func (b *builder) nextHops(r *rules, c *class) {
	internal := c.of.Internal()
	for _, origin := range learnedOnly() {
		switch {
		case internal && c.of.NextHop == tables.NextHopSelf:
			b.add(when{peers: c.match(), origin: origin}, &api.Actions{Nexthop: &api.NexthopAction{Self: true}})
		case !internal && c.of.NextHop == tables.NextHopKeep:
			b.add(when{peers: c.match(), origin: origin}, &api.Actions{Nexthop: &api.NexthopAction{Unchanged: true}})
		case !internal && c.of.NextHop == tables.NextHopAuto:
			// RFC 4271, section 5.1.3: the next hop may be another router's on the network that is shared with the peer.
			for _, n := range r.links {
				shared := slices.DeleteFunc(slices.Clone(c.peers), func(p netip.Addr) bool { return !n.prefix.Contains(p) })
				if len(shared) > 0 {
					b.add(when{peers: shared, origin: origin, hops: []netip.Prefix{n.prefix}}, &api.Actions{Nexthop: &api.NexthopAction{Unchanged: true}})
				}
			}
		}
	}
	// A session carries routes of the other family with the node's address of that.
	other := !c.of.Address.Is6()
	for _, own := range r.speaker.Addresses {
		if own.Is6() != other || !c.of.OtherFamily {
			continue
		}
		origins := []api.Conditions_RouteType{api.Conditions_ROUTE_TYPE_LOCAL}
		if !internal && c.of.NextHop != tables.NextHopKeep || c.of.NextHop == tables.NextHopSelf {
			origins = append(origins, learnedOnly()...)
		}
		for _, origin := range origins {
			b.add(when{peers: c.match(), v6: &other, origin: origin}, &api.Actions{Nexthop: &api.NexthopAction{Address: own.String()}})
		}
	}
}
