package tunnels

import (
	"testing"

	"github.com/manul-net/manul/test/flow"
)

// BenchmarkParts takes one part after another away from Manul's nodes, and tells what the path costs then: the processors' time for each
// packet that a pod receives, beside the same of the path made by hand. The difference between two lines is what the part costs.
func BenchmarkParts(b *testing.B) {
	for _, mode := range modes() {
		b.Run(mode, func(b *testing.B) {
			hand, manul := byHand(b, mode == "VXLAN", false), withManul(b, mode == "VXLAN")
			manul.stop()
			for _, part := range parts() {
				for _, node := range manul.nodes {
					shell(node, part.remove)
				}
				b.Run(part.left, func(b *testing.B) {
					readings := compare(b, hand, manul)
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(flow.Median(readings[0], nanosecondsPerPacket), "ns/packet-by-hand")
					b.ReportMetric(flow.Median(readings[1], nanosecondsPerPacket), "ns/packet-Manul")
					b.ReportMetric(flow.Ratio(readings[1], readings[0], flow.Reading.PerCPU), "CPU:Manul/by-hand")
				})
			}
		})
	}
}

func nanosecondsPerPacket(r flow.Reading) float64 { return r.PerPacket() * 1e9 }

type part struct{ left, remove string }

func parts() []part {
	gone := func(chains string) string {
		return "for c in " + chains + "; do if nft list chain inet manul $c >/dev/null 2>&1; then nft delete chain inet manul $c; fi; done"
	}
	return []part{
		{"everything", "true"},
		{"without-masquerading", gone("postrouting")},
		{"without-input", gone("input-egress input-host")},
		{"without-ingress-policy", gone("forward-ingress")},
		{"without-egress-policy", gone("forward-egress")},
		{"without-sources", gone("prerouting")},
		{"without-untracked-tunnels", gone("tunnels-arrive tunnels-output")},
		{"without-reverse-path-filter", "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done"},
	}
}

// BenchmarkPath measures one path alone, for a profile of it:
//
//	go test -c -o /tmp/tunnels.test ./test/bench/tunnels
//	perf record -e cpu-clock -g /tmp/tunnels.test -test.run xxx -test.bench Path/VXLAN/Manul
func BenchmarkPath(b *testing.B) {
	for _, mode := range modes() {
		for name, made := range map[string]func(b *testing.B) *path{
			"plain":   func(b *testing.B) *path { return byHand(b, mode == "VXLAN", false) },
			"tracked": func(b *testing.B) *path { return byHand(b, mode == "VXLAN", true) },
			"Manul":   func(b *testing.B) *path { return withManul(b, mode == "VXLAN") },
		} {
			b.Run(mode+"/"+name, func(b *testing.B) {
				readings := compare(b, made(b))[0]
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(flow.Median(readings, megabytes(flow.Reading.Rate)), "MB/s")
				b.ReportMetric(flow.Median(readings, nanosecondsPerPacket), "ns/packet")
			})
		}
	}
}
