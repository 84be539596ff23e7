// Package flow measures what ways between network namespaces carry: bytes over one TCP connection, or TCP connections that are opened and
// closed. Ways are measured in turn, and what counts is the ratio of one to another in the same turn: what else the machine does meanwhile
// concerns all alike.
package flow

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Reading is what one turn took.
type Reading struct {
	// Carried are bytes, or connections.
	Carried int64
	Seconds float64
	// CPU is the processors' time in seconds, of both ends and of the kernel's threads for softirqs. What the kernel does with packets is
	// done by one of them, as long as it counts the time of softirqs to the threads that they interrupt (no CONFIG_IRQ_TIME_ACCOUNTING).
	CPU float64
	// Packets that the two ends received, acknowledgements included. One carries up to 64 KiB while no device has to cut it.
	Packets uint64
}

// And adds the readings of several turns.
func (r Reading) And(o Reading) Reading {
	return Reading{r.Carried + o.Carried, r.Seconds + o.Seconds, r.CPU + o.CPU, r.Packets + o.Packets}
}

// Rate is what is carried in a second.
func (r Reading) Rate() float64 { return float64(r.Carried) / r.Seconds }

// PerCPU is what a second of the processors' time carries.
func (r Reading) PerCPU() float64 { return float64(r.Carried) / r.CPU }

// PerPacket is the processors' time for a packet, in seconds.
func (r Reading) PerPacket() float64 { return r.CPU / float64(r.Packets) }

// PacketSize is what a packet carries.
func (r Reading) PacketSize() float64 { return float64(r.Carried) / float64(r.Packets) }

// Meter carries for a time and tells what it took.
type Meter interface {
	Turn(b testing.TB, length time.Duration) Reading
}

// Compare measures ways in turns of some length and returns the readings of each. An iteration has two turns of each, each time in another
// order, for it matters whose turn was before. The first turn does not count, in which the window of a connection opens.
func Compare(b *testing.B, turn time.Duration, meters ...Meter) [][]Reading {
	b.Helper()
	out := make([][]Reading, len(meters))
	for _, m := range meters {
		m.Turn(b, turn)
	}
	for b.Loop() {
		both := make([]Reading, len(meters))
		for range 2 {
			for _, i := range rand.Perm(len(meters)) {
				both[i] = both[i].And(meters[i].Turn(b, turn))
			}
		}
		for i, r := range both {
			out[i] = append(out[i], r)
		}
	}
	return out
}

// Median of a value of readings.
func Median(readings []Reading, value func(Reading) float64) float64 {
	list := make([]float64, len(readings))
	for i, r := range readings {
		list[i] = value(r)
	}
	return median(list)
}

// Ratio is the median of the ratios of two ways, turn by turn.
func Ratio(of, to []Reading, value func(Reading) float64) float64 {
	list := make([]float64, len(of))
	for i := range of {
		list[i] = value(of[i]) / value(to[i])
	}
	return median(list)
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}
