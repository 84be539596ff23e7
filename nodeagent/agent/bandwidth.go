package agent

import (
	"context"

	"github.com/manul-net/manul/nodeagent/tables"
)

// bandwidthChanged gives a channel that never yields when nothing limits traffic.
func (a *Agent) bandwidthChanged() <-chan struct{} {
	if a.Bandwidth == nil {
		return nil
	}
	return a.Bandwidth.Changed()
}

// applyBandwidth makes the limits of pods' traffic what they should be. What goes wrong with them is a failure of these limits and
// of nothing else: no pod waits for them.
func (a *Agent) applyBandwidth(ctx context.Context, due bool) []*tables.ItemError {
	if a.Bandwidth == nil {
		return nil
	}
	due, a.limitsDue = due || a.limitsDue, false
	if !due && !a.state.Bandwidth().HasDirty() {
		return a.itemsOf(isLimit)
	}
	var items []*tables.ItemError
	a.Metrics.timed("bandwidth", func() {
		var err error
		if items, err = split(a.Bandwidth.Apply(ctx, a.state.Bandwidth())); err != nil {
			items = append(items, &tables.ItemError{Kind: tables.KindBandwidth, Name: "all", Err: err})
		}
	})
	return items
}

// applyPacketLimits does the same for limits of packets and connections.
func (a *Agent) applyPacketLimits(ctx context.Context, due bool) []*tables.ItemError {
	if a.PacketLimits == nil {
		return nil
	}
	if !due && !a.state.PacketLimits().HasDirty() {
		return a.itemsOf(isPacketLimit)
	}
	var items []*tables.ItemError
	a.Metrics.timed("packetlimits", func() {
		var err error
		if items, err = split(a.PacketLimits.Apply(ctx, a.state.PacketLimits())); err != nil {
			items = append(items, &tables.ItemError{Kind: tables.KindPacketLimits, Name: "all", Err: err})
		}
	})
	return items
}

func isPacketLimit(e *tables.ItemError) bool { return e.Kind == tables.KindPacketLimits }

func isLimit(e *tables.ItemError) bool { return e.Kind == tables.KindBandwidth }

// bandwidthDirty tells whether there are limits to be changed.
func (a *Agent) bandwidthDirty() bool {
	return a.Bandwidth != nil && (a.limitsDue || a.state.Bandwidth().HasDirty()) || a.PacketLimits != nil && a.state.PacketLimits().HasDirty()
}

func (a *Agent) resyncBandwidth() {
	if a.Bandwidth != nil {
		a.Bandwidth.Resync()
	}
	if a.PacketLimits != nil {
		a.PacketLimits.Resync()
	}
}
