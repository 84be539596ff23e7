package agent

import (
	"context"

	"github.com/manul-net/manul/nodeagent/tables"
)

// besideDirty tells whether there is something to do about ranges of services, or the addresses at which pods peer.
func (a *Agent) besideDirty() bool {
	return a.Loops != nil && a.state.Loops().HasDirty() || a.Peering != nil && a.state.Peering().HasDirty()
}

// applyPeering gives the node the addresses at which pods peer with it.
func (a *Agent) applyPeering(ctx context.Context, due bool) []*tables.ItemError {
	return applyBeside(ctx, a, a.Peering, a.state.Peering(), due || a.state.Peering().HasDirty(), tables.KindPeeringAddress)
}

// applyLoops keeps packets to unused addresses of services from bouncing.
func (a *Agent) applyLoops(ctx context.Context, due bool) []*tables.ItemError {
	return applyBeside(ctx, a, a.Loops, a.state.Loops(), due || a.state.Loops().HasDirty(), tables.KindServiceRanges)
}

// applyBeside makes a small part of the kernel equal to desired. As with BGP, a failure is one among the items.
func applyBeside[T any](ctx context.Context, a *Agent, d Dataplane[T], desired T, due bool, kind string) []*tables.ItemError {
	if d == nil {
		return nil
	}
	if !due {
		return a.itemsOf(func(e *tables.ItemError) bool { return e.Kind == kind })
	}
	items, err := split(d.Apply(ctx, desired))
	if err != nil {
		items = append(items, &tables.ItemError{Kind: kind, Name: "all", Err: err})
	}
	if len(items) > 0 {
		d.Resync()
	}
	return items
}

func isBeside(e *tables.ItemError) bool {
	return e.Kind == tables.KindServiceRanges || e.Kind == tables.KindPeeringAddress
}

func (a *Agent) resyncBeside() {
	if a.Loops != nil {
		a.Loops.Resync()
	}
	if a.Peering != nil {
		a.Peering.Resync()
	}
}
