package iptables

import (
	"fmt"
	"testing"
	"time"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
	"github.com/manul-net/manul/test/packets"
)

// A first application, and a comparison of everything in which nothing has to change.
func BenchmarkFull(b *testing.B) {
	for _, variant := range []Variant{NFT, Legacy} {
		for _, n := range []int{500, 5000} {
			b.Run(fmt.Sprintf("%s/programs=%d", variant, n), func(b *testing.B) {
				var first, again time.Duration
				for b.Loop() {
					ns := netns.New(b)
					d := openIn(b, ns, variant)
					p := packets.Load(n, false)
					apply := func() time.Duration {
						start := time.Now()
						ns.Must("applying", func() error { return d.Apply(b.Context(), p) })
						return time.Since(start)
					}
					first += apply()
					d.Resync()
					again += apply()
					_ = d.Close()
				}
				b.ReportMetric(float64(first.Milliseconds())/float64(b.N), "ms/first")
				b.ReportMetric(float64(again.Milliseconds())/float64(b.N), "ms/compare")
			})
		}
	}
}

// loaded runs a benchmark for each variant and for some numbers of programs, with the tables applied.
func loaded(b *testing.B, run func(b *testing.B, apply func(*tables.Policy), p *tables.Policy)) {
	b.Helper()
	for _, variant := range []Variant{NFT, Legacy} {
		for _, n := range []int{10, 500, 5000} {
			b.Run(fmt.Sprintf("%s/programs=%d", variant, n), func(b *testing.B) {
				ns := netns.New(b)
				d := openIn(b, ns, variant)
				b.Cleanup(func() { _ = d.Close() })
				apply := func(p *tables.Policy) {
					var err error
					ns.Do(func() { err = d.Apply(b.Context(), p) })
					if err != nil {
						b.Fatal(err)
					}
				}
				p := packets.Load(n, false)
				apply(p)
				b.ResetTimer()
				run(b, apply, p)
			})
		}
	}
}

func BenchmarkOneMember(b *testing.B) {
	loaded(b, func(b *testing.B, apply func(*tables.Policy), p *tables.Policy) {
		b.Helper()
		m := packets.Member("set-1", "10.99.0.1/32")
		for b.Loop() {
			if !p.Members.Delete(m) {
				p.Members.Set(m, struct{}{})
			}
			apply(p)
		}
	})
}

func BenchmarkProgramChange(b *testing.B) {
	loaded(b, func(b *testing.B, apply func(*tables.Policy), p *tables.Policy) {
		b.Helper()
		for i := 0; b.Loop(); i++ {
			p.Programs.Set(packets.LoadName(1), packets.LoadProgram(1, uint16(1000+i%2)))
			apply(p)
		}
	})
}
