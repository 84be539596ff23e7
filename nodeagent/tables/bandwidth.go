package tables

import "github.com/manul-net/manul/nodeagent/delta"

// Bandwidth are the desired limits of traffic, by the name of the workload's host-side interface.
type Bandwidth = delta.Table[string, Limits]

// NewBandwidth makes an empty table of limits.
func NewBandwidth() *Bandwidth {
	return delta.NewTable[string](func(a, b Limits) bool { return a == b })
}

// Limits of one workload, seen from it.
type Limits struct{ Ingress, Egress Limit }

// Limit of one direction. The zero Limit is none.
type Limit struct {
	// BitsPerSecond that pass in the long run; 0: all.
	BitsPerSecond uint64
	// BurstBits that pass at once after a pause.
	BurstBits uint64
	// PeakBitsPerSecond at which even a burst passes; 0: as fast as it comes.
	PeakBitsPerSecond uint64
	// MinBurstBytes that pass at once whatever the peak; 0: a full packet.
	MinBurstBytes uint32
}
