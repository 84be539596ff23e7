package render

import (
	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// Loops says what becomes of packets to unused addresses of services.
func (s *State) Loops() *tables.ServiceLoops { return &s.loops }

// setLoops takes what the settings say. The ranges came with BGP.
func (s *State) setLoops(settings *v1alpha1.AgentSettings) {
	action := tables.LoopDrop
	switch settings.ServiceLoops {
	case "Reject":
		action = tables.LoopReject
	case "Disabled":
		action = tables.LoopPass
	}
	s.loops.Set(action, s.bgp.ranges)
}
