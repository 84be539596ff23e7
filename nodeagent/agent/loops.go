package agent

import (
	"context"

	"github.com/manul-net/manul/nodeagent/tables"
)

// loopsDirty tells whether there is something to do about ranges of services.
func (a *Agent) loopsDirty() bool { return a.Loops != nil && a.state.Loops().HasDirty() }

// applyLoops keeps packets to unused addresses of services from bouncing. As with BGP, a failure is one among the items.
func (a *Agent) applyLoops(ctx context.Context, due bool) []*tables.ItemError {
	if a.Loops == nil {
		return nil
	}
	if !due && !a.state.Loops().HasDirty() {
		return a.itemsOf(isLoop)
	}
	items, err := split(a.Loops.Apply(ctx, a.state.Loops()))
	if err != nil {
		items = append(items, &tables.ItemError{Kind: tables.KindServiceRanges, Name: "all", Err: err})
	}
	return items
}

func isLoop(e *tables.ItemError) bool { return e.Kind == tables.KindServiceRanges }

func (a *Agent) resyncLoops() {
	if a.Loops != nil {
		a.Loops.Resync()
	}
}
