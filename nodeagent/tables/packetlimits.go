package tables

import "github.com/manul-net/manul/nodeagent/delta"

// PacketLimits of one workload, seen from it. The zero PacketLimits are none.
type PacketLimits struct{ Ingress, Egress PacketLimit }

// PacketLimit of one direction. The zero PacketLimit is none.
type PacketLimit struct {
	// PacketsPerSecond that pass in the long run; 0: all. Burst pass at once after a pause.
	PacketsPerSecond uint64
	Burst            uint32
	// Connections that are open at a time; 0: any number.
	Connections uint32
}

// PacketLimitsTable are the desired limits of packets and connections, by the name of the workload's host-side interface.
type PacketLimitsTable = delta.Table[string, PacketLimits]

// NewPacketLimits makes an empty table of limits.
func NewPacketLimits() *PacketLimitsTable {
	return delta.NewTable[string](func(a, b PacketLimits) bool { return a == b })
}
