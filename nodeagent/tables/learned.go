package tables

import (
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/delta"
)

// LearnedRoutes are the routes that BGP learned and that the kernel is to have.
type LearnedRoutes struct {
	Routes *delta.Table[netip.Prefix, LearnedRoute]
	// IgnoredInterfaces are patterns ("docker*") of interfaces that no route may lead over.
	IgnoredInterfaces []string
	// Keep has the driver leave its routes of destinations that are not in the table: they may be learned again.
	Keep bool
	// SettingsDirty tells that the fields above changed since the last Clean.
	SettingsDirty bool
}

// NewLearnedRoutes makes an empty table.
func NewLearnedRoutes() *LearnedRoutes {
	return &LearnedRoutes{Routes: delta.NewTable[netip.Prefix](LearnedRoute.equal)}
}

// SetIgnored changes the ignored interfaces.
func (l *LearnedRoutes) SetIgnored(patterns []string) {
	if !slices.Equal(l.IgnoredInterfaces, patterns) {
		l.IgnoredInterfaces, l.SettingsDirty = slices.Clone(patterns), true
	}
}

// SetKeep changes whether unknown routes are kept.
func (l *LearnedRoutes) SetKeep(keep bool) {
	if l.Keep != keep {
		l.Keep, l.SettingsDirty = keep, true
	}
}

// HasDirty tells whether anything changed since the last Clean.
func (l *LearnedRoutes) HasDirty() bool { return l.SettingsDirty || l.Routes.HasDirty() }

// Clean forgets what changed.
func (l *LearnedRoutes) Clean() {
	l.SettingsDirty = false
	l.Routes.Clean()
}

// LearnedRoute leads to a destination over all of its next hops at once (ECMP) that can be reached.
type LearnedRoute struct {
	// NextHops in order and without repetition. They need not be on a network of the node.
	NextHops []netip.Addr
	// Metric in the kernel, not 0.
	Metric uint32
	// Interface is the pattern of the interfaces that the route has to lead over; empty: any.
	Interface string
}

func (r LearnedRoute) equal(other LearnedRoute) bool {
	return r.Metric == other.Metric && r.Interface == other.Interface && slices.Equal(r.NextHops, other.NextHops)
}
