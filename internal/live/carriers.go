package live

import (
	"sync/atomic"

	"github.com/manul-net/manul/api/v1alpha1"
)

// carriers tell by what way nodes hear of news. A node whose agent has never spoken is none: nobody hears there.
type carriers struct {
	of  map[string]bool // node -> its agent follows the stream
	off int             // those that do not
	all atomic.Bool     // there are some, and all do
}

// note takes what an agent says.
func (c *carriers) note(state *v1alpha1.NodeState) {
	s := &state.Status
	if s.ObservedGeneration == 0 && s.Sequence == 0 && len(s.Applied) == 0 {
		c.forget(state.Name)
		return
	}
	c.set(state.Name, s.Carrier == v1alpha1.CarrierStream)
}

func (c *carriers) set(node string, streamed bool) {
	before, known := c.of[node]
	if known && before == streamed {
		return
	}
	if known && !before {
		c.off--
	}
	if !streamed {
		c.off++
	}
	c.of[node] = streamed
	c.all.Store(c.off == 0)
}

func (c *carriers) forget(node string) {
	streamed, known := c.of[node]
	if !known {
		return
	}
	if !streamed {
		c.off--
	}
	delete(c.of, node)
	c.all.Store(c.off == 0 && len(c.of) > 0)
}

// Streamed tells whether all agents follow the stream, as far as they have said: nobody goes by the objects in the API. It may be
// called by those whom the World tells something.
func (w *World) Streamed() bool { return w.carriers.all.Load() }
