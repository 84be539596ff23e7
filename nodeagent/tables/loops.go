package tables

import (
	"net/netip"
	"slices"
)

// LoopAction is what becomes of packets to addresses of services that nothing answers for.
type LoopAction uint8

// The actions. LoopPass leaves them to the node's routes.
const (
	LoopPass LoopAction = iota
	LoopDrop
	LoopReject
)

// ServiceLoops keep packets to unused addresses of services from going back to the router that sent them here because this node
// advertises the range.
type ServiceLoops struct {
	Action LoopAction
	// Ranges of services, in order and without repetition.
	Ranges []netip.Prefix
	dirty  bool
}

// Set changes what is desired.
func (l *ServiceLoops) Set(action LoopAction, ranges []netip.Prefix) {
	ranges = slices.SortedFunc(slices.Values(ranges), netip.Prefix.Compare)
	ranges = slices.Compact(ranges)
	if action == LoopPass {
		ranges = nil
	}
	if l.Action != action || !slices.Equal(l.Ranges, ranges) {
		l.Action, l.Ranges, l.dirty = action, ranges, true
	}
}

// HasDirty tells whether anything changed since the last Clean.
func (l *ServiceLoops) HasDirty() bool { return l.dirty }

// Clean forgets what changed.
func (l *ServiceLoops) Clean() { l.dirty = false }
