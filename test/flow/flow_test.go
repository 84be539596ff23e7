package flow

import (
	"net/netip"
	"testing"
	"time"

	"github.com/manul-net/manul/test/netns"
)

// A turn of each meter carries something, and takes time of the processors.
func TestTurns(t *testing.T) {
	for name, meter := range map[string]func(testing.TB, *netns.NS, *netns.NS, netip.Addr) Meter{
		"stream":      func(t testing.TB, from, to *netns.NS, at netip.Addr) Meter { return NewStream(t, from, to, at) },
		"connections": func(t testing.TB, from, to *netns.NS, at netip.Addr) Meter { return NewConnections(t, from, to, at) },
	} {
		t.Run(name, func(t *testing.T) {
			from, to := netns.New(t), netns.New(t)
			from.Veth("eth0", to, "eth0")
			from.Address("eth0", "192.0.2.1/24")
			to.Address("eth0", "192.0.2.2/24")
			m := meter(t, from, to, netip.MustParseAddr("192.0.2.2"))
			for range 2 {
				if r := m.Turn(t, 200*time.Millisecond); r.Carried <= 0 || r.Seconds < 0.2 || r.CPU <= 0 || r.Packets == 0 {
					t.Errorf("a turn: %+v", r)
				}
			}
		})
	}
}

// What counts is the middle of the ratios, not the ratio of the middles: a turn in which the machine did something else concerns all.
func TestRatio(t *testing.T) {
	way := func(carried ...int64) (out []Reading) {
		for _, c := range carried {
			out = append(out, Reading{Carried: c, Seconds: 1, CPU: 2})
		}
		return out
	}
	plain, policy := way(100, 50, 10), way(90, 45, 9)
	if got := Ratio(policy, plain, Reading.Rate); got != 0.9 {
		t.Errorf("ratio %v, want 0.9", got)
	}
	if got := Median(plain, Reading.PerCPU); got != 25 {
		t.Errorf("median %v for a second of processor time, want 25", got)
	}
}
