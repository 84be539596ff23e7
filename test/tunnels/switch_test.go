package tunnels

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkSwitch changes a pool's mode back and forth while a pod sends a datagram to another node every 2 ms, and counts those that are
// not answered: in either direction, for none is sent again.
//
//	go test -run xxx -bench Switch -benchtime 20x ./test/tunnels
//
// Those of IPIP need a kernel that knows it; on Debian's, on an emulated machine, where time is long:
//
//	CGO_ENABLED=0 go test -c -o out/tunnels.test ./test/tunnels && hack/machine.sh out/tunnels.test -test.run=xxx -test.bench=Switch -test.benchtime=5x
func BenchmarkSwitch(b *testing.B) {
	const vxlan, ipip = ", vxlanMode: Always", ", ipipMode: Always"
	devices := map[string]string{"": "eth0", vxlan: "vxlan.manul", ipip: "ipip.manul"}
	for _, modes := range [][2]string{{"", vxlan}, {"", ipip}, {ipip, vxlan}} {
		name := fmt.Sprintf("%s-and-%s", devices[modes[0]], devices[modes[1]])
		if slices.Contains(modes[:], ipip) && elsewhere(b, "IPIP") {
			continue
		}
		b.Run(name, func(b *testing.B) {
			w := NewWorld(b)
			w.Give(poolWith("pool", pool4, modes[0]))
			n1, n2 := w.Node("w1", "a", pool4), w.Node("w2", "a", pool4)
			p1, p2 := n1.Pod("p1"), n2.Pod("p2")
			n1.Sends(p2.V4, devices[modes[0]])
			n2.Sends(p1.V4, devices[modes[0]])
			var lost [2][]int64
			var longest [2]time.Duration
			for b.Loop() {
				for i := range modes {
					to := modes[1-i]
					s := newStream(b, p1, p2)
					w.Give(poolWith("pool", pool4, to))
					n1.Sends(p2.V4, devices[to])
					n2.Sends(p1.V4, devices[to])
					l := s.end(b)
					lost[i] = append(lost[i], l.lost)
					longest[i] = max(longest[i], l.longest)
				}
			}
			b.ReportMetric(0, "ns/op")
			for i, direction := range []string{"there", "back"} {
				slices.Sort(lost[i])
				b.ReportMetric(float64(lost[i][len(lost[i])/2]), "lost-p50-"+direction)
				b.ReportMetric(float64(lost[i][len(lost[i])-1]), "lost-max-"+direction)
				b.ReportMetric(float64(longest[i].Microseconds())/1000, "ms-max-"+direction)
			}
		})
	}
}
