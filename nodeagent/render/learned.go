package render

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

// learnedMetric is that of learned routes when none is set, so that routes of others to the same destination win.
const learnedMetric = 1024

// learned is what BGP learned, beside the table of what the kernel is to have of it.
type learned struct {
	table *tables.LearnedRoutes
	paths map[netip.Prefix]tables.BGPPaths
	// byBGP are the pools whose routes come by BGP, pools all of the cluster.
	byBGP, pools []netip.Prefix
	metric4      uint32
	metric6      uint32
}

func newLearned() learned {
	return learned{
		table: tables.NewLearnedRoutes(), paths: map[netip.Prefix]tables.BGPPaths{},
		metric4: learnedMetric, metric6: learnedMetric,
	}
}

// Learned are the learned routes that the kernel is to have.
func (s *State) Learned() *tables.LearnedRoutes { return s.learned.table }

// SetLearned takes the best paths to a destination that BGP learned. None: they are gone. Next hops that can be nobody's to the destination count as
// none: a router that has no address of a route's family sends such.
func (s *State) SetLearned(p netip.Prefix, paths tables.BGPPaths) {
	paths.NextHops = slices.DeleteFunc(slices.Clone(paths.NextHops), func(hop netip.Addr) bool { return !leadsTo(hop, p) })
	if len(paths.NextHops) == 0 {
		delete(s.learned.paths, p)
	} else {
		s.learned.paths[p] = paths
	}
	s.decideLearned(p)
}

// decideLearned makes one learned route what it should be. A route that the agent makes itself wins, unless it is there only until this one is.
func (s *State) decideLearned(p netip.Prefix) {
	l := &s.learned
	paths, ok := l.paths[p]
	_, own := s.routes.Get(p)
	bridged := own && s.isBridged(p)
	if !ok || own && !bridged || !usable(p) || anyContains(l.pools, p) && !anyContains(l.byBGP, p) {
		l.table.Routes.Delete(p)
		return
	}
	metric := l.metric4
	if p.Addr().Is6() {
		metric = l.metric6
	}
	metric = cmp.Or(paths.Metric, metric)
	if bridged && metric == tables.OwnMetricIPv6 && p.Addr().Is6() {
		metric++ // for as long as the agent's own route has this one: the kernel has room for both only if they differ
	}
	l.table.Routes.Set(p, tables.LearnedRoute{NextHops: paths.NextHops, Metric: metric, Interface: paths.Interface})
}

// leadsTo tells whether an address can be the next hop to a destination at all.
func leadsTo(hop netip.Addr, p netip.Prefix) bool {
	return hop.Is4() == p.Addr().Is4() && !hop.IsUnspecified() && !hop.IsLoopback() && !hop.IsMulticast()
}

// usable tells whether packets to the destination may be routed at all.
func usable(p netip.Prefix) bool {
	a := p.Addr()
	return p.IsValid() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast() && (p.Bits() == 0 || !a.IsUnspecified())
}

// setLearnedPools takes over which pools' routes come by BGP, and the settings of learned routes.
func (s *State) setLearnedPools() {
	l, b := &s.learned, &s.bgp
	l.byBGP, l.pools = b.byBGP, b.clusterPools
	l.metric4, l.metric6 = learnedMetric, learnedMetric
	var ignored []string
	if b.spec != nil {
		l.metric4 = cmp.Or(uint32(b.spec.MetricIPv4), learnedMetric)
		l.metric6 = cmp.Or(uint32(b.spec.MetricIPv6), learnedMetric)
		ignored = b.spec.IgnoredInterfaces
	}
	l.table.SetIgnored(ignored)
	for p := range maps.Collect(l.table.Routes.All()) {
		s.decideLearned(p)
	}
	for p := range l.paths {
		s.decideLearned(p)
	}
}

// isByBGP tells whether the route to a destination on another node is BGP's to make.
func (s *State) isByBGP(p netip.Prefix) bool { return anyContains(s.bgp.byBGP, p) }
